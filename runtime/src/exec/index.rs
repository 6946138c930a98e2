//! `arg_reduce` and `gather`.

use bitc_format::DType;
use bitc_format::inst::{ArgReduce, Gather};

use crate::RunError;
use crate::frame::Frame;

pub(crate) fn arg_reduce(frame: &mut Frame<'_, '_>, inst: &ArgReduce) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [i64]| {
        let x = frame.array::<f32>(inst.x)?;
        let axis = inst.axis as usize;
        let n = x.shape[axis];
        let inner: usize = x.shape[axis + 1..].iter().product();
        for (i, y) in y.iter_mut().enumerate() {
            let start = i / inner * n * inner + i % inner;
            let value = |at: usize| x.data[start + at * inner];
            let mut best = 0;
            for at in 1..n {
                let (new, old) = (value(at), value(best));
                let better = if inst.min { new < old } else { new > old };
                let equal = new == old || (new.is_nan() && old.is_nan());
                if better || (new.is_nan() && !old.is_nan()) || (inst.last && equal) {
                    best = at;
                }
            }
            *y = best as i64;
        }
        Ok(())
    })
}

pub(crate) fn gather(frame: &mut Frame<'_, '_>, inst: &Gather) -> Result<(), RunError> {
    let element = frame.dtype(inst.y).size_bytes().unwrap_or(1);
    let wide = frame.dtype(inst.indices) == DType::I64;
    frame.fill(inst.y, |frame, y: &mut [u8]| {
        let x = frame.bytes(inst.x)?;
        let axis = inst.axis as usize;
        let shape = frame.shape(inst.x);
        let size = shape[axis];
        let inner = shape[axis + 1..].iter().product::<usize>() * element;
        let indices = frame.bytes(inst.indices)?;
        let n = frame.shape(inst.indices).numel();
        for (i, y) in y.chunks_exact_mut(inner).enumerate() {
            let (outer, which) = (i / n, i % n);
            let index = if wide {
                indices.as_chunks::<8>().0.get(which).map_or(0, |&b| i64::from_le_bytes(b))
            } else {
                indices.as_chunks::<4>().0.get(which).map_or(0, |&b| i64::from(i32::from_le_bytes(b)))
            };
            let from_end = if index < 0 { index.saturating_add(size as i64) } else { index };
            let at = usize::try_from(from_end).ok().filter(|&at| at < size);
            let Some(at) = at else { return Err(RunError::Index { inst: frame.index, index, size }) };
            y.copy_from_slice(&x[(outer * size + at) * inner..][..inner]);
        }
        Ok(())
    })
}
