//! Seeded random tensors: the same seed gives the same bytes on every machine.

use half::{bf16, f16};

use crate::tensor::Tensor;
use crate::types::DType;

/// A small generator (SplitMix64): good enough for tests and sample inputs, nothing more.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that repeats itself for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n.max(1))) >> 64) as u64
    }

    /// A number in [0, 1) with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// A number in [-1, 1).
    pub fn signed_unit(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }
}

/// A random tensor: floats uniform in [-1, 1), sub-byte types over their whole range, wider integers within -100 and 100.
pub fn tensor(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let mut rng = Random::new(seed);
    let n = dims.iter().product();
    let (low, high) = match dtype.integer_range() {
        Some((low, high)) => (low.max(-100) as i64, high.min(100) as i64),
        None => (0, 0),
    };
    let mut integer = |_| low + rng.below((high - low + 1) as u64) as i64;
    macro_rules! integers {
        ($ty:ty) => {
            Tensor::with_dtype(dtype, dims, &(0..n).map(|i| integer(i) as $ty).collect::<Vec<_>>())
        };
    }
    match dtype {
        DType::Bool | DType::U2 | DType::U4 | DType::U8 => integers!(u8),
        DType::T2 | DType::I2 | DType::I4 | DType::I8 => integers!(i8),
        DType::I16 => integers!(i16),
        DType::U16 => integers!(u16),
        DType::I32 => integers!(i32),
        DType::U32 => integers!(u32),
        DType::I64 => integers!(i64),
        DType::U64 => integers!(u64),
        DType::F16 => Tensor::new(dims, &(0..n).map(|_| f16::from_f32(rng.signed_unit())).collect::<Vec<_>>()),
        DType::BF16 => Tensor::new(dims, &(0..n).map(|_| bf16::from_f32(rng.signed_unit())).collect::<Vec<_>>()),
        DType::F32 => Tensor::new(dims, &(0..n).map(|_| rng.signed_unit()).collect::<Vec<_>>()),
        DType::F64 => Tensor::new(dims, &(0..n).map(|_| f64::from(rng.signed_unit())).collect::<Vec<_>>()),
    }
}
