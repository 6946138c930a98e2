//! Convolutions of integers with pixels in lanes: four channels of a pixel lie side by side, which one instruction
//! multiplies with four weights of an output.
//!
//! Rows and columns that windows skip are sorted out when the image is copied: those that a tap meets for neighbouring
//! windows become neighbours, with zeros around them. Then a tap meets the same elements at every place, only shifted,
//! over the ends of rows too, and sums for places between the windows are left out in the end. The activations are
//! stored plus 128, so that they have no sign. What that adds to a sum depends on the weights alone.

use core::ops::Range;

use bitc_format::Layout;

use super::Slide;
use crate::isa::{BLOCK, Isa, PANEL, QUAD_PLACES, QuadTile, TILE};

/// Zeros: each is stored plus 128.
const ZEROS: [u8; 4] = [128; 4];

/// The planes of a group of channels and the windows that slide over them.
#[derive(Clone, Copy, Debug)]
pub struct QuadWindows {
    /// The number of channels, a multiple of 4.
    pub channels: usize,
    /// The movement of the windows over rows and over columns.
    pub slides: [Slide; 2],
}

/// Rows or columns by the windows that they begin.
#[derive(Clone, Copy, Debug)]
struct Axis {
    slide: Slide,
    /// Taps that are so far apart meet the same sort of rows.
    period: usize,
    /// How many sorts there are: rows of a sort are a stride apart.
    sorts: usize,
    /// Rows of a sort.
    len: usize,
}

impl Axis {
    fn new(slide: Slide) -> Self {
        let period = slide.stride / divisor(slide.stride, slide.dilation);
        let reach = slide.kernel.saturating_sub(1).saturating_mul(slide.dilation) / slide.stride;
        Self { slide, period, sorts: period.min(slide.kernel), len: slide.output.saturating_add(reach) }
    }

    /// The sort that a tap meets, and the place of the first window among its rows.
    fn tap(&self, tap: usize) -> (usize, usize) {
        (tap % self.period, tap * self.slide.dilation / self.slide.stride)
    }

    /// The rows of a sort that lie in the input, and where the first of them lies there.
    fn inside(&self, sort: usize) -> (Range<usize>, usize) {
        let Slide { stride, pad, dilation, input, .. } = self.slide;
        let shift = sort * dilation % stride;
        // Row `i` of the sort is row `i * stride + shift - pad` of the input.
        let [first, end] = [pad, pad + input].map(|at| at.saturating_sub(shift).div_ceil(stride).min(self.len));
        (first..end, (first * stride + shift).saturating_sub(pad))
    }
}

/// The greatest common divisor.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { divisor(b, a % b) }
}

impl QuadWindows {
    /// Whether the quads of all places are those of the planes as they are.
    fn are_planes(&self) -> bool {
        self.slides.iter().all(|s| s.kernel == 1 && s.stride == 1 && s.pad == 0 && s.output == s.input)
    }

    fn axes(&self) -> [Axis; 2] {
        self.slides.map(Axis::new)
    }

    /// Quads of a plane of four channels, all sorts.
    fn plane(&self) -> usize {
        self.axes().iter().fold(1, |area, axis| area.saturating_mul(axis.sorts).saturating_mul(axis.len))
    }

    /// Bytes of the quads of one plane of the input, where they are not taken as they are.
    pub fn plane_len(&self) -> usize {
        if self.are_planes() {
            return 0;
        }
        self.slides.iter().fold(4, |len, slide| len.saturating_mul(slide.input))
    }

    /// From one row of places to the next.
    pub(crate) fn pitch(&self) -> usize {
        Axis::new(self.slides[1]).len
    }

    /// Bytes of the quads of all channels, with room behind them.
    pub fn packed_len(&self) -> usize {
        let quads = self.plane().saturating_mul(self.channels / 4).saturating_add(QUAD_PLACES);
        quads.saturating_mul(4)
    }

