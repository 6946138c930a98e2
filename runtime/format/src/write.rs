//! The writer: collects tables, lays out the file, and checks the result by reading it.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::cursor::{put_count, put_u32, put_u64, to_u64};
use crate::read::{ENTRY_BYTES, HEADER_BYTES, MAGIC, kind};
use crate::{
    ALIGN, Artifact, Buffer, BufferId, Const, ConstId, DType, DTypeSet, DimExpr, DimId, Dims, FormatError, Inst,
    Layout, Meta, Port, SlotId, SymbolId, VERSION, buffers, consts, crc, ports,
};

/// Builds an artifact table by table.
///
/// ```
/// use bitc_format::inst::Cast;
/// use bitc_format::{Artifact, ArtifactWriter, DType, DTypeSet};
///
/// let mut writer = ArtifactWriter::new();
/// let n = writer.symbol("N");
/// let dims = [writer.symbol_dim(n), writer.fixed(4)];
/// let (a, b) = (writer.slot(), writer.slot());
/// let x = writer.buffer(DType::F32, &dims, 1, a);
/// let y = writer.buffer(DType::F32, &dims, 1, b);
/// writer.input("x", x, DTypeSet::of(&[DType::F32]));
/// writer.output("y", y, DTypeSet::of(&[DType::F32]));
/// writer.push(Cast { y, x: x.into() });
/// let bytes = writer.finish()?;
/// assert_eq!(Artifact::parse(&bytes)?.contents().code().len(), 1);
/// # Ok::<(), bitc_format::FormatError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ArtifactWriter {
    pub(crate) dims: Dims,
    dim_ids: BTreeMap<DimExpr, DimId>,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    n_slots: u32,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) consts: Vec<Const>,
    data: Vec<u8>,
    pub(crate) code: Vec<Inst>,
    meta: Option<Meta>,
    ir: Option<Vec<u8>>,
}

impl ArtifactWriter {
    /// A writer without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The symbol of that name, new or not.
    pub fn symbol(&mut self, name: &str) -> SymbolId {
        let at = self.dims.symbols.iter().position(|s| s == name).unwrap_or_else(|| {
            self.dims.symbols.push(name.to_string());
            self.dims.symbols.len().saturating_sub(1)
        });
        SymbolId(id(at))
    }

    /// Says which symbol counts the samples of a batch.
    pub fn set_batch(&mut self, symbol: SymbolId) {
        self.dims.batch = Some(symbol);
    }

    /// The dimension that is this expression, new or not.
    pub fn dim(&mut self, expr: DimExpr) -> DimId {
        if let Some(&known) = self.dim_ids.get(&expr) {
            return known;
        }
        let new = DimId(id(self.dims.exprs.len()));
        self.dims.exprs.push(expr);
        self.dim_ids.insert(expr, new);
        new
    }

    /// The dimension that is this symbol.
    pub fn symbol_dim(&mut self, symbol: SymbolId) -> DimId {
        self.dim(DimExpr::Symbol(symbol))
    }

    /// The dimension that is this number.
    pub fn fixed(&mut self, n: i64) -> DimId {
        self.dim(DimExpr::Const(n))
    }

    /// A new slot.
    pub fn slot(&mut self) -> SlotId {
        let slot = SlotId(self.n_slots);
        self.n_slots = self.n_slots.saturating_add(1);
        slot
    }

    /// A new buffer in a slot; see [`Buffer`] for `row_align`.
    pub fn buffer(&mut self, dtype: DType, dims: &[DimId], row_align: u32, slot: SlotId) -> BufferId {
        self.buffers.push(Buffer { dtype, row_align, slot, dims: dims.to_vec() });
        BufferId(id(self.buffers.len().saturating_sub(1)))
    }

