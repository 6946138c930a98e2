//! Quads: a dword lane is a pixel, and one instruction multiplies four channels of 16 pixels with four weights.

use core::arch::x86_64::{__m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_si512};
use core::array;

use super::super::QuadTile;

/// Pixels in a vector.
const LANES: usize = 16;

/// See [`super::super::Isa::quads`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn tile(tile: QuadTile<'_>, sums: &mut [i32]) {
    let mut output = 0;
    while output < tile.outputs {
        let left = tile.outputs - output;
        output += if left > 4 { outputs::<8, 3>(tile, output, sums) } else { outputs::<4, 4>(tile, output, sums) };
    }
}

/// `R` outputs at all places, `V` vectors of them at a time. Returns `R`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn outputs<const R: usize, const V: usize>(tile: QuadTile<'_>, output: usize, sums: &mut [i32]) -> usize {
    let mut place = 0;
    while place < tile.places {
        place += if tile.places - place >= V * LANES {
            block::<R, V>(tile, output, place, sums)
        } else {
            block::<R, 1>(tile, output, place, sums)
        };
    }
    R
}

/// `R` outputs and `V` vectors of places. Returns the number of places.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn block<const R: usize, const V: usize>(tile: QuadTile<'_>, output: usize, place: usize, sums: &mut [i32]) -> usize {
    let starts = &tile.starts[output..][..R];
    let mut acc: [[__m512i; V]; R] = array::from_fn(|r| [_mm512_set1_epi32(starts[r]); V]);
    let x = tile.x.get(place..).unwrap_or_default();
    for (&offset, w) in tile.offsets.iter().zip(tile.w) {
        let x = x.get(offset as usize..).and_then(|x| x.as_chunks::<LANES>().0.first_chunk::<V>());
        let (Some(x), Some(w)) = (x, w.as_chunks::<R>().0.get(output / R)) else { break };
        let x: [__m512i; V] = array::from_fn(|v| load(&x[v]));
        for r in 0..R {
            let w = _mm512_set1_epi32(i32::from_le_bytes(w[r].map(|w| w as u8)));
            for v in 0..V {
                acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], x[v], w);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        let sums = sums.get_mut((output + r) * tile.places + place..).unwrap_or_default();
        let Some(sums) = sums.as_chunks_mut::<LANES>().0.first_chunk_mut::<V>() else { break };
        for (sums, &acc) in sums.iter_mut().zip(acc) {
            // SAFETY: 64 writable bytes by the reference.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), acc) }
        }
    }
    V * LANES
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(quads: &[[u8; 4]; LANES]) -> __m512i {
    // SAFETY: 64 readable bytes by the reference.
    unsafe { _mm512_loadu_si512(quads.as_ptr().cast()) }
}
