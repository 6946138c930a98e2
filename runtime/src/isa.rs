//! The instruction sets: what a kernel may ask of one, and one file for each that answers.
//!
//! A kernel is a safe function that is generic over [`Isa`]. Loops over elements are written plainly and become vector
//! code inside [`Isa::vectorize`]; the products of few-bit weights differ so much between instruction sets that each
//! brings its own [`Isa::planes`]. `unsafe` lives here only: in the calls that need the instructions, which a value
//! of the type proves to be there, and in loads and stores of whole vectors through references.

#![cfg_attr(feature = "minimal", allow(dead_code, reason = "nothing calls the float products"))]

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that the compiler does not know to be there")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that the compiler does not know to be there")]
pub(crate) mod avx512;
pub(crate) mod bits;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the register that says what the system saves")]
mod detect;
pub(crate) mod portable;

use core::slice;

use bitc_format::Layout;

/// Rows of weights of a panel.
pub(crate) const PANEL: usize = 64;
/// Rows of weights of a tile.
pub(crate) const TILE: usize = 16;
/// Bytes of one tile and one group of columns.
pub(crate) const BLOCK: usize = 64;

/// Panels whose sums are kept together.
pub(crate) const PANELS: usize = 8;

/// Exact sums of one token with the rows of neighbouring panels.
pub(crate) type PartSums = [i32; PANELS * PANEL];

/// A run of column groups of some neighbouring panels of weights, and the activations that meet them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanesPart<'a> {
    /// How the weights are stored: [`Layout::Trit2`], [`Layout::Bit1`] or [`Layout::Int8`].
    pub(crate) layout: Layout,
    /// The panels, all their columns.
    pub(crate) w: &'a [u8],
    /// Bytes of a panel that has all its rows.
    pub(crate) panel_len: usize,
    /// Rows of all the panels, at most [`PANELS`] times [`PANEL`] for each array of sums of a token.
    pub(crate) n_rows: usize,
    /// Groups of columns before those of the run.
    pub(crate) before: usize,
    /// Groups of columns of the run.
    pub(crate) groups: usize,
    /// For each group of the run, for each token, the activations of the columns of the group.
    pub(crate) q: &'a [i8],
    /// What the sums of each token begin with. For runs after the first there is nothing here, and sums go on from what
    /// they are.
    pub(crate) starts: &'a [i32],
}

/// The same of one panel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanesTile<'a> {
    /// `groups * n_tiles` blocks, group by group.
    pub(crate) w: &'a [u8],
    /// Tiles of the panel, 1 to 4.
    pub(crate) n_tiles: usize,
    /// Tiles of the part before this panel.
    pub(crate) before: usize,
    /// See [`PlanesPart::q`].
    pub(crate) q: &'a [i8],
    /// See [`PlanesPart::starts`].
    pub(crate) starts: &'a [i32],
}

impl<'a> PlanesPart<'a> {
    /// Writes what the sums begin with, for kernels that only add.
    #[inline(always)]
    pub(crate) fn begin(self, sums: &mut [PartSums]) {
        for (sums, &start) in sums.iter_mut().zip(self.starts) {
            sums[..self.n_rows.next_multiple_of(TILE)].fill(start);
        }
    }

    /// As many panels at a time as an array of sums is for.
    #[inline(always)]
    pub(crate) fn pieces(self) -> impl Iterator<Item = Self> {
        let pieces = (0..self.n_rows).step_by(PANELS * PANEL).zip(self.w.chunks(PANELS * self.panel_len));
        pieces.map(move |(row, w)| Self { w, n_rows: (PANELS * PANEL).min(self.n_rows - row), ..self })
    }

    /// Panel by panel.
    #[inline(always)]
    pub(crate) fn panels(self) -> impl Iterator<Item = PlanesTile<'a>> {
        let panels = (0..self.n_rows).step_by(PANEL).zip(self.w.chunks(self.panel_len));
        panels.map(move |(row, w)| {
            let n_tiles = PANEL.min(self.n_rows - row).div_ceil(TILE);
            let group = n_tiles * BLOCK;
            PlanesTile {
                w: &w[self.before * group..][..self.groups * group],
                n_tiles,
                before: row / TILE,
                q: self.q,
                starts: self.starts,
            }
        })
    }
}

/// What a row of floats is scaled by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// Each is divided by this.
    Divisor(f32),
    /// Each is multiplied by this.
    Factor(f32),
}

/// Divisors that [`Isa::round_row`] takes: 2^-60 to 2^60.
pub(crate) const DIVISORS: core::ops::RangeInclusive<f32> = 8.673_617_4e-19..=1.152_921_5e18;

/// Columns of a group of `trit5`.
pub(crate) const DIGITS: usize = 5;
/// Groups of a run of `trit5`.
pub(crate) const RUN: usize = 48;
/// Rows of a tile of `trit5`, one byte each.
pub(crate) const LOOKUP_TILE: usize = 64;

/// For each magnitude of `trit5`, the sum of the activations of one group of columns as the digits have it: the low
/// bytes of all sums, then the high bytes.
pub(crate) type Table = [u8; 256];

/// Some groups of up to four tiles of `trit5`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookupTile<'a> {
    /// `groups * n_tiles` tiles, group by group.
    pub(crate) w: &'a [u8],
    /// Tiles of a group, 1 to 4.
    pub(crate) n_tiles: usize,
    /// One table for each group, at most [`RUN`].
    pub(crate) tables: &'a [Table],
}

