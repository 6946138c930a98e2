//! Any machine: plain loops over small arrays, which compilers turn into whatever vectors the target has.

use bitc_format::Layout;

use super::{
    BLOCK, By, DIGITS, FloatSums, FloatTile, Isa, LOOKUP_TILE, LookupTile, PartSums, PlanesPart, PlanesTile, QuadTile,
    TILE, Table,
};
use crate::kernels::math;

/// Needs nothing but Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Isa for Portable {
    fn name(self) -> &'static str {
        "portable"
    }

    const TOKENS: usize = 1;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn multiply(self, rounds: u32) -> (u64, i32) {
        let (mut acc, x) = ([0i16; 64], core::hint::black_box([3i16; 8]));
        for _ in 0..rounds {
            for acc in acc.as_chunks_mut::<8>().0 {
                for (acc, &x) in acc.iter_mut().zip(&x) {
                    *acc = acc.wrapping_add(acc.wrapping_mul(x));
                }
            }
        }
        (64, acc.iter().copied().map(i32::from).sum())
    }

    const QUADS: bool = false;

    fn quads(self, tile: QuadTile<'_>, sums: &mut [i32]) {
        for (output, sums) in sums.chunks_exact_mut(tile.places).enumerate().take(tile.outputs) {
            sums.fill(tile.starts[output]);
            for (&offset, w) in tile.offsets.iter().zip(tile.w) {
                let [a, b, c, d] = w[output].map(i32::from);
                for (sum, x) in sums.iter_mut().zip(&tile.x[offset as usize..]) {
                    let x = x.map(i32::from);
                    *sum = sum.wrapping_add(a * x[0] + b * x[1] + c * x[2] + d * x[3]);
                }
            }
        }
    }

    const ROWS: usize = 4;
    const COLUMNS: usize = 8;

    #[inline(always)]
    fn float_tile(self, tile: FloatTile<'_>, sums: &mut FloatSums) {
        match tile.rows {
            1 => float_rows::<1>(tile, sums),
            2 => float_rows::<2>(tile, sums),
            3 => float_rows::<3>(tile, sums),
            _ => float_rows::<4>(tile, sums),
        }
    }

    fn planes(self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        part.begin(sums);
        let Some(sums) = sums.first_mut() else { return };
        for tile in part.panels() {
            let sums = &mut sums[tile.before * TILE..];
            match part.layout {
                Layout::Int8 => bytes(tile, sums),
                Layout::Bit1 => one_token::<1, 8>(tile, sums),
                _ => one_token::<2, 4>(tile, sums),
            }
        }
    }
}

