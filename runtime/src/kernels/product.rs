//! Products of quantised activations with few-bit weights: the order in which tiles are visited.
//!
//! One token at a time is a pass over the weights. Several tokens are worked on in tiles: their activations are laid
//! next to each other, group by group, for some columns at a time, and meet a few panels of weights before the next
//! columns come. Everything lives on the stack and in the first level of cache; the sums are exact, so the order does
//! not show in the result.

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

    /// The panels, with the row that each begins with.
    #[inline(always)]
    fn panels(&self, groups: usize) -> impl Iterator<Item = (usize, &[u8])> {
        (0..self.n).step_by(PANEL).zip(self.w.chunks((PANEL / TILE * BLOCK * groups).max(1)))
    }
}

/// The most tokens of a tile, on any instruction set.
const TOKENS: usize = 12;
/// Columns of which the activations of a tile of tokens are laid together at a time.
const COLUMNS: usize = 1024;
/// Panels that such columns meet before the next ones come.
const PANELS: usize = 8;

/// Computes `product` and hands the sums to `sink`.
#[inline(always)]
pub(super) fn run<I: Isa>(isa: I, product: BitProduct<'_>, sink: &mut impl Sink) {
    const { assert!(I::TOKENS <= TOKENS) };
    let tokens = product.sums.len();
    if product.k == 0 {
        return without_columns(product, sink);
    }
    // Tiles of about equal size: none is so small that it has few sums to work on.
    let n_tiles = tokens.div_ceil(I::TOKENS);
    for tile in 0..n_tiles {
        let (first, end) = (tokens * tile / n_tiles, tokens * (tile + 1) / n_tiles);
        if end - first == 1 {
            one_token(isa, product, first, sink);
        } else {
            tile_of_tokens(isa, product, first, end - first, sink);
        }
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

#[inline(always)]
fn one_token<I: Isa>(isa: I, product: BitProduct<'_>, token: usize, sink: &mut impl Sink) {
    let group = isa::group_len(product.layout);
    let groups = product.k.div_ceil(group);
    let q = &product.q[token * product.pitch..][..groups * group];
    for (row, panel) in product.panels(groups) {
        let len = PANEL.min(product.n - row);
        let n_tiles = len.div_ceil(TILE);
        let mut sums = [start(product.sums[token])];
        for (w, q) in panel.chunks(isa::MAX_COLUMNS / group * n_tiles * BLOCK).zip(q.chunks(isa::MAX_COLUMNS)) {
            isa.planes_tile(PlanesTile { layout: product.layout, w, n_tiles, q }, &mut sums);
        }
        sink.put(token, row, &sums[0][..len]);
    }
}

#[inline(always)]
fn tile_of_tokens<I: Isa>(isa: I, product: BitProduct<'_>, first: usize, tokens: usize, sink: &mut impl Sink) {
    let group = isa::group_len(product.layout);
    let groups = product.k.div_ceil(group);
    let mut laid = [0i8; TOKENS * COLUMNS];
    let mut panels = product.panels(groups);
    for first_row in (0..product.n).step_by(PANELS * PANEL) {
        let panels: [_; PANELS] = std::array::from_fn(|_| panels.next());
        let mut sums = [[[0; PANEL]; TOKENS]; PANELS];
        for (sums, _) in sums.iter_mut().zip(panels.iter().flatten()) {
            for (sums, &sum) in sums.iter_mut().zip(&product.sums[first..][..tokens]) {
                *sums = start(sum);
            }
        }
        for (step, column) in (0..groups * group).step_by(COLUMNS).enumerate() {
            let columns = COLUMNS.min(groups * group - column);
            let q = &mut laid[..tokens * columns];
            for (token, from) in (first..first + tokens).enumerate() {
                let from = product.q[from * product.pitch + column..][..columns].chunks_exact(group);
                for (to, from) in q.chunks_exact_mut(group).skip(token).step_by(tokens).zip(from) {
                    to.copy_from_slice(from);
                }
            }
            for (sums, &(row, panel)) in sums.iter_mut().zip(panels.iter().flatten()) {
                let n_tiles = PANEL.min(product.n - row).div_ceil(TILE);
                let len = COLUMNS / group * n_tiles * BLOCK;
                let w = panel.chunks(len).nth(step).unwrap_or_default();
                isa.planes_tile(PlanesTile { layout: product.layout, w, n_tiles, q }, &mut sums[..tokens]);
            }
        }
        for (sums, &(row, _)) in sums.iter().zip(panels.iter().flatten()) {
            let len = PANEL.min(product.n - row);
            for (token, sums) in sums[..tokens].iter().enumerate() {
                sink.put(first + token, row, &sums[..len]);
            }
        }
        let _ = first_row;
    }
}

/// What the sums of a token begin with: the tiles count `w + 1`, so the sum of the token is one too many.
#[inline(always)]
fn start(sum: i32) -> PanelSums {
    [sum.wrapping_neg(); PANEL]
}
