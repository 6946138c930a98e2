//! The checked cursor that every section is read through, and its counterpart for writing.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{ErrorKind, FormatError};

/// The most bytes of one name.
const MAX_TEXT: u64 = 1 << 16;

/// Bytes with a position; every read is checked against the end.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// The position in the file of the first byte of `rest`.
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, offset }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// An error at the present position.
    pub(crate) fn error(&self, kind: ErrorKind) -> FormatError {
        FormatError { kind, offset: self.offset }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            return Err(self.error(ErrorKind::Truncated { needed: to_u64(n), found: to_u64(self.rest.len()) }));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(to_u64(n));
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.error(ErrorKind::Truncated { needed: to_u64(N), found: 0 }))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number of entries of at least `entry_bytes` each, so that what is reserved for them is bounded by the file.
    pub(crate) fn count(&mut self, what: &'static str, max: u64, entry_bytes: usize) -> Result<usize, FormatError> {
        let at = self.clone();
        let found = u64::from(self.u32()?);
        if found > max {
            return Err(at.error(ErrorKind::TooMany { what, max, found }));
        }
        let needed = found.saturating_mul(to_u64(entry_bytes));
        let left = to_u64(self.rest.len());
        if needed > left {
            return Err(at.error(ErrorKind::Truncated { needed, found: left }));
        }
        Ok(to_usize(found))
    }

    /// A name: its length in bytes, the bytes, and zeros up to a multiple of four.
    pub(crate) fn text(&mut self) -> Result<String, FormatError> {
        let at = self.clone();
        let len = self.u32()?;
        if u64::from(len) > MAX_TEXT {
            return Err(at.error(ErrorKind::TooMany { what: "bytes of a name", max: MAX_TEXT, found: len.into() }));
        }
        let bytes = self.take(index(len))?;
        let text = core::str::from_utf8(bytes).map_err(|_| at.error(ErrorKind::Text))?;
        let padding = text.len().wrapping_neg() & 3;
        self.zeros(padding, "the padding of a name")?;
        Ok(text.into())
    }

    /// `n` bytes that have to be zero.
    pub(crate) fn zeros(&mut self, n: usize, what: &'static str) -> Result<(), FormatError> {
        let at = self.clone();
        if self.take(n)?.iter().all(|&b| b == 0) { Ok(()) } else { Err(at.error(ErrorKind::NotZero { what })) }
    }

    /// Nothing may be left.
    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(ErrorKind::Trailing { bytes: to_u64(self.rest.len()) }))
        }
    }
}

/// Appends a name as [`Cursor::text`] reads it; what is past the longest name is cut off.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(to_usize(MAX_TEXT));
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let bytes = text.get(..end).unwrap_or_default().as_bytes();
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Appends a number of entries; one that is too large becomes one that no reader accepts.
pub(crate) fn put_count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A table index from its stored form.
pub(crate) fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A length as it is stored.
pub(crate) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A length from its stored form; one that no memory holds becomes one that no slice has.
pub(crate) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
