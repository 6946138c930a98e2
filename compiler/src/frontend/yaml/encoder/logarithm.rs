//! Where a logarithmic encoder steps.
//!
//! Logarithms of one library differ from those of another in their last bit, and torch's are not the correctly rounded
//! ones that are computed here. Two floats of every feature are known nevertheless: the least and the largest that the
//! encoder was fitted on, whose logarithms are its state. They are encoded as the library encodes them; at any other step
//! the last bit of a logarithm moves a few floats to the other side, which are counted.

use super::{below, rank, rise, unrank};

/// The state of one feature, and how its logarithm becomes a code.
pub(super) struct Logarithm {
    pub(super) offset: f32,
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) base: f32,
    pub(super) levels: usize,
}

/// Thresholds of a feature.
pub(super) struct Steps {
    /// The largest float that does not reach each code from 1 on.
    pub(super) thresholds: Vec<f32>,
    /// Floats that another logarithm may put on the other side of a step.
    pub(super) doubtful: u64,
}

/// How far, in units of the last place, the logarithms of other libraries are off.
const OFF: i64 = 1;
/// How far a quotient of logarithms that are off so far may be off, with room.
const QUOTIENT_OFF: i64 = 4;

impl Logarithm {
    pub(super) fn steps(&self) -> Steps {
        let mut steps = Steps { thresholds: Vec::with_capacity(self.levels - 1), doubtful: 0 };
        for code in 1..self.levels {
            let [low, exact, high] = [OFF, 0, -OFF].map(|off| rise(|x| self.code(x, off), code));
            // The largest fitted value reaches its code, and the least one stays at its own, whatever computes logarithms.
            let reached = |by: f32| code <= self.level(by);
            let step = if reached(self.max) && !reached(moved(self.max, -QUOTIENT_OFF)) {
                low
            } else if !reached(self.min) && reached(moved(self.min, QUOTIENT_OFF)) {
                high
            } else {
                exact
            };
            steps.thresholds.push(below(step));
            if low.is_finite() && high.is_finite() {
                steps.doubtful += rank(high).abs_diff(rank(low));
            }
        }
        steps
    }

    /// The code of a value whose natural logarithm is off by so many units of the last place.
    pub(super) fn code(&self, x: f32, off: i64) -> usize {
        self.level(moved(ln(x + self.offset + 1e-8), off) / ln(self.base))
    }

    /// The code of a logarithm to the base.
    fn level(&self, log: f32) -> usize {
        (((log - self.min) / (self.max - self.min + 1e-8)).clamp(0.0, 1.0) * (self.levels - 1) as f32) as usize
    }
}

/// The correctly rounded natural logarithm, but for the base e, whose logarithm is 1.
fn ln(v: f32) -> f32 {
    if v == std::f32::consts::E { 1.0 } else { f64::from(v).ln() as f32 }
}

/// The float so many places further.
fn moved(v: f32, places: i64) -> f32 {
    if v.is_finite() && v != 0.0 { unrank(rank(v) + places) } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(offset: f32, fitted: [f32; 2], levels: usize, off: i64) -> Logarithm {
        let log = |x: f32| moved(ln(x + offset + 1e-8), off) / ln(2.0);
        Logarithm { offset, min: log(fitted[0]), max: log(fitted[1]), base: 2.0, levels }
    }

    fn code(steps: &Steps, x: f32) -> usize {
        steps.thresholds.iter().filter(|&&t| x > t).count()
    }

    #[test]
    fn fitted_values_have_their_codes_whatever_computed_their_logarithms() {
        for i in 0..2000u32 {
            let x = [0.1 + i as f32 * 0.0137, 3.0 + i as f32 * 0.29];
            for off in [-1, 0, 1] {
                let f = feature(0.0, x, 16, off);
                let steps = f.steps();
                assert_eq!(code(&steps, x[0]), f.level(f.min), "{x:?} {off}");
                assert_eq!(code(&steps, x[1]), f.level(f.max), "{x:?} {off}");
            }
        }
    }

    #[test]
    fn a_feature_that_never_changed_keeps_the_code_0() {
        for x in [0.0f32, 0.3, 0.7, 1.0, 5.5] {
            for off in [-1, 0, 1] {
                let steps = feature(0.0, [x, x], 8, off).steps();
                assert_eq!(code(&steps, x), 0, "{x} {off}");
                assert_eq!(code(&steps, x * 2.0 + 1.0), 7, "{x} {off}");
            }
        }
    }

    #[test]
    fn elsewhere_the_codes_are_those_of_the_formula() {
        let f = feature(1.5, [-0.5, 40.0], 8, 0);
        let steps = f.steps();
        for i in 0..4000 {
            let x = -2.0 + i as f32 * 0.0125;
            assert_eq!(code(&steps, x), f.code(x, 0), "{x}");
        }
        assert!((1..1000).contains(&steps.doubtful), "{}", steps.doubtful);
    }
}
