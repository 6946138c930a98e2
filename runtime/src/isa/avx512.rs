//! AVX-512 with VNNI: a dword lane is a row, and one instruction multiplies four columns of 16 rows.
//!
//! The planes are not shifted down for one token: an AND leaves a plane some power of two too large, so each plane has
//! sums of its own, which are shifted once at the end. Where several tokens share the weights, shifting the weights
//! costs less than the registers for those sums.

use core::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_cvtsi32_si128, _mm_prefetch, _mm512_add_epi32, _mm512_and_si512, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_sra_epi32, _mm512_srli_epi16, _mm512_storeu_si512,
};
use core::{array, slice};

use bitc_format::Layout;

use super::{
    BLOCK, By, DIGITS, FloatSums, FloatTile, Isa, LookupTile, PANEL, PANELS, PartSums, PlanesPart, PlanesTile,
    QuadTile, TILE, Table, detect, portable,
};

mod float;
mod lookup;
mod one_token;
mod quads;
mod round;

/// This CPU has AVX2, FMA and AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512 {
    /// It has AVX-512 VBMI and GFNI as well.
    lookup: bool,
}

impl Avx512 {
    /// The proof, where there is one.
    pub(crate) fn detect() -> Option<&'static Self> {
        let found = detect::found();
        let proof = if found.lookup() { &Self { lookup: true } } else { &Self { lookup: false } };
        found.avx512().then_some(proof)
    }
}

