//! `bit_cast`: the same bits in another element type.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The same bits in another element type of the same width.
#[derive(Clone, PartialEq, Debug)]
pub struct BitCast {
    /// The element type of the result.
    pub to: DType,
}

impl OpDef for BitCast {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "bit_cast",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = the little-endian bytes of x as elements of the type `to`, which is as wide and whole bytes, not bool.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        match attrs.dtype("to")? {
            Some(to) => Ok(Self { to }),
            None => Err(AttrError::Missing { op: "bit_cast", attr: "to" }),
        }
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("to", self.to.name()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let whole = |dtype: DType| dtype.bits() >= 8 && dtype != DType::Bool;
        if x.dtype.bits() != self.to.bits() || !whole(x.dtype) || !whole(self.to) {
            return Err(TypeError::new(format!("`x` of a type of whole bytes and as wide as {}", self.to), x));
        }
        Ok(vec![TensorType::new(self.to, x.shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let y = Tensor::from_blob(self.to, x.dims(), x.blob().clone());
        Ok(vec![y.map_err(|e| EvalError::Undefined(e.to_string()))?])
    }
}
