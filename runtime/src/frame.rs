//! What an instruction sees while it runs: its operands as typed slices.
//!
//! Every slot is memory of its own, so that the destination can be held exclusively and the sources shared: the
//! destination is taken out of its place, filled, and put back.

use core::mem;

use bitc_format::{BufferId, DType, Operand};

use crate::arena::{self, AlignedBytes, Pod};
use crate::bind::Binding;
use crate::extents::Extents;
use crate::kernels::Kernels;
use crate::program::{Place, Program};
use crate::{RunError, View, ViewMut};

/// A copy of a port's array, where the array itself cannot be used.
#[derive(Default)]
pub(crate) struct Staged {
    /// Whether this run uses the copy.
    pub(crate) active: bool,
    pub(crate) memory: AlignedBytes,
}

impl Staged {
    /// Decides whether an array of that type can be used as it is, and makes room for a copy of `len` bytes if not.
    pub(crate) fn prepare(&mut self, port: DType, array: DType, bytes: &[u8], len: usize) -> Result<(), RunError> {
        let align = port.size_bytes().unwrap_or(1);
        self.active = port != array || bytes.as_ptr().align_offset(align) != 0;
        if self.active { self.memory.reserve(len) } else { Ok(()) }
    }
}

/// The memory of one run.
pub(crate) struct Frame<'r, 'v> {
    pub(crate) program: &'r Program,
    /// The bytes of the program.
    pub(crate) bytes: &'r [u8],
    pub(crate) binding: &'r Binding,
    pub(crate) kernels: &'static dyn Kernels,
    pub(crate) slots: &'r mut [AlignedBytes],
    pub(crate) inputs: &'r [View<'r>],
    pub(crate) staged_inputs: &'r [Staged],
    pub(crate) outputs: &'r mut [ViewMut<'v>],
    pub(crate) staged_outputs: &'r mut [Staged],
    pub(crate) scratch: &'r mut AlignedBytes,
    /// The number of the instruction that runs.
    pub(crate) index: usize,
}

/// Elements to read, and their shape.
#[derive(Clone, Copy)]
pub(crate) struct Array<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) shape: &'a Extents,
}

/// Memory taken out of its place.
pub(crate) enum Taken<'v> {
    Arena(AlignedBytes),
    Caller(&'v mut [u8]),
}

impl Taken<'_> {
    /// The first `len_bytes` of it as elements.
    pub(crate) fn elements<T: Pod>(&mut self, len_bytes: usize) -> Result<&mut [T], RunError> {
        let bytes = match self {
            Taken::Arena(memory) => memory.bytes_mut(),
            Taken::Caller(bytes) => bytes,
        };
        bytes.get_mut(..len_bytes).and_then(arena::elements_mut).ok_or(RunError::ProgramChanged)
    }
}