impl Isa for Avx512 {
    fn name(self) -> &'static str {
        "avx512"
    }

    const TOKENS: usize = if cfg!(feature = "minimal") { 4 } else { 13 };

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        fn inner<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { inner(f) }
    }

    fn multiply(self, rounds: u32) -> (u64, i32) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { multiply(rounds) }
    }

    #[inline(always)]
    fn planes(self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { planes(part, sums) }
    }

    #[inline(always)]
    fn planes_of_one(self, part: PlanesPart<'_>, sums: &mut [PartSums]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { planes_of_one(part, sums) }
    }

    #[inline(always)]
    fn round_row(self, x: &[f32], by: By, q: &mut [i8]) -> i32 {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { round::row(x, by, q) }
    }

    #[inline(always)]
    fn quads(self, tile: QuadTile<'_>, sums: &mut [i32]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { quads::tile(tile, sums) }
    }

    const ROWS: usize = 8;
    const COLUMNS: usize = float::COLUMNS;

    #[inline(always)]
    fn float_tile(self, tile: FloatTile<'_>, sums: &mut FloatSums) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { float::tile(tile, sums) }
    }

    #[inline(always)]
    fn lookup_tables(self, q: &[[i8; DIGITS]], tables: &mut [Table]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { lookup::tables(q, tables) }
    }

    #[inline(always)]
    fn lookup_tile(self, tile: LookupTile<'_>, sums: &mut [i32]) {
        if self.lookup {
            // SAFETY: the features were detected where `lookup` is set.
            unsafe { lookup::tile(tile, sums) }
        } else {
            portable::lookup_tile(tile, sums);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn planes(part: PlanesPart<'_>, sums: &mut [PartSums]) {
    for tile in part.panels() {
        planes_tile(part.layout, tile, sums);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn planes_of_one(part: PlanesPart<'_>, sums: &mut [PartSums]) {
    let mut done = 0;
    if part.layout == Layout::Trit2 {
        done = one_token::panels(part, sums.as_flattened_mut());
        if done * PANEL >= part.n_rows {
            return;
        }
    }
    for mut tile in part.panels().skip(done) {
        let piece = tile.before / (PANELS * PANEL / TILE);
        tile.before %= PANELS * PANEL / TILE;
        if let Some(sums) = sums.get_mut(piece) {
            planes_tile(part.layout, tile, slice::from_mut(sums));
        }
    }
}

/// Chooses the shape of the register tile: as many sums as there are registers for, and enough to hide the latency.
#[cfg_attr(not(feature = "minimal"), inline)]
#[cfg_attr(feature = "minimal", inline(never))]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn planes_tile(layout: Layout, tile: PlanesTile<'_>, sums: &mut [PartSums]) {
    // Tokens, kernel, tiles of the widest kernel.
    macro_rules! choose {
        ($planes:literal: $($tokens:literal $kernel:ident $widest:literal,)*) => {
            match sums.len() {
                $($tokens if $tokens <= Avx512::TOKENS => if let Ok(sums) = <&mut [PartSums; $tokens]>::try_from(sums) {
                    let mut first = 0;
                    while first < tile.n_tiles {
                        let left = tile.n_tiles - first;
                        first += if left >= $widest {
                            $kernel::<$planes, $tokens, $widest>(tile, first, sums)
                        } else if left >= 2 {
                            $kernel::<$planes, $tokens, 2>(tile, first, sums)
                        } else {
                            $kernel::<$planes, $tokens, 1>(tile, first, sums)
                        };
                    }
                })*
                _ => {}
            }
        };
    }
    if layout == Layout::Int8 {
        choose!(1: 1 separate 4, 2 separate 4, 3 separate 4, 4 separate 4, 5 separate 4, 6 separate 2,
            7 separate 2, 8 separate 2, 9 separate 2, 10 separate 2, 11 separate 2, 12 separate 2, 13 separate 2,);
    } else if layout == Layout::Bit1 {
        choose!(8: 1 separate 2, 2 shifted 4, 3 shifted 4, 4 shifted 4, 5 shifted 4, 6 shifted 2,
            7 shifted 2, 8 shifted 2, 9 shifted 2, 10 shifted 2, 11 shifted 2, 12 shifted 2, 13 shifted 2,);
    } else {
        choose!(4: 1 separate 2, 2 separate 2, 3 separate 2, 4 shifted 4, 5 shifted 4, 6 shifted 2,
            7 shifted 2, 8 shifted 2, 9 shifted 2, 10 shifted 2, 11 shifted 2, 12 shifted 2, 13 shifted 2,);
    }
}

/// `T` tokens and `R` tiles with sums for each of `P` planes. Returns `R`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn separate<const P: usize, const T: usize, const R: usize>(
    tile: PlanesTile<'_>,
    first: usize,
    sums: &mut [PartSums; T],
) -> usize {
    let bits = 8 / P as u32;
    let masks: [__m512i; P] = array::from_fn(|p| _mm512_set1_epi8((((1 << bits) - 1) << (bits * p as u32)) as i8));
    let mut acc = [[[_mm512_setzero_si512(); P]; R]; T];
    for (w, q) in steps::<P, T, R>(tile, first) {
        if T == 1 {
            w.iter().for_each(|w| prefetch::<2048>(w));
        }
        let w: [__m512i; R] = array::from_fn(|r| load(&w[r]));
        for p in 0..P {
            for t in 0..T {
                let q = broadcast(&q[t][p]);
                for r in 0..R {
                    acc[t][r][p] = _mm512_dpbusd_epi32(acc[t][r][p], _mm512_and_si512(w[r], masks[p]), q);
                }
            }
        }
    }
    for (t, (acc, sums)) in acc.iter().zip(sums).enumerate() {
        for (r, acc) in acc.iter().enumerate() {
            if let Some(sums) = sums.as_chunks_mut().0.get_mut(tile.before + first + r) {
                add::<P>(sums, tile.starts.get(t), all_planes(acc));
            }
        }
    }
    R
}

/// The sum over planes, each of which is a power of two too large.
#[inline]
#[target_feature(enable = "avx512f")]
fn all_planes<const P: usize>(acc: &[__m512i; P]) -> __m512i {
    let mut sum = acc[0];
    for (p, &acc) in acc.iter().enumerate().skip(1) {
        let shift = _mm_cvtsi32_si128((8 / P * p) as i32);
        sum = _mm512_add_epi32(sum, _mm512_sra_epi32(acc, shift));
    }
    sum
}

/// `T` tokens and `R` tiles; the weights are shifted from plane to plane. Returns `R`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn shifted<const P: usize, const T: usize, const R: usize>(
    tile: PlanesTile<'_>,
    first: usize,
    sums: &mut [PartSums; T],
) -> usize {
    let mask = _mm512_set1_epi8((1 << (8 / P)) - 1);
    let mut acc = [[_mm512_setzero_si512(); R]; T];
    for (w, q) in steps::<P, T, R>(tile, first) {
        let mut w: [__m512i; R] = array::from_fn(|r| load(&w[r]));
        for p in 0..P {
            let codes = w.map(|w| _mm512_and_si512(w, mask));
            for t in 0..T {
                let q = broadcast(&q[t][p]);
                for r in 0..R {
                    acc[t][r] = _mm512_dpbusd_epi32(acc[t][r], codes[r], q);
                }
            }
            w = w.map(|w| if P == 8 { _mm512_srli_epi16::<1>(w) } else { _mm512_srli_epi16::<2>(w) });
        }
    }
    for (t, (acc, sums)) in acc.iter().zip(sums).enumerate() {
        for (r, &acc) in acc.iter().enumerate() {
            if let Some(sums) = sums.as_chunks_mut().0.get_mut(tile.before + first + r) {
                add::<P>(sums, tile.starts.get(t), acc);
            }
        }
    }
    R
}

/// As many independent sums as hide the latency.
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply(rounds: u32) -> (u64, i32) {
    const SUMS: usize = 20;
    let [u, s] = core::hint::black_box([_mm512_set1_epi8(1), _mm512_set1_epi8(-1)]);
    let mut acc = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = _mm512_dpbusd_epi32(*acc, u, s);
        }
    }
    let sum = acc.into_iter().fold(_mm512_setzero_si512(), |a, b| _mm512_add_epi32(a, b));
    (SUMS as u64 * 64, _mm512_reduce_add_epi32(sum))
}

