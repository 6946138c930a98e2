//! `conv2d`: a two-dimensional convolution with float weights; and the geometry that windows share.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::activation::Activation;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_rank, expect_shape};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// Where a sliding window goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Steps down and right.
    pub strides: [usize; 2],
    /// Padding at the top, left, bottom and right.
    pub pads: [usize; 4],
    /// Distances between elements of the window.
    pub dilations: [usize; 2],
}

impl Default for Window {
    /// Steps of one, no padding, no gaps.
    fn default() -> Self {
        Self { strides: [1, 1], pads: [0; 4], dilations: [1, 1] }
    }
}

impl Window {
    /// Reads `strides`, `pads` and `dilations`.
    ///
    /// # Errors
    /// If one is malformed, or a stride or dilation is zero.
    pub fn read(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let default = Self::default();
        let window = Self {
            strides: attrs.sizes("strides")?.unwrap_or(default.strides),
            pads: attrs.sizes("pads")?.unwrap_or(default.pads),
            dilations: attrs.sizes("dilations")?.unwrap_or(default.dilations),
        };
        for (name, sizes) in [("strides", window.strides), ("dilations", window.dilations)] {
            if sizes.iter().any(|&s| s == 0 || s > MAX_STEP) {
                return Err(attrs.invalid(name, format!("from 1 to {MAX_STEP}"), format!("{sizes:?}")));
            }
        }
        if window.pads.iter().any(|&p| p > MAX_STEP) {
            return Err(attrs.invalid("pads", format!("at most {MAX_STEP}"), format!("{:?}", window.pads)));
        }
        Ok(window)
    }

    /// Adds what is not the default.
    pub fn write(&self, attrs: AttrWriter) -> AttrWriter {
        let default = Self::default();
        attrs
            .sizes("strides", &self.strides, &default.strides)
            .sizes("pads", &self.pads, &default.pads)
            .sizes("dilations", &self.dilations, &default.dilations)
    }

    /// The output height or width for an input and kernel of the given size; axis 0 is height.
    ///
    /// # Errors
    /// If the kernel is larger than the padded input, where that is known.
    pub fn output(&self, axis: usize, input: &Dim, kernel: usize, ceil: bool) -> Result<Dim, TypeError> {
        let span = kernel.checked_sub(1).and_then(|k| k.checked_mul(self.dilations[axis]));
        let wrong = || TypeError::new(format!("a window of size {kernel} that fits dimension {axis}"), input);
        let span = span.and_then(|s| s.checked_add(1)).filter(|&s| i64::try_from(s).is_ok()).ok_or_else(wrong)?;
        let padded = input.add(&Dim::from(self.pads[axis] + self.pads[axis + 2])).ok_or_else(wrong)?;
        if padded.as_const().is_some_and(|n| n < span) {
            return Err(wrong());
        }
        let stride = self.strides[axis];
        // Whether a last window would start in the far padding depends on the size, which no polynomial can say.
        if ceil && padded.as_const().is_none() && self.pads[axis + 2] + stride > span {
            return Err(TypeError::new(format!("a fixed dimension {axis} for these pads and `ceil`"), input));
        }
        let extra = Dim::from(if ceil { stride - 1 } else { 0 });
        let steps = padded.sub(&Dim::from(span)).and_then(|d| d.add(&extra)).and_then(|d| d.floor_div(stride));
        let mut out = steps.and_then(|d| d.add(&Dim::from(1))).ok_or_else(wrong)?;
        // A window that would start in the far padding is dropped.
        if ceil && let (Some(n), Some(x)) = (out.as_const(), input.as_const()) {
            let last = n.saturating_sub(1).saturating_mul(stride);
            if n > 0 && last >= x + self.pads[axis] {
                out = Dim::from(n - 1);
            }
        }
        Ok(out)
    }

    /// The input position under element `tap` of the window at `out`, if it is not in the padding.
    pub fn position(&self, axis: usize, out: usize, tap: usize, input: usize) -> Option<usize> {
        let at = (out * self.strides[axis] + tap * self.dilations[axis]).checked_sub(self.pads[axis])?;
        (at < input).then_some(at)
    }
}

/// The largest stride, dilation or padding that is taken.
pub const MAX_STEP: usize = 1 << 20;

/// A convolution over the last two axes of `x[n, c, h, w]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Conv2d {
    /// Where the window goes.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Applied to the sum.
    pub act: Activation,
}

impl OpDef for Conv2d {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "conv2d",
        inputs: &["x", "w", "bias?"],
        outputs: &["y"],
        doc: "y[n, o, ..] = act(sum over c, i, j of x[n, c, ..] * w[o, c, i, j] + bias[o]), NCHW; `pads` are top, left, \
              bottom, right; sums are kept in f64 here.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { window: Window::read(attrs)?, groups: read_groups(attrs)?, act: Activation::read(attrs)? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = self.window.write(AttrWriter::new());
        attrs.put_unless("groups", self.groups as i64, 1).word("act", self.act, Activation::None).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (inputs.at(0), inputs.at(1));
        expect_dtype("x", x, &[DType::F32])?;
        expect_dtype("w", w, &[DType::F32])?;
        Ok(vec![TensorType::new(DType::F32, conv_shape(x, w, inputs.get(2), &self.window, self.groups)?)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, w) = (array::floats(inputs.at(0)), array::floats(inputs.at(1)));
        let bias = inputs.get(2).map(array::f32s).transpose()?;
        let (dims, sums) = convolve(&x, &w, &self.window, self.groups)?;
        let per_output = dims[2] * dims[3];
        let value = |(i, sum): (usize, f64)| {
            let output = i / per_output % dims[1];
            self.act.apply((sum + bias.as_ref().map_or(0.0, |b| f64::from(b[output]))) as f32)
        };
        let y: Vec<f32> = sums.into_iter().enumerate().map(value).collect();
        Ok(vec![Tensor::new(&dims, &y)])
    }
}

