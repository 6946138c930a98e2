//! `layer_norm`: normalisation by the statistics of the trailing axes; and the geometry it shares with `rms_norm`.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_shape, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// `y = (x - mean) / sqrt(var + eps) * gamma + beta` over the axes from `axis` on.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerNorm {
    /// The first normalised axis; negative counts from the end.
    pub axis: i64,
    /// Added to the variance.
    pub eps: f32,
}

impl OpDef for LayerNorm {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "layer_norm",
        inputs: &["x", "gamma?", "beta?"],
        outputs: &["y"],
        doc: "y = (x - mean) / sqrt(var + eps) * gamma + beta with mean and variance over the axes from `axis` (default the \
              last) on; computed in f64 here.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { axis: attrs.int("axis")?.unwrap_or(-1), eps: attrs.float("eps")?.unwrap_or(1e-5) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("axis", self.axis, -1).put_unless("eps", self.eps, 1e-5).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        infer_norm(inputs, self.axis)
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        eval_norm(inputs, self.axis, |row| {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            (mean, (var + f64::from(self.eps)).sqrt())
        })
    }
}

/// Checks the inputs of a norm: gamma and beta have the shape of the normalised axes.
pub(super) fn infer_norm(inputs: &Inputs<'_, TensorType>, axis: i64) -> Result<Vec<TensorType>, TypeError> {
    let x = inputs.at(0);
    expect_dtype("x", x, &[DType::F32])?;
    let axis = resolve_axis(axis, x.shape.rank())?;
    for (i, name) in [(1, "gamma"), (2, "beta")] {
        if let Some(ty) = inputs.get(i) {
            expect_dtype(name, ty, &[DType::F32])?;
            expect_shape(name, ty, &x.shape.0[axis..])?;
        }
    }
    Ok(vec![x.clone()])
}

/// Normalises every group of trailing axes by the shift and divisor that `statistics` finds for it.
pub(super) fn eval_norm(
    inputs: &Inputs<'_, Tensor>,
    axis: i64,
    statistics: impl Fn(&[f64]) -> (f64, f64),
) -> Result<Vec<Tensor>, EvalError> {
    let x = inputs.at(0);
    let axis = resolve_axis(axis, x.rank())?;
    let n: usize = x.dims()[axis..].iter().product();
    let gamma = inputs.get(1).map(Tensor::to_f64);
    let beta = inputs.get(2).map(Tensor::to_f64);
    let mut values = x.to_f64();
    for row in values.chunks_mut(n.max(1)) {
        let (shift, divisor) = statistics(row);
        for (i, v) in row.iter_mut().enumerate() {
            *v = (*v - shift) / divisor * gamma.as_ref().map_or(1.0, |g| g[i]) + beta.as_ref().map_or(0.0, |b| b[i]);
        }
    }
    let values = ndarray::ArrayD::from_shape_vec(x.dims(), values).expect("the element count is unchanged");
    Ok(vec![array::store_floats(DType::F32, &values)])
}
