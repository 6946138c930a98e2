//! Tensors: logical values as little-endian bytes behind a shared owner.
//!
//! A tensor may be a slice of a file that something else keeps alive, so its bytes need not be aligned; readers decode
//! elements. Packing is not known here: a ternary weight is one `i8` per element.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use crate::types::{DType, Shape, TensorType};

/// Bytes with a shared owner: a range of something that lives as long as anyone looks at it.
#[derive(Clone)]
pub struct Blob {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Blob {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), range }
    }

    /// A part of these bytes with the same owner; `None` if it is out of range.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let (start, end) = (self.range.start.checked_add(range.start)?, self.range.start.checked_add(range.end)?);
        (start <= end && end <= self.range.end).then(|| Self { owner: self.owner.clone(), range: start..end })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.range.len())
    }
}

/// A Rust type that holds the elements of some element types.
pub trait Element: Copy + 'static {
    /// The element type that vectors of this type make.
    const DTYPE: DType;
    /// Whether tensors of `dtype` store their elements as this type.
    fn stores(dtype: DType) -> bool {
        dtype == Self::DTYPE
    }
    /// Decodes one element; `bytes` is as long as the type.
    fn from_le(bytes: &[u8]) -> Self;
    /// Appends the encoded element.
    fn put_le(self, out: &mut Vec<u8>);
}

macro_rules! elements {
    ($($ty:ident $dtype:ident $(also $($also:ident)+)?;)*) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$dtype;
            fn stores(dtype: DType) -> bool {
                matches!(dtype, DType::$dtype $($(| DType::$also)+)?)
            }
            fn from_le(bytes: &[u8]) -> Self {
                let mut le = [0; size_of::<$ty>()];
                le.copy_from_slice(bytes);
                $ty::from_le_bytes(le)
            }
            fn put_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

elements! {
    i8 I8 also T2 I2 I4;
    u8 U8 also U2 U4 Bool;
    i16 I16;
    u16 U16;
    i32 I32;
    u32 U32;
    i64 I64;
    u64 U64;
    f32 F32;
    f64 F64;
    f16 F16;
    bf16 BF16;
}

/// Why bytes and a type do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes is not elements times element size.
    #[error("{dtype}{shape} takes {expected} bytes, found {found}")]
    Length {
        /// The element type asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Shape,
        /// Bytes that these take.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The size of the tensor overflows.
    #[error("{dtype}{shape} is too large")]
    TooLarge {
        /// The element type asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Shape,
    },
    /// An element lies outside the range of its type.
    #[error("element {index} is {value}, which is no value of type {dtype}")]
    Value {
        /// The position in row-major order.
        index: usize,
        /// The stored byte as a number.
        value: i64,
        /// The element type.
        dtype: DType,
    },
}

/// A constant or computed array. Equality compares types and bytes.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    dims: Arc<[usize]>,
    data: Blob,
}

impl Tensor {
    /// A tensor over bytes that are there already: row-major, little-endian, one byte per sub-byte element.
    ///
    /// # Errors
    /// If the byte count is not what the type takes, or a sub-byte or `bool` element is out of range.
    pub fn from_blob(dtype: DType, dims: &[usize], data: Blob) -> Result<Self, TensorError> {
        let shape = || Shape::fixed(dims);
        let expected = dims
            .iter()
            .try_fold(dtype.size_bytes() as u64, |n, &d| n.checked_mul(d as u64))
            .ok_or_else(|| TensorError::TooLarge { dtype, shape: shape() })?;
        let found = data.bytes().len() as u64;
        if expected != found {
            return Err(TensorError::Length { dtype, shape: shape(), expected, found });
        }
        if dtype.bits() < 8
            && let Some((low, high)) = dtype.integer_range()
        {
            let signed = matches!(dtype, DType::T2 | DType::I2 | DType::I4);
            let value = |b: u8| if signed { i64::from(b.cast_signed()) } else { i64::from(b) };
            let fits = |b: u8| (low..=high).contains(&i128::from(value(b)));
            if let Some(index) = data.bytes().iter().position(|&b| !fits(b)) {
                return Err(TensorError::Value { index, value: value(data.bytes()[index]), dtype });
            }
        }
        Ok(Self { dtype, dims: dims.into(), data })
    }

    /// A tensor of the element type that `T` stands for.
    ///
    /// # Panics
    /// If the number of values is not the product of `dims`.
    pub fn new<T: Element>(dims: &[usize], values: &[T]) -> Self {
        Self::with_dtype(T::DTYPE, dims, values)
    }

