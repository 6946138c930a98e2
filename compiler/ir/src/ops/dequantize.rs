//! `dequantize`: integers times a scale.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// `y = f32(q) * scale`; the scale broadcasts to `q`, or is one per group of its last axis.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Dequantize {
    /// How many neighbouring elements of the last axis share a scale; 0 where the scale broadcasts.
    pub group: usize,
}

impl Dequantize {
    /// The shape of a scale with one number per group of the last axis; the last group may be shorter.
    pub fn grouped_shape(q: &Shape, group: usize) -> Option<Shape> {
        let (last, outer) = q.0.split_last()?;
        let groups = last.as_const()?.div_ceil(group.max(1));
        Some(Shape(outer.iter().cloned().chain([Dim::from(groups)]).collect()))
    }
}

impl OpDef for Dequantize {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "dequantize",
        inputs: &["q", "scale"],
        outputs: &["y"],
        doc: "y = f32(q) * scale; the scale broadcasts to q, or with `group` = g is scale[.., k / g] for q[.., k]. Holds ternary weights and their scale until a layer takes both.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { group: read_group(attrs)? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("group", self.group as i64, 0).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (q, scale) = (inputs.at(0), inputs.at(1));
        if q.dtype.is_float() || q.dtype.size_bytes() > 4 {
            return Err(TypeError::new("`q` of an integer type of at most 32 bits", q));
        }
        expect_dtype("scale", scale, &[DType::F32])?;
        if self.group > 0 {
            let grouped = Self::grouped_shape(&q.shape, self.group);
            let grouped = grouped.ok_or_else(|| TypeError::new("`q` with a fixed last dimension", q))?;
            if scale.shape != grouped {
                return Err(TypeError::new(format!("`scale` of shape {grouped}"), scale));
            }
            return Ok(vec![TensorType::new(DType::F32, q.shape.clone())]);
        }
        if q.shape.broadcast(&scale.shape).as_ref() != Some(&q.shape) {
            return Err(TypeError::new(format!("`scale` that broadcasts to {}", q.shape), scale));
        }
        Ok(vec![TensorType::new(DType::F32, q.shape.clone())])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let q = array::floats(inputs.at(0)).mapv(|v| v as f32);
        let scale = array::f32s(inputs.at(1))?;
        if self.group > 0 {
            let scales: Vec<f32> = scale.iter().copied().collect();
            let columns = q.shape().last().copied().unwrap_or(1).max(1);
            let groups = columns.div_ceil(self.group);
            let scaled = |(i, &q): (usize, &f32)| q * scales[i / columns * groups + i % columns / self.group];
            let y: Vec<f32> = q.iter().enumerate().map(scaled).collect();
            return Ok(vec![Tensor::new(q.shape(), &y)]);
        }
        let wrong = || EvalError::Undefined("the scale does not broadcast".to_owned());
        let scale = scale.broadcast(q.raw_dim()).ok_or_else(wrong)?;
        Ok(vec![array::tensor_f32(&(&q * &scale))])
    }
}

/// How many neighbouring inputs share a scale; 0 for all of a row.
pub(super) fn read_group(attrs: &mut AttrReader) -> Result<usize, AttrError> {
    const MAX: i64 = 1 << 31;
    match attrs.int("group")?.unwrap_or(0) {
        n @ 0..=MAX => Ok(n as usize),
        n => Err(attrs.invalid("group", "a number of inputs", n)),
    }
}
