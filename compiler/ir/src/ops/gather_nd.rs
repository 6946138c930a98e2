//! `gather_nd`: slices by an index of several axes.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::gather::expect_indices;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

/// Slices of `x`, each given by the last axis of `indices`.
#[derive(Clone, PartialEq, Debug)]
pub struct GatherNd {
    /// Leading axes that `x` and `indices` share.
    pub batch_dims: usize,
}

impl OpDef for GatherNd {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "gather_nd",
        inputs: &["x", "indices"],
        outputs: &["y"],
        doc: "y[b.., i.., s..] = x[b.., indices[b.., i.., :].., s..]: the last axis of `indices` indexes the axes of x behind \
              the first `batch_dims` (default 0), which both share. A negative index counts from the end.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let batch_dims = attrs.int("batch_dims")?.unwrap_or(0);
        let invalid = |a: &AttrReader| a.invalid("batch_dims", "a number of axes", batch_dims);
        Ok(Self { batch_dims: usize::try_from(batch_dims).ok().filter(|&b| b < 64).ok_or_else(|| invalid(attrs))? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("batch_dims", self.batch_dims as i64, 0).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (inputs.at(0), inputs.at(1));
        expect_indices(indices)?;
        let b = self.batch_dims;
        let width = indices.shape.last().and_then(|d| d.as_const());
        let wrong = || TypeError::new(format!("indices that fit {x} with {b} shared axes"), indices);
        let width = width.ok_or_else(wrong)?;
        let (rank, tail) = (x.shape.rank(), b.saturating_add(width));
        if b >= indices.shape.rank() || tail > rank || width == 0 || x.shape.0[..b] != indices.shape.0[..b] {
            return Err(wrong());
        }
        let lead = &indices.shape.0[..indices.shape.rank() - 1];
        Ok(vec![TensorType::new(x.dtype, Shape([lead, &x.shape.0[tail..]].concat()))])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (inputs.at(0), inputs.at(1));
        let starts = starts(x, indices, self.batch_dims)?;
        let width = indices.dims().last().copied().unwrap_or(0);
        let tail = &x.dims()[self.batch_dims + width..];
        let inner: usize = tail.iter().product();
        let dims = [&indices.dims()[..indices.rank() - 1], tail].concat();
        Ok(vec![select::select(x, &dims, starts.into_iter().flat_map(|s| s..s + inner))?])
    }
}

/// The position in `x` where each slice begins.
pub(super) fn starts(x: &Tensor, indices: &Tensor, batch_dims: usize) -> Result<Vec<usize>, EvalError> {
    let width = indices.dims().last().copied().unwrap_or(0);
    let values = select::index_values(indices)?;
    let lead = &indices.dims()[..indices.rank().saturating_sub(1)];
    let indexed = x.dims().get(..batch_dims + width);
    let indexed = indexed.ok_or_else(|| EvalError::Undefined(format!("indices {} for {}", indices.ty(), x.ty())))?;
    let inner: usize = x.dims()[batch_dims + width..].iter().product();
    select::indices(lead)
        .zip(values.chunks_exact(width.max(1)))
        .map(|(at, row)| {
            let mut index = at[..batch_dims].to_vec();
            for (&i, &size) in row.iter().zip(&indexed[batch_dims..]) {
                index.push(select::wrap(i, size)?);
            }
            Ok(select::flatten(&index, indexed) * inner)
        })
        .collect()
}
