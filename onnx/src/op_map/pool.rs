//! Pools, and the geometry of windows that convolutions share with them.

use bitc_ir::ops::{Expand, Reduce, reduce::ReduceKind};
use bitc_ir::{Attr, DType, Dim, Shape, ValueId};

use super::Rule::With;
use super::depth::Depth;
use super::elementwise::with_scalar;
use super::indices;
use super::product::AttrList;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("MaxPool", With(max_pool)),
    std("AveragePool", With(average_pool)),
    std("LpPool", With(lp_pool)),
    std("GlobalAveragePool", With(|cx| global(cx, ReduceKind::Mean))),
    std("GlobalMaxPool", With(|cx| global(cx, ReduceKind::Max))),
    std("GlobalLpPool", With(global_lp)),
];

/// Padding chosen by the output size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum AutoPad {
    /// Half on each side, the odd one at the end.
    SameUpper,
    /// Half on each side, the odd one at the beginning.
    SameLower,
    /// None.
    Valid,
}

impl AutoPad {
    /// Whether the size of the result is chosen.
    pub(super) fn is_same(self) -> bool {
        self != AutoPad::Valid
    }

    /// Whether an odd element of padding goes to the end.
    pub(super) fn is_upper(self) -> bool {
        self == AutoPad::SameUpper
    }
}

/// Reads `auto_pad`; `None` where padding is explicit.
fn auto_pad(cx: &mut NodeCx<'_, '_>) -> Result<Option<AutoPad>, Cause> {
    match cx.attrs.str_or("auto_pad", "NOTSET")? {
        "NOTSET" | "" => Ok(None),
        "SAME_UPPER" => Ok(Some(AutoPad::SameUpper)),
        "SAME_LOWER" => Ok(Some(AutoPad::SameLower)),
        "VALID" => Ok(Some(AutoPad::Valid)),
        other => Err(invalid("auto_pad", "`NOTSET`, `SAME_UPPER`, `SAME_LOWER` or `VALID`", other)),
    }
}

/// Where a window goes over the axes behind the first two.
#[derive(Clone, Debug)]
pub(super) struct Spatial {
    /// The number of spatial axes of the node, 1 to 3.
    rank: usize,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Beginnings of all axes, then ends.
    pads: Vec<usize>,
}

impl Spatial {
    /// Reads the attributes of a window over `x`. An empty kernel is read from `kernel_shape`.
    pub(super) fn read(cx: &mut NodeCx<'_, '_>, x: ValueId, weights: &[usize]) -> Result<Self, Cause> {
        let (mut spatial, auto) = Self::read_unpadded(cx, x, weights)?;
        spatial.resolve(auto, &cx.dims(x))?;
        Ok(spatial)
    }

    /// As `read`, with the padding that `auto_pad` asks for left open.
    pub(super) fn read_unpadded(
        cx: &mut NodeCx<'_, '_>,
        x: ValueId,
        weights: &[usize],
    ) -> Result<(Self, Option<AutoPad>), Cause> {
        let rank = cx.rank(x).saturating_sub(2);
        if cx.rank(x) < 3 || rank > 3 {
            return Err(unsupported(format!("{} over {rank} spatial axes", cx.op)));
        }
        let stated = cx.attrs.ints("kernel_shape")?;
        let kernel = match stated {
            Some(shape) => sizes("kernel_shape", shape, rank)?,
            None if weights.len() == rank => weights.to_vec(),
            None => return Err(required::<()>("kernel_shape", None).err().unwrap_or_else(|| unsupported("no kernel"))),
        };
        if !weights.is_empty() && kernel != weights {
            return Err(invalid("kernel_shape", &format!("{weights:?} as in the weights"), format!("{kernel:?}")));
        }
        let strides = cx.attrs.ints("strides")?.map_or(Ok(vec![1; rank]), |s| sizes("strides", s, rank))?;
        let dilations = cx.attrs.ints("dilations")?.map_or(Ok(vec![1; rank]), |s| sizes("dilations", s, rank))?;
        let explicit = cx.attrs.ints("pads")?;
        let auto = auto_pad(cx)?;
        let pads = match explicit.filter(|_| auto.is_none()) {
            Some(pads) => explicit_pads(pads, rank)?,
            None => vec![0; 2 * rank],
        };
        Ok((Self { rank, kernel, strides, dilations, pads }, auto))
    }

