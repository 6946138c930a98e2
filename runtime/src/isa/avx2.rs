//! AVX2: 8 rows in a vector, sums in 16 bits for as long as they fit. Where the CPU has AVX-VNNI, `vnni.rs` multiplies.
//!
//! One shift by 4 and one AND for each plane take the codes out of a byte; a plane that is not in the lowest bits of its
//! half byte stays some power of two too large and is summed apart from the others. The largest of these sums grows by
//! at most 4096 with a group of columns, so 8 groups are summed before they are widened to 32 bits.

use core::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_extract_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sra_epi32, _mm256_srli_epi16, _mm256_storeu_si256,
};
use core::array;

use bitc_format::Layout;

use super::{FloatSums, FloatTile, Isa, PartSums, PlanesPart, PlanesTile, QuadTile, detect};

mod float;
mod quads;
#[cfg(not(feature = "minimal"))]
mod vnni;

/// Groups of columns whose sums fit 16 bits: for both layouts 2 planes * 2 columns * 128 * the largest factor times the
/// largest code is 4096, and the sum of 8 such is at least -32768.
const RUN: usize = 8;

/// This CPU has AVX2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2 {
    /// It has AVX-VNNI as well. A minimal build does without.
    vnni: bool,
}

impl Avx2 {
    /// The proof, where there is one.
    pub(crate) fn detect() -> Option<&'static Self> {
        let found = detect::found();
        if found.avx_vnni() { Some(&Self { vnni: true }) } else { found.avx2().then_some(&Self { vnni: false }) }
    }

    /// The same for a CPU that has AVX-VNNI, without it.
    pub(crate) fn detect_plain() -> Option<&'static Self> {
        detect::found().avx_vnni().then_some(&Self { vnni: false })
    }
}

impl Isa for Avx2 {
    fn name(self) -> &'static str {
        // What is left to CPUs without AVX-VNNI has a name of its own where there is more.
        if self.vnni || !detect::found().avx_vnni() { "avx2" } else { "avx2-plain" }
    }

    const TOKENS: usize = 4;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { inner(f) }
    }

    fn multiply(self, rounds: u32) -> (u64, i32) {
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { multiply(rounds) }
    }

    #[inline(always)]
    fn quads(self, tile: QuadTile<'_>, sums: &mut [i32]) {
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { quads::tile(tile, sums) }
    }

    const ROWS: usize = 4;
    const COLUMNS: usize = float::COLUMNS;

    #[inline(always)]
    fn float_tile(self, tile: FloatTile<'_>, sums: &mut FloatSums) {
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { float::tile(tile, sums) }
    }

    #[inline(always)]
    fn planes(self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        #[cfg(not(feature = "minimal"))]
        if self.vnni {
            // SAFETY: the feature was detected where `vnni` is set.
            return unsafe { vnni::planes(part, sums) };
        }
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { planes(part, sums) }
    }
}

#[target_feature(enable = "avx2")]
fn planes(part: PlanesPart<'_>, sums: &mut [PartSums]) {
    part.begin(sums);
    for tile in part.panels() {
        planes_tile(part.layout, tile, sums);
    }
}

/// Chooses how many vectors of rows share the activations, so that the 16 bit sums stay in registers.
#[inline]
#[target_feature(enable = "avx2")]
fn planes_tile(layout: Layout, tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    // Tokens and vectors of rows.
    macro_rules! choose {
        ($planes:literal $factors:literal: $($tokens:literal $vectors:literal,)*) => {
            match sums.len() {
                $($tokens => if let Ok(sums) = <&mut [PartSums; $tokens]>::try_from(sums) {
                    let mut first = 0;
                    while first < 2 * tile.n_tiles {
                        first += if 2 * tile.n_tiles - first >= $vectors {
                            rows::<$planes, $factors, $tokens, $vectors>(tile, first, sums)
                        } else {
                            rows::<$planes, $factors, $tokens, 2>(tile, first, sums)
                        };
                    }
                })*
                _ => {}
            }
        };
    }
    if layout == Layout::Int8 {
        bytes(tile, sums);
    } else if layout == Layout::Bit1 {
        choose!(8 4: 1 1, 2 1, 3 1, 4 1,);
    } else {
        choose!(4 2: 1 4, 2 2, 3 1, 4 1,);
    }
}

