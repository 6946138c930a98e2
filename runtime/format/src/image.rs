//! An artifact in pieces: constants stay where their owner has them, so that a model is not held twice to be written.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::ALIGN;
use crate::crc::Crc;
use crate::cursor::{put_count, put_u32, put_u64, to_u64};
use crate::read::{ENTRY_BYTES, HEADER_BYTES, MAGIC, Section};

/// Bytes that somebody else may hold as well.
#[derive(Clone)]
pub struct Shared(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Shared {
    /// The bytes of their owner.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(owner))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} bytes)", self.bytes().len())
    }
}

/// Constants of fewer bytes are copied, which takes less than keeping track of them.
const SMALL: usize = 4096;

/// Bytes that follow each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    pieces: Vec<Piece>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Shared),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(shared) => shared.bytes(),
        }
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len(), pieces: vec![Piece::Own(bytes)] }
    }
}

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::bytes)
    }

    fn own(&mut self) -> Option<&mut Vec<u8>> {
        if !matches!(self.pieces.last(), Some(Piece::Own(_))) {
            self.pieces.push(Piece::Own(Vec::new()));
        }
        match self.pieces.last_mut() {
            Some(Piece::Own(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        if let Some(own) = self.own() {
            own.extend_from_slice(bytes);
        }
    }

    /// Zeros up to the next multiple of [`ALIGN`].
    pub(crate) fn align(&mut self) {
        let padding = self.len.wrapping_neg() & ALIGN.wrapping_sub(1);
        self.extend([0; ALIGN].get(..padding).unwrap_or_default());
    }

    pub(crate) fn push(&mut self, shared: Shared) {
        if shared.bytes().len() < SMALL {
            return self.extend(shared.bytes());
        }
        self.len = self.len.saturating_add(shared.bytes().len());
        self.pieces.push(Piece::Shared(shared));
    }

    fn append(&mut self, other: Pieces) {
        for piece in other.pieces {
            match piece {
                Piece::Own(bytes) => self.extend(&bytes),
                Piece::Shared(shared) => self.push(shared),
            }
        }
    }
}

/// A checked artifact whose bytes are in several places; one after the other they are the file.
#[derive(Clone, Debug)]
pub struct Image {
    pieces: Pieces,
    /// Where each piece begins.
    starts: Vec<usize>,
    sections: Vec<Section>,
}

impl Image {
    /// The file made of these sections, given in ascending order of their kinds.
    pub(crate) fn assemble(sections: Vec<(u32, Pieces)>) -> Self {
        let table_bytes = sections.len().saturating_mul(ENTRY_BYTES);
        let mut table = Vec::with_capacity(table_bytes);
        let mut found = Vec::with_capacity(sections.len());
        let mut end = HEADER_BYTES.saturating_add(table_bytes);
        for (kind, section) in &sections {
            let start = end.next_multiple_of(ALIGN);
            let mut crc = Crc::new();
            section.iter().for_each(|bytes| crc.update(bytes));
            put_u32(&mut table, *kind);
            put_u32(&mut table, crc.finish());
            put_u64(&mut table, to_u64(start));
            put_u64(&mut table, to_u64(section.len()));
            put_u64(&mut table, 0);
            end = start.saturating_add(section.len());
            found.push(Section { kind: *kind, range: start..end });
        }
        let mut head = Vec::with_capacity(HEADER_BYTES.saturating_add(table_bytes));
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&crate::VERSION.0.to_le_bytes());
        head.extend_from_slice(&crate::VERSION.1.to_le_bytes());
        put_u64(&mut head, to_u64(end));
        put_count(&mut head, sections.len());
        head.resize(HEADER_BYTES, 0);
        head.extend_from_slice(&table);
        let mut pieces = Pieces::from(head);
        for (_, section) in sections {
            pieces.align();
            pieces.append(section);
        }
        let starts = pieces.iter().scan(0usize, |at, bytes| {
            let start = *at;
            *at = start.saturating_add(bytes.len());
            Some(start)
        });
        Self { starts: starts.collect(), pieces, sections: found }
    }

    /// The pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter()
    }

    /// The length of the file.
    pub fn len_bytes(&self) -> u64 {
        to_u64(self.pieces.len())
    }

    /// All bytes in one place.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pieces.len());
        self.pieces().for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// A part of the file that lies in one piece, as every section but `data`, every constant and every padding does.
    pub(crate) fn part(&self, range: Range<usize>) -> &[u8] {
        let piece = self.starts.partition_point(|&start| start <= range.start).saturating_sub(1);
        let (Some(piece), Some(start)) = (self.pieces.pieces.get(piece), self.starts.get(piece)) else { return &[] };
        let within = range.start.saturating_sub(*start)..range.end.saturating_sub(*start);
        piece.bytes().get(within).unwrap_or_default()
    }
}
