//! Images sampled at computed positions.

use bitc_ir::ops::{Expand, GatherElements, MatMul};
use bitc_ir::{DType, Dim, Shape, Tensor, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::layout::part;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::invalid;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[std("AffineGrid", With(affine_grid)), std("GridSample", With(grid_sample))];

/// Positions from -1 to 1 in an image of the given size, turned by a matrix per sample.
fn affine_grid(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let aligned = cx.attrs.flag("align_corners", false)?;
    let theta = cx.input(0)?;
    let size = cx.build.known_dims(cx.input(1)?, "size")?;
    let sizes: Option<Vec<usize>> = size.get(2..).unwrap_or_default().iter().map(Dim::as_const).collect();
    let sizes = sizes.filter(|s| s.len() == 2 || s.len() == 3);
    let sizes =
        sizes.ok_or_else(|| unsupported("AffineGrid of a symbolic size, or of other than two or three axes,"))?;
    let n = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n < 1 << 26);
    let n = n.ok_or_else(|| unsupported("a grid that large"))?;
    cx.build.budget.charge(n as u64 * 4 * (sizes.len() as u64 + 1), || "a grid".into())?;
    let mut base = Vec::with_capacity(n * (sizes.len() + 1));
    for at in 0..n {
        // The position along each axis, the last one first.
        let mut rest = at;
        for &size in sizes.iter().rev() {
            let i = (rest % size) as f64;
            let place = if aligned { 2.0 * i / (size as f64 - 1.0) - 1.0 } else { (2.0 * i + 1.0) / size as f64 - 1.0 };
            base.push(place as f32);
            rest /= size;
        }
        base.push(1.0);
    }
    let base = cx.constant(Tensor::new(&[n, sizes.len() + 1], &base));
    let base = cx.cast(base, cx.dtype(theta))?;
    let turned = cx.transpose(theta, vec![0, 2, 1])?;
    let grid = cx.add(MatMul, &[base, turned])?;
    let mut dims = vec![cx.dims(theta)[0].clone()];
    dims.extend(sizes.iter().copied().map(Dim::from));
    dims.push(Dim::from(sizes.len()));
    Ok(vec![cx.reshape(grid, dims)?])
}

/// What lies outside of an image.
#[derive(Clone, Copy, PartialEq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// One axis of an image that is sampled.
struct Axis {
    size: usize,
    outside: Outside,
    /// The borders at which positions are reflected.
    low: f64,
    high: f64,
}

