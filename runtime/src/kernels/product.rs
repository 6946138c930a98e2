//! Products of quantised activations with few-bit weights: the order in which tiles are visited.
//!
//! One token at a time is a pass over the weights. Several tokens are worked on in tiles: their activations are laid
//! next to each other, group by group, for some columns at a time, and meet a few panels of weights before the next
//! columns come. Everything lives on the stack and in the first level of cache; the sums are exact, so the order does
//! not show in the result.

use super::{BitProduct, Post, post};
use crate::isa::{self, BLOCK, Isa, PANEL, PlanesTile, TILE};

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

/// Computes `product` and hands the sums to `sink`.
#[inline(always)]
pub(super) fn run<I: Isa>(isa: I, product: BitProduct<'_>, sink: &mut impl Sink) {
    if product.n == 0 || product.sums.is_empty() {
        return;
    }
    for token in 0..product.sums.len() {
        one_token(isa, product, token, sink);
    }
}

#[inline(always)]
fn one_token<I: Isa>(isa: I, product: BitProduct<'_>, token: usize, sink: &mut impl Sink) {
    let group = isa::group_len(product.layout);
    let groups = product.k.div_ceil(group);
    let q = &product.q[token * product.pitch..][..groups * group];
    // The tiles count w + 1, so the sum of the token is one too many.
    let start = [product.sums[token].wrapping_neg(); PANEL];
    if groups == 0 {
        for row in (0..product.n).step_by(PANEL) {
            sink.put(token, row, &[0; PANEL][..PANEL.min(product.n - row)]);
        }
        return;
    }
    for (row, panel) in product.panels(groups) {
        let len = PANEL.min(product.n - row);
        let n_tiles = len.div_ceil(TILE);
        let mut sums = [start];
        for (w, q) in panel.chunks(isa::MAX_COLUMNS / group * n_tiles * BLOCK).zip(q.chunks(isa::MAX_COLUMNS)) {
            isa.planes_tile(PlanesTile { layout: product.layout, w, n_tiles, q }, &mut sums);
        }
        sink.put(token, row, &sums[0][..len]);
    }
}
