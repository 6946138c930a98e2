//! Normalisations and softmax.

use bitc_ir::ops::{ArgMax, BatchNorm, LayerNorm, Reduce, RmsNorm, Softmax, reduce::ReduceKind};
use bitc_ir::{Attr, DType, Dim, Shape, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("BatchNormalization", With(batch_norm)),
    std("LayerNormalization", With(layer_norm)),
    std("RMSNormalization", With(rms_norm)),
    // Hugging Face exports write it in the standard domain too.
    std("SimplifiedLayerNormalization", With(rms_norm)),
    std("InstanceNormalization", With(instance_norm)),
    std("GroupNormalization", With(group_norm)),
    std("LpNormalization", With(lp_norm)),
    std("MeanVarianceNormalization", With(mean_variance)),
    std("LRN", With(local_response)),
    std("Softmax", With(|cx| softmax(cx, false))),
    std("LogSoftmax", With(|cx| softmax(cx, true))),
    std("Hardmax", With(hardmax)),
];

fn batch_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(5, 5)?;
    cx.attrs.ignore(&["momentum", "consumed_inputs", "is_test"]);
    let eps = cx.attrs.float_or("epsilon", 1e-5)?;
    if cx.attrs.flag("training_mode", false)? {
        return Err(unsupported("BatchNormalization in training mode"));
    }
    if !cx.attrs.flag("spatial", true)? {
        return Err(unsupported("BatchNormalization with a statistic per element (`spatial` 0)"));
    }
    // Below opset 14 further outputs were for training only.
    let inputs = cx.all()?;
    let x = inputs[0];
    if inputs.iter().all(|&v| cx.dtype(v) == DType::F32) {
        return Ok(vec![cx.add(BatchNorm { eps }, &inputs)?]);
    }
    // Other types: the statistics broadcast along the axes behind the channel.
    let dtype = cx.dtype(x);
    let trailing = cx.rank(x).saturating_sub(2);
    let mut aligned = Vec::new();
    for &v in &inputs[1..] {
        let v = cx.cast(v, dtype)?;
        let mut dims = cx.dims(v);
        dims.extend(vec![Dim::from(1); trailing]);
        aligned.push(cx.reshape(v, dims)?);
    }
    let [gamma, beta, mean, var] = aligned[..] else { return Err(unsupported("these inputs")) };
    let centred = cx.simple("sub", &[x, mean])?;
    let shifted = with_scalar(cx, "add", var, f64::from(eps))?;
    let spread = cx.simple("sqrt", &[shifted])?;
    let normal = cx.simple("div", &[centred, spread])?;
    let scaled = cx.simple("mul", &[normal, gamma])?;
    Ok(vec![cx.simple("add", &[scaled, beta])?])
}

/// A reduction that keeps its axes.
fn keep(cx: &mut NodeCx<'_, '_>, kind: ReduceKind, x: ValueId, axes: &[i64]) -> Result<ValueId, Cause> {
    cx.add(Reduce { kind, axes: axes.to_vec(), keep: true }, &[x])
}

/// The mean over axes and `1 / sqrt(var + eps)`, both with the axes kept.
fn statistics(cx: &mut NodeCx<'_, '_>, x: ValueId, axes: &[i64], eps: f64) -> Result<(ValueId, ValueId), Cause> {
    let mean = keep(cx, ReduceKind::Mean, x, axes)?;
    let centred = cx.simple("sub", &[x, mean])?;
    let squares = cx.simple("mul", &[centred, centred])?;
    let var = keep(cx, ReduceKind::Mean, squares, axes)?;
    let shifted = with_scalar(cx, "add", var, eps)?;
    let spread = cx.simple("sqrt", &[shifted])?;
    Ok((mean, cx.simple("reciprocal", &[spread])?))
}

/// The element type in which a norm is computed: halves in single precision.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

