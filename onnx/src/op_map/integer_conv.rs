//! Convolutions of integers: in floats where these hold all sums, else as one exact product of matrices for each
//! position of the window.

use bitc_ir::ops::{MatMul, Slice};
use bitc_ir::{DType, Dim, Shape, Tensor, ValueId};

use super::Rule::With;
use super::pool::Spatial;
use super::product::{border, conv};
use super::quantize::quantized;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[std("ConvInteger", With(conv_integer)), std("QLinearConv", With(qlinear_conv))];

fn conv_integer(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 4)?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (x_zero, w_zero) = (cx.opt(2), cx.opt(3));
    let x = centred(cx, x, x_zero)?;
    let w = centred(cx, w, w_zero)?;
    Ok(vec![sums(cx, x, w)?])
}

/// A convolution of dequantised operands, quantised.
fn qlinear_conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(8, 9)?;
    let [x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|i| cx.input(i)).into_iter().collect::<Result<Vec<_>, _>>()?[..]
    else {
        return Err(unsupported("these inputs"));
    };
    let bias = cx.opt(8);
    let (xs, ws) = (centred(cx, x, Some(x_zero))?, centred(cx, w, Some(w_zero))?);
    let mut acc = sums(cx, xs, ws)?;
    let spatial = cx.rank(x) - 2;
    if let Some(bias) = bias {
        let bias = per_channel(cx, bias, spatial)?;
        acc = cx.simple("add", &[acc, bias])?;
    }
    let real = cx.cast(acc, DType::F32)?;
    let x_scale = cx.reshape(x_scale, Vec::new())?;
    let w_scale = per_channel(cx, w_scale, spatial)?;
    let scale = cx.simple("mul", &[x_scale, w_scale])?;
    let real = cx.simple("mul", &[real, scale])?;
    let to = cx.dtype(y_zero);
    let (y_scale, y_zero) = (cx.reshape(y_scale, Vec::new())?, cx.reshape(y_zero, Vec::new())?);
    Ok(vec![quantized(cx, real, y_scale, Some(y_zero), to)?])
}

/// A value for all channels, or one for each, as it broadcasts to `[n, channels, ..]`.
fn per_channel(cx: &mut NodeCx<'_, '_>, v: ValueId, spatial: usize) -> Result<ValueId, Cause> {
    if cx.dims(v).iter().all(Dim::is_one) {
        return cx.reshape(v, Vec::new());
    }
    let mut dims = cx.dims(v);
    dims.extend(vec![Dim::from(1); spatial]);
    cx.reshape(v, dims)
}

/// An integer tensor as `i32` with its zero point, one or one per first axis, taken off.
fn centred(cx: &mut NodeCx<'_, '_>, x: ValueId, zero: Option<ValueId>) -> Result<ValueId, Cause> {
    if !matches!(cx.dtype(x), DType::I8 | DType::U8) {
        return Err(unsupported(format!("{} on {}", cx.op, cx.ty(x))));
    }
    let x = cx.cast(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(x) };
    let zero = cx.cast(zero, DType::I32)?;
    let trailing = cx.rank(x) - 1;
    let zero = per_channel(cx, zero, trailing)?;
    cx.simple("sub", &[x, zero])
}

/// Up to here floats hold every integer.
const EXACT: f64 = 16_777_216.0;

/// The exact sums of a convolution of `i32` that were eight bits and a zero point.
fn sums(cx: &mut NodeCx<'_, '_>, x: ValueId, w: ValueId) -> Result<ValueId, Cause> {
    let per_output = cx.fixed(w, "W")?.iter().skip(1).product::<usize>();
    let constant = cx.build.graph.constant(w).and_then(Tensor::to_vec::<i32>);
    let largest = match constant.filter(|_| per_output > 0) {
        Some(w) => w.chunks(per_output).map(|row| row.iter().map(|v| f64::from(v.abs())).sum()).fold(0.0, f64::max),
        None => 255.0 * per_output as f64,
    };
    if 255.0 * largest > EXACT {
        return tap_by_tap(cx, x, w);
    }
    cx.inputs = vec![Some(cx.cast(x, DType::F32)?), Some(cx.cast(w, DType::F32)?)];
    let y = conv(cx)?[0];
    cx.cast(y, DType::I32)
}

