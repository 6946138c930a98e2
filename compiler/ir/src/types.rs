//! The types of values: element types, dimensions that may be symbolic, shapes.
//!
//! Nothing here knows about graphs or data. A dimension is an integer polynomial in named symbols and floor divisions
//! (`types/dim.rs`); two dimensions are equal exactly when their normal forms are.

mod dim;

pub use dim::{Dim, DimView, FactorView, Symbol};

use std::fmt;

/// The element type of a tensor.
///
/// A tensor stores *logical* values: the sub-byte types take one byte per element until an artifact packs them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DType {
    /// 0 or 1; also the wires of logic networks.
    Bool,
    /// -1, 0 or +1, one `i8` per element.
    T2,
    /// Two-bit signed integer, one `i8` per element.
    I2,
    /// Two-bit unsigned integer, one `u8` per element.
    U2,
    /// Four-bit signed integer, one `i8` per element.
    I4,
    /// Four-bit unsigned integer, one `u8` per element.
    U4,
    /// Eight-bit signed integer.
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
    /// Every element type, in the order of the enum.
    pub const ALL: [DType; 18] = [
        DType::Bool,
        DType::T2,
        DType::I2,
        DType::U2,
        DType::I4,
        DType::U4,
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

    /// The name in the text IR.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::T2 => "t2",
            DType::I2 => "i2",
            DType::U2 => "u2",
            DType::I4 => "i4",
            DType::U4 => "u4",
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

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Bytes that one element takes in a [`crate::Tensor`].
    pub const fn size_bytes(self) -> usize {
        match self {
            DType::Bool | DType::T2 | DType::I2 | DType::U2 | DType::I4 | DType::U4 | DType::I8 | DType::U8 => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::U64 | DType::F64 => 8,
        }
    }

    /// Bits that one element carries: 2 for `t2`, whatever it takes in memory.
    pub const fn bits(self) -> usize {
        match self {
            DType::Bool => 1,
            DType::T2 | DType::I2 | DType::U2 => 2,
            DType::I4 | DType::U4 => 4,
            _ => self.size_bytes() * 8,
        }
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Whether this is an integer type; `bool` is not one.
    pub const fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool)
    }

    /// The smallest and largest value of an integer type, `None` for floats. `bool` is 0 and 1.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        Some(match self {
            DType::Bool => (0, 1),
            DType::T2 => (-1, 1),
            DType::I2 => (-2, 1),
            DType::U2 => (0, 3),
            DType::I4 => (-8, 7),
            DType::U4 => (0, 15),
            DType::I8 => (i8::MIN as i128, i8::MAX as i128),
            DType::U8 => (0, u8::MAX as i128),
            DType::I16 => (i16::MIN as i128, i16::MAX as i128),
            DType::U16 => (0, u16::MAX as i128),
            DType::I32 => (i32::MIN as i128, i32::MAX as i128),
            DType::U32 => (0, u32::MAX as i128),
            DType::I64 => (i64::MIN as i128, i64::MAX as i128),
            DType::U64 => (0, u64::MAX as i128),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => return None,
        })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The dimensions of a tensor, outermost first. Rank 0 is a scalar.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// A shape without symbols.
    pub fn fixed(dims: &[usize]) -> Self {
        Self(dims.iter().map(|&d| Dim::from(d)).collect())
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dimensions as numbers, if none is symbolic.
    pub fn to_fixed(&self) -> Option<Vec<usize>> {
        self.0.iter().map(Dim::as_const).collect()
    }

    /// The number of elements, as a dimension; `None` if it overflows.
    pub fn numel(&self) -> Option<Dim> {
        self.0.iter().try_fold(Dim::from(1), |n, d| n.mul(d))
    }

    /// The last dimension, if there is one.
    pub fn last(&self) -> Option<&Dim> {
        self.0.last()
    }

    /// The shape of `a op b` under numpy's broadcasting rule, or `None` where the two do not fit.
    ///
    /// A symbolic dimension fits itself and 1; it is never assumed equal to a different one.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let at = |s: &Shape, i: usize| match (i + s.rank()).checked_sub(rank) {
            Some(j) => s.0[j].clone(),
            None => Dim::from(1),
        };
        let pick = |i| {
            let (a, b) = (at(self, i), at(other, i));
            if a == b || b.is_one() {
                Some(a)
            } else if a.is_one() {
                Some(b)
            } else {
                None
            }
        };
        (0..rank).map(pick).collect::<Option<Vec<_>>>().map(Shape)
    }
}

impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Self {
        Self(dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// What a value is: an element type and a shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Shape,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// A type without symbolic dimensions.
    pub fn fixed(dtype: DType, dims: &[usize]) -> Self {
        Self { dtype, shape: Shape::fixed(dims) }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shape.rank() == 0 { write!(f, "{}", self.dtype) } else { write!(f, "{}{}", self.dtype, self.shape) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        Shape(
            text.split(' ')
                .filter(|s| !s.is_empty())
                .map(|d| d.parse::<usize>().map_or_else(|_| Dim::symbol(d), Dim::from))
                .collect(),
        )
    }

    #[test]
    fn broadcasting_follows_numpy_and_never_guesses_about_symbols() {
        assert_eq!(shape("N 4").broadcast(&shape("4")), Some(shape("N 4")));
        assert_eq!(shape("N 1").broadcast(&shape("1 7")), Some(shape("N 7")));
        assert_eq!(shape("N 4").broadcast(&shape("M 4")), None);
        assert_eq!(shape("N 4").broadcast(&shape("3 4")), None);
        assert_eq!(shape("").broadcast(&shape("2 3")), Some(shape("2 3")));
    }

    #[test]
    fn every_dtype_is_found_by_its_name() {
        assert!(DType::ALL.into_iter().all(|t| DType::from_name(t.name()) == Some(t)));
        assert_eq!(DType::from_name("float32"), None);
    }
}
