//! Sliding windows over two-dimensional planes: convolution and pooling.
//!
//! A convolution with enough kernels is a product whose columns are the windows; with few it goes tap by tap.

use core::ops::Range;

use bitc_format::inst::Activation;

use super::blocked::{self, Columns, Rows};
use super::{Slide, post};
use crate::isa::{FLOAT_COLUMNS, Isa};

/// The planes of an image, or of one group of them, and the kernels that meet them.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    /// The planes, one per channel.
    pub x: &'a [f32],
    /// For each output the kernels, one per channel.
    pub w: &'a [f32],
    /// Added to each output.
    pub bias: Option<&'a [f32]>,
    /// The number of outputs.
    pub outputs: usize,
    /// The movement of the window over rows.
    pub rows: Slide,
    /// The movement of the window over columns.
    pub columns: Slide,
    /// Applied last.
    pub activation: Activation,
}

impl Convolution<'_> {
    /// Elements of a window in all channels.
    fn inner(&self) -> usize {
        self.w.len() / self.outputs.max(1)
    }

    /// Elements of scratch memory that the windows are packed in.
    pub(crate) fn packed_len(outputs: usize, inner: usize, plane: usize) -> usize {
        if outputs < blocked::WORTHWHILE { 0 } else { blocked::packed_len(inner, plane) }
    }
}

/// The windows of an image as columns: for each output the elements under the window, channel by channel.
#[derive(Clone, Copy, Debug)]
struct Windows<'a> {
    x: &'a [f32],
    rows: Slide,
    columns: Slide,
}

/// Neighbouring outputs of one row.
#[derive(Clone, Copy, Default)]
struct Stretch {
    /// The position among the columns.
    at: usize,
    n: usize,
    out_y: usize,
    out_x: usize,
}

impl Windows<'_> {
    /// Whether a window is one element and all of them are the image.
    fn is_image(&self) -> bool {
        [self.rows, self.columns].iter().all(|s| s.kernel == 1 && s.stride == 1 && s.pad == 0 && s.output == s.input)
    }
}

impl Columns for Windows<'_> {
    #[inline(always)]
    fn pack(&self, k: Range<usize>, first: usize, panel: &mut [f32], width: usize) {
        let (rows, columns) = (&self.rows, &self.columns);
        let plane = rows.input * columns.input;
        let n = width.min(rows.output * columns.output - first);
        if self.is_image() {
            for (row, channel) in panel.chunks_exact_mut(width).zip(k) {
                row[..n].copy_from_slice(&self.x[channel * plane + first..][..n]);
                row[n..].fill(0.0);
            }
            return;
        }
        let mut stretches = [Stretch::default(); FLOAT_COLUMNS];
        let (mut n_stretches, mut at) = (0, 0);
        while at < n && n_stretches < stretches.len() {
            let (out_y, out_x) = ((first + at) / columns.output, (first + at) % columns.output);
            let n = (columns.output - out_x).min(n - at);
            stretches[n_stretches] = Stretch { at, n, out_y, out_x };
            n_stretches += 1;
            at += n;
        }
        let stretches = &stretches[..n_stretches];
        let taps = rows.kernel * columns.kernel;
        let (mut channel, mut tap_y) = (k.start / taps, k.start % taps / columns.kernel);
        let mut tap_x = k.start % columns.kernel;
        for row in panel.chunks_exact_mut(width) {
            let x = &self.x[channel * plane..][..plane];
            let (first, end, from_x) = columns.outputs_of_tap(tap_x);
            for stretch in stretches {
                let place = &mut row[stretch.at..][..stretch.n];
                let in_y = stretch.out_y * rows.stride + tap_y * rows.dilation;
                let in_y = in_y.checked_sub(rows.pad).filter(|&y| y < rows.input);
                let stop = stretch.out_x + stretch.n;
                let inside = first.clamp(stretch.out_x, stop)..end.clamp(stretch.out_x, stop);
                let Some(in_y) = in_y.filter(|_| !inside.is_empty()) else {
                    place.fill(0.0);
                    continue;
                };
                let (before, after) = (inside.start - stretch.out_x, inside.end - stretch.out_x);
                place[..before].fill(0.0);
                place[after..].fill(0.0);
                let from = from_x + (inside.start - first) * columns.stride;
                let x = &x[in_y * columns.input..][..columns.input][from..];
                let place = &mut place[before..after];
                if columns.stride == 1 {
                    place.copy_from_slice(&x[..place.len()]);
                } else {
                    place.iter_mut().zip(x.iter().step_by(columns.stride)).for_each(|(y, &x)| *y = x);
                }
            }
            row[n..].fill(0.0);
            tap_x += 1;
            if tap_x == columns.kernel {
                (tap_x, tap_y) = (0, tap_y + 1);
            }
            if tap_y == rows.kernel {
                (tap_y, channel) = (0, channel + 1);
            }
        }
    }
}

