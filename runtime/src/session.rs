//! A session: the memory that one caller runs a program in.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use alloc::{vec, vec::Vec};

use bitc_format::{DType, Inst};

use crate::arena::AlignedBytes;
use crate::bind::Binding;
use crate::frame::{Frame, Staged};
use crate::kernels::{self, Kernels};
use crate::program::{Port, Program};
#[cfg(not(feature = "minimal"))]
use crate::trace::Trace;
use crate::{RunError, View, ViewMut, convert, exec, view};

/// How many combinations of input sizes are remembered.
const MAX_BINDINGS: usize = 8;

/// Runs a program. It keeps the memory between runs, so that a run with sizes that were seen before allocates nothing.
pub struct Session<'p> {
    program: &'p Program,
    kernels: &'static dyn Kernels,
    symbols: Vec<Option<u64>>,
    bindings: Vec<Binding>,
    /// Where the next binding goes when all places are taken.
    oldest: usize,
    slots: Vec<AlignedBytes>,
    scratch: AlignedBytes,
    staged_inputs: Vec<Staged>,
    staged_outputs: Vec<Staged>,
}

impl<'p> Session<'p> {
    /// A session with the fastest kernels of this machine.
    pub fn new(program: &'p Program) -> Self {
        Self::with_kernels(program, kernels::best())
    }

    /// A session with these kernels.
    pub fn with_kernels(program: &'p Program, kernels: &'static dyn Kernels) -> Self {
        let slots = core::iter::repeat_with(AlignedBytes::default).take(program.places().len()).collect();
        let staged = |n: usize| core::iter::repeat_with(Staged::default).take(n).collect();
        Self {
            program,
            kernels,
            symbols: vec![None; program.symbols().len()],
            bindings: Vec::with_capacity(MAX_BINDINGS),
            oldest: 0,
            slots,
            scratch: AlignedBytes::default(),
            staged_inputs: staged(program.inputs().len()),
            staged_outputs: staged(program.outputs().len()),
        }
    }

