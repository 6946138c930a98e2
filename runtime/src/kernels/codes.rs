//! Integers of 8 bits with a fixed step.

use bitc_format::inst::Steps;

use super::math::{ROUND, small_integer};
use crate::isa::{Isa, PANEL};

/// Where integers with a fixed step go.
#[derive(Debug, Default)]
pub struct Codes<'a> {
    /// The integers.
    pub q: &'a mut [i8],
    /// From one row of `q` to the next, at least the columns; what lies between becomes zero.
    pub pitch: usize,
    /// The sum of the integers of each row.
    pub sums: Option<&'a mut [i32]>,
}

/// [`Steps`] with what all values share computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coder {
    step: Step,
    offset: i32,
    /// The bounds before the offset is added.
    lo: f32,
    hi: f32,
    /// What becomes 0.
    none: f32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Multiply(f32),
    Divide(f32),
    /// A division whose quotients the product with the inverse tells, unless they are so close to the middle between two
    /// integers.
    Inverse {
        divisor: f32,
        inverse: f32,
        margin: f32,
    },
}

impl Coder {
    pub(super) fn new(steps: &Steps) -> Self {
        let Steps { step, divide, offset, lo, hi } = *steps;
        // What is limited after it was moved may as well be limited before.
        let [lo, hi, none] = [lo - offset, hi - offset, -offset].map(|bound| bound as f32);
        let step = match divide {
            false => Step::Multiply(step),
            // The inverse is off by 2^-24 of itself, the product by as much again, and the quotient by as much too. Products
            // beyond the bounds are limited as quotients are.
            true if (1e-30..1e30).contains(&step.abs()) => {
                let margin = lo.abs().max(hi.abs()) * (1.0 / 2_097_152.0);
                Step::Inverse { divisor: step, inverse: 1.0 / step, margin }
            }
            true => Step::Divide(step),
        };
        Self { step, offset, lo, hi, none }
    }

    #[inline(always)]
    fn limited(&self, v: f32) -> f32 {
        let v = if v.is_nan() { self.none } else { v };
        // The bounds are integers, so limiting before rounding comes to the same.
        let v = if v > self.lo { v } else { self.lo };
        if v < self.hi { v } else { self.hi }
    }

    /// Rounds limited values; returns the sum of the integers.
    #[inline(always)]
    fn store(&self, values: &[f32], q: &mut [i8]) -> i32 {
        let mut sum = 0i32;
        for (q, v) in q.iter_mut().zip(values) {
            let integer = small_integer(*v) + self.offset;
            *q = integer as i8;
            sum = sum.wrapping_add(integer);
        }
        sum
    }

    #[inline(always)]
    fn limit(&self, x: &[f32; PANEL], scaled: impl Fn(f32) -> f32) -> [f32; PANEL] {
        let mut values = [0f32; PANEL];
        values.iter_mut().zip(x).for_each(|(v, &x)| *v = self.limited(scaled(x)));
        values
    }

    /// Makes integers of so many values, and returns their sum.
    #[inline(always)]
    pub(super) fn panel(&self, x: &[f32; PANEL], q: &mut [i8; PANEL]) -> i32 {
        let values = match self.step {
            Step::Multiply(factor) => self.limit(x, |x| x * factor),
            Step::Divide(divisor) => self.limit(x, |x| x / divisor),
            Step::Inverse { divisor, inverse, margin } => {
                let products = self.limit(x, |x| x * inverse);
                let mut close = 0u32;
                for v in products {
                    let rest = v - ((v + ROUND) - ROUND);
                    close |= u32::from(rest.abs() >= 0.5 - margin);
                }
                if close == 0 { products } else { self.limit(x, |x| x / divisor) }
            }
        };
        self.store(&values, q)
    }
}

/// Makes integers of floats.
pub(super) fn all(isa: impl Isa, x: &[f32], steps: &Steps, q: &mut [i8]) {
    assert!(x.len() == q.len(), "as many results as values");
    isa.vectorize(
        #[inline(always)]
        || codes(x, &Coder::new(steps), q),
    );
}

/// Makes integers of floats, and returns their sum.
#[inline(always)]
pub(super) fn codes(x: &[f32], coder: &Coder, q: &mut [i8]) -> i32 {
    let ((panels, x), (q_panels, q)) = (x.as_chunks::<PANEL>(), q.as_chunks_mut::<PANEL>());
    let mut sum = 0i32;
    for (x, q) in panels.iter().zip(q_panels) {
        sum = sum.wrapping_add(coder.panel(x, q));
    }
    for (x, q) in x.iter().zip(q) {
        let v = match coder.step {
            Step::Multiply(factor) => x * factor,
            Step::Divide(divisor) | Step::Inverse { divisor, .. } => x / divisor,
        };
        sum = sum.wrapping_add(coder.store(&[coder.limited(v)], core::slice::from_mut(q)));
    }
    sum
}
