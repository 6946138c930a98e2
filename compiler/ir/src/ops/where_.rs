//! `where`: one of two values by a condition.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::{Blob, Tensor};
use crate::types::{DType, Shape, TensorType};

/// `a` where the condition holds, else `b`.
#[derive(Clone, PartialEq, Debug)]
pub struct Where;

impl OpDef for Where {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "where",
        inputs: &["condition", "a", "b"],
        outputs: &["y"],
        doc: "y = a where `condition`, else b; all three broadcast.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (condition, a, b) = (inputs.at(0), inputs.at(1), inputs.at(2));
        expect_dtype("condition", condition, &[DType::Bool])?;
        if a.dtype != b.dtype {
            return Err(TypeError::new("values of one type", format!("{a} and {b}")));
        }
        let shape = a.shape.broadcast(&b.shape).and_then(|s| s.broadcast(&condition.shape));
        let shape = shape.ok_or_else(|| TypeError::new("shapes that broadcast", format!("{condition}, {a} and {b}")))?;
        Ok(vec![TensorType::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (condition, a, b) = (inputs.at(0), inputs.at(1), inputs.at(2));
        let shape = |t: &Tensor| Shape::fixed(t.dims());
        let dims = shape(a).broadcast(&shape(b)).and_then(|s| s.broadcast(&shape(condition))).and_then(|s| s.to_fixed());
        let dims = dims.ok_or_else(|| EvalError::Undefined("shapes do not broadcast".to_owned()))?;
        let position = |index: &[usize], t: &Tensor| {
            let own = index[index.len() - t.rank()..].iter().zip(t.dims()).map(|(&i, &d)| if d == 1 { 0 } else { i });
            select::flatten(&own.collect::<Vec<_>>(), t.dims())
        };
        let size = a.dtype().size_bytes();
        let mut bytes = Vec::new();
        for index in select::indices(&dims) {
            let chosen = if condition.bytes()[position(&index, condition)] != 0 { a } else { b };
            bytes.extend_from_slice(&chosen.bytes()[position(&index, chosen) * size..][..size]);
        }
        let y = Tensor::from_blob(a.dtype(), &dims, Blob::new(bytes));
        Ok(vec![y.map_err(|e| EvalError::Undefined(e.to_string()))?])
    }
}
