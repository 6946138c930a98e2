//! Products of quantised activations with few-bit weights: the order in which tiles are visited.
//!
//! One token at a time is a pass over the weights. Several tokens are worked on in tiles: their activations are laid
//! next to each other, group by group, for some columns at a time, and meet a few panels of weights before the next
//! columns come. Everything lives on the stack and in the first level of cache; the sums are exact, so the order does
//! not show in the result.

mod lookup;

use std::ops::Range;

use bitc_format::Layout;

use super::{BitProduct, Post, post};
use crate::isa::{self, BLOCK, Isa, PANEL, PanelSums, PlanesTile, TILE};

/// Where the sums of one token with the rows of one panel go.
pub(super) trait Sink {
    /// Stores the sums of a token with the rows from `row` on.
    fn put(&mut self, token: usize, row: usize, sums: &[i32]);
}

/// Keeps the sums as they are.
pub(super) struct Sums<'a> {
    n: usize,
    acc: &'a mut [i32],
}

impl<'a> Sums<'a> {
    pub(super) fn new(product: BitProduct<'_>, acc: &'a mut [i32]) -> Self {
        product.check();
        assert!(acc.len() == product.sums.len() * product.n, "one result per token and output");
        Self { n: product.n, acc }
    }
}

impl Sink for Sums<'_> {
    #[inline(always)]
    fn put(&mut self, token: usize, row: usize, sums: &[i32]) {
        self.acc[token * self.n + row..][..sums.len()].copy_from_slice(sums);
    }
}

/// Stores what [`Post`] makes of the sums.
pub(super) struct Values<'a> {
    n: usize,
    post: &'a Post<'a>,
    y: &'a mut [f32],
}

impl<'a> Values<'a> {
    pub(super) fn new(product: BitProduct<'_>, post: &'a Post<'_>, y: &'a mut [f32]) -> Self {
        product.check();
        assert!(y.len() == product.sums.len() * product.n, "one result per token and output");
        post.check(product.sums.len(), product.n);
        Self { n: product.n, post, y }
    }
}

impl Sink for Values<'_> {
    #[inline(always)]
    fn put(&mut self, token: usize, row: usize, sums: &[i32]) {
        post::part(sums, token, row, self.post, &mut self.y[token * self.n + row..][..sums.len()]);
    }
}

impl BitProduct<'_> {
    fn check(&self) {
        let len = self.layout.packed_len(self.n as u64, self.k as u64);
        assert!(len == Some(self.w.len() as u64), "{} bytes of weights for {} x {}", self.w.len(), self.n, self.k);
        assert!(self.pitch >= self.k && self.pitch.is_multiple_of(64), "a pitch of {} for {}", self.pitch, self.k);
        assert!(self.q.len() == self.sums.len() * self.pitch, "one sum per token");
    }
}

/// The most tokens of a tile, on any instruction set.
const TOKENS: usize = 12;
/// Columns of which the activations of a tile of tokens are laid together at a time.
const COLUMNS: usize = 1024;
/// Panels that such columns meet before the next ones come, and whose sums are stored together.
const PANELS: usize = 8;

/// Computes `product` and hands the sums to `sink`.
#[inline(always)]
pub(super) fn run<I: Isa>(isa: I, product: BitProduct<'_>, sink: &mut impl Sink) {
    const { assert!(I::TOKENS <= TOKENS) };
    if product.k == 0 {
        return without_columns(product, sink);
    }
    match product.layout {
        Layout::Bit1 => in_groups::<32, I>(isa, product, sink),
        Layout::Int8 => in_groups::<4, I>(isa, product, sink),
        Layout::Trit5 => lookup::run(isa, product, sink),
        _ => in_groups::<16, I>(isa, product, sink),
    }
}

#[inline(always)]
fn without_columns(product: BitProduct<'_>, sink: &mut impl Sink) {
    for token in 0..product.sums.len() {
        for row in (0..product.n).step_by(PANEL) {
            sink.put(token, row, &[0; PANEL][..PANEL.min(product.n - row)]);
        }
    }
}

/// `G` is the number of columns of a group.
#[inline(always)]
fn in_groups<const G: usize, I: Isa>(isa: I, product: BitProduct<'_>, sink: &mut impl Sink) {
    let tokens = product.sums.len();
    if tokens == 1 {
        return one_token::<G, I>(isa, product, 0, sink);
    }
    let mut laid = [0; TOKENS * COLUMNS];
    let mut sums = [[[0; PANEL]; TOKENS]; PANELS];
    // Tiles of about equal size: none is so small that it has few sums to work on.
    let n_tiles = tokens.div_ceil(I::TOKENS);
    for tile in 0..n_tiles {
        let (first, end) = (tokens * tile / n_tiles, tokens * (tile + 1) / n_tiles);
        if end - first == 1 {
            one_token::<G, I>(isa, product, first, sink);
        } else {
            some_tokens::<G, I>(isa, product, first..end, &mut laid, &mut sums, sink);
        }
    }
}

