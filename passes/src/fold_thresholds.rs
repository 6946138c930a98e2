//! `fold-thresholds`: a comparison after an integer layer becomes one of its sums with an integer per output.
//!
//! `compare(act(acc * qs * s[o] + b[o]), c[o]) == compare'(acc, T[o])` where the scale of the activations is a constant.
//! Every step of the left side is rounded, but none changes the order of two sums, so there is one integer from which on
//! the comparison has the other answer. It is found by halving an interval with the layer's own arithmetic, and tried at
//! T - 1, T and T + 1. Outputs whose scale is negative exchange the signs of their weights first. The sums stay integers:
//! neither scale nor bias is left. A sign is two comparisons with zero.

use bitc_ir::ops::compare::CompareKind;
use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{Activation, BitConv2d, BitLinear, Compare, QuantizeAct, Unary, UnaryKind, Where};
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op, Tensor, ValueId};

use crate::layer::Layer;
use crate::pass::{Changed, Pass, PassCx, PassError, Values};
use crate::requantize::Chain;
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// Sums up to this magnitude are exact in `f32`, in which layers hand them on.
const EXACT: i64 = 1 << 24;

/// See the module.
#[derive(Debug)]
pub struct FoldThresholds;

impl FoldThresholds {
    pub(crate) const NAME: &'static str = "fold-thresholds";
    pub(crate) const DOC: &'static str = "Turns comparisons after integer layers into integer thresholds per output.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for FoldThresholds {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let rules = [
            Rule { name: "sign", apply: &sign },
            Rule { name: "compare", apply: &compare },
            Rule { name: "steps", apply: &steps },
        ];
        rewrite(graph, &rules, Self::NAME, cx)
    }
}

/// `sign(y) == where(y > 0, 1, where(y < 0, -1, 0))` after an integer layer whose sums can have thresholds.
fn sign(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Unary(Unary(UnaryKind::Sign)) = g.node(node).op else { return Err(Miss::NoMatch) };
    let y = g.input(node, 0).ok_or(Miss::NoMatch)?;
    let producer = g.producer_id(y).ok_or(Miss::NoMatch)?;
    let keeps_order = |act| matches!(act, Activation::None | Activation::Relu | Activation::Relu2);
    let fits = match &g.node(producer).op {
        Op::BitLinear(op) => op.group == 0 && keeps_order(op.act),
        Op::BitConv2d(op) => keeps_order(op.act),
        _ => return Err(Miss::NoMatch),
    };
    let q_scale = g.input(producer, 1).ok_or(Miss::NoMatch)?;
    if !fits || constant_scale(g, q_scale).is_none() {
        return Err(Miss::blocked("its sums have no threshold"));
    }
    let [zero, plus, minus] = [0f32, 1.0, -1.0].map(|v| g.add_const("", Tensor::scalar(v)));
    let above = g.add(Compare(CompareKind::Greater), &[Some(y), Some(zero)])?;
    let below = g.add(Compare(CompareKind::Less), &[Some(y), Some(zero)])?;
    let rest = g.add(Where, &[Some(below), Some(minus), Some(zero)])?;
    Ok(g.add(Where, &[Some(above), Some(plus), Some(rest)])?.into())
}

/// Says what becomes of the sums of an integer layer in front of the next quantiser.
fn steps(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::QuantizeAct(quantizer) = &g.node(node).op else { return Err(Miss::NoMatch) };
    let chain = Chain::ending(g, g.uses(), node).ok_or(Miss::NoMatch)?;
    Err(Miss::blocked(if quantizer.form != Form::Integer {
        "it measures its scale on whole rows of the layer before, so the sums of that become floats first"
    } else if !chain.alone {
        "something else reads the floats of the layer before, so they are stored"
    } else {
        "it has more than two steps, so it rounds scaled sums, in the instruction of the layer where that can be"
    }))
}