    /// How many quads of a window there are.
    pub fn steps(&self) -> usize {
        let taps = self.slides[0].kernel.saturating_mul(self.slides[1].kernel);
        taps.saturating_mul(self.channels / 4)
    }

    /// Sums of so many rows of windows and of places between them.
    pub fn places(&self, rows: usize) -> usize {
        let before = rows.saturating_sub(1).saturating_mul(self.pitch());
        before.saturating_add(self.slides[1].output).checked_next_multiple_of(QUAD_PLACES).unwrap_or(usize::MAX)
    }

    /// Where each quad of a window lies, tap by tap, counted from its place. The quads are fewer than 2^32.
    pub fn offsets(&self, offsets: &mut [u32]) {
        let [down, right] = self.axes();
        let plane = self.plane();
        let mut offsets = offsets.iter_mut();
        for tap_y in 0..down.slide.kernel {
            let (sort_y, y) = down.tap(tap_y);
            for tap_x in 0..right.slide.kernel {
                let (sort_x, x) = right.tap(tap_x);
                let at = ((sort_y * right.sorts + sort_x) * down.len + y) * right.len + x;
                for (four, offset) in (0..self.channels / 4).zip(&mut offsets) {
                    *offset = (four * plane + at) as u32;
                }
            }
        }
    }
}

/// The quads of `x`, plane by plane. Those of one plane lie in `plane` first, in the order of the input.
#[inline(always)]
pub(super) fn of_planes(windows: QuadWindows, x: &[i8], plane: &mut [u8], quads: &mut [u8]) {
    let [down, right] = windows.axes();
    let area = down.slide.input * right.slide.input;
    assert!(x.len() == area * windows.channels && windows.channels.is_multiple_of(4), "planes of the stated size");
    assert!(plane.len() == windows.plane_len() && quads.len() == windows.packed_len(), "room for the quads");
    let plane = plane.as_chunks_mut::<4>().0;
    let (quads, room) = quads.as_chunks_mut::<4>().0.split_at_mut(windows.plane() * (windows.channels / 4));
    room.fill(ZEROS);
    if area == 0 || quads.is_empty() {
        return quads.fill(ZEROS);
    }
    for (x, quads) in x.chunks_exact(4 * area).zip(quads.chunks_exact_mut(windows.plane())) {
        let x = core::array::from_fn(|i| &x[i * area..][..area]);
        if windows.are_planes() {
            side_by_side(x, quads);
        } else {
            side_by_side(x, plane);
            sorted(&down, &right, plane, quads);
        }
    }
}

/// The quads of a plane sort by sort, with zeros around them.
#[inline(always)]
fn sorted(down: &Axis, right: &Axis, plane: &[[u8; 4]], quads: &mut [[u8; 4]]) {
    let mut rows = quads.chunks_exact_mut(right.len);
    for sort_y in 0..down.sorts {
        let (inside_y, first_y) = down.inside(sort_y);
        for sort_x in 0..right.sorts {
            let (inside, first_x) = right.inside(sort_x);
            for (y, row) in (0..down.len).zip(&mut rows) {
                if !inside_y.contains(&y) || inside.is_empty() {
                    row.fill(ZEROS);
                    continue;
                }
                let y = first_y + (y - inside_y.start) * down.slide.stride;
                let from = &plane[y * right.slide.input..][..right.slide.input][first_x..];
                row[..inside.start].fill(ZEROS);
                row[inside.end..].fill(ZEROS);
                let to = &mut row[inside.clone()];
                match right.slide.stride {
                    1 => to.copy_from_slice(&from[..to.len()]),
                    // Told apart, since a known step makes vectors of it, and two is the usual one.
                    2 => to.iter_mut().zip(from.iter().step_by(2)).for_each(|(to, from)| *to = *from),
                    stride => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
                }
            }
        }
    }
}

