//! Quantisation of activations: a scale from the largest magnitude, then integers rounded half to even.
//!
//! Divisions and multiplications are those of IEEE, on every instruction set. Rounding adds and takes away a large
//! number, which no vector width changes.

use bitc_format::inst::{Floor, Quantize, QuantizeKind};

use super::math;
use crate::isa::{By, DIVISORS, Isa};

/// How values that share a scale become integers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QuantizeRule {
    /// How the largest magnitude gives the scale.
    pub kind: QuantizeKind,
    /// What keeps the divisor of [`QuantizeKind::Divide`] from 0.
    pub floor: Floor,
    /// The value that the floor, [`QuantizeKind::Reciprocal`] or [`QuantizeKind::Quotient`] uses.
    pub eps: f32,
    /// What the largest magnitude becomes.
    pub levels: f32,
    /// The smallest integer.
    pub lo: i8,
    /// The largest integer.
    pub hi: i8,
}

impl From<&Quantize> for QuantizeRule {
    fn from(inst: &Quantize) -> Self {
        let byte = |v: i32| i8::try_from(v).unwrap_or(if v < 0 { i8::MIN } else { i8::MAX });
        let Quantize { kind, floor, eps, levels, lo, hi, .. } = *inst;
        Self { kind, floor, eps, levels, lo: byte(lo), hi: byte(hi) }
    }
}

impl QuantizeRule {
    /// The scale and how values are divided by it, for the largest magnitude of the values that share it.
    fn scaling(&self, max: f32) -> Scaling {
        match self.kind {
            QuantizeKind::Divide => {
                let scale = max / self.levels;
                match self.floor {
                    Floor::None => Scaling { scale, by: By::Divisor(scale) },
                    Floor::Add => Scaling { scale, by: By::Divisor(scale + self.eps) },
                    Floor::Clip => {
                        let scale = scale.max(self.eps);
                        Scaling { scale, by: By::Divisor(scale) }
                    }
                }
            }
            QuantizeKind::Reciprocal => {
                let factor = (1.0 / max.max(self.eps)) * self.levels;
                Scaling { scale: 1.0 / factor, by: By::Factor(factor) }
            }
            QuantizeKind::Quotient => {
                let factor = self.levels / max.max(self.eps);
                Scaling { scale: 1.0 / factor, by: By::Factor(factor) }
            }
            QuantizeKind::Integer => Scaling { scale: 1.0, by: By::Factor(1.0) },
        }
    }

    /// The scaling of values that share it, and whether they then need no limits.
    #[inline(always)]
    fn scaling_of(&self, x: &[f32]) -> (Scaling, bool) {
        let max = if self.kind == QuantizeKind::Integer { Max::Nan(0.0) } else { absmax(x) };
        let scaling = self.scaling(max.of_numbers());
        (scaling, self.fits(max, scaling))
    }

    /// Whether scaled values need no limits: they are numbers, and the largest magnitude is within both.
    fn fits(&self, max: Max, scaling: Scaling) -> bool {
        let Max::Numbers(max) = max else { return false };
        let largest = match scaling.by {
            By::Divisor(divisor) if DIVISORS.contains(&divisor) => max / divisor,
            By::Divisor(_) => return false,
            By::Factor(factor) => (max * factor).abs(),
        };
        largest < f32::from(self.hi) + 0.5 && -largest > f32::from(self.lo) - 0.5
    }
}

/// Which values share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// That many rows in turn: 1 for a scale per row, all of them for one scale.
    Rows(usize),
    /// The values at the same place in each of `channels` neighbouring blocks of `rows` rows.
    Channels {
        /// The blocks that share scales.
        channels: usize,
        /// Rows of a block.
        rows: usize,
    },
}

/// Where the results of a quantisation go.
#[derive(Debug)]
pub struct Quantized<'a> {
    /// The integers.
    pub q: &'a mut [i8],
    /// From one row of `q` to the next, at least the columns.
    pub pitch: usize,
    /// The scales, in the order of the values with the shared axes left out.
    pub scale: &'a mut [f32],
    /// The sum of the integers of each row.
    pub sums: Option<&'a mut [i32]>,
}

/// What a scale makes of values.
#[derive(Clone, Copy)]
struct Scaling {
    scale: f32,
    by: By,
}

#[inline(always)]
pub(super) fn quantize(
    isa: impl Isa,
    x: &[f32],
    columns: usize,
    rule: &QuantizeRule,
    sharing: Sharing,
    mut out: Quantized<'_>,
) {
    let rows = out.q.len().checked_div(out.pitch).unwrap_or(0);
    assert!(columns <= out.pitch && out.q.len() == rows * out.pitch, "rows of {columns} with a pitch of {}", out.pitch);
    assert!(x.len() == rows * columns, "{} values are not {rows} rows of {columns}", x.len());
    assert!(out.sums.as_ref().is_none_or(|sums| sums.len() == rows), "one sum per row");
    match sharing {
        Sharing::Rows(shared) => {
            let groups = if shared == 0 { 0 } else { rows.div_ceil(shared) };
            assert!(groups * shared == rows && out.scale.len() == groups, "one scale for each {shared} rows");
            let mut coming = None;
            for group in 0..=groups {
                // A scale takes a while from the last value on, in which the values before it are rounded.
                let next =
                    (group < groups).then(|| rule.scaling_of(&x[group * shared * columns..][..shared * columns]));
                let Some((scaling, fits)) = core::mem::replace(&mut coming, next) else { continue };
                out.scale[group - 1] = scaling.scale;
                for row in (group - 1) * shared..group * shared {
                    let x = &x[row * columns..][..columns];
                    let q = &mut out.q[row * out.pitch..][..out.pitch];
                    let sum = if fits { isa.round_row(x, scaling.by, q) } else { row_of(x, scaling.by, rule, q) };
                    if let Some(sums) = &mut out.sums {
                        sums[row] = sum;
                    }
                }
            }
        }
        Sharing::Channels { channels, rows: inner } => over_channels(x, columns, rule, [channels, inner], &mut out),
    }
}

