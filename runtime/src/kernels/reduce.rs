//! Reductions of slices with a stride, accumulated in double precision.

use bitc_format::inst::ReduceOp;

use super::math;

/// Accumulators that run side by side, so that sums become vector code in a fixed order.
const LANES: usize = 8;

/// The sum of `f(x)` in double precision, over eight interleaved parts.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, &v)| *lane += f(f64::from(v)));
    }
    lanes.iter_mut().zip(tail).for_each(|(lane, &v)| *lane += f(f64::from(v)));
    lanes.iter().sum()
}

/// The largest element, NaN if there is one; minus infinity of nothing.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |m, &v| math::max(m, v))
}

/// A reduction while it runs over elements one by one.
#[derive(Clone, Copy)]
pub(crate) struct Accumulator {
    op: ReduceOp,
    value: f64,
    /// The largest element so far, for `log_sum_exp`.
    peak: f64,
    n: usize,
}

impl Accumulator {
    pub(crate) fn new(op: ReduceOp) -> Self {
        let value = match op {
            ReduceOp::Max => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
            ReduceOp::Prod => 1.0,
            _ => 0.0,
        };
        Self { op, value, peak: f64::NEG_INFINITY, n: 0 }
    }

    /// Takes a row of neighbouring elements.
    pub(crate) fn row(&mut self, x: &[f32]) {
        match self.op {
            ReduceOp::Sum | ReduceOp::Mean | ReduceOp::LogSum => self.value += sum(x, |v| v),
            ReduceOp::L1 => self.value += sum(x, f64::abs),
            ReduceOp::L2 | ReduceOp::SumSquare => self.value += sum(x, |v| v * v),
            _ => x.iter().for_each(|&v| self.one(v)),
        }
        self.n += match self.op {
            ReduceOp::Sum | ReduceOp::Mean | ReduceOp::LogSum | ReduceOp::L1 | ReduceOp::L2 | ReduceOp::SumSquare => {
                x.len()
            }
            _ => 0,
        };
    }

    /// Takes one element.
    pub(crate) fn one(&mut self, x: f32) {
        let v = f64::from(x);
        self.n += 1;
        match self.op {
            ReduceOp::Sum | ReduceOp::Mean | ReduceOp::LogSum => self.value += v,
            ReduceOp::L1 => self.value += v.abs(),
            ReduceOp::L2 | ReduceOp::SumSquare => self.value += v * v,
            ReduceOp::Prod => self.value *= v,
            ReduceOp::Max => self.value = if v > self.value || v.is_nan() { v } else { self.value },
            ReduceOp::Min => self.value = if v < self.value || v.is_nan() { v } else { self.value },
            ReduceOp::LogSumExp => {
                if v > self.peak {
                    self.value = self.value * (self.peak - v).exp() + 1.0;
                    self.peak = v;
                } else if v == self.peak {
                    self.value += 1.0;
                } else {
                    self.value += (v - self.peak).exp();
                }
            }
        }
    }

    pub(crate) fn finish(self) -> f32 {
        let value = match self.op {
            ReduceOp::Mean => self.value / self.n as f64,
            ReduceOp::L2 => self.value.sqrt(),
            ReduceOp::LogSum => self.value.ln(),
            ReduceOp::LogSumExp if self.peak == f64::NEG_INFINITY && !self.value.is_nan() => f64::NEG_INFINITY,
            ReduceOp::LogSumExp => self.value.ln() + self.peak,
            _ => self.value,
        };
        value as f32
    }
}
