//! `quantize` and `bit_conv2d`.

#[cfg(not(feature = "minimal"))]
use alloc::vec::Vec;
use core::ops::Range;

use bitc_format::inst::{BitConv2d, BitConv2dQuantize, Granularity, Quantize};
use bitc_format::{Layout, Operand};

use crate::RunError;
use crate::arena::{self, AlignedBytes};
use crate::bind::Binding;
use crate::frame::{Frame, Taken};
use crate::kernels::{BitProduct, QuantizeRule, Quantized, Sharing, post};
use crate::program::Program;

/// Rows that are multiplied at once.
const PIXELS: usize = 64;

pub(crate) fn quantize(frame: &mut Frame<'_, '_>, inst: &Quantize) -> Result<(), RunError> {
    let mut q = frame.take(inst.q);
    let mut scale = frame.take(inst.scale);
    let mut sums = inst.sums.map(|id| frame.take(id));
    let result = fill(frame, inst, &mut q, &mut scale, sums.as_mut());
    frame.put(inst.q, q);
    frame.put(inst.scale, scale);
    if let (Some(taken), Some(id)) = (sums, inst.sums) {
        frame.put(id, taken);
    }
    result
}

fn fill(
    frame: &Frame<'_, '_>,
    inst: &Quantize,
    q: &mut Taken<'_>,
    scale: &mut Taken<'_>,
    sums: Option<&mut Taken<'_>>,
) -> Result<(), RunError> {
    let x = frame.array::<f32>(inst.x)?;
    let q = q.elements::<i8>(frame.len(inst.q))?;
    let scale = scale.elements::<f32>(frame.len(inst.scale))?;
    let sums = match (sums, inst.sums) {
        (Some(taken), Some(id)) => Some(taken.elements::<i32>(frame.len(id))?),
        _ => None,
    };
    let (columns, rows) = (x.shape.last_or_one(), x.shape.rows());
    if x.data.is_empty() {
        // Values that do not exist have scales and sums all the same.
        let (mut one, rule) = ([0.0], QuantizeRule::from(inst));
        let out = Quantized { q: &mut [0; 64], pitch: 64, scale: &mut one, sums: None };
        frame.kernels.quantize(&[0.0], 1, &rule, Sharing::Rows(1), out);
        scale.fill(one[0]);
        if let Some(sums) = sums {
            sums.fill(0);
        }
        return Ok(());
    }
    let sharing = match inst.granularity {
        Granularity::Row => Sharing::Rows(1),
        // Axis 1 is the last one.
        Granularity::Channel if x.shape.len() == 2 => Sharing::Rows(1),
        Granularity::Tensor => Sharing::Rows(rows),
        Granularity::Channel => {
            let channels = x.shape[1];
            Sharing::Channels { channels, rows: rows / (x.shape[0] * channels) }
        }
    };
    let out = Quantized { pitch: q.len() / rows, q, scale, sums };
    frame.kernels.quantize(x.data, columns, &inst.into(), sharing, out);
    Ok(())
}

/// The shape of an operand, while there is no frame yet.
pub(super) fn shape_of<'a>(operand: Operand, program: &'a Program, binding: &'a Binding) -> &'a [usize] {
    let shape = match operand {
        Operand::Buffer(id) => binding.shapes.get(id.index()),
        Operand::Const(id) => program.const_shapes().get(id.index()),
    };
    shape.map(|s| &**s).unwrap_or_default()
}

pub(super) fn weights<'f>(frame: &'f Frame<'_, '_>, w: Operand) -> Result<(Layout, &'f [u8]), RunError> {
    let Operand::Const(id) = w else { return Err(RunError::ProgramChanged) };
    Ok((frame.program.contents().consts()[id.index()].layout, frame.bytes(w)?))
}

/// The sizes of a convolution.
struct Geometry {
    groups: usize,
    /// Output channels of a group.
    n: usize,
    /// Input channels of a group.
    channels: usize,
    /// Values of one window in one group.
    k: usize,
    /// `k` rounded up to 64.
    pitch: usize,
    /// Height and width of the input and of the output.
    input: [usize; 2],
    output: [usize; 2],
}

