//! `rms_norm`: division by the root of the mean square of the trailing axes.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::layer_norm::{eval_norm, infer_norm};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// `y = x / sqrt(mean(x^2) + eps) * gamma` over the axes from `axis` on.
#[derive(Clone, PartialEq, Debug)]
pub struct RmsNorm {
    /// The first normalised axis; negative counts from the end.
    pub axis: i64,
    /// Added to the mean square.
    pub eps: f32,
}

impl OpDef for RmsNorm {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "rms_norm",
        inputs: &["x", "gamma?"],
        outputs: &["y"],
        doc: "y = x / sqrt(mean(x^2) + eps) * gamma over the axes from `axis` (default the last) on; computed in f64 here.",
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
            let square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
            (0.0, (square + f64::from(self.eps)).sqrt())
        })
    }
}
