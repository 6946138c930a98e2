//! `quantize`, and what layers of integers share.

use bitc_format::inst::{Granularity, Quantize};
use bitc_format::{DType, Layout, Operand};

use crate::RunError;
use crate::bind::Binding;
use crate::frame::{Frame, Taken};
use crate::kernels::{QuantizeRule, Quantized, Sharing};
use crate::program::Program;

pub(crate) fn quantize(frame: &mut Frame<'_, '_>, inst: &Quantize) -> Result<(), RunError> {
    let mut q = frame.take(inst.q);
    let mut scale = frame.take(inst.scale);
    let mut sums = inst.sums.map(|id| frame.take(id));
    let result = fill(frame, inst, &mut q, &mut scale, sums.as_mut());
    frame.put(inst.q, q);
    frame.put(inst.scale, scale);
    if let (Some(taken), Some(id)) = (sums, inst.sums) {
        frame.put(id, taken);
    }
    result
}

fn fill(
    frame: &Frame<'_, '_>,
    inst: &Quantize,
    q: &mut Taken<'_>,
    scale: &mut Taken<'_>,
    sums: Option<&mut Taken<'_>>,
) -> Result<(), RunError> {
    if frame.dtype(inst.x) == DType::I8 {
        return limit(frame, inst, q, scale, sums);
    }
    let x = frame.array::<f32>(inst.x)?;
    let q = q.elements::<i8>(frame.len(inst.q))?;
    let scale = scale.elements::<f32>(frame.len(inst.scale))?;
    let sums = match (sums, inst.sums) {
        (Some(taken), Some(id)) => Some(taken.elements::<i32>(frame.len(id))?),
        _ => None,
    };
    let (columns, rows) = (x.shape.last_or_one(), x.shape.rows());
    if x.data.is_empty() {
        // Values that do not exist have scales and sums all the same.
        let (mut one, rule) = ([0.0], QuantizeRule::from(inst));
        let out = Quantized { q: &mut [0; 64], pitch: 64, scale: &mut one, sums: None };
        frame.kernels.quantize(&[0.0], 1, &rule, Sharing::Rows(1), out);
        scale.fill(one[0]);
        if let Some(sums) = sums {
            sums.fill(0);
        }
        return Ok(());
    }
    let sharing = match inst.granularity {
        Granularity::Row => Sharing::Rows(1),
        // Axis 1 is the last one.
        Granularity::Channel if x.shape.len() == 2 => Sharing::Rows(1),
        Granularity::Tensor => Sharing::Rows(rows),
        Granularity::Channel => {
            let channels = x.shape[1];
            Sharing::Channels { channels, rows: rows / (x.shape[0] * channels) }
        }
    };
    let out = Quantized { pitch: q.len() / rows, q, scale, sums };
    frame.kernels.quantize(x.data, columns, &inst.into(), sharing, out);
    Ok(())
}

/// Integers that are quantised already: limited, in padded rows, with the sum of each.
fn limit(
    frame: &Frame<'_, '_>,
    inst: &Quantize,
    q: &mut Taken<'_>,
    scale: &mut Taken<'_>,
    sums: Option<&mut Taken<'_>>,
) -> Result<(), RunError> {
    let x = frame.array::<i8>(inst.x)?;
    let q = q.elements::<i8>(frame.len(inst.q))?;
    scale.elements::<f32>(frame.len(inst.scale))?.fill(1.0);
    let (columns, rows) = (x.shape.last_or_one(), x.shape.rows());
    let pitch = q.len().checked_div(rows).unwrap_or(0);
    let limits = |v: i8| i32::from(v).clamp(inst.lo, inst.hi) as i8;
    if columns > 0 && rows > 0 {
        for (to, from) in q.chunks_exact_mut(pitch).zip(x.data.chunks_exact(columns)) {
            let (to, padding) = to.split_at_mut(columns);
            to.iter_mut().zip(from).for_each(|(to, &v)| *to = limits(v));
            padding.fill(0);
        }
    }
    if let (Some(taken), Some(id)) = (sums, inst.sums) {
        let sums = taken.elements::<i32>(frame.len(id))?;
        sums.fill(0);
        if pitch > 0 {
            sum_rows(q, pitch, sums);
        }
    }
    Ok(())
}

/// The shape of an operand, while there is no frame yet.
pub(super) fn shape_of<'a>(operand: Operand, program: &'a Program, binding: &'a Binding) -> &'a [usize] {
    let shape = match operand {
        Operand::Buffer(id) => binding.shapes.get(id.index()),
        Operand::Const(id) => program.const_shapes().get(id.index()),
    };
    shape.map(|s| &**s).unwrap_or_default()
}

pub(super) fn weights<'f>(frame: &'f Frame<'_, '_>, w: Operand) -> Result<(Layout, &'f [u8]), RunError> {
    let Operand::Const(id) = w else { return Err(RunError::ProgramChanged) };
    Ok((frame.program.contents().consts()[id.index()].layout, frame.bytes(w)?))
}

pub(super) fn sum_rows(rows: &[i8], pitch: usize, sums: &mut [i32]) {
    for (row, sum) in rows.chunks_exact(pitch).zip(sums) {
        *sum = row.iter().map(|&q| i32::from(q)).sum();
    }
}
