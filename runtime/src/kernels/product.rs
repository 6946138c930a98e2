//! Products of quantised activations with few-bit weights: the order in which tiles are visited.
//!
//! One token at a time is a pass over the weights. Several tokens are worked on in tiles: their activations are laid
//! next to each other, group by group, for some columns at a time, and meet a few panels of weights before the next
//! columns come. Everything lives on the stack and in the first level of cache; the sums are exact, so the order does
//! not show in the result.

mod lookup;

use core::ops::Range;

use bitc_format::Layout;
use bitc_format::inst::Steps;

use super::codes::{self, Coder};
use super::{BitProduct, Codes, Post, post};
use crate::isa::{self, BLOCK, DIGITS, Isa, LookupTile, PANEL, PANELS, PartSums, PlanesPart, TILE, Table};

/// Where the sums of one token with the rows of some panels go. Behind a pointer, so that the products exist once per
/// instruction set, whatever becomes of the sums.
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
        assert!(acc.len() == product.sums.len() * product.n, "one result per token and output");
        Self { n: product.n, acc }
    }
}

impl Sink for Sums<'_> {
    fn put(&mut self, token: usize, row: usize, sums: &[i32]) {
        self.acc[token * self.n + row..][..sums.len()].copy_from_slice(sums);
    }
}

/// Stores what [`Post`] makes of the sums.
pub(super) struct Values<'a, I> {
    isa: I,
    n: usize,
    post: &'a Post<'a>,
    y: &'a mut [f32],
}

impl<'a, I: Isa> Values<'a, I> {
    /// For results of so many tokens and outputs.
    pub(super) fn new(isa: I, tokens: usize, n: usize, post: &'a Post<'_>, y: &'a mut [f32]) -> Self {
        assert!(y.len() == tokens * n, "one result per token and output");
        post.check(tokens, n);
        Self { isa, n, post, y }
    }
}

impl<I: Isa> Sink for Values<'_, I> {
    fn put(&mut self, token: usize, row: usize, sums: &[i32]) {
        let y = &mut self.y[token * self.n + row..][..sums.len()];
        scale(self.isa, sums, token, row, self.post, y);
    }
}

/// What [`Post`] makes of the sums of a token with the rows from `row` on.
#[cfg_attr(not(feature = "minimal"), inline(always))]
#[cfg_attr(feature = "minimal", inline(never))]
fn scale<I: Isa>(isa: I, sums: &[i32], token: usize, row: usize, post: &Post<'_>, y: &mut [f32]) {
    isa.vectorize(
        #[inline(always)]
        || post::part(sums, token, row, post, y),
    );
}

/// Stores the integers that [`Steps`] make of what [`Post`] makes of the sums.
struct Integers<'a, I> {
    isa: I,
    n: usize,
    post: &'a Post<'a>,
    coder: Coder,
    out: Codes<'a>,
}

impl<'a, I: Isa> Integers<'a, I> {
    /// For results of so many tokens and outputs.
    fn new(isa: I, tokens: usize, n: usize, post: &'a Post<'_>, steps: &'a Steps, mut out: Codes<'a>) -> Self {
        assert!(out.pitch >= n && out.q.len() == tokens * out.pitch, "one result per token and output");
        assert!(out.sums.as_ref().is_none_or(|sums| sums.len() == tokens), "one sum per token");
        post.check(tokens, n);
        if out.pitch > n {
            out.q.chunks_exact_mut(out.pitch).for_each(|row| row[n..].fill(0));
        }
        if let Some(sums) = &mut out.sums {
            sums.fill(0);
        }
        Self { isa, n, post, coder: Coder::new(steps), out }
    }
}

impl<I: Isa> Sink for Integers<'_, I> {
    fn put(&mut self, token: usize, row: usize, sums: &[i32]) {
        let Self { isa, n, post, coder, .. } = *self;
        assert!(row + sums.len() <= n, "as many results as outputs");
        let q = &mut self.out.q[token * self.out.pitch + row..][..sums.len()];
        let total = isa.vectorize(
            #[inline(always)]
            || {
                let mut total = 0i32;
                for (i, (sums, q)) in sums.chunks(PANEL).zip(q.chunks_mut(PANEL)).enumerate() {
                    let mut values = [0f32; PANEL];
                    let values = &mut values[..sums.len()];
                    scale(isa, sums, token, row + i * PANEL, post, values);
                    total = total.wrapping_add(codes::codes(values, &coder, q));
                }
                total
            },
        );
        if let Some(all) = &mut self.out.sums {
            all[token] = all[token].wrapping_add(total);
        }
    }
}