#[inline(always)]
fn side_by_side([a, b, c, d]: [&[i8]; 4], to: &mut [[u8; 4]]) {
    let x = a.iter().zip(b).zip(c.iter().zip(d));
    to.iter_mut().zip(x).for_each(|(to, ((&a, &b), (&c, &d)))| *to = [a, b, c, d].map(|q| q as u8 ^ 128));
}

/// The weights of some outputs.
#[derive(Clone, Copy, Debug)]
pub struct PackedWeights<'a> {
    /// How they are packed: [`Layout::Trit2`], [`Layout::Bit1`] or [`Layout::Int8`].
    pub layout: Layout,
    /// The packed weights, `n` x `k`.
    pub w: &'a [u8],
    /// The number of outputs, at most 64.
    pub n: usize,
    /// The number of inputs, a multiple of 4.
    pub k: usize,
}

/// Tile by tile, for each four columns the weights of all outputs of the tile; and what the sums of each output begin
/// with.
#[inline(always)]
pub(super) fn of_weights(packed: PackedWeights<'_>, w: &mut [i8], starts: &mut [i32]) {
    match packed.layout {
        Layout::Int8 => of_bits::<1>(packed, w, |code| code ^ 128),
        Layout::Bit1 => of_bits::<8>(packed, w, |code| (2 * (code & 1)).wrapping_sub(1)),
        _ => of_bits::<4>(packed, w, |code| (code & 3).wrapping_sub(1)),
    }
    // An activation has 128 too much, and so has a weight here: their sum over all columns is known.
    let columns = (packed.k as u32).wrapping_mul(128);
    for (w, starts) in w.chunks_exact(packed.k / 4 * BLOCK).zip(starts.as_chunks_mut::<TILE>().0) {
        let sums = sums_of_codes(w);
        for (start, sum) in starts.iter_mut().zip(sums) {
            *start = columns.wrapping_sub(sum).wrapping_mul(128) as i32;
        }
    }
}

/// For each output of a tile the sum of its weights, each plus 128.
#[inline(always)]
fn sums_of_codes(w: &[i8]) -> [u32; TILE] {
    /// Steps whose sums of single bytes fit 16 bits.
    const RUN: usize = 256;
    const EVEN: u32 = 0x00ff_00ff;
    let mut sums = [0u32; TILE];
    for w in w.chunks(RUN * BLOCK) {
        let (mut even, mut odd) = ([0u32; TILE], [0u32; TILE]);
        for w in w.as_chunks::<4>().0.as_chunks::<TILE>().0 {
            for ((even, odd), w) in even.iter_mut().zip(&mut odd).zip(w) {
                let codes = u32::from_le_bytes(w.map(|w| w as u8)) ^ 0x8080_8080;
                *even += codes & EVEN;
                *odd += (codes >> 8) & EVEN;
            }
        }
        for ((sum, even), odd) in sums.iter_mut().zip(even).zip(odd) {
            *sum = sum.wrapping_add((even & 0xffff) + (even >> 16) + (odd & 0xffff) + (odd >> 16));
        }
    }
    sums
}

/// `P` planes in a byte; `value` sees the code in the lowest bits and others above it.
#[inline(always)]
fn of_bits<const P: usize>(packed: PackedWeights<'_>, w: &mut [i8], value: impl Fn(u8) -> u8) {
    let PackedWeights { w: packed, n, k, .. } = packed;
    let (n_tiles, steps) = (n.div_ceil(TILE), k / 4);
    assert!(n <= PANEL && k.is_multiple_of(4), "a panel of whole quads");
    assert!(
        packed.len() == n_tiles * steps.div_ceil(P) * BLOCK && w.len() == n_tiles * steps * BLOCK,
        "as many weights"
    );
    let blocks = packed.as_chunks::<BLOCK>().0;
    for (tile, w) in w.chunks_exact_mut(steps * BLOCK).enumerate() {
        let blocks = blocks[tile..].iter().step_by(n_tiles);
        for (steps, block) in w.as_chunks_mut::<BLOCK>().0.chunks_mut(P).zip(blocks) {
            for (p, step) in steps.iter_mut().enumerate() {
                step.iter_mut().zip(block).for_each(|(w, &byte)| *w = value(byte >> (8 / P * p)) as i8);
            }
        }
    }
}

