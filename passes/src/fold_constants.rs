//! `fold-constants`: computes what does not depend on the inputs.
//!
//! `op(c..) == eval(op, c..)`. Trainable parameters count as constants: compiling is a way without return. What would
//! grow a model is left alone: packed weights that are dequantised, also where that is written as a cast and a product,
//! and results of many more elements than what they are made from.

use bitc_ir::ops::{Binary, BinaryKind, Cast, EvalCx};
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op, Tensor};

use crate::pass::{Changed, Pass, PassCx, PassError, Values};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// Results up to this size are folded however small their inputs are.
const ALWAYS_FOLDED_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct FoldConstants;

impl FoldConstants {
    pub(crate) const NAME: &'static str = "fold-constants";
    pub(crate) const DOC: &'static str = "Computes what does not depend on the inputs, unless the model would grow.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite(graph, &[Rule { name: "evaluate", apply: &evaluate }], Self::NAME, cx)
    }
}

fn evaluate(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let at = g.node(node).clone();
    if let Op::Custom(_) | Op::Dequantize(_) = at.op {
        return Err(Miss::NoMatch);
    }
    let args: Option<Vec<Option<&Tensor>>> =
        at.inputs.iter().map(|v| v.map_or(Some(None), |v| g.constant(v).map(Some))).collect();
    let args = args.filter(|a| a.iter().any(Option::is_some)).ok_or(Miss::NoMatch)?;
    let dims = at.outputs.iter().map(|&v| g.ty(v).shape.to_fixed()).collect::<Option<Vec<_>>>().ok_or(Miss::NoMatch)?;
    let bytes = dims.iter().zip(&at.outputs).try_fold(0usize, |sum, (dims, &v)| {
        let numel = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        sum.checked_add(numel.checked_mul(g.ty(v).dtype.size_bytes())?)
    });
    if is_dequantized(g, node) {
        return Err(Miss::blocked("its integers are weights that a product dequantises"));
    }
    let read: usize = args.iter().flatten().map(|t| t.numel()).sum();
    // Elements count, not bytes: weights that are unpacked and widened on the way may become narrow again.
    let widest = at.outputs.iter().map(|&v| g.ty(v).dtype.size_bytes()).max().unwrap_or(1);
    let limit = read.saturating_mul(2).saturating_mul(widest);
    if bytes.is_none_or(|b| b > ALWAYS_FOLDED_BYTES.max(limit)) {
        return Err(Miss::blocked("the result would be much larger than what it is made from"));
    }
    let results = at.op.eval(args, &EvalCx { bind: &|_| None });
    let results = results.map_err(|e| Miss::blocked(e.to_string()))?;
    let mut pairs = Vec::new();
    for (&old, tensor) in at.outputs.iter().zip(results) {
        pairs.push((old, g.add_const("", tensor)));
    }
    Ok(Replacement::Values(pairs))
}

/// Whether a node widens 8-bit integers that are only multiplied with something.
fn is_dequantized(g: &Editor<'_>, node: NodeId) -> bool {
    let at = g.node(node);
    let (Op::Cast(Cast { to: DType::F32 }), Some(q)) = (&at.op, g.input(node, 0)) else { return false };
    let scales = |&n: &NodeId| matches!(g.node(n).op, Op::Binary(Binary(BinaryKind::Mul)));
    let readers = g.uses().of(at.outputs[0]);
    g.ty(q).dtype == DType::I8 && g.ty(q).shape.rank() > 1 && !readers.is_empty() && readers.iter().all(scales)
}
