//! A look at every instruction as it runs, for profiles and for comparing a program with its reference.

use alloc::string::String;
use alloc::vec::Vec;
use std::time::Duration;

use bitc_format::{BufferId, Inst};

use crate::frame::Frame;
use crate::{RunError, View, exec};

/// Is shown every instruction of a run.
pub trait Trace {
    /// An instruction was executed.
    fn executed(&mut self, step: &Executed<'_>);

    /// Whether [`Executed::accumulators`] is wanted; it costs the integer product a second time.
    fn wants_accumulators(&self) -> bool {
        false
    }
}

/// One executed instruction.
#[derive(Debug)]
pub struct Executed<'a> {
    /// Its number in the program.
    pub index: usize,
    /// The instruction.
    pub inst: &'a Inst,
    /// The names of the source nodes that it stands for.
    pub origins: &'a [String],
    /// How long it took.
    pub elapsed: Duration,
    /// What it wrote. The rows of a buffer with `row_align` above 1 are padded.
    pub outputs: Vec<(BufferId, View<'a>)>,
    /// The exact integer sums of a `bit_linear` (`[rows, outputs]`) or a `bit_conv2d` (`[images, groups, pixels, outputs
    /// of a group]`).
    pub accumulators: Option<Vec<i32>>,
}

/// Shows what the instruction that just ran has written.
pub(crate) fn show(
    frame: &Frame<'_, '_>,
    inst: &Inst,
    elapsed: Duration,
    trace: &mut dyn Trace,
) -> Result<(), RunError> {
    let contents = frame.program.contents();
    let mut outputs = Vec::new();
    for id in inst.writes() {
        outputs.push((id, View::new(frame.dtype(id), frame.shape(id), frame.bytes(id)?)));
    }
    let accumulators = if trace.wants_accumulators() { exec::accumulators(frame, inst)? } else { None };
    let origins = contents.meta().and_then(|meta| meta.origins.get(frame.index));
    let origins = origins.map(Vec::as_slice).unwrap_or_default();
    trace.executed(&Executed { index: frame.index, inst, origins, elapsed, outputs, accumulators });
    Ok(())
}
