//! Numbers of every element type behind one trait, for instructions that are rare enough to be written once.
//!
//! Integers compute in 128 bits and keep the low ones, floats in double precision and round once when stored.

use crate::arena::Pod;

/// A number type of the runtime.
pub(crate) trait Number: Pod + PartialOrd {
    /// What it computes in; holds every value.
    type Wide: Copy + PartialOrd;
    /// The least value: minus infinity for floats.
    const LOWEST: Self;
    /// The greatest value: infinity for floats.
    const HIGHEST: Self;

    /// The same value.
    fn wide(self) -> Self::Wide;
    /// The low bits, or the nearest value.
    fn narrow(wide: Self::Wide) -> Self;
    /// A whole number.
    fn count(n: usize) -> Self::Wide;
    fn add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn mul(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// The quotient, that of integers rounded towards zero; `None` where it does not exist.
    fn div(a: Self::Wide, b: Self::Wide) -> Option<Self::Wide>;
    /// `sum + a * b` in the type itself; integers wrap.
    fn multiply_add(sum: Self, a: Self, b: Self) -> Self;

    /// Whether it is not a number.
    #[expect(clippy::eq_op, reason = "this is how NaN differs")]
    fn is_nan(self) -> bool {
        self != self
    }

    /// The larger one; NaN if either is.
    fn max(a: Self, b: Self) -> Self {
        if a.is_nan() || a > b { a } else { b }
    }

    /// The smaller one; NaN if either is.
    fn min(a: Self, b: Self) -> Self {
        if a.is_nan() || a < b { a } else { b }
    }
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            type Wide = i128;
            const LOWEST: Self = <$ty>::MIN;
            const HIGHEST: Self = <$ty>::MAX;

            fn wide(self) -> i128 {
                i128::from(self)
            }
            fn narrow(wide: i128) -> Self {
                wide as $ty
            }
            fn count(n: usize) -> i128 {
                n as i128
            }
            fn add(a: i128, b: i128) -> i128 {
                a.wrapping_add(b)
            }
            fn mul(a: i128, b: i128) -> i128 {
                a.wrapping_mul(b)
            }
            fn div(a: i128, b: i128) -> Option<i128> {
                a.checked_div(b)
            }
            #[inline(always)]
            fn multiply_add(sum: Self, a: Self, b: Self) -> Self {
                sum.wrapping_add(a.wrapping_mul(b))
            }
        }
    )*};
}

macro_rules! floats {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            type Wide = f64;
            const LOWEST: Self = <$ty>::NEG_INFINITY;
            const HIGHEST: Self = <$ty>::INFINITY;

            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn narrow(wide: f64) -> Self {
                wide as $ty
            }
            fn count(n: usize) -> f64 {
                n as f64
            }
            fn add(a: f64, b: f64) -> f64 {
                a + b
            }
            fn mul(a: f64, b: f64) -> f64 {
                a * b
            }
            fn div(a: f64, b: f64) -> Option<f64> {
                Some(a / b)
            }
            #[inline(always)]
            fn multiply_add(sum: Self, a: Self, b: Self) -> Self {
                sum + a * b
            }
        }
    )*};
}

integers! { i8 u8 i16 u16 i32 u32 i64 u64 }
floats! { f32 f64 }

/// Evaluates an expression with `$ty` standing for the Rust type of an element type of `DType::NUMBERS`.
macro_rules! with_number {
    ($dtype:expr, $ty:ident => $body:expr) => {{
        use bitc_format::DType;
        macro_rules! with {
            ($number:ty) => {{
                type $ty = $number;
                $body
            }};
        }
        match $dtype {
            DType::I8 => with!(i8),
            DType::I16 => with!(i16),
            DType::U16 => with!(u16),
            DType::I32 => with!(i32),
            DType::U32 => with!(u32),
            DType::I64 => with!(i64),
            DType::U64 => with!(u64),
            DType::F32 => with!(f32),
            DType::F64 => with!(f64),
            _ => with!(u8),
        }
    }};
}

pub(crate) use with_number;
