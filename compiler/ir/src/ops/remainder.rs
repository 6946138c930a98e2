//! `mod` and `rem`: remainders, which differ in the sign they follow.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::binary::zip;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// What is left of a division.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remainder {
    /// Whether the result has the sign of the divisor, else that of the dividend.
    pub floored: bool,
}

impl OpDef for Remainder {
    const INFO: &'static [OpInfo] = &[
        OpInfo {
            name: "mod",
            inputs: &["a", "b"],
            outputs: &["y"],
            doc: "y = a - floor(a / b) * b, the remainder with the sign of b.",
        },
        OpInfo {
            name: "rem",
            inputs: &["a", "b"],
            outputs: &["y"],
            doc: "y = a - trunc(a / b) * b, the remainder with the sign of a.",
        },
    ];

    fn from_attrs(name: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { floored: name == "mod" })
    }

    fn info(&self) -> &'static OpInfo {
        &Self::INFO[usize::from(!self.floored)]
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        if a.dtype != b.dtype || a.dtype == DType::Bool {
            return Err(TypeError::new("numbers of one type", format!("{a} and {b}")));
        }
        let shape = a.shape.broadcast(&b.shape);
        let shape = shape.ok_or_else(|| TypeError::new("shapes that broadcast", format!("{a} and {b}")))?;
        Ok(vec![TensorType::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        let dtype = a.dtype();
        let (Some(x), Some(y)) = (array::integers(a), array::integers(b)) else {
            let formula = |a: f64, b: f64| match a % b {
                r if !self.floored => r,
                // An exact multiple leaves a zero with the sign of the divisor.
                0.0 => 0f64.copysign(b),
                r if (r < 0.0) != (b < 0.0) => r + b,
                r => r,
            };
            return Ok(vec![array::store_floats(dtype, &zip(&array::floats(a), &array::floats(b), formula)?)]);
        };
        if y.iter().any(|&b| b == 0) {
            return Err(EvalError::Undefined("an integer remainder of a division by zero".to_owned()));
        }
        let out = zip(&x, &y, |a, b| match a.wrapping_rem(b) {
            r if self.floored && r != 0 && (r < 0) != (b < 0) => r + b,
            r => r,
        })?;
        Ok(vec![array::store_integers(dtype, &out)])
    }
}