    /// Widens the padding at the ends so that windows that reach beyond the padded input lie within it, as `ceil_mode`
    /// has them; each still begins before the padding at the end.
    pub(super) fn round_up(&mut self, dims: &[Dim]) -> Result<(), Cause> {
        for axis in 0..self.rank {
            let size = dims.get(axis + 2).and_then(Dim::as_const);
            let size = size.ok_or_else(|| unsupported("`ceil_mode` over a symbolic dimension"))?;
            let span = (self.kernel[axis] - 1).saturating_mul(self.dilations[axis]).saturating_add(1);
            let (before, after) = self.pads_at(axis);
            let (begin, stride) = (size.saturating_add(before), self.strides[axis]);
            let end = begin.saturating_add(after);
            let steps = end.saturating_sub(span).div_ceil(stride);
            let steps = if steps.saturating_mul(stride) >= begin { steps.saturating_sub(1) } else { steps };
            let needed = steps.saturating_mul(stride).saturating_add(span);
            self.pads[axis + self.rank] = after.saturating_add(needed.saturating_sub(end));
        }
        Ok(())
    }

    /// The number of elements under the window.
    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().fold(1usize, |n, &k| n.saturating_mul(k))
    }

    /// The sizes of the window.
    pub(super) fn kernel(&self) -> &[usize] {
        &self.kernel
    }

    /// The first of three axes.
    pub(super) fn depth(&self) -> Option<Depth> {
        (self.rank == 3).then(|| Depth {
            kernel: self.kernel[0],
            stride: self.strides[0],
            dilation: self.dilations[0],
            pads: self.pads_at(0),
        })
    }

    /// The steps.
    pub(super) fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The distances between elements of the window.
    pub(super) fn dilations(&self) -> &[usize] {
        &self.dilations
    }

    /// The padding before and behind an axis.
    pub(super) fn pads_at(&self, axis: usize) -> (usize, usize) {
        (self.pads[axis], self.pads[axis + self.rank])
    }

    /// The attribute `dilations` of the two-dimensional operations.
    pub(super) fn two_dilations(&self) -> Attr {
        Attr::Ints(self.two(&self.dilations, 1))
    }

    /// Chooses the padding that `auto_pad` asks for.
    fn resolve(&mut self, auto: Option<AutoPad>, dims: &[Dim]) -> Result<(), Cause> {
        let Some(auto) = auto.filter(|&a| a != AutoPad::Valid) else { return Ok(()) };
        for axis in 0..self.rank {
            let size = dims.get(axis + 2).and_then(Dim::as_const);
            let span = (self.kernel[axis].saturating_sub(1)).saturating_mul(self.dilations[axis]).saturating_add(1);
            let total = match size {
                Some(size) => {
                    let steps = size.div_ceil(self.strides[axis]).saturating_sub(1);
                    steps.saturating_mul(self.strides[axis]).saturating_add(span).saturating_sub(size)
                }
                // With steps of one the padding does not depend on the size.
                None if self.strides[axis] == 1 => span - 1,
                None => return Err(unsupported("`auto_pad` over a symbolic dimension")),
            };
            let (small, large) = (total / 2, total - total / 2);
            let (begin, end) = if auto == AutoPad::SameUpper { (small, large) } else { (large, small) };
            (self.pads[axis], self.pads[axis + self.rank]) = (begin, end);
        }
        Ok(())
    }

    /// The attributes `strides`, `pads` and `dilations` of the two-dimensional operations.
    pub(super) fn window_attrs(&self) -> AttrList {
        let two = |v: &[usize], fill: i64| -> Attr { Attr::Ints(self.two(v, fill)) };
        let pads = [self.two(&self.pads[..self.rank], 0), self.two(&self.pads[self.rank..], 0)].concat();
        vec![("strides", two(&self.strides, 1)), ("dilations", two(&self.dilations, 1)), ("pads", Attr::Ints(pads))]
    }

    /// Numbers of the last two axes.
    fn two(&self, v: &[usize], fill: i64) -> Vec<i64> {
        let v = v.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX));
        match self.rank {
            1 => std::iter::once(fill).chain(v).collect(),
            rank => v.skip(rank - 2).collect(),
        }
    }

    /// A tensor with one spatial axis as one with two, the first of size one.
    pub(super) fn widen(&self, cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
        if self.rank != 1 || cx.rank(x) != 3 {
            return Ok(x);
        }
        let mut dims = cx.dims(x);
        dims.insert(2, Dim::from(1));
        cx.reshape(x, dims)
    }

    /// Undoes `widen`.
    pub(super) fn narrow(&self, cx: &mut NodeCx<'_, '_>, y: ValueId) -> Result<ValueId, Cause> {
        if self.rank != 1 || cx.rank(y) != 4 {
            return Ok(y);
        }
        let mut dims = cx.dims(y);
        dims.remove(2);
        cx.reshape(y, dims)
    }
}

