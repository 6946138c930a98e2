//! `batch_norm`: normalisation by stored statistics, per channel.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_shape};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// `y = (x - mean) / sqrt(var + eps) * gamma + beta` with one statistic per index of axis 1.
#[derive(Clone, PartialEq, Debug)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl OpDef for BatchNorm {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "batch_norm",
        inputs: &["x", "gamma", "beta", "mean", "var"],
        outputs: &["y"],
        doc: "y = (x - mean) / sqrt(var + eps) * gamma + beta, per index of axis 1; computed in f64 here.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { eps: attrs.float("eps")?.unwrap_or(1e-5) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("eps", self.eps, 1e-5).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        expect_dtype("x", x, &[DType::F32])?;
        let Some(channels) = x.shape.0.get(1) else { return Err(TypeError::new("`x` of rank 2 or more", x)) };
        for (i, name) in ["gamma", "beta", "mean", "var"].into_iter().enumerate() {
            expect_dtype(name, inputs.at(i + 1), &[DType::F32])?;
            expect_shape(name, inputs.at(i + 1), std::slice::from_ref(channels))?;
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let mut x = array::floats(inputs.at(0));
        let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|i| inputs.at(i).to_f64());
        for (c, mut channel) in x.axis_iter_mut(ndarray::Axis(1)).enumerate() {
            let spread = (var[c] + f64::from(self.eps)).sqrt();
            channel.mapv_inplace(|v| (v - mean[c]) / spread * gamma[c] + beta[c]);
        }
        Ok(vec![array::store_floats(DType::F32, &x)])
    }
}
