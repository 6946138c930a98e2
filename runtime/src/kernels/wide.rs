//! Fused elementwise programs in 64 bits: double precision and integers.
//!
//! They are for types that models hold little of, so an operation is a plain function of elements.

use bitc_format::inst::{MapOp, Step};

use super::elementwise::TILE;
use crate::arena::Pod;

/// A type that a `map` computes in besides `f32`.
pub(crate) trait Lane: Pod {
    fn from_bits(bits: u64) -> Self;
    fn from_i64(value: i64) -> Self;
    fn from_u64(value: u64) -> Self;
    fn from_f64(value: f64) -> Self;
    /// The operation on one element; `None` where there is no result.
    fn apply(op: MapOp, a: Self, b: Self, c: Self) -> Option<Self>;
}

/// Runs the steps on the first `n` elements of each register; `false` where an element has no result.
pub(crate) fn steps<T: Lane>(registers: &mut [[T; TILE]], loaded: usize, steps: &[Step], n: usize) -> bool {
    for (i, step) in steps.iter().enumerate() {
        let (before, rest) = registers.split_at_mut(loaded + i);
        let [a, b, c] = step.args.map(|register| &before[usize::from(register).min(before.len() - 1)][..n]);
        for (((y, &a), &b), &c) in rest[0][..n].iter_mut().zip(a).zip(b).zip(c) {
            let Some(value) = T::apply(step.op, a, b, c) else { return false };
            *y = value;
        }
    }
    true
}

impl Lane for f64 {
    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn from_i64(value: i64) -> Self {
        value as f64
    }
    fn from_u64(value: u64) -> Self {
        value as f64
    }
    fn from_f64(value: f64) -> Self {
        value
    }

    fn apply(op: MapOp, a: f64, b: f64, c: f64) -> Option<f64> {
        let truth = |t: bool| if t { 1.0 } else { 0.0 };
        Some(match op {
            MapOp::Neg => -a,
            MapOp::Abs => a.abs(),
            MapOp::Sqrt => a.sqrt(),
            MapOp::Recip => 1.0 / a,
            MapOp::Exp => a.exp(),
            MapOp::Log => a.ln(),
            MapOp::Floor => a.floor(),
            MapOp::Ceil => a.ceil(),
            MapOp::RoundHalfEven => a.round_ties_even(),
            MapOp::Trunc => a.trunc(),
            MapOp::Sign if a > 0.0 => 1.0,
            MapOp::Sign if a < 0.0 => -1.0,
            MapOp::Sign => a * 0.0,
            MapOp::Relu if a > 0.0 || a.is_nan() => a,
            MapOp::Relu => 0.0,
            MapOp::Sigmoid => 1.0 / (1.0 + (-a).exp()),
            MapOp::Tanh => a.tanh(),
            MapOp::GeluTanh => {
                let inner = (2.0 / core::f64::consts::PI).sqrt() * (a + 0.044715 * a * a * a);
                0.5 * a * (1.0 + inner.tanh())
            }
            MapOp::Silu => a / (1.0 + (-a).exp()),
            MapOp::Not => truth(a == 0.0),
            MapOp::IsNan => truth(a.is_nan()),
            MapOp::Add => a + b,
            MapOp::Sub => a - b,
            MapOp::Mul => a * b,
            MapOp::Div => a / b,
            MapOp::Min | MapOp::Max if a.is_nan() || b.is_nan() => f64::NAN,
            MapOp::Min => a.min(b),
            MapOp::Max => a.max(b),
            MapOp::Clip if a.is_nan() || b.is_nan() || c.is_nan() => f64::NAN,
            MapOp::Clip => a.max(b).min(c),
            MapOp::Pow => a.powf(b),
            MapOp::Eq => truth(a == b),
            MapOp::Ne => truth(a != b),
            MapOp::Lt => truth(a < b),
            MapOp::Le => truth(a <= b),
            MapOp::Gt => truth(a > b),
            MapOp::Ge => truth(a >= b),
            MapOp::And => truth(a != 0.0 && b != 0.0),
            MapOp::Or => truth(a != 0.0 || b != 0.0),
            MapOp::Xor => truth((a != 0.0) != (b != 0.0)),
            MapOp::Mod => match a % b {
                // An exact multiple leaves a zero with the sign of the divisor.
                0.0 => 0f64.copysign(b),
                r if (r < 0.0) != (b < 0.0) => r + b,
                r => r,
            },
            MapOp::Rem => a % b,
            MapOp::Where => {
                if a != 0.0 {
                    b
                } else {
                    c
                }
            }
            MapOp::Sin => a.sin(),
            MapOp::Cos => a.cos(),
            MapOp::Tan => a.tan(),
            MapOp::Asin => a.asin(),
            MapOp::Acos => a.acos(),
            MapOp::Atan => a.atan(),
            MapOp::Sinh => a.sinh(),
            MapOp::Cosh => a.cosh(),
            MapOp::Asinh => a.asinh(),
            MapOp::Acosh => a.acosh(),
            MapOp::Atanh => a.atanh(),
            MapOp::Softplus => a.max(0.0) + (-a.abs()).exp().ln_1p(),
            MapOp::Erf
            | MapOp::GeluErf
            | MapOp::BitAnd
            | MapOp::BitOr
            | MapOp::BitXor
            | MapOp::ShiftLeft
            | MapOp::ShiftRight => return None,
        })
    }
}

