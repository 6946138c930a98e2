//! `logic`: networks of lookup tables over bits.

use bitc_format::inst::{Logic, LogicHead};
use bitc_format::{DType, logic};

use crate::RunError;
use crate::arena;
use crate::frame::Frame;
use crate::kernels::{LogicInput, LogicOutput, logic_scratch_words};
use crate::program::Program;

/// Bytes of scratch memory for that many threads.
pub(crate) fn scratch_len(inst: &Logic, program: &Program, threads: usize) -> usize {
    let words = network(inst, program).and_then(logic_scratch_words).and_then(|words| words.checked_mul(threads));
    words.and_then(|words| words.checked_mul(8)).unwrap_or(usize::MAX)
}

/// The program that the instruction runs.
fn network<'p>(inst: &Logic, program: &'p Program) -> Option<&'p logic::Program> {
    match inst.program {
        bitc_format::Operand::Const(id) => program.contents().network(id),
        bitc_format::Operand::Buffer(_) => None,
    }
}

pub(crate) fn logic(frame: &mut Frame<'_, '_>, inst: &Logic) -> Result<(), RunError> {
    let bits = frame.dtype(inst.y) == DType::Bits;
    let &Logic { tau, beta, .. } = inst;
    match inst.head {
        LogicHead::Bits if bits => run(frame, inst, |y| LogicOutput::Bits(y)),
        LogicHead::Bits => run(frame, inst, |y| LogicOutput::Bytes(y)),
        LogicHead::Scores => run(frame, inst, |y| LogicOutput::Scores { y, tau, beta }),
        LogicHead::Argmax => run(frame, inst, |y| LogicOutput::Argmax { y, tau, beta }),
    }
}

fn run<T: arena::Pod>(
    frame: &mut Frame<'_, '_>,
    inst: &Logic,
    output: impl FnOnce(&mut [T]) -> LogicOutput<'_>,
) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [T], scratch| {
        let program = network(inst, frame.program).ok_or(RunError::ProgramChanged)?;
        let scratch = arena::elements_mut::<u64>(scratch.bytes_mut()).ok_or(RunError::ProgramChanged)?;
        let rows = frame.shape(inst.x).rows();
        frame.kernels.logic(program, input(frame, inst)?, output(y), rows, scratch);
        Ok(())
    })
}

/// The rows, in the form in which they are there.
fn input<'f>(frame: &'f Frame<'_, '_>, inst: &Logic) -> Result<LogicInput<'f>, RunError> {
    if let (Some(features), Some(thresholds)) = (inst.features, inst.thresholds) {
        let x = frame.array::<f32>(inst.x)?;
        let (features, thresholds) = (frame.array(features)?.data, frame.array(thresholds)?.data);
        return Ok(LogicInput::Floats { x: x.data, n_features: x.shape.last_or_one(), features, thresholds });
    }
    let Some(given) = frame.given(inst.x) else {
        let bytes = frame.bytes(inst.x)?;
        let bits = frame.dtype(inst.x) == DType::Bits;
        return Ok(if bits { LogicInput::Bits(bytes) } else { LogicInput::Bytes(bytes) });
    };
    Ok(match given.dtype {
        DType::Bits if given.words => {
            let words = arena::elements::<u64>(given.bytes).ok_or(RunError::ProgramChanged)?;
            LogicInput::Packed(words.as_chunks().0)
        }
        DType::Bits => LogicInput::Bits(given.bytes),
        _ => LogicInput::Bytes(given.bytes),
    })
}
