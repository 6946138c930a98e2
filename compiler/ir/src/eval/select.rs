//! Tensors made of elements of other tensors, whatever their type.

use crate::eval::EvalError;
use crate::tensor::{Blob, Tensor};

/// A tensor of `dims` whose elements are those of `x` at the given row-major positions.
///
/// # Errors
/// If a position lies outside `x` or there are not as many as elements.
pub fn select(x: &Tensor, dims: &[usize], positions: impl Iterator<Item = usize>) -> Result<Tensor, EvalError> {
    select_or(x, dims, positions.map(Some), &[])
}

/// As [`select`], with the element `fill` where there is no position.
///
/// # Errors
/// As [`select`], and if `fill` is not one element.
pub fn select_or(
    x: &Tensor,
    dims: &[usize],
    positions: impl Iterator<Item = Option<usize>>,
    fill: &[u8],
) -> Result<Tensor, EvalError> {
    let size = x.dtype().size_bytes();
    let mut bytes = Vec::new();
    for position in positions {
        let element = match position {
            Some(p) => p.checked_mul(size).and_then(|at| x.bytes().get(at..at.checked_add(size)?)),
            None => Some(fill),
        };
        bytes.extend_from_slice(element.ok_or_else(|| outside(x))?);
    }
    Tensor::from_blob(x.dtype(), dims, Blob::new(bytes)).map_err(|e| EvalError::Undefined(e.to_string()))
}

fn outside(x: &Tensor) -> EvalError {
    EvalError::Undefined(format!("a position outside {}", x.ty()))
}

/// All indices of an array of these dimensions in row-major order.
pub fn indices(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let count: usize = dims.iter().product();
    (0..count).map(move |flat| unflatten(flat, dims))
}

/// The index of the element at a row-major position.
pub fn unflatten(mut flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, &d) in index.iter_mut().zip(dims).rev() {
        (*i, flat) = (flat % d, flat / d);
    }
    index
}

/// The row-major position of an index.
pub fn flatten(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (&i, &d)| at * d + i)
}

/// A position along an axis from an index that may count from the end.
///
/// # Errors
/// If it is out of range.
pub fn wrap(index: i64, size: usize) -> Result<usize, EvalError> {
    let signed = i64::try_from(size).unwrap_or(i64::MAX);
    let at = if index < 0 { index.checked_add(signed) } else { Some(index) };
    let found = at.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < size);
    found.ok_or_else(|| EvalError::Undefined(format!("index {index} lies outside a dimension of size {size}")))
}

/// An integer tensor as indices.
///
/// # Errors
/// If it holds no integers.
pub fn index_values(tensor: &Tensor) -> Result<Vec<i64>, EvalError> {
    let values = crate::eval::array::integers(tensor);
    let values =
        values.ok_or_else(|| EvalError::Undefined(format!("indices must be integers, found {}", tensor.ty())))?;
    let narrow = |v: &i128| i64::try_from(*v).map_err(|_| EvalError::Undefined(format!("index {v} is too large")));
    values.iter().map(narrow).collect()
}
