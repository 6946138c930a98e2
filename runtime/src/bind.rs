//! Binding: from the sizes of the inputs to the sizes of everything.
//!
//! A binding is made once per combination of sizes. It repeats the contracts of all instructions with the numbers that
//! are known now, so that running them has nothing left to check.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::{vec, vec::Vec};

use bitc_format::{ErrorKind, FormatError};

use crate::extents::Extents;
use crate::program::{Place, Program};
use crate::{RunError, exec};

/// The sizes of everything for one combination of symbol values.
pub(crate) struct Binding {
    /// The value of every symbol.
    pub(crate) symbols: Vec<Option<u64>>,
    /// The value of every dimension expression.
    pub(crate) values: Vec<i64>,
    /// The shape of every buffer.
    pub(crate) shapes: Vec<Extents>,
    /// The length in bytes of every buffer.
    pub(crate) lens: Vec<usize>,
    /// The bytes that every slot of the arena needs; 0 for those that are ports.
    pub(crate) slot_lens: Vec<usize>,
    /// The bytes that the instruction with the largest need works in.
    pub(crate) scratch_len: usize,
}

impl Binding {
    /// The sizes under these values of the symbols, for kernels on that many threads.
    pub(crate) fn new(program: &Program, symbols: &[Option<u64>], threads: usize) -> Result<Self, RunError> {
        let contents = program.contents();
        let known = contents.dims().evaluate(symbols).map_err(RunError::Sizes)?;
        contents.check(&known).map_err(RunError::Sizes)?;
        let values: Vec<i64> = known.iter().map(|v| v.unwrap_or(0)).collect();
        let mut binding = Self {
            symbols: symbols.to_vec(),
            values,
            shapes: Vec::with_capacity(contents.buffers().len()),
            lens: Vec::with_capacity(contents.buffers().len()),
            slot_lens: vec![0; contents.n_slots()],
            scratch_len: 0,
        };
        for (index, buffer) in (0u32..).zip(contents.buffers()) {
            let error = || RunError::Sizes(FormatError { kind: ErrorKind::Size { what: "buffer", index }, offset: 0 });
            let len = buffer.len_bytes(&known).ok().flatten().and_then(|len| usize::try_from(len).ok());
            let len = len.ok_or_else(error)?;
            let dim = |d: &bitc_format::DimId| {
                binding.values.get(d.index()).and_then(|&v| usize::try_from(v).ok()).ok_or_else(error)
            };
            let dims = buffer.dims.iter().map(dim).collect::<Result<Vec<_>, _>>()?;
            let shape = Extents::checked(&dims).ok_or_else(error)?;
            binding.shapes.push(shape);
            binding.lens.push(len);
            let slot = buffer.slot.index();
            if program.places().get(slot) == Some(&Place::Arena)
                && let Some(slot_len) = binding.slot_lens.get_mut(slot)
            {
                *slot_len = len.max(*slot_len);
            }
        }
        let scratch = program.code().iter().map(|inst| exec::scratch_len(inst, program, &binding, threads)).max();
        binding.scratch_len = scratch.unwrap_or(0);
        let (bytes, limit) = (binding.arena_bytes(), program.limits().arena_bytes);
        if bytes > limit { Err(RunError::Limit { bytes, limit }) } else { Ok(binding) }
    }

    /// The memory that a run with these sizes needs.
    fn arena_bytes(&self) -> u64 {
        let lens = self.slot_lens.iter().chain([&self.scratch_len]);
        lens.fold(0u64, |sum, &len| sum.saturating_add((len as u64).saturating_add(63)))
    }

    /// The length in bytes of a buffer.
    pub(crate) fn len(&self, id: bitc_format::BufferId) -> usize {
        self.lens.get(id.index()).copied().unwrap_or(0)
    }

    /// The value of a dimension that is an attribute.
    #[cfg(not(feature = "minimal"))]
    pub(crate) fn value(&self, dim: bitc_format::DimId) -> i64 {
        self.values.get(dim.index()).copied().unwrap_or(0)
    }
}