fn layer_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let eps = cx.attrs.float_or("epsilon", 1e-5)?;
    cx.attrs.ignore(&["stash_type"]);
    let x = cx.input(0)?;
    let (dtype, rank) = (cx.dtype(x), cx.rank(x));
    let axis = cx.attrs.int_or("axis", -1)?;
    let axis = cx.axis(axis, rank)?;
    let compute = wide(dtype);
    let x = cx.cast(x, compute)?;
    let gamma = cx.cast(cx.input(1)?, compute)?;
    let beta = cx.opt(2).map(|b| cx.cast(b, compute)).transpose()?;
    let own = cx.dims(x)[axis..].to_vec();
    let fits = |cx: &NodeCx<'_, '_>, v: ValueId| cx.dims(v) == own;
    if compute == DType::F32 && fits(cx, gamma) && beta.is_none_or(|b| fits(cx, b)) && !cx.wants(1) && !cx.wants(2) {
        let y = cx.add_opt(LayerNorm { axis: axis as i64, eps }, &[Some(x), Some(gamma), beta])?;
        return Ok(vec![cx.cast(y, dtype)?]);
    }
    let axes: Vec<i64> = (axis as i64..rank as i64).collect();
    let (mean, factor) = statistics(cx, x, &axes, f64::from(eps))?;
    let centred = cx.simple("sub", &[x, mean])?;
    let normal = cx.simple("mul", &[centred, factor])?;
    let mut y = cx.simple("mul", &[normal, gamma])?;
    if let Some(beta) = beta {
        y = cx.simple("add", &[y, beta])?;
    }
    Ok(vec![cx.cast(y, dtype)?, mean, factor])
}

fn rms_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let eps = cx.attrs.float_or("epsilon", 1e-5)?;
    cx.attrs.ignore(&["stash_type"]);
    let x = cx.input(0)?;
    let axis = cx.attrs.int_or("axis", -1)?;
    let axis = cx.axis(axis, cx.rank(x))?;
    let gamma = cx.input(1)?;
    Ok(vec![rms_norm_of(cx, x, gamma, axis, eps)?])
}

/// `x / sqrt(mean(x^2) + eps) * gamma` over the axes from one on.
pub(super) fn rms_norm_of(
    cx: &mut NodeCx<'_, '_>,
    x: ValueId,
    gamma: ValueId,
    axis: usize,
    eps: f32,
) -> Result<ValueId, Cause> {
    let dtype = cx.dtype(x);
    let compute = wide(dtype);
    let x = cx.cast(x, compute)?;
    let gamma = cx.cast(gamma, compute)?;
    if compute == DType::F32 && cx.dims(gamma) == cx.dims(x)[axis..] {
        let y = cx.add(RmsNorm { axis: axis as i64, eps }, &[x, gamma])?;
        return cx.cast(y, dtype);
    }
    let axes: Vec<i64> = (axis as i64..cx.rank(x) as i64).collect();
    let squares = cx.simple("mul", &[x, x])?;
    let mean = keep(cx, ReduceKind::Mean, squares, &axes)?;
    let shifted = with_scalar(cx, "add", mean, f64::from(eps))?;
    let root = cx.simple("sqrt", &[shifted])?;
    let normal = cx.simple("div", &[x, root])?;
    let y = cx.simple("mul", &[normal, gamma])?;
    cx.cast(y, dtype)
}

/// `layer_norm` without weights over the trailing axes of a tensor under other dimensions, back in its own.
fn normalise_grouped(cx: &mut NodeCx<'_, '_>, x: ValueId, groups: Vec<Dim>, eps: f32) -> Result<ValueId, Cause> {
    let (dims, dtype) = (cx.dims(x), cx.dtype(x));
    let axis = groups.len() as i64 - 1;
    let compute = wide(dtype);
    let x = cx.cast(x, compute)?;
    let grouped = cx.reshape(x, groups)?;
    let y = if compute == DType::F32 {
        cx.add_opt(LayerNorm { axis, eps }, &[Some(grouped), None, None])?
    } else {
        let (mean, factor) = statistics(cx, grouped, &[axis], f64::from(eps))?;
        let centred = cx.simple("sub", &[grouped, mean])?;
        cx.simple("mul", &[centred, factor])?
    };
    let y = cx.reshape(y, dims)?;
    cx.cast(y, dtype)
}

/// A vector over the channels of `x`, broadcast along the axes behind them.
fn per_channel(cx: &mut NodeCx<'_, '_>, v: ValueId, x: ValueId) -> Result<ValueId, Cause> {
    let v = cx.cast(v, cx.dtype(x))?;
    let mut dims = cx.dims(v);
    dims.extend(vec![Dim::from(1); cx.rank(x).saturating_sub(2)]);
    cx.reshape(v, dims)
}