    /// A new constant; `bytes` are stored as they are.
    pub fn constant(&mut self, dtype: DType, layout: Layout, shape: &[u64], bytes: &[u8]) -> ConstId {
        let offset = self.data.len().next_multiple_of(ALIGN);
        self.data.resize(offset, 0);
        self.data.extend_from_slice(bytes);
        let (offset, len_bytes) = (to_u64(offset), to_u64(bytes.len()));
        self.consts.push(Const { dtype, layout, shape: shape.to_vec(), offset, len_bytes });
        ConstId(id(self.consts.len().saturating_sub(1)))
    }

    /// The next input; its buffer must have a slot that no other port has and nothing writes.
    pub fn input(&mut self, name: &str, buffer: BufferId, accepts: DTypeSet) {
        self.inputs.push(Port { name: name.to_string(), buffer, accepts });
    }

    /// The next output; its buffer must have a slot that no other port has.
    pub fn output(&mut self, name: &str, buffer: BufferId, accepts: DTypeSet) {
        self.outputs.push(Port { name: name.to_string(), buffer, accepts });
    }

    /// The next instruction; returns its index.
    pub fn push(&mut self, inst: impl Into<Inst>) -> usize {
        self.code.push(inst.into());
        self.code.len().saturating_sub(1)
    }

    /// What the artifact remembers about its model.
    pub fn set_meta(&mut self, meta: Meta) {
        self.meta = Some(meta);
    }

    /// The text of the frozen program, whose constants refer to those of the artifact by index.
    pub fn set_ir(&mut self, text: Vec<u8>) {
        self.ir = Some(text);
    }

    /// The bytes of the artifact.
    ///
    /// # Errors
    ///
    /// What [`Artifact::parse`] says about them.
    pub fn finish(self) -> Result<Vec<u8>, FormatError> {
        let bytes = self.layout();
        Artifact::parse(&bytes)?;
        Ok(bytes)
    }

    /// The bytes, right or wrong.
    pub(crate) fn layout(self) -> Vec<u8> {
        let section = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        let mut sections = Vec::from([
            (kind::DIMS, section(&|out| self.dims.write(out))),
            (
                kind::IO,
                section(&|out| {
                    ports::write(&self.inputs, out);
                    ports::write(&self.outputs, out);
                }),
            ),
            (kind::BUFFERS, section(&|out| buffers::write(self.n_slots, &self.buffers, out))),
            (kind::CONSTS, section(&|out| consts::write(&self.consts, out))),
            (
                kind::CODE,
                section(&|out| {
                    put_count(out, self.code.len());
                    self.code.iter().for_each(|inst| inst.write(out));
                }),
            ),
            (kind::DATA, self.data),
        ]);
        if let Some(meta) = &self.meta {
            sections.push((kind::META, section(&|out| meta.write(out))));
        }
        if let Some(ir) = self.ir {
            sections.push((kind::IR, ir));
        }
        assemble(&sections)
    }
}

/// The file made of these sections, given in ascending order of their kinds.
pub(crate) fn assemble(sections: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let table_bytes = sections.len().saturating_mul(ENTRY_BYTES);
    let mut table = Vec::with_capacity(table_bytes);
    let mut end = HEADER_BYTES.saturating_add(table_bytes);
    for (kind, bytes) in sections {
        let start = end.next_multiple_of(ALIGN);
        put_u32(&mut table, *kind);
        put_u32(&mut table, crc::crc32(bytes));
        put_u64(&mut table, to_u64(start));
        put_u64(&mut table, to_u64(bytes.len()));
        put_u64(&mut table, 0);
        end = start.saturating_add(bytes.len());
    }
    let mut out = Vec::with_capacity(end);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.0.to_le_bytes());
    out.extend_from_slice(&VERSION.1.to_le_bytes());
    put_u64(&mut out, to_u64(end));
    put_count(&mut out, sections.len());
    out.resize(HEADER_BYTES, 0);
    out.extend_from_slice(&table);
    for (_, bytes) in sections {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        out.extend_from_slice(bytes);
    }
    out
}

/// A table index as it is stored; one that is too large becomes one that no reader accepts.
fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