/// Padding at the beginnings and ends of all axes.
fn explicit_pads(list: &[i64], rank: usize) -> Result<Vec<usize>, Cause> {
    if list.iter().any(|&p| p < 0) {
        return Err(unsupported(format!("negative padding {list:?}")));
    }
    let found: Vec<usize> = list.iter().filter_map(|&p| usize::try_from(p).ok()).collect();
    if found.len() != 2 * rank {
        return Err(invalid("pads", &format!("{} numbers", 2 * rank), format!("{list:?}")));
    }
    Ok(found)
}

/// As many positive sizes as there are axes.
fn sizes(name: &'static str, list: &[i64], rank: usize) -> Result<Vec<usize>, Cause> {
    let found: Vec<usize> = list.iter().filter_map(|&n| usize::try_from(n).ok().filter(|&n| n > 0)).collect();
    if found.len() != rank || list.len() != rank {
        return Err(invalid(name, &format!("{rank} positive numbers"), format!("{list:?}")));
    }
    Ok(found)
}

/// The windows of a pool.
struct Windows {
    spatial: Spatial,
    /// Whether those that reach beyond the padded input count; over three axes padding was widened instead.
    ceil: bool,
    /// The padding before it was widened.
    stated: Vec<usize>,
}

impl Windows {
    fn read(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Self, Cause> {
        let ceil = cx.attrs.flag("ceil_mode", false)?;
        let mut spatial = Spatial::read(cx, x, &[])?;
        let stated = spatial.pads.clone();
        if ceil && spatial.rank == 3 {
            spatial.round_up(&cx.dims(x))?;
        }
        Ok(Self { ceil: ceil && spatial.rank < 3, spatial, stated })
    }
}

/// A pool by the two-dimensional operation of that name.
///
/// Over three axes the first is pooled by an operation of its own, with a number of its own in the padding.
fn pool(
    cx: &mut NodeCx<'_, '_>,
    name: &str,
    x: ValueId,
    Windows { spatial, ceil, .. }: &Windows,
    extra: AttrList,
    over_depth: (&str, f64),
) -> Result<ValueId, Cause> {
    let mut attrs = spatial.window_attrs();
    attrs.push(("kernel", Attr::Ints(spatial.two(&spatial.kernel, 1))));
    attrs.push(("ceil", (*ceil).into()));
    attrs.extend(extra);
    if let Some(depth) = spatial.depth() {
        let (combine, outside) = over_depth;
        return depth.fold(cx, x, outside, combine, |cx, plane, _| cx.named(name, attrs.clone(), &[plane]));
    }
    let wide = spatial.widen(cx, x)?;
    let y = cx.named(name, attrs, &[wide])?;
    spatial.narrow(cx, y)
}

/// The sums under the windows, where padding counts as zeros.
fn sums(cx: &mut NodeCx<'_, '_>, x: ValueId, window: &Windows) -> Result<ValueId, Cause> {
    let mean = pool(cx, "avg_pool2d", x, window, vec![("count_padding", true.into())], ("add", 0.0))?;
    let planar = window.spatial.kernel.iter().rev().take(2).fold(1usize, |n, &k| n.saturating_mul(k));
    with_scalar(cx, "mul", mean, planar as f64)
}

/// An input of a pool in single precision; a type that does not fit is refused.
fn single(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    let dtype = cx.dtype(x);
    if matches!(dtype, DType::F64 | DType::I64 | DType::U64 | DType::I32 | DType::U32) {
        return Err(unsupported(format!("{} on {dtype}", cx.op)));
    }
    cx.cast(x, DType::F32)
}

fn max_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let by_column = cx.attrs.flag("storage_order", false)?;
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let wide = single(cx, x)?;
    let windows = Windows::read(cx, x)?;
    let y = pool(cx, "max_pool2d", wide, &windows, Vec::new(), ("max", f64::NEG_INFINITY))?;
    let mut outputs = vec![cx.cast(y, dtype)?];
    if cx.wants(1) {
        let mut spatial = windows.spatial;
        if windows.ceil {
            spatial.round_up(&cx.dims(x))?;
        }
        outputs.push(indices::of_maxima(cx, wide, &spatial, by_column)?);
    }
    Ok(outputs)
}

