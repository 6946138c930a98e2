//! `bit_conv2d`: the windows of some pixels are gathered as rows of a product. Where channels come in fours and pixels
//! are many, vectors of pixels meet the weights of one output instead; where few channels meet few outputs, as in
//! depthwise convolutions, the planes are multiplied tap by tap.

#[cfg(not(feature = "minimal"))]
use alloc::vec::Vec;
use core::ops::Range;

use bitc_format::inst::{BitConv2d, BitConv2dQuantize};
#[cfg(not(feature = "minimal"))]
use bitc_format::{Layout, Operand};

use super::quantized::{shape_of, sum_rows, weights};
use crate::RunError;
use crate::arena::{self, AlignedBytes};
use crate::bind::Binding;
use crate::frame::Frame;
use crate::kernels::{BitProduct, Post, Slide, post};
use crate::program::Program;

#[cfg(not(feature = "minimal"))]
mod few;
#[cfg(not(feature = "minimal"))]
mod quads;

/// Rows that are multiplied at once.
const PIXELS: usize = 64;

/// The most neighbouring results that are stored at once.
const STRETCH: usize = if cfg!(feature = "minimal") { PIXELS } else { 1024 };

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
    /// The movement of the windows over rows and over columns.
    slides: [Slide; 2],
}

impl Geometry {
    fn new(inst: &BitConv2d, q: &[usize], w: &[usize], y: &[usize]) -> Option<Self> {
        let (groups, n, k) = match *w {
            [n, k] => (1, n, k),
            [groups, n, k] => (groups, n, k),
            _ => return None,
        };
        let kernel = inst.kernel.map(|extent| extent as usize);
        let channels = k.checked_div(kernel[0].checked_mul(kernel[1])?)?;
        if q.len() != 4 || y.len() != 4 {
            return None;
        }
        let slides = Slide::both(kernel, inst.strides, inst.pads, inst.dilations, q, y);
        Some(Self { groups, n, channels, k, pitch: k.checked_next_multiple_of(64)?, slides })
    }

    /// Elements of a plane of the input.
    fn plane(&self) -> usize {
        self.slides[0].input.saturating_mul(self.slides[1].input)
    }

    /// Results of an output channel.
    fn pixels(&self) -> usize {
        self.slides[0].output.saturating_mul(self.slides[1].output)
    }

    /// Bytes of the gathered rows, their sums, their products, those in planes, and products times scales; and of an image
    /// with its channels together, and the sum of each of its pixels.
    fn parts(&self) -> [usize; 7] {
        let whole = |bytes: usize| bytes.checked_next_multiple_of(64).unwrap_or(usize::MAX);
        let row = |bytes: usize| whole(PIXELS.saturating_mul(bytes));
        let products = row(self.n.saturating_mul(4));
        let plane = self.plane();
        let image = whole(plane.saturating_mul(self.channels));
        [row(self.pitch), row(4), products, products, products, image, whole(plane.saturating_mul(4))]
    }
}

/// How the weights are packed.
#[cfg(not(feature = "minimal"))]
fn layout_of(inst: &BitConv2d, program: &Program) -> Layout {
    let Operand::Const(id) = inst.w else { return Layout::Dense };
    program.contents().consts()[id.index()].layout
}

/// Bytes for one block of gathered windows and their products, or for the planes of a group and theirs.
pub(crate) fn scratch_len(inst: &BitConv2d, program: &Program, binding: &Binding) -> usize {
    let q = shape_of(inst.q, program, binding);
    let w = shape_of(inst.w, program, binding);
    let y = shape_of(inst.y.into(), program, binding);
    let Some(geometry) = Geometry::new(inst, q, w, y) else { return 0 };
    let sum = |parts: &[usize]| parts.iter().copied().fold(0, usize::saturating_add);
    let windows = sum(&geometry.parts());
    #[cfg(not(feature = "minimal"))]
    let windows = windows.max(sum(&few::parts(&geometry))).max(sum(&quads::parts(&geometry, layout_of(inst, program))));
    windows
}

pub(crate) fn bit_conv2d(frame: &mut Frame<'_, '_>, inst: &BitConv2d) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [f32], scratch| {
        each_stretch(frame, inst, scratch, &mut |at, compute| compute(&mut y[at]))
    })
}

