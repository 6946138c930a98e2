//! Elementwise operations of one input: a family whose members differ by their formula.
//!
//! Floats are computed in `f64` and rounded once.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// One elementwise operation of one input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unary(pub UnaryKind);

macro_rules! unary {
    ($($(#[$meta:meta])* $kind:ident $name:literal $doc:literal $float:expr $(, int $int:expr)?;)*) => {
        /// Which formula.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum UnaryKind { $(#[doc = $doc] $kind,)* }

        impl UnaryKind {
            /// Every member.
            pub const ALL: &'static [UnaryKind] = &[$(UnaryKind::$kind),*];

            /// The formula on a float.
            pub fn float(self, x: f64) -> f64 {
                let formula: fn(f64) -> f64 = match self { $(UnaryKind::$kind => $float,)* };
                formula(x)
            }

            /// The formula on integers, where it has one.
            pub fn integer(self) -> Option<fn(i128) -> i128> {
                match self { $(UnaryKind::$kind => unary!(@int $($int)?),)* }
            }
        }

        const INFO: &[OpInfo] = &[$(OpInfo { name: $name, inputs: &["x"], outputs: &["y"], doc: $doc },)*];
    };
    (@int) => { None };
    (@int $int:expr) => { Some($int) };
}

unary! {
    Relu "relu" "y = x where x > 0, else 0; NaN stays." |x| if x > 0.0 || x.is_nan() { x } else { 0.0 }, int |x| x.max(0);
    Relu2 "relu2" "y = relu(x) * relu(x), rounded once." |x| if x > 0.0 || x.is_nan() { x * x } else { 0.0 };
    Gelu "gelu" "y = x * (1 + erf(x / sqrt(2))) / 2." |x| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
    GeluTanh "gelu_tanh" "y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2." gelu_tanh;
    Silu "silu" "y = x / (1 + exp(-x))." |x| x / (1.0 + (-x).exp());
    Sigmoid "sigmoid" "y = 1 / (1 + exp(-x))." |x| 1.0 / (1.0 + (-x).exp());
    Tanh "tanh" "y = tanh(x)." f64::tanh;
    Erf "erf" "y = erf(x)." erf;
    Exp "exp" "y = e^x." f64::exp;
    Log "log" "y = the natural logarithm of x." f64::ln;
    Sqrt "sqrt" "y = the square root of x." f64::sqrt;
    Reciprocal "reciprocal" "y = 1 / x." |x| 1.0 / x;
    Sin "sin" "y = sin(x)." f64::sin;
    Cos "cos" "y = cos(x)." f64::cos;
    Tan "tan" "y = tan(x)." f64::tan;
    Asin "asin" "y = the arc sine of x." f64::asin;
    Acos "acos" "y = the arc cosine of x." f64::acos;
    Atan "atan" "y = the arc tangent of x." f64::atan;
    Sinh "sinh" "y = sinh(x)." f64::sinh;
    Cosh "cosh" "y = cosh(x)." f64::cosh;
    Asinh "asinh" "y = the area hyperbolic sine of x." f64::asinh;
    Acosh "acosh" "y = the area hyperbolic cosine of x." f64::acosh;
    Atanh "atanh" "y = the area hyperbolic tangent of x." f64::atanh;
    Softplus "softplus" "y = log(1 + exp(x))." |x| x.max(0.0) + (-x.abs()).exp().ln_1p();
    Abs "abs" "y = the magnitude of x." f64::abs, int i128::abs;
    Neg "neg" "y = -x." |x| -x, int |x| -x;
    Sign "sign" "y = -1, 0 or 1 by the sign of x; 0 for zero." |x| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x * 0.0 }, int i128::signum;
    Floor "floor" "y = x rounded down." f64::floor, int |x| x;
    Ceil "ceil" "y = x rounded up." f64::ceil, int |x| x;
    Round "round" "y = x rounded to the nearest integer, ties to even." f64::round_ties_even, int |x| x;
}

fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// The error function by its series of positive terms; beyond 6 it is one within f64.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    if a >= 6.0 {
        return 1f64.copysign(x);
    }
    let (mut term, mut sum, mut n) = (a, a, 1.0);
    while term > sum * 1e-18 {
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    (2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum).copysign(x)
}

impl OpDef for Unary {
    const INFO: &'static [OpInfo] = INFO;

    fn from_attrs(name: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        let index = INFO.iter().position(|i| i.name == name).expect("the table was searched by this name");
        Ok(Self(UnaryKind::ALL[index]))
    }

    fn info(&self) -> &'static OpInfo {
        &INFO[self.0 as usize]
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let fits = x.dtype.is_float() || (self.0.integer().is_some() && x.dtype != DType::Bool);
        if fits { Ok(vec![x.clone()]) } else { Err(TypeError::new("`x` of a number type this is defined on", x)) }
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        if let (Some(values), Some(formula)) = (array::integers(x), self.0.integer()) {
            return Ok(vec![array::store_integers(x.dtype(), &values.mapv(formula))]);
        }
        Ok(vec![array::store_floats(x.dtype(), &array::floats(x).mapv(|v| self.0.float(v)))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_its_known_values() {
        for (x, y) in [(0.0, 0.0), (0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (3.0, 0.9999779095030014)] {
            assert!((erf(x) - y).abs() < 1e-15, "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert_eq!(erf(f64::INFINITY), 1.0);
    }
}