/// The outputs of a convolution, plane after plane.
#[inline(always)]
pub(super) fn convolve<I: Isa>(isa: I, c: Convolution<'_>, packed: &mut [f32], y: &mut [f32]) {
    let Convolution { x, w, bias, outputs, rows, columns, activation } = c;
    let (plane, inner) = (rows.output * columns.output, c.inner());
    assert!(y.len() == outputs * plane && w.len() == outputs * inner, "a convolution of these sizes");
    if y.is_empty() {
        return;
    }
    if outputs >= blocked::WORTHWHILE {
        let rows_of_w = Rows { a: w, k: inner, n: plane, row_bias: bias, column_bias: None, activation };
        return blocked::product(isa, rows_of_w, &Windows { x, rows, columns }, packed, y);
    }
    let (x_plane, w_plane) = (rows.input * columns.input, rows.kernel * columns.kernel);
    for (o, y) in y.chunks_exact_mut(plane).enumerate() {
        y.fill(0.0);
        if x_plane > 0 && w_plane > 0 {
            let w = &w[o * inner..][..inner];
            for (x, w) in x.chunks_exact(x_plane).zip(w.chunks_exact(w_plane)) {
                accumulate(y, x, w, &rows, &columns);
            }
        }
        if let Some(bias) = bias {
            y.iter_mut().for_each(|y| *y += bias[o]);
        }
        post::activate(activation, y);
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

/// The largest element under each window of a plane; `least` where it sees nothing. Lines of results meet the lines under
/// them, one element of the window after the other.
#[inline(always)]
pub(crate) fn max_pool<T: Copy>(
    y: &mut [T],
    x: &[T],
    least: T,
    larger: impl Fn(T, T) -> T,
    rows: &Slide,
    columns: &Slide,
) {
    y.fill(least);
    for tap_y in 0..rows.kernel {
        let (first, end, mut from_y) = rows.outputs_of_tap(tap_y);
        for out_y in first..end {
            let x = &x[from_y * columns.input..][..columns.input];
            let y = &mut y[out_y * columns.output..][..columns.output];
            for tap_x in 0..columns.kernel {
                let (first, end, from_x) = columns.outputs_of_tap(tap_x);
                if first < end {
                    let x = x[from_x..].iter().step_by(columns.stride);
                    y[first..end].iter_mut().zip(x).for_each(|(y, &x)| *y = larger(*y, x));
                }
            }
            from_y += rows.stride;
        }
    }
}

/// The mean under each window of a plane.
pub(crate) fn average_pool(y: &mut [f32], x: &[f32], counts_padding: bool, rows: &Slide, columns: &Slide) {
    for (out_y, y) in y.chunks_exact_mut(columns.output).enumerate() {
        for (out_x, y) in y.iter_mut().enumerate() {
            let (mut sum, mut n) = (0.0f64, 0usize);
            under(rows, columns, [out_y, out_x], |i| {
                sum += f64::from(x[i]);
                n += 1;
            });
            if counts_padding {
                n = rows.padded_taps(out_y) * columns.padded_taps(out_x);
            }
            *y = (sum / n as f64) as f32;
        }
    }
}

/// The places in the plane of the elements under a window.
#[inline(always)]
fn under(rows: &Slide, columns: &Slide, [out_y, out_x]: [usize; 2], mut element: impl FnMut(usize)) {
    let (y_first, y_end) = rows.taps_of_output(out_y);
    let (x_first, x_end) = columns.taps_of_output(out_x);
    for tap_y in y_first..y_end {
        let in_y = out_y * rows.stride + tap_y * rows.dilation - rows.pad;
        for tap_x in x_first..x_end {
            let in_x = out_x * columns.stride + tap_x * columns.dilation - columns.pad;
            element(in_y * columns.input + in_x);
        }
    }
}
