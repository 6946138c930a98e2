//! Reductions, scans, softmax and normalisations.

use bitc_format::inst::{LayerNorm, Reduce, ReduceOp, RmsNorm, Scan, Softmax};
use bitc_format::{DType, MAX_RANK};

use crate::RunError;
use crate::frame::Frame;
use crate::kernels::norm as kernel;
use crate::kernels::number::{Number, with_number};
use crate::kernels::reduce::Accumulator;

pub(crate) fn reduce(frame: &mut Frame<'_, '_>, inst: &Reduce) -> Result<(), RunError> {
    if frame.dtype(inst.x) != DType::F32 {
        return with_number!(frame.dtype(inst.x), T => reduce_of::<T>(frame, inst));
    }
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

/// Reductions of types that models reduce rarely, element by element.
fn reduce_of<T: Number>(frame: &mut Frame<'_, '_>, inst: &Reduce) -> Result<(), RunError> {
    // The least and greatest of truth values are no numbers of their type.
    let truth = frame.dtype(inst.x) == DType::Bool;
    let (lowest, highest) =
        if truth { (T::narrow(T::count(0)), T::narrow(T::count(1))) } else { (T::LOWEST, T::HIGHEST) };
    frame.fill(inst.y, |frame, y: &mut [T]| {
        let x = frame.array::<T>(inst.x)?;
        let rank = x.shape.len();
        let reduced = |axis: usize| inst.axes >> axis & 1 == 1;
        let strides = x.shape.strides();
        let n: usize = (0..rank).filter(|&a| reduced(a)).map(|a| x.shape[a]).product();
        for (i, y) in y.iter_mut().enumerate() {
            let start = offset(i, x.shape, &strides, rank, |axis| !reduced(axis));
            let mut values = (0..n).map(|j| x.data[start + offset(j, x.shape, &strides, rank, reduced)]);
            let sum = |values: &mut dyn Iterator<Item = T>| values.fold(T::count(0), |sum, v| T::add(sum, v.wide()));
            *y = match inst.op {
                ReduceOp::Max => values.fold(lowest, <T as Number>::max),
                ReduceOp::Min => values.fold(highest, <T as Number>::min),
                ReduceOp::Prod => T::narrow(values.fold(T::count(1), |product, v| T::mul(product, v.wide()))),
                ReduceOp::Mean => {
                    let mean = T::div(sum(&mut values), T::count(n));
                    T::narrow(mean.ok_or(RunError::Undefined { inst: frame.index })?)
                }
                _ => T::narrow(sum(&mut values)),
            };
        }
        Ok(())
    })
}

pub(crate) fn scan(frame: &mut Frame<'_, '_>, inst: &Scan) -> Result<(), RunError> {
    with_number!(frame.dtype(inst.x), T => scan_of::<T>(frame, inst))
}

fn scan_of<T: Number>(frame: &mut Frame<'_, '_>, inst: &Scan) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [T]| {
        let x = frame.array::<T>(inst.x)?;
        let axis = inst.axis as usize;
        let n = x.shape[axis];
        let inner: usize = x.shape[axis + 1..].iter().product();
        let step = if inst.product { T::mul } else { T::add };
        for lane in 0..y.len() / n.max(1) {
            let start = lane / inner * n * inner + lane % inner;
            let mut total = T::count(usize::from(inst.product));
            for i in 0..n {
                let at = start + if inst.reverse { n - 1 - i } else { i } * inner;
                let next = step(total, x.data[at].wide());
                y[at] = T::narrow(if inst.exclusive { total } else { next });
                total = next;
            }
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
