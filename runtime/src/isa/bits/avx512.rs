//! AVX-512: a slot of 512 samples is a register, a table of three inputs one instruction.

use core::arch::x86_64::{
    __m128i, __m512i, _CMP_GT_OQ, _MM_HINT_T0, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_prefetch,
    _mm_ternarylogic_epi64, _mm512_add_epi8, _mm512_add_epi32, _mm512_add_ps, _mm512_castsi512_si128,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_div_ps, _mm512_extracti32x4_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_add_epi8, _mm512_mask_cmp_ps_mask, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_slli_epi32, _mm512_storeu_epi32,
    _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_test_epi8_mask, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use core::array;

use super::{Bits, FEW, Head, MANY, Samples, plain};
use crate::isa::avx512::Avx512;

/// Columns packed together.
const COLUMNS: usize = 64;
/// Chunks of columns packed from eight rows before the next eight.
const STRIP: usize = 64;
/// Bytes between what is packed and what is fetched for later.
const AHEAD: usize = 1 << 14;

impl Samples for Avx512 {
    const HOLDS_MANY: bool = true;
}

impl Bits<MANY> for Avx512 {
    const TABLE_IS_ONE_INSTRUCTION: bool = true;
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
    fn pack_bytes(self, x: &[u8], pitch: usize, n_rows: usize, slots: &mut [[u64; MANY]], turned: &mut [[u64; MANY]]) {
        if n_rows > 64 && slots.len() >= COLUMNS {
            let turned = &mut turned[..slots.len().next_multiple_of(COLUMNS)];
            // SAFETY: a value of this type exists only where these features were detected.
            unsafe { pack_many(x, pitch, n_rows, slots, turned) }
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
    fn write_scores(self, head: &Head<'_>, planes: &[[u64; MANY]], word: usize, y: &mut [f32]) {
        match head.count_bits {
            // SAFETY: a value of this type exists only where these features were detected.
            0..=8 => unsafe { write_scores::<1>(head, planes, word, y) },
            // SAFETY: as above.
            9..=16 => unsafe { write_scores::<2>(head, planes, word, y) },
            _ => plain::write_scores(self, head, planes, word, y),
        }
    }

    #[inline(always)]
    fn sum_planes(self, planes: &[[u64; MANY]], word: usize, offset: u32, counts: &mut [u32; 64]) {
        // SAFETY: a value of this type exists only where these features were detected.
        unsafe { sum_planes(planes, word, offset, counts) }
    }
}

impl Bits<FEW> for Avx512 {
    const TABLE_IS_ONE_INSTRUCTION: bool = true;
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
    _mm_cvtsi64_si128(from[0].cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_few(slot: __m128i, to: &mut [u64; FEW]) {
    to[0] = _mm_cvtsi128_si64(slot).cast_unsigned();
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(from: &[u8; COLUMNS]) -> __m512i {
    // SAFETY: the array is 64 readable bytes.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Eight rows at a time, so that memory is read in few long streams, and up to [`STRIP`] times 64 columns; the last
/// columns are packed again with some of those before them, so that every read is of 64 bytes inside a row.
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_many(x: &[u8], pitch: usize, n_rows: usize, slots: &mut [[u64; MANY]], turned: &mut [[u64; MANY]]) {
    let n_columns = slots.len();
    let n_chunks = n_columns.div_ceil(COLUMNS);
    let column = |chunk: usize| (chunk * COLUMNS).min(n_columns - COLUMNS);
    if n_rows <= 64 * (MANY - 1) {
        turned.fill([0; MANY]);
    }
    // Whole groups of rows, so that what is fetched is what will be read.
    let ahead = (AHEAD / (8 * pitch)).max(1) * 8 * pitch;
    let mut copy = [0u8; 8 * COLUMNS];
    let mut bits = [[_mm512_setzero_si512(); 8]; STRIP];
    for lane in 0..n_rows.div_ceil(64) {
        for first in (0..n_chunks).step_by(STRIP) {
            let chunks = first..n_chunks.min(first + STRIP);
            for group in 0..8 {
                let row = 64 * lane + 8 * group;
                let n = n_rows.saturating_sub(row).min(8);
                if n == 0 {
                    bits.iter_mut().for_each(|bits| bits[group] = _mm512_setzero_si512());
                    continue;
                }
                for (bits, at) in bits.iter_mut().zip(chunks.clone().map(column)) {
                    if n == 8 {
                        bits[group] = pack_8(&x[row * pitch + at..], pitch, ahead);
                    } else {
                        copy.fill(0);
                        let rows = x[row * pitch + at..].chunks(pitch).take(n);
                        for (to, row) in copy.chunks_exact_mut(COLUMNS).zip(rows) {
                            to.copy_from_slice(&row[..COLUMNS]);
                        }
                        bits[group] = pack_8(&copy, COLUMNS, 0);
                    }
                }
            }
            for (bits, chunk) in bits.iter().zip(chunks) {
                for (i, words) in interleave(bits).into_iter().enumerate() {
                    store_many(words, &mut turned[(chunk * 8 + i) * MANY + lane]);
                }
            }
        }
    }
    for (chunk, turned) in turned.chunks_exact(COLUMNS).enumerate().take(n_chunks) {
        let slots = &mut slots[column(chunk)..][..COLUMNS];
        for (i, words) in turned.as_chunks::<MANY>().0.iter().enumerate() {
            let columns = transpose_8x8(array::from_fn(|lane| load_many(&words[lane])));
            for (q, column) in columns.into_iter().enumerate() {
                store_many(column, &mut slots[16 * (q / 2) + 2 * i + q % 2]);
            }
        }
    }
}

/// Bit `i` of byte `c` is whether byte `c` of row `i` is not zero. What lies that many bytes `ahead` is fetched.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_8(x: &[u8], pitch: usize, ahead: usize) -> __m512i {
    let mut bits = _mm512_setzero_si512();
    for (bit, row) in x.chunks(pitch).take(8).enumerate() {
        if let Some(row) = row.first_chunk() {
            // Fetching changes nothing but caches, whatever the address.
            _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(ahead).cast());
            let row = load_bytes(row);
            let set = _mm512_test_epi8_mask(row, row);
            bits = _mm512_mask_add_epi8(bits, set, bits, _mm512_set1_epi8((1u8 << bit) as i8));
        }
    }
    bits
}

/// Brings the eight bytes of a column together: the word of column `16 l + 2 i + h` is word `2 l + h` of vector `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(r: &[__m512i; 8]) -> [__m512i; 8] {
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

/// Eight planes at a time give a byte per sample; bytes are widened and added, those of the highest planes first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sum_planes(planes: &[[u64; MANY]], word: usize, offset: u32, counts: &mut [u32; 64]) {
    let mut sums = [_mm512_setzero_si512(); 4];
    for planes in planes.chunks(8).rev() {
        let bytes = planes_to_bytes(planes, word);
        for (sum, bytes) in sums.iter_mut().zip(quarters(bytes)) {
            *sum = widen_and_add(*sum, bytes);
        }
    }
    let offset = _mm512_set1_epi32(offset as i32);
    for (sum, counts) in sums.into_iter().zip(counts.as_chunks_mut::<16>().0) {
        let sum = _mm512_add_epi32(sum, offset);
        // SAFETY: sixteen counts are 64 writable bytes.
        unsafe { _mm512_storeu_epi32(counts.as_mut_ptr().cast(), sum) }
    }
}

/// Bit `p` of byte `r` is bit `r` of a word of plane `p`, of at most eight.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn planes_to_bytes(planes: &[[u64; MANY]], word: usize) -> __m512i {
    let mut bytes = _mm512_setzero_si512();
    let mut bit = _mm512_set1_epi8(1);
    for plane in planes {
        bytes = _mm512_mask_add_epi8(bytes, plane[word], bytes, bit);
        bit = _mm512_add_epi8(bit, bit);
    }
    bytes
}

/// `256 * sums + bytes`.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen_and_add(sums: __m512i, bytes: __m128i) -> __m512i {
    _mm512_add_epi32(_mm512_slli_epi32::<8>(sums), _mm512_cvtepu8_epi32(bytes))
}

/// Sixteen groups at a time: bytes of groups are turned around to bytes of rows, and a row is widened, scaled and written
/// at once. Counts have `BYTES` bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn write_scores<const BYTES: usize>(head: &Head<'_>, planes: &[[u64; MANY]], word: usize, y: &mut [f32]) {
    /// Groups whose bytes fill a quarter of a vector.
    const GROUPS: usize = 16;
    let n_groups = head.offsets.len();
    let beta = _mm512_set1_ps(head.beta);
    let tau = _mm512_set1_ps(head.factor.unwrap_or(head.tau));
    for (first, offsets) in (0..).step_by(GROUPS).zip(head.offsets.chunks(GROUPS)) {
        let inside = u16::MAX >> (GROUPS - offsets.len());
        // SAFETY: the mask lets through only the offsets of the chunk.
        let offset = unsafe { _mm512_maskz_loadu_epi32(inside, offsets.as_ptr().cast()) };
        // Row `16 q + i` has its bytes in quarter `q` of line `i`.
        let mut lines = [[[[0u8; GROUPS]; 4]; GROUPS]; BYTES];
        for (byte, lines) in lines.iter_mut().enumerate() {
            let in_byte = (8 * byte).min(head.count_bits)..(8 * byte + 8).min(head.count_bits);
            let mut groups = [_mm512_setzero_si512(); GROUPS];
            for (i, group) in groups.iter_mut().enumerate().take(offsets.len()) {
                *group = planes_to_bytes(&planes[(first + i) * head.per_group..][in_byte.clone()], word);
            }
            for (bytes, line) in transpose_16x16(groups).into_iter().zip(lines) {
                // SAFETY: a line is 64 writable bytes.
                unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), bytes) }
            }
        }
        for (row, y) in y.chunks_exact_mut(n_groups).enumerate().take(64) {
            let mut sums = _mm512_setzero_si512();
            for byte in (0..BYTES).rev() {
                let bytes = &lines[byte][row % GROUPS][row / GROUPS % 4];
                // SAFETY: these are sixteen readable bytes.
                let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
                sums = widen_and_add(sums, bytes);
            }
            let scores = _mm512_add_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, offset)), beta);
            let scores = if head.factor.is_some() { _mm512_mul_ps(scores, tau) } else { _mm512_div_ps(scores, tau) };
            let to = &mut y[first..first + offsets.len()];
            // SAFETY: the mask lets through as many lanes as the slice has values.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), inside, scores) }
        }
    }
}

/// The four quarters of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(v: __m512i) -> [__m128i; 4] {
    [
        _mm512_castsi512_si128(v),
        _mm512_extracti32x4_epi32::<1>(v),
        _mm512_extracti32x4_epi32::<2>(v),
        _mm512_extracti32x4_epi32::<3>(v),
    ]
}

/// In each quarter byte `j` of vector `i` becomes byte `i` of vector `j`: four times the two halves of the vectors are
/// shuffled into each other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose_16x16(mut v: [__m512i; 16]) -> [__m512i; 16] {
    for _ in 0..4 {
        v = array::from_fn(|i| {
            let (a, b) = (v[i / 2], v[i / 2 + 8]);
            if i % 2 == 0 { _mm512_unpacklo_epi8(a, b) } else { _mm512_unpackhi_epi8(a, b) }
        });
    }
    v
}
