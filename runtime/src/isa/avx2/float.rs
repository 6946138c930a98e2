//! Float products on AVX2: up to four rows with two vectors of columns.

use core::arch::x86_64::{__m256, _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps};
use core::array;

use crate::isa::{FloatSums, FloatTile};

/// Lanes of a vector.
const LANES: usize = 8;
/// Vectors of a row.
const VECTORS: usize = 2;
/// Columns of a tile.
pub(super) const COLUMNS: usize = VECTORS * LANES;

/// Chooses the loop for as many rows as there are.
#[target_feature(enable = "avx2")]
pub(super) fn tile(tile: FloatTile<'_>, sums: &mut FloatSums) {
    match tile.rows {
        1 => rows::<1>(tile, sums),
        2 => rows::<2>(tile, sums),
        3 => rows::<3>(tile, sums),
        _ => rows::<4>(tile, sums),
    }
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn rows<const R: usize>(tile: FloatTile<'_>, sums: &mut FloatSums) {
    tile.check(R, COLUMNS);
    let mut acc: [[__m256; VECTORS]; R] = array::from_fn(|r| array::from_fn(|v| load(part(&sums[r], v))));
    for (i, b) in tile.b.as_chunks::<COLUMNS>().0.iter().take(tile.k).enumerate() {
        let b: [__m256; VECTORS] = array::from_fn(|v| load(part(b, v)));
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: `check` found `k` elements from `r * pitch` on, and `i` is below `k`.
            let a = _mm256_set1_ps(unsafe { *tile.a.get_unchecked(r * tile.pitch + i) });
            for (acc, &b) in acc.iter_mut().zip(&b) {
                *acc = _mm256_add_ps(*acc, _mm256_mul_ps(a, b));
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for (acc, sums) in acc.iter().zip(sums.as_chunks_mut::<LANES>().0) {
            // SAFETY: 8 writable elements by the reference.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *acc) }
        }
    }
}

/// One vector of a row of columns.
#[inline(always)]
fn part(row: &[f32], vector: usize) -> &[f32; LANES] {
    &row.as_chunks::<LANES>().0[vector]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(elements: &[f32; LANES]) -> __m256 {
    // SAFETY: 8 readable elements by the reference.
    unsafe { _mm256_loadu_ps(elements.as_ptr()) }
}
