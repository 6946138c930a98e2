//! `Artifact::parse`, the only way from bytes to the contents of an artifact.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::cursor::{Cursor, to_u64, to_usize};
use crate::logic::Program;
use crate::networks::Networks;
use crate::{
    ALIGN, Buffer, Const, ConstId, Dims, ErrorKind, FormatError, Inst, Meta, Note, Port, VERSION, buffers, consts, crc,
    notes, ports,
};

/// The first four bytes.
pub(crate) const MAGIC: [u8; 4] = *b"BITC";
/// Bytes of the header, and of one entry of the section table.
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const ENTRY_BYTES: usize = 32;
const MAX_SECTIONS: u64 = 64;
const MAX_INSTS: u64 = 1 << 20;

/// The kinds of sections that this version knows, in the order of the file.
pub(crate) mod kind {
    pub(crate) const DIMS: u32 = 1;
    pub(crate) const IO: u32 = 2;
    pub(crate) const BUFFERS: u32 = 3;
    pub(crate) const CONSTS: u32 = 4;
    pub(crate) const CODE: u32 = 5;
    pub(crate) const DATA: u32 = 6;
    /// Kinds from here on may be skipped by who does not know them.
    pub(crate) const FIRST_SKIPPABLE: u32 = 0x8000;
    pub(crate) const META: u32 = 0x8001;
    pub(crate) const IR: u32 = 0x8002;
    pub(crate) const NOTES: u32 = 0x8003;
}

/// The name of a section for people.
fn section_name(kind: u32) -> &'static str {
    match kind {
        kind::DIMS => "dims",
        kind::IO => "io",
        kind::BUFFERS => "buffers",
        kind::CONSTS => "consts",
        kind::CODE => "code",
        kind::DATA => "data",
        kind::META => "meta",
        kind::IR => "ir",
        kind::NOTES => "notes",
        _ => "unknown",
    }
}

/// A checked artifact: its tables, and the bytes they were read from.
#[derive(Clone, Debug)]
pub struct Artifact<'a> {
    bytes: &'a [u8],
    contents: Contents,
}

/// The tables of a checked artifact. They own what they hold; constants are ranges of the artifact's bytes.
#[derive(Clone, Debug)]
pub struct Contents {
    dims: Dims,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    n_slots: u32,
    buffers: Vec<Buffer>,
    consts: Vec<Const>,
    code: Vec<Inst>,
    pub(crate) code_offsets: Vec<u64>,
    meta: Option<Meta>,
    notes: Vec<Note>,
    data: Range<usize>,
    ir: Option<Range<usize>>,
    sections: Vec<(&'static str, Range<usize>)>,
    pub(crate) networks: Networks,
}

impl<'a> Artifact<'a> {
    /// Reads an artifact and checks everything that can be checked while the sizes of symbols are unknown.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with the byte where it was noticed.
    ///
    /// ```
    /// use bitc_format::{Artifact, ErrorKind};
    /// let error = Artifact::parse(b"not an artifact").unwrap_err();
    /// assert_eq!(error.kind, ErrorKind::Magic);
    /// ```
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let sections = read_table(bytes)?;
        let contents = Contents::read(&sections, &|range| bytes.get(range).unwrap_or_default())?;
        Ok(Self { bytes, contents })
    }

    /// The tables.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The tables, for who keeps the bytes elsewhere.
    pub fn into_contents(self) -> Contents {
        self.contents
    }

    /// The bytes of a constant.
    pub fn const_bytes(&self, constant: &Const) -> &'a [u8] {
        self.bytes.get(self.contents.const_range(constant)).unwrap_or_default()
    }

    /// The section `ir`: the program as text, as far as it was kept.
    pub fn ir(&self) -> Option<&'a [u8]> {
        self.contents.ir.clone().and_then(|range| self.bytes.get(range))
    }
}

