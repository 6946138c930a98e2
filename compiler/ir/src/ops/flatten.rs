//! `flatten`: all axes from one on become a single one.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

/// A matrix: the axes before `axis` make the rows, the others the columns.
#[derive(Clone, PartialEq, Debug)]
pub struct Flatten {
    /// Where the columns begin; negative counts from the end.
    pub axis: i64,
}

impl Flatten {
    fn split(&self, rank: usize) -> Result<usize, TypeError> {
        let signed = rank as i64;
        let axis = if self.axis < 0 { self.axis + signed } else { self.axis };
        usize::try_from(axis).ok().filter(|&a| a <= rank).ok_or_else(|| TypeError::new(format!("an axis up to {rank}"), self.axis))
    }
}

impl OpDef for Flatten {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "flatten",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = x as a matrix: axes before `axis` (default 1) are the rows, the others the columns.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let axis = attrs.int("axis")?.unwrap_or(1);
        if axis.unsigned_abs() > 64 { Err(attrs.invalid("axis", "an axis", axis)) } else { Ok(Self { axis }) }
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("axis", self.axis, 1).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let (rows, columns) = x.shape.0.split_at(self.split(x.shape.rank())?);
        let product = |dims: &[Dim]| Shape(dims.to_vec()).numel().ok_or_else(|| TypeError::new("a smaller tensor", x));
        Ok(vec![TensorType::new(x.dtype, vec![product(rows)?, product(columns)?])])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let (rows, columns) = x.dims().split_at(self.split(x.rank())?);
        let dims = [rows.iter().product(), columns.iter().product()];
        Ok(vec![x.reshaped(&dims).expect("the product of all dimensions is unchanged")])
    }
}
