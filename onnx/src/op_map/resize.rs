//! Resizing: every axis by itself, each new position a weighted sum of old ones.

use bitc_ir::ops::Gather;
use bitc_ir::shape_value::number_of;
use bitc_ir::{DType, Dim, Tensor, ValueId};

use super::Rule::With;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[std("Resize", With(resize)), std("Upsample", With(upsample))];

/// How values between positions are found.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

impl Mode {
    fn of(word: &str) -> Result<Self, Cause> {
        match word {
            "nearest" => Ok(Mode::Nearest),
            "linear" | "bilinear" => Ok(Mode::Linear),
            "cubic" => Ok(Mode::Cubic),
            other => Err(invalid("mode", "`nearest`, `linear` or `cubic`", other)),
        }
    }
}

/// What holds for all axes.
struct Plan<'m> {
    mode: Mode,
    coordinates: &'m str,
    nearest: &'m str,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// One axis: its size before and after, the scale, and the part of it that is looked at.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
    region: (f64, f64),
}

fn upsample(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let mode = Mode::of(cx.attrs.str_or("mode", "nearest")?)?;
    let x = cx.input(0)?;
    let scales: Vec<f64> = if cx.version < 9 {
        let scales = cx.attrs.floats("scales")?;
        required("scales", scales)?.iter().map(|&s| f64::from(s)).collect()
    } else {
        cx.build.known_tensor(cx.input(1)?, "scales")?.to_f64()
    };
    let plan = Plan::plain(mode, "asymmetric", "floor");
    let sizes = cx.fixed(x, "X")?;
    let axes = sizes.iter().zip(&scales).map(|(&from, &scale)| Axis::scaled(from, scale).map(Some));
    let axes = axes.collect::<Result<Vec<_>, _>>()?;
    Ok(vec![plan.apply(cx, x, axes)?])
}

fn resize(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 4)?;
    let x = cx.input(0)?;
    let mode = Mode::of(cx.attrs.str_or("mode", "nearest")?)?;
    let old = cx.version < 11;
    let plan = Plan {
        coordinates: cx
            .attrs
            .str_or("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?,
        nearest: cx.attrs.str_or("nearest_mode", if old { "floor" } else { "round_prefer_floor" })?,
        cubic: f64::from(cx.attrs.float_or("cubic_coeff_a", -0.75)?),
        exclude_outside: cx.attrs.flag("exclude_outside", false)?,
        antialias: cx.attrs.flag("antialias", false)?,
        extrapolation: f64::from(cx.attrs.float_or("extrapolation_value", 0.0)?),
        mode,
    };
    let policy = cx.attrs.str_or("keep_aspect_ratio_policy", "stretch")?;
    let rank = cx.rank(x);
    let chosen = match cx.attrs.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    let (roi, scales, sizes) = if old { (None, cx.opt(1), None) } else { (cx.opt(1), cx.opt(2), cx.opt(3)) };
    let not_empty = |cx: &NodeCx<'_, '_>, v: &ValueId| cx.dims(*v).first().is_none_or(|d| d.as_const() != Some(0));
    let scales = scales.filter(|v| not_empty(cx, v));
    let roi = roi.filter(|v| plan.coordinates == "tf_crop_and_resize" && not_empty(cx, v));
    let regions = roi.map(|v| cx.build.known_tensor(v, "roi").map(Tensor::to_f64)).transpose()?;
    let from = cx.dims(x);
    let mut axes: Vec<Option<Axis>> = (0..rank).map(|_| None).collect();
    let size_of = |axis: usize| {
        from[axis]
            .as_const()
            .ok_or_else(|| unsupported(format!("resizing axis {axis} of the symbolic size {}", from[axis])))
    };
    let wrong = |what: &str, n: usize| Cause::Type(format!("{} {what} expected, found {n}", chosen.len()));
    if let Some(sizes) = sizes {
        let sizes = cx.build.known_dims(sizes, "sizes")?;
        if sizes.len() != chosen.len() {
            return Err(wrong("sizes", sizes.len()));
        }
        // An axis that keeps its size, as that of a batch does, needs no number.
        let changing = chosen.iter().zip(&sizes).filter(|&(&axis, to)| policy != "stretch" || *to != from[axis]);
        let number = |(&axis, to): (&usize, &Dim)| match number_of(to) {
            Some(to) => Ok((axis, to)),
            None => Err(unsupported(format!("resizing axis {axis} to the symbolic size {to}"))),
        };
        let targets: Vec<(usize, i64)> = changing.map(number).collect::<Result<_, _>>()?;
        let ratio = |&(axis, to): &(usize, i64)| Ok(to as f64 / size_of(axis)? as f64);
        let ratios = || targets.iter().map(ratio).collect::<Result<Vec<f64>, Cause>>();
        let common = match policy {
            "stretch" => None,
            "not_larger" => Some(ratios()?.into_iter().fold(f64::INFINITY, f64::min)),
            "not_smaller" => Some(ratios()?.into_iter().fold(0.0, f64::max)),
            other => {
                return Err(invalid("keep_aspect_ratio_policy", "`stretch`, `not_larger` or `not_smaller`", other));
            }
        };
        for &(axis, to) in &targets {
            let to = usize::try_from(to).map_err(|_| invalid("sizes", "sizes", to))?;
            if from[axis].as_const() == Some(to) || from[axis] == Dim::from(to) {
                continue;
            }
            let size = size_of(axis)?;
            axes[axis] = Some(match common {
                None => Axis { from: size, to, scale: to as f64 / size as f64, region: (0.0, 1.0) },
                Some(scale) => {
                    Axis { from: size, to: (scale * size as f64 + 0.5).floor() as usize, scale, region: (0.0, 1.0) }
                }
            });
        }
    } else if let Some(scales) = scales {
        let scales = cx.build.known_tensor(scales, "scales")?.to_f64();
        if scales.len() != chosen.len() {
            return Err(wrong("scales", scales.len()));
        }
        for (&axis, &scale) in chosen.iter().zip(&scales).filter(|(_, s)| **s != 1.0) {
            axes[axis] = Some(Axis::scaled(size_of(axis)?, scale)?);
        }
    } else {
        return Err(Cause::Arity("Resize needs `scales` or `sizes`".into()));
    }
    if let Some(regions) = regions {
        if regions.len() != 2 * chosen.len() {
            return Err(wrong("pairs in `roi`", regions.len()));
        }
        for (i, &axis) in chosen.iter().enumerate() {
            let region = (regions[i], regions[i + chosen.len()]);
            let size = size_of(axis)?;
            let own = axes[axis].get_or_insert(Axis { from: size, to: size, scale: 1.0, region });
            own.region = region;
        }
    }
    Ok(vec![plan.apply(cx, x, axes)?])
}