macro_rules! integer {
    ($ty:ident, $sign:expr, $sign_left:expr) => {
        impl Lane for $ty {
            fn from_bits(bits: u64) -> Self {
                bits as $ty
            }
            fn from_i64(value: i64) -> Self {
                value as $ty
            }
            fn from_u64(value: u64) -> Self {
                value as $ty
            }
            fn from_f64(value: f64) -> Self {
                value as $ty
            }

            fn apply(op: MapOp, a: $ty, b: $ty, c: $ty) -> Option<$ty> {
                let truth = |t: bool| $ty::from(t);
                let zero: $ty = 0;
                // The number of bits to shift by, if it leaves any.
                let shift = || u32::try_from(b).ok().filter(|&b| b < 64);
                Some(match op {
                    MapOp::Neg => a.wrapping_neg(),
                    MapOp::Abs if a < zero => a.wrapping_neg(),
                    MapOp::Abs | MapOp::Floor | MapOp::Ceil | MapOp::RoundHalfEven | MapOp::Trunc => a,
                    MapOp::Sign => $sign(a),
                    MapOp::Relu => a.max(0),
                    MapOp::Not => truth(a == 0),
                    MapOp::Add => a.wrapping_add(b),
                    MapOp::Sub => a.wrapping_sub(b),
                    MapOp::Mul => a.wrapping_mul(b),
                    MapOp::Div | MapOp::Mod | MapOp::Rem if b == 0 => return None,
                    MapOp::Div => a.wrapping_div(b),
                    MapOp::Rem => a.wrapping_rem(b),
                    MapOp::Mod => match a.wrapping_rem(b) {
                        r if r != 0 && (r < zero) != (b < zero) => r.wrapping_add(b),
                        r => r,
                    },
                    MapOp::Min => a.min(b),
                    MapOp::Max => a.max(b),
                    MapOp::Clip => a.max(b).min(c),
                    MapOp::Pow => a.wrapping_pow(u32::try_from(b).ok()?),
                    MapOp::Eq => truth(a == b),
                    MapOp::Ne => truth(a != b),
                    MapOp::Lt => truth(a < b),
                    MapOp::Le => truth(a <= b),
                    MapOp::Gt => truth(a > b),
                    MapOp::Ge => truth(a >= b),
                    MapOp::And => truth(a != 0 && b != 0),
                    MapOp::Or => truth(a != 0 || b != 0),
                    MapOp::Xor => truth((a != 0) != (b != 0)),
                    MapOp::BitAnd => a & b,
                    MapOp::BitOr => a | b,
                    MapOp::BitXor => a ^ b,
                    MapOp::ShiftLeft => shift().map_or(0, |b| a << b),
                    MapOp::ShiftRight => shift().map_or_else(|| $sign_left(a), |b| a >> b),
                    MapOp::Where => {
                        if a != 0 {
                            b
                        } else {
                            c
                        }
                    }
                    _ => return None,
                })
            }
        }
    };
}

integer!(i64, i64::signum, |a: i64| if a < 0 { -1 } else { 0 });
integer!(u64, |a: u64| a.min(1), |_: u64| 0);
