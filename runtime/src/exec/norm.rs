//! Reductions, softmax and normalisations.

use bitc_format::MAX_RANK;
use bitc_format::inst::{LayerNorm, Reduce, RmsNorm, Softmax};

use crate::RunError;
use crate::frame::Frame;
use crate::kernels::norm as kernel;
use crate::kernels::reduce::Accumulator;

pub(crate) fn reduce(frame: &mut Frame<'_, '_>, inst: &Reduce) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let x = frame.array::<f32>(inst.x)?;
        let rank = x.shape.len();
        let reduced = |axis: usize| inst.axes >> axis & 1 == 1;
        let strides = x.shape.strides();
        // The reduced axes at the end are one row; the others are walked one by one.
        let row_axes = (0..rank).rev().take_while(|&axis| reduced(axis)).count();
        let row: usize = x.shape[rank - row_axes..].iter().product();
        let outer = rank - row_axes;
        let n_reduced: usize = (0..outer).filter(|&a| reduced(a)).map(|a| x.shape[a]).product();
        for (i, y) in y.iter_mut().enumerate() {
            let start = offset(i, x.shape, &strides, outer, |axis| !reduced(axis));
            let mut accumulator = Accumulator::new(inst.op);
            if row > 0 {
                for j in 0..n_reduced {
                    let at = start + offset(j, x.shape, &strides, outer, reduced);
                    match row_axes {
                        0 => accumulator.one(x.data[at]),
                        _ => accumulator.row(&x.data[at..at + row]),
                    }
                }
            }
            *y = accumulator.finish();
        }
        Ok(())
    })
}

/// Where the `i`-th combination of the chosen axes before `outer` lies.
fn offset(
    mut i: usize,
    shape: &[usize],
    strides: &[usize; MAX_RANK],
    outer: usize,
    chosen: impl Fn(usize) -> bool,
) -> usize {
    let mut at = 0;
    for axis in (0..outer).rev().filter(|&axis| chosen(axis)) {
        at += i % shape[axis] * strides[axis];
        i /= shape[axis];
    }
    at
}

pub(crate) fn softmax(frame: &mut Frame<'_, '_>, inst: &Softmax) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let x = frame.array::<f32>(inst.x)?;
        let axis = inst.axis as usize;
        let n = x.shape[axis];
        let inner: usize = x.shape[axis + 1..].iter().product();
        y.copy_from_slice(x.data);
        if inner == 1 {
            frame.kernels.softmax(y, n, inst.log);
            return Ok(());
        }
        // Rows along another axis are computed on columns of `y` in place.
        for block in y.chunks_exact_mut(n * inner) {
            kernel::softmax_columns(block, inner, inst.log);
        }
        Ok(())
    })
}

pub(crate) fn layer_norm(frame: &mut Frame<'_, '_>, inst: &LayerNorm) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let x = frame.array::<f32>(inst.x)?;
        let (gamma, beta) = (frame.optional::<f32>(inst.gamma)?, frame.optional::<f32>(inst.beta)?);
        let n = x.shape[inst.axis as usize..].iter().product();
        let norm = kernel::Norm { n, centered: true, eps: inst.eps, gamma, beta };
        frame.kernels.normalize(x.data, norm, y);
        Ok(())
    })
}

pub(crate) fn rms_norm(frame: &mut Frame<'_, '_>, inst: &RmsNorm) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let x = frame.array::<f32>(inst.x)?;
        let gamma = frame.optional::<f32>(inst.gamma)?;
        let n = x.shape[inst.axis as usize..].iter().product();
        let norm = kernel::Norm { n, centered: false, eps: inst.eps, gamma, beta: None };
        frame.kernels.normalize(x.data, norm, y);
        Ok(())
    })
}