impl Contents {
    /// Reads the sections of a file; `bytes_of` gives the bytes of a section, of a constant, or of a padding in `data`.
    pub(crate) fn read<'a>(
        table: &[Section],
        bytes_of: &dyn Fn(Range<usize>) -> &'a [u8],
    ) -> Result<Self, FormatError> {
        let section = |kind: u32| table.iter().find(|s| s.kind == kind);
        let cursor = |kind: u32| match section(kind) {
            Some(s) => Ok(Cursor::new(bytes_of(s.range.clone()), to_u64(s.range.start))),
            None => Err(FormatError { kind: ErrorKind::SectionMissing { name: section_name(kind) }, offset: 0 }),
        };

        let mut from = cursor(kind::DIMS)?;
        let dims = Dims::read(&mut from)?;
        from.finish()?;

        let mut from = cursor(kind::BUFFERS)?;
        let (n_slots, buffers) = buffers::read(&mut from, dims.exprs().len())?;
        from.finish()?;

        let mut from = cursor(kind::IO)?;
        let inputs = ports::read(&mut from, buffers.len())?;
        let outputs = ports::read(&mut from, buffers.len())?;
        from.finish()?;
        check_symbols(&dims, &inputs, &buffers)?;

        let data = section(kind::DATA).map(|s| s.range.clone());
        let Some(data) = data else {
            return Err(FormatError { kind: ErrorKind::SectionMissing { name: "data" }, offset: 0 });
        };
        let mut from = cursor(kind::CONSTS)?;
        let consts = consts::read(&mut from, data.clone(), bytes_of)?;
        from.finish()?;

        let mut from = cursor(kind::CODE)?;
        let n = from.count("instructions", MAX_INSTS, 4)?;
        let (mut code, mut code_offsets) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for _ in 0..n {
            code_offsets.push(from.offset());
            code.push(Inst::read(&mut from)?);
        }
        from.finish()?;

        let mut meta = None;
        if section(kind::META).is_some() {
            let mut from = cursor(kind::META)?;
            meta = Some(Meta::read(&mut from, code.len())?);
            from.finish()?;
        }
        let mut noted = Vec::new();
        if section(kind::NOTES).is_some() {
            let mut from = cursor(kind::NOTES)?;
            noted = notes::read(&mut from)?;
            from.finish()?;
        }
        let ir = section(kind::IR).map(|s| s.range.clone());
        let sections = table.iter().map(|s| (section_name(s.kind), s.range.clone())).collect();
        let networks = Networks::read(&code, &consts, |c| {
            let start = data.start.saturating_add(to_usize(c.offset));
            (bytes_of(start..start.saturating_add(to_usize(c.len_bytes))), start)
        })?;
        let contents = Contents {
            dims,
            inputs,
            outputs,
            n_slots,
            buffers,
            consts,
            code,
            code_offsets,
            meta,
            notes: noted,
            data,
            ir,
            sections,
            networks,
        };
        let values = contents.dims.evaluate(&[])?;
        contents.check(&values)?;
        Ok(contents)
    }

    /// Symbols and dimensions.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// The inputs, in the order of the model.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in the order of the model.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The number of slots.
    pub fn n_slots(&self) -> usize {
        crate::cursor::index(self.n_slots)
    }

    /// The buffers.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The constants.
    pub fn consts(&self) -> &[Const] {
        &self.consts
    }

    /// The instructions, in order.
    pub fn code(&self) -> &[Inst] {
        &self.code
    }

    /// What is known about the source model.
    pub fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// What was done to the model that who uses the artifact may want to know.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The bytes of the section `ir`.
    pub fn ir_range(&self) -> Option<Range<usize>> {
        self.ir.clone()
    }

    /// The bytes of the file that hold all constants.
    pub fn data_range(&self) -> Range<usize> {
        self.data.clone()
    }

    /// The bytes of the file that hold a constant.
    pub fn const_range(&self, constant: &Const) -> Range<usize> {
        let start = self.data.start.saturating_add(to_usize(constant.offset));
        start..start.saturating_add(to_usize(constant.len_bytes))
    }

    /// The logic program that a constant holds, if an instruction runs it.
    pub fn network(&self, id: ConstId) -> Option<&Program> {
        self.networks.program(id)
    }

    /// Name and place of every section, in the order of the file; skipped ones are `unknown`.
    pub fn sections(&self) -> &[(&'static str, Range<usize>)] {
        &self.sections
    }
}