    /// The program that it runs.
    pub fn program(&self) -> &'p Program {
        self.program
    }

    /// The name of the kernels that it uses.
    pub fn kernels(&self) -> &'static str {
        self.kernels.name()
    }

    /// Runs the program. The inputs are read in place, the outputs are written in place, wherever type and alignment of
    /// the arrays allow it; otherwise they are converted.
    ///
    /// # Errors
    ///
    /// When an array does not fit its port, when the program cannot run with these sizes, or when memory is short.
    pub fn run(&mut self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<(), RunError> {
        self.execute(inputs, outputs, &mut exec::run)
    }

    /// Runs the program and shows every instruction with what it computed.
    ///
    /// # Errors
    ///
    /// As [`Session::run`].
    #[cfg(not(feature = "minimal"))]
    pub fn run_traced(
        &mut self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        trace: &mut dyn Trace,
    ) -> Result<(), RunError> {
        self.execute(inputs, outputs, &mut |frame, inst| {
            let start = std::time::Instant::now();
            exec::run(frame, inst)?;
            crate::trace::show(frame, inst, start.elapsed(), trace)
        })
    }

    /// The shapes of the outputs for inputs of these shapes.
    ///
    /// # Errors
    ///
    /// When an input does not fit its port, or the program cannot run with these sizes.
    pub fn output_shapes(&mut self, inputs: &[View<'_>]) -> Result<Vec<Vec<usize>>, RunError> {
        self.bind_symbols(inputs)?;
        let binding = self.find_binding()?;
        let shape = |port: &Port| {
            let binding = self.bindings.get(binding);
            binding.and_then(|b| b.shapes.get(port.buffer.index())).map(|s| s.to_vec()).unwrap_or_default()
        };
        Ok(self.program.outputs().iter().map(shape).collect())
    }

    /// Runs the program, each instruction by `run`.
    fn execute(
        &mut self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        run: &mut dyn FnMut(&mut Frame<'_, '_>, &Inst) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let program = self.program;
        let (expected, found) = (program.outputs().len(), outputs.len());
        if expected != found {
            return Err(RunError::Count { what: "output", expected, found });
        }
        self.bind_symbols(inputs)?;
        let binding = self.find_binding()?;
        let Some(binding) = self.bindings.get(binding) else { return Err(RunError::ProgramChanged) };
        for ((i, port), array) in program.inputs().iter().enumerate().zip(inputs) {
            if array.words && !program.is_logic_input(i) {
                return Err(RunError::Words { port: port.name.clone() });
            }
            check_array(port, binding, array.shape, array.len_bytes(), array.bytes.len())?;
        }
        for (port, array) in program.outputs().iter().zip(&*outputs) {
            check_type(port, array.dtype)?;
            check_array(port, binding, array.shape, view::len_bytes(array.dtype, array.shape), array.bytes.len())?;
        }
        for (slot, &len) in self.slots.iter_mut().zip(&binding.slot_lens) {
            slot.reserve(len)?;
        }
        self.scratch.reserve(binding.scratch_len)?;
        let staged_inputs = self.staged_inputs.iter_mut().zip(program.inputs()).zip(inputs);
        for (i, ((staged, port), array)) in staged_inputs.enumerate() {
            // A logic network takes bits in every form, and anything but 0 as 1.
            if program.is_logic_input(i) {
                staged.active = false;
                continue;
            }
            // The bytes of a caller's `bool` may be anything; the copy has 0 and 1 only.
            let array_type = if array.dtype == DType::Bool { DType::U8 } else { array.dtype };
            staged.prepare(port.dtype, array_type, array.bytes, binding.len(port.buffer))?;
            if staged.active {
                let row = array.shape.last().copied().unwrap_or(1);
                convert::port(port.dtype, staged.memory.bytes_mut(), array.dtype, array.bytes, row);
            }
        }
        for ((staged, port), array) in self.staged_outputs.iter_mut().zip(program.outputs()).zip(&*outputs) {
            staged.prepare(port.dtype, array.dtype, array.bytes, binding.len(port.buffer))?;
        }

        let mut frame = Frame {
            program,
            bytes: program.bytes(),
            binding,
            kernels: self.kernels,
            slots: &mut self.slots,
            inputs,
            staged_inputs: &self.staged_inputs,
            outputs,
            staged_outputs: &mut self.staged_outputs,
            scratch: &mut self.scratch,
            index: 0,
        };
        for (index, inst) in program.code().iter().enumerate() {
            frame.index = index;
            run(&mut frame, inst)?;
        }

        for ((staged, port), array) in self.staged_outputs.iter().zip(program.outputs()).zip(outputs) {
            if staged.active {
                let row = array.shape.last().copied().unwrap_or(1);
                convert::port(array.dtype, array.bytes, port.dtype, staged.memory.bytes(), row);
            }
        }
        Ok(())
    }

    /// Finds the values of the symbols in the shapes of the inputs.
    fn bind_symbols(&mut self, inputs: &[View<'_>]) -> Result<(), RunError> {
        let (expected, found) = (self.program.inputs().len(), inputs.len());
        if expected != found {
            return Err(RunError::Count { what: "input", expected, found });
        }
        self.symbols.fill(None);
        let contents = self.program.contents();
        for (port, array) in self.program.inputs().iter().zip(inputs) {
            check_type(port, array.dtype)?;
            let dims = contents.buffers().get(port.buffer.index()).map(|b| b.dims.as_slice()).unwrap_or_default();
            if dims.len() != array.shape.len() {
                let (expected, found) = (dims.len(), array.shape.len());
                return Err(RunError::Rank { port: port.name.clone(), expected, found });
            }
            for (axis, (&dim, &size)) in dims.iter().zip(array.shape).enumerate() {
                let symbol = contents.dims().as_symbol(dim).and_then(|s| self.symbols.get_mut(s.index()));
                let Some(symbol) = symbol else { continue };
                let expected = *symbol.get_or_insert(size as u64);
                if expected != size as u64 {
                    let expected = i64::try_from(expected).unwrap_or(i64::MAX);
                    return Err(RunError::Shape { port: port.name.clone(), axis, expected, found: size });
                }
            }
        }
        Ok(())
    }

    /// The index of the binding for the present values of the symbols, made now if it is new.
    fn find_binding(&mut self) -> Result<usize, RunError> {
        if let Some(known) = self.bindings.iter().position(|b| b.symbols == self.symbols) {
            return Ok(known);
        }
        let binding = Binding::new(self.program, &self.symbols, self.kernels.threads())?;
        if self.bindings.len() < MAX_BINDINGS {
            self.bindings.push(binding);
            return Ok(self.bindings.len() - 1);
        }
        let place = self.oldest;
        self.oldest = (place + 1) % MAX_BINDINGS;
        if let Some(old) = self.bindings.get_mut(place) {
            *old = binding;
        }
        Ok(place)
    }
}

impl core::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("program", self.program).field("kernels", &self.kernels.name()).finish()
    }
}

fn check_type(port: &Port, found: DType) -> Result<(), RunError> {
    if port.accepts.contains(found) {
        return Ok(());
    }
    Err(RunError::Type { port: port.name.clone(), accepts: port.accepts.iter().collect(), found })
}

fn check_array(
    port: &Port,
    binding: &Binding,
    shape: &[usize],
    expected_len: Option<usize>,
    len: usize,
) -> Result<(), RunError> {
    let expected = binding.shapes.get(port.buffer.index()).map(|s| &**s).unwrap_or_default();
    if expected.len() != shape.len() {
        let (expected, found) = (expected.len(), shape.len());
        return Err(RunError::Rank { port: port.name.clone(), expected, found });
    }
    for (axis, (&expected, &found)) in expected.iter().zip(shape).enumerate() {
        if expected != found {
            let expected = i64::try_from(expected).unwrap_or(i64::MAX);
            return Err(RunError::Shape { port: port.name.clone(), axis, expected, found });
        }
    }
    if expected_len == Some(len) {
        return Ok(());
    }
    Err(RunError::Length { port: port.name.clone(), expected: expected_len, found: len })
}