pub(super) fn read_groups(attrs: &mut AttrReader) -> Result<usize, AttrError> {
    let groups = attrs.int("groups")?.unwrap_or(1);
    usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(|| attrs.invalid("groups", "at least 1", groups))
}

/// The shape of a convolution of `x[n, c, h, w]` by `w[o, c / groups, kh, kw]`.
pub(super) fn conv_shape(
    x: &TensorType,
    w: &TensorType,
    bias: Option<&TensorType>,
    window: &Window,
    groups: usize,
) -> Result<Shape, TypeError> {
    expect_rank("x", x, 4)?;
    expect_rank("w", w, 4)?;
    let wrong = || TypeError::new(format!("`w` of shape [o, c / {groups}, kh, kw] for `x` {x}"), w);
    let w_dims = w.shape.to_fixed().ok_or_else(wrong)?;
    let [outputs, per_group, kh, kw] = w_dims[..] else { return Err(wrong()) };
    let channels = per_group.checked_mul(groups).filter(|&c| i64::try_from(c).is_ok()).map(Dim::from);
    if channels.as_ref() != Some(&x.shape.0[1]) || outputs % groups != 0 {
        return Err(wrong());
    }
    if let Some(bias) = bias {
        expect_dtype("bias", bias, &[DType::F32])?;
        expect_shape("bias", bias, &[Dim::from(outputs)])?;
    }
    let height = window.output(0, &x.shape.0[2], kh, false)?;
    let width = window.output(1, &x.shape.0[3], kw, false)?;
    Ok(Shape(vec![x.shape.0[0].clone(), Dim::from(outputs), height, width]))
}

/// The plain sums of a convolution and their dimensions, over any number type.
pub(super) fn convolve<T>(
    x: &ndarray::ArrayD<T>,
    w: &ndarray::ArrayD<T>,
    window: &Window,
    groups: usize,
) -> Result<(Vec<usize>, Vec<T>), EvalError>
where
    T: Copy + Default + std::ops::Mul<Output = T> + std::ops::AddAssign,
{
    let wrong_rank = || EvalError::Undefined("a convolution takes arrays of rank 4".to_owned());
    let (&[batch, _, h_in, w_in], &[outputs, channels, kh, kw]) = (x.shape(), w.shape()) else {
        return Err(wrong_rank());
    };
    let size = |axis, input, kernel| {
        let dim = window.output(axis, &Dim::from(input), kernel, false)?;
        dim.as_const().ok_or_else(|| TypeError::new("an output size", dim))
    };
    let (h_out, w_out) = (size(0, h_in, kh)?, size(1, w_in, kw)?);
    let (x, w) = (x.as_standard_layout(), w.as_standard_layout());
    let (Some(x), Some(w)) = (x.as_slice(), w.as_slice()) else { return Err(wrong_rank()) };
    let (image, plane) = (h_in * w_in, h_out * w_out);
    let mut sums = vec![T::default(); batch * outputs * plane];
    // Whole planes at a time. Every sum takes its products channel by channel and row by row of the kernel.
    for (at, sums) in sums.chunks_mut(plane.max(1)).enumerate() {
        let (n, o) = (at / outputs, at % outputs);
        let first_channel = o / (outputs / groups) * channels;
        for (c, i, j) in taps(channels, kh, kw) {
            let weight = w[((o * channels + c) * kh + i) * kw + j];
            let x = &x[(n * channels * groups + first_channel + c) * image..][..image];
            let under = |ox: &usize| window.position(1, *ox, j, w_in).is_some();
            let Some((left, from)) = (0..w_out).find_map(|ox| Some((ox, window.position(1, ox, j, w_in)?))) else { continue };
            let count = (left..w_out).take_while(under).count();
            for (oy, sums) in sums.chunks_mut(w_out).enumerate() {
                let Some(iy) = window.position(0, oy, i, h_in) else { continue };
                let row = x[iy * w_in + from..(iy + 1) * w_in].iter().step_by(window.strides[1]);
                for (sum, &x) in sums[left..left + count].iter_mut().zip(row) {
                    *sum += x * weight;
                }
            }
        }
    }
    Ok((vec![batch, outputs, h_out, w_out], sums))
}

/// The elements of a kernel for one output, in the order of weights.
fn taps(channels: usize, height: usize, width: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let rows = (0..channels).flat_map(move |c| (0..height).map(move |i| (c, i)));
    rows.flat_map(move |(c, i)| (0..width).map(move |j| (c, i, j)))
}
