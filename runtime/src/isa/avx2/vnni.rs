//! AVX-VNNI: one instruction multiplies four columns of 8 rows and adds them in 32 bits.
//!
//! As with AVX-512: for one token a plane is not shifted down but has sums of its own, else the weights are shifted.

use core::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_dpbusd_avx_epi32, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_sra_epi32, _mm256_srli_epi16,
};
use core::array;

use bitc_format::Layout;

use super::{PartSums, PlanesPart, PlanesTile, add, broadcast, load, planes_tile};

/// Vectors of rows that share the activations: those of one line of weights.
const VECTORS: usize = 2;

#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn planes(part: PlanesPart<'_>, sums: &mut [PartSums]) {
    part.begin(sums);
    for tile in part.panels() {
        match (part.layout, sums.len()) {
            (Layout::Trit2, 1) => separate::<4>(tile, sums),
            (Layout::Trit2, _) => shifted::<4>(tile, sums),
            // One sum for each row would wait for itself.
            (Layout::Bit1, 1) => planes_tile(part.layout, tile, sums),
            (Layout::Bit1, _) => shifted::<8>(tile, sums),
            _ => shifted::<1>(tile, sums),
        }
    }
}

/// One token, with sums for each of `P` planes.
#[inline(never)]
#[target_feature(enable = "avx2,avxvnni")]
fn separate<const P: usize>(tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    let [sums] = sums else { return };
    let bits = 8 / P;
    let masks: [__m256i; P] = array::from_fn(|p| _mm256_set1_epi8((((1 << bits) - 1) << (bits * p)) as i8));
    let tokens = tile.q.as_chunks::<4>().0.as_chunks::<P>().0;
    for first in 0..tile.n_tiles {
        let mut acc = [[_mm256_setzero_si256(); P]; VECTORS];
        for (w, q) in lines(tile, first).zip(tokens) {
            let w = [load(&w[0]), load(&w[1])];
            for p in 0..P {
                let q = broadcast(&q[p]);
                for v in 0..VECTORS {
                    acc[v][p] = _mm256_dpbusd_avx_epi32(acc[v][p], _mm256_and_si256(w[v], masks[p]), q);
                }
            }
        }
        for (v, acc) in acc.iter().enumerate() {
            let mut sum = acc[0];
            for (p, &acc) in acc.iter().enumerate().skip(1) {
                sum = _mm256_add_epi32(sum, _mm256_sra_epi32(acc, _mm_cvtsi32_si128((bits * p) as i32)));
            }
            add::<P>(sums, VECTORS * (tile.before + first) + v, sum);
        }
    }
}

/// Up to four tokens; the weights are shifted from plane to plane.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn shifted<const P: usize>(tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    match sums.len() {
        1 => tokens::<P, 1>(tile, sums),
        2 => tokens::<P, 2>(tile, sums),
        3 => tokens::<P, 3>(tile, sums),
        _ => tokens::<P, 4>(tile, sums),
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,avxvnni")]
fn tokens<const P: usize, const T: usize>(tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    let Ok(sums) = <&mut [PartSums; T]>::try_from(sums) else { return };
    let mask = _mm256_set1_epi8(((1 << (8 / P)) - 1) as u8 as i8);
    let tokens = tile.q.as_chunks::<4>().0.as_chunks::<P>().0.as_chunks::<T>().0;
    for first in 0..tile.n_tiles {
        let mut acc = [[_mm256_setzero_si256(); VECTORS]; T];
        for (w, q) in lines(tile, first).zip(tokens) {
            let mut w = [load(&w[0]), load(&w[1])];
            for p in 0..P {
                let codes = w.map(|w| _mm256_and_si256(w, mask));
                for t in 0..T {
                    let q = broadcast(&q[t][p]);
                    for v in 0..VECTORS {
                        acc[t][v] = _mm256_dpbusd_avx_epi32(acc[t][v], codes[v], q);
                    }
                }
                w = w.map(|w| if P == 8 { _mm256_srli_epi16::<1>(w) } else { _mm256_srli_epi16::<2>(w) });
            }
        }
        for (acc, sums) in acc.iter().zip(sums.iter_mut()) {
            for (v, &acc) in acc.iter().enumerate() {
                add::<P>(sums, VECTORS * (tile.before + first) + v, acc);
            }
        }
    }
}

/// The weights of one tile of rows, group by group.
#[inline(always)]
fn lines(tile: PlanesTile<'_>, first: usize) -> impl Iterator<Item = &[[u8; 32]; VECTORS]> {
    let lines = tile.w.as_chunks::<32>().0.as_chunks::<VECTORS>().0;
    lines.get(first..).unwrap_or_default().iter().step_by(tile.n_tiles)
}