impl Geometry {
    fn new(inst: &BitConv2d, q: &[usize], w: &[usize], y: &[usize]) -> Option<Self> {
        let (groups, n, k) = match *w {
            [n, k] => (1, n, k),
            [groups, n, k] => (groups, n, k),
            _ => return None,
        };
        let taps = (inst.kernel[0] as usize).checked_mul(inst.kernel[1] as usize)?;
        let (&[_, _, h, w], &[_, _, oh, ow]) = (q, y) else { return None };
        let pitch = k.checked_next_multiple_of(64)?;
        Some(Self { groups, n, channels: k.checked_div(taps)?, k, pitch, input: [h, w], output: [oh, ow] })
    }

    /// Bytes of the gathered rows, their sums, their products, and products times scales; and of an image with its
    /// channels together, and the sum of each of its pixels.
    fn parts(&self) -> [usize; 6] {
        let whole = |bytes: usize| bytes.checked_next_multiple_of(64).unwrap_or(usize::MAX);
        let row = |bytes: usize| whole(PIXELS.saturating_mul(bytes));
        let products = row(self.n.saturating_mul(4));
        let pixels = self.input[0].saturating_mul(self.input[1]);
        let image = whole(pixels.saturating_mul(self.channels));
        [row(self.pitch), row(4), products, products, image, whole(pixels.saturating_mul(4))]
    }
}

/// Bytes for one block of gathered windows and their products.
pub(crate) fn conv_scratch(inst: &BitConv2d, program: &Program, binding: &Binding) -> usize {
    let q = shape_of(inst.q, program, binding);
    let w = shape_of(inst.w, program, binding);
    let y = shape_of(inst.y.into(), program, binding);
    let geometry = Geometry::new(inst, q, w, y);
    geometry.map_or(0, |g| g.parts().into_iter().fold(0, usize::saturating_add))
}

pub(crate) fn bit_conv2d(frame: &mut Frame<'_, '_>, inst: &BitConv2d) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [f32], scratch| {
        each_stretch(frame, inst, scratch, |at, compute| compute(&mut y[at]))
    })
}

/// `bit_conv2d` and the quantiser behind it.
pub(crate) fn bit_conv2d_quantize(frame: &mut Frame<'_, '_>, inst: &BitConv2dQuantize) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.layer.y, |frame, q: &mut [i8], scratch| {
        each_stretch(frame, &inst.layer, scratch, |at, compute| {
            let mut values = [0f32; PIXELS];
            let values = &mut values[..at.len()];
            compute(values);
            frame.kernels.codes(values, &inst.steps, &mut q[at]);
        })
    })
}

/// Says for each stretch of at most [`PIXELS`] neighbouring results where it is, and computes it.
fn each_stretch(
    frame: &Frame<'_, '_>,
    inst: &BitConv2d,
    scratch: &mut AlignedBytes,
    mut store: impl FnMut(Range<usize>, &dyn Fn(&mut [f32])),
) -> Result<(), RunError> {
    let (q_scale, scale) = (frame.array::<f32>(inst.q_scale)?.data, frame.array::<f32>(inst.scale)?.data);
    let bias = frame.optional::<f32>(inst.bias)?;
    let images = frame.shape(inst.q)[0];
    let per_pixel = q_scale.len() > 1 && q_scale.len() != images;
    let pixels: usize = frame.shape(inst.y)[2..].iter().product();
    let out_channels = frame.shape(inst.y)[1];
    windows(frame, inst, scratch, per_pixel.then_some(q_scale), |at, products| {
        let n = match products {
            Products::Exact(acc) => acc.len() / at.rows,
            Products::Scaled(sums) => sums.len() / at.rows,
        };
        let q_scale = if q_scale.len() == 1 { q_scale[0] } else { q_scale[at.image] };
        for channel in 0..n {
            let o = at.group * n + channel;
            let scale = if scale.len() == 1 { scale[0] } else { scale[o] };
            let first = (at.image * out_channels + o) * pixels + at.pixel;
            store(first..first + at.rows, &|y| {
                match products {
                    Products::Exact(acc) => {
                        let sums = acc[channel..].iter().step_by(n);
                        y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = (sum as f32 * q_scale) * scale);
                    }
                    Products::Scaled(sums) => {
                        let sums = sums[channel..].iter().step_by(n);
                        y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum * scale);
                    }
                }
                if let Some(bias) = bias {
                    y.iter_mut().for_each(|y| *y += bias[o]);
                }
                post::activate(inst.activation, y);
            });
        }
    })
}

