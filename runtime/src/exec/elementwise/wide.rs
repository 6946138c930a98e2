//! `map` in double precision and in integers.

use bitc_format::inst::Map;
use bitc_format::{DType, Operand};

use super::{gather, map_scratch};
use crate::RunError;
use crate::arena::{self, Pod};
use crate::convert::{self, bf16_to_f32, f16_to_f32};
use crate::extents::Extents;
use crate::frame::Frame;
use crate::kernels::elementwise::TILE;
use crate::kernels::wide::{Lane, steps};

/// Runs a program in `T`, whose element type is `dtype`.
pub(super) fn map<T: Lane>(frame: &mut Frame<'_, '_>, inst: &Map, dtype: DType) -> Result<(), RunError> {
    let to = frame.dtype(inst.y);
    let element = to.size_bytes().unwrap_or(1);
    frame.fill_with_scratch(inst.y, |frame, y: &mut [u8], scratch| {
        let registers = scratch.bytes_mut().get_mut(..map_scratch(inst)).and_then(arena::elements_mut::<T>);
        let registers = registers.ok_or(RunError::ProgramChanged)?.as_chunks_mut::<TILE>().0;
        let n_loads = inst.xs.len();
        for (register, &bits) in registers[n_loads..].iter_mut().zip(&inst.consts) {
            register.fill(T::from_bits(bits));
        }
        let shape = frame.shape(inst.y);
        let loaded = n_loads + inst.consts.len();
        for (i, y) in y.chunks_mut(TILE * element).enumerate() {
            let (start, n) = (i * TILE, y.len() / element);
            for (register, &x) in registers.iter_mut().zip(&inst.xs) {
                load(frame, x, shape, start, i == 0, &mut register[..n])?;
            }
            if !steps(registers, loaded, &inst.steps, n) {
                return Err(RunError::Undefined { inst: frame.index });
            }
            convert::cast(to, y, dtype, arena::bytes_of(&registers[inst.result as usize][..n]));
        }
        Ok(())
    })
}

/// Loads the elements that broadcast to `start..` of an array of shape `to`.
fn load<R: Lane>(
    frame: &Frame<'_, '_>,
    x: Operand,
    to: &Extents,
    start: usize,
    first: bool,
    register: &mut [R],
) -> Result<(), RunError> {
    /// Where elements go.
    struct Target<'a, R> {
        to: &'a Extents,
        start: usize,
        first: bool,
        register: &'a mut [R],
    }
    fn load<T: Pod, R: Lane>(
        frame: &Frame<'_, '_>,
        x: Operand,
        target: Target<'_, R>,
        convert: impl Fn(T) -> R,
    ) -> Result<(), RunError> {
        let Target { to, start, first, register } = target;
        gather(frame.array::<T>(x)?.data, frame.shape(x), to, start, first, register, convert);
        Ok(())
    }
    let target = Target { to, start, first, register };
    match frame.dtype(x) {
        DType::I8 => load(frame, x, target, |v: i8| R::from_i64(v.into())),
        DType::U8 => load(frame, x, target, |v: u8| R::from_i64(v.into())),
        DType::I16 => load(frame, x, target, |v: i16| R::from_i64(v.into())),
        DType::U16 => load(frame, x, target, |v: u16| R::from_i64(v.into())),
        DType::I32 => load(frame, x, target, |v: i32| R::from_i64(v.into())),
        DType::U32 => load(frame, x, target, |v: u32| R::from_i64(v.into())),
        DType::I64 => load(frame, x, target, R::from_i64),
        DType::U64 => load(frame, x, target, R::from_u64),
        DType::F16 => load(frame, x, target, |v: u16| R::from_f64(f16_to_f32(v).into())),
        DType::BF16 => load(frame, x, target, |v: u16| R::from_f64(bf16_to_f32(v).into())),
        DType::F32 => load(frame, x, target, |v: f32| R::from_f64(v.into())),
        DType::F64 => load(frame, x, target, R::from_f64),
        DType::Bool | DType::Bits => load(frame, x, target, |v: u8| R::from_i64((v != 0).into())),
    }
}