fn grid_sample(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let aligned = cx.attrs.flag("align_corners", false)?;
    let mode = cx.attrs.str_or("mode", if cx.version < 20 { "bilinear" } else { "linear" })?;
    let taps: &[i64] = match mode {
        "nearest" => &[0],
        "linear" | "bilinear" => &[0, 1],
        "cubic" | "bicubic" => &[-1, 0, 1, 2],
        other => return Err(invalid("mode", "`linear`, `nearest` or `cubic`", other)),
    };
    let outside = match cx.attrs.str_or("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => return Err(invalid("padding_mode", "`zeros`, `border` or `reflection`", other)),
    };
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let dims = cx.dims(x);
    let sizes: Option<Vec<usize>> = dims.get(2..).unwrap_or_default().iter().map(Dim::as_const).collect();
    let sizes = sizes.ok_or_else(|| unsupported("GridSample of an image of symbolic size"))?;
    let rank = sizes.len();
    if rank == 0 || cx.rank(grid) != rank + 2 || cx.dims(grid).last() != Some(&Dim::from(rank)) {
        return Err(Cause::Type(format!("a grid for {rank} axes expected, found {}", cx.ty(grid))));
    }
    let large = || unsupported("an image that large");
    let places = cx.dims(grid)[1..=rank].to_vec();
    let n_places = Shape(places.clone()).numel().ok_or_else(large)?;
    let flat = vec![dims[0].clone(), n_places.clone()];
    // For each axis and tap its index in the image and its weight; positions are listed last axis first.
    let mut axes = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        let position = part(cx, grid, rank + 1, Dim::from(rank - 1 - i), Dim::from(rank - i))?;
        let position = cx.reshape(position, flat.clone())?;
        let (low, high) = if aligned { (0.0, size as f64 - 1.0) } else { (-0.5, size as f64 - 0.5) };
        let axis = Axis { size, outside, low, high };
        axes.push(axis.taps(cx, position, aligned, taps)?);
    }
    let plane = Shape(dims[2..].to_vec()).numel().ok_or_else(large)?;
    let x = cx.reshape(x, vec![dims[0].clone(), dims[1].clone(), plane])?;
    let picked_shape = Shape(vec![dims[0].clone(), dims[1].clone(), n_places.clone()]);
    let mut sum = None;
    for choice in 0..taps.len().pow(rank as u32) {
        // The index among all elements of a plane, and the product of the weights.
        let (mut rest, mut stride) = (choice, 1);
        let mut chosen: Option<(ValueId, ValueId)> = None;
        for (axis, &size) in axes.iter().zip(&sizes).rev() {
            let (at, share) = axis[rest % taps.len()];
            let rows = with_scalar(cx, "mul", at, stride as f64)?;
            chosen = Some(match chosen {
                Some((index, weight)) => (cx.simple("add", &[rows, index])?, cx.simple("mul", &[share, weight])?),
                None => (rows, share),
            });
            rest /= taps.len();
            stride *= size;
        }
        let Some((index, weight)) = chosen else { continue };
        let index = cx.reshape(index, vec![dims[0].clone(), Dim::from(1), n_places.clone()])?;
        let index = cx.add(Expand { shape: picked_shape.clone() }, &[index])?;
        let picked = cx.add(GatherElements { axis: 2 }, &[x, index])?;
        let weight = cx.reshape(weight, vec![dims[0].clone(), Dim::from(1), n_places.clone()])?;
        let weight = cx.cast(weight, cx.dtype(picked))?;
        let part = cx.simple("mul", &[picked, weight])?;
        sum = Some(match sum {
            Some(sum) => cx.simple("add", &[sum, part])?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| unsupported("an image without axes"))?;
    Ok(vec![cx.reshape(sum, [&dims[..2], &places[..]].concat())?])
}

impl Axis {
    /// For each tap its index in the image, as `i64`, and its weight.
    fn taps(
        &self,
        cx: &mut NodeCx<'_, '_>,
        position: ValueId,
        aligned: bool,
        taps: &[i64],
    ) -> Result<Vec<(ValueId, ValueId)>, Cause> {
        let size = self.size as f64;
        let shifted = with_scalar(cx, "add", position, 1.0)?;
        let mut x = if aligned {
            let half = with_scalar(cx, "div", shifted, 2.0)?;
            with_scalar(cx, "mul", half, size - 1.0)?
        } else {
            let scaled = with_scalar(cx, "mul", shifted, size)?;
            let moved = with_scalar(cx, "sub", scaled, 1.0)?;
            with_scalar(cx, "div", moved, 2.0)?
        };
        if taps.len() == 1 {
            x = cx.simple("round", &[x])?;
        }
        x = match self.outside {
            Outside::Zeros => x,
            Outside::Border => self.clamp(cx, x)?,
            Outside::Reflection => self.reflect(cx, x)?,
        };
        let first = cx.simple("floor", &[x])?;
        let behind = cx.simple("sub", &[x, first])?;
        let mut found = Vec::new();
        for &tap in taps {
            let weight = match taps.len() {
                1 => {
                    let one = cx.scalar(cx.dtype(x), 1.0)?;
                    cx.add(Expand { shape: Shape(cx.dims(x)) }, &[one])?
                }
                2 if tap == 1 => behind,
                2 => {
                    let one = cx.scalar(cx.dtype(x), 1.0)?;
                    cx.simple("sub", &[one, behind])?
                }
                _ => cubic(cx, behind, tap)?,
            };
            let at = with_scalar(cx, "add", first, tap as f64)?;
            found.push(self.inside(cx, at, weight)?);
        }
        Ok(found)
    }

    /// The index of an element that may lie outside, and its weight.
    fn inside(&self, cx: &mut NodeCx<'_, '_>, at: ValueId, weight: ValueId) -> Result<(ValueId, ValueId), Cause> {
        let (at, weight) = match self.outside {
            Outside::Zeros => {
                let not_before = with_scalar(cx, "greater_equal", at, 0.0)?;
                let not_behind = with_scalar(cx, "less", at, self.size as f64)?;
                let seen = cx.simple("and", &[not_before, not_behind])?;
                let zero = cx.scalar(cx.dtype(weight), 0.0)?;
                (at, cx.simple("where", &[seen, weight, zero])?)
            }
            Outside::Border => (at, weight),
            Outside::Reflection => (self.reflect(cx, at)?, weight),
        };
        let at = self.clamp(cx, at)?;
        Ok((cx.cast(at, DType::I64)?, weight))
    }

    /// Limited to the elements of the image.
    fn clamp(&self, cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
        let dtype = cx.dtype(x);
        let (low, high) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, self.size as f64 - 1.0)?);
        cx.add(bitc_ir::ops::Clip, &[x, low, high])
    }

    /// Mirrored at the borders until it lies between them.
    fn reflect(&self, cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
        let range = self.high - self.low;
        if range <= 0.0 {
            return self.clamp(cx, x);
        }
        let from_low = with_scalar(cx, "sub", x, self.low)?;
        let distance = cx.simple("abs", &[from_low])?;
        let turns = with_scalar(cx, "div", distance, range)?;
        let turns = cx.simple("floor", &[turns])?;
        let whole = with_scalar(cx, "mul", turns, range)?;
        let rest = cx.simple("sub", &[distance, whole])?;
        let up = with_scalar(cx, "add", rest, self.low)?;
        let high = cx.scalar(cx.dtype(x), self.high)?;
        let down = cx.simple("sub", &[high, rest])?;
        let half = with_scalar(cx, "mul", turns, 0.5)?;
        let lower = cx.simple("floor", &[half])?;
        let even = cx.simple("equal", &[half, lower])?;
        let mirrored = cx.simple("where", &[even, up, down])?;
        // What lies between the borders keeps its value to the bit.
        let (not_below, not_above) =
            (with_scalar(cx, "greater_equal", x, self.low)?, with_scalar(cx, "less_equal", x, self.high)?);
        let within = cx.simple("and", &[not_below, not_above])?;
        cx.simple("where", &[within, x, mirrored])
    }
}

/// The weight of a tap of Keys' cubic convolution with a = -0.75, for a position `t` behind the tap 0.
fn cubic(cx: &mut NodeCx<'_, '_>, t: ValueId, tap: i64) -> Result<ValueId, Cause> {
    const A: f64 = -0.75;
    // The distance from the tap, and the polynomial of that distance, highest power first.
    let near = tap == 0 || tap == 1;
    let forwards = tap <= 0;
    let d = if forwards {
        with_scalar(cx, "sub", t, tap as f64)?
    } else {
        let tap = cx.scalar(cx.dtype(t), tap as f64)?;
        cx.simple("sub", &[tap, t])?
    };
    let polynomial = if near { [A + 2.0, -(A + 3.0), 0.0, 1.0] } else { [A, -5.0 * A, 8.0 * A, -4.0 * A] };
    let mut value = cx.scalar(cx.dtype(t), polynomial[0])?;
    for &coefficient in &polynomial[1..] {
        value = cx.simple("mul", &[value, d])?;
        value = with_scalar(cx, "add", value, coefficient)?;
    }
    Ok(value)
}