fn compare(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let (&Op::Compare(Compare(kind)), &[Some(a), Some(b)]) = (&g.node(node).op, &g.node(node).inputs[..]) else {
        return Err(Miss::NoMatch);
    };
    let (y, c, kind) = if g.constant(b).is_some() { (a, b, Some(kind)) } else { (b, a, mirrored(kind)) };
    let kind = kind.ok_or(Miss::NoMatch)?;
    let producer = g.producer_id(y).ok_or(Miss::NoMatch)?;
    let at = g.node(producer).clone();
    let (act, op): (_, Op) = match &at.op {
        Op::BitLinear(op) if op.group == 0 => (op.act, BitLinear { act: Activation::None, group: 0 }.into()),
        Op::BitConv2d(op) => (op.act, BitConv2d { act: Activation::None, ..op.clone() }.into()),
        _ => return Err(Miss::NoMatch),
    };
    // Whether the answer is yes from the threshold on, or up to it.
    let above = match kind {
        CompareKind::Greater | CompareKind::GreaterEqual => true,
        CompareKind::Less | CompareKind::LessEqual => false,
        CompareKind::Equal | CompareKind::NotEqual => return Err(Miss::NoMatch),
    };
    let layer = Layer::of(g, producer).ok_or(Miss::NoMatch)?;
    let rank = g.ty(y).shape.rank();
    if g.ty(g.node(node).outputs[0]).shape != g.ty(y).shape {
        return Err(Miss::NoMatch);
    }
    if at.inputs[3].is_some_and(|s| g.constant(s).and_then(|t| t.to_vec::<f32>()).is_some_and(|s| s == [1.0]))
        && at.inputs.get(4).copied().flatten().is_none()
        && act == Activation::None
    {
        return Err(Miss::NoEffect);
    }
    if !matches!(act, Activation::None | Activation::Relu | Activation::Relu2) {
        return Err(Miss::blocked("the activation before the comparison may change the order of sums"));
    }
    let limits =
        layer.per_output(g, c, rank).ok_or_else(|| Miss::blocked("it compares with more than one per output"))?;
    let q_scale = constant_scale(g, at.inputs[1].ok_or(Miss::NoMatch)?)
        .ok_or_else(|| Miss::blocked("the scale of its activations is measured while running"))?;
    let outputs = limits.len();
    let each = |v: Option<ValueId>| -> Option<Vec<f32>> {
        let values = g.constant(v?)?.to_vec::<f32>()?;
        Some(if values.len() == 1 { vec![values[0]; outputs] } else { values })
    };
    let scales = each(at.inputs[3]).ok_or_else(|| Miss::blocked("its scale is not constant"))?;
    let bias = at.inputs.get(4).copied().flatten();
    let biases = bias.map(|b| each(Some(b)).ok_or_else(|| Miss::blocked("its bias is not constant"))).transpose()?;
    let w = at.inputs[2].ok_or(Miss::NoMatch)?;
    let weights = g.constant(w).ok_or_else(|| Miss::blocked("its weights are not constant"))?.clone();
    let values = weights.to_vec::<i8>().ok_or(Miss::NoMatch)?;
    let finite = |v: &[f32]| v.iter().all(|v| v.is_finite());
    let all_finite = finite(&scales) && finite(&limits) && biases.as_deref().is_none_or(finite);
    if !all_finite || !q_scale.is_finite() || q_scale < 0.0 {
        return Err(Miss::blocked("a scale, a bias or a limit is no finite number"));
    }

    let (mut signed, mut thresholds) = (Vec::with_capacity(values.len()), Vec::with_capacity(outputs));
    let per_output = values.len().checked_div(outputs).unwrap_or(0);
    for (o, row) in values.chunks(per_output.max(1)).enumerate().take(outputs) {
        let negative = scales[o] < 0.0;
        if negative && row.contains(&i8::MIN) {
            return Err(Miss::blocked("a weight of -128 has no opposite"));
        }
        signed.extend(row.iter().map(|&v| if negative { -v } else { v }));
        let reach = row.iter().map(|&v| i64::from(v).abs() * 128).sum::<i64>();
        if reach >= EXACT {
            return Err(Miss::blocked("its sums may be too large to be exact"));
        }
        let holds = |acc: i64| {
            let mut y = (acc as f32 * q_scale) * scales[o].abs();
            if let Some(biases) = &biases {
                y += biases[o];
            }
            kind.holds(act.apply(y), limits[o]) == above
        };
        thresholds
            .push(threshold(reach, holds).ok_or_else(|| Miss::blocked("the comparison is not monotonic"))? as f32);
    }
    let (w_name, c_name) = (g.value(w).name.clone(), g.value(c).name.clone());
    let w = match signed == values {
        true => w,
        false => g.add_const(&w_name, Tensor::with_dtype(weights.dtype(), weights.dims(), &signed)),
    };
    let one = g.add_const("", Tensor::scalar(1f32));
    // Integers without a scale come with one that is 1.
    let unit = if q_scale == 1.0 { at.inputs[1] } else { Some(one) };
    let sums = g.add(op, &[at.inputs[0], unit, Some(w), Some(one)])?;
    let mut dims = vec![1; rank];
    dims[if matches!(at.op, Op::BitConv2d(_)) { 1 } else { rank - 1 }] = outputs;
    let limits = g.add_const(&c_name, Tensor::new(&dims, &thresholds));
    let relation = if above { CompareKind::GreaterEqual } else { CompareKind::Less };
    Ok(g.add(Compare(relation), &[Some(sums), Some(limits)])?.into())
}