/// A tile of `R` rows and eight columns.
fn float_rows<const R: usize>(tile: FloatTile<'_>, sums: &mut FloatSums) {
    const COLUMNS: usize = Portable::COLUMNS;
    tile.check(R, COLUMNS);
    let a: [&[f32]; R] = core::array::from_fn(|r| &tile.a[r * tile.pitch..][..tile.k]);
    let mut acc = [[0f32; COLUMNS]; R];
    for (acc, sums) in acc.iter_mut().zip(sums.iter()) {
        acc.copy_from_slice(&sums[..COLUMNS]);
    }
    for (i, b) in tile.b.as_chunks::<COLUMNS>().0.iter().take(tile.k).enumerate() {
        for (acc, a) in acc.iter_mut().zip(a) {
            for (acc, &b) in acc.iter_mut().zip(b) {
                *acc += a[i] * b;
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        sums[..COLUMNS].copy_from_slice(acc);
    }
}

/// One token and weights of eight bits: four columns of a row next to each other.
fn bytes(tile: PlanesTile<'_>, sums: &mut [i32]) {
    let groups = tile.w.as_chunks::<BLOCK>().0.chunks(tile.n_tiles);
    for (blocks, q) in groups.zip(tile.q.as_chunks::<4>().0) {
        let q = q.map(i32::from);
        for (codes, sum) in blocks.as_flattened().as_chunks::<4>().0.iter().zip(sums.iter_mut()) {
            let products: [i32; 4] = core::array::from_fn(|i| i32::from(codes[i]) * q[i]);
            *sum = sum.wrapping_add(products.iter().sum());
        }
    }
}

/// Column groups whose sums fit 16 bits: a group adds at most 2 * 3 * 128 for each of 4 planes, or less for 8.
const RUN: usize = 10;
/// Lanes of 16 bits that are worked on at once.
const LANES: usize = 8;

/// A lane is two bytes of a block: half a row, two columns of each plane.
fn one_token<const BITS: usize, const PLANES: usize>(tile: PlanesTile<'_>, sums: &mut [i32]) {
    let chunks = tile.w.as_chunks::<{ 2 * LANES }>().0;
    let groups = tile.q.as_chunks::<4>().0.as_chunks::<PLANES>().0;
    let stride = tile.n_tiles * (BLOCK / (2 * LANES));
    for (chunks, groups) in chunks.chunks(RUN * stride).zip(groups.chunks(RUN)) {
        // The activations that the low and the high bytes of the lanes meet.
        let mut x = [[[[0i16; LANES]; 2]; PLANES]; RUN];
        for (x, group) in x.iter_mut().zip(groups) {
            for (x, q) in x.iter_mut().zip(group) {
                *x = [0, 1].map(|odd| core::array::from_fn(|lane| q[lane % 2 * 2 + odd].into()));
            }
        }
        for (at, sums) in sums.as_chunks_mut::<{ LANES / 2 }>().0.iter_mut().enumerate().take(stride) {
            let acc = run::<BITS, PLANES>(&chunks[at..], stride, &x[..groups.len()]);
            for (sum, acc) in sums.iter_mut().zip(acc.as_chunks::<2>().0) {
                let acc = i32::from(acc[0]) + i32::from(acc[1]);
                // A bit stands for w + 1, which is 0 or 2.
                *sum = sum.wrapping_add(if BITS == 1 { 2 * acc } else { acc });
            }
        }
    }
}

/// Sums by lane. Apart from its caller, so that what becomes of the lanes has no say in how they are kept.
#[inline(never)]
fn run<const BITS: usize, const PLANES: usize>(
    chunks: &[[u8; 2 * LANES]],
    stride: usize,
    x: &[[[[i16; LANES]; 2]; PLANES]],
) -> [i16; LANES] {
    let mut acc = [0i16; LANES];
    for (chunk, x) in chunks.chunks(stride).zip(x) {
        let words: [u16; LANES] =
            core::array::from_fn(|lane| u16::from_le_bytes([chunk[0][2 * lane], chunk[0][2 * lane + 1]]));
        for (p, x) in x.iter().enumerate() {
            for (odd, x) in x.iter().enumerate() {
                for lane in 0..LANES {
                    let code = (words[lane] >> (BITS * p + 8 * odd)) & ((1 << BITS) - 1);
                    acc[lane] = acc[lane].wrapping_add((code as i16).wrapping_mul(x[lane]));
                }
            }
        }
    }
    acc
}

/// See [`Isa::round_row`].
#[cfg_attr(not(feature = "minimal"), inline(always))]
#[cfg_attr(feature = "minimal", inline(never))]
pub(super) fn round_row(x: &[f32], by: By, q: &mut [i8]) -> i32 {
    let (q, rest) = q.split_at_mut(x.len());
    rest.fill(0);
    match by {
        By::Divisor(divisor) => rounded(x, q, |x| x / divisor),
        By::Factor(factor) => rounded(x, q, |x| x * factor),
    }
}

#[inline(always)]
fn rounded(x: &[f32], q: &mut [i8], scaled: impl Fn(f32) -> f32) -> i32 {
    let mut sum = 0i32;
    for (q, &x) in q.iter_mut().zip(x) {
        let integer = math::small_integer(scaled(x));
        *q = integer as i8;
        sum = sum.wrapping_add(integer);
    }
    sum
}

/// See [`Isa::lookup_tables`].
pub(super) fn lookup_tables(q: &[[i8; DIGITS]], tables: &mut [Table]) {
    for (table, q) in tables.iter_mut().zip(q) {
        // Entry by entry from those of fewer digits: the sums of all numbers of the digits so far.
        let mut sums = [0i16; 243];
        let (mut power, mut reach) = (1, 0);
        for &x in q {
            // The numbers from -reach to reach lie around the middle.
            let middle = 121;
            for number in 0..2 * reach + 1 {
                let at = middle - reach + number;
                sums[at + power] = sums[at] + i16::from(x);
                sums[at - power] = sums[at] - i16::from(x);
            }
            reach += power;
            power *= 3;
        }
        let (low, high) = table.split_at_mut(128);
        for ((low, high), sum) in low.iter_mut().zip(high).zip(&sums[121..]) {
            [*low, *high] = sum.to_le_bytes();
        }
    }
}

/// See [`Isa::lookup_tile`].
pub(super) fn lookup_tile(tile: LookupTile<'_>, sums: &mut [i32]) {
    let tiles = tile.w.as_chunks::<LOOKUP_TILE>().0;
    for (bytes, table) in tiles.chunks(tile.n_tiles).zip(tile.tables) {
        let (low, high) = table.split_at(128);
        for (bytes, sums) in bytes.iter().zip(sums.as_chunks_mut::<LOOKUP_TILE>().0) {
            // Eight bytes of rows 0 to 31 and eight of rows 32 to 63 take turns.
            let [first, second] = sums.as_chunks_mut::<32>().0 else { continue };
            for (i, eights) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let half = if i % 2 == 0 { &mut *first } else { &mut *second };
                for (sum, &byte) in half.iter_mut().skip(i / 2 * 8).zip(eights) {
                    let at = usize::from(byte & 0x7f);
                    let entry = i16::from_le_bytes([low[at], high[at]]);
                    let inverted = -i16::from(byte >> 7);
                    *sum = sum.wrapping_add((entry ^ inverted).into());
                }
            }
        }
    }
}