/// One entry of the section table.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) kind: u32,
    pub(crate) range: Range<usize>,
}

/// Reads header and section table; checks that the sections fill the file and have their checksums.
fn read_table(bytes: &[u8]) -> Result<Vec<Section>, FormatError> {
    let mut header = Cursor::new(bytes, 0);
    if header.take(MAGIC.len())? != MAGIC {
        return Err(FormatError { kind: ErrorKind::Magic, offset: 0 });
    }
    let at = header.clone();
    let (major, _minor) = (header.u16()?, header.u16()?);
    if major != VERSION.0 {
        return Err(at.error(ErrorKind::Version { major }));
    }
    let at = header.clone();
    let stated = header.u64()?;
    if stated != to_u64(bytes.len()) {
        return Err(at.error(ErrorKind::Length { stated, found: to_u64(bytes.len()) }));
    }
    let at = header.clone();
    let n = header.u32()?;
    if u64::from(n) > MAX_SECTIONS {
        return Err(at.error(ErrorKind::TooMany { what: "sections", max: MAX_SECTIONS, found: n.into() }));
    }
    header.zeros(HEADER_BYTES.saturating_sub(20), "flags and the rest of the header")?;

    let n = crate::cursor::index(n);
    let mut table = Cursor::new(header.take(n.saturating_mul(ENTRY_BYTES))?, to_u64(HEADER_BYTES));
    let mut body = header;
    let mut sections: Vec<Section> = vec![];
    for _ in 0..n {
        let at = table.clone();
        let (kind, checksum, offset, len) = (table.u32()?, table.u32()?, table.u64()?, table.u64()?);
        table.zeros(8, "the section table")?;
        if sections.last().is_some_and(|last| last.kind >= kind) {
            return Err(at.error(ErrorKind::SectionOrder { kind }));
        }
        if kind < kind::FIRST_SKIPPABLE && !(kind::DIMS..=kind::DATA).contains(&kind) {
            return Err(at.error(ErrorKind::SectionUnknown { kind }));
        }
        let used = to_usize(body.offset());
        body.zeros(used.wrapping_neg() & ALIGN.wrapping_sub(1), "the padding of a section")?;
        if offset != body.offset() {
            return Err(at.error(ErrorKind::SectionOffset { expected: body.offset(), found: offset }));
        }
        let start = to_usize(offset);
        let section = body.take(to_usize(len))?;
        let computed = crc::crc32(section);
        if computed != checksum {
            return Err(at.error(ErrorKind::Checksum { stated: checksum, computed }));
        }
        sections.push(Section { kind, range: start..start.saturating_add(section.len()) });
    }
    body.finish()?;
    Ok(sections)
}

/// Every symbol is a dimension of an input by itself.
fn check_symbols(dims: &Dims, inputs: &[Port], buffers: &[Buffer]) -> Result<(), FormatError> {
    let mut bound = vec![false; dims.symbols().len()];
    for port in inputs {
        let of_port = buffers.get(port.buffer.index()).map(|b| b.dims.as_slice()).unwrap_or_default();
        for symbol in of_port.iter().filter_map(|&d| dims.as_symbol(d)) {
            if let Some(place) = bound.get_mut(symbol.index()) {
                *place = true;
            }
        }
    }
    match (0u32..).zip(bound).find(|(_, bound)| !bound) {
        Some((symbol, _)) => Err(FormatError { kind: ErrorKind::UnboundSymbol { symbol }, offset: 0 }),
        None => Ok(()),
    }
}
