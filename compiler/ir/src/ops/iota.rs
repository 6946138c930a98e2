//! `iota`: the integers from zero.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// `0, 1, 2, ..`, as many as `count` says.
#[derive(Clone, PartialEq, Debug)]
pub struct Iota {
    /// The one dimension of the result, which may be symbolic.
    pub count: Shape,
}

impl OpDef for Iota {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "iota",
        inputs: &[],
        outputs: &["y"],
        doc: "y[i] = i as i64, for i from 0 up to, not including, the one dimension in `count`.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let count = attrs.required_shape("count")?;
        if count.rank() != 1 {
            return Err(attrs.invalid("count", "one dimension", &count));
        }
        Ok(Self { count })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("count", &self.count).finish()
    }

    fn infer(&self, _: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Ok(vec![TensorType::new(DType::I64, self.count.clone())])
    }

    fn eval(&self, _: &Inputs<'_, Tensor>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let dims = cx.dims(&self.count)?;
        let values: Vec<i64> = (0..).take(dims.iter().product()).collect();
        Ok(vec![Tensor::new(&dims, &values)])
    }
}
