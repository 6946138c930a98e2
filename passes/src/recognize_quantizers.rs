//! `recognize-quantizers`: activation quantisers, whatever exporter wrote them.
//!
//! Two things are matched by value, not by exporter:
//!
//! - the quantiser `clip(round(x / s), low, high)`, `clip(round(x * r), ..)` or `clip(round(x), ..)` whose `s` or `r` comes
//!   from the largest magnitude of x, becomes `cast(q)` with `q, s = quantize_act(x)`; and
//! - what multiplies the integers by their scale afterwards becomes `dequantize(q, s)`, also behind a product:
//!   `linear(cast(q), w) * s == linear(dequantize(q, s), w)` where s is one per row.
//!
//! A scale may be a constant as well, and a value that can only be one of a few integers (a sign, a choice between two of
//! them) is its own quantisation where a layer reads it.
//!
//! Products of 8-bit integers with a zero point become layers of integers where every sum is exact in `f32`.
//!
//! Axes, floor, number of levels and range stay as the model has them. Where a group is all zeros the result is zero, as
//! training had it; an exporter that lost the floor would make it NaN.

mod after_product;
mod centred_product;
mod integral;
mod scaling;
mod shaped;

use bitc_ir::ops::quantize_act::{Form, Over};
use bitc_ir::ops::{BinaryKind, Cast, Clip, Dequantize, QuantizeAct, Reshape, Unary, UnaryKind};
use bitc_ir::{AttrError, AttrReader, DType, Dim, Graph, NodeId, Shape, ValueId};

use crate::integers::{binary, number};
use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};
use scaling::{Scaling, scaling_of};

/// See the module.
#[derive(Debug)]
pub struct RecognizeQuantizers;

impl RecognizeQuantizers {
    pub(crate) const NAME: &'static str = "recognize-quantizers";
    pub(crate) const DOC: &'static str =
        "Finds activation quantisers by what they compute and makes them one operation.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for RecognizeQuantizers {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let rules = [
            Rule { name: "quantizer", apply: &quantizer },
            Rule { name: "dequantize", apply: &dequantize },
            Rule { name: "divide-by-inverse", apply: &after_product::divide_by_inverse },
            Rule { name: "product-of-scales", apply: &after_product::product_of_scales },
            Rule { name: "scale-after-product", apply: &after_product::scale_after_product },
            Rule { name: "constant-scale", apply: &integral::constant_scale },
            Rule { name: "integer-product", apply: &after_product::integer_product },
            Rule { name: "centred-product", apply: &centred_product::centred_product },
            Rule { name: "reshaped", apply: &shaped::reshaped },
            Rule { name: "transposed", apply: &shaped::transposed },
            Rule { name: "integers-into-product", apply: &integral::into_product },
        ];
        rewrite(graph, &rules, Self::NAME, cx)
    }
}