fn average_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let counts = cx.attrs.flag("count_include_pad", false)?;
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let wide = single(cx, x)?;
    let windows = Windows::read(cx, x)?;
    let y = if cx.rank(x) < 5 {
        pool(cx, "avg_pool2d", wide, &windows, vec![("count_padding", counts.into())], ("add", 0.0))?
    } else {
        average_over_three(cx, wide, &windows, counts)?
    };
    Ok(vec![cx.cast(y, dtype)?])
}

/// The sums under the windows by the number of elements that count.
fn average_over_three(cx: &mut NodeCx<'_, '_>, x: ValueId, windows: &Windows, counts: bool) -> Result<ValueId, Cause> {
    let total = sums(cx, x, windows)?;
    let (mut spatial, stated) = (windows.spatial.clone(), windows.stated.clone());
    if spatial.pads.iter().all(|&p| p == 0) || counts && spatial.pads == stated {
        return with_scalar(cx, "div", total, spatial.taps() as f64);
    }
    // How many elements count is the sum over an image of ones.
    let mut dims = vec![1, 1];
    for axis in 0..3 {
        let size = cx.dims(x)[axis + 2].as_const();
        let mut size = size.ok_or_else(|| unsupported("uneven padding of a symbolic dimension"))?;
        if counts {
            let (before, after) = (stated[axis], stated[axis + 3]);
            size = size.saturating_add(before).saturating_add(after);
            spatial.pads[axis] = 0;
            spatial.pads[axis + 3] -= after;
        }
        dims.push(size);
    }
    let one = cx.scalar(DType::F32, 1.0)?;
    let ones = cx.add(Expand { shape: Shape::fixed(&dims) }, &[one])?;
    let count = sums(cx, ones, &Windows { spatial, ceil: false, stated })?;
    cx.simple("div", &[total, count])
}

/// The p-th root of the sum of p-th powers under each window.
fn lp_pool(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let p = f64::from(cx.attrs.int_or("p", 2)? as i32);
    let x = cx.input(0)?;
    let windows = Windows::read(cx, x)?;
    let powers = powers(cx, x, p)?;
    let sum = sums(cx, powers, &windows)?;
    Ok(vec![with_scalar(cx, "pow", sum, 1.0 / p)?])
}

fn powers(cx: &mut NodeCx<'_, '_>, x: ValueId, p: f64) -> Result<ValueId, Cause> {
    let magnitude = cx.simple("abs", &[x])?;
    with_scalar(cx, "pow", magnitude, p)
}

fn over_space(cx: &mut NodeCx<'_, '_>, kind: ReduceKind, x: ValueId) -> Result<ValueId, Cause> {
    let axes: Vec<i64> = (2..cx.rank(x) as i64).collect();
    if axes.is_empty() {
        return Err(Cause::Type(format!("expected a tensor of rank 3 or more, found {}", cx.ty(x))));
    }
    cx.add(Reduce { kind, axes, keep: true }, &[x])
}

fn global(cx: &mut NodeCx<'_, '_>, kind: ReduceKind) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    Ok(vec![over_space(cx, kind, x)?])
}

fn global_lp(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let p = f64::from(cx.attrs.int_or("p", 2)? as i32);
    let x = cx.input(0)?;
    let powers = powers(cx, x, p)?;
    let sum = over_space(cx, ReduceKind::Sum, powers)?;
    Ok(vec![with_scalar(cx, "pow", sum, 1.0 / p)?])
}
