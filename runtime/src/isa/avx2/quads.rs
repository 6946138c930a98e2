//! Quads: a dword lane is a pixel. Products of ternary weights are summed in 16 bits for as long as they fit; those of
//! eight bits do not fit, so even and odd channels are widened and multiplied in 16 bits with sums in 32.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_srli_epi16,
    _mm256_storeu_si256,
};
use core::array;

use super::super::{QUAD_OUTPUTS, QuadTile};
use super::pair;

/// Pixels in a vector.
const LANES: usize = 8;
/// Steps whose sums fit 16 bits: each adds two activations, at most 255, times -1, 0 or 1.
const RUN: usize = 64;
/// Outputs and vectors of places whose sums stay in registers.
const OUTPUTS: usize = 4;
const VECTORS: usize = 2;

/// See [`super::super::Isa::quads`].
#[target_feature(enable = "avx2")]
pub(super) fn tile(tile: QuadTile<'_>, sums: &mut [i32]) {
    for output in (0..tile.outputs).step_by(OUTPUTS) {
        for place in (0..tile.places).step_by(VECTORS * LANES) {
            let mut acc = array::from_fn(|r| [_mm256_set1_epi32(tile.starts[output + r]); VECTORS]);
            let x = tile.x.get(place..).unwrap_or_default();
            if tile.ternary {
                trits(x, tile.offsets, tile.w, output, &mut acc);
            } else {
                bytes(x, tile.offsets, tile.w, output, &mut acc);
            }
            for (r, acc) in acc.iter().enumerate() {
                let sums = sums.get_mut((output + r) * tile.places + place..).unwrap_or_default();
                let Some(sums) = sums.as_chunks_mut::<LANES>().0.first_chunk_mut::<VECTORS>() else { break };
                for (sums, &acc) in sums.iter_mut().zip(acc) {
                    // SAFETY: 32 writable bytes by the reference.
                    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), acc) }
                }
            }
        }
    }
}

type Acc = [[__m256i; VECTORS]; OUTPUTS];
type Step = [[i8; 4]; QUAD_OUTPUTS];

/// Weights of -1, 0 and 1.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn trits(x: &[[u8; 4]], offsets: &[u32], w: &[Step], output: usize, sums: &mut Acc) {
    let ones = _mm256_set1_epi16(1);
    for (offsets, w) in offsets.chunks(RUN).zip(w.chunks(RUN)) {
        let mut acc: Acc = [[_mm256_setzero_si256(); VECTORS]; OUTPUTS];
        for (&offset, w) in offsets.iter().zip(w) {
            let (Some(x), Some(w)) = (vectors(x, offset), weights(w, output)) else { break };
            for r in 0..OUTPUTS {
                let w = _mm256_set1_epi32(i32::from_le_bytes(w[r].map(|w| w as u8)));
                for v in 0..VECTORS {
                    acc[r][v] = _mm256_add_epi16(acc[r][v], _mm256_maddubs_epi16(x[v], w));
                }
            }
        }
        for r in 0..OUTPUTS {
            for v in 0..VECTORS {
                sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(acc[r][v], ones));
            }
        }
    }
}

/// Weights of eight bits.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn bytes(x: &[[u8; 4]], offsets: &[u32], w: &[Step], output: usize, sums: &mut Acc) {
    let low = _mm256_set1_epi16(0xff);
    let mut acc = *sums;
    for (&offset, w) in offsets.iter().zip(w) {
        let (Some(x), Some(w)) = (vectors(x, offset), weights(w, output)) else { break };
        let even = x.map(|x| _mm256_and_si256(x, low));
        let odd = x.map(|x| _mm256_srli_epi16::<8>(x));
        for r in 0..OUTPUTS {
            let [a, b, c, d] = w[r].map(i16::from);
            let (ac, bd) = (pair(a, c), pair(b, d));
            for v in 0..VECTORS {
                let products = _mm256_add_epi32(_mm256_madd_epi16(even[v], ac), _mm256_madd_epi16(odd[v], bd));
                acc[r][v] = _mm256_add_epi32(acc[r][v], products);
            }
        }
    }
    *sums = acc;
}

/// The quads of neighbouring places.
#[inline]
#[target_feature(enable = "avx2")]
fn vectors(x: &[[u8; 4]], offset: u32) -> Option<[__m256i; VECTORS]> {
    let x = x.get(offset as usize..)?.as_chunks::<LANES>().0.first_chunk::<VECTORS>()?;
    Some(array::from_fn(|v| {
        // SAFETY: 32 readable bytes by the reference.
        unsafe { _mm256_loadu_si256(x[v].as_ptr().cast()) }
    }))
}

/// The weights of neighbouring outputs.
#[inline(always)]
fn weights(w: &Step, output: usize) -> Option<&[[i8; 4]; OUTPUTS]> {
    w.as_chunks::<OUTPUTS>().0.get(output / OUTPUTS)
}
