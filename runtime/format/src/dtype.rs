//! Element types of buffers and constants, and sets of them.

/// The element type of a buffer, a constant or a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DType {
    /// One bit per element, least significant bit first; every row (last dimension) starts at a byte.
    Bits,
    /// 0 or 1, one byte per element.
    Bool,
    /// Eight-bit signed integer; also the values of packed weights.
    I8,
    /// Eight-bit unsigned integer.
    U8,
    /// Sixteen-bit signed integer.
    I16,
    /// Sixteen-bit unsigned integer.
    U16,
    /// Thirty-two-bit signed integer.
    I32,
    /// Thirty-two-bit unsigned integer.
    U32,
    /// Sixty-four-bit signed integer.
    I64,
    /// Sixty-four-bit unsigned integer.
    U64,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DType {
    /// Every type, in the order of their codes.
    pub const ALL: [DType; 14] = [
        DType::Bits,
        DType::Bool,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// The types that instructions compute in as they are: all but bits and the 16-bit floats.
    pub const NUMBERS: &'static [DType] = &[
        DType::Bool,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::F32,
        DType::F64,
    ];

    /// The number that stands for this type in an artifact.
    pub const fn code(self) -> u32 {
        match self {
            DType::Bits => 0,
            DType::Bool => 1,
            DType::I8 => 2,
            DType::U8 => 3,
            DType::I16 => 4,
            DType::U16 => 5,
            DType::I32 => 6,
            DType::U32 => 7,
            DType::I64 => 8,
            DType::U64 => 9,
            DType::F16 => 10,
            DType::BF16 => 11,
            DType::F32 => 12,
            DType::F64 => 13,
        }
    }

    /// The type of that number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.code() == code)
    }

    /// The name, as the text IR has it; `bits` for packed bits.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bits => "bits",
            DType::Bool => "bool",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::U64 => "u64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// Bytes of one element; `None` for packed bits.
    pub const fn size_bytes(self) -> Option<usize> {
        match self {
            DType::Bits => None,
            DType::Bool | DType::I8 | DType::U8 => Some(1),
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => Some(2),
            DType::I32 | DType::U32 | DType::F32 => Some(4),
            DType::I64 | DType::U64 | DType::F64 => Some(8),
        }
    }

    /// Bytes of a row of `n` elements, without padding at its end; `None` on overflow.
    pub fn row_bytes(self, n: u64) -> Option<u64> {
        match self.size_bytes() {
            Some(size) => n.checked_mul(u64::try_from(size).ok()?),
            None => Some(n.div_ceil(8)),
        }
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of element types, one bit per code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DTypeSet(u32);

impl DTypeSet {
    /// The set of exactly these types.
    pub fn of(dtypes: &[DType]) -> Self {
        Self(dtypes.iter().fold(0, |set, t| set | 1u32.wrapping_shl(t.code())))
    }

    /// The set that a port may state when its buffer has type `dtype`: the type itself, and for 0/1 values all three
    /// ways to hold them.
    pub fn convertible_to(dtype: DType) -> Self {
        match dtype {
            DType::Bits | DType::Bool => Self::of(&[DType::Bits, DType::Bool, DType::U8]),
            other => Self::of(&[other]),
        }
    }

    /// The set with those bits; `None` where a bit stands for no type.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let all = Self::of(&DType::ALL);
        (bits & !all.0 == 0).then_some(Self(bits))
    }

    /// The bits, one per code.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether the type is in the set.
    pub fn contains(self, dtype: DType) -> bool {
        self.0 & 1u32.wrapping_shl(dtype.code()) != 0
    }

    /// Whether every type of this set is in the other.
    pub const fn is_subset_of(self, other: DTypeSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// The types of the set, in the order of their codes.
    pub fn iter(self) -> impl Iterator<Item = DType> {
        DType::ALL.into_iter().filter(move |t| self.contains(*t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_found_again() {
        for (i, t) in DType::ALL.into_iter().enumerate() {
            assert_eq!(t.code() as usize, i);
            assert_eq!(DType::from_code(t.code()), Some(t));
        }
        assert_eq!(DType::from_code(14), None);
    }

    #[test]
    fn sets_refuse_bits_without_a_type() {
        assert_eq!(DTypeSet::from_bits(1 << 14), None);
        let set = DTypeSet::of(&[DType::F32, DType::Bool]);
        assert_eq!(DTypeSet::from_bits(set.bits()), Some(set));
        assert!(set.iter().eq([DType::Bool, DType::F32]));
        assert!(!set.is_subset_of(DTypeSet::convertible_to(DType::Bool)));
    }

    #[test]
    fn a_row_of_bits_ends_at_a_byte() {
        assert_eq!(DType::Bits.row_bytes(9), Some(2));
        assert_eq!(DType::F32.row_bytes(9), Some(36));
        assert_eq!(DType::F32.row_bytes(u64::MAX), None);
    }
}
