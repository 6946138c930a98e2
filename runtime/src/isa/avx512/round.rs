//! Rows of floats that become bytes: scaled, rounded half to even, and summed.
//!
//! A division takes longer than all the rest. Its quotient comes from the reciprocal instead, in four multiplications,
//! each with an addition that rounds once, and has the same bits. With `y` the reciprocal of `b` rounded to nearest, and
//! `z` what that rounding left, `q = a * y + a * z` is less than a unit in its last place from `a / b`. So
//! `r = a - b * q` is exact, and `q + r * y` rounds as the quotient does (Markstein, Computation of elementary functions
//! on the IBM RISC System/6000 processor, 1990). This holds while nothing leaves the range of floats. With a divisor far
//! from its ends, only parts of quotients next to 0 do, and those become 0 either way.

use core::arch::x86_64::{
    __m512, __m512i, __mmask16, __mmask64, _mm512_add_epi32, _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_packs_epi16,
    _mm512_packs_epi32, _mm512_permutexvar_epi32, _mm512_reduce_add_epi32, _mm512_set1_ps, _mm512_setr_epi32,
    _mm512_setzero_si512, _mm512_storeu_si512,
};

use super::super::By;

const LANES: usize = 16;
/// Values that fill a vector of bytes.
const BYTES: usize = 64;

/// See [`super::super::Isa::round_row`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub(super) fn row(x: &[f32], by: By, q: &mut [i8]) -> i32 {
    match by {
        By::Factor(factor) => scaled::<false>(x, factor, 0.0, q),
        By::Divisor(divisor) => scaled::<true>(x, 1.0 / divisor, divisor, q),
    }
}

/// Multiplied by `factor`, or, with `DIVIDE`, divided by `divisor`, of which `factor` is the reciprocal.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
fn scaled<const DIVIDE: bool>(x: &[f32], factor: f32, divisor: f32, q: &mut [i8]) -> i32 {
    let (y, b) = (_mm512_set1_ps(factor), _mm512_set1_ps(divisor));
    let z = _mm512_mul_ps(_mm512_fnmadd_ps(b, y, _mm512_set1_ps(1.0)), y);
    let mut sum = _mm512_setzero_si512();
    let (whole, rest) = x.as_chunks::<BYTES>();
    let (q, end) = q.split_at_mut(whole.len() * BYTES);
    for (x, q) in whole.iter().zip(q.as_chunks_mut::<BYTES>().0) {
        let mut integers = [sum; 4];
        for (integers, x) in integers.iter_mut().zip(x.as_chunks::<LANES>().0) {
            // SAFETY: 64 readable bytes by the reference.
            let a = unsafe { _mm512_loadu_ps(x.as_ptr()) };
            *integers = round::<DIVIDE>(a, y, b, z);
            sum = _mm512_add_epi32(sum, *integers);
        }
        let bytes = bytes(integers);
        // SAFETY: 64 writable bytes by the reference.
        unsafe { _mm512_storeu_si512(q.as_mut_ptr().cast(), bytes) };
    }
    let mut rest = rest.chunks(LANES);
    for q in end.chunks_mut(BYTES) {
        let mut integers = [_mm512_setzero_si512(); 4];
        for (integers, x) in integers.iter_mut().zip(&mut rest) {
            // SAFETY: the mask has as many elements as there are.
            let a = unsafe { _mm512_maskz_loadu_ps(((1u32 << x.len()) - 1) as __mmask16, x.as_ptr()) };
            *integers = round::<DIVIDE>(a, y, b, z);
            sum = _mm512_add_epi32(sum, *integers);
        }
        let bytes = bytes(integers);
        // SAFETY: the mask has as many elements as there are.
        unsafe { _mm512_mask_storeu_epi8(q.as_mut_ptr(), __mmask64::MAX >> (BYTES - q.len()), bytes) };
    }
    _mm512_reduce_add_epi32(sum)
}

#[inline]
#[target_feature(enable = "avx512f,fma")]
fn round<const DIVIDE: bool>(a: __m512, y: __m512, b: __m512, z: __m512) -> __m512i {
    _mm512_cvtps_epi32(if DIVIDE {
        let near = _mm512_fmadd_ps(a, y, _mm512_mul_ps(a, z));
        _mm512_fmadd_ps(_mm512_fnmadd_ps(b, near, a), y, near)
    } else {
        _mm512_mul_ps(a, y)
    })
}

/// The low bytes of four vectors, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bytes(v: [__m512i; 4]) -> __m512i {
    // Packing works within quarters of a vector, each of which then has a dword of each operand.
    let packed = _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, packed)
}
