//! `map` and `cast`.

use bitc_format::inst::{Cast, Domain, Map};
use bitc_format::{DType, Operand};

use crate::RunError;
use crate::arena;
use crate::convert;
use crate::extents::Extents;
use crate::frame::Frame;
use crate::kernels::elementwise::{TILE, Tile};

#[cfg(not(feature = "minimal"))]
mod wide;

/// Bytes for the registers of a program.
pub(crate) fn map_scratch(inst: &Map) -> usize {
    let tile = if inst.domain == Domain::F32 { size_of::<Tile>() } else { TILE * size_of::<u64>() };
    (inst.xs.len() + inst.consts.len() + inst.steps.len()) * tile
}

pub(crate) fn map(frame: &mut Frame<'_, '_>, inst: &Map) -> Result<(), RunError> {
    match inst.domain {
        Domain::F32 => map_f32(frame, inst),
        #[cfg(not(feature = "minimal"))]
        Domain::F64 => wide::map::<f64>(frame, inst, DType::F64),
        #[cfg(not(feature = "minimal"))]
        Domain::I64 => wide::map::<i64>(frame, inst, DType::I64),
        #[cfg(not(feature = "minimal"))]
        Domain::U64 => wide::map::<u64>(frame, inst, DType::U64),
        #[cfg(feature = "minimal")]
        _ => Err(RunError::ProgramChanged),
    }
}

fn map_f32(frame: &mut Frame<'_, '_>, inst: &Map) -> Result<(), RunError> {
    let to_bool = frame.dtype(inst.y) == DType::Bool;
    frame.fill_with_scratch(inst.y, |frame, y: &mut [u8], scratch| {
        let registers = scratch.bytes_mut().get_mut(..map_scratch(inst)).and_then(arena::elements_mut);
        let registers = registers.ok_or(RunError::ProgramChanged)?.as_chunks_mut::<TILE>().0;
        let n_loads = inst.xs.len();
        for (register, &bits) in registers[n_loads..].iter_mut().zip(&inst.consts) {
            register.fill(f32::from_bits(bits as u32));
        }
        let shape = frame.shape(inst.y);
        let loaded = n_loads + inst.consts.len();
        let element = if to_bool { 1 } else { size_of::<f32>() };
        for (i, y) in y.chunks_mut(TILE * element).enumerate() {
            let (start, n) = (i * TILE, y.len() / element);
            for (register, &x) in registers.iter_mut().zip(&inst.xs) {
                load(frame, x, shape, start, i == 0, &mut register[..n])?;
            }
            frame.kernels.map(registers, loaded, &inst.steps);
            let result = &registers[inst.result as usize][..n];
            if to_bool {
                y.iter_mut().zip(result).for_each(|(y, &v)| *y = u8::from(v != 0.0));
            } else {
                y.copy_from_slice(arena::bytes_of(result));
            }
        }
        Ok(())
    })
}

/// Loads the elements that broadcast to `start..` of an array of shape `to`.
fn load(
    frame: &Frame<'_, '_>,
    x: Operand,
    to: &Extents,
    start: usize,
    first: bool,
    register: &mut [f32],
) -> Result<(), RunError> {
    match frame.dtype(x) {
        DType::F32 => gather(frame.array::<f32>(x)?.data, frame.shape(x), to, start, first, register, |v| v),
        DType::I8 => gather(frame.array::<i8>(x)?.data, frame.shape(x), to, start, first, register, f32::from),
        DType::I16 => gather(frame.array::<i16>(x)?.data, frame.shape(x), to, start, first, register, f32::from),
        DType::U16 => gather(frame.array::<u16>(x)?.data, frame.shape(x), to, start, first, register, f32::from),
        _ => gather(frame.array::<u8>(x)?.data, frame.shape(x), to, start, first, register, f32::from),
    }
    Ok(())
}

#[inline(always)]
fn gather<T: Copy, R: Copy>(
    x: &[T],
    shape: &Extents,
    to: &Extents,
    start: usize,
    first: bool,
    register: &mut [R],
    convert: impl Fn(T) -> R,
) {
    let whole = x.len() == to.numel();
    if whole {
        let n = register.len();
        register.iter_mut().zip(&x[start..start + n]).for_each(|(r, &v)| *r = convert(v));
        return;
    }
    if let [value] = *x {
        // The register keeps its value from tile to tile; only the last one is shorter.
        if first {
            register.fill(convert(value));
        }
        return;
    }
    // Along the last axis the elements are neighbours or the same one; runs of them are loaded at once.
    let strides = shape.broadcast_strides(to);
    let last = to.last_or_one();
    let step = strides[to.len().saturating_sub(1)];
    let (mut done, mut at) = (0, start);
    while done < register.len() {
        let (row, column) = (at / last, at % last);
        let run = (last - column).min(register.len() - done);
        let (mut offset, mut rest) = (0, row);
        for axis in (0..to.len().saturating_sub(1)).rev() {
            offset += rest % to[axis] * strides[axis];
            rest /= to[axis];
        }
        let target = &mut register[done..done + run];
        if step == 0 {
            target.fill(convert(x[offset]));
        } else {
            let source = &x[offset + column * step..][..run];
            target.iter_mut().zip(source).for_each(|(r, &v)| *r = convert(v));
        }
        done += run;
        at += run;
    }
}

pub(crate) fn cast(frame: &mut Frame<'_, '_>, inst: &Cast) -> Result<(), RunError> {
    let (to, from) = (frame.dtype(inst.y), frame.dtype(inst.x));
    frame.fill(inst.y, |frame, y: &mut [u8]| {
        let x = frame.bytes(inst.x)?;
        if to == DType::Bits || from == DType::Bits {
            convert::port(to, y, from, x, frame.shape(inst.x).last_or_one());
        } else {
            convert::cast(to, y, from, x);
        }
        Ok(())
    })
}
