//! `recognize-quantizers`: activation quantisers, whatever exporter wrote them.
//!
//! Two things are matched by value, not by exporter:
//!
//! - the quantiser `clip(round(x / s), low, high)`, `clip(round(x * r), ..)` or `clip(round(x), ..)` whose `s` or `r` comes
//!   from the largest magnitude of x, becomes `cast(q)` with `q, s = quantize_act(x)`; and
//! - what multiplies the integers by their scale afterwards becomes `dequantize(q, s)`, also behind a product:
//!   `linear(cast(q), w) * s == linear(dequantize(q, s), w)` where s is one per row.
//!
//! Axes, floor, number of levels and range stay as the model has them. Where a group is all zeros the result is zero, as
//! training had it; an exporter that lost the floor would make it NaN.

use bitc_ir::ops::quantize_act::{Floor, Form, Over};
use bitc_ir::ops::{BinaryKind, Cast, Dequantize, Linear, QuantizeAct, Reduce, ReduceKind, Reshape, Unary, UnaryKind};
use bitc_ir::{AttrError, AttrReader, DType, Dim, Graph, NodeId, Op, ValueId};

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

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
        ];
        rewrite(graph, &rules, Self::NAME, cx)
    }
}

/// The scale or factor in front of a rounding, and what it says about the quantiser.
struct Scaling {
    op: QuantizeAct,
    /// The value that dequantises: `s`, or the factor `r` whose inverse does.
    scale: Option<ValueId>,
}

/// `clip(round(v), low, high)`, or a bare `round(v)` whose v cannot leave the range.
fn quantizer(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let (rounded, range) = match g.node(node).op {
        Op::Clip(_) => {
            let bound = |i| g.input(node, i).and_then(|v| number(g, v)).and_then(to_i8);
            let (low, high) = (bound(1).ok_or(Miss::NoMatch)?, bound(2).ok_or(Miss::NoMatch)?);
            if !(low <= 0 && high >= 0) {
                return Err(Miss::NoMatch);
            }
            (g.input(node, 0).ok_or(Miss::NoMatch)?, Some((low, high)))
        }
        Op::Unary(Unary(UnaryKind::Round)) => (result, None),
        _ => return Err(Miss::NoMatch),
    };
    let Some((round, Unary(UnaryKind::Round))) = g.producer::<Unary>(rounded) else { return Err(Miss::NoMatch) };
    // A clip behind the rounding is part of the quantiser and is matched from there.
    if range.is_none() && g.uses().of(rounded).iter().any(|&n| matches!(g.node(n).op, Op::Clip(_))) {
        return Err(Miss::NoMatch);
    }
    let scaled = g.input(round, 0).ok_or(Miss::NoMatch)?;
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
        let integers = g.add(Dequantize, &[Some(q), Some(new_scale)])?;
        return Ok(integers.into());
    }
    let integers = g.add(Cast { to: DType::F32 }, &[Some(q)])?;
    let mut pairs = vec![(result, integers)];
    if let Some(old) = scaling.scale {
        let scale =
            if form == Form::Reciprocal { g.add(Unary(UnaryKind::Reciprocal), &[Some(new_scale)])? } else { new_scale };
        let shape = g.ty(old).shape.clone();
        let scale = if g.ty(scale).shape == shape { scale } else { g.add(Reshape { shape }, &[Some(scale)])? };
        pairs.push((old, scale));
    }
    Ok(Replacement::Values(pairs))
}

/// Matches `x / s` and `x * r` where s or r comes from the largest magnitude of x.
fn scaling_of(g: &Editor<'_>, scaled: ValueId) -> Option<(ValueId, Scaling)> {
    let (kind, a, b) = binary(g, scaled)?;
    let candidates = match kind {
        BinaryKind::Div => vec![(a, b)],
        BinaryKind::Mul => vec![(a, b), (b, a)],
        _ => return None,
    };
    candidates.into_iter().find_map(|(x, factor)| {
        let found = if kind == BinaryKind::Div { divisor(g, factor) } else { multiplier(g, factor) };
        found.and_then(|(of, scaling)| (of == x).then_some((x, scaling)))
    })
}

/// `s = m / L`, with its floor: clipped, added to, or on m.
fn divisor(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Scaling)> {
    if let Some((inner, eps)) = at_least(g, value) {
        let (x, mut scaling) = plain_scale(g, inner)?;
        if scaling.op.floor != Floor::None {
            return None;
        }
        (scaling.op.floor, scaling.op.eps, scaling.scale) = (Floor::ClipScale, eps, Some(value));
        return Some((x, scaling));
    }
    if let Some((BinaryKind::Add, a, b)) = binary(g, value) {
        let (inner, eps) = number(g, b).map(|n| (a, n)).or_else(|| number(g, a).map(|n| (b, n)))?;
        let (x, mut scaling) = plain_scale(g, inner)?;
        if scaling.op.floor != Floor::None || eps < 0.0 {
            return None;
        }
        (scaling.op.floor, scaling.op.eps) = (Floor::AddToDivisor, eps as f32);
        return Some((x, scaling));
    }
    plain_scale(g, value)
}