/// The blocks of `R` tiles and the activations of `T` tokens, group by group; a token has a dword for each plane.
#[inline(always)]
fn steps<'a, const P: usize, const T: usize, const R: usize>(
    tile: PlanesTile<'a>,
    first: usize,
) -> impl Iterator<Item = (&'a [[u8; BLOCK]; R], &'a [[[i8; 4]; P]; T])> {
    let blocks = tile.w.as_chunks::<BLOCK>().0;
    let w = blocks.get(first..).unwrap_or_default().chunks(tile.n_tiles).map_while(|blocks| blocks.first_chunk());
    let q = tile.q.as_chunks::<4>().0.as_chunks::<P>().0.as_chunks::<T>().0;
    w.zip(q)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 readable bytes by the reference.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Asks for the weights that lie `AHEAD` bytes after those at `bytes`.
#[inline]
#[target_feature(enable = "sse")]
fn prefetch<const AHEAD: usize>(bytes: &[u8; 64]) {
    _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(AHEAD).cast());
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(q: &[i8; 4]) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(q.map(|q| q as u8)))
}

/// Adds to the sums of one tile, or to what they begin with; a bit stands for `w + 1`, which is 0 or 2.
#[inline]
#[target_feature(enable = "avx512f")]
fn add<const P: usize>(sums: &mut [i32; TILE], start: Option<&i32>, sum: __m512i) {
    let sum = if P == 8 { _mm512_add_epi32(sum, sum) } else { sum };
    let old = if let Some(&start) = start {
        _mm512_set1_epi32(start)
    } else {
        // SAFETY: 64 readable bytes by the reference.
        unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
    };
    let new = _mm512_add_epi32(old, sum);
    // SAFETY: 64 writable bytes by the reference.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), new) }
}