/// Computes `product` and stores the integers that `steps` makes of what `post` makes of the sums.
pub(super) fn integers<I: Isa>(
    tiles: &dyn Tiles,
    isa: I,
    product: BitProduct<'_>,
    post: &Post<'_>,
    steps: &Steps,
    out: Codes<'_>,
) {
    run(tiles, product, &mut Integers::new(isa, product.sums.len(), product.n, post, steps, out));
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
const TOKENS: usize = 13;
/// Columns of which the activations of a tile of tokens are laid together at a time.
const COLUMNS: usize = 1024;

/// Begins with a cache line, so that no vector of it lies in two.
#[repr(align(64))]
struct Lines<T>(T);

/// What an instruction set does with one tile. The visiting of tiles is the same for all and exists once.
pub(super) trait Tiles {
    /// See [`Isa::TOKENS`].
    fn tokens(&self) -> usize;

    /// See [`Isa::planes`].
    fn planes(&self, part: PlanesPart<'_>, sums: &mut [PartSums]);

    /// See [`Isa::planes_of_one`].
    fn planes_of_one(&self, part: PlanesPart<'_>, sums: &mut [PartSums]);

    /// See [`Isa::lookup_tables`].
    fn lookup_tables(&self, q: &[[i8; DIGITS]], tables: &mut [Table]);

    /// See [`Isa::lookup_tile`].
    fn lookup_tile(&self, tile: LookupTile<'_>, sums: &mut [i32]);
}

impl<I: Isa> Tiles for I {
    fn tokens(&self) -> usize {
        const { assert!(I::TOKENS <= TOKENS) };
        I::TOKENS
    }

    fn planes(&self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        Isa::planes(*self, part, sums);
    }

    fn planes_of_one(&self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        Isa::planes_of_one(*self, part, sums);
    }

    fn lookup_tables(&self, q: &[[i8; DIGITS]], tables: &mut [Table]) {
        Isa::lookup_tables(*self, q, tables);
    }

    fn lookup_tile(&self, tile: LookupTile<'_>, sums: &mut [i32]) {
        Isa::lookup_tile(*self, tile, sums);
    }
}

/// Computes `product` and hands the sums to `sink`.
pub(super) fn run(isa: &dyn Tiles, product: BitProduct<'_>, sink: &mut dyn Sink) {
    product.check();
    if product.k == 0 {
        return without_columns(product, sink);
    }
    match product.layout {
        Layout::Bit1 => in_groups::<32>(isa, product, sink),
        Layout::Int8 => in_groups::<4>(isa, product, sink),
        Layout::Trit5 => lookup::run(isa, product, sink),
        _ => in_groups::<16>(isa, product, sink),
    }
}

fn without_columns(product: BitProduct<'_>, sink: &mut dyn Sink) {
    for token in 0..product.sums.len() {
        for row in (0..product.n).step_by(PANEL) {
            sink.put(token, row, &[0; PANEL][..PANEL.min(product.n - row)]);
        }
    }
}

/// `G` is the number of columns of a group.
fn in_groups<const G: usize>(isa: &dyn Tiles, product: BitProduct<'_>, sink: &mut dyn Sink) {
    let tokens = product.sums.len();
    if tokens == 1 {
        return one_token::<G>(isa, product, 0, sink);
    }
    let mut laid = Lines([0; TOKENS * COLUMNS]);
    let mut sums = Lines([[0; PANELS * PANEL]; TOKENS]);
    // Tiles of about equal size: none is so small that it has few sums to work on.
    let n_tiles = tokens.div_ceil(isa.tokens());
    for tile in 0..n_tiles {
        let (first, end) = (tokens * tile / n_tiles, tokens * (tile + 1) / n_tiles);
        if end - first == 1 {
            one_token::<G>(isa, product, first, sink);
        } else {
            some_tokens::<G>(isa, product, first..end, &mut laid.0, &mut sums.0[..end - first], sink);
        }
    }
}

/// A pass over the weights. Many rows at once, where there are many: what comes between them costs as much as a panel.
fn one_token<const G: usize>(isa: &dyn Tiles, product: BitProduct<'_>, token: usize, sink: &mut dyn Sink) {
    if product.n <= PANELS * PANEL || cfg!(feature = "minimal") {
        pieces_of_one::<G, 1>(isa, product, token, sink);
    } else {
        pieces_of_one::<G, 4>(isa, product, token, sink);
    }
}

fn pieces_of_one<const G: usize, const PIECES: usize>(
    isa: &dyn Tiles,
    product: BitProduct<'_>,
    token: usize,
    sink: &mut dyn Sink,
) {
    let q = &product.q[token * product.pitch..][..product.k.next_multiple_of(G)];
    let start = [product.start(token)];
    let mut sums = Lines([[0; PANELS * PANEL]; PIECES]);
    for (row, part) in product.parts::<G>(PIECES) {
        for (run, q) in q.chunks(isa::MAX_COLUMNS).enumerate() {
            let (before, groups) = (run * (isa::MAX_COLUMNS / G), q.len() / G);
            let starts = if run == 0 { &start[..] } else { &[] };
            isa.planes_of_one(PlanesPart { before, groups, q, starts, ..part }, &mut sums.0);
        }
        sink.put(token, row, &sums.0.as_flattened()[..part.n_rows]);
    }
}

fn some_tokens<const G: usize>(
    isa: &dyn Tiles,
    product: BitProduct<'_>,
    tokens: Range<usize>,
    laid: &mut [i8; TOKENS * COLUMNS],
    sums: &mut [PartSums],
    sink: &mut dyn Sink,
) {
    let padded = product.k.next_multiple_of(G);
    let mut starts = [0; TOKENS];
    starts.iter_mut().zip(tokens.clone()).for_each(|(start, token)| *start = product.start(token));
    for (row, part) in product.parts::<G>(1) {
        for column in (0..padded).step_by(COLUMNS) {
            let columns = COLUMNS.min(padded - column);
            let q = &mut laid[..tokens.len() * columns];
            for (i, token) in tokens.clone().enumerate() {
                let from = product.q[token * product.pitch + column..][..columns].as_chunks::<G>().0;
                let to = q.as_chunks_mut::<G>().0;
                to.chunks_exact_mut(tokens.len()).zip(from).for_each(|(to, from)| to[i] = *from);
            }
            let starts = if column == 0 { &starts[..tokens.len()] } else { &[] };
            isa.planes(PlanesPart { before: column / G, groups: columns / G, q, starts, ..part }, sums);
        }
        for (token, sums) in tokens.clone().zip(&*sums) {
            sink.put(token, row, &sums[..part.n_rows]);
        }
    }
}

impl<'a> BitProduct<'a> {
    /// What the sums of a token begin with: the tiles count `w + 1`, or `w + 128`, so the sum of the token is in there
    /// that many times too often.
    #[inline(always)]
    fn start(self, token: usize) -> i32 {
        let offset = if self.layout == Layout::Int8 { 128 } else { 1 };
        self.sums[token].wrapping_mul(-offset)
    }

    /// The first rows of the weights, some times [`PANELS`] panels at a time, and those panels, without columns.
    #[inline(always)]
    fn parts<const G: usize>(self, pieces: usize) -> impl Iterator<Item = (usize, PlanesPart<'a>)> {
        let layout = self.layout;
        let panel_len = PANEL / TILE * BLOCK * self.k.div_ceil(G);
        let panels = pieces * PANELS;
        let rows = (0..self.n).step_by(panels * PANEL);
        rows.zip(self.w.chunks(panels * panel_len)).map(move |(row, w)| {
            let n_rows = (panels * PANEL).min(self.n - row);
            (row, PlanesPart { layout, w, panel_len, n_rows, before: 0, groups: 0, q: &[], starts: &[] })
        })
    }
}