#[inline(always)]
fn one_token<const G: usize, I: Isa>(isa: I, product: BitProduct<'_>, token: usize, sink: &mut impl Sink) {
    let q = &product.q[token * product.pitch..][..product.k.next_multiple_of(G)];
    for part in product.parts::<G>() {
        let mut sums = [start(product.layout, product.sums[token]); PANELS];
        for (panel, sums) in part.panels().zip(&mut sums) {
            for (w, q) in panel.columns::<G>(isa::MAX_COLUMNS).zip(q.chunks(isa::MAX_COLUMNS)) {
                let tile = PlanesTile { layout: product.layout, w, n_tiles: panel.n_tiles, q };
                isa.planes_tile(tile, std::slice::from_mut(sums));
            }
        }
        sink.put(token, part.row, &sums.as_flattened()[..part.n_rows]);
    }
}

#[inline(always)]
fn some_tokens<const G: usize, I: Isa>(
    isa: I,
    product: BitProduct<'_>,
    tokens: Range<usize>,
    laid: &mut [i8; TOKENS * COLUMNS],
    sums: &mut [[PanelSums; TOKENS]; PANELS],
    sink: &mut impl Sink,
) {
    let padded = product.k.next_multiple_of(G);
    for part in product.parts::<G>() {
        for sums in sums.iter_mut().take(part.panels().count()) {
            for (sums, &sum) in sums.iter_mut().zip(&product.sums[tokens.clone()]) {
                *sums = start(product.layout, sum);
            }
        }
        for (step, column) in (0..padded).step_by(COLUMNS).enumerate() {
            let columns = COLUMNS.min(padded - column);
            let q = &mut laid[..tokens.len() * columns];
            for (i, token) in tokens.clone().enumerate() {
                let from = product.q[token * product.pitch + column..][..columns].as_chunks::<G>().0;
                let to = q.as_chunks_mut::<G>().0;
                to.chunks_exact_mut(tokens.len()).zip(from).for_each(|(to, from)| to[i] = *from);
            }
            for (panel, sums) in part.panels().zip(&mut *sums) {
                let w = panel.columns::<G>(COLUMNS).nth(step).unwrap_or_default();
                let tile = PlanesTile { layout: product.layout, w, n_tiles: panel.n_tiles, q };
                isa.planes_tile(tile, &mut sums[..tokens.len()]);
            }
        }
        for (i, token) in tokens.clone().enumerate() {
            for (panel, sums) in part.panels().zip(&*sums) {
                sink.put(token, panel.row, &sums[i][..PANEL.min(product.n - panel.row)]);
            }
        }
    }
}

/// What the sums of a token begin with: the tiles count `w + 1`, or `w + 128`, so the sum of the token is in there that
/// many times too often.
#[inline(always)]
fn start(layout: Layout, sum: i32) -> PanelSums {
    let offset = if layout == Layout::Int8 { 128 } else { 1 };
    [sum.wrapping_mul(-offset); PANEL]
}

/// Some neighbouring panels.
#[derive(Clone, Copy)]
struct Part<'a> {
    row: usize,
    n_rows: usize,
    /// Bytes of a whole panel.
    panel_len: usize,
    w: &'a [u8],
}

/// 64 rows, or fewer at the end.
#[derive(Clone, Copy)]
struct Panel<'a> {
    row: usize,
    n_tiles: usize,
    w: &'a [u8],
}

impl<'a> BitProduct<'a> {
    /// The weights, [`PANELS`] panels at a time.
    #[inline(always)]
    fn parts<const G: usize>(self) -> impl Iterator<Item = Part<'a>> {
        let panel_len = PANEL / TILE * BLOCK * self.k.div_ceil(G);
        let rows = (0..self.n).step_by(PANELS * PANEL);
        let n_rows = move |row| (PANELS * PANEL).min(self.n - row);
        rows.zip(self.w.chunks(PANELS * panel_len)).map(move |(row, w)| Part { row, n_rows: n_rows(row), panel_len, w })
    }
}

impl<'a> Part<'a> {
    #[inline(always)]
    fn panels(self) -> impl Iterator<Item = Panel<'a>> {
        let n_tiles = move |row| PANEL.min(self.n_rows - row).div_ceil(TILE);
        let panels = (0..self.n_rows).step_by(PANEL).zip(self.w.chunks(self.panel_len));
        panels.map(move |(row, w)| Panel { row: self.row + row, n_tiles: n_tiles(row), w })
    }
}

impl<'a> Panel<'a> {
    /// The weights, so many columns at a time.
    #[inline(always)]
    fn columns<const G: usize>(self, columns: usize) -> impl Iterator<Item = &'a [u8]> {
        self.w.chunks(columns / G * self.n_tiles * BLOCK)
    }
}
