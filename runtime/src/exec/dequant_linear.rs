//! `dequant_linear`: a float product with weights that are stored in few bits.

use bitc_format::inst::DequantLinear;

use super::quantized::{shape_of, weights};
use crate::RunError;
use crate::arena;
use crate::bind::Binding;
use crate::frame::Frame;
use crate::kernels::FewBits;
use crate::program::Program;

/// Bytes to work in.
pub(crate) fn scratch_len(inst: &DequantLinear, program: &Program, binding: &Binding) -> usize {
    let (x, w) = (shape_of(inst.x, program, binding), shape_of(inst.w, program, binding));
    let rows = x.split_last().map_or(0, |(_, outer)| outer.iter().product());
    let &[n, k] = w else { return 0 };
    FewBits::packed_len(rows, k, n).saturating_mul(size_of::<f32>())
}

pub(crate) fn dequant_linear(frame: &mut Frame<'_, '_>, inst: &DequantLinear) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [f32], scratch| {
        let x = frame.array::<f32>(inst.x)?.data;
        let [n, k] = frame.shape(inst.w)[..] else { return Err(RunError::ProgramChanged) };
        let (layout, w) = weights(frame, inst.w)?;
        let bias = frame.optional::<f32>(inst.bias)?;
        let scale = frame.array::<f32>(inst.scale)?;
        let (scale_columns, scale) = (scale.shape.last_or_one(), scale.data);
        let (group, activation) = (inst.group as usize, inst.activation);
        let product = FewBits { x, layout, w, n, k, scale, scale_columns, group, bias, activation };
        // The memory of the session may be larger than this instruction asked for.
        let len = FewBits::packed_len(y.len() / n, k, n);
        let packed: &mut [f32] = arena::elements_mut(scratch.bytes_mut()).ok_or(RunError::ProgramChanged)?;
        let packed = packed.get_mut(..len).ok_or(RunError::ProgramChanged)?;
        frame.kernels.few_bits(product, packed, y);
        Ok(())
    })
}
