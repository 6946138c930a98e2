//! Where the maxima under the windows of a pool are, as positions in the whole input.

use bitc_ir::ops::{ArgMax, Concat, Gather, Slice};
use bitc_ir::{Attr, Dim, Shape, Tensor, ValueId};

use super::elementwise::with_scalar;
use super::pool::Spatial;
use crate::error::Cause;
use crate::import::node::{NodeCx, unsupported};

/// The largest window whose maxima are found this way: every element under it becomes a slice of the input.
const MOST_TAPS: usize = 1024;

/// The position of the first maximum under each window, counted over all of `x[n, c, ..]`; within a plane by rows, or by
/// columns.
///
/// The elements under a window are put side by side, and the position of the largest among them says how far it lies from
/// where the window begins.
pub(super) fn of_maxima(
    cx: &mut NodeCx<'_, '_>,
    x: ValueId,
    spatial: &Spatial,
    by_column: bool,
) -> Result<ValueId, Cause> {
    let dims = cx.dims(x);
    let sizes: Option<Vec<usize>> = dims[2..].iter().map(Dim::as_const).collect();
    let sizes = sizes.ok_or_else(|| unsupported("the output `Indices` of MaxPool over a symbolic dimension"))?;
    if spatial.taps() > MOST_TAPS {
        return Err(unsupported(format!("the output `Indices` of MaxPool under {} elements", spatial.taps())));
    }
    let large = || unsupported("an image that large");
    let plane = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(large)?;
    let weights: Vec<usize> = (0..sizes.len())
        .map(|axis| if by_column { &sizes[..axis] } else { &sizes[axis + 1..] })
        .map(|inner| inner.iter().fold(1usize, |n, &d| n.saturating_mul(d)))
        .collect();
    let axes: Vec<Axis> = (0..sizes.len()).map(|i| Axis::new(spatial, i, sizes[i])).collect::<Result<_, _>>()?;

    let padded = border(cx, x, spatial, sizes.len())?;
    let taps = combinations(&axes.iter().map(|axis| axis.taps).collect::<Vec<_>>());
    let mut parts = Vec::new();
    for tap in &taps {
        let starts: Vec<usize> = axes.iter().zip(tap).map(|(axis, t)| t * axis.dilation).collect();
        let ends = axes.iter().zip(&starts).map(|(axis, s)| Dim::from(s + (axis.positions - 1) * axis.stride + 1));
        let slice = Slice {
            axes: (2..2 + axes.len()).collect(),
            ends: Shape(ends.collect()),
            starts: Shape(starts.iter().map(|&s| Dim::from(s)).collect()),
            steps: axes.iter().map(|axis| axis.stride).collect(),
        };
        let part = cx.add(slice, &[padded])?;
        let mut side = cx.dims(part);
        side.push(Dim::from(1));
        parts.push(cx.reshape(part, side)?);
    }
    let side_by_side = cx.add(Concat { axis: -1 }, &parts)?;
    let tap = cx.add(ArgMax { min: false, axis: -1, keep: false, last: false }, &[side_by_side])?;

    let distance = |tap: &Vec<usize>| axes.iter().zip(tap).zip(&weights).map(|((a, t), w)| t * a.dilation * w).sum();
    let distances: Vec<i64> = taps.iter().map(distance).map(|d: usize| d as i64).collect();
    let distances = cx.constant(Tensor::new(&[distances.len()], &distances));
    let distance = cx.add(Gather { axis: 0 }, &[distances, tap])?;

    // Where the window begins is a sum of one number per axis, and of one per plane.
    let mut place = distance;
    for (i, (axis, &weight)) in axes.iter().zip(&weights).enumerate() {
        let mut shape = vec![Dim::from(1); axes.len()];
        shape[i] = Dim::from(axis.positions);
        let steps = counted(cx, &Dim::from(axis.positions), axis.stride as f64 * weight as f64, shape)?;
        let begins = with_scalar(cx, "sub", steps, axis.before as f64 * weight as f64)?;
        place = cx.simple("add", &[place, begins])?;
    }
    let planes = dims[0].mul(&dims[1]).ok_or_else(large)?;
    let mut shape = dims[..2].to_vec();
    shape.extend(sizes.iter().map(|_| Dim::from(1)));
    let first = counted(cx, &planes, plane as f64, shape)?;
    cx.simple("add", &[place, first])
}

/// 0, `step`, 2 * `step`, .. in a shape of as many elements.
fn counted(cx: &mut NodeCx<'_, '_>, count: &Dim, step: f64, shape: Vec<Dim>) -> Result<ValueId, Cause> {
    let positions = cx.named("iota", vec![("count", Attr::from(&Shape(vec![count.clone()])))], &[])?;
    let steps = with_scalar(cx, "mul", positions, step)?;
    cx.reshape(steps, shape)
}

/// A window along one axis.
struct Axis {
    taps: usize,
    dilation: usize,
    stride: usize,
    /// The padding before the axis.
    before: usize,
    /// How many places the window has.
    positions: usize,
}

impl Axis {
    fn new(spatial: &Spatial, axis: usize, size: usize) -> Result<Self, Cause> {
        let (taps, dilation, stride) = (spatial.kernel()[axis], spatial.dilations()[axis], spatial.strides()[axis]);
        let (before, after) = spatial.pads_at(axis);
        let span = (taps - 1).checked_mul(dilation).and_then(|n| n.checked_add(1));
        let padded = size.checked_add(before).and_then(|n| n.checked_add(after));
        let free = padded.zip(span).and_then(|(padded, span)| padded.checked_sub(span));
        let free = free.ok_or_else(|| Cause::Type(format!("a window that fits {size} elements expected")))?;
        Ok(Self { taps, dilation, stride, before, positions: free / stride + 1 })
    }
}

/// `x` with nothing larger than any element in the padding.
fn border(cx: &mut NodeCx<'_, '_>, x: ValueId, spatial: &Spatial, rank: usize) -> Result<ValueId, Cause> {
    let mut pads = vec![0i64; 2 * (rank + 2)];
    for axis in 0..rank {
        let (before, after) = spatial.pads_at(axis);
        (pads[axis + 2], pads[axis + rank + 4]) = (before as i64, after as i64);
    }
    if pads.iter().all(|&p| p == 0) {
        return Ok(x);
    }
    let outside = cx.scalar(cx.dtype(x), f64::NEG_INFINITY)?;
    cx.named("pad", vec![("pads", Attr::Ints(pads))], &[x, outside])
}

/// All positions below some sizes, by rows.
fn combinations(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![Vec::new()], |all, &size| {
        all.iter().flat_map(|head| (0..size).map(|i| [&head[..], &[i]].concat())).collect()
    })
}