/// The sums of a convolution of `i32`, whatever their size.
fn tap_by_tap(cx: &mut NodeCx<'_, '_>, x: ValueId, w: ValueId) -> Result<ValueId, Cause> {
    let weights = cx.fixed(w, "w")?;
    let spatial = Spatial::read(cx, x, weights.get(2..).unwrap_or_default())?;
    let groups = usize::try_from(cx.attrs.int_or("group", 1)?).unwrap_or(0);
    let [outputs, channels, kernel @ ..] = &weights[..] else { return Err(unsupported("weights of this rank")) };
    if groups == 0 || outputs % groups != 0 {
        return Err(unsupported(format!("{outputs} outputs in {groups} groups")));
    }
    let large = || unsupported("an image that large");
    let mut padded = x;
    for axis in 0..kernel.len() {
        let (before, after) = spatial.pads_at(axis);
        padded = border(cx, padded, axis + 2, before as i64, after as i64)?;
    }
    let batch = cx.dims(x)[0].clone();
    // For each axis how many windows there are.
    let mut counts = Vec::new();
    for (axis, &extent) in kernel.iter().enumerate() {
        let reach = (extent - 1) * spatial.dilations()[axis];
        let free = cx.dims(padded)[axis + 2].sub(&Dim::from(reach + 1)).ok_or_else(large)?;
        let count = free.floor_div(spatial.strides()[axis]).and_then(|n| n.add(&Dim::from(1)));
        counts.push(count.ok_or_else(large)?);
    }
    let windows = Shape(counts.clone()).numel().ok_or_else(large)?;
    let mut sum = None;
    for tap in 0..kernel.iter().product::<usize>() {
        let (mut rest, mut starts, mut w_starts) = (tap, vec![0; kernel.len()], vec![0; kernel.len()]);
        for axis in (0..kernel.len()).rev() {
            w_starts[axis] = rest % kernel[axis];
            starts[axis] = w_starts[axis] * spatial.dilations()[axis];
            rest /= kernel[axis];
        }
        let axes: Vec<usize> = (2..2 + kernel.len()).collect();
        let mut ends = Vec::new();
        for ((&start, count), &stride) in starts.iter().zip(&counts).zip(spatial.strides()) {
            let last = count.sub(&Dim::from(1)).and_then(|n| n.mul(&Dim::from(stride)));
            ends.push(last.and_then(|n| n.add(&Dim::from(start + 1))).ok_or_else(large)?);
        }
        let starts = Shape(starts.into_iter().map(Dim::from).collect());
        let slice = Slice { axes: axes.clone(), starts, ends: Shape(ends), steps: spatial.strides().to_vec() };
        let seen = cx.add(slice, &[padded])?;
        let seen = cx.reshape(seen, vec![batch.clone(), Dim::from(groups), Dim::from(*channels), windows.clone()])?;
        let ends = Shape(w_starts.iter().map(|&s| Dim::from(s + 1)).collect());
        let starts = Shape(w_starts.into_iter().map(Dim::from).collect());
        let one = cx.add(Slice { axes, starts, ends, steps: vec![1; kernel.len()] }, &[w])?;
        let one = cx.reshape(one, [groups, outputs / groups, *channels].map(Dim::from).to_vec())?;
        let product = cx.add(MatMul, &[one, seen])?;
        sum = Some(match sum {
            Some(sum) => cx.simple("add", &[sum, product])?,
            None => product,
        });
    }
    let sum = sum.ok_or_else(|| unsupported("an empty kernel"))?;
    cx.reshape(sum, [&[batch, Dim::from(*outputs)], &counts[..]].concat())
}