impl Axis {
    fn scaled(from: usize, scale: f64) -> Result<Self, Cause> {
        let to = (from as f64 * scale).floor();
        if !(to >= 0.0 && to < f64::from(1u32 << 31)) || scale <= 0.0 {
            return Err(invalid("scales", "positive numbers", scale));
        }
        Ok(Self { from, to: to as usize, scale, region: (0.0, 1.0) })
    }

    fn is_identity(&self) -> bool {
        self.to == self.from && self.scale == 1.0 && self.region == (0.0, 1.0)
    }
}

/// The old positions and weights that make one new position.
type Taps = Vec<(i64, f64)>;

impl<'m> Plan<'m> {
    fn plain(mode: Mode, coordinates: &'m str, nearest: &'m str) -> Self {
        Self { mode, coordinates, nearest, cubic: -0.75, exclude_outside: false, antialias: false, extrapolation: 0.0 }
    }

    /// Resizes one axis after the other; those without a plan stay.
    fn apply(&self, cx: &mut NodeCx<'_, '_>, x: ValueId, axes: Vec<Option<Axis>>) -> Result<ValueId, Cause> {
        let dtype = cx.dtype(x);
        let rank = cx.rank(x);
        let mut y = x;
        if self.mode != Mode::Nearest {
            if !dtype.is_float() {
                return Err(unsupported(format!("interpolating {dtype}")));
            }
            y = cx.cast(x, super::loss::accumulator(dtype))?;
        }
        let mut outside: Vec<(usize, Vec<u8>)> = Vec::new();
        for (at, axis) in axes.iter().enumerate() {
            let Some(axis) = axis.as_ref().filter(|a| !a.is_identity()) else { continue };
            let mut positions = Vec::new();
            for i in 0..axis.to {
                positions.push(self.coordinate(axis, i)?);
            }
            if self.coordinates == "tf_crop_and_resize" {
                let last = axis.from as f64 - 1.0;
                let beyond = |p: &f64| u8::from(*p < 0.0 || *p > last);
                outside.push((at, positions.iter().map(beyond).collect()));
            }
            let taps = positions.iter().map(|&p| self.taps(axis, p)).collect::<Result<Vec<_>, _>>()?;
            y = resample(cx, y, at, axis.from, &taps)?;
        }
        let extrapolation = cx.scalar(cx.dtype(y), self.extrapolation)?;
        for (at, beyond) in outside.into_iter().filter(|(_, b)| b.contains(&1)) {
            let mask = cx.constant(Tensor::with_dtype(DType::Bool, &[beyond.len()], &beyond));
            let mut dims = vec![Dim::from(1); rank];
            dims[at] = Dim::from(beyond.len());
            let mask = cx.reshape(mask, dims)?;
            y = cx.simple("where", &[mask, extrapolation, y])?;
        }
        cx.cast(y, dtype)
    }