/// The largest magnitude of numbers, 0 without one.
#[derive(Clone, Copy)]
enum Max {
    /// All values are numbers.
    Numbers(f32),
    /// Others are there, or may be.
    Nan(f32),
}

impl Max {
    fn of_numbers(self) -> f32 {
        let (Self::Numbers(max) | Self::Nan(max)) = self;
        max
    }
}

#[inline(always)]
fn absmax(x: &[f32]) -> Max {
    // The bits of magnitudes are ordered as they are, and a maximum of integers may be taken in any order. What is no
    // number is larger than any.
    const INFINITY: i32 = f32::INFINITY.to_bits() as i32;
    let max = x.iter().fold(0i32, |max, x| max.max(x.abs().to_bits() as i32));
    if max <= INFINITY {
        return Max::Numbers(f32::from_bits(max as u32));
    }
    let numbers = x.iter().map(|x| x.abs().to_bits() as i32).map(|bits| if bits > INFINITY { 0 } else { bits });
    Max::Nan(f32::from_bits(numbers.fold(0, i32::max) as u32))
}

/// Quantises values that share a scale; returns the sum of the integers.
#[cfg_attr(not(feature = "minimal"), inline(always))]
#[cfg_attr(feature = "minimal", inline(never))]
fn row_of(x: &[f32], by: By, rule: &QuantizeRule, q: &mut [i8]) -> i32 {
    let (q, rest) = q.split_at_mut(x.len());
    rest.fill(0);
    match by {
        By::Divisor(divisor) => map(x, q, rule, |x| x / divisor),
        By::Factor(factor) => map(x, q, rule, |x| x * factor),
    }
}

#[inline(always)]
fn map(x: &[f32], q: &mut [i8], rule: &QuantizeRule, scaled: impl Fn(f32) -> f32) -> i32 {
    let (lo, hi) = (f32::from(rule.lo), f32::from(rule.hi));
    let mut sum = 0i32;
    for (q, &x) in q.iter_mut().zip(x) {
        let integer = round_within(scaled(x), lo, hi);
        *q = integer as i8;
        sum = sum.wrapping_add(integer);
    }
    sum
}

/// Rounds half to even, then limits to bounds that fit 8 bits; NaN becomes 0.
#[inline(always)]
fn round_within(v: f32, lo: f32, hi: f32) -> i32 {
    let v = if v.is_nan() { 0.0 } else { v };
    // The bounds are integers, so limiting first comes to the same.
    let v = if v > lo { v } else { lo };
    let v = if v < hi { v } else { hi };
    math::small_integer(v)
}

/// Places whose channels are worked on together.
const PLACES: usize = 64;

/// Quantises with one scale per place of a block of rows.
#[cfg_attr(not(feature = "minimal"), inline(always))]
#[cfg_attr(feature = "minimal", inline(never))]
fn over_channels(x: &[f32], columns: usize, rule: &QuantizeRule, shape: [usize; 2], out: &mut Quantized<'_>) {
    let [channels, inner] = shape;
    let block = inner * columns;
    let outer = x.len().checked_div(channels * block).unwrap_or(0);
    assert!(x.len() == outer * channels * block, "blocks of {channels} x {inner} x {columns}");
    assert!(out.scale.len() == outer * block, "one scale per place");
    out.q.fill(0);
    for sample in 0..outer {
        for row in 0..inner {
            for start in (0..columns).step_by(PLACES) {
                let len = PLACES.min(columns - start);
                let at = |channel: usize| ((sample * channels + channel) * inner + row) * columns + start;
                let mut max = [0f32; PLACES];
                for channel in 0..channels {
                    for (max, x) in max.iter_mut().zip(&x[at(channel)..][..len]) {
                        let magnitude = x.abs();
                        *max = if magnitude > *max { magnitude } else { *max };
                    }
                }
                let scaling = max.map(|max| rule.scaling(max));
                let scales = &mut out.scale[(sample * inner + row) * columns + start..][..len];
                for (scale, scaling) in scales.iter_mut().zip(&scaling) {
                    *scale = scaling.scale;
                }
                for channel in 0..channels {
                    let q = &mut out.q[((sample * channels + channel) * inner + row) * out.pitch + start..][..len];
                    for ((q, &x), scaling) in q.iter_mut().zip(&x[at(channel)..][..len]).zip(&scaling) {
                        let v = match scaling.by {
                            By::Divisor(divisor) => x / divisor,
                            By::Factor(factor) => x * factor,
                        };
                        *q = round_within(v, rule.lo.into(), rule.hi.into()) as i8;
                    }
                }
            }
        }
    }
    if let Some(sums) = &mut out.sums {
        for (sum, q) in sums.iter_mut().zip(out.q.chunks_exact(out.pitch)) {
            *sum = q.iter().map(|&q| i32::from(q)).sum();
        }
    }
}
