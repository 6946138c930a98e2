//! `clip`: values kept between bounds.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// `min(max(x, low), high)`, either bound absent.
#[derive(Clone, PartialEq, Debug)]
pub struct Clip;

impl OpDef for Clip {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "clip",
        inputs: &["x", "low?", "high?"],
        outputs: &["y"],
        doc: "y = min(max(x, low), high); the bounds have one element and may be absent. NaN stays; where low > high all \
              elements are high.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if x.dtype == DType::Bool {
            return Err(TypeError::new("`x` of a number type", x));
        }
        for (name, bound) in [("low", inputs.get(1)), ("high", inputs.get(2))] {
            let fits = |b: &&TensorType| b.dtype != x.dtype || !b.shape.0.iter().all(|d| d.is_one());
            if let Some(bound) = bound.filter(fits) {
                return Err(TypeError::new(format!("one element of type {} as `{name}`", x.dtype), bound));
            }
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        if let Some(mut y) = array::integers(x) {
            let bound = |i: usize| inputs.get(i).and_then(array::integers).and_then(|b| b.first().copied());
            let (low, high) = (bound(1), bound(2));
            y.mapv_inplace(|v| v.max(low.unwrap_or(v)));
            y.mapv_inplace(|v| v.min(high.unwrap_or(v)));
            return Ok(vec![array::store_integers(x.dtype(), &y)]);
        }
        let bound = |i: usize| inputs.get(i).and_then(|t| t.to_f64().first().copied());
        let (low, high) = (bound(1), bound(2));
        let mut y = array::floats(x);
        y.mapv_inplace(|v| match low {
            Some(low) if v < low => low,
            _ => v,
        });
        y.mapv_inplace(|v| match high {
            Some(high) if v > high => high,
            _ => v,
        });
        Ok(vec![array::store_floats(x.dtype(), &y)])
    }
}