/// `clip(round(v), low, high)`, or a bare `round(v)` whose v cannot leave the range.
fn quantizer(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let (inner, low, high) = clipped(g, result).unwrap_or((result, None, None));
    let range = match (low, high) {
        (None, None) => None,
        (Some(low), Some(high)) if low <= 0 && high >= 0 => Some((low, high)),
        _ => return Err(Miss::NoMatch),
    };
    let round_of = |value| match g.producer::<Unary>(value) {
        Some((round, Unary(UnaryKind::Round))) => g.input(round, 0).ok_or(Miss::NoMatch),
        _ => Err(Miss::NoMatch),
    };
    // Bounds are integers, so it is the same whether values are rounded or limited first.
    let (rounded, scaled, range) = match (range, round_of(inner)) {
        (Some(range), Ok(scaled)) => (inner, scaled, Some(range)),
        (Some(_), Err(_)) => return Err(Miss::NoMatch),
        (None, scaled) => match clipped(g, scaled?) {
            Some((limited, Some(low), Some(high))) if low <= 0 && high >= 0 => (result, limited, Some((low, high))),
            _ => (result, round_of(result)?, None),
        },
    };
    // A clip behind the rounding is part of the quantiser and is matched from there.
    let limits = |n: NodeId| {
        let bound = g.node(n).outputs.first().and_then(|&v| clipped(g, v));
        bound.is_some_and(|(of, ..)| of == rounded)
    };
    if range.is_none() && g.uses().of(rounded).iter().any(|&n| limits(n)) {
        return Err(Miss::NoMatch);
    }
    if g.ty(scaled).dtype != DType::F32 {
        return Err(Miss::NoMatch);
    }
    let (x, mut scaling) = match scaling_of(g, scaled) {
        Some(found) => found,
        None if range.is_some() => {
            (scaled, Scaling { op: QuantizeAct { form: Form::Integer, ..QuantizeAct::default() }, scale: None })
        }
        None => return Err(Miss::NoMatch),
    };
    let rank = g.ty(x).shape.rank();
    if rank == 0 || (scaling.op.over == Over::Channel && rank < 2) {
        return Err(Miss::blocked("a quantiser needs an axis"));
    }
    (scaling.op.low, scaling.op.high) = range.unwrap_or((-128, 127));
    let form = scaling.op.form;
    let outputs = g.add_multi(scaling.op, &[Some(x)])?;
    let [q, new_scale] = outputs[..] else { return Err(Miss::NoMatch) };
    if form == Form::Integer {
        let integers = g.add(Dequantize::default(), &[Some(q), Some(new_scale)])?;
        return Ok(integers.into());
    }
    let integers = g.add(Cast { to: DType::F32 }, &[Some(q)])?;
    let mut pairs = vec![(result, integers)];
    if let Some(old) = scaling.scale {
        let inverse = matches!(form, Form::Reciprocal | Form::Quotient);
        let scale = if inverse { g.add(Unary(UnaryKind::Reciprocal), &[Some(new_scale)])? } else { new_scale };
        let shape = g.ty(old).shape.clone();
        let scale = if g.ty(scale).shape == shape { scale } else { g.add(Reshape { shape }, &[Some(scale)])? };
        pairs.push((old, scale));
    }
    Ok(Replacement::Values(pairs))
}

/// What a value is limited from, and its bounds where they are integers of 8 bits: one clip, or a maximum and a minimum.
fn clipped(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Option<i8>, Option<i8>)> {
    let bound = |v: Option<ValueId>| v.and_then(|v| number(g, v)).and_then(to_i8);
    if let Some((node, Clip)) = g.producer::<Clip>(value) {
        return Some((g.input(node, 0)?, bound(g.input(node, 1)), bound(g.input(node, 2))));
    }
    let (kind, a, b) = binary(g, value)?;
    let (inner, limit) = [(a, b), (b, a)].into_iter().find_map(|(v, c)| Some((v, bound(Some(c))?)))?;
    let (wanted, low, high) = match kind {
        BinaryKind::Max => (BinaryKind::Min, Some(limit), None),
        BinaryKind::Min => (BinaryKind::Max, None, Some(limit)),
        _ => return None,
    };
    let other = binary(g, inner).filter(|(kind, ..)| *kind == wanted).and_then(|_| clipped_once(g, inner));
    Some(match other {
        Some((inner, l, h)) => (inner, low.or(l), high.or(h)),
        None => (inner, low, high),
    })
}

/// One maximum or minimum with a constant.
fn clipped_once(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Option<i8>, Option<i8>)> {
    let (kind, a, b) = binary(g, value)?;
    let (inner, limit) = [(a, b), (b, a)].into_iter().find_map(|(v, c)| Some((v, number(g, c).and_then(to_i8)?)))?;
    match kind {
        BinaryKind::Max => Some((inner, Some(limit), None)),
        BinaryKind::Min => Some((inner, None, Some(limit))),
        _ => None,
    }
}