/// `T` tokens and `V` vectors of 8 rows, with sums for each of the `F` factors of `P` planes. Returns `V`.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn rows<const P: usize, const F: usize, const T: usize, const V: usize>(
    tile: PlanesTile<'_>,
    first: usize,
    sums: &mut [PartSums; T],
) -> usize {
    let bits = 8 / P;
    let masks: [__m256i; F] = array::from_fn(|f| _mm256_set1_epi8((((1 << bits) - 1) << (bits * f)) as i8));
    let ones = _mm256_set1_epi16(1);
    let stride = 2 * tile.n_tiles;
    let vectors = tile.w.as_chunks::<32>().0;
    let tokens = tile.q.as_chunks::<4>().0.as_chunks::<P>().0.as_chunks::<T>().0;
    for (w, q) in vectors.chunks(RUN * stride).zip(tokens.chunks(RUN)) {
        let mut acc = [[[_mm256_setzero_si256(); F]; V]; T];
        let w = w.get(first..).unwrap_or_default().chunks(stride).map_while(|w| w.first_chunk::<V>());
        for (w, q) in w.zip(q) {
            for v in 0..V {
                let low = load(&w[v]);
                let halves = [low, _mm256_srli_epi16::<4>(low)];
                for (h, half) in halves.into_iter().enumerate() {
                    for f in 0..F {
                        let codes = _mm256_and_si256(half, masks[f]);
                        for t in 0..T {
                            let products = _mm256_maddubs_epi16(codes, broadcast(&q[t][h * F + f]));
                            acc[t][v][f] = _mm256_add_epi16(acc[t][v][f], products);
                        }
                    }
                }
            }
        }
        for (acc, sums) in acc.iter().zip(sums.iter_mut()) {
            for (v, acc) in acc.iter().enumerate() {
                let mut sum = _mm256_madd_epi16(acc[0], ones);
                for (f, &acc) in acc.iter().enumerate().skip(1) {
                    let shift = _mm_cvtsi32_si128((bits * f) as i32);
                    sum = _mm256_add_epi32(sum, _mm256_sra_epi32(_mm256_madd_epi16(acc, ones), shift));
                }
                add::<P>(sums, 2 * tile.before + first + v, sum);
            }
        }
    }
    V
}

/// Weights of eight bits. Products of bytes do not fit 16 bits, so even and odd columns are widened, which takes one
/// instruction each, and multiplied in 16 bits with sums in 32.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn bytes(tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    match sums.len() {
        1 => bytes_of_tokens::<1>(tile, sums),
        2 => bytes_of_tokens::<2>(tile, sums),
        3 => bytes_of_tokens::<3>(tile, sums),
        _ => bytes_of_tokens::<4>(tile, sums),
    }
}

/// `T` tokens, two vectors of 8 rows at a time.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of_tokens<const T: usize>(tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    let Ok(sums) = <&mut [PartSums; T]>::try_from(sums) else { return };
    let low = _mm256_set1_epi16(0xff);
    let tokens = tile.q.as_chunks::<4>().0.as_chunks::<T>().0;
    let tiles = tile.w.as_chunks::<32>().0.as_chunks::<2>().0;
    for first in 0..tile.n_tiles {
        let mut acc = [[_mm256_setzero_si256(); 2]; T];
        let tiles = tiles.get(first..).unwrap_or_default().iter().step_by(tile.n_tiles);
        for (w, q) in tiles.zip(tokens) {
            let w = [load(&w[0]), load(&w[1])];
            let even = w.map(|w| _mm256_and_si256(w, low));
            let odd = w.map(|w| _mm256_srli_epi16::<8>(w));
            for t in 0..T {
                let [a, b, c, d] = q[t].map(i16::from);
                let (ac, bd) = (pair(a, c), pair(b, d));
                for v in 0..2 {
                    let products = _mm256_add_epi32(_mm256_madd_epi16(even[v], ac), _mm256_madd_epi16(odd[v], bd));
                    acc[t][v] = _mm256_add_epi32(acc[t][v], products);
                }
            }
        }
        for (acc, sums) in acc.iter().zip(sums.iter_mut()) {
            for (v, &acc) in acc.iter().enumerate() {
                add::<1>(sums, 2 * (tile.before + first) + v, acc);
            }
        }
    }
}

/// Two numbers of 16 bits in every lane of 32.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(low: i16, high: i16) -> __m256i {
    let [a, b] = low.to_le_bytes();
    let [c, d] = high.to_le_bytes();
    _mm256_set1_epi32(i32::from_le_bytes([a, b, c, d]))
}

/// As many independent sums as hide the latency.
#[target_feature(enable = "avx2")]
fn multiply(rounds: u32) -> (u64, i32) {
    const SUMS: usize = 12;
    let [u, s] = core::hint::black_box([_mm256_set1_epi8(1), _mm256_set1_epi8(-1)]);
    let mut acc = [u; SUMS];
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = _mm256_add_epi16(s, _mm256_maddubs_epi16(*acc, s));
        }
    }
    let sum = acc.into_iter().fold(u, |a, b| _mm256_add_epi16(a, b));
    (SUMS as u64 * 32, _mm256_extract_epi32::<0>(sum))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes by the reference.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(q: &[i8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes(q.map(|q| q as u8)))
}

/// Adds to the sums of one vector of rows; a bit stands for `w + 1`, which is 0 or 2.
#[inline]
#[target_feature(enable = "avx2")]
fn add<const P: usize>(sums: &mut PartSums, vector: usize, sum: __m256i) {
    let Some(sums) = sums.as_chunks_mut::<8>().0.get_mut(vector) else { return };
    let sum = if P == 8 { _mm256_add_epi32(sum, sum) } else { sum };
    // SAFETY: 32 readable bytes by the reference.
    let old = unsafe { _mm256_loadu_si256(sums.as_ptr().cast()) };
    let new = _mm256_add_epi32(old, sum);
    // SAFETY: 32 writable bytes by the reference.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), new) }
}