fn instance_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    cx.attrs.ignore(&["consumed_inputs"]);
    let eps = cx.attrs.float_or("epsilon", 1e-5)?;
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let [n, c, space @ ..] = &dims[..] else {
        return Err(Cause::Type(format!("expected a tensor of rank 3 or more, found {}", cx.ty(x))));
    };
    let size = Shape(space.to_vec()).numel().ok_or_else(|| unsupported("a tensor that large"))?;
    let normal = normalise_grouped(cx, x, vec![n.clone(), c.clone(), size], eps)?;
    let (scale, bias) = (per_channel(cx, cx.input(1)?, x)?, per_channel(cx, cx.input(2)?, x)?);
    let scaled = cx.simple("mul", &[normal, scale])?;
    Ok(vec![cx.simple("add", &[scaled, bias])?])
}

/// Before opset 21 there is one weight per group, from then on one per channel.
fn group_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let eps = cx.attrs.float_or("epsilon", 1e-5)?;
    cx.attrs.ignore(&["stash_type"]);
    let groups = cx.attrs.int("num_groups")?;
    let groups = required("num_groups", groups)?;
    let count = usize::try_from(groups).ok().filter(|&g| g > 0);
    let count = count.ok_or_else(|| invalid("num_groups", "a positive number", groups))?;
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let [n, c, space @ ..] = &dims[..] else {
        return Err(Cause::Type(format!("expected a tensor of rank 2 or more, found {}", cx.ty(x))));
    };
    let uneven = || Cause::Type(format!("channels that are a multiple of {count} expected, found {c}"));
    let each = c.div_exact(&Dim::from(count)).ok_or_else(uneven)?;
    let mut inner = space.to_vec();
    inner.push(each.clone());
    let size = Shape(inner).numel().ok_or_else(|| unsupported("a tensor that large"))?;
    let normal = normalise_grouped(cx, x, vec![n.clone(), Dim::from(count), size], eps)?;
    let mut weights = [cx.input(1)?, cx.input(2)?];
    for v in &mut weights {
        if cx.version < 21 && cx.dims(*v) != [c.clone()] {
            let column = cx.reshape(*v, vec![Dim::from(count), Dim::from(1)])?;
            let shape = Attr::from(&Shape(vec![Dim::from(count), each.clone()]));
            let spread = cx.named("expand", vec![("shape", shape)], &[column])?;
            *v = cx.reshape(spread, vec![c.clone()])?;
        }
        *v = per_channel(cx, *v, x)?;
    }
    let scaled = cx.simple("mul", &[normal, weights[0]])?;
    Ok(vec![cx.simple("add", &[scaled, weights[1]])?])
}

/// Division by the norm along an axis; where that is zero the result is zero.
fn lp_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let (axis, p) = (cx.attrs.int_or("axis", -1)?, cx.attrs.int_or("p", 2)?);
    let x = cx.input(0)?;
    let axes = [cx.axis(axis, cx.rank(x))? as i64];
    let norm = match p {
        1 => {
            let magnitude = cx.simple("abs", &[x])?;
            keep(cx, ReduceKind::Sum, magnitude, &axes)?
        }
        2 => {
            let squares = cx.simple("mul", &[x, x])?;
            let sum = keep(cx, ReduceKind::Sum, squares, &axes)?;
            cx.simple("sqrt", &[sum])?
        }
        other => return Err(invalid("p", "1 or 2", other)),
    };
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    let empty = cx.simple("equal", &[norm, zero])?;
    let quotient = cx.simple("div", &[x, norm])?;
    Ok(vec![cx.simple("where", &[empty, zero, quotient])?])
}

fn mean_variance(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let axes = cx.attrs.ints("axes")?.unwrap_or(&[0, 2, 3]).to_vec();
    let axes: Vec<i64> = cx.axes(&axes, cx.rank(x))?.into_iter().map(|a| a as i64).collect();
    let mean = keep(cx, ReduceKind::Mean, x, &axes)?;
    let centred = cx.simple("sub", &[x, mean])?;
    let squares = cx.simple("mul", &[centred, centred])?;
    let var = keep(cx, ReduceKind::Mean, squares, &axes)?;
    let spread = cx.simple("sqrt", &[var])?;
    let divisor = with_scalar(cx, "add", spread, 1e-9)?;
    Ok(vec![cx.simple("div", &[centred, divisor])?])
}

