//! Section `consts`: type, layout, shape and place in `data` of every constant.

use alloc::vec::Vec;
use core::ops::Range;

use crate::buffers::read_dtype;
use crate::cursor::{Cursor, index, put_count, put_u32, put_u64, to_u64, to_usize};
use crate::layout::Layout;
use crate::{ALIGN, DType, ErrorKind, FormatError, MAX_RANK};

/// The largest number of constants.
const MAX_CONSTS: u64 = 1 << 20;

/// The index of a constant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConstId(pub u32);

impl ConstId {
    /// The position in the table of constants.
    pub fn index(self) -> usize {
        index(self.0)
    }
}

/// A constant: its logical type and where its bytes lie in `data`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Const {
    /// The type of the logical values; `i8` for packed weights.
    pub dtype: DType,
    /// How the values are stored.
    pub layout: Layout,
    /// The logical dimensions, outermost first.
    pub shape: Vec<u64>,
    /// The first byte in `data`, a multiple of 64.
    pub offset: u64,
    /// The number of bytes.
    pub len_bytes: u64,
}

impl Const {
    /// The length in bytes that type, layout and shape ask for; `None` if it overflows or no such constant exists.
    ///
    /// Packed weights have two dimensions, or three where the first one counts groups that are packed one by one.
    pub fn expected_len(&self) -> Option<u64> {
        if self.layout == Layout::Dense {
            let Some((&last, outer)) = self.shape.split_last() else { return self.dtype.row_bytes(1) };
            return outer.iter().try_fold(self.dtype.row_bytes(last)?, |n, &d| n.checked_mul(d));
        }
        let (groups, rows, columns) = match *self.shape.as_slice() {
            [rows, columns] => (1, rows, columns),
            [groups, rows, columns] => (groups, rows, columns),
            _ => return None,
        };
        if self.dtype != DType::I8 {
            return None;
        }
        self.layout.packed_len(rows, columns)?.checked_mul(groups)
    }
}

/// Reads the constants; they have to cover `data` from front to back.
pub(crate) fn read<'a>(
    cursor: &mut Cursor<'_>,
    data: Range<usize>,
    bytes_of: &dyn Fn(Range<usize>) -> &'a [u8],
) -> Result<Vec<Const>, FormatError> {
    let n = cursor.count("constants", MAX_CONSTS, 28)?;
    let mut consts = Vec::with_capacity(n);
    let mut end = data.start;
    for i in 0..n {
        let at = cursor.clone();
        let dtype = read_dtype(cursor)?;
        let code = cursor.u32()?;
        let layout = Layout::from_code(code)
            .ok_or_else(|| at.error(ErrorKind::Code { what: "layout of a constant", value: code.into() }))?;
        let rank = cursor.count("dimensions of a constant", to_u64(MAX_RANK), 8)?;
        let mut shape = Vec::with_capacity(rank);
        for _ in 0..rank {
            shape.push(cursor.u64()?);
        }
        let (offset, len_bytes) = (cursor.u64()?, cursor.u64()?);
        let entry = Const { dtype, layout, shape, offset, len_bytes };
        let expected = entry.expected_len();
        if expected != Some(len_bytes) {
            return Err(at.error(ErrorKind::ConstLength { expected, found: len_bytes }));
        }
        if i > 0 {
            // Sections begin at multiples of the same alignment.
            let padding = end.wrapping_neg() & ALIGN.wrapping_sub(1);
            let next = take(end, padding, &data)?;
            Cursor::new(bytes_of(end..next), to_u64(end)).zeros(padding, "the padding of `data`")?;
            end = next;
        }
        let expected = to_u64(end.saturating_sub(data.start));
        if offset != expected {
            return Err(at.error(ErrorKind::ConstOffset { expected, found: offset }));
        }
        end = take(end, to_usize(len_bytes), &data)?;
        consts.push(entry);
    }
    match data.end.saturating_sub(end) {
        0 => Ok(consts),
        left => Err(FormatError { kind: ErrorKind::Trailing { bytes: to_u64(left) }, offset: to_u64(end) }),
    }
}

/// The end of the next `n` bytes of `data`.
fn take(start: usize, n: usize, data: &Range<usize>) -> Result<usize, FormatError> {
    let left = data.end.saturating_sub(start);
    if n > left {
        let kind = ErrorKind::Truncated { needed: to_u64(n), found: to_u64(left) };
        return Err(FormatError { kind, offset: to_u64(start) });
    }
    Ok(start.saturating_add(n))
}

pub(crate) fn write(consts: &[Const], out: &mut Vec<u8>) {
    put_count(out, consts.len());
    for c in consts {
        put_u32(out, c.dtype.code());
        put_u32(out, c.layout.code());
        put_count(out, c.shape.len());
        for &d in &c.shape {
            put_u64(out, d);
        }
        put_u64(out, c.offset);
        put_u64(out, c.len_bytes);
    }
}
