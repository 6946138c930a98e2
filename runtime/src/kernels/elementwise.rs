//! The interpreter of fused elementwise programs: tile by tile, every register a small array.

use bitc_format::inst::{MapOp, Step};

use super::math;

/// Elements of a register.
pub(crate) const TILE: usize = 256;

/// One register.
pub type Tile = [f32; TILE];

/// Runs the steps on one tile. The first `loaded` registers are filled; every step fills the next one.
#[inline(always)]
pub(super) fn steps(registers: &mut [Tile], loaded: usize, steps: &[Step]) {
    for (i, step) in steps.iter().enumerate() {
        let (before, rest) = registers.split_at_mut(loaded + i);
        let [a, b, c] = step.args.map(|register| &before[usize::from(register).min(before.len() - 1)]);
        apply(step.op, &mut rest[0], a, b, c);
    }
}

#[inline(always)]
fn unary(y: &mut Tile, a: &Tile, f: impl Fn(f32) -> f32) {
    for (y, &a) in y.iter_mut().zip(a) {
        *y = f(a);
    }
}

#[inline(always)]
fn binary(y: &mut Tile, a: &Tile, b: &Tile, f: impl Fn(f32, f32) -> f32) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = f(a, b);
    }
}

#[inline(always)]
fn ternary(y: &mut Tile, a: &Tile, b: &Tile, c: &Tile, f: impl Fn(f32, f32, f32) -> f32) {
    for (((y, &a), &b), &c) in y.iter_mut().zip(a).zip(b).zip(c) {
        *y = f(a, b, c);
    }
}

/// A truth value as a number.
#[inline(always)]
fn truth(condition: bool) -> f32 {
    if condition { 1.0 } else { 0.0 }
}

#[inline(always)]
fn apply(op: MapOp, y: &mut Tile, a: &Tile, b: &Tile, c: &Tile) {
    match op {
        MapOp::Neg => unary(y, a, |a| -a),
        MapOp::Abs => unary(y, a, f32::abs),
        MapOp::Sqrt => unary(y, a, math::sqrt),
        MapOp::Recip => unary(y, a, |a| 1.0 / a),
        MapOp::Exp => unary(y, a, math::exp),
        MapOp::Log => unary(y, a, math::log),
        MapOp::Floor => unary(y, a, math::floor),
        MapOp::Ceil => unary(y, a, math::ceil),
        MapOp::RoundHalfEven => unary(y, a, math::round_half_even),
        MapOp::Trunc => unary(y, a, math::trunc),
        MapOp::Sign => unary(y, a, math::sign),
        MapOp::Relu => unary(y, a, math::relu),
        MapOp::Sigmoid => unary(y, a, math::sigmoid),
        MapOp::Tanh => unary(y, a, math::tanh),
        MapOp::Erf => unary(y, a, math::erf),
        MapOp::GeluErf => unary(y, a, math::gelu_erf),
        MapOp::GeluTanh => unary(y, a, math::gelu_tanh),
        MapOp::Silu => unary(y, a, math::silu),
        MapOp::Not => unary(y, a, |a| truth(a == 0.0)),
        MapOp::IsNan => unary(y, a, |a| truth(a.is_nan())),
        MapOp::Add => binary(y, a, b, |a, b| a + b),
        MapOp::Sub => binary(y, a, b, |a, b| a - b),
        MapOp::Mul => binary(y, a, b, |a, b| a * b),
        MapOp::Div => binary(y, a, b, |a, b| a / b),
        MapOp::Min => binary(y, a, b, math::min),
        MapOp::Max => binary(y, a, b, math::max),
        MapOp::Pow => binary(y, a, b, math::pow),
        MapOp::Eq => binary(y, a, b, |a, b| truth(a == b)),
        MapOp::Ne => binary(y, a, b, |a, b| truth(a != b)),
        MapOp::Lt => binary(y, a, b, |a, b| truth(a < b)),
        MapOp::Le => binary(y, a, b, |a, b| truth(a <= b)),
        MapOp::Gt => binary(y, a, b, |a, b| truth(a > b)),
        MapOp::Ge => binary(y, a, b, |a, b| truth(a >= b)),
        MapOp::And => binary(y, a, b, |a, b| truth((a != 0.0) & (b != 0.0))),
        MapOp::Or => binary(y, a, b, |a, b| truth((a != 0.0) | (b != 0.0))),
        MapOp::Xor => binary(y, a, b, |a, b| truth((a != 0.0) ^ (b != 0.0))),
        MapOp::Where => ternary(y, a, b, c, |a, b, c| if a != 0.0 { b } else { c }),
        MapOp::Clip => ternary(y, a, b, c, math::clip),
        // Contracts keep these out of single precision.
        MapOp::Mod
        | MapOp::Rem
        | MapOp::BitAnd
        | MapOp::BitOr
        | MapOp::BitXor
        | MapOp::ShiftLeft
        | MapOp::ShiftRight
        | MapOp::Sin
        | MapOp::Cos
        | MapOp::Tan
        | MapOp::Asin
        | MapOp::Acos
        | MapOp::Atan
        | MapOp::Sinh
        | MapOp::Cosh
        | MapOp::Asinh
        | MapOp::Acosh
        | MapOp::Atanh
        | MapOp::Softplus => y.fill(f32::NAN),
    }
}
