//! `softmax` and `log_softmax` along one axis.

use std::borrow::Cow;

use ndarray::Axis;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Exponentials that sum to one, or their logarithms.
#[derive(Clone, PartialEq, Debug)]
pub struct Softmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the result is the logarithm.
    pub log: bool,
}

impl OpDef for Softmax {
    const INFO: &'static [OpInfo] = &[
        OpInfo { name: "softmax", inputs: &["x"], outputs: &["y"], doc: "y = exp(x - m) / sum exp(x - m) along `axis`, m the maximum." },
        OpInfo { name: "log_softmax", inputs: &["x"], outputs: &["y"], doc: "y = x - m - log sum exp(x - m) along `axis`, m the maximum." },
    ];

    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { axis: attrs.int("axis")?.unwrap_or(-1), log: name == "log_softmax" })
    }

    fn info(&self) -> &'static OpInfo {
        &Self::INFO[usize::from(self.log)]
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("axis", self.axis, -1).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if !x.dtype.is_float() {
            return Err(TypeError::new("`x` of a float type", x));
        }
        resolve_axis(self.axis, x.shape.rank())?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let axis = resolve_axis(self.axis, x.rank())?;
        let mut y = array::floats(x);
        for mut lane in y.lanes_mut(Axis(axis)) {
            let max = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = lane.iter().map(|v| (v - max).exp()).sum();
            lane.mapv_inplace(|v| if self.log { v - max - sum.ln() } else { (v - max).exp() / sum });
        }
        Ok(vec![array::store_floats(x.dtype(), &y)])
    }
}
