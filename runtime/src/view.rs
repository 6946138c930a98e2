//! Arrays of the caller, as the runtime sees them.

use bitc_format::DType;

use crate::arena::{self, Pod};

/// A Rust type that the elements of an array can have.
pub trait Element: Pod {
    /// What the runtime calls it.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($ty:ty => $dtype:ident,)*) => { $(impl Element for $ty { const DTYPE: DType = DType::$dtype; })* };
}

elements! {
    i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64, f32 => F32, f64 => F64,
}

/// An array to read: elements in row-major order, little-endian.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The element type.
    pub dtype: DType,
    /// The dimensions, outermost first.
    pub shape: &'a [usize],
    /// The elements.
    pub bytes: &'a [u8],
    /// Whether bits are packed across rows instead of along them.
    pub(crate) words: bool,
}

/// Words per element of a row that are packed across rows: bits of 512 rows.
pub(crate) const ROW_WORDS: usize = 8;

/// An array to write.
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// The element type.
    pub dtype: DType,
    /// The dimensions, outermost first.
    pub shape: &'a [usize],
    /// Where the elements go.
    pub bytes: &'a mut [u8],
}

impl<'a> View<'a> {
    /// An array of these elements.
    pub fn of<T: Element>(shape: &'a [usize], elements: &'a [T]) -> Self {
        Self::new(T::DTYPE, shape, arena::bytes_of(elements))
    }

    /// An array of bytes that mean elements of that type.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Self {
        Self { dtype, shape, bytes, words: false }
    }

    /// Bits packed across rows, for logic networks: for each 512 rows and each element of a row eight words, row `r` in
    /// bit `r % 64` of word `r / 64`. The last words may be filled with anything. Only an input that nothing but a logic
    /// network reads takes them.
    pub fn words(shape: &'a [usize], words: &'a [[u64; ROW_WORDS]]) -> Self {
        Self { dtype: DType::Bits, shape, bytes: arena::bytes_of(words.as_flattened()), words: true }
    }

    /// The bytes that such an array has; `None` on overflow.
    pub(crate) fn len_bytes(&self) -> Option<usize> {
        if !self.words {
            return len_bytes(self.dtype, self.shape);
        }
        let (last, outer) = self.shape.split_last()?;
        let rows = outer.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        rows.div_ceil(64 * ROW_WORDS).checked_mul(*last)?.checked_mul(8 * ROW_WORDS)
    }

    /// The elements, where `T` is their type and their address is aligned for it.
    pub fn elements<T: Element>(&self) -> Option<&'a [T]> {
        if T::DTYPE == self.dtype { arena::elements(self.bytes) } else { None }
    }
}

impl<'a> ViewMut<'a> {
    /// An array of these elements.
    pub fn of<T: Element>(shape: &'a [usize], elements: &'a mut [T]) -> Self {
        Self { dtype: T::DTYPE, shape, bytes: arena::bytes_of_mut(elements) }
    }

    /// An array of bytes that mean elements of that type.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a mut [u8]) -> Self {
        Self { dtype, shape, bytes }
    }
}

/// Bytes of an array of that type and shape, rows not padded; `None` on overflow.
pub fn len_bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
    let (last, outer) = match shape.split_last() {
        Some((&last, outer)) => (last, outer),
        None => (1, shape),
    };
    let row = usize::try_from(dtype.row_bytes(u64::try_from(last).ok()?)?).ok()?;
    outer.iter().try_fold(row, |n, &d| n.checked_mul(d))
}
