//! Instructions that move elements: they only look at how many bytes an element has.

use bitc_format::inst::{BitCast, Concat, Expand, Iota, Pad, PadMode, Sizes, Slice, Transpose};
use bitc_format::{BufferId, MAX_RANK, Operand};

use crate::RunError;
use crate::arena::Pod;
use crate::frame::Frame;
use crate::kernels::moves::{Axis, strided};

/// Fills `y` with elements of `x` that lie as `axes` say, by the size of an element.
fn move_elements(
    frame: &mut Frame<'_, '_>,
    y: BufferId,
    x: Operand,
    start: usize,
    axes: &[Axis],
) -> Result<(), RunError> {
    fn sized<T: Pod>(
        frame: &mut Frame<'_, '_>,
        y: BufferId,
        x: Operand,
        start: usize,
        axes: &[Axis],
    ) -> Result<(), RunError> {
        frame.fill(y, |frame, y: &mut [T]| {
            strided(y, frame.array::<T>(x)?.data, start, axes);
            Ok(())
        })
    }
    match frame.dtype(y).size_bytes() {
        Some(1) => sized::<u8>(frame, y, x, start, axes),
        Some(2) => sized::<u16>(frame, y, x, start, axes),
        Some(4) => sized::<u32>(frame, y, x, start, axes),
        _ => sized::<u64>(frame, y, x, start, axes),
    }
}

pub(crate) fn transpose(frame: &mut Frame<'_, '_>, inst: &Transpose) -> Result<(), RunError> {
    let (x, y) = (frame.shape(inst.x), frame.shape(inst.y));
    let strides = x.strides();
    let mut axes = [Axis::default(); MAX_RANK];
    for ((axis, &n), &from) in axes.iter_mut().zip(y.iter()).zip(&inst.perm) {
        *axis = Axis { n, stride: strides[from as usize] as isize };
    }
    let rank = y.len();
    move_elements(frame, inst.y, inst.x, 0, &axes[..rank])
}

pub(crate) fn expand(frame: &mut Frame<'_, '_>, inst: &Expand) -> Result<(), RunError> {
    let (x, y) = (frame.shape(inst.x), frame.shape(inst.y));
    let strides = x.broadcast_strides(y);
    let mut axes = [Axis::default(); MAX_RANK];
    for ((axis, &n), stride) in axes.iter_mut().zip(y.iter()).zip(strides) {
        *axis = Axis { n, stride: stride as isize };
    }
    let rank = y.len();
    move_elements(frame, inst.y, inst.x, 0, &axes[..rank])
}

pub(crate) fn bit_cast(frame: &mut Frame<'_, '_>, inst: &BitCast) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [u8]| {
        let x = frame.bytes(inst.x)?;
        if x.len() != y.len() {
            return Err(RunError::ProgramChanged);
        }
        y.copy_from_slice(x);
        Ok(())
    })
}

pub(crate) fn slice(frame: &mut Frame<'_, '_>, inst: &Slice) -> Result<(), RunError> {
    let (x, y) = (frame.shape(inst.x), frame.shape(inst.y));
    let strides = x.strides();
    let mut axes = [Axis::default(); MAX_RANK];
    let mut start = 0;
    for (i, (axis, &n)) in axes.iter_mut().zip(y.iter()).enumerate() {
        *axis = Axis { n, stride: strides[i] as isize * inst.steps[i] as isize };
        start += frame.value(inst.starts[i]) as usize * strides[i];
    }
    let rank = y.len();
    move_elements(frame, inst.y, inst.x, start, &axes[..rank])
}

