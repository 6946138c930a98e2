//! `group_sum`: class scores of a logic network.

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};
use std::borrow::Cow;

/// The last axis in equal groups, each summed, shifted and divided.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupSum {
    /// The number of groups.
    pub groups: usize,
    /// What the sums are divided by.
    pub tau: f32,
    /// What is added to the sums before.
    pub beta: f32,
}

impl GroupSum {
    /// How many elements a group has; the last group may have fewer.
    pub fn group_len(&self, elements: usize) -> usize {
        elements.div_ceil(self.groups)
    }

    /// The score of a sum.
    pub fn score(&self, sum: f32) -> f32 {
        (sum + self.beta) / self.tau
    }
}

impl OpDef for GroupSum {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "group_sum",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y[.., c] = (sum of x[.., i] over group c + beta) / tau; groups are contiguous and equal, the last filled with \
              zeros where elements are missing. Bits are counted, floats summed in f64.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let groups = attrs.required_int("groups")?;
        let groups = usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(|| attrs.invalid("groups", "at least 1", groups))?;
        let op = Self { groups, tau: attrs.float("tau")?.unwrap_or(1.0), beta: attrs.float("beta")?.unwrap_or(0.0) };
        if !op.tau.is_finite() || op.tau == 0.0 {
            return Err(attrs.invalid("tau", "finite and not zero", op.tau));
        }
        if !op.beta.is_finite() {
            return Err(attrs.invalid("beta", "finite", op.beta));
        }
        Ok(op)
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = AttrWriter::new().put("groups", self.groups as i64);
        attrs.put_unless("tau", self.tau, 1.0).put_unless("beta", self.beta, 0.0).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        expect_dtype("x", x, &[DType::Bool, DType::F32])?;
        let mut shape = x.shape.clone();
        let elements = shape.0.pop().as_ref().and_then(Dim::as_const);
        if elements.is_none() {
            return Err(TypeError::new("`x` with a last axis of known length", x));
        }
        shape.0.push(Dim::from(self.groups));
        Ok(vec![TensorType::new(DType::F32, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let n = x.dims().last().copied().unwrap_or(0);
        let rows: usize = x.dims().iter().rev().skip(1).product();
        let (values, group) = (x.to_f64(), self.group_len(n));
        let score = |row: usize, c: usize| {
            let (start, end) = ((c * group).min(n), ((c + 1) * group).min(n));
            self.score(values[row * n..][start..end].iter().sum::<f64>() as f32)
        };
        let y: Vec<f32> = (0..rows).flat_map(|r| (0..self.groups).map(move |c| (r, c))).map(|(r, c)| score(r, c)).collect();
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(self.groups);
        Ok(vec![Tensor::new(&dims, &y)])
    }
}
