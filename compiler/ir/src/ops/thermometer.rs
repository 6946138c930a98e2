//! `thermometer`: floats to bits by thresholds.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_rank};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// One bit per feature and threshold: whether the feature is above it.
#[derive(Clone, PartialEq, Debug)]
pub struct Thermometer;

impl OpDef for Thermometer {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "thermometer",
        inputs: &["x", "thresholds"],
        outputs: &["bits"],
        doc: "bits[.., f * b + i] = x[.., f] > thresholds[f, i] with b thresholds per feature; NaN is above nothing.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, thresholds) = (inputs.at(0), inputs.at(1));
        expect_dtype("x", x, &[DType::F32])?;
        expect_dtype("thresholds", thresholds, &[DType::F32])?;
        expect_rank("thresholds", thresholds, 2)?;
        if x.shape.last() != Some(&thresholds.shape.0[0]) {
            return Err(TypeError::new(format!("`x` with one feature per row of {thresholds}"), x));
        }
        let bits: Option<Dim> = thresholds.shape.numel();
        let mut shape = x.shape.clone();
        shape.0.pop();
        shape.0.push(bits.ok_or_else(|| TypeError::new("fewer thresholds", thresholds))?);
        Ok(vec![TensorType::new(DType::Bool, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, thresholds) = (array::f32s(inputs.at(0))?, array::f32s(inputs.at(1))?);
        let (features, per_feature) = (thresholds.shape()[0], thresholds.shape()[1]);
        let above = |(i, &v): (usize, &f32)| {
            let row = thresholds.index_axis(ndarray::Axis(0), i % features);
            row.iter().map(|&t| u8::from(v > t)).collect::<Vec<_>>()
        };
        let bits: Vec<u8> = x.iter().enumerate().flat_map(above).collect();
        let mut dims = x.shape().to_vec();
        dims.pop();
        dims.push(features * per_feature);
        Ok(vec![Tensor::with_dtype(DType::Bool, &dims, &bits)])
    }
}
