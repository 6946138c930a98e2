//! AVX-512: a slot of 512 samples is a register, a table of three inputs one instruction.

use std::arch::x86_64::{
    __m128i, __m512i, _CMP_GT_OQ, _mm_loadu_si128, _mm_storeu_si128, _mm_ternarylogic_epi64, _mm512_add_epi32,
    _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_cvtepu16_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_add_epi8, _mm512_mask_add_epi16, _mm512_mask_cmp_ps_mask, _mm512_maskz_loadu_ps,
    _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i64x2,
    _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_test_epi8_mask, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use std::array;

use super::{Bits, FEW, MANY, plain};
use crate::isa::avx512::Avx512;

/// Columns packed together.
const COLUMNS: usize = 64;
/// Planes whose sum fits 16 bits.
const PLANES_16: usize = 16;

impl Bits<MANY> for Avx512 {
    type Slot = __m512i;

    #[inline(always)]
    fn load(self, from: &[u64; MANY]) -> __m512i {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { load_many(from) }
    }

    #[inline(always)]
    fn store(self, slot: __m512i, to: &mut [u64; MANY]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { store_many(slot, to) }
    }

    #[inline(always)]
    fn table<const TABLE: i32>(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { _mm512_ternarylogic_epi64::<TABLE>(c, b, a) }
    }

    #[inline(always)]
    fn pack_bytes(self, x: &[u8], pitch: usize, n_rows: usize, slots: &mut [[u64; MANY]]) {
        if n_rows > 64 && slots.len() >= COLUMNS {
            // SAFETY: a value of this type exists only where these features were detected.
            unsafe { pack_many(x, pitch, n_rows, slots) }
        } else {
            plain::pack_bytes(x, pitch, n_rows, slots);
        }
    }

    #[inline(always)]
    fn compare(self, x: &[f32], threshold: f32, slot: &mut [u64; MANY]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { compare(x, threshold, slot) }
    }

    #[inline(always)]
    fn sum_planes(self, planes: &[[u64; MANY]], offset: u32, counts: &mut [u32]) {
        if planes.len() <= PLANES_16 {
            // SAFETY: a value of this type exists only where these features were detected.
            unsafe { sum_planes(planes, offset, counts) }
        } else {
            plain::sum_planes(planes, offset, counts);
        }
    }
}

impl Bits<FEW> for Avx512 {
    type Slot = __m128i;

    #[inline(always)]
    fn load(self, from: &[u64; FEW]) -> __m128i {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { load_few(from) }
    }

    #[inline(always)]
    fn store(self, slot: __m128i, to: &mut [u64; FEW]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { store_few(slot, to) }
    }

    #[inline(always)]
    fn table<const TABLE: i32>(self, a: __m128i, b: __m128i, c: __m128i) -> __m128i {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { _mm_ternarylogic_epi64::<TABLE>(c, b, a) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_many(from: &[u64; MANY]) -> __m512i {
    // SAFETY: eight words are 64 readable bytes.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_many(slot: __m512i, to: &mut [u64; MANY]) {
    // SAFETY: eight words are 64 writable bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), slot) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_few(from: &[u64; FEW]) -> __m128i {
    // SAFETY: two words are 16 readable bytes.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_few(slot: __m128i, to: &mut [u64; FEW]) {
    // SAFETY: two words are 16 writable bytes.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), slot) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(from: &[u8; COLUMNS]) -> __m512i {
    // SAFETY: the array is 64 readable bytes.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// 64 columns at a time; the last columns are packed again with some of those before them, so that every read is of 64
/// bytes inside a row.
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_many(x: &[u8], pitch: usize, n_rows: usize, slots: &mut [[u64; MANY]]) {
    let n_columns = slots.len();
    let mut first = 0;
    while first < n_columns {
        let at = first.min(n_columns - COLUMNS);
        let mut parts = [[_mm512_setzero_si512(); 8]; MANY];
        for (lane, part) in parts.iter_mut().enumerate().take(n_rows.div_ceil(64)) {
            let rows = &x[64 * lane * pitch + at..];
            if n_rows >= 64 * (lane + 1) {
                *part = pack_64(rows, pitch);
            } else {
                let mut copy = [0u8; 64 * COLUMNS];
                for (to, row) in copy.chunks_exact_mut(COLUMNS).zip(rows.chunks(pitch)).take(n_rows - 64 * lane) {
                    to.copy_from_slice(&row[..COLUMNS]);
                }
                *part = pack_64(&copy, COLUMNS);
            }
        }
        let slots = &mut slots[at..at + COLUMNS];
        for i in 0..8 {
            let columns = transpose_8x8(array::from_fn(|lane| parts[lane][i]));
            for (q, column) in columns.into_iter().enumerate() {
                store_many(column, &mut slots[16 * (q / 2) + 2 * i + q % 2]);
            }
        }
        first += COLUMNS;
    }
}

/// Packs 64 rows and columns. The word of column `16 l + 2 i + h` is word `2 l + h` of vector `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_64(x: &[u8], pitch: usize) -> [__m512i; 8] {
    let mut rows = x.chunks(pitch);
    // Byte `c` of vector `i` holds rows `8 i` to `8 i + 7` of column `c`.
    let r: [__m512i; 8] = array::from_fn(|_| {
        let mut bits = _mm512_setzero_si512();
        for bit in 0..8 {
            if let Some(row) = rows.next().and_then(|row| row.first_chunk()) {
                let row = load_bytes(row);
                let set = _mm512_test_epi8_mask(row, row);
                bits = _mm512_mask_add_epi8(bits, set, bits, _mm512_set1_epi8((1u8 << bit) as i8));
            }
        }
        bits
    });
    let pairs: [[__m512i; 4]; 2] = [
        array::from_fn(|i| _mm512_unpacklo_epi8(r[2 * i], r[2 * i + 1])),
        array::from_fn(|i| _mm512_unpackhi_epi8(r[2 * i], r[2 * i + 1])),
    ];
    let [low, high] = pairs.map(|p| {
        let a = [_mm512_unpacklo_epi16(p[0], p[1]), _mm512_unpackhi_epi16(p[0], p[1])];
        let b = [_mm512_unpacklo_epi16(p[2], p[3]), _mm512_unpackhi_epi16(p[2], p[3])];
        [
            _mm512_unpacklo_epi32(a[0], b[0]),
            _mm512_unpackhi_epi32(a[0], b[0]),
            _mm512_unpacklo_epi32(a[1], b[1]),
            _mm512_unpackhi_epi32(a[1], b[1]),
        ]
    });
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// Word `j` of vector `i` becomes word `i` of vector `j`.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_8x8(v: [__m512i; 8]) -> [__m512i; 8] {
    // Lane `l` of `even[k]` holds words `2 l` of vectors `2 k` and `2 k + 1`, of `odd[k]` words `2 l + 1`.
    let even: [__m512i; 4] = array::from_fn(|k| _mm512_unpacklo_epi64(v[2 * k], v[2 * k + 1]));
    let odd: [__m512i; 4] = array::from_fn(|k| _mm512_unpackhi_epi64(v[2 * k], v[2 * k + 1]));
    let [even, odd] = [even, odd].map(|m| {
        let low = [_mm512_shuffle_i64x2::<0x44>(m[0], m[1]), _mm512_shuffle_i64x2::<0x44>(m[2], m[3])];
        let high = [_mm512_shuffle_i64x2::<0xee>(m[0], m[1]), _mm512_shuffle_i64x2::<0xee>(m[2], m[3])];
        [
            _mm512_shuffle_i64x2::<0x88>(low[0], low[1]),
            _mm512_shuffle_i64x2::<0xdd>(low[0], low[1]),
            _mm512_shuffle_i64x2::<0x88>(high[0], high[1]),
            _mm512_shuffle_i64x2::<0xdd>(high[0], high[1]),
        ]
    });
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn compare(x: &[f32], threshold: f32, slot: &mut [u64; MANY]) {
    *slot = [0; MANY];
    let threshold = _mm512_set1_ps(threshold);
    for (word, values) in slot.iter_mut().zip(x.chunks(64)) {
        for (i, values) in values.chunks(16).enumerate() {
            let mask = if values.len() == 16 {
                // SAFETY: the chunk is sixteen readable values.
                let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(values, threshold)
            } else {
                let inside = (1u16 << values.len()) - 1;
                // SAFETY: the mask lets through only the values of the chunk.
                let values = unsafe { _mm512_maskz_loadu_ps(inside, values.as_ptr()) };
                _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(inside, values, threshold)
            };
            *word |= u64::from(mask) << (16 * i);
        }
    }
}

/// 32 samples at a time in lanes of 16 bits; a plane is the mask of an addition.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sum_planes(planes: &[[u64; MANY]], offset: u32, counts: &mut [u32]) {
    let offset = _mm512_set1_epi32(offset as i32);
    for (i, counts) in counts.chunks_mut(32).enumerate() {
        let mut sums = _mm512_setzero_si512();
        for (p, plane) in planes.iter().enumerate() {
            let bits = (plane[i / 2] >> (32 * (i % 2))) as u32;
            sums = _mm512_mask_add_epi16(sums, bits, sums, _mm512_set1_epi16((1u16 << p) as i16));
        }
        let low = _mm512_add_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(sums)), offset);
        let high = _mm512_add_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(sums)), offset);
        let mut all = [0u32; 32];
        for (sums, half) in [low, high].into_iter().zip(all.chunks_exact_mut(16)) {
            // SAFETY: half of the array is 64 writable bytes.
            unsafe { _mm512_storeu_si512(half.as_mut_ptr().cast(), sums) }
        }
        counts.copy_from_slice(&all[..counts.len()]);
    }
}