    /// A tensor of a sub-byte or boolean type from one value per element.
    ///
    /// # Panics
    /// If `T` does not store `dtype`, a value is out of its range, or the number of values is not the product of `dims`.
    pub fn with_dtype<T: Element>(dtype: DType, dims: &[usize], values: &[T]) -> Self {
        assert!(T::stores(dtype), "{} values do not store {dtype}", T::DTYPE);
        let mut bytes = Vec::with_capacity(values.len() * dtype.size_bytes());
        for &v in values {
            v.put_le(&mut bytes);
        }
        Self::from_blob(dtype, dims, Blob::new(bytes)).expect("values fit the type and the dimensions")
    }

    /// One value in every place.
    pub fn splat<T: Element>(dims: &[usize], value: T) -> Self {
        Self::new(dims, &vec![value; dims.iter().product()])
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self::new(&[], &[value])
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The type, with fixed dimensions.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.dims)
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.data.bytes().len() / self.dtype.size_bytes()
    }

    /// The elements as little-endian bytes in row-major order.
    pub fn bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// The bytes and their owner.
    pub fn blob(&self) -> &Blob {
        &self.data
    }

    /// The elements, or `None` if `T` is not how this type is stored.
    pub fn iter<T: Element>(&self) -> Option<impl ExactSizeIterator<Item = T> + DoubleEndedIterator + Clone + '_> {
        T::stores(self.dtype).then(|| self.bytes().chunks_exact(size_of::<T>()).map(T::from_le))
    }

    /// The elements as a vector, or `None` if `T` is not how this type is stored.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        Some(self.iter()?.collect())
    }

    /// Every element as `f64`: exact for all types but 64-bit integers beyond 2^53.
    pub fn to_f64(&self) -> Vec<f64> {
        fn all<T: Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
            t.bytes().chunks_exact(size_of::<T>()).map(|b| f(T::from_le(b))).collect()
        }
        match self.dtype {
            DType::Bool | DType::U2 | DType::U4 | DType::U8 => all::<u8>(self, f64::from),
            DType::T2 | DType::I2 | DType::I4 | DType::I8 => all::<i8>(self, f64::from),
            DType::I16 => all::<i16>(self, f64::from),
            DType::U16 => all::<u16>(self, f64::from),
            DType::I32 => all::<i32>(self, f64::from),
            DType::U32 => all::<u32>(self, f64::from),
            DType::I64 => all::<i64>(self, |v| v as f64),
            DType::U64 => all::<u64>(self, |v| v as f64),
            DType::F16 => all::<f16>(self, f64::from),
            DType::BF16 => all::<bf16>(self, f64::from),
            DType::F32 => all::<f32>(self, f64::from),
            DType::F64 => all::<f64>(self, |v| v),
        }
    }

    /// The same elements in the same order under other dimensions; `None` if the counts differ.
    pub fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        let numel = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (numel == self.numel()).then(|| Self { dtype: self.dtype, dims: dims.into(), data: self.data.clone() })
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.dims == other.dims && self.bytes() == other.bytes()
    }
}

impl Eq for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}", self.ty())?;
        let head: Vec<_> = self.to_f64().into_iter().take(8).collect();
        write!(f, " {head:?}{})", if self.numel() > 8 { " .." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_reads_back_what_it_was_made_of() {
        let t = Tensor::new(&[2, 2], &[1.5f32, -2.0, 0.0, f32::INFINITY]);
        assert_eq!(t.to_vec::<f32>().unwrap(), [1.5, -2.0, 0.0, f32::INFINITY]);
        assert_eq!(t.to_vec::<f64>(), None);
        assert_eq!(t.ty().to_string(), "f32[2, 2]");
        assert_eq!(t.reshaped(&[4]).unwrap().dims(), [4]);
        assert!(t.reshaped(&[3]).is_none());
    }

    #[test]
    fn an_unaligned_slice_of_a_file_is_a_tensor() {
        let file = Blob::new(vec![9, 1, 0, 0, 0, 2, 0, 0, 0, 9]);
        let t = Tensor::from_blob(DType::I32, &[2], file.slice(1..9).unwrap()).unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [1, 2]);
        assert!(file.slice(5..11).is_none());
    }

    #[test]
    fn wrong_lengths_and_values_are_errors() {
        let err = |dtype, dims: &[usize], bytes: &[u8]| {
            Tensor::from_blob(dtype, dims, Blob::new(bytes.to_vec())).unwrap_err().to_string()
        };
        assert_eq!(err(DType::F32, &[3], &[0; 8]), "f32[3] takes 12 bytes, found 8");
        assert_eq!(err(DType::T2, &[2], &[1, 2]), "element 1 is 2, which is no value of type t2");
        assert_eq!(err(DType::Bool, &[1], &[7]), "element 0 is 7, which is no value of type bool");
        assert!(err(DType::F64, &[1 << 40, 1 << 40], &[]).contains("too large"));
    }
}
