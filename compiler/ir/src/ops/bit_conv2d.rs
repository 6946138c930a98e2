//! `bit_conv2d`: a convolution with ternary or 8-bit weights and quantised activations.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::activation::Activation;
use crate::ops::bit_linear::expect_output_scale;
use crate::ops::conv2d::{Window, conv_shape, convolve, read_groups};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// A convolution whose sums are integers.
#[derive(Clone, PartialEq, Debug)]
pub struct BitConv2d {
    /// Where the window goes.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Applied to the result.
    pub act: Activation,
}

impl BitConv2d {
    /// The integer sums, row-major, with their dimensions.
    ///
    /// # Errors
    /// If the operands are no integers of rank 4.
    pub fn accumulate(&self, q: &Tensor, w: &Tensor) -> Result<(Vec<usize>, Vec<i32>), EvalError> {
        let ints = |t: &Tensor| {
            let wrong = || EvalError::Undefined(format!("expected integers, found {}", t.ty()));
            array::integers(t).map(|a| a.mapv(|v| v as i32)).ok_or_else(wrong)
        };
        convolve(&ints(q)?, &ints(w)?, &self.window, self.groups)
    }
}

impl OpDef for BitConv2d {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "bit_conv2d",
        inputs: &["q", "q_scale", "w", "scale", "bias?"],
        outputs: &["y"],
        doc: "acc = the convolution of q by w in i32; y[n, o, ..] = act((f32(acc) * q_scale) * scale[o] + bias[o]). q_scale \
              is one per sample, [n, 1, 1, 1], or one in all.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { window: Window::read(attrs)?, groups: read_groups(attrs)?, act: Activation::read(attrs)? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = self.window.write(AttrWriter::new());
        attrs.put_unless("groups", self.groups as i64, 1).word("act", self.act, Activation::None).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (q, q_scale, w, scale) = (inputs.at(0), inputs.at(1), inputs.at(2), inputs.at(3));
        expect_dtype("q", q, &[DType::I8])?;
        expect_dtype("q_scale", q_scale, &[DType::F32])?;
        expect_dtype("w", w, &[DType::T2, DType::I8])?;
        expect_dtype("scale", scale, &[DType::F32])?;
        let shape = conv_shape(q, w, inputs.get(4), &self.window, self.groups)?;
        let per_sample = [q.shape.0[0].clone(), Dim::from(1), Dim::from(1), Dim::from(1)];
        if !q_scale.shape.0.iter().all(Dim::is_one) && q_scale.shape.0 != per_sample {
            return Err(TypeError::new("`q_scale` that is one per sample or one in all", q_scale));
        }
        expect_output_scale(scale, &shape.0[1])?;
        Ok(vec![TensorType::new(DType::F32, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let flat = |t: &Tensor| array::f32s(t).map(|a| a.iter().copied().collect::<Vec<_>>());
        let (q_scale, scale) = (flat(inputs.at(1))?, flat(inputs.at(3))?);
        let bias = inputs.get(4).map(flat).transpose()?;
        let (dims, acc) = self.accumulate(inputs.at(0), inputs.at(2))?;
        let pick = |v: &[f32], i: usize| if v.len() == 1 { v[0] } else { v[i] };
        let per_output = dims[2] * dims[3];
        let value = |(i, &acc): (usize, &i32)| {
            let (sample, output) = (i / per_output / dims[1], i / per_output % dims[1]);
            let mut y = (acc as f32 * pick(&q_scale, sample)) * pick(&scale, output);
            if let Some(bias) = &bias {
                y += bias[output];
            }
            self.act.apply(y)
        };
        let y: Vec<f32> = acc.iter().enumerate().map(value).collect();
        Ok(vec![Tensor::new(&dims, &y)])
    }
}
