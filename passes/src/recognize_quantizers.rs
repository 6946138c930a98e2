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
//! Axes, floor, number of levels and range stay as the model has them. Where a group is all zeros the result is zero, as
//! training had it; an exporter that lost the floor would make it NaN.

mod integral;
mod scaling;

use bitc_ir::ops::quantize_act::{Form, Over};
use bitc_ir::ops::{BinaryKind, Cast, Clip, Dequantize, Linear, QuantizeAct, Reshape, Unary, UnaryKind};
use bitc_ir::{AttrError, AttrReader, DType, Dim, Graph, NodeId, ValueId};

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
            Rule { name: "divide-by-inverse", apply: &divide_by_inverse },
            Rule { name: "scale-after-product", apply: &scale_after_product },
            Rule { name: "constant-scale", apply: &integral::constant_scale },
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

/// `cast(q) * s == dequantize(q, s)` and `cast(q) / (1 / s) == dequantize(q, s)`; either order of a product.
fn dequantize(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let (kind, a, b) = binary(g, result).ok_or(Miss::NoMatch)?;
    let pairs = match kind {
        BinaryKind::Mul => vec![(a, Some(b)), (b, Some(a))],
        BinaryKind::Div => vec![(a, inverse_of(g, b))],
        _ => return Err(Miss::NoMatch),
    };
    for (integers, scale) in pairs {
        let (Some(q), Some(scale)) = (cast_integers(g, integers), scale) else { continue };
        if g.ty(q).shape == g.ty(result).shape {
            return Ok(g.add(Dequantize::default(), &[Some(q), Some(scale)])?.into());
        }
    }
    Err(Miss::NoMatch)
}

/// The 8-bit integers that a value holds as floats.
fn cast_integers(g: &Editor<'_>, value: ValueId) -> Option<ValueId> {
    let (node, cast) = g.producer::<Cast>(value)?;
    g.input(node, 0).filter(|&q| cast.to == DType::F32 && g.ty(q).dtype == DType::I8)
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

/// `y / (c * (1 / s)) == (y / c) * s`, either order of the product, for a constant c; and `y / (1 / s) == y * s`.
fn divide_by_inverse(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let Some((BinaryKind::Div, y, d)) = binary(g, result) else { return Err(Miss::NoMatch) };
    let mul = bitc_ir::ops::Binary(BinaryKind::Mul);
    if let Some(s) = inverse_of(g, d) {
        return Ok(g.add(mul, &[Some(y), Some(s)])?.into());
    }
    let Some((BinaryKind::Mul, a, b)) = binary(g, d) else { return Err(Miss::NoMatch) };
    for (c, inverse) in [(a, b), (b, a)] {
        if let (Some(_), Some(s)) = (g.constant(c), inverse_of(g, inverse)) {
            let scaled = g.add(mul, &[Some(y), Some(s)])?;
            return Ok(g.add(bitc_ir::ops::Binary(BinaryKind::Div), &[Some(scaled), Some(c)])?.into());
        }
    }
    Err(Miss::NoMatch)
}

/// `linear(cast(q), w) * s == linear(dequantize(q, s), w)` for a layer without bias and an s that is one per row.
fn scale_after_product(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let Some((BinaryKind::Mul, a, b)) = binary(g, result) else { return Err(Miss::NoMatch) };
    for (y, s) in [(a, b), (b, a)] {
        let Some((layer, op)) = g.producer::<Linear>(y) else { continue };
        let Some(q) = g.input(layer, 0).and_then(|x| cast_integers(g, x)) else { continue };
        let no_bias = g.input(layer, 2).is_none() && op.act == bitc_ir::ops::Activation::None;
        if g.constant(s).is_some() || g.ty(s).shape.last().is_none_or(|d| !d.is_one()) || g.ty(result) != g.ty(y) {
            continue;
        }
        if !no_bias || !g.only_use(y) {
            return Err(Miss::blocked("the layer has a bias or its result is also used elsewhere"));
        }
        let (op, w) = (op.clone(), g.input(layer, 1));
        let x = g.add(Dequantize::default(), &[Some(q), Some(s)])?;
        return Ok(g.add(op, &[Some(x), w])?.into());
    }
    Err(Miss::NoMatch)
}
