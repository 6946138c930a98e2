//! `gather`: whole slices of an axis by index.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// Slices of `x` along `axis`, one for each index.
#[derive(Clone, PartialEq, Debug)]
pub struct Gather {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

impl OpDef for Gather {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "gather",
        inputs: &["x", "indices"],
        outputs: &["y"],
        doc: "y = x with `axis` (default 0) replaced by the axes of `indices`: y[a.., i.., b..] = x[a.., indices[i..], b..]. \
              A negative index counts from the end; one out of range is an error.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { axis: attrs.int("axis")?.unwrap_or(0) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("axis", self.axis, 0).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.at(0), inputs.at(1));
        expect_indices(indices)?;
        let axis = resolve_axis(self.axis, x.shape.rank())?;
        let dims = [&x.shape.0[..axis], &indices.shape.0, &x.shape.0[axis + 1..]].concat();
        Ok(vec![TensorType::new(x.dtype, Shape(dims))])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let axis = resolve_axis(self.axis, x.rank())?;
        let size = x.dims()[axis];
        let indices = select::index_values(inputs.at(1))?.into_iter().map(|i| select::wrap(i, size));
        let indices = indices.collect::<Result<Vec<_>, _>>()?;
        let dims = [&x.dims()[..axis], inputs.at(1).dims(), &x.dims()[axis + 1..]].concat();
        let inner: usize = x.dims()[axis + 1..].iter().product();
        let outer: usize = x.dims()[..axis].iter().product();
        let rows = (0..outer).flat_map(|o| indices.iter().map(move |&i| (o * size + i) * inner));
        Ok(vec![select::select(x, &dims, rows.flat_map(|row| row..row + inner))?])
    }
}

/// Checks that a type can index.
pub(super) fn expect_indices(ty: &TensorType) -> Result<(), TypeError> {
    match ty.dtype {
        DType::I64 | DType::I32 => Ok(()),
        _ => Err(TypeError::new("indices of type i64 or i32", ty)),
    }
}
