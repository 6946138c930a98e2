//! A loaded program: a checked artifact together with the bytes of its constants.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::{vec, vec::Vec};

use bitc_format::{Artifact, BufferId, Contents, DType, DTypeSet, Inst};

use crate::arena::{ALIGN, AlignedBytes};
use crate::extents::Extents;
use crate::{LoadError, RunError};

/// What loading and running may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest artifact, in bytes.
    pub artifact_bytes: u64,
    /// The most memory for the buffers of one session, in bytes.
    pub arena_bytes: u64,
}

impl Default for Limits {
    /// 16 GiB each.
    fn default() -> Self {
        Self { artifact_bytes: 16 << 30, arena_bytes: 16 << 30 }
    }
}

/// One dimension of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortDim {
    /// Always this.
    Fixed(usize),
    /// Whatever the input has; the same for every dimension of that name.
    Symbol(String),
    /// Computed from the symbols.
    Computed,
}

/// An input or an output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The name, as in the source model.
    pub name: String,
    /// The type that needs no conversion.
    pub dtype: DType,
    /// All types that are accepted.
    pub accepts: DTypeSet,
    /// The dimensions, outermost first.
    pub shape: Vec<PortDim>,
    pub(crate) buffer: BufferId,
}

/// Where the memory of a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the arena of the session.
    Arena,
    /// The array of that input.
    Input(usize),
    /// The array of that output.
    Output(usize),
}

/// The bytes of an artifact, aligned to 64.
enum Bytes {
    Owned { memory: AlignedBytes, len: usize },
    Shared(Box<dyn AsRef<[u8]> + Send + Sync>),
}

/// A program that can be run: validated once, never changed, shared by any number of sessions.
pub struct Program {
    bytes: Bytes,
    contents: Contents,
    limits: Limits,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    places: Vec<Place>,
    const_shapes: Vec<Extents>,
    /// For each input whether logic networks are all that reads it.
    logic_inputs: Vec<bool>,
}

impl Program {
    /// Checks an artifact and copies it.
    ///
    /// # Errors
    ///
    /// When the bytes are no valid artifact, exceed the limits, or need an instruction this build leaves out.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        check_len(bytes.len(), limits)?;
        let contents = Artifact::parse(bytes)?.into_contents();
        let mut memory = AlignedBytes::default();
        let error = LoadError::OutOfMemory { bytes: bytes.len() as u64 };
        memory.reserve(bytes.len()).map_err(|_| error.clone())?;
        memory.bytes_mut().get_mut(..bytes.len()).ok_or(error)?.copy_from_slice(bytes);
        Self::new(Bytes::Owned { memory, len: bytes.len() }, contents, limits)
    }

    /// Checks an artifact that somebody else keeps, for example in a mapped file. It must not change while the program
    /// lives; it has to begin at a multiple of 64.
    ///
    /// # Errors
    ///
    /// As [`Program::from_bytes`], and when the address is not aligned.
    pub fn from_owner(owner: Box<dyn AsRef<[u8]> + Send + Sync>, limits: &Limits) -> Result<Self, LoadError> {
        let bytes = (*owner).as_ref();
        check_len(bytes.len(), limits)?;
        if bytes.as_ptr().align_offset(ALIGN) != 0 {
            return Err(LoadError::Unaligned);
        }
        let contents = Artifact::parse(bytes)?.into_contents();
        Self::new(Bytes::Shared(owner), contents, limits)
    }

    fn new(bytes: Bytes, contents: Contents, limits: &Limits) -> Result<Self, LoadError> {
        let mut places = vec![Place::Arena; contents.n_slots()];
        let inputs = ports(&contents, contents.inputs(), &mut places, Place::Input);
        let outputs = ports(&contents, contents.outputs(), &mut places, Place::Output);
        let const_shape = |c: &bitc_format::Const| {
            let dims: Option<Vec<usize>> = c.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
            dims.and_then(|dims| Extents::checked(&dims)).ok_or(LoadError::OutOfMemory { bytes: c.len_bytes })
        };
        let const_shapes = contents.consts().iter().map(const_shape).collect::<Result<_, _>>()?;
        let logic_inputs = logic_inputs(&contents, &inputs, &places);
        Ok(Self { bytes, contents, limits: *limits, inputs, outputs, places, const_shapes, logic_inputs })
    }

    /// The inputs, in the order of the model.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in the order of the model.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The tables of the artifact.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The bytes of the artifact.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned { memory, len } => memory.bytes().get(..*len).unwrap_or_default(),
            Bytes::Shared(owner) => (**owner).as_ref(),
        }
    }

    /// The section `ir` of the artifact, if it was kept.
    pub fn ir(&self) -> Option<&[u8]> {
        self.contents.ir_range().and_then(|range| self.bytes().get(range))
    }

    /// The names of the symbolic dimensions.
    pub fn symbols(&self) -> &[String] {
        self.contents.dims().symbols()
    }

    /// The symbol that counts the samples of a batch.
    pub fn batch_symbol(&self) -> Option<&str> {
        let symbol = self.contents.dims().batch()?;
        self.symbols().get(symbol.index()).map(String::as_str)
    }

    /// The shapes of the outputs when the symbols have these values.
    ///
    /// # Errors
    ///
    /// When a symbol that matters is missing or unknown, or a dimension is negative or overflows.
    pub fn output_shapes(&self, symbols: &[(&str, usize)]) -> Result<Vec<Vec<usize>>, RunError> {
        self.shapes(&self.outputs, symbols)
    }

    /// The shapes of the inputs when the symbols have these values.
    ///
    /// # Errors
    ///
    /// As [`Program::output_shapes`].
    pub fn input_shapes(&self, symbols: &[(&str, usize)]) -> Result<Vec<Vec<usize>>, RunError> {
        self.shapes(&self.inputs, symbols)
    }

    fn shapes(&self, ports: &[Port], symbols: &[(&str, usize)]) -> Result<Vec<Vec<usize>>, RunError> {
        let mut bound = vec![None; self.symbols().len()];
        for &(name, value) in symbols {
            let place = self.symbols().iter().position(|s| s == name).and_then(|i| bound.get_mut(i));
            let unknown = || RunError::Symbol { name: name.to_owned() };
            *place.ok_or_else(unknown)? = Some(u64::try_from(value).map_err(|_| unknown())?);
        }
        let values = self.contents.dims().evaluate(&bound).map_err(RunError::Sizes)?;
        let missing = || RunError::Symbol {
            name: self
                .symbols()
                .iter()
                .zip(&bound)
                .find(|(_, b)| b.is_none())
                .map(|(s, _)| s.clone())
                .unwrap_or_default(),
        };
        let shape = |port: &Port| {
            let dims = self.contents.buffers().get(port.buffer.index()).map(|b| b.dims.as_slice()).unwrap_or_default();
            dims.iter()
                .enumerate()
                .map(|(axis, d)| {
                    let value = values.get(d.index()).copied().flatten().ok_or_else(missing)?;
                    let error = || RunError::Shape { port: port.name.clone(), axis, expected: value, found: 0 };
                    usize::try_from(value).map_err(|_| error())
                })
                .collect()
        };
        ports.iter().map(shape).collect()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn place(&self, buffer: BufferId) -> (usize, Place) {
        let slot = self.contents.buffers().get(buffer.index()).map_or(usize::MAX, |b| b.slot.index());
        (slot, self.places.get(slot).copied().unwrap_or(Place::Arena))
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether an input is read by logic networks only, which take bits in every form.
    pub(crate) fn is_logic_input(&self, input: usize) -> bool {
        self.logic_inputs.get(input).copied().unwrap_or(false)
    }

    pub(crate) fn const_shapes(&self) -> &[Extents] {
        &self.const_shapes
    }

    pub(crate) fn code(&self) -> &[Inst] {
        self.contents.code()
    }
}

impl core::fmt::Debug for Program {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Program")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("instructions", &self.contents.code().len())
            .finish_non_exhaustive()
    }
}

