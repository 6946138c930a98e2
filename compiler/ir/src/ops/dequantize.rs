//! `dequantize`: integers times a scale.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// `y = f32(q) * scale`; the scale broadcasts to `q`.
#[derive(Clone, PartialEq, Debug)]
pub struct Dequantize;

impl OpDef for Dequantize {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "dequantize",
        inputs: &["q", "scale"],
        outputs: &["y"],
        doc: "y = f32(q) * scale; the scale broadcasts to q. Holds ternary weights and their scale until a layer takes both.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (q, scale) = (inputs.at(0), inputs.at(1));
        if q.dtype.is_float() || q.dtype.size_bytes() > 4 {
            return Err(TypeError::new("`q` of an integer type of at most 32 bits", q));
        }
        expect_dtype("scale", scale, &[DType::F32])?;
        if q.shape.broadcast(&scale.shape).as_ref() != Some(&q.shape) {
            return Err(TypeError::new(format!("`scale` that broadcasts to {}", q.shape), scale));
        }
        Ok(vec![TensorType::new(DType::F32, q.shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let q = array::floats(inputs.at(0)).mapv(|v| v as f32);
        let scale = array::f32s(inputs.at(1))?;
        let wrong = || EvalError::Undefined("the scale does not broadcast".to_owned());
        let scale = scale.broadcast(q.raw_dim()).ok_or_else(wrong)?;
        Ok(vec![array::tensor_f32(&(&q * &scale))])
    }
}