/// `x / (bias + alpha / size * sum)^beta` with the sum of squares over neighbouring channels.
fn local_response(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let size = cx.attrs.int("size")?;
    let size = required("size", size)?;
    if !(1..1 << 20).contains(&size) {
        return Err(invalid("size", "a positive number", size));
    }
    let (alpha, beta) = (cx.attrs.float_or("alpha", 1e-4)?, cx.attrs.float_or("beta", 0.75)?);
    let bias = cx.attrs.float_or("bias", 1.0)?;
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let [n, c, space @ ..] = &dims[..] else {
        return Err(Cause::Type(format!("expected a tensor of rank 3 or more, found {}", cx.ty(x))));
    };
    let area = Shape(space.to_vec()).numel().ok_or_else(|| unsupported("a tensor that large"))?;
    let squares = cx.simple("mul", &[x, x])?;
    let image = cx.reshape(squares, vec![n.clone(), Dim::from(1), c.clone(), area])?;
    let (before, after) = ((size - 1) / 2, size - 1 - (size - 1) / 2);
    let attrs = vec![
        ("kernel", vec![size, 1].into()),
        ("pads", vec![before, 0, after, 0].into()),
        ("count_padding", true.into()),
    ];
    // The mean over the window is the sum divided by its size.
    let mean = cx.named("avg_pool2d", attrs, &[image])?;
    let mean = cx.reshape(mean, dims.clone())?;
    let scaled = with_scalar(cx, "mul", mean, f64::from(alpha))?;
    let shifted = with_scalar(cx, "add", scaled, f64::from(bias))?;
    let divisor = with_scalar(cx, "pow", shifted, f64::from(beta))?;
    Ok(vec![cx.simple("div", &[x, divisor])?])
}

/// The axis of a softmax, and the tensor it goes over: before opset 13 everything from the axis on is one axis.
fn flattened(cx: &mut NodeCx<'_, '_>) -> Result<(ValueId, i64), Cause> {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let axis = cx.attrs.int_or("axis", if cx.version < 13 { 1 } else { -1 })?;
    let axis = cx.axis(axis, cx.rank(x))?;
    let dims = cx.dims(x);
    if cx.version >= 13 || axis + 1 == dims.len() {
        return Ok((x, axis as i64));
    }
    let (rows, columns) = dims.split_at(axis);
    let product = |d: &[Dim]| Shape(d.to_vec()).numel().ok_or_else(|| unsupported("a tensor that large"));
    let flat = vec![product(rows)?, product(columns)?];
    Ok((cx.reshape(x, flat)?, 1))
}

fn softmax(cx: &mut NodeCx<'_, '_>, log: bool) -> Outputs {
    let (x, axis) = flattened(cx)?;
    let y = softmax_of(cx, x, axis, log)?;
    let dims = cx.dims(cx.input(0)?);
    Ok(vec![cx.reshape(y, dims)?])
}

/// Softmax or its logarithm. In types other than `f32` by the body that the standard gives for it, so that halves are
/// rounded after every step as elsewhere.
pub(super) fn softmax_of(cx: &mut NodeCx<'_, '_>, x: ValueId, axis: i64, log: bool) -> Result<ValueId, Cause> {
    if cx.dtype(x) == DType::F32 {
        return cx.add(Softmax { axis, log }, &[x]);
    }
    let peak = keep(cx, ReduceKind::Max, x, &[axis])?;
    let below = cx.simple("sub", &[x, peak])?;
    let powers = cx.simple("exp", &[below])?;
    let sum = keep(cx, ReduceKind::Sum, powers, &[axis])?;
    if log {
        let sum = cx.simple("log", &[sum])?;
        return cx.simple("sub", &[below, sum]);
    }
    cx.simple("div", &[powers, sum])
}

/// One at the first maximum, zero elsewhere.
fn hardmax(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let (x, axis) = flattened(cx)?;
    let best = cx.add(ArgMax { min: false, axis, keep: true, last: false }, &[x])?;
    let at = usize::try_from(axis).unwrap_or(0);
    let count = cx.dims(x)[at].clone();
    let places = cx.named("iota", vec![("count", Attr::from(&Shape(vec![count.clone()])))], &[])?;
    let mut dims = vec![Dim::from(1); cx.rank(x)];
    dims[at] = count;
    let places = cx.reshape(places, dims)?;
    let on = cx.simple("equal", &[best, places])?;
    let y = cx.cast(on, cx.dtype(x))?;
    let dims = cx.dims(cx.input(0)?);
    Ok(vec![cx.reshape(y, dims)?])
}
