//! Sliding windows over two-dimensional planes: convolution and pooling.

use bitc_format::inst::PoolKind;

use super::math;

/// Size and movement of a window along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Slide {
    /// Extent of the window, in taps.
    pub kernel: usize,
    /// Distance of neighbouring windows.
    pub stride: usize,
    /// Padding before the input.
    pub pad: usize,
    /// Padding after the input.
    pub pad_end: usize,
    /// Distance of neighbouring taps.
    pub dilation: usize,
    /// Size of the input.
    pub input: usize,
    /// Size of the output.
    pub output: usize,
}

/// Planes of an image and the kernels that meet them.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// The planes, one per channel.
    pub x: &'a [f32],
    /// The kernels, one per channel.
    pub w: &'a [f32],
    /// The movement of the window over rows.
    pub rows: Slide,
    /// The movement of the window over columns.
    pub columns: Slide,
}

impl Slide {
    /// The outputs for which a tap lies inside the input, and the input position of the first of them.
    fn outputs_of_tap(&self, tap: usize) -> (usize, usize, usize) {
        let shift = tap * self.dilation;
        let first = self.pad.saturating_sub(shift).div_ceil(self.stride);
        // output * stride + shift - pad < input
        let end = (self.input + self.pad).saturating_sub(shift).div_ceil(self.stride).min(self.output);
        let first = first.min(end);
        (first, end, (first * self.stride + shift).saturating_sub(self.pad))
    }

    /// The taps of a window that lie inside the input, and the input position of the first of them.
    fn taps_of_output(&self, output: usize) -> (usize, usize) {
        let start = output * self.stride;
        let first = self.pad.saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        let end = (self.input + self.pad).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        (first.min(end), end)
    }

    /// How many taps of a window lie inside the padded input.
    fn padded_taps(&self, output: usize) -> usize {
        let end = (self.input + self.pad + self.pad_end).saturating_sub(output * self.stride);
        end.div_ceil(self.dilation).min(self.kernel)
    }
}

/// Adds the convolution of all planes to `y`.
#[inline(always)]
pub(super) fn convolve(p: Planes<'_>, y: &mut [f32]) {
    let (x_plane, w_plane) = (p.rows.input * p.columns.input, p.rows.kernel * p.columns.kernel);
    if x_plane == 0 || w_plane == 0 {
        return;
    }
    for (x, w) in p.x.chunks_exact(x_plane).zip(p.w.chunks_exact(w_plane)) {
        accumulate(y, x, w, &p.rows, &p.columns);
    }
}

/// Adds the convolution of one input plane with one kernel plane to an output plane.
#[inline(always)]
fn accumulate(y: &mut [f32], x: &[f32], w: &[f32], rows: &Slide, columns: &Slide) {
    for (tap_y, w) in w.chunks_exact(columns.kernel).enumerate() {
        let (first, end, mut from_y) = rows.outputs_of_tap(tap_y);
        for out_y in first..end {
            let x = &x[from_y * columns.input..][..columns.input];
            let y = &mut y[out_y * columns.output..][..columns.output];
            for (tap_x, &w) in w.iter().enumerate() {
                let (first, end, from_x) = columns.outputs_of_tap(tap_x);
                if first >= end {
                    continue;
                }
                let y = &mut y[first..end];
                if columns.stride == 1 {
                    y.iter_mut().zip(&x[from_x..]).for_each(|(y, &x)| *y += w * x);
                } else {
                    let x = x[from_x..].iter().step_by(columns.stride);
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y += w * x);
                }
            }
            from_y += rows.stride;
        }
    }
}

/// Pools one plane.
pub(crate) fn pool(y: &mut [f32], x: &[f32], kind: PoolKind, rows: &Slide, columns: &Slide) {
    for (out_y, y) in y.chunks_exact_mut(columns.output).enumerate() {
        let (y_first, y_end) = rows.taps_of_output(out_y);
        for (out_x, y) in y.iter_mut().enumerate() {
            let (x_first, x_end) = columns.taps_of_output(out_x);
            let (mut peak, mut sum, mut n) = (f32::NEG_INFINITY, 0.0f64, 0usize);
            for tap_y in y_first..y_end {
                let in_y = out_y * rows.stride + tap_y * rows.dilation - rows.pad;
                for tap_x in x_first..x_end {
                    let in_x = out_x * columns.stride + tap_x * columns.dilation - columns.pad;
                    let value = x[in_y * columns.input + in_x];
                    peak = math::max(peak, value);
                    sum += f64::from(value);
                    n += 1;
                }
            }
            *y = match kind {
                PoolKind::Max => peak,
                PoolKind::Average => (sum / n as f64) as f32,
                PoolKind::AverageWithPad => {
                    (sum / (rows.padded_taps(out_y) * columns.padded_taps(out_x)) as f64) as f32
                }
            };
        }
    }
}
