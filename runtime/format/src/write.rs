//! The writer: collects tables, lays out the file, and checks the result by reading it.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::cursor::{put_count, to_u64};
use crate::image::{Image, Pieces, Shared};
use crate::read::kind;
use crate::{
    Artifact, Buffer, BufferId, Const, ConstId, Contents, DType, DTypeSet, DimExpr, DimId, Dims, FormatError, Inst,
    Layout, Meta, Note, Port, SlotId, SymbolId, buffers, consts, notes, ports,
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
    data: Pieces,
    pub(crate) code: Vec<Inst>,
    meta: Option<Meta>,
    ir: Option<Vec<u8>>,
    notes: Vec<Note>,
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
        self.shared_constant(dtype, layout, shape, Shared::new(bytes.to_vec()))
    }

    /// As [`ArtifactWriter::constant`], with bytes that are not copied until the file is written.
    pub fn shared_constant(&mut self, dtype: DType, layout: Layout, shape: &[u64], bytes: Shared) -> ConstId {
        self.data.align();
        let (offset, len_bytes) = (to_u64(self.data.len()), to_u64(bytes.bytes().len()));
        self.data.push(bytes);
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

    /// A remark for who uses the artifact.
    pub fn note(&mut self, key: &str, value: &str) {
        self.notes.push((key.to_string(), value.to_string()));
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
        let bytes = self.layout().to_bytes();
        Artifact::parse(&bytes)?;
        Ok(bytes)
    }

    /// The artifact in pieces, with constants where their owners have them.
    ///
    /// # Errors
    ///
    /// What [`Artifact::parse`] says about the bytes.
    pub fn image(self) -> Result<Image, FormatError> {
        let image = self.layout();
        Contents::read(image.sections(), &|range| image.part(range))?;
        Ok(image)
    }

    /// The file, right or wrong.
    pub(crate) fn layout(self) -> Image {
        let section = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            Pieces::from(out)
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
            sections.push((kind::IR, ir.into()));
        }
        if !self.notes.is_empty() {
            sections.push((kind::NOTES, section(&|out| notes::write(&self.notes, out))));
        }
        Image::assemble(sections)
    }
}

/// A table index as it is stored; one that is too large becomes one that no reader accepts.
fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