/// `bit_conv2d` and the quantiser behind it.
pub(crate) fn bit_conv2d_quantize(frame: &mut Frame<'_, '_>, inst: &BitConv2dQuantize) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.layer.y, |frame, q: &mut [i8], scratch| {
        let mut values = [0f32; STRETCH];
        each_stretch(frame, &inst.layer, scratch, &mut |at, compute| {
            let values = &mut values[..at.len()];
            compute(values);
            frame.kernels.codes(values, &inst.steps, &mut q[at]);
        })
    })
}

/// What is done with the results of a stretch, which are computed where it says.
type Store<'a> = &'a mut dyn FnMut(Range<usize>, &dyn Fn(&mut [f32]));

/// Says for each stretch of at most [`STRETCH`] neighbouring results where it is, and computes it.
fn each_stretch(
    frame: &Frame<'_, '_>,
    inst: &BitConv2d,
    scratch: &mut AlignedBytes,
    store: Store<'_>,
) -> Result<(), RunError> {
    let (q_scale, scale) = (frame.array::<f32>(inst.q_scale)?.data, frame.array::<f32>(inst.scale)?.data);
    let bias = frame.optional::<f32>(inst.bias)?;
    let images = frame.shape(inst.q)[0];
    let per_pixel = q_scale.len() > 1 && q_scale.len() != images;
    let pixels: usize = frame.shape(inst.y)[2..].iter().product();
    let out_channels = frame.shape(inst.y)[1];
    let mut biases = [0f32; STRETCH];
    windows(frame, inst, scratch, per_pixel.then_some(q_scale), &mut |at, products| {
        let n = match products {
            Products::Exact(sums) => sums.len(),
            Products::Scaled(sums) => sums.len(),
        } / at.rows;
        let q_scale = if q_scale.len() == 1 { q_scale[0] } else { q_scale[at.image] };
        for channel in 0..n {
            let o = at.first + channel;
            let scale = if scale.len() == 1 { scale[0] } else { scale[o] };
            let all = (at.image * out_channels + o) * pixels + at.pixel;
            if let Some(bias) = bias {
                biases[..at.rows.min(STRETCH)].fill(bias[o]);
            }
            for first in (0..at.rows).step_by(STRETCH) {
                let rows = first..at.rows.min(first + STRETCH);
                store(all + rows.start..all + rows.end, &|y| match products {
                    Products::Exact(sums) => {
                        let post = Post {
                            row_scale: &[q_scale],
                            scale: &[scale],
                            bias: bias.map(|_| &biases[..y.len()]),
                            activation: inst.activation,
                        };
                        frame.kernels.post(&sums[channel * at.rows..][rows.clone()], y.len(), &post, y);
                    }
                    Products::Scaled(sums) => {
                        let sums = sums[rows.start * n + channel..].iter().step_by(n);
                        let bias = bias.map(|bias| bias[o]);
                        y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum * scale);
                        y.iter_mut().for_each(|y| *y = bias.map_or(*y, |bias| *y + bias));
                        post::activate_plainly(inst.activation, y);
                    }
                });
            }
        }
    })
}

/// The integer sums of a `bit_conv2d`; none with a scale per pixel, where they belong to single taps.
#[cfg(not(feature = "minimal"))]
pub(crate) fn accumulators(frame: &Frame<'_, '_>, inst: &BitConv2d) -> Result<Option<Vec<i32>>, RunError> {
    let images = frame.shape(inst.q)[0];
    let scales = frame.shape(inst.q_scale).numel();
    if scales > 1 && scales != images {
        return Ok(None);
    }
    let mut scratch = AlignedBytes::default();
    scratch.reserve(scratch_len(inst, frame.program, frame.binding))?;
    let shape = frame.shape(inst.y);
    let mut all = alloc::vec![0; shape.numel()];
    if let (false, &[_, outputs, height, width]) = (all.is_empty(), &shape[..]) {
        let n = match frame.shape(inst.w)[..] {
            [_, n, _] => n,
            _ => outputs,
        };
        windows(frame, inst, &mut scratch, None, &mut |at, products| {
            let Products::Exact(sums) = products else { return };
            // Image by image, group by group, pixel by pixel.
            let group = (at.image * outputs + at.first / n * n) * height * width;
            for (o, sums) in (at.first % n..).zip(sums.chunks_exact(at.rows)) {
                let places = all[group + at.pixel * n + o..].iter_mut().step_by(n);
                places.zip(sums).for_each(|(place, &sum)| *place = sum);
            }
        })?;
    }
    Ok(Some(all))
}

