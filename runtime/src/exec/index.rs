//! Instructions about positions: `arg_reduce`, `top_k`, `gather`, `pick` and `scatter`.

use core::cmp::Ordering;

use bitc_format::inst::{ArgReduce, Combine, Gather, Pick, Scatter, TopK};
use bitc_format::{BufferId, DType, Operand};

use crate::RunError;
use crate::arena;
use crate::bind::Binding;
use crate::extents::Extents;
use crate::frame::Frame;
use crate::kernels::number::{Number, with_number};
use crate::program::Program;

pub(crate) fn arg_reduce(frame: &mut Frame<'_, '_>, inst: &ArgReduce) -> Result<(), RunError> {
    with_number!(frame.dtype(inst.x), T => arg_reduce_of::<T>(frame, inst))
}

fn arg_reduce_of<T: Number>(frame: &mut Frame<'_, '_>, inst: &ArgReduce) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [i64]| {
        let x = frame.array::<T>(inst.x)?;
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

/// Bytes for the positions along the sorted axis.
pub(crate) fn top_k_scratch(inst: &TopK, program: &Program, binding: &Binding) -> usize {
    let axis = inst.axis as usize;
    let n = match inst.x {
        Operand::Buffer(id) => binding.shapes.get(id.index()).and_then(|s| s.get(axis)),
        Operand::Const(id) => program.const_shapes().get(id.index()).and_then(|s| s.get(axis)),
    };
    n.map_or(0, |n| n.saturating_mul(size_of::<u64>()))
}

pub(crate) fn top_k(frame: &mut Frame<'_, '_>, inst: &TopK) -> Result<(), RunError> {
    with_number!(frame.dtype(inst.x), T => top_k_of::<T>(frame, inst))
}

fn top_k_of<T: Number>(frame: &mut Frame<'_, '_>, inst: &TopK) -> Result<(), RunError> {
    let axis = inst.axis as usize;
    frame.fill_with_scratch(inst.positions, |frame, positions: &mut [i64], scratch| {
        let x = frame.array::<T>(inst.x)?;
        let (n, k) = (x.shape[axis], frame.shape(inst.y)[axis]);
        let inner: usize = x.shape[axis + 1..].iter().product();
        let order = scratch.bytes_mut().get_mut(..n * size_of::<u64>()).and_then(arena::elements_mut::<u64>);
        let order = order.ok_or(RunError::ProgramChanged)?;
        for (i, lane) in positions.chunks_exact_mut(k * inner).enumerate() {
            for column in 0..inner {
                let value = |at: u64| x.data[(i * n + at as usize) * inner + column];
                order.iter_mut().zip(0..).for_each(|(place, at)| *place = at);
                // The position decides between equals, so that the order is that of a stable sort.
                order.sort_unstable_by(|&a, &b| {
                    let ordering = compare(value(a), value(b));
                    let ordering = if inst.largest { ordering.reverse() } else { ordering };
                    ordering.then(a.cmp(&b))
                });
                for (rank, &at) in order[..k].iter().enumerate() {
                    lane[rank * inner + column] = at as i64;
                }
            }
        }
        Ok(())
    })?;
    frame.fill(inst.y, |frame, y: &mut [T]| {
        let (x, positions) = (frame.array::<T>(inst.x)?, frame.array::<i64>(inst.positions)?);
        let (n, k) = (x.shape[axis], positions.shape[axis]);
        let inner: usize = x.shape[axis + 1..].iter().product();
        for (i, (y, &at)) in y.iter_mut().zip(positions.data).enumerate() {
            *y = x.data[(i / (k * inner) * n + at as usize) * inner + i % inner];
        }
        Ok(())
    })
}

/// The order of numbers, NaN above all.
fn compare<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
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
        if y.is_empty() {
            return Ok(());
        }
        for (outer, y) in y.chunks_exact_mut(n * inner).enumerate() {
            for (which, y) in y.chunks_exact_mut(inner).enumerate() {
                let at = wrapped(frame, index_at(indices, wide, which), size)?;
                y.copy_from_slice(&x[(outer * size + at) * inner..][..inner]);
            }
        }
        Ok(())
    })
}

/// One of some indices.
fn index_at(indices: &[u8], wide: bool, which: usize) -> i64 {
    if wide {
        indices.as_chunks::<8>().0.get(which).map_or(0, |&b| i64::from_le_bytes(b))
    } else {
        indices.as_chunks::<4>().0.get(which).map_or(0, |&b| i64::from(i32::from_le_bytes(b)))
    }
}

/// The position below `size` that a possibly negative index means.
fn wrapped(frame: &Frame<'_, '_>, index: i64, size: usize) -> Result<usize, RunError> {
    let from_end = if index < 0 { index.saturating_add(size as i64) } else { index };
    let at = usize::try_from(from_end).ok().filter(|&at| at < size);
    at.ok_or(RunError::Index { inst: frame.index, index, size })
}

