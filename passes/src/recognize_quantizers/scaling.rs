//! What stands in front of a rounding: a division by a scale, or a product with a factor, from the largest magnitude.

use bitc_ir::ops::quantize_act::{Floor, Form, Over};
use bitc_ir::ops::{BinaryKind, QuantizeAct, Reduce, ReduceKind, Reshape, Unary, UnaryKind};
use bitc_ir::{Dim, Op, ValueId};

use crate::integers::{binary, number};
use crate::rewrite::Editor;

/// The scale or factor in front of a rounding, and what it says about the quantiser.
pub(super) struct Scaling {
    pub(super) op: QuantizeAct,
    /// The value that dequantises: `s`, or the factor `r` whose inverse does.
    pub(super) scale: Option<ValueId>,
}

/// Matches `x / s` and `x * r` where s or r comes from the largest magnitude of x.
pub(super) fn scaling_of(g: &Editor<'_>, scaled: ValueId) -> Option<(ValueId, Scaling)> {
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

/// `s = m / L`; with one level it is m.
fn plain_scale(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Scaling)> {
    let (m, levels) = match binary(g, value) {
        Some((BinaryKind::Div, m, levels)) => (m, self::levels(g, levels)?),
        _ => (value, 1),
    };
    let (x, over, floor, eps) = magnitude(g, m)?;
    let op = QuantizeAct { over, floor, eps, form: Form::Divide, levels, ..QuantizeAct::default() };
    Some((x, Scaling { op, scale: Some(value) }))
}

/// `r = (1 / m) * L` or `r = L / m`; with one level it is `1 / m`.
fn multiplier(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Scaling)> {
    if let Some((BinaryKind::Div, a, b)) = binary(g, value) {
        let levels = levels(g, a)?;
        let (x, over, floor, eps) = magnitude(g, b)?;
        let op = QuantizeAct { over, floor, eps, form: Form::Quotient, levels, ..QuantizeAct::default() };
        return Some((x, Scaling { op, scale: Some(value) }));
    }
    let (inverse, levels) = match binary(g, value) {
        Some((BinaryKind::Mul, a, b)) => levels(g, b).map(|l| (a, l)).or_else(|| levels(g, a).map(|l| (b, l)))?,
        _ => (value, 1),
    };
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
    let (x, axes) = largest(g, through_reshape(g, value))?;
    let rank = g.ty(x).shape.rank();
    if rank == 0 {
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

/// `max|x|` and its axes: of the magnitudes, or the larger of the maximum and the negated minimum (or of their magnitudes).
fn largest(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let reduced = |v: ValueId, kind| {
        let (node, reduce) = g.producer::<Reduce>(v).filter(|(_, r)| r.kind == kind)?;
        let x = g.input(node, 0)?;
        Some((x, reduce.resolved(g.ty(x).shape.rank()).ok()?))
    };
    let under =
        |v: ValueId, kind| g.producer::<Unary>(v).filter(|(_, op)| op.0 == kind).and_then(|(n, _)| g.input(n, 0));
    if let Some((BinaryKind::Max, a, b)) = binary(g, value) {
        return [(a, b), (b, a)].into_iter().find_map(|(high, low)| {
            let low = under(low, UnaryKind::Neg).or_else(|| under(low, UnaryKind::Abs))?;
            let low = reduced(low, ReduceKind::Min)?;
            let high = reduced(under(high, UnaryKind::Abs).unwrap_or(high), ReduceKind::Max)?;
            (high == low).then_some(high)
        });
    }
    let (magnitudes, axes) = reduced(value, ReduceKind::Max)?;
    Some((under(magnitudes, UnaryKind::Abs)?, axes))
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

fn levels(g: &Editor<'_>, value: ValueId) -> Option<u8> {
    number(g, value).filter(|n| n.fract() == 0.0 && (1.0..=127.0).contains(n)).map(|n| n as u8)
}
