//! `gather_elements`: single elements by their position along an axis.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::gather::expect_indices;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

/// Elements of `x` whose position along `axis` is given, one per element of the result.
#[derive(Clone, PartialEq, Debug)]
pub struct GatherElements {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

impl OpDef for GatherElements {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "gather_elements",
        inputs: &["x", "indices"],
        outputs: &["y"],
        doc: "y[.., i, ..] = x[.., indices[.., i, ..], ..] along `axis` (default 0); y has the shape of `indices`, which has \
              the rank of x. A negative index counts from the end.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { axis: attrs.int("axis")?.unwrap_or(0) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("axis", self.axis, 0).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.at(0), inputs.at(1));
        fit(x, indices, self.axis)?;
        Ok(vec![TensorType::new(x.dtype, indices.shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.at(0), inputs.at(1));
        let positions = positions(x, indices, self.axis)?;
        Ok(vec![select::select(x, indices.dims(), positions.into_iter())?])
    }
}

/// The indices have the rank of `x` and, beside the axis, lie within it as far as the sizes are known.
pub(super) fn fit(x: &TensorType, indices: &TensorType, axis: i64) -> Result<(), TypeError> {
    expect_indices(indices)?;
    let axis = resolve_axis(axis, x.shape.rank())?;
    if x.shape.rank() != indices.shape.rank() {
        return Err(TypeError::new(format!("indices of rank {}", x.shape.rank()), indices));
    }
    let mut sizes = x.shape.0.iter().zip(&indices.shape.0).enumerate().filter(|(i, _)| *i != axis);
    let beyond = |(_, (x, i)): (usize, (&Dim, &Dim))| x.as_const().zip(i.as_const()).is_some_and(|(x, i)| i > x);
    if sizes.any(beyond) { Err(TypeError::new(format!("indices within {x}"), indices)) } else { Ok(()) }
}

/// The position in `x` of each element of `indices`.
pub(super) fn positions(x: &Tensor, indices: &Tensor, axis: i64) -> Result<Vec<usize>, EvalError> {
    let axis = resolve_axis(axis, x.rank())?;
    let values = select::index_values(indices)?;
    let place = |(mut index, at): (Vec<usize>, i64)| {
        index[axis] = select::wrap(at, x.dims()[axis])?;
        if index.iter().zip(x.dims()).any(|(i, d)| i >= d) {
            return Err(EvalError::Undefined(format!("indices {} reach beyond {}", indices.ty(), x.ty())));
        }
        Ok(select::flatten(&index, x.dims()))
    };
    select::indices(indices.dims()).zip(values).map(place).collect()
}