/// Outputs of a tile of quads.
pub(crate) const QUAD_OUTPUTS: usize = TILE;
/// Places that quads come in.
pub(crate) const QUAD_PLACES: usize = 16;

/// Weights of some outputs, and an image that they meet at neighbouring places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuadTile<'a> {
    /// Four channels of each place, plus 128, from the first place on.
    pub(crate) x: &'a [[u8; 4]],
    /// For each step, how far behind a place lies what the weights meet there.
    pub(crate) offsets: &'a [u32],
    /// For each step, four weights of each output.
    pub(crate) w: &'a [[[i8; 4]; QUAD_OUTPUTS]],
    /// What the sums of an output begin with.
    pub(crate) starts: &'a [i32; QUAD_OUTPUTS],
    /// Whether all weights are -1, 0 or 1.
    pub(crate) ternary: bool,
    /// How many outputs there are.
    pub(crate) outputs: usize,
    /// How many places there are, a multiple of [`QUAD_PLACES`].
    pub(crate) places: usize,
}

/// The most rows of a float tile.
pub(crate) const FLOAT_ROWS: usize = 8;
/// The most columns of a float tile.
pub(crate) const FLOAT_COLUMNS: usize = 32;

/// Sums of a float tile: each row has the columns of the instruction set, and room that is not used.
pub(crate) type FloatSums = [[f32; FLOAT_COLUMNS]; FLOAT_ROWS];

/// Some rows of a float product that meet a panel of columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FloatTile<'a> {
    /// Row `r` begins at `r * pitch` and has `k` elements.
    pub(crate) a: &'a [f32],
    pub(crate) pitch: usize,
    pub(crate) k: usize,
    /// `k` rows of [`Isa::COLUMNS`] elements.
    pub(crate) b: &'a [f32],
    /// How many rows there are, at most [`Isa::ROWS`].
    pub(crate) rows: usize,
}

impl FloatTile<'_> {
    /// The elements that the tile names are there; kernels read them without looking again.
    ///
    /// # Panics
    /// If they are not.
    #[inline(always)]
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        let end = rows.saturating_sub(1).checked_mul(self.pitch).and_then(|first| first.checked_add(self.k));
        assert!(end.is_some_and(|end| end <= self.a.len()), "as many rows as the tile has");
        assert!(self.k.checked_mul(columns).is_some_and(|n| n <= self.b.len()), "a panel of as many rows");
    }
}

/// An instruction set. A value of an implementing type proves that this CPU has it: its file makes one only after
/// having looked.
pub(crate) trait Isa: Copy + Send + Sync + 'static {
    /// The name that users choose it by.
    fn name(self) -> &'static str;

    /// How many tokens [`Isa::planes`] takes at most.
    const TOKENS: usize;

    /// Runs `f`, compiled for this instruction set as far as it is inlined.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// Multiplies and adds on registers only, for `rounds` rounds; returns the number of products of a round, and a
    /// value that depends on all of them.
    fn multiply(self, rounds: u32) -> (u64, i32);

    /// Adds `sum over k of (w[n][k] + offset) * q[t][k]` to `sums[t][n]` for every token `t` and row `n`, modulo 2^32;
    /// the offset is 128 for `int8` and else 1. `sums` has one entry per token, at most [`Isa::TOKENS`].
    ///
    /// All columns of one call together are at most [`MAX_COLUMNS`].
    fn planes(self, part: PlanesPart<'_>, sums: &mut [PartSums]);

    /// The same for one token and more rows, with sums for each [`PANELS`] panels.
    #[inline(always)]
    fn planes_of_one(self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        // A minimal build takes one at a time.
        if cfg!(feature = "minimal") {
            return self.planes(part, sums);
        }
        for (piece, sums) in part.pieces().zip(sums) {
            self.planes(piece, slice::from_mut(sums));
        }
    }

    /// Scales a row, rounds half to even and returns the sum of the integers. `q` is as long as `x` or longer; the rest
    /// becomes 0. Nothing is NaN, all integers are those of bytes, and a divisor is one of [`DIVISORS`].
    #[inline(always)]
    fn round_row(self, x: &[f32], by: By, q: &mut [i8]) -> i32 {
        portable::round_row(x, by, q)
    }

    /// Whether convolutions take less time in quads than as products with rows of windows.
    const QUADS: bool = true;

    /// For every output, for every place, where the sum begins and what all steps add to it, modulo 2^32.
    fn quads(self, tile: QuadTile<'_>, sums: &mut [i32]);

    /// Rows of a float tile, at most [`FLOAT_ROWS`].
    const ROWS: usize;
    /// Columns of a float tile, at most [`FLOAT_COLUMNS`].
    const COLUMNS: usize;

    /// Adds `a[r][i] * b[i][c]` to `sums[r][c]` for ascending `i`, rounded after each step.
    fn float_tile(self, tile: FloatTile<'_>, sums: &mut FloatSums);

    /// Fills a table for each group of columns.
    #[inline(always)]
    fn lookup_tables(self, q: &[[i8; DIGITS]], tables: &mut [Table]) {
        portable::lookup_tables(q, tables);
    }

    /// Adds to every sum the entries that its row looks up, with the bits of those of negative numbers inverted.
    #[inline(always)]
    fn lookup_tile(self, tile: LookupTile<'_>, sums: &mut [i32]) {
        portable::lookup_tile(tile, sums);
    }
}

/// The most columns of one call of [`Isa::planes`]: the sums of the highest plane, which are 64 times too large
/// for `trit2` and 128 times for `bit1`, stay in 32 bits.
pub(crate) const MAX_COLUMNS: usize = 1 << 17;
