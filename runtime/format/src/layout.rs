//! How the values of a constant are stored.
//!
//! Each packed layout is defined by the scalar `pack` and `unpack` in its file; kernels are checked against them.

mod planes;
#[cfg(test)]
mod tests;
mod trit5;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use planes::Planes;

/// How the values of a constant are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Layout {
    /// Little-endian elements in row-major order.
    Dense,
    /// Ternary weights, two bits each.
    Trit2,
    /// Ternary weights, five in a byte.
    Trit5,
    /// Weights of -1 and +1, one bit each.
    Bit1,
    /// Weights of eight bits, a byte each.
    Int8,
}

impl Layout {
    /// Every layout, in the order of their codes.
    pub const ALL: [Layout; 5] = [Layout::Dense, Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8];

    /// The number that stands for this layout in an artifact.
    pub const fn code(self) -> u32 {
        match self {
            Layout::Dense => 0,
            Layout::Trit2 => 1,
            Layout::Trit5 => 2,
            Layout::Bit1 => 3,
            Layout::Int8 => 4,
        }
    }

    /// The layout of that number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.code() == code)
    }

    /// The name of the layout.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Dense => "dense",
            Layout::Trit2 => "trit2",
            Layout::Trit5 => "trit5",
            Layout::Bit1 => "bit1",
            Layout::Int8 => "int8",
        }
    }

    /// Columns of a row that are stored next to each other; 1 for `Dense`.
    pub const fn columns(self) -> usize {
        match self {
            Layout::Dense => 1,
            Layout::Trit2 => 16,
            Layout::Trit5 => 5,
            Layout::Bit1 => 32,
            Layout::Int8 => 4,
        }
    }

    /// The most columns of a product with weights of this layout whose sums surely fit 32 bits.
    pub const fn max_columns(self) -> u64 {
        match self {
            Layout::Int8 => 131_071,
            _ => 16_777_215,
        }
    }

    /// Bytes of `rows` x `columns` packed weights; `None` on overflow and for `Dense`, whose length depends on the type.
    pub fn packed_len(self, rows: u64, columns: u64) -> Option<u64> {
        match self {
            Layout::Dense => None,
            Layout::Trit2 => Planes::TRIT2.packed_len(rows, columns),
            Layout::Bit1 => Planes::BIT1.packed_len(rows, columns),
            Layout::Int8 => Planes::INT8.packed_len(rows, columns),
            Layout::Trit5 => trit5::packed_len(rows, columns),
        }
    }

    /// Packs `rows` x `columns` values in row-major order: -1, 0 and 1, or -1 and 1 for [`Layout::Bit1`], or any
    /// for [`Layout::Int8`].
    ///
    /// # Errors
    /// The layout has no packed form, the sizes overflow, `values` has another length, or a value cannot be stored.
    pub fn pack(self, rows: usize, columns: usize, values: &[i8]) -> Result<Vec<u8>, LayoutError> {
        let sizes = self.sizes(rows, columns)?;
        check_len(sizes.unpacked, values.len())?;
        let mut packed = vec![0; sizes.packed];
        let fault = match self {
            Layout::Trit2 => Planes::TRIT2.pack(rows, columns, values, &mut packed),
            Layout::Bit1 => Planes::BIT1.pack(rows, columns, values, &mut packed),
            Layout::Int8 => Planes::INT8.pack(rows, columns, values, &mut packed),
            Layout::Trit5 => trit5::pack(rows, columns, values, &mut packed),
            Layout::Dense => return Err(LayoutError::NotPacked { layout: self }),
        };
        fault.map(|()| packed)
    }

    /// The inverse of [`Layout::pack`].
    ///
    /// # Errors
    /// The layout has no packed form, the sizes overflow, `packed` has another length, or it holds a code that stands
    /// for no value.
    pub fn unpack(self, rows: usize, columns: usize, packed: &[u8]) -> Result<Vec<i8>, LayoutError> {
        let sizes = self.sizes(rows, columns)?;
        check_len(sizes.packed, packed.len())?;
        let mut values = vec![0; sizes.unpacked];
        self.unpack_into(rows, columns, packed, &mut values).map(|()| values)
    }

    /// [`Layout::unpack`] into memory that is there.
    ///
    /// # Errors
    /// As those, and `values` has another length.
    pub fn unpack_into(self, rows: usize, columns: usize, packed: &[u8], values: &mut [i8]) -> Result<(), LayoutError> {
        let sizes = self.sizes(rows, columns)?;
        check_len(sizes.packed, packed.len())?;
        check_len(sizes.unpacked, values.len())?;
        match self {
            Layout::Trit2 => Planes::TRIT2.unpack(rows, columns, packed, values),
            Layout::Bit1 => Planes::BIT1.unpack(rows, columns, packed, values),
            Layout::Int8 => Planes::INT8.unpack(rows, columns, packed, values),
            Layout::Trit5 => trit5::unpack(rows, columns, packed, values),
            Layout::Dense => Err(LayoutError::NotPacked { layout: self }),
        }
    }

    fn sizes(self, rows: usize, columns: usize) -> Result<Sizes, LayoutError> {
        let sizes = || {
            let packed = self.packed_len(u64::try_from(rows).ok()?, u64::try_from(columns).ok()?)?;
            Some(Sizes { unpacked: rows.checked_mul(columns)?, packed: usize::try_from(packed).ok()? })
        };
        match self {
            Layout::Dense => Err(LayoutError::NotPacked { layout: self }),
            _ => sizes().ok_or(LayoutError::Overflow { rows, columns }),
        }
    }
}

/// Lengths of one matrix, in values and in bytes.
struct Sizes {
    unpacked: usize,
    packed: usize,
}

fn check_len(expected: usize, found: usize) -> Result<(), LayoutError> {
    if expected == found { Ok(()) } else { Err(LayoutError::Len { expected, found }) }
}

/// Why values could not be packed or unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayoutError {
    /// The layout stores values as they are.
    NotPacked {
        /// That layout.
        layout: Layout,
    },
    /// The number of values or of bytes is too large.
    Overflow {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// The number of values or of bytes does not fit the sizes.
    Len {
        /// What the sizes ask for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A value that the layout cannot store, or a code that stands for no value.
    Value {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// The value or the code.
        found: i16,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LayoutError::NotPacked { layout } => write!(f, "the layout `{}` has no packed form", layout.name()),
            LayoutError::Overflow { rows, columns } => write!(f, "{rows} x {columns} weights are too many"),
            LayoutError::Len { expected, found } => write!(f, "expected a length of {expected}, found {found}"),
            LayoutError::Value { row, column, found } => {
                write!(f, "the weight in row {row}, column {column} cannot be {found}")
            }
        }
    }
}

impl core::error::Error for LayoutError {}
