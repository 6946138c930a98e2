//! Execution: one exhaustive match over the instructions, one function each in the file of the family.
//!
//! By now the artifact was checked and the sizes are bound, so an instruction has nothing left to check but values that
//! are computed while running, such as indices.

#[cfg(not(feature = "minimal"))]
use alloc::vec::Vec;

use bitc_format::Inst;

use crate::RunError;
use crate::bind::Binding;
use crate::frame::Frame;
use crate::program::Program;

mod bit_linear;
mod conv;
#[cfg(not(feature = "minimal"))]
mod dense;
#[cfg(not(feature = "minimal"))]
mod dequant_linear;
mod elementwise;
#[cfg(not(feature = "minimal"))]
mod index;
mod logic;
#[cfg(not(feature = "minimal"))]
mod moves;
#[cfg(not(feature = "minimal"))]
mod norm;
mod quantized;

/// Bytes of scratch memory that the instruction works in, on that many threads.
pub(crate) fn scratch_len(inst: &Inst, program: &Program, binding: &Binding, threads: usize) -> usize {
    match inst {
        Inst::Map(inst) => elementwise::map_scratch(inst),
        Inst::BitConv2d(inst) => conv::scratch_len(inst, program, binding),
        Inst::BitConv2dQuantize(inst) => conv::scratch_len(&inst.layer, program, binding),
        Inst::Logic(inst) => logic::scratch_len(inst, program, threads),
        #[cfg(not(feature = "minimal"))]
        Inst::Matmul(inst) => dense::matmul_scratch(inst, program, binding),
        #[cfg(not(feature = "minimal"))]
        Inst::DequantLinear(inst) => dequant_linear::scratch_len(inst, program, binding),
        #[cfg(not(feature = "minimal"))]
        Inst::Conv2d(inst) => dense::conv_scratch(inst, program, binding),
        #[cfg(not(feature = "minimal"))]
        Inst::TopK(inst) => index::top_k_scratch(inst, program, binding),
        Inst::BitLinear(inst) => bit_linear::scratch_len(inst, program, binding),
        _ => 0,
    }
}

/// Runs one instruction.
pub(crate) fn run(frame: &mut Frame<'_, '_>, inst: &Inst) -> Result<(), RunError> {
    let mut writes_something = false;
    inst.each(&mut |access| {
        if let bitc_format::inst::Access::Write(id) = access {
            writes_something |= frame.len(id) > 0;
        }
    });
    if !writes_something {
        return Ok(());
    }
    match inst {
        Inst::Map(inst) => elementwise::map(frame, inst),
        Inst::Cast(inst) => elementwise::cast(frame, inst),
        Inst::Quantize(inst) => quantized::quantize(frame, inst),
        Inst::BitLinear(inst) => bit_linear::bit_linear(frame, inst),
        Inst::BitLinearQuantize(inst) => bit_linear::bit_linear_quantize(frame, inst),
        Inst::BitConv2d(inst) => conv::bit_conv2d(frame, inst),
        Inst::BitConv2dQuantize(inst) => conv::bit_conv2d_quantize(frame, inst),
        Inst::Logic(inst) => logic::logic(frame, inst),
        // The reader lets no other instruction through.
        #[cfg(feature = "minimal")]
        _ => Err(RunError::ProgramChanged),
        #[cfg(not(feature = "minimal"))]
        Inst::Transpose(inst) => moves::transpose(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Concat(inst) => moves::concat(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Slice(inst) => moves::slice(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Pad(inst) => moves::pad(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Expand(inst) => moves::expand(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::BitCast(inst) => moves::bit_cast(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Reduce(inst) => norm::reduce(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::ArgReduce(inst) => index::arg_reduce(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Softmax(inst) => norm::softmax(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::LayerNorm(inst) => norm::layer_norm(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::RmsNorm(inst) => norm::rms_norm(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Matmul(inst) => dense::matmul(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::DequantLinear(inst) => dequant_linear::dequant_linear(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Conv2d(inst) => dense::conv2d(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Pool2d(inst) => dense::pool2d(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Gather(inst) => index::gather(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Pick(inst) => index::pick(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Scatter(inst) => index::scatter(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::TopK(inst) => index::top_k(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Scan(inst) => norm::scan(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Iota(inst) => moves::iota(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Inst::Sizes(inst) => moves::sizes(frame, inst),
    }
}

/// The exact integer sums behind a quantised product, for [`crate::Trace`].
#[cfg(not(feature = "minimal"))]
pub(crate) fn accumulators(frame: &Frame<'_, '_>, inst: &Inst) -> Result<Option<Vec<i32>>, RunError> {
    match inst {
        Inst::BitLinear(inst) => bit_linear::linear_accumulators(frame, inst),
        Inst::BitLinearQuantize(inst) => bit_linear::linear_accumulators(frame, &inst.layer),
        Inst::BitConv2d(inst) => conv::accumulators(frame, inst),
        Inst::BitConv2dQuantize(inst) => conv::accumulators(frame, &inst.layer),
        _ => Ok(None),
    }
}
