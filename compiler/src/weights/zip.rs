//! The directory of a zip archive whose entries are stored, not compressed.
//!
//! Nothing is unpacked and no entry becomes a file: an entry is a slice of the archive. The central directory decides,
//! with its 64-bit forms; of a local header only the place of its data is read.

use std::collections::HashMap;

use bitc_ir::Blob;

use crate::error::{Diagnostic, quoted};

/// The first bytes of an archive that is not empty.
pub(super) const LOCAL_MAGIC: &[u8] = b"PK\x03\x04";
const CENTRAL_MAGIC: &[u8] = b"PK\x01\x02";
const END_MAGIC: &[u8] = b"PK\x05\x06";
const END64_MAGIC: &[u8] = b"PK\x06\x06";
const LOCATOR64_MAGIC: &[u8] = b"PK\x06\x07";
const END_LEN: usize = 22;
const LOCATOR64_LEN: usize = 20;

/// An archive: its entries by name.
pub(super) struct Archive {
    file: Blob,
    entries: HashMap<String, Entry>,
}

struct Entry {
    stored: bool,
    encrypted: bool,
    size: u64,
    header_at: u64,
}

impl Archive {
    /// Reads the directory.
    pub(super) fn parse(file: &Blob) -> Result<Self, Diagnostic> {
        let bytes = Bytes(file.bytes());
        let (count, start, end) = bytes.directory()?;
        let mut entries = HashMap::new();
        let mut at = start;
        for _ in 0..count {
            let (name, entry, next) = bytes.entry(at, end)?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(wrong("an entry occurs twice", at).found(quoted(&name)));
            }
            at = next;
        }
        if at != end {
            return Err(wrong("the zip directory is longer than its entries", at));
        }
        Ok(Self { file: file.clone(), entries })
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of an entry; `None` if there is none of that name.
    pub(super) fn get(&self, name: &str) -> Result<Option<Blob>, Diagnostic> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        if entry.encrypted {
            return Err(Diagnostic::unsupported(format!("the zip entry {} is encrypted", quoted(name))));
        }
        if !entry.stored {
            return Err(Diagnostic::unsupported(format!("the zip entry {} is compressed", quoted(name)))
                .expected("stored entries, as torch.save writes them"));
        }
        let bytes = Bytes(self.file.bytes());
        let header = bytes.record(entry.header_at, 30, LOCAL_MAGIC, "the header of a zip entry")?;
        let data_at = 30 + u64::from(header.u16(26)) + u64::from(header.u16(28));
        let begin = entry.header_at.checked_add(data_at);
        let range =
            begin.and_then(|b| Some(usize::try_from(b).ok()?..usize::try_from(b.checked_add(entry.size)?).ok()?));
        let data = range.and_then(|r| self.file.slice(r));
        data.map(Some).ok_or_else(|| wrong("a zip entry ends after the file", entry.header_at).found(quoted(name)))
    }
}

fn wrong(what: &str, offset: u64) -> Diagnostic {
    Diagnostic::wrong_input(what).offset(offset)
}

