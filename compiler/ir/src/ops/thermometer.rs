//! `thermometer`: floats to bits by thresholds.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_rank};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};
use ndarray::ArrayD;

/// One bit per feature and threshold: whether the feature is above it.
#[derive(Clone, PartialEq, Debug)]
pub struct Thermometer;

impl OpDef for Thermometer {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "thermometer",
        inputs: &["x", "thresholds", "features?"],
        outputs: &["bits"],
        doc: "bits[.., f * b + i] = x[.., f] > thresholds[f, i] with b thresholds per feature; with `features`, which has a \
              number per threshold, bits[.., i] = x[.., features[i]] > thresholds[i]. NaN is above nothing.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, thresholds) = (inputs.at(0), inputs.at(1));
        expect_dtype("x", x, &[DType::F32])?;
        expect_dtype("thresholds", thresholds, &[DType::F32])?;
        if let Some(features) = inputs.get(2) {
            expect_dtype("features", features, &[DType::I32])?;
            expect_rank("thresholds", thresholds, 1)?;
            if features.shape != thresholds.shape {
                return Err(TypeError::new(format!("`features` of shape {}", thresholds.shape), features));
            }
            let mut shape = x.shape.clone();
            if shape.0.pop().is_none() {
                return Err(TypeError::new("`x` of rank 1 or more", x));
            }
            shape.0.push(thresholds.shape.0[0].clone());
            return Ok(vec![TensorType::new(DType::Bool, shape)]);
        }
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
        if let Some(features) = inputs.get(2) {
            return chosen(&x, features, &thresholds).map(|bits| vec![bits]);
        }
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

/// The comparisons of chosen features.
fn chosen(x: &ArrayD<f32>, features: &Tensor, thresholds: &ArrayD<f32>) -> Result<Tensor, EvalError> {
    let wrong = || EvalError::Undefined("expected 32-bit features".to_owned());
    let features = features.to_vec::<i32>().ok_or_else(wrong)?;
    let (&n_features, outer) = x.shape().split_last().ok_or_else(wrong)?;
    if let Some(feature) = features.iter().find(|&&f| usize::try_from(f).map_or(true, |f| f >= n_features)) {
        return Err(EvalError::Undefined(format!("a threshold is for feature {feature} of {n_features}")));
    }
    let cuts: Vec<(usize, f32)> = features.iter().map(|&f| f as usize).zip(thresholds.iter().copied()).collect();
    let values: Vec<f32> = x.iter().copied().collect();
    let rows: usize = outer.iter().product();
    let row = |r: usize| &values[r * n_features..][..n_features];
    let bits: Vec<u8> = (0..rows).flat_map(|r| cuts.iter().map(move |&(f, t)| u8::from(row(r)[f] > t))).collect();
    let mut dims = outer.to_vec();
    dims.push(features.len());
    Ok(Tensor::with_dtype(DType::Bool, &dims, &bits))
}
