//! Products with `trit5` on AVX-512 with VBMI and GFNI: 64 rows look up their sums of five columns at once.

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_storeu_si256, _mm512_add_epi16, _mm512_add_epi32, _mm512_castsi512_si256,
    _mm512_cvtepi16_epi8, _mm512_cvtepi16_epi32, _mm512_extracti64x4_epi64, _mm512_gf2p8affine_epi64_epi8,
    _mm512_loadu_si512, _mm512_maddubs_epi16, _mm512_permutex2var_epi8, _mm512_set1_epi16, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512, _mm512_sub_epi16, _mm512_unpackhi_epi8,
    _mm512_unpacklo_epi8, _mm512_xor_si512,
};
use core::array;

use super::{load, prefetch};
use crate::isa::{DIGITS, LOOKUP_TILE, LookupTile, Table};

/// For three pairs of digits (the last is one digit alone) and four quarters of the table: the digits plus 1 of 32
/// magnitudes.
static PATTERNS: [[[u8; 64]; 4]; 3] = patterns();

const fn patterns() -> [[[u8; 64]; 4]; 3] {
    let mut patterns = [[[0; 64]; 4]; 3];
    let mut magnitude = 0;
    while magnitude < 128 {
        // The digits of a number in balanced ternary plus 1 are those of the number plus 121 in base 3.
        let mut rest = magnitude + 121;
        let mut digit = 0;
        while digit < DIGITS {
            patterns[digit / 2][magnitude / 32][2 * (magnitude % 32) + digit % 2] = (rest % 3) as u8;
            rest /= 3;
            digit += 1;
        }
        magnitude += 1;
    }
    patterns
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn tables(q: &[[i8; DIGITS]], tables: &mut [Table]) {
    for (table, q) in tables.iter_mut().zip(q) {
        let pair = |low: i8, high: i8| _mm512_set1_epi16(i16::from_le_bytes([low as u8, high as u8]));
        let pairs = [pair(q[0], q[1]), pair(q[2], q[3]), pair(q[4], 0)];
        // What the digits are too large by, times the activations.
        let excess = _mm512_set1_epi16(q.iter().map(|&x| i16::from(x)).sum());
        let (low, high) = table.split_at_mut(128);
        let halves = low.as_chunks_mut::<32>().0.iter_mut().zip(high.as_chunks_mut::<32>().0);
        for (quarter, (low, high)) in halves.enumerate() {
            let products: [_; 3] = array::from_fn(|i| _mm512_maddubs_epi16(load(&PATTERNS[i][quarter]), pairs[i]));
            let sum = _mm512_add_epi16(_mm512_add_epi16(products[0], products[1]), products[2]);
            let sum = _mm512_sub_epi16(sum, excess);
            store_bytes(low, _mm512_cvtepi16_epi8(sum));
            store_bytes(high, _mm512_cvtepi16_epi8(_mm512_srli_epi16::<8>(sum)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
pub(super) fn tile(tile: LookupTile<'_>, sums: &mut [i32]) {
    match tile.n_tiles {
        1 => rows::<1>(tile, sums),
        2 => rows::<2>(tile, sums),
        3 => rows::<3>(tile, sums),
        _ => rows::<4>(tile, sums),
    }
}

/// `R` tiles. The sums of a run fit 16 bits: 48 * (5 * 128 + 1) < 32768.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
fn rows<const R: usize>(tile: LookupTile<'_>, sums: &mut [i32]) {
    // As a matrix over bits, it copies the highest bit of a byte to all of them.
    let sign = _mm512_set1_epi64(0x8080_8080_8080_8080_u64 as i64);
    let mut acc = [[_mm512_setzero_si512(); 2]; R];
    for (w, table) in tile.w.as_chunks::<LOOKUP_TILE>().0.as_chunks::<R>().0.iter().zip(tile.tables) {
        let quarters = table.as_chunks::<64>().0;
        let [low0, low1, high0, high1] = quarters else { continue };
        let [low0, low1, high0, high1] = [load(low0), load(low1), load(high0), load(high1)];
        for r in 0..R {
            // Far enough for weights that come from memory, which these are for.
            prefetch::<8192>(&w[r]);
            let w = load(&w[r]);
            let inverted = _mm512_gf2p8affine_epi64_epi8::<0>(w, sign);
            let low = _mm512_xor_si512(_mm512_permutex2var_epi8(low0, w, low1), inverted);
            let high = _mm512_xor_si512(_mm512_permutex2var_epi8(high0, w, high1), inverted);
            acc[r][0] = _mm512_add_epi16(acc[r][0], _mm512_unpacklo_epi8(low, high));
            acc[r][1] = _mm512_add_epi16(acc[r][1], _mm512_unpackhi_epi8(low, high));
        }
    }
    for (acc, sums) in acc.as_flattened().iter().zip(sums.as_chunks_mut::<32>().0) {
        let [first, second] = sums.as_chunks_mut::<16>().0 else { continue };
        add(first, _mm512_cvtepi16_epi32(_mm512_castsi512_si256(*acc)));
        add(second, _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64::<1>(*acc)));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(sums: &mut [i32; 16], more: __m512i) {
    // SAFETY: 64 readable bytes by the reference.
    let old = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
    let new = _mm512_add_epi32(old, more);
    // SAFETY: 64 writable bytes by the reference.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), new) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_bytes(bytes: &mut [u8; 32], value: __m256i) {
    // SAFETY: 32 writable bytes by the reference.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}