/// Some rows of the windows of an image, and weights that meet them.
#[derive(Clone, Copy, Debug)]
pub struct Quads<'a> {
    /// The planes and the windows.
    pub windows: QuadWindows,
    /// What [`super::Kernels::quads_of_planes`] made of the planes.
    pub x: &'a [u8],
    /// What [`QuadWindows::offsets`] says.
    pub offsets: &'a [u32],
    /// What [`super::Kernels::quads_of_weights`] made of the weights.
    pub w: &'a [i8],
    /// And of their sums.
    pub starts: &'a [i32],
    /// Whether all weights are -1, 0 or 1.
    pub ternary: bool,
    /// The number of outputs.
    pub outputs: usize,
    /// The first row of windows and how many there are.
    pub rows: [usize; 2],
}

impl Quads<'_> {
    /// How many windows there are.
    pub(super) fn pixels(&self) -> usize {
        self.rows[1] * self.windows.slides[1].output
    }

    /// The weights of some tiles of the outputs.
    #[cfg(feature = "threads")]
    pub(super) fn tiles(self, tiles: Range<usize>) -> Self {
        let tile = self.offsets.len() * BLOCK;
        Self {
            w: &self.w[tiles.start * tile..tiles.end * tile],
            starts: &self.starts[tiles.start * TILE..tiles.end * TILE],
            outputs: self.outputs.min(tiles.end * TILE) - tiles.start * TILE,
            ..self
        }
    }

    /// Whether all lengths are as they should be.
    pub(super) fn fit(&self, places: &[i32], sums: &[i32]) -> bool {
        let [first, rows] = self.rows;
        let tiles = self.outputs.div_ceil(TILE);
        first + rows <= self.windows.slides[0].output
            && self.x.len() == self.windows.packed_len()
            && self.offsets.len() == self.windows.steps()
            && self.w.len() == tiles * self.offsets.len() * BLOCK
            && self.starts.len() == tiles * TILE
            && places.len() == tiles * TILE * self.windows.places(rows)
            && sums.len() == self.outputs * self.pixels()
    }
}

/// `sums[o][y][x]` of the windows of the rows, exact. `places` is memory to work in.
#[inline(always)]
pub(super) fn quads<I: Isa>(isa: I, quads: Quads<'_>, places: &mut [i32], sums: &mut [i32]) {
    assert!(quads.fit(places, sums), "lengths of one convolution");
    let (pixels, pitch, width) = (quads.pixels(), quads.windows.pitch(), quads.windows.slides[1].output);
    if sums.is_empty() {
        return;
    }
    let n_places = quads.windows.places(quads.rows[1]);
    let tiles = quads.w.chunks_exact(quads.offsets.len() * BLOCK).zip(quads.starts.as_chunks::<TILE>().0);
    for ((w, starts), sums) in tiles.zip(sums.chunks_mut(TILE * pixels)) {
        let outputs = sums.len() / pixels;
        let tile = QuadTile {
            x: &quads.x.as_chunks::<4>().0[quads.rows[0] * pitch..],
            offsets: quads.offsets,
            w: w.as_chunks::<4>().0.as_chunks().0,
            starts,
            ternary: quads.ternary,
            outputs,
            places: n_places,
        };
        if n_places == pixels {
            isa.quads(tile, sums);
            continue;
        }
        let places = &mut places[..outputs * n_places];
        isa.quads(tile, places);
        for (sums, places) in sums.chunks_exact_mut(pixels).zip(places.chunks_exact(n_places)) {
            for (sums, places) in sums.chunks_exact_mut(width).zip(places.chunks(pitch)) {
                sums.copy_from_slice(&places[..width]);
            }
        }
    }
}