fn plain_scale(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Scaling)> {
    let (BinaryKind::Div, m, levels) = binary(g, value)? else { return None };
    let (x, over, floor, eps) = magnitude(g, m)?;
    let op = QuantizeAct {
        over,
        floor,
        eps,
        form: Form::Divide,
        levels: self::levels(g, levels)?,
        ..QuantizeAct::default()
    };
    Some((x, Scaling { op, scale: Some(value) }))
}

/// `r = (1 / m) * L`.
fn multiplier(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Scaling)> {
    let (BinaryKind::Mul, a, b) = binary(g, value)? else { return None };
    let (inverse, levels) = levels(g, b).map(|l| (a, l)).or_else(|| levels(g, a).map(|l| (b, l)))?;
    let (node, Unary(UnaryKind::Reciprocal)) = g.producer::<Unary>(inverse)? else { return None };
    let (x, over, floor, eps) = magnitude(g, g.input(node, 0)?)?;
    let op = QuantizeAct { over, floor, eps, form: Form::Reciprocal, levels, ..QuantizeAct::default() };
    Some((x, Scaling { op, scale: Some(value) }))
}

/// The largest magnitude of a value, perhaps kept above a floor, perhaps reshaped.
fn magnitude(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Over, Floor, f32)> {
    if let Some((inner, eps)) = at_least(g, value) {
        let (x, over, floor, _) = magnitude(g, inner)?;
        return (floor == Floor::None).then_some((x, over, Floor::ClipMax, eps));
    }
    let (node, reduce) = g.producer::<Reduce>(through_reshape(g, value))?;
    let (abs_node, Unary(UnaryKind::Abs)) = g.producer::<Unary>(g.input(node, 0)?)? else { return None };
    let x = g.input(abs_node, 0)?;
    let rank = g.ty(x).shape.rank();
    let axes = reduce.resolved(rank).ok()?;
    if reduce.kind != ReduceKind::Max || rank == 0 {
        return None;
    }
    let over = if axes.len() == rank {
        Over::Tensor
    } else if axes == [rank - 1] {
        Over::Row
    } else if axes.iter().copied().eq(1..rank) {
        Over::Sample
    } else if axes == [1] {
        Over::Channel
    } else {
        return None;
    };
    // Axes that were dropped must come back as 1, or the scale would meet the wrong axis of x.
    let mut kept = g.ty(x).shape.clone();
    axes.iter().for_each(|&a| kept.0[a] = Dim::from(1));
    let shape = &g.ty(value).shape;
    let fits = *shape == kept || (over == Over::Tensor && shape.0.iter().all(Dim::is_one));
    fits.then_some((x, over, Floor::None, 0.0))
}

fn through_reshape(g: &Editor<'_>, value: ValueId) -> ValueId {
    g.producer::<Reshape>(value).and_then(|(n, _)| g.input(n, 0)).unwrap_or(value)
}

/// `max(v, eps)` in any spelling, with a positive constant.
fn at_least(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, f32)> {
    let node = g.producer_id(value)?;
    let (inner, eps) = match (&g.node(node).op, &g.node(node).inputs[..]) {
        (Op::Clip(_), [Some(v), Some(low)] | [Some(v), Some(low), None]) => (*v, number(g, *low)?),
        (Op::Binary(op), &[Some(a), Some(b)]) if op.0 == BinaryKind::Max => {
            number(g, b).map(|n| (a, n)).or_else(|| number(g, a).map(|n| (b, n)))?
        }
        _ => return None,
    };
    (eps > 0.0 && g.ty(inner) == g.ty(value)).then_some((inner, eps as f32))
}

fn binary(g: &Editor<'_>, value: ValueId) -> Option<(BinaryKind, ValueId, ValueId)> {
    let node = g.producer_id(value)?;
    match (&g.node(node).op, &g.node(node).inputs[..]) {
        (Op::Binary(op), &[Some(a), Some(b)]) => Some((op.0, a, b)),
        _ => None,
    }
}

/// The number that a constant of one element holds.
fn number(g: &Editor<'_>, value: ValueId) -> Option<f64> {
    let tensor = g.constant(value).filter(|t| t.numel() == 1)?;
    tensor.to_f64().first().copied()
}

fn levels(g: &Editor<'_>, value: ValueId) -> Option<u8> {
    number(g, value).filter(|n| n.fract() == 0.0 && (1.0..=127.0).contains(n)).map(|n| n as u8)
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
            return Ok(g.add(Dequantize, &[Some(q), Some(scale)])?.into());
        }
    }
    Err(Miss::NoMatch)
}

/// The 8-bit integers that a value holds as floats.
fn cast_integers(g: &Editor<'_>, value: ValueId) -> Option<ValueId> {
    let (node, cast) = g.producer::<Cast>(value)?;
    g.input(node, 0).filter(|&q| cast.to == DType::F32 && g.ty(q).dtype == DType::I8)
}

fn inverse_of(g: &Editor<'_>, value: ValueId) -> Option<ValueId> {
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
        let x = g.add(Dequantize, &[Some(q), Some(s)])?;
        return Ok(g.add(op, &[Some(x), w])?.into());
    }
    Err(Miss::NoMatch)
}
