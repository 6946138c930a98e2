//! `shape`: the dimensions of a tensor as numbers.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The dimensions of `x` from `start` up to, not including, `end`.
#[derive(Clone, PartialEq, Debug)]
pub struct ShapeOf {
    /// The first axis.
    pub start: usize,
    /// One past the last axis.
    pub end: usize,
}

impl OpDef for ShapeOf {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "shape",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = the sizes of the axes of x from `start` up to, not including, `end`, as i64.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let (start, end) = (attrs.required_int("start")?, attrs.required_int("end")?);
        let axis = |v: i64| usize::try_from(v).ok();
        match (axis(start), axis(end)) {
            (Some(start), Some(end)) if start <= end => Ok(Self { start, end }),
            _ => Err(attrs.invalid("end", "axes in order", format!("{start} to {end}"))),
        }
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("start", self.start as i64).put("end", self.end as i64).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if self.end > x.shape.rank() {
            return Err(TypeError::new(format!("`x` of rank {} or more", self.end), x));
        }
        Ok(vec![TensorType::fixed(DType::I64, &[self.end - self.start])])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let dims = inputs.at(0).dims()[self.start..self.end].iter();
        let sizes: Vec<i64> = dims.map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
        Ok(vec![Tensor::new(&[sizes.len()], &sizes)])
    }
}