/// Where the slices that indices name lie in an array.
struct Places<'a> {
    /// The array.
    shape: &'a Extents,
    indices: &'a [u8],
    index_shape: &'a Extents,
    wide: bool,
    axis: Option<usize>,
    batch: usize,
}

impl<'a> Places<'a> {
    fn new(
        frame: &'a Frame<'_, '_>,
        x: Operand,
        indices: Operand,
        axis: Option<u32>,
        batch: u32,
    ) -> Result<Self, RunError> {
        Ok(Self {
            shape: frame.shape(x),
            indices: frame.bytes(indices)?,
            index_shape: frame.shape(indices),
            wide: frame.dtype(indices) == DType::I64,
            axis: axis.map(|axis| axis as usize),
            batch: batch as usize,
        })
    }

    /// How many indices belong to one slice.
    fn width(&self) -> usize {
        if self.axis.is_some() { 1 } else { self.index_shape.last_or_one() }
    }

    /// Elements of a slice.
    fn slice(&self) -> usize {
        if self.axis.is_some() { 1 } else { self.shape[self.batch + self.width()..].iter().product() }
    }

    /// The first element of the slice number `i`.
    fn place(&self, frame: &Frame<'_, '_>, i: usize) -> Result<usize, RunError> {
        let strides = self.shape.strides();
        let mut at = 0;
        // The axes that the slice shares with the indices: all but one, or the first.
        let mut rest = i;
        let lead = if self.axis.is_some() { self.index_shape.len() } else { self.index_shape.len() - 1 };
        for axis in (0..lead).rev() {
            let shared = self.axis.map_or(axis < self.batch, |picked| picked != axis);
            if shared {
                at += rest % self.index_shape[axis] * strides[axis];
            }
            rest /= self.index_shape[axis];
        }
        let first = self.axis.unwrap_or(self.batch);
        for j in 0..self.width() {
            let index = index_at(self.indices, self.wide, i * self.width() + j);
            at += wrapped(frame, index, self.shape[first + j])? * strides[first + j];
        }
        Ok(at)
    }
}

pub(crate) fn pick(frame: &mut Frame<'_, '_>, inst: &Pick) -> Result<(), RunError> {
    let element = frame.dtype(inst.y).size_bytes().unwrap_or(1);
    frame.fill(inst.y, |frame, y: &mut [u8]| {
        let places = Places::new(frame, inst.x, inst.indices, inst.axis, inst.batch)?;
        let x = frame.bytes(inst.x)?;
        let slice = places.slice() * element;
        for (i, y) in y.chunks_exact_mut(slice).enumerate() {
            y.copy_from_slice(&x[places.place(frame, i)? * element..][..slice]);
        }
        Ok(())
    })
}

pub(crate) fn scatter(frame: &mut Frame<'_, '_>, inst: &Scatter) -> Result<(), RunError> {
    let element = frame.dtype(inst.y).size_bytes().unwrap_or(1);
    if inst.combine == Combine::Replace {
        return scatter_with::<u8>(frame, inst.y, inst, element, |_, update| update);
    }
    with_number!(frame.dtype(inst.y), T => {
        let combine: fn(T, T) -> T = match inst.combine {
            Combine::Replace => |_, b| b,
            Combine::Add => |a, b| T::narrow(<T as Number>::add(a.wide(), b.wide())),
            Combine::Mul => |a, b| T::narrow(<T as Number>::mul(a.wide(), b.wide())),
            Combine::Max => <T as Number>::max,
            Combine::Min => <T as Number>::min,
        };
        scatter_with::<T>(frame, inst.y, inst, 1, combine)
    })
}

/// Scatters elements of `parts` values of `T` each.
fn scatter_with<T: arena::Pod>(
    frame: &mut Frame<'_, '_>,
    y: BufferId,
    inst: &Scatter,
    parts: usize,
    combine: impl Fn(T, T) -> T,
) -> Result<(), RunError> {
    frame.fill(y, |frame, y: &mut [T]| {
        y.copy_from_slice(frame.array::<T>(inst.x)?.data);
        let places = Places::new(frame, inst.x, inst.indices, inst.axis, 0)?;
        let slice = places.slice() * parts;
        if slice == 0 {
            return Ok(());
        }
        let updates = frame.array::<T>(inst.updates)?.data;
        for (i, updates) in updates.chunks_exact(slice).enumerate() {
            let y = &mut y[places.place(frame, i)? * parts..][..slice];
            y.iter_mut().zip(updates).for_each(|(y, &update)| *y = combine(*y, update));
        }
        Ok(())
    })
}
