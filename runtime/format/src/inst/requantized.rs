//! Products of quantised activations whose results become the integers that the next product reads.
//!
//! Scale, bias, activation and the next quantiser follow each other in registers, with the same rounding after each step
//! as one instruction for each: no float of a result is ever stored.

use super::{BitConv2d, BitLinear, Contract, instruction};
use crate::contract::attribute;
use crate::{BufferId, Cx, DType, Fault};

instruction! {
    /// How a float becomes an integer of 8 bits: `clip(round_half_even(v) + offset, lo, hi)` where `v` is `x * step` or
    /// `x / step`, each operation rounded to `f32`. What is no number becomes 0.
    Steps {
        /// The distance of neighbouring integers, or what brings it to 1.
        step: f32,
        /// Whether `x` is divided by it.
        divide: bool,
        /// What the integers are moved by before they are limited.
        offset: i32,
        /// The smallest integer.
        lo: i32,
        /// The largest integer.
        hi: i32,
    }
}

impl Steps {
    fn check(&self) -> Result<(), Fault> {
        attribute("offset", self.offset, self.offset.unsigned_abs() <= 1 << 20)?;
        attribute("lo", self.lo, (-128..=0).contains(&self.lo))?;
        attribute("hi", self.hi, (0..=127).contains(&self.hi))
    }
}

instruction! {
    /// [`BitLinear`], whose result is quantised with a fixed step: `y = steps(bit_linear(..))`.
    BitLinearQuantize {
        /// The layer; its result is `i8`, its weights have no groups. The bytes that the `row_align` of the result adds are
        /// zero.
        layer: BitLinear,
        /// For each row of the result the sum of its integers.
        row_sums: Option<BufferId>,
        /// What makes integers of floats.
        steps: Steps,
    }
}

impl Contract for BitLinearQuantize {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        self.layer.check_layer(cx, DType::I8)?;
        cx.ty("w", self.layer.w)?.rank(2, 2)?;
        if let Some(sums) = cx.optional("row_sums", self.row_sums)? {
            sums.dense()?.dtype(&[DType::I32])?.elements(cx.ty("y", self.layer.y)?.rows()?)?;
        }
        self.steps.check()
    }
}

instruction! {
    /// [`BitConv2d`], whose result is quantised with a fixed step: `y = steps(bit_conv2d(..))`.
    BitConv2dQuantize {
        /// The layer; its result is `i8`, rows not padded.
        layer: BitConv2d,
        /// What makes integers of floats.
        steps: Steps,
    }
}

impl Contract for BitConv2dQuantize {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        self.layer.check_layer(cx, DType::I8)?;
        self.steps.check()
    }
}