fn to_i8(number: f64) -> Option<i8> {
    (number.fract() == 0.0 && (-128.0..=127.0).contains(&number)).then_some(number as i8)
}

/// `cast(q) * s == dequantize(q, s)` and `cast(q) / (1 / s) == dequantize(q, s)`; either order of a product. For integers that
/// were rounded without a scale, s is whatever the model computes that a layer can take: `cast(q) / f == dequantize(q, 1 / f)`.
fn dequantize(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let (kind, a, b) = binary(g, result).ok_or(Miss::NoMatch)?;
    let pairs = match kind {
        BinaryKind::Mul => vec![(a, Some(b), None), (b, Some(a), None)],
        BinaryKind::Div => vec![(a, inverse_of(g, b), Some(b))],
        _ => return Err(Miss::NoMatch),
    };
    for (integers, scale, divisor) in pairs {
        let Some((q, has_scale)) = integers_in(g, integers) else { continue };
        if g.ty(q).shape != g.ty(result).shape {
            continue;
        }
        // Without a measured scale anything could stand here.
        let computed = |v: ValueId| g.constant(v).is_none() && is_common_factor(&g.ty(v).shape, &g.ty(q).shape);
        let scale = match (scale, divisor) {
            (Some(scale), _) if has_scale || computed(scale) => scale,
            (None, Some(divisor)) if computed(divisor) => g.add(Unary(UnaryKind::Reciprocal), &[Some(divisor)])?,
            _ => continue,
        };
        return Ok(g.add(Dequantize::default(), &[Some(q), Some(scale)])?.into());
    }
    Err(Miss::NoMatch)
}

/// Whether scales of this shape are one in all, one per row, or one per position of channels.
fn is_common_factor(scale: &Shape, q: &Shape) -> bool {
    if scale.0.iter().all(Dim::is_one) {
        return true;
    }
    let fits = scale.rank() == q.rank() && scale.0.iter().zip(&q.0).all(|(s, d)| s.is_one() || s == d);
    let per_row = scale.0.last().is_some_and(Dim::is_one);
    let per_position = q.rank() >= 3 && scale.0.get(1).is_some_and(Dim::is_one);
    fits && (per_row || per_position)
}

/// The 8-bit integers that a value holds as floats, and whether their scale was measured; casts and integers dequantised by
/// one are looked through.
fn integers_in(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, bool)> {
    if g.ty(value).dtype != DType::F32 {
        return None;
    }
    let mut at = value;
    let mut found = None;
    loop {
        if let Some((node, cast)) = g.producer::<Cast>(at) {
            let holds = cast.to == DType::F32 || cast.to.integer_range().is_some_and(|(l, h)| l <= -128 && h >= 127);
            match g.input(node, 0).filter(|_| holds) {
                Some(from) => at = from,
                None => return found,
            }
        } else if let Some((node, _)) = g.producer::<Dequantize>(at) {
            let (q, unit) = (g.input(node, 0)?, g.input(node, 1)?);
            let by_itself = g.producer::<QuantizeAct>(q).filter(|(_, op)| op.form == Form::Integer);
            let unit = by_itself.filter(|&(n, _)| g.node(n).outputs.get(1) == Some(&unit));
            return unit.map(|_| (q, false)).or(found);
        } else {
            return found;
        }
        if g.ty(at).dtype == DType::I8 {
            found = Some((at, true));
        }
    }
}

/// What a value is the inverse of; a single number may have been reshaped on the way.
fn inverse_of(g: &Editor<'_>, value: ValueId) -> Option<ValueId> {
    let single = |v: ValueId| g.ty(v).shape.0.iter().all(Dim::is_one);
    let reshaped =
        g.producer::<Reshape>(value).and_then(|(n, _)| g.input(n, 0)).filter(|&v| single(v) && single(value));
    let value = reshaped.unwrap_or(value);
    match g.producer::<Unary>(value)? {
        (node, Unary(UnaryKind::Reciprocal)) => g.input(node, 0),
        _ => None,
    }
}