/// The relation with its sides exchanged.
fn mirrored(kind: CompareKind) -> Option<CompareKind> {
    Some(match kind {
        CompareKind::Less => CompareKind::Greater,
        CompareKind::LessEqual => CompareKind::GreaterEqual,
        CompareKind::Greater => CompareKind::Less,
        CompareKind::GreaterEqual => CompareKind::LessEqual,
        CompareKind::Equal | CompareKind::NotEqual => return None,
    })
}

/// The number that the scale of activations always is: a constant, or that of integers without a scale.
fn constant_scale(g: &Editor<'_>, scale: ValueId) -> Option<f32> {
    if let Some(tensor) = g.constant(scale) {
        let values = tensor.to_vec::<f32>()?;
        return values.first().copied().filter(|_| values.len() == 1 && tensor.dtype() == DType::F32);
    }
    let (_, op) = g.producer::<QuantizeAct>(scale)?;
    (op.form == Form::Integer).then_some(1.0)
}

/// The least sum of at most `reach` in magnitude for which `holds`, or one more than all of them; `None` if it does not
/// hold from there on.
fn threshold(reach: i64, holds: impl Fn(i64) -> bool) -> Option<i64> {
    let (mut low, mut high) = (-reach, reach + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let expected = |acc: i64| acc.abs() > reach || holds(acc) == (acc >= low);
    [low - 1, low, low + 1, -reach, reach].into_iter().all(expected).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_where_the_answer_changes() {
        assert_eq!(threshold(10, |acc| acc >= 3), Some(3));
        assert_eq!(threshold(10, |_| true), Some(-10));
        assert_eq!(threshold(10, |_| false), Some(11));
        assert_eq!(threshold(0, |_| false), Some(1));
        assert_eq!(threshold(10, |acc| acc < 3), None);
    }

    #[test]
    fn rounding_is_that_of_the_layer() {
        // Every sum is tried, so the threshold must agree with the arithmetic everywhere.
        for (scale, bias, limit) in
            [(0.1f32, -0.3f32, 0.0f32), (1e-3, 0.0, 0.0), (0.007, 123.4, 122.7), (0.0, 1.0, 1.0)]
        {
            let holds = |acc: i64| (acc as f32 * 0.3) * scale + bias >= limit;
            let found = threshold(5000, holds).unwrap();
            assert!((-5000..=5000).all(|acc| holds(acc) == (acc >= found)), "{scale} {bias} {limit}: {found}");
        }
    }
}
