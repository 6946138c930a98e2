//! `concat`: tensors one after the other along an axis.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::{Blob, Tensor};
use crate::types::TensorType;

/// All inputs joined along `axis`.
#[derive(Clone, PartialEq, Debug)]
pub struct Concat {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

impl OpDef for Concat {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "concat",
        inputs: &["xs*"],
        outputs: &["y"],
        doc: "y = the inputs one after the other along `axis`; their other dimensions are equal.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { axis: attrs.required_int("axis")? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("axis", self.axis).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let mut xs = inputs.iter();
        let first = xs.next().ok_or_else(|| TypeError::new("at least one input", "none"))?;
        let axis = resolve_axis(self.axis, first.shape.rank())?;
        let mut joined = first.clone();
        for x in xs {
            let others_equal = x.shape.rank() == first.shape.rank()
                && (0..x.shape.rank()).all(|i| i == axis || x.shape.0[i] == first.shape.0[i]);
            if x.dtype != first.dtype || !others_equal {
                return Err(TypeError::new(format!("inputs like {first} but for axis {axis}"), x));
            }
            let sum = joined.shape.0[axis].add(&x.shape.0[axis]);
            joined.shape.0[axis] = sum.ok_or_else(|| TypeError::new("a smaller result", x))?;
        }
        Ok(vec![joined])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let first = inputs.at(0);
        let axis = resolve_axis(self.axis, first.rank())?;
        let mut dims = first.dims().to_vec();
        dims[axis] = inputs.iter().map(|x| x.dims()[axis]).sum();
        let outer: usize = dims[..axis].iter().product();
        let mut bytes = Vec::new();
        for i in 0..outer {
            for x in inputs.iter() {
                let len = x.dims()[axis..].iter().product::<usize>() * x.dtype().size_bytes();
                bytes.extend_from_slice(&x.bytes()[i * len..][..len]);
            }
        }
        let y = Tensor::from_blob(first.dtype(), &dims, Blob::new(bytes));
        Ok(vec![y.map_err(|e| EvalError::Undefined(e.to_string()))?])
    }
}
