//! `quantize-before-pool`: the largest element is looked for among integers.
//!
//! `quantize(max_pool(y)) == max_pool(quantize(y))` for a quantiser with a fixed step, since what it does keeps order:
//! multiplication or division by a number above 0, rounding, a number added. So the layer in front stores integers, where
//! the results of all windows would be floats; changes of shape come behind. That takes a quarter of the memory between
//! instructions and more time, since every result is quantised instead of every largest one: the pipeline `small-memory`
//! has it, `default` has not.
//!
//! What is no number has no order, so the layer in front must be one whose results are numbers, or none of an image is.

use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{Activation, Binary, BinaryKind, Unary, UnaryKind};
use bitc_ir::{AttrError, AttrReader, Dim, Graph, NodeId, Op, ValueId};

use crate::integers::number;
use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct QuantizeBeforePool;

impl QuantizeBeforePool {
    pub(crate) const NAME: &'static str = "quantize-before-pool";
    pub(crate) const DOC: &'static str = "Moves quantisers with a fixed step in front of max pools.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for QuantizeBeforePool {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite(graph, &[Rule { name: "integers", apply: &integers }], Self::NAME, cx)
    }
}

fn integers(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::QuantizeAct(quantizer) = g.node(node).op.clone() else { return Err(Miss::NoMatch) };
    let &[q, scale] = &g.node(node).outputs[..] else { return Err(Miss::NoMatch) };
    if quantizer.form != Form::Integer {
        return Err(Miss::NoMatch);
    }
    // What is done between the pool and the quantiser, the last first.
    let (mut steps, mut shapes) = (Vec::new(), Vec::new());
    let mut at = g.input(node, 0).ok_or(Miss::NoMatch)?;
    let (pool, window) = loop {
        let id = g.producer_id(at).ok_or(Miss::NoMatch)?;
        let alone = g.only_use(at);
        at = match &g.node(id).op {
            Op::MaxPool2d(op) if alone => break (id, op.0.window.clone()),
            Op::MaxPool2d(_) => return Err(Miss::blocked("something else reads the floats of the pool")),
            Op::Reshape(_) | Op::Flatten(_) if alone => {
                shapes.push(id);
                g.input(id, 0).ok_or(Miss::NoMatch)?
            }
            _ if alone => {
                steps.push(id);
                ordered(g, id).ok_or(Miss::NoMatch)?
            }
            _ => return Err(Miss::NoMatch),
        };
    };
    let mut y = g.input(pool, 0).ok_or(Miss::NoMatch)?;
    let layer = g.producer_id(y).filter(|&id| matches!(g.node(id).op, Op::BitConv2d(_))).ok_or(Miss::NoMatch)?;
    if !g.only_use(y) || g.uses().count(scale) > 0 {
        return Err(Miss::blocked("something else reads the floats of the layer, or the scale of the quantiser"));
    }
    if window.dilations != [1, 1] {
        return Err(Miss::blocked("a window with gaps may see nothing"));
    }
    if !are_numbers(g, layer) {
        return Err(Miss::blocked("some results of the layer may be no numbers"));
    }
    for &id in steps.iter().rev() {
        let at = g.node(id).clone();
        let from = ordered(g, id);
        let inputs: Vec<Option<ValueId>> = at.inputs.iter().map(|&v| if v == from { Some(y) } else { v }).collect();
        y = g.add(at.op, &inputs)?;
    }
    y = *g.add_multi(quantizer, &[Some(y)])?.first().ok_or(Miss::NoMatch)?;
    y = g.add(g.node(pool).op.clone(), &[Some(y)])?;
    for &id in shapes.iter().rev() {
        y = g.add(g.node(id).op.clone(), &[Some(y)])?;
    }
    Ok(Replacement::Values(vec![(q, y)]))
}

/// The operand of an operation that keeps the order of its elements and their shape.
fn ordered(g: &Editor<'_>, id: NodeId) -> Option<ValueId> {
    let (a, b) = (g.input(id, 0)?, g.input(id, 1));
    let x = match &g.node(id).op {
        Op::Unary(Unary(UnaryKind::Round)) => a,
        Op::Binary(Binary(kind)) => {
            let b = b?;
            let finite = |v: ValueId| number(g, v).filter(|n| n.is_finite());
            let (x, c, swapped) = finite(b).map(|c| (a, c, false)).or_else(|| Some((b, finite(a)?, true)))?;
            let keeps = match kind {
                BinaryKind::Mul => c > 0.0,
                BinaryKind::Div => c > 0.0 && !swapped,
                BinaryKind::Add => true,
                BinaryKind::Sub => !swapped,
                _ => false,
            };
            keeps.then_some(x)?
        }
        _ => return None,
    };
    (g.ty(x) == g.ty(*g.node(id).outputs.first()?)).then_some(x)
}

/// Whether the results of an integer convolution are numbers, infinite ones included, but for images none of whose results
/// is one: those whose scale is infinite, and whose integers are zeros then.
fn are_numbers(g: &Editor<'_>, layer: NodeId) -> bool {
    let Op::BitConv2d(op) = &g.node(layer).op else { return false };
    let (Some(q), Some(q_scale), Some(scale)) = (g.input(layer, 0), g.input(layer, 1), g.input(layer, 3)) else {
        return false;
    };
    let all =
        |v: ValueId, holds: &dyn Fn(f64) -> bool| g.constant(v).is_some_and(|t| t.to_f64().into_iter().all(holds));
    let measured = || {
        let quantizer = g.producer_id(q).filter(|&id| g.producer_id(q_scale) == Some(id));
        let per_image = g.ty(q_scale).shape.0.iter().skip(1).all(Dim::is_one);
        per_image && quantizer.is_some_and(|id| matches!(g.node(id).op, Op::QuantizeAct(_)))
    };
    matches!(op.act, Activation::None | Activation::Relu | Activation::Relu2 | Activation::Sigmoid | Activation::Tanh)
        && all(scale, &|v| v.is_finite() && v != 0.0)
        && g.input(layer, 4).is_none_or(|bias| all(bias, &f64::is_finite))
        && (all(q_scale, &f64::is_finite) || measured())
}
