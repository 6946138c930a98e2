//! `expand`: broadcasts to a larger shape.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

/// `x` repeated along axes of size 1 and new leading axes until it has the shape.
#[derive(Clone, PartialEq, Debug)]
pub struct Expand {
    /// The shape of the result.
    pub shape: Shape,
}

impl OpDef for Expand {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "expand",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = x broadcast to `shape`, by numpy's rule; each axis of x is 1 or that of `shape`.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { shape: attrs.required_shape("shape")? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("shape", &self.shape).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if x.shape.broadcast(&self.shape).as_ref() != Some(&self.shape) {
            return Err(TypeError::new(format!("`x` that broadcasts to {}", self.shape), x));
        }
        Ok(vec![TensorType::new(x.dtype, self.shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, dims) = (inputs.at(0), cx.dims(&self.shape)?);
        let missing = dims.len().checked_sub(x.rank());
        let missing = missing.ok_or_else(|| EvalError::Undefined(format!("{} does not broadcast to {dims:?}", x.ty())))?;
        let positions = select::indices(&dims).map(|index| {
            let source = index[missing..].iter().zip(x.dims()).map(|(&i, &d)| if d == 1 { 0 } else { i });
            select::flatten(&source.collect::<Vec<_>>(), x.dims())
        });
        Ok(vec![select::select(x, &dims, positions)?])
    }
}
