//! Section `buffers`: the arrays that instructions read and write, and the slots of memory they live in.
//!
//! Several buffers share a slot when their lifetimes do not overlap, or when one is a reshape of the other.

use alloc::vec::Vec;

use crate::cursor::{Cursor, index, put_count, put_u32, to_u64};
use crate::{DType, DimId, ErrorKind, Fault, FormatError, MAX_RANK};

/// The largest number of buffers.
pub(crate) const MAX_BUFFERS: u64 = 1 << 20;

/// The index of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufferId(pub u32);

/// The index of a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u32);

impl BufferId {
    /// The position in the table of buffers.
    pub fn index(self) -> usize {
        index(self.0)
    }

    pub(crate) fn check(self, at: &Cursor<'_>, count: usize) -> Result<(), FormatError> {
        if self.index() < count {
            return Ok(());
        }
        Err(at.error(ErrorKind::Index { what: "buffer", value: self.0.into(), count: to_u64(count) }))
    }
}

impl SlotId {
    /// The position in the list of slots.
    pub fn index(self) -> usize {
        index(self.0)
    }
}

/// An array that instructions read or write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// The element type.
    pub dtype: DType,
    /// What the length of a row (the last dimension) is rounded up to, in bytes: 1, 2, 4, 8, 16, 32 or 64. The bytes
    /// that this adds are zero.
    pub row_align: u32,
    /// The memory it lives in.
    pub slot: SlotId,
    /// The dimensions, outermost first.
    pub dims: Vec<DimId>,
}

impl Buffer {
    /// Bytes from one row to the next, when the last dimension is `last`.
    pub fn pitch_bytes(&self, last: u64) -> Option<u64> {
        self.dtype.row_bytes(last)?.checked_next_multiple_of(u64::from(self.row_align))
    }

    /// Bytes of the whole buffer under the values that the dimensions have; `None` while one is unknown.
    ///
    /// # Errors
    ///
    /// When a dimension is negative or the size overflows.
    pub fn len_bytes(&self, values: &[Option<i64>]) -> Result<Option<u64>, Fault> {
        let overflow = Fault::Overflow { what: "buffer" };
        let value = |d: &DimId| match values.get(d.index()).copied().flatten() {
            Some(v) => u64::try_from(v).map(Some).map_err(|_| overflow),
            None => Ok(None),
        };
        let Some((last, outer)) = self.dims.split_last() else {
            return self.pitch_bytes(1).map(Some).ok_or(overflow);
        };
        let mut len = match value(last)? {
            Some(n) => Some(self.pitch_bytes(n).ok_or(overflow)?),
            None => None,
        };
        for d in outer {
            len = match (len, value(d)?) {
                (Some(len), Some(n)) => Some(len.checked_mul(n).ok_or(overflow)?),
                _ => None,
            };
        }
        Ok(len)
    }
}

/// Reads the number of slots, which is at most that of buffers, and the buffers.
pub(crate) fn read(cursor: &mut Cursor<'_>, n_dims: usize) -> Result<(u32, Vec<Buffer>), FormatError> {
    let at = cursor.clone();
    let n_slots = cursor.u32()?;
    let n = cursor.count("buffers", MAX_BUFFERS, 16)?;
    if index(n_slots) > n {
        return Err(at.error(ErrorKind::TooMany { what: "slots", max: to_u64(n), found: n_slots.into() }));
    }
    let mut buffers = Vec::with_capacity(n);
    for _ in 0..n {
        let at = cursor.clone();
        let dtype = read_dtype(cursor)?;
        let row_align = cursor.u32()?;
        if !row_align.is_power_of_two() || row_align > 64 {
            return Err(at.error(ErrorKind::Code { what: "alignment of rows", value: row_align.into() }));
        }
        let slot = SlotId(cursor.u32()?);
        if slot.0 >= n_slots {
            return Err(at.error(ErrorKind::Index { what: "slot", value: slot.0.into(), count: n_slots.into() }));
        }
        let rank = cursor.count("dimensions of a buffer", to_u64(MAX_RANK), 4)?;
        let mut dims = Vec::with_capacity(rank);
        for _ in 0..rank {
            let at = cursor.clone();
            let dim = DimId(cursor.u32()?);
            if dim.index() >= n_dims {
                let (value, count) = (dim.0.into(), to_u64(n_dims));
                return Err(at.error(ErrorKind::Index { what: "dimension", value, count }));
            }
            dims.push(dim);
        }
        buffers.push(Buffer { dtype, row_align, slot, dims });
    }
    Ok((n_slots, buffers))
}

pub(crate) fn write(n_slots: u32, buffers: &[Buffer], out: &mut Vec<u8>) {
    put_u32(out, n_slots);
    put_count(out, buffers.len());
    for buffer in buffers {
        put_u32(out, buffer.dtype.code());
        put_u32(out, buffer.row_align);
        put_u32(out, buffer.slot.0);
        put_count(out, buffer.dims.len());
        for dim in &buffer.dims {
            put_u32(out, dim.0);
        }
    }
}

pub(crate) fn read_dtype(cursor: &mut Cursor<'_>) -> Result<DType, FormatError> {
    let at = cursor.clone();
    let code = cursor.u32()?;
    DType::from_code(code).ok_or_else(|| at.error(ErrorKind::Code { what: "element type", value: code.into() }))
}
