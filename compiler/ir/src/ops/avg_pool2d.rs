//! `avg_pool2d`: the mean of the elements under a window.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::max_pool2d::Pool;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The mean under each window.
#[derive(Clone, PartialEq, Debug)]
pub struct AvgPool2d {
    /// The window.
    pub pool: Pool,
    /// Whether padding counts in the divisor.
    pub count_padding: bool,
}

impl OpDef for AvgPool2d {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "avg_pool2d",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = the mean of x under each window of size `kernel`; padding adds zeros and counts in the divisor only with \
              `count_padding`.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let pool = Pool::read("avg_pool2d", attrs)?;
        Ok(Self { pool, count_padding: attrs.bool("count_padding")?.unwrap_or(false) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        self.pool.write(AttrWriter::new()).put_unless("count_padding", self.count_padding, false).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        self.pool.infer(inputs.at(0), &[DType::F32])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        self.pool.eval(inputs.at(0), |under, inside| {
            let divisor = if self.count_padding { inside } else { under.len() };
            under.iter().sum::<f64>() / divisor as f64
        })
    }
}