/// The integer sums of a `bit_conv2d`; none with a scale per pixel, where they belong to single taps.
#[cfg(not(feature = "minimal"))]
pub(crate) fn conv_accumulators(frame: &Frame<'_, '_>, inst: &BitConv2d) -> Result<Option<Vec<i32>>, RunError> {
    let images = frame.shape(inst.q)[0];
    let scales = frame.shape(inst.q_scale).numel();
    if scales > 1 && scales != images {
        return Ok(None);
    }
    let mut scratch = AlignedBytes::default();
    scratch.reserve(conv_scratch(inst, frame.program, frame.binding))?;
    let mut all = Vec::new();
    if frame.shape(inst.y).numel() > 0 {
        windows(frame, inst, &mut scratch, None, |_, products| {
            if let Products::Exact(acc) = products {
                all.extend_from_slice(acc);
            }
        })?;
    }
    Ok(Some(all))
}

/// Which windows a block holds: `rows` neighbouring output pixels of one image, for one group.
struct Block {
    group: usize,
    image: usize,
    pixel: usize,
    rows: usize,
}

/// The products of a block with the weights of its group.
#[derive(Clone, Copy)]
enum Products<'a> {
    Exact(&'a [i32]),
    Scaled(&'a [f32]),
}

/// Gathers the windows of all images block by block, group by group, and shows their products. With scales per pixel
/// the taps are multiplied one by one.
fn windows(
    frame: &Frame<'_, '_>,
    inst: &BitConv2d,
    scratch: &mut AlignedBytes,
    pixel_scales: Option<&[f32]>,
    mut show: impl FnMut(Block, Products<'_>),
) -> Result<(), RunError> {
    let q = frame.array::<i8>(inst.q)?;
    let geometry = Geometry::new(inst, q.shape, frame.shape(inst.w), frame.shape(inst.y));
    let g = geometry.ok_or(RunError::ProgramChanged)?;
    let (layout, w) = weights(frame, inst.w)?;
    let group_len = w.len() / g.groups.max(1);
    let [rows_len, sums_len, acc_len, scaled_len, image_len, totals_len] = g.parts();
    let (rows_bytes, rest) = scratch.bytes_mut().split_at_mut(rows_len);
    let (sums_bytes, rest) = rest.split_at_mut(sums_len);
    let (acc_bytes, rest) = rest.split_at_mut(acc_len);
    let (scaled_bytes, rest) = rest.split_at_mut(scaled_len);
    let (image_bytes, rest) = rest.split_at_mut(image_len);
    let scaled = arena::elements_mut::<f32>(scaled_bytes).ok_or(RunError::ProgramChanged)?;
    let image_values = arena::elements_mut::<i8>(image_bytes).ok_or(RunError::ProgramChanged)?;
    let totals = arena::elements_mut::<i32>(&mut rest[..totals_len]).ok_or(RunError::ProgramChanged)?;
    let rows = arena::elements_mut::<i8>(rows_bytes).ok_or(RunError::ProgramChanged)?;
    let sums = arena::elements_mut::<i32>(sums_bytes).ok_or(RunError::ProgramChanged)?;
    let acc = arena::elements_mut::<i32>(acc_bytes).ok_or(RunError::ProgramChanged)?;
    let pixels = g.output[0] * g.output[1];
    let taps = inst.kernel[0] as usize * inst.kernel[1] as usize;
    let plane = g.input[0] * g.input[1];
    let image_values = &mut image_values[..plane * g.channels];
    let totals = &mut totals[..plane];
    for image in 0..q.shape[0] {
        for group in 0..g.groups {
            let w = &w[group * group_len..][..group_len];
            let first = (image * q.shape[1] + group * g.channels) * plane;
            channels_together(&q.data[first..][..plane * g.channels], image_values, totals);
            for pixel in (0..pixels).step_by(PIXELS) {
                let block = Block { group, image, pixel, rows: PIXELS.min(pixels - pixel) };
                let rows = &mut rows[..block.rows * g.pitch];
                let sums = &mut sums[..block.rows];
                let acc = &mut acc[..block.rows * g.n];
                let scaled = &mut scaled[..block.rows * g.n];
                let multiply = |rows: &[i8], sums: &[i32], acc: &mut [i32]| {
                    let (n, k, pitch) = (g.n, g.k, g.pitch);
                    frame.kernels.bit_product(BitProduct { layout, w, n, k, q: rows, pitch, sums }, acc);
                };
                let Some(pixel_scales) = pixel_scales else {
                    rows.fill(0);
                    sums.fill(0);
                    for tap in 0..taps {
                        gather_tap(inst, &g, image_values, &block, tap, rows, |row, at| sums[row] += totals[at]);
                    }
                    multiply(rows, sums, acc);
                    show(block, Products::Exact(acc));
                    continue;
                };
                scaled.fill(0.0);
                let image_scales = &pixel_scales[image * g.input[0] * g.input[1]..];
                for tap in 0..taps {
                    rows.fill(0);
                    sums.fill(0);
                    // Windows that lie outside at this tap add nothing, whatever their scale.
                    let mut tap_scales = [0.0; PIXELS];
                    gather_tap(inst, &g, image_values, &block, tap, rows, |row, at| {
                        tap_scales[row] = image_scales[at];
                        sums[row] = totals[at];
                    });
                    multiply(rows, sums, acc);
                    let lines = scaled.chunks_exact_mut(g.n).zip(acc.chunks_exact(g.n)).zip(tap_scales);
                    for ((scaled, acc), scale) in lines {
                        scaled.iter_mut().zip(acc).for_each(|(s, &a)| *s += a as f32 * scale);
                    }
                }
                show(block, Products::Scaled(scaled));
            }
        }
    }
    Ok(())
}

pub(super) fn sum_rows(rows: &[i8], pitch: usize, sums: &mut [i32]) {
    for (row, sum) in rows.chunks_exact(pitch).zip(sums) {
        *sum = row.iter().map(|&q| i32::from(q)).sum();
    }
}

/// Puts the channels of every pixel side by side, where an image has them plane by plane, and sums them.
fn channels_together(planes: &[i8], image: &mut [i8], totals: &mut [i32]) {
    /// Pixels at a time, so that what is written stays near.
    const TILE: usize = 64;
    let channels = planes.len().checked_div(totals.len()).unwrap_or(0);
    if channels == 0 {
        return totals.fill(0);
    }
    for (i, tile) in image.chunks_mut(TILE * channels).enumerate() {
        let pixels = tile.len() / channels;
        for (channel, plane) in planes.chunks_exact(totals.len()).enumerate() {
            let values = &plane[i * TILE..][..pixels];
            tile[channel..].iter_mut().step_by(channels).zip(values).for_each(|(to, &from)| *to = from);
        }
    }
    sum_rows(image, channels, totals);
}

/// Copies the channels under one tap of every window of the block; says for each window inside the image which pixel
/// that was.
fn gather_tap(
    inst: &BitConv2d,
    g: &Geometry,
    image: &[i8],
    block: &Block,
    tap: usize,
    rows: &mut [i8],
    mut inside: impl FnMut(usize, usize),
) {
    let [height, width] = g.input;
    let (ky, kx) = (tap / inst.kernel[1] as usize, tap % inst.kernel[1] as usize);
    let (mut oy, mut ox) = (block.pixel / g.output[1], block.pixel % g.output[1]);
    for (row, values) in rows.chunks_exact_mut(g.pitch).enumerate() {
        let y = (oy * inst.strides[0] as usize + ky * inst.dilations[0] as usize).checked_sub(inst.pads[0] as usize);
        let x = (ox * inst.strides[1] as usize + kx * inst.dilations[1] as usize).checked_sub(inst.pads[1] as usize);
        ox += 1;
        if ox == g.output[1] {
            (oy, ox) = (oy + 1, 0);
        }
        let (Some(y), Some(x)) = (y.filter(|&y| y < height), x.filter(|&x| x < width)) else { continue };
        let at = y * width + x;
        inside(row, at);
        match &mut values[tap * g.channels..][..g.channels] {
            [one] => *one = image[at],
            several => several.copy_from_slice(&image[at * g.channels..][..g.channels]),
        }
    }
}
