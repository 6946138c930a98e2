//! `bit_conv2d`: a convolution with ternary or 8-bit weights and quantised activations.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::activation::Activation;
use crate::ops::bit_linear::expect_output_scale;
use crate::ops::conv2d::{Window, conv_shape, convolve, read_groups};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

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

    /// The sums times one scale for all, or one per sample.
    fn scaled(&self, q: &Tensor, w: &Tensor, scales: &[f32]) -> Result<(Vec<usize>, Vec<f32>), EvalError> {
        let (dims, acc) = self.accumulate(q, w)?;
        let per_sample = dims[1..].iter().product::<usize>().max(1);
        let scale = |i: usize| if scales.len() == 1 { scales[0] } else { scales[i / per_sample] };
        let sums = acc.iter().enumerate().map(|(i, &acc)| acc as f32 * scale(i)).collect();
        Ok((dims, sums))
    }

    /// The sums of scaled taps: a convolution by each tap alone, with the scale of the pixel under it.
    fn scaled_taps(&self, q: &Tensor, scales: &Tensor, w: &Tensor) -> Result<(Vec<usize>, Vec<f32>), EvalError> {
        let (q_dims, w_dims) = (q.dims(), w.dims());
        let wrong = || EvalError::Undefined(format!("expected integers, found {} and {}", q.ty(), w.ty()));
        let weights = w.to_vec::<i8>().ok_or_else(wrong)?;
        let pixels = scales.to_vec::<f32>().ok_or_else(wrong)?;
        let (height, width) = (w_dims[2], w_dims[3]);
        let mut total: Option<(Vec<usize>, Vec<f32>)> = None;
        for tap in 0..height * width {
            let only: Vec<i8> =
                weights.iter().enumerate().map(|(i, &v)| if i % (height * width) == tap { v } else { 0 }).collect();
            let (dims, acc) = self.accumulate(q, &Tensor::with_dtype(DType::I8, w_dims, &only))?;
            let (_, sums) = total.get_or_insert_with(|| (dims.clone(), vec![0.0; acc.len()]));
            let window = &self.window;
            // Where the tap lies, for an output position along one axis; `None` outside of the image.
            let under = |axis: usize, out: usize, tap: usize| {
                let at = (out * window.strides[axis] + tap * window.dilations[axis]).checked_sub(window.pads[axis])?;
                (at < q_dims[2 + axis]).then_some(at)
            };
            for (i, (sum, acc)) in sums.iter_mut().zip(acc).enumerate() {
                let (sample, row, column) = (i / (dims[1] * dims[2] * dims[3]), i / dims[3] % dims[2], i % dims[3]);
                let place = under(0, row, tap / width).zip(under(1, column, tap % width));
                let scale = place.map_or(0.0, |(r, c)| pixels[(sample * q_dims[2] + r) * q_dims[3] + c]);
                *sum += acc as f32 * scale;
            }
        }
        total.ok_or_else(wrong)
    }
}

/// Whether scales are one for each pixel of images.
fn per_pixel(scales: &Shape, images: &Shape) -> bool {
    match (&scales.0[..], &images.0[..]) {
        ([n, one, h, w], [images, _, height, width]) => n == images && one.is_one() && h == height && w == width,
        _ => false,
    }
}

impl OpDef for BitConv2d {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "bit_conv2d",
        inputs: &["q", "q_scale", "w", "scale", "bias?"],
        outputs: &["y"],
        doc: "acc = the convolution of q by w in i32; y[n, o, ..] = act((f32(acc) * q_scale) * scale[o] + bias[o]). q_scale \
              is one per sample, [n, 1, 1, 1], or one in all. With one per pixel, [n, 1, h, w], the sum of each tap over its \
              channels is multiplied by the scale of its pixel, and the taps are added in f32, row by row of the kernel.",
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
        if !q_scale.shape.0.iter().all(Dim::is_one) && q_scale.shape.0 != per_sample && !per_pixel(&q_scale.shape, &q.shape) {
            return Err(TypeError::new("`q_scale` that is one per sample, one per pixel or one in all", q_scale));
        }
        expect_output_scale(scale, &shape.0[1])?;
        Ok(vec![TensorType::new(DType::F32, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let flat = |t: &Tensor| array::f32s(t).map(|a| a.iter().copied().collect::<Vec<_>>());
        let (q_scale, scale) = (flat(inputs.at(1))?, flat(inputs.at(3))?);
        let bias = inputs.get(4).map(flat).transpose()?;
        let (dims, acc) = match inputs.at(1).dims() {
            // Scales of single pixels belong to single taps.
            [_, _, 1, 1] | [] => self.scaled(inputs.at(0), inputs.at(2), &q_scale)?,
            dims if dims.iter().all(|&d| d == 1) => self.scaled(inputs.at(0), inputs.at(2), &q_scale)?,
            _ => self.scaled_taps(inputs.at(0), inputs.at(1), inputs.at(2))?,
        };
        let pick = |v: &[f32], i: usize| if v.len() == 1 { v[0] } else { v[i] };
        let per_output = dims[2] * dims[3];
        let value = |(i, &sum): (usize, &f32)| {
            let output = i / per_output % dims[1];
            let mut y = sum * pick(&scale, output);
            if let Some(bias) = &bias {
                y += bias[output];
            }
            self.act.apply(y)
        };
        let y: Vec<f32> = acc.iter().enumerate().map(value).collect();
        Ok(vec![Tensor::new(&dims, &y)])
    }
}
