//! `linear-to-bit-linear`: a layer of quantised activations and ternary (or 8-bit) weights sums integers.
//!
//! `linear(dequantize(q, qs), dequantize(t, s), b) == bit_linear(q, qs, t, s, b)`, and the same for convolutions.
//! The scales are common factors of every sum: qs is one per row (per sample or pixel for a convolution), s one per output.

use bitc_ir::ops::{BitConv2d, BitLinear, Dequantize, Reshape};
use bitc_ir::{AttrError, AttrReader, DType, Dim, Graph, NodeId, Op, Shape, Tensor, ValueId};

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct LinearToBitLinear;

impl LinearToBitLinear {
    pub(crate) const NAME: &'static str = "linear-to-bit-linear";
    pub(crate) const DOC: &'static str =
        "Turns layers of quantised activations and ternary weights into integer layers.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for LinearToBitLinear {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite(graph, &[Rule { name: "integer-sums", apply: &integer_sums }], Self::NAME, cx)
    }
}

fn integer_sums(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let at = g.node(node).clone();
    let op: Op = match &at.op {
        Op::Linear(op) => BitLinear { act: op.act, group: 0 }.into(),
        Op::Conv2d(op) => BitConv2d { window: op.window.clone(), groups: op.groups, act: op.act }.into(),
        _ => return Err(Miss::NoMatch),
    };
    let (x, w) = (at.inputs[0].ok_or(Miss::NoMatch)?, at.inputs[1].ok_or(Miss::NoMatch)?);
    if g.constant(x).is_some() && g.constant(w).is_none() {
        return Err(Miss::blocked(
            "its operands are exchanged: weights stand where activations should, as a faulty export has it",
        ));
    }
    let Some((t, scale, group)) = dequantized(g, w, &[DType::T2, DType::I8]) else {
        return Err(Miss::blocked("its weights are float"));
    };
    let Some((q, q_scale, 0)) = dequantized(g, x, &[DType::I8]) else {
        return Err(Miss::blocked("its activations are not quantised"));
    };
    let (op, scale) = match (op, group) {
        (op, 0) => (op, per_output(g, scale, t)?),
        (Op::BitLinear(op), group) => (BitLinear { group, ..op }.into(), scale),
        _ => return Err(Miss::blocked("the weights of a convolution have scales for groups of inputs")),
    };
    let bias = at.inputs.get(2).copied().flatten();
    let new = g.add(op, &[Some(q), Some(q_scale), Some(t), Some(scale), bias]);
    Ok(new?.into())
}

/// The integers, the scale and the size of the groups that share one, of a dequantised value.
fn dequantized(g: &Editor<'_>, value: ValueId, dtypes: &[DType]) -> Option<(ValueId, ValueId, usize)> {
    let (node, op) = g.producer::<Dequantize>(value)?;
    let (q, scale) = (g.input(node, 0)?, g.input(node, 1)?);
    dtypes.contains(&g.ty(q).dtype).then_some((q, scale, op.group))
}

/// A weight scale that is all ones but for the first axis, as a vector per output; a single one as a scalar.
fn per_output(g: &mut Editor<'_>, scale: ValueId, weight: ValueId) -> Result<ValueId, Miss> {
    let shape = g.ty(scale).shape.clone();
    let outputs = g.ty(weight).shape.0[0].clone();
    let rank = g.ty(weight).shape.rank();
    let target = if shape.0.iter().all(Dim::is_one) {
        Shape::default()
    } else if shape.rank() == rank && shape.0[0] == outputs && shape.0[1..].iter().all(Dim::is_one) {
        Shape(vec![outputs])
    } else {
        return Err(Miss::blocked("the scale of its weights is neither one in all nor one per output"));
    };
    if target == shape {
        return Ok(scale);
    }
    let constant = g.constant(scale).and_then(|t| t.reshaped(&target.to_fixed()?));
    match constant {
        Some(tensor) => Ok(add_renamed(g, scale, tensor)),
        None => g.add(Reshape { shape: target }, &[Some(scale)]),
    }
}

fn add_renamed(g: &mut Editor<'_>, old: ValueId, tensor: Tensor) -> ValueId {
    let name = g.value(old).name.clone();
    g.add_const(&name, tensor)
}
