//! `linear-to-bit-linear`: a layer of quantised activations and ternary (or 8-bit) weights sums integers.
//!
//! `linear(dequantize(q, qs), dequantize(t, s), b) == bit_linear(q, qs, t, s, b)`, and the same for convolutions.
//! The scales are common factors of every sum: qs is one per row (per sample or pixel for a convolution), s one per output.
//!
//! Integers that were moved after they were dequantised, as in front of a transposed convolution, are moved as integers.
//!
//! Whole numbers between other bounds, such as 0 and 255, are moved into those of 8 bits with a sign, and the bias makes
//! up for it: `linear(v * c, w, b) == bit_linear(v - z, c, t, s, b + z * c * s * sum(t))`. Where c is computed for each row,
//! `c * (z * s * sum(t))` is added instead.

use bitc_ir::ops::pad::PadMode;
use bitc_ir::ops::{Activation, Binary, BinaryKind, BitConv2d, BitLinear, Dequantize, Pad, Reshape};
use bitc_ir::{AttrError, AttrReader, DType, Dim, Graph, NodeId, Op, Shape, Tensor, ValueId};

use crate::integers::{Evidence, Integers, integers_of, is_whole};
use crate::moves::Moves;
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
    let mut op: Op = match &at.op {
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
    let bias = at.inputs.get(2).copied().flatten();
    let moves = if matches!(op, Op::BitConv2d(_)) { Moves::of(g, x) } else { Err(Miss::NoMatch) };
    let Moved { q, q_scale, bias, added } = match (dequantized(g, x, &[DType::I8]), moves) {
        (Some((q, q_scale, 0)), _) => Moved { q, q_scale, bias, added: None },
        (None, Ok(moves)) => {
            let (q, q_scale) = moves.apply(g)?;
            Moved { q, q_scale, bias, added: None }
        }
        (None, Err(blocked @ Miss::Blocked(_))) => return Err(blocked),
        _ => moved(g, &mut op, x, (t, scale, group), bias)?,
    };
    let (op, scale) = match (op, group) {
        (op, 0) => (op, per_output(g, scale, t)?),
        (Op::BitLinear(op), group) => (BitLinear { group, ..op }.into(), scale),
        _ => return Err(Miss::blocked("the weights of a convolution have scales for groups of inputs")),
    };
    let sums = g.add(op, &[Some(q), Some(q_scale), Some(t), Some(scale), bias])?;
    let Some(added) = added else { return Ok(sums.into()) };
    let by_row = g.add(Binary(BinaryKind::Mul), &[Some(q_scale), Some(added)])?;
    Ok(g.add(Binary(BinaryKind::Add), &[Some(sums), Some(by_row)])?.into())
}

/// Integers in front of a layer, and what makes up for moving them.
struct Moved {
    q: ValueId,
    q_scale: ValueId,
    bias: Option<ValueId>,
    /// What is added to each output, times the scale of the row, where that is not known.
    added: Option<ValueId>,
}

/// Whole numbers of 8 bits without a sign, moved to those with one.
fn moved(
    g: &mut Editor<'_>,
    op: &mut Op,
    x: ValueId,
    (t, scale, group): (ValueId, ValueId, usize),
    bias: Option<ValueId>,
) -> Result<Moved, Miss> {
    let wide = is_whole(g, x);
    let integers = integers_of(g, x, Evidence::Any).map_err(|miss| match miss {
        Miss::NoMatch if wide => {
            Miss::blocked("its activations are integers of more than 8 bits, as those are whose zero point is measured")
        }
        Miss::NoMatch => Miss::blocked("its activations are not quantised"),
        other => other,
    })?;
    let Integers { mut q, scale: q_scale, zero, step, has_zero } = integers;
    if zero == 0 {
        return Ok(Moved { q, q_scale, bias, added: None });
    }
    let has_act = !matches!(op, Op::BitLinear(BitLinear { act: Activation::None, .. }));
    if step.is_none() && has_act {
        return Err(Miss::blocked("the scale of its integers without a sign is measured while running"));
    }
    // A border is zero before the integers are moved.
    if let Op::BitConv2d(conv) = op
        && conv.window.pads != [0; 4]
    {
        let border = i8::try_from(-zero).ok().filter(|_| has_zero);
        let border = border.ok_or_else(|| Miss::blocked("zero is none of the integers that its activations can be"))?;
        let [top, left, bottom, right] = std::mem::take(&mut conv.window.pads);
        let pad = Pad { pads: vec![0, 0, top, left, 0, 0, bottom, right], mode: PadMode::Constant };
        let border = g.add_const("", Tensor::scalar(border));
        q = g.add(pad, &[Some(q), Some(border)])?;
    }
    let (weights, scales) = (g.constant(t), g.constant(scale));
    let (Some(weights), Some(scales)) = (weights, scales) else {
        return Err(Miss::blocked("its activations are 8-bit integers without a sign and its weights not constant"));
    };
    let folded_into = bias.filter(|_| step.is_some());
    let old =
        folded_into.map(|b| g.constant(b).map(Tensor::to_f64).ok_or_else(|| Miss::blocked("its bias is not constant")));
    let (outputs, old) = (weights.dims()[0], old.transpose()?);
    let (values, scales) = (weights.to_f64(), scales.to_f64());
    let row = values.len().checked_div(outputs).unwrap_or(0).max(1);
    let group = if group == 0 { row } else { group };
    let per_row = row.div_ceil(group);
    let shift = |(o, row): (usize, &[f64])| {
        let parts = row.chunks(group).map(|part| part.iter().sum::<f64>()).enumerate();
        let scale = |i: usize| if scales.len() == 1 { scales[0] } else { scales[o * per_row + i] };
        let sum: f64 = parts.map(|(i, sum)| sum * scale(i)).sum();
        (old.as_ref().map_or(0.0, |b| b[o]) + f64::from(zero) * step.map_or(1.0, f64::from) * sum) as f32
    };
    if ![1, outputs, outputs * per_row].contains(&scales.len()) || (per_row > 1 && scales.len() == outputs) {
        return Err(Miss::blocked("the scale of its weights is neither one in all nor one per output"));
    }
    let folded: Vec<f32> = values.chunks(row).enumerate().map(shift).collect();
    if folded.iter().any(|v| !v.is_finite()) {
        return Err(Miss::blocked("the folded numbers would not be finite"));
    }
    let name = bias.map_or_else(|| format!("{}.bias", g.value(t).name), |b| g.value(b).name.clone());
    let folded = Some(g.add_const(&name, Tensor::new(&[outputs], &folded)));
    Ok(match step {
        Some(_) => Moved { q, q_scale, bias: folded, added: None },
        None => Moved { q, q_scale, bias, added: folded },
    })
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
