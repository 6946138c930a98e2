//! Convolutions of integers with few channels and outputs: plane by plane, tap by tap.
//!
//! The planes are copied with zeros around them. Then the elements that a tap meets for neighbouring windows are
//! neighbours, over the ends of rows too, and sums for places between the windows are left out in the end.

use core::ops::Range;

use super::Slide;

/// Sums that stay in registers.
const BLOCK: usize = 64;

/// The planes of one group of an image, and the kernels that meet them.
#[derive(Clone, Copy, Debug)]
pub struct Taps<'a> {
    /// The planes, one per channel.
    pub x: &'a [i8],
    /// For each output, for each tap, one weight per channel.
    pub w: &'a [i8],
    /// The number of channels.
    pub channels: usize,
    /// The number of outputs.
    pub outputs: usize,
    /// The movement of the windows over rows and over columns.
    pub slides: [Slide; 2],
}

impl Taps<'_> {
    /// Elements along an axis that windows reach.
    fn reach(&self, axis: usize) -> usize {
        let Slide { kernel, stride, dilation, output, .. } = self.slides[axis];
        let windows = output.saturating_sub(1).saturating_mul(stride);
        let taps = kernel.saturating_sub(1).saturating_mul(dilation);
        windows.saturating_add(taps).saturating_add(1)
    }

    /// Elements of the copied planes, with room for a block behind them.
    pub(crate) fn padded_len(&self) -> usize {
        let plane = self.reach(0).saturating_mul(self.reach(1));
        plane.saturating_mul(self.channels).saturating_add(BLOCK)
    }

    fn check(&self, padded: &[i8], places: &[i32], sums: &[i32]) {
        let area = |size: fn(&Slide) -> usize| size(&self.slides[0]).checked_mul(size(&self.slides[1]));
        let times = |n: usize, area: Option<usize>| area.and_then(|area| area.checked_mul(n));
        assert!(times(self.channels, area(|slide| slide.input)) == Some(self.x.len()), "planes of the stated size");
        assert!(
            times(self.channels * self.outputs, area(|slide| slide.kernel)) == Some(self.w.len()),
            "a weight for each tap"
        );
        assert!(times(self.outputs, area(|slide| slide.output)) == Some(sums.len()), "a sum for each result");
        assert!(padded.len() == self.padded_len(), "room for the planes and the zeros around them");
        assert!(places.len() == self.places_len(), "a sum for each place");
    }

    /// Where the input lies in the rows or columns of a copied plane, from its beginning.
    fn inside(&self, axis: usize) -> Range<usize> {
        let (reach, Slide { pad, input, .. }) = (self.reach(axis), self.slides[axis]);
        let first = pad.min(reach);
        first..pad.saturating_add(input).clamp(first, reach)
    }

    fn pad(&self, padded: &mut [i8]) {
        padded.fill(0);
        let (width, pitch) = (self.slides[1].input, self.reach(1));
        let (rows, columns) = (self.inside(0), self.inside(1));
        if self.x.is_empty() {
            return;
        }
        let planes = self.x.chunks_exact(self.slides[0].input * width);
        for (plane, padded) in planes.zip(padded.chunks_exact_mut(self.reach(0) * pitch)) {
            for (row, x) in rows.clone().zip(plane.chunks_exact(width)) {
                padded[row * pitch..][columns.clone()].copy_from_slice(&x[..columns.len()]);
            }
        }
    }

    /// Lines whose places are worked on together: all rows where windows move down by one, else each row. Their number,
    /// the rows of each and its places.
    fn lines(&self) -> [usize; 3] {
        let [down, right] = self.slides;
        let (lines, rows) = if down.stride == 1 { (1, down.output) } else { (down.output, 1) };
        let last = right.output.saturating_sub(1).saturating_mul(right.stride);
        let places = rows.saturating_sub(1).saturating_mul(self.reach(1)).saturating_add(last).saturating_add(1);
        [lines, rows, places]
    }

    /// The sums of all places of a line, in whole blocks.
    pub(crate) fn places_len(&self) -> usize {
        self.lines()[2].div_ceil(BLOCK).saturating_mul(BLOCK)
    }
}

/// `sums[o][y][x]` of all windows, exact. `padded` and `places` are memory to work in.
#[inline(always)]
pub(super) fn taps(taps: Taps<'_>, padded: &mut [i8], places: &mut [i32], sums: &mut [i32]) {
    taps.check(padded, places, sums);
    if sums.is_empty() || taps.w.is_empty() {
        return sums.fill(0);
    }
    taps.pad(padded);
    let [height, width] = taps.slides.map(|slide| slide.output);
    let [down, right] = taps.slides.map(|slide| slide.stride);
    let pitch = taps.reach(1);
    let [lines, rows, _] = taps.lines();
    for (sums, w) in sums.chunks_exact_mut(height * width).zip(taps.w.chunks_exact(taps.w.len() / taps.outputs)) {
        for line in 0..lines {
            for (i, block) in places.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                *block = sums_of_block(&taps, padded, w, line * down * pitch + i * BLOCK);
            }
            let sums = sums[line * rows * width..][..rows * width].chunks_exact_mut(width);
            for (sums, places) in sums.zip(places.chunks(pitch)) {
                if right == 1 {
                    sums.copy_from_slice(&places[..width]);
                } else {
                    sums.iter_mut().zip(places.iter().step_by(right)).for_each(|(sum, place)| *sum = *place);
                }
            }
        }
    }
}

/// The sums of neighbouring places.
#[inline(always)]
fn sums_of_block(taps: &Taps<'_>, padded: &[i8], w: &[i8], place: usize) -> [i32; BLOCK] {
    let pitch = taps.reach(1);
    let plane = taps.reach(0) * pitch;
    let mut sums = [0i32; BLOCK];
    for (ky, w) in w.chunks_exact(taps.slides[1].kernel * taps.channels).enumerate() {
        for (kx, w) in w.chunks_exact(taps.channels).enumerate() {
            let first = place + ky * taps.slides[0].dilation * pitch + kx * taps.slides[1].dilation;
            for (channel, &w) in w.iter().enumerate() {
                // Behind the last place of a plane is another plane, or room.
                let x = padded.get(first + channel * plane..).and_then(|x| x.first_chunk::<BLOCK>());
                let w = i32::from(w);
                if let Some(x) = x.filter(|_| w != 0) {
                    sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += w * i32::from(x));
                }
            }
        }
    }
    sums
}