/// Which windows a block holds: `rows` neighbouring output pixels of one image, for some outputs from `first` on.
struct Block {
    image: usize,
    first: usize,
    pixel: usize,
    rows: usize,
}

/// The products of a block with the weights of its group.
#[derive(Clone, Copy)]
enum Products<'a> {
    /// Output by output.
    Exact(&'a [i32]),
    /// Pixel by pixel.
    Scaled(&'a [f32]),
}

/// Gathers the windows of all images block by block, group by group, and shows their products. With scales per pixel
/// the taps are multiplied one by one.
fn windows(
    frame: &Frame<'_, '_>,
    inst: &BitConv2d,
    scratch: &mut AlignedBytes,
    pixel_scales: Option<&[f32]>,
    show: &mut dyn FnMut(Block, Products<'_>),
) -> Result<(), RunError> {
    let q = frame.array::<i8>(inst.q)?;
    let geometry = Geometry::new(inst, q.shape, frame.shape(inst.w), frame.shape(inst.y));
    let g = geometry.ok_or(RunError::ProgramChanged)?;
    let (layout, w) = weights(frame, inst.w)?;
    #[cfg(not(feature = "minimal"))]
    if pixel_scales.is_none() {
        if frame.kernels.has_quads() && quads::is_quads(&g, layout) {
            return quads::products(frame, inst, &g, scratch, show);
        }
        if few::is_few(&g) {
            return few::planes(frame, inst, &g, scratch, show);
        }
    }
    let group_len = w.len() / g.groups.max(1);
    let [rows_len, sums_len, acc_len, planes_len, scaled_len, image_len, totals_len] = g.parts();
    let (rows_bytes, rest) = scratch.bytes_mut().split_at_mut(rows_len);
    let (sums_bytes, rest) = rest.split_at_mut(sums_len);
    let (acc_bytes, rest) = rest.split_at_mut(acc_len);
    let (planes_bytes, rest) = rest.split_at_mut(planes_len);
    let (scaled_bytes, rest) = rest.split_at_mut(scaled_len);
    let (image_bytes, rest) = rest.split_at_mut(image_len);
    let scaled = arena::elements_mut::<f32>(scaled_bytes).ok_or(RunError::ProgramChanged)?;
    let image_values = arena::elements_mut::<i8>(image_bytes).ok_or(RunError::ProgramChanged)?;
    let totals = arena::elements_mut::<i32>(&mut rest[..totals_len]).ok_or(RunError::ProgramChanged)?;
    let rows = arena::elements_mut::<i8>(rows_bytes).ok_or(RunError::ProgramChanged)?;
    let sums = arena::elements_mut::<i32>(sums_bytes).ok_or(RunError::ProgramChanged)?;
    let acc = arena::elements_mut::<i32>(acc_bytes).ok_or(RunError::ProgramChanged)?;
    let planes = arena::elements_mut::<i32>(planes_bytes).ok_or(RunError::ProgramChanged)?;
    let pixels = g.pixels();
    let taps = inst.kernel[0] as usize * inst.kernel[1] as usize;
    let plane = g.plane();
    let image_values = &mut image_values[..plane * g.channels];
    let totals = &mut totals[..plane];
    for image in 0..q.shape[0] {
        for group in 0..g.groups {
            let w = &w[group * group_len..][..group_len];
            let first = (image * q.shape[1] + group * g.channels) * plane;
            channels_together(&q.data[first..][..plane * g.channels], image_values, totals);
            for pixel in (0..pixels).step_by(PIXELS) {
                let block = Block { image, first: group * g.n, pixel, rows: PIXELS.min(pixels - pixel) };
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
                        gather_tap(&g, image_values, &block, tap, rows, |row, at| sums[row] += totals[at]);
                    }
                    multiply(rows, sums, acc);
                    let planes = &mut planes[..acc.len()];
                    outputs_together(acc, g.n, planes);
                    show(block, Products::Exact(planes));
                    continue;
                };
                scaled.fill(0.0);
                let image_scales = &pixel_scales[image * plane..];
                for tap in 0..taps {
                    rows.fill(0);
                    sums.fill(0);
                    // Windows that lie outside at this tap add nothing, whatever their scale.
                    let mut tap_scales = [0.0; PIXELS];
                    gather_tap(&g, image_values, &block, tap, rows, |row, at| {
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

/// Puts the sums of an output side by side, where each pixel has its own.
fn outputs_together(acc: &[i32], n: usize, planes: &mut [i32]) {
    /// Outputs at a time, so that what is written stays near.
    const TILE: usize = 64;
    let rows = acc.len() / n;
    for (i, planes) in planes.chunks_mut(TILE * rows).enumerate() {
        for (pixel, sums) in acc.chunks_exact(n).enumerate() {
            let sums = &sums[i * TILE..][..planes.len() / rows];
            planes[pixel..].iter_mut().step_by(rows).zip(sums).for_each(|(to, &from)| *to = from);
        }
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
        let plane = |channel: usize| &planes[channel * totals.len() + i * TILE..][..pixels];
        let whole = pixels == TILE && !cfg!(feature = "minimal");
        let eights = if whole { channels / 8 * 8 } else { 0 };
        for first in (0..eights).step_by(8) {
            for pixel in (0..TILE).step_by(8) {
                let lines =
                    core::array::from_fn(|c| plane(first + c)[pixel..].first_chunk().copied().unwrap_or([0; 8]));
                for (line, to) in eight_by_eight(lines).iter().zip(tile.chunks_exact_mut(channels).skip(pixel)) {
                    to[first..][..8].copy_from_slice(line);
                }
            }
        }
        for channel in eights..channels {
            tile[channel..].iter_mut().step_by(channels).zip(plane(channel)).for_each(|(to, &from)| *to = from);
        }
    }
    sum_rows(image, channels, totals);
}

/// Swaps rows and columns: halves of the lines, then quarters, then single bytes change places.
fn eight_by_eight(lines: [[i8; 8]; 8]) -> [[i8; 8]; 8] {
    let mut x = lines.map(|line| u64::from_le_bytes(line.map(|byte| byte as u8)));
    for (bytes, mask) in [(4, 0xffff_ffff), (2, 0xffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        for i in (0..8).filter(|i| i & bytes == 0) {
            let swapped = ((x[i] >> (8 * bytes)) ^ x[i + bytes]) & mask;
            x[i] ^= swapped << (8 * bytes);
            x[i + bytes] ^= swapped;
        }
    }
    x.map(|line| line.to_le_bytes().map(|byte| byte as i8))
}

/// Copies the channels under one tap of every window of the block; says for each window inside the image which pixel
/// that was.
fn gather_tap(
    g: &Geometry,
    image: &[i8],
    block: &Block,
    tap: usize,
    rows: &mut [i8],
    mut inside: impl FnMut(usize, usize),
) {
    let [down, right] = &g.slides;
    let (top, bottom, first_y) = down.outputs_of_tap(tap / right.kernel);
    let (first, end, first_x) = right.outputs_of_tap(tap % right.kernel);
    let mut row = 0;
    while row < block.rows {
        let (oy, ox) = ((block.pixel + row) / right.output, (block.pixel + row) % right.output);
        let n = (right.output - ox).min(block.rows - row);
        let windows = first.max(ox)..end.min(ox + n);
        if (top..bottom).contains(&oy) && !windows.is_empty() {
            let y = first_y + (oy - top) * down.stride;
            let mut at = y * right.input + first_x + (windows.start - first) * right.stride;
            let start = row + windows.start - ox;
            let values = rows[start * g.pitch..].chunks_exact_mut(g.pitch).take(windows.len());
            for (i, values) in values.enumerate() {
                inside(start + i, at);
                let to = &mut values[tap * g.channels..][..g.channels];
                let from = &image[at * g.channels..][..g.channels];
                match g.channels {
                    16 => fixed::<16>(to, from),
                    32 => fixed::<32>(to, from),
                    64 => fixed::<64>(to, from),
                    _ => to.copy_from_slice(from),
                }
                at += right.stride;
            }
        }
        row += n;
    }
}

/// Copies so many values without a call.
fn fixed<const N: usize>(to: &mut [i8], from: &[i8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *from;
    }
}