impl<'v> Frame<'_, 'v> {
    /// The shape of an operand.
    pub(crate) fn shape(&self, operand: impl Into<Operand>) -> &Extents {
        let (shapes, index) = match operand.into() {
            Operand::Buffer(id) => (&self.binding.shapes[..], id.index()),
            Operand::Const(id) => (self.program.const_shapes(), id.index()),
        };
        &shapes[index]
    }

    /// The type of an operand.
    pub(crate) fn dtype(&self, operand: impl Into<Operand>) -> DType {
        match operand.into() {
            Operand::Buffer(id) => self.program.contents().buffers()[id.index()].dtype,
            Operand::Const(id) => self.program.contents().consts()[id.index()].dtype,
        }
    }

    /// The length in bytes of a buffer.
    pub(crate) fn len(&self, id: BufferId) -> usize {
        self.binding.lens[id.index()]
    }

    /// The value of a dimension that is an attribute.
    #[cfg(not(feature = "minimal"))]
    pub(crate) fn value(&self, dim: bitc_format::DimId) -> i64 {
        self.binding.value(dim)
    }

    /// The bytes of an operand.
    pub(crate) fn bytes(&self, operand: impl Into<Operand>) -> Result<&[u8], RunError> {
        let (bytes, range) = match operand.into() {
            Operand::Const(id) => {
                let contents = self.program.contents();
                (self.bytes, contents.const_range(&contents.consts()[id.index()]))
            }
            Operand::Buffer(id) => {
                let bytes = match self.program.place(id) {
                    (slot, Place::Arena) => self.slots[slot].bytes(),
                    (_, Place::Input(i)) if self.staged_inputs[i].active => self.staged_inputs[i].memory.bytes(),
                    (_, Place::Input(i)) => self.inputs[i].bytes,
                    (_, Place::Output(i)) if self.staged_outputs[i].active => self.staged_outputs[i].memory.bytes(),
                    (_, Place::Output(i)) => self.outputs[i].bytes,
                };
                (bytes, 0..self.len(id))
            }
        };
        bytes.get(range).ok_or(RunError::ProgramChanged)
    }

    /// The caller's array where an operand is one that is read as it was given.
    pub(crate) fn given(&self, operand: Operand) -> Option<&View<'_>> {
        let Operand::Buffer(id) = operand else { return None };
        match self.program.place(id) {
            (_, Place::Input(i)) if !self.staged_inputs[i].active => Some(&self.inputs[i]),
            _ => None,
        }
    }

    /// The elements of an operand.
    pub(crate) fn array<T: Pod>(&self, operand: impl Into<Operand>) -> Result<Array<'_, T>, RunError> {
        let operand = operand.into();
        let data = arena::elements(self.bytes(operand)?).ok_or(RunError::ProgramChanged)?;
        Ok(Array { data, shape: self.shape(operand) })
    }

    /// The elements of an operand that may not be there.
    pub(crate) fn optional<T: Pod>(&self, operand: Option<Operand>) -> Result<Option<&[T]>, RunError> {
        operand.map(|o| self.array(o).map(|a| a.data)).transpose()
    }

    /// Takes the memory of a buffer out of its place, to be given back by [`Frame::put`].
    pub(crate) fn take(&mut self, id: BufferId) -> Taken<'v> {
        match self.program.place(id) {
            (slot, Place::Arena) => Taken::Arena(mem::take(&mut self.slots[slot])),
            (_, Place::Output(i)) if !self.staged_outputs[i].active => {
                Taken::Caller(mem::take(&mut self.outputs[i].bytes))
            }
            (_, Place::Output(i)) => Taken::Arena(mem::take(&mut self.staged_outputs[i].memory)),
            (_, Place::Input(_)) => Taken::Caller(Default::default()),
        }
    }

    /// Gives back what [`Frame::take`] took.
    pub(crate) fn put(&mut self, id: BufferId, taken: Taken<'v>) {
        match (self.program.place(id), taken) {
            ((slot, Place::Arena), Taken::Arena(memory)) => self.slots[slot] = memory,
            ((_, Place::Output(i)), Taken::Caller(bytes)) => self.outputs[i].bytes = bytes,
            ((_, Place::Output(i)), Taken::Arena(memory)) => self.staged_outputs[i].memory = memory,
            _ => {}
        }
    }

    /// Fills a buffer: `fill` sees the rest of the frame and the elements of the buffer.
    pub(crate) fn fill<T: Pod>(
        &mut self,
        id: BufferId,
        fill: impl FnOnce(&Self, &mut [T]) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let mut taken = self.take(id);
        let result = taken.elements(self.len(id)).and_then(|elements| fill(self, elements));
        self.put(id, taken);
        result
    }

    /// Fills a buffer with the help of scratch memory.
    pub(crate) fn fill_with_scratch<T: Pod>(
        &mut self,
        id: BufferId,
        fill: impl FnOnce(&Self, &mut [T], &mut AlignedBytes) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let mut scratch = mem::take(self.scratch);
        let result = self.fill(id, |frame, elements| fill(frame, elements, &mut scratch));
        *self.scratch = scratch;
        result
    }
}
