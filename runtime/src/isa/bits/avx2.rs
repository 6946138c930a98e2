//! AVX2: a slot of 512 samples is two registers, a table of three inputs up to four instructions.

use core::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi64x, _mm256_storeu_si256,
    _mm256_xor_si256,
};
use core::array;
use core::ops::{BitAnd, BitOr, BitXor, Not};

use super::{Bits, MANY, Samples, plain};
use crate::isa::avx2::Avx2;

/// 256 samples. Only [`Bits::load`] makes one, from an [`Avx2`], and what is computed from others.
#[derive(Clone, Copy)]
pub(crate) struct Half(__m256i);

impl Samples for Avx2 {
    const HOLDS_MANY: bool = true;
}

impl Bits<MANY> for Avx2 {
    type Slot = [Half; 2];

    #[inline(always)]
    fn load(self, from: &[u64; MANY]) -> [Half; 2] {
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { load(from) }
    }

    #[inline(always)]
    fn store(self, slot: [Half; 2], to: &mut [u64; MANY]) {
        // SAFETY: a value of this type exists only where the feature was detected.
        unsafe { store(slot, to) }
    }

    #[inline(always)]
    fn table<const TABLE: i32>(self, a: [Half; 2], b: [Half; 2], c: [Half; 2]) -> [Half; 2] {
        // Without a closure, which would be compiled without the instructions.
        [plain::table::<TABLE, Half>(a[0], b[0], c[0]), plain::table::<TABLE, Half>(a[1], b[1], c[1])]
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[u64; MANY]) -> [Half; 2] {
    let (halves, _) = from.as_chunks::<4>();
    // SAFETY: four words are 32 readable bytes.
    array::from_fn(|i| Half(unsafe { _mm256_loadu_si256(halves[i].as_ptr().cast()) }))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(slot: [Half; 2], to: &mut [u64; MANY]) {
    for (Half(bits), words) in slot.into_iter().zip(to.as_chunks_mut::<4>().0) {
        // SAFETY: four words are 32 writable bytes.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), bits) }
    }
}

macro_rules! operator {
    ($trait:ident $method:ident $instruction:ident) => {
        impl $trait for Half {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: a value of this type exists only where the feature was detected.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    };
}
operator!(BitAnd bitand _mm256_and_si256);
operator!(BitOr bitor _mm256_or_si256);
operator!(BitXor bitxor _mm256_xor_si256);

impl Not for Half {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: a value of this type exists only where the feature was detected.
        self ^ Self(unsafe { _mm256_set1_epi64x(-1) })
    }
}
