//! `bit_linear`, with scales for whole rows of weights or for groups of their inputs.

#[cfg(not(feature = "minimal"))]
use alloc::{vec, vec::Vec};

use bitc_format::inst::{BitLinear, BitLinearQuantize};

use super::quantized::{shape_of, sum_rows, weights};
use crate::RunError;
use crate::arena;
use crate::bind::Binding;
use crate::frame::{Frame, Taken};
use crate::kernels::{BitProduct, Codes, Post, post};
use crate::program::Program;

/// Tokens whose groups are multiplied at once.
const TOKENS: usize = 64;

pub(crate) fn bit_linear(frame: &mut Frame<'_, '_>, inst: &BitLinear) -> Result<(), RunError> {
    if frame.shape(inst.w).len() == 3 {
        return grouped(frame, inst);
    }
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        frame.kernels.bit_linear(product(frame, inst)?, &post_of(frame, inst)?, y);
        Ok(())
    })
}

/// `bit_linear` and the quantiser behind it.
pub(crate) fn bit_linear_quantize(frame: &mut Frame<'_, '_>, inst: &BitLinearQuantize) -> Result<(), RunError> {
    let layer = &inst.layer;
    let mut q = frame.take(layer.y);
    let mut sums = inst.row_sums.map(|id| frame.take(id));
    let result = codes(frame, inst, &mut q, sums.as_mut());
    frame.put(layer.y, q);
    if let (Some(taken), Some(id)) = (sums, inst.row_sums) {
        frame.put(id, taken);
    }
    result
}

fn codes(
    frame: &Frame<'_, '_>,
    inst: &BitLinearQuantize,
    q: &mut Taken<'_>,
    sums: Option<&mut Taken<'_>>,
) -> Result<(), RunError> {
    let product = product(frame, &inst.layer)?;
    let q = q.elements::<i8>(frame.len(inst.layer.y))?;
    let sums = match (sums, inst.row_sums) {
        (Some(taken), Some(id)) => Some(taken.elements::<i32>(frame.len(id))?),
        _ => None,
    };
    let pitch = q.len().checked_div(product.sums.len()).unwrap_or(product.n);
    let out = Codes { q, pitch, sums };
    frame.kernels.bit_linear_codes(product, &post_of(frame, &inst.layer)?, &inst.steps, out);
    Ok(())
}

/// What happens to the sums.
fn post_of<'f>(frame: &'f Frame<'_, '_>, inst: &BitLinear) -> Result<Post<'f>, RunError> {
    Ok(Post {
        row_scale: frame.array(inst.q_scale)?.data,
        scale: frame.array(inst.scale)?.data,
        bias: frame.optional(inst.bias)?,
        activation: inst.activation,
    })
}

/// The product behind a `bit_linear`.
fn product<'f>(frame: &'f Frame<'_, '_>, inst: &BitLinear) -> Result<BitProduct<'f>, RunError> {
    let q = arena::elements(frame.bytes(inst.q)?).ok_or(RunError::ProgramChanged)?;
    let sums = frame.array::<i32>(inst.sums)?.data;
    let shape = frame.shape(inst.w);
    let (n, k) = (shape[0], shape[1]);
    let (layout, w) = weights(frame, inst.w)?;
    Ok(BitProduct { layout, w, n, k, q, pitch: k.next_multiple_of(64), sums })
}

/// The integer sums of a `bit_linear`; none where groups of inputs have scales of their own.
#[cfg(not(feature = "minimal"))]
pub(crate) fn linear_accumulators(frame: &Frame<'_, '_>, inst: &BitLinear) -> Result<Option<Vec<i32>>, RunError> {
    if frame.shape(inst.w).len() == 3 {
        return Ok(None);
    }
    let mut acc = vec![0; frame.shape(inst.y).numel()];
    if !acc.is_empty() {
        frame.kernels.bit_product(product(frame, inst)?, &mut acc);
    }
    Ok(Some(acc))
}

/// Bytes for one group of some tokens: its activations, their sums, and their products.
fn parts(w: &[usize]) -> [usize; 3] {
    let &[_, n, size] = w else { return [0; 3] };
    let row = |bytes: usize| TOKENS.saturating_mul(bytes).checked_next_multiple_of(64).unwrap_or(usize::MAX);
    [row(size.checked_next_multiple_of(64).unwrap_or(usize::MAX)), row(4), row(n.saturating_mul(4))]
}

/// Bytes to work in.
pub(crate) fn scratch_len(inst: &BitLinear, program: &Program, binding: &Binding) -> usize {
    parts(shape_of(inst.w, program, binding)).into_iter().fold(0, usize::saturating_add)
}

/// One group of inputs after the other, for some tokens at a time.
fn grouped(frame: &mut Frame<'_, '_>, inst: &BitLinear) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [f32], scratch| {
        let [groups, n, size] = frame.shape(inst.w)[..] else { return Err(RunError::ProgramChanged) };
        let (layout, w) = weights(frame, inst.w)?;
        let group_len = w.len().checked_div(groups).unwrap_or(0);
        let q: &[i8] = arena::elements(frame.bytes(inst.q)?).ok_or(RunError::ProgramChanged)?;
        let k = frame.shape(inst.q).last().copied().unwrap_or(0);
        let (pitch, size_pitch) = (k.next_multiple_of(64), size.next_multiple_of(64));
        let (row_scale, scale) = (frame.array::<f32>(inst.q_scale)?.data, frame.array::<f32>(inst.scale)?.data);
        let bias = frame.optional::<f32>(inst.bias)?;
        let [rows_len, sums_len, acc_len] = parts(&[groups, n, size]);
        let (rows_bytes, rest) = scratch.bytes_mut().split_at_mut(rows_len);
        let (sums_bytes, rest) = rest.split_at_mut(sums_len);
        let rows: &mut [i8] = arena::elements_mut(rows_bytes).ok_or(RunError::ProgramChanged)?;
        let sums: &mut [i32] = arena::elements_mut(sums_bytes).ok_or(RunError::ProgramChanged)?;
        let acc: &mut [i32] = arena::elements_mut(&mut rest[..acc_len]).ok_or(RunError::ProgramChanged)?;
        y.fill(0.0);
        for (block, y) in y.chunks_mut((TOKENS * n).max(1)).enumerate() {
            let tokens = y.len().checked_div(n).unwrap_or(0);
            let (rows, sums, acc) = (&mut rows[..tokens * size_pitch], &mut sums[..tokens], &mut acc[..tokens * n]);
            for group in 0..groups {
                let columns = size.min(k - group * size);
                rows.fill(0);
                for (i, row) in rows.chunks_exact_mut(size_pitch).enumerate() {
                    let from = (block * TOKENS + i) * pitch + group * size;
                    row[..columns].copy_from_slice(&q[from..][..columns]);
                }
                sum_rows(rows, size_pitch, sums);
                let w = &w[group * group_len..][..group_len];
                let product = BitProduct { layout, w, n, k: size, q: rows, pitch: size_pitch, sums };
                frame.kernels.bit_product(product, acc);
                for (i, (y, acc)) in y.chunks_exact_mut(n).zip(acc.chunks_exact(n)).enumerate() {
                    let row_scale = if let [one] = row_scale { *one } else { row_scale[block * TOKENS + i] };
                    let scales = scale[group..].iter().step_by(groups);
                    y.iter_mut().zip(acc).zip(scales).for_each(|((y, &acc), &s)| *y += (acc as f32 * row_scale) * s);
                }
            }
            if let Some(bias) = bias {
                y.chunks_exact_mut(n).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
            }
            post::activate_plainly(inst.activation, y);
        }
        Ok(())
    })
}