pub(crate) fn concat(frame: &mut Frame<'_, '_>, inst: &Concat) -> Result<(), RunError> {
    let axis = inst.axis as usize;
    let element = frame.dtype(inst.y).size_bytes().unwrap_or(1);
    frame.fill(inst.y, |frame, y: &mut [u8]| {
        let shape = frame.shape(inst.y);
        let inner: usize = shape[axis + 1..].iter().product::<usize>() * element;
        let row = shape[axis] * inner;
        let mut offset = 0;
        for &x in &inst.xs {
            let part = frame.shape(x)[axis] * inner;
            if part == 0 {
                continue;
            }
            let rows = y.chunks_exact_mut(row).zip(frame.bytes(x)?.chunks_exact(part));
            rows.for_each(|(y, x)| y[offset..offset + part].copy_from_slice(x));
            offset += part;
        }
        Ok(())
    })
}

pub(crate) fn pad(frame: &mut Frame<'_, '_>, inst: &Pad) -> Result<(), RunError> {
    match frame.dtype(inst.y).size_bytes() {
        Some(1) => pad_sized(frame, inst, inst.value as u8),
        Some(2) => pad_sized(frame, inst, inst.value as u16),
        Some(4) => pad_sized(frame, inst, inst.value as u32),
        _ => pad_sized(frame, inst, inst.value),
    }
}

fn pad_sized<T: Pod>(frame: &mut Frame<'_, '_>, inst: &Pad, value: T) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [T]| {
        let x = frame.array::<T>(inst.x)?;
        let shape = frame.shape(inst.y);
        let strides = x.shape.strides();
        let rank = shape.len();
        let before = |axis: usize| frame.value(inst.before[axis]) as isize;
        let last = shape.last_or_one();
        for (row, y) in y.chunks_exact_mut(last).enumerate() {
            // The row of `x` that this row comes from, if there is one.
            let (mut rest, mut start) = (row, Some(0));
            for axis in (0..rank.saturating_sub(1)).rev() {
                let from = source(inst.mode, (rest % shape[axis]) as isize - before(axis), x.shape[axis]);
                start = start.zip(from).map(|(start, from)| start + from * strides[axis]);
                rest /= shape[axis];
            }
            for (i, y) in y.iter_mut().enumerate() {
                let from = match rank {
                    0 => Some(0),
                    _ => source(inst.mode, i as isize - before(rank - 1), x.shape[rank - 1]),
                };
                *y = start.zip(from).map_or(value, |(start, from)| x.data[start + from]);
            }
        }
        Ok(())
    })
}

pub(crate) fn iota(frame: &mut Frame<'_, '_>, inst: &Iota) -> Result<(), RunError> {
    frame.fill(inst.y, |_, y: &mut [i64]| {
        y.iter_mut().zip(0..).for_each(|(y, i)| *y = i);
        Ok(())
    })
}

pub(crate) fn sizes(frame: &mut Frame<'_, '_>, inst: &Sizes) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [i64]| {
        y.iter_mut().zip(&inst.dims).for_each(|(y, &dim)| *y = frame.value(dim));
        Ok(())
    })
}

/// The index inside `0..n` that stands for one that may lie outside.
fn source(mode: PadMode, index: isize, n: usize) -> Option<usize> {
    let end = n as isize;
    if (0..end).contains(&index) {
        return usize::try_from(index).ok();
    }
    let inside = match mode {
        PadMode::Constant => return None,
        PadMode::Edge => index.clamp(0, end - 1),
        PadMode::Reflect if index < 0 => -index,
        PadMode::Reflect => 2 * (end - 1) - index,
        PadMode::Wrap => index.rem_euclid(end),
    };
    usize::try_from(inside).ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn positions_outside_map_inside() {
        let all = |mode, range: core::ops::Range<isize>, n| range.map(|i| source(mode, i, n)).collect::<Vec<_>>();
        assert_eq!(all(PadMode::Reflect, -2..5, 3), [2, 1, 0, 1, 2, 1, 0].map(Some));
        assert_eq!(all(PadMode::Edge, -1..4, 3), [0, 0, 1, 2, 2].map(Some));
        assert_eq!(all(PadMode::Wrap, -2..5, 3), [1, 2, 0, 1, 2, 0, 1].map(Some));
        assert_eq!(all(PadMode::Constant, -1..2, 1), [None, Some(0), None]);
    }
}
