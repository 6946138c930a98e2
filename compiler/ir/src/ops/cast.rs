//! `cast`: to another element type.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The same numbers in another element type.
#[derive(Clone, PartialEq, Debug)]
pub struct Cast {
    /// The element type of the result.
    pub to: DType,
}

impl OpDef for Cast {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "cast",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = x in the element type `to`: floats round to nearest, truncate to integers; integers wrap; to bool, nonzero is 1.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        match attrs.dtype("to")? {
            Some(to) => Ok(Self { to }),
            None => Err(AttrError::Missing { op: "cast", attr: "to" }),
        }
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("to", self.to.name()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Ok(vec![TensorType::new(self.to, inputs.at(0).shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let y = match array::integers(x) {
            Some(values) => array::store_integers(self.to, &values),
            None => array::store_floats(self.to, &array::floats(x)),
        };
        Ok(vec![y])
    }
}
