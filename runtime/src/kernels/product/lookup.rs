//! Products with `trit5`: every group of five activations becomes a table that the rows look into.
//!
//! A table costs about as much as 300 rows that use it, so many rows share the tables of a run of groups before the next
//! run comes. Several tokens take turns on the same weights while those are in the cache.

use super::{BitProduct, Sink, Tiles};
use crate::isa::{DIGITS, LOOKUP_TILE, LookupTile, RUN};

/// Tokens that take turns.
const TOKENS: usize = 4;
/// Sums that are kept for all of them together.
const SUMS: usize = 8192;
/// Rows of a panel.
const PANEL: usize = 4 * LOOKUP_TILE;

/// Computes `product` and hands the sums to `sink`.
pub(super) fn run(isa: &dyn Tiles, product: BitProduct<'_>, sink: &mut dyn Sink) {
    let BitProduct { n, k, .. } = product;
    let (counts, w) = product.w.split_at(n.next_multiple_of(LOOKUP_TILE) * 4);
    let counts = counts.as_chunks::<4>().0;
    let mut sums = [0i32; SUMS];
    let mut tables = [[0; 256]; RUN];
    let tokens = product.sums.len();
    for first in (0..tokens).step_by(TOKENS) {
        let tokens = TOKENS.min(tokens - first);
        let part = SUMS / tokens / PANEL * PANEL;
        for row in (0..n).step_by(part) {
            let n_rows = part.min(n - row);
            let padded = n_rows.next_multiple_of(LOOKUP_TILE);
            for sums in sums.chunks_exact_mut(padded).take(tokens) {
                for (sum, count) in sums.iter_mut().zip(&counts[row..]) {
                    *sum = i32::from_le_bytes(*count);
                }
            }
            for column in (0..k).step_by(RUN * DIGITS) {
                let columns = (RUN * DIGITS).min(k - column);
                let groups = columns.div_ceil(DIGITS);
                // Everything before this run, and in it the rows before.
                let start = column / DIGITS * counts.len() + row * groups;
                let w = &w[start..][..padded * groups];
                for (token, sums) in sums.chunks_exact_mut(padded).take(tokens).enumerate() {
                    let mut q = [[0i8; DIGITS]; RUN];
                    let from = &product.q[(first + token) * product.pitch + column..][..columns];
                    q.as_flattened_mut()[..columns].copy_from_slice(from);
                    let tables = &mut tables[..groups];
                    isa.lookup_tables(&q[..groups], tables);
                    for (w, sums) in w.chunks(PANEL * groups).zip(sums.chunks_mut(PANEL)) {
                        isa.lookup_tile(LookupTile { w, n_tiles: sums.len() / LOOKUP_TILE, tables }, sums);
                    }
                }
            }
            for (token, sums) in sums.chunks_exact(padded).take(tokens).enumerate() {
                sink.put(first + token, row, &sums[..n_rows]);
            }
        }
    }
}
