//! `reshape`: the same elements under other dimensions.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

/// The same elements in the same order under other dimensions, which may be symbolic.
#[derive(Clone, PartialEq, Debug)]
pub struct Reshape {
    /// The new dimensions.
    pub shape: Shape,
}

impl OpDef for Reshape {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "reshape",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = the elements of x in row-major order under the dimensions `shape`; the element counts must be equal for \
              every binding.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { shape: attrs.required_shape("shape")? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("shape", &self.shape).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if x.shape.numel().is_none() || x.shape.numel() != self.shape.numel() {
            return Err(TypeError::new(format!("`x` with as many elements as {}", self.shape), x));
        }
        Ok(vec![TensorType::new(x.dtype, self.shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let dims = cx.dims(&self.shape)?;
        let wrong = || EvalError::Undefined(format!("{} has not the elements of {dims:?}", inputs.at(0).ty()));
        Ok(vec![inputs.at(0).reshaped(&dims).ok_or_else(wrong)?])
    }
}