fn check_len(len: usize, limits: &Limits) -> Result<(), LoadError> {
    let (bytes, limit) = (len as u64, limits.artifact_bytes);
    if bytes > limit { Err(LoadError::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// For each input whether it holds bits that only logic networks read, in the shape they were given in.
fn logic_inputs(contents: &Contents, inputs: &[Port], places: &[Place]) -> Vec<bool> {
    let mut only: Vec<bool> = inputs.iter().map(|port| matches!(port.dtype, DType::Bits | DType::Bool)).collect();
    for inst in contents.code() {
        let rows = match inst {
            Inst::Logic(inst) => Some(inst.x),
            _ => None,
        };
        for operand in inst.reads() {
            let bitc_format::Operand::Buffer(id) = operand else { continue };
            let slot = contents.buffers().get(id.index()).map_or(usize::MAX, |b| b.slot.index());
            if let Some(&Place::Input(i)) = places.get(slot)
                && (rows != Some(operand) || inputs.get(i).is_none_or(|port| port.buffer != id))
                && let Some(only) = only.get_mut(i)
            {
                *only = false;
            }
        }
    }
    only
}

/// The ports as the caller sees them; notes in `places` whose slot is whose.
fn ports(
    contents: &Contents,
    stored: &[bitc_format::Port],
    places: &mut [Place],
    place: fn(usize) -> Place,
) -> Vec<Port> {
    let dims = contents.dims();
    let fixed = dims.evaluate(&[]).unwrap_or_default();
    let mut ports = Vec::with_capacity(stored.len());
    for (i, port) in stored.iter().enumerate() {
        let Some(buffer) = contents.buffers().get(port.buffer.index()) else { continue };
        if let Some(slot) = places.get_mut(buffer.slot.index()) {
            *slot = place(i);
        }
        let dim = |&d: &bitc_format::DimId| {
            let symbol = dims.as_symbol(d).and_then(|s| dims.symbols().get(s.index()));
            match (symbol, fixed.get(d.index()).copied().flatten().map(usize::try_from)) {
                (Some(name), _) => PortDim::Symbol(name.clone()),
                (None, Some(Ok(n))) => PortDim::Fixed(n),
                _ => PortDim::Computed,
            }
        };
        let shape = buffer.dims.iter().map(dim).collect();
        let (name, accepts) = (port.name.clone(), port.accepts);
        ports.push(Port { name, dtype: buffer.dtype, accepts, shape, buffer: port.buffer });
    }
    ports
}