    /// The old position, in fractions, of a new one.
    fn coordinate(&self, axis: &Axis, i: usize) -> Result<f64, Cause> {
        let (from, i, scale) = (axis.from as f64, i as f64, axis.scale);
        // The new size before it is rounded down.
        let to = from * scale;
        let half_pixel = (i + 0.5) / scale - 0.5;
        Ok(match self.coordinates {
            "half_pixel" => half_pixel,
            "pytorch_half_pixel" if to != 1.0 => half_pixel,
            "pytorch_half_pixel" => 0.0,
            "align_corners" if to != 1.0 => i * (from - 1.0) / (to - 1.0),
            "align_corners" => 0.0,
            "asymmetric" => i / scale,
            "half_pixel_symmetric" => {
                let adjustment = axis.to as f64 / to;
                from / 2.0 * (1.0 - adjustment) + half_pixel
            }
            "tf_crop_and_resize" => {
                let (start, end) = axis.region;
                if to != 1.0 {
                    start * (from - 1.0) + i * (end - start) * (from - 1.0) / (to - 1.0)
                } else {
                    0.5 * (start + end) * (from - 1.0)
                }
            }
            other => return Err(invalid("coordinate_transformation_mode", "a known mode", other)),
        })
    }

    fn taps(&self, axis: &Axis, p: f64) -> Result<Taps, Cause> {
        if self.mode == Mode::Nearest {
            let nearest = match self.nearest {
                "round_prefer_floor" => (p - 0.5).ceil(),
                "round_prefer_ceil" => (p + 0.5).floor(),
                "floor" => p.floor(),
                "ceil" => p.ceil(),
                other => return Err(invalid("nearest_mode", "a known mode", other)),
            };
            return Ok(vec![(nearest as i64, 1.0)]);
        }
        // When shrinking with antialiasing the filter is as much wider as the image gets smaller.
        let shrink = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        let radius = if self.mode == Mode::Linear { 1.0 } else { 2.0 } / shrink;
        let (first, last) = ((p - radius).floor() as i64 + 1, (p + radius).ceil() as i64 - 1);
        if last - first > 4096 {
            return Err(unsupported("shrinking that much with antialiasing"));
        }
        let mut taps: Taps = (first..=last).map(|j| (j, self.weight((j as f64 - p) * shrink))).collect();
        if self.exclude_outside {
            let size = i64::try_from(axis.from).unwrap_or(i64::MAX);
            taps.iter_mut().filter(|(j, _)| *j < 0 || *j >= size).for_each(|(_, w)| *w = 0.0);
        }
        let total: f64 = taps.iter().map(|(_, w)| w).sum();
        if total != 0.0 && (self.exclude_outside || shrink < 1.0) {
            taps.iter_mut().for_each(|(_, w)| *w /= total);
        }
        Ok(taps)
    }

    /// The filter at a distance.
    fn weight(&self, distance: f64) -> f64 {
        let d = distance.abs();
        if self.mode == Mode::Linear {
            return (1.0 - d).max(0.0);
        }
        let a = self.cubic;
        if d <= 1.0 {
            ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
        } else if d < 2.0 {
            ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
        } else {
            0.0
        }
    }
}

/// The weighted sums along an axis; positions beyond the ends are those of the ends.
fn resample(cx: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, size: usize, taps: &[Taps]) -> Result<ValueId, Cause> {
    let last = i64::try_from(size).unwrap_or(i64::MAX) - 1;
    let count = taps.iter().map(Vec::len).max().unwrap_or(0);
    let mut weight_dims = vec![Dim::from(1); cx.rank(x)];
    weight_dims[axis] = Dim::from(taps.len());
    let mut sum = None;
    for t in 0..count {
        let tap = |all: &Taps| all.get(t).copied().unwrap_or((0, 0.0));
        let indices: Vec<i64> = taps.iter().map(|all| tap(all).0.clamp(0, last.max(0))).collect();
        let weights: Vec<f32> = taps.iter().map(|all| tap(all).1 as f32).collect();
        if weights.iter().all(|&w| w == 0.0) {
            continue;
        }
        let indices = cx.constant(Tensor::new(&[indices.len()], &indices));
        let mut term = cx.add(Gather { axis: axis as i64 }, &[x, indices])?;
        if weights.iter().any(|&w| w != 1.0) {
            let weights = cx.constant(Tensor::new(&[weights.len()], &weights));
            let weights = cx.reshape(weights, weight_dims.clone())?;
            let weights = cx.cast(weights, cx.dtype(x))?;
            term = cx.simple("mul", &[term, weights])?;
        }
        sum = Some(match sum {
            Some(sum) => cx.simple("add", &[sum, term])?,
            None => term,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => {
            let none = cx.constant(Tensor::new::<i64>(&[0], &[]));
            cx.add(Gather { axis: axis as i64 }, &[x, none])
        }
    }
}