/// Bytes with little-endian numbers in them.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// A number of `N` bytes; zero past the end, which callers exclude by the length of the record.
    fn number<const N: usize>(self, at: usize) -> u64 {
        let bytes = self.0.get(at..).and_then(|b| b.first_chunk::<N>());
        bytes.map_or(0, |b| b.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn u16(self, at: usize) -> u16 {
        self.number::<2>(at) as u16
    }

    fn u32(self, at: usize) -> u32 {
        self.number::<4>(at) as u32
    }

    fn u64(self, at: usize) -> u64 {
        self.number::<8>(at)
    }

    /// `len` bytes at an offset of the file that begin with `magic`.
    fn record(self, at: u64, len: usize, magic: &[u8], what: &str) -> Result<Bytes<'a>, Diagnostic> {
        let bytes = usize::try_from(at).ok().and_then(|at| self.0.get(at..at.checked_add(len)?));
        match bytes {
            Some(bytes) if bytes.starts_with(magic) => Ok(Bytes(bytes)),
            _ => Err(wrong(&format!("{what} is not where it should be"), at)),
        }
    }

    /// The number of entries and the range of the directory.
    fn directory(self) -> Result<(u64, u64, u64), Diagnostic> {
        let end_at = self.end_record().ok_or_else(|| {
            wrong("this is no whole zip archive", self.0.len() as u64).hint("the file may have been cut short")
        })?;
        let end = Bytes(&self.0[end_at..]);
        let mut found = (u64::from(end.u16(10)), u64::from(end.u32(16)), u64::from(end.u32(12)));
        let mut disks = (u32::from(end.u16(4)), u32::from(end.u16(6)));
        let mut limit = end_at as u64;
        let locator = end_at.checked_sub(LOCATOR64_LEN).map(|at| Bytes(&self.0[at..]));
        if let Some(locator) = locator.filter(|l| l.0.starts_with(LOCATOR64_MAGIC)) {
            limit = locator.u64(8);
            let end64 = self.record(limit, 56, END64_MAGIC, "the 64-bit end of the zip directory")?;
            let wide = (end64.u64(32), end64.u64(48), end64.u64(40));
            disks = (end64.u32(16), end64.u32(20));
            let agrees = |narrow: u64, wide: u64, full: u64| narrow == wide || narrow == full;
            if !agrees(found.0, wide.0, 0xffff)
                || !agrees(found.1, wide.1, 0xffff_ffff)
                || !agrees(found.2, wide.2, 0xffff_ffff)
            {
                return Err(wrong("the two ends of the zip directory disagree", limit));
            }
            found = wide;
        }
        if disks != (0, 0) {
            return Err(Diagnostic::unsupported("a zip archive in several parts"));
        }
        let (count, start, len) = found;
        match start.checked_add(len) {
            Some(end) if end <= limit => Ok((count, start, end)),
            _ => Err(wrong("the zip directory ends after the file", start)),
        }
    }

    /// Where the end record begins: the last one whose comment reaches the end of the file.
    fn end_record(self) -> Option<usize> {
        let last = self.0.len().checked_sub(END_LEN)?;
        let first = last.saturating_sub(usize::from(u16::MAX));
        (first..=last).rev().find(|&at| {
            let end = Bytes(&self.0[at..]);
            end.0.starts_with(END_MAGIC) && usize::from(end.u16(20)) == end.0.len() - END_LEN
        })
    }

    /// One entry of the directory, and where the next one begins.
    fn entry(self, at: u64, end: u64) -> Result<(String, Entry, u64), Diagnostic> {
        let fixed = self.record(at, 46, CENTRAL_MAGIC, "an entry of the zip directory")?;
        let (name_len, extra_len) = (u64::from(fixed.u16(28)), u64::from(fixed.u16(30)));
        let name_at = at + 46;
        let next = name_at + name_len + extra_len + u64::from(fixed.u16(32));
        if next > end {
            return Err(wrong("an entry of the zip directory ends after it", at));
        }
        let part = |at: u64, len: u64| {
            let range = usize::try_from(at).ok()?..usize::try_from(at + len).ok()?;
            self.0.get(range)
        };
        let name = part(name_at, name_len).and_then(|b| std::str::from_utf8(b).ok());
        let name = name.ok_or_else(|| wrong("the name of a zip entry is not UTF-8", name_at))?;
        let extra = Bytes(part(name_at + name_len, extra_len).unwrap_or_default());
        let mut wide = extra.zip64_extra();
        let mut number = |narrow: u32| match narrow {
            u32::MAX => wide.next().ok_or_else(|| wrong("a zip entry lacks its 64-bit numbers", at)),
            narrow => Ok(u64::from(narrow)),
        };
        // The 64-bit numbers stand in this order, each only if its narrow field is full.
        let size = number(fixed.u32(24))?;
        let packed_size = number(fixed.u32(20))?;
        let header_at = number(fixed.u32(42))?;
        let stored = fixed.u16(10) == 0;
        if stored && size != packed_size {
            return Err(wrong("a stored zip entry has two different sizes", at).found(quoted(name)));
        }
        let entry = Entry { stored, encrypted: fixed.u16(8) & 1 != 0, size, header_at };
        Ok((name.to_string(), entry, next))
    }

    /// The numbers in the 64-bit extra field.
    fn zip64_extra(self) -> impl Iterator<Item = u64> + 'a {
        let mut rest = self.0;
        let mut found: &[u8] = &[];
        while rest.len() >= 4 {
            let (id, len) = (Bytes(rest).u16(0), usize::from(Bytes(rest).u16(2)));
            let Some(data) = rest.get(4..4 + len) else { break };
            if id == 1 {
                found = data;
            }
            rest = &rest[4 + len..];
        }
        found.chunks_exact(8).map(|b| Bytes(b).u64(0))
    }
}
