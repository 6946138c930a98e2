//! Shapes as numbers, held without allocation.

use core::ops::Deref;

use bitc_format::MAX_RANK;

/// The dimensions of an array. Their product fits a `usize` wherever one exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Extents {
    rank: usize,
    dims: [usize; MAX_RANK],
}

impl Extents {
    /// These dimensions; `None` where there are more than a buffer can have.
    fn new(dims: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut extents = Self::default();
        for dim in dims {
            *extents.dims.get_mut(extents.rank)? = dim;
            extents.rank += 1;
        }
        Some(extents)
    }

    /// These dimensions; `None` where there are too many, or where their product overflows even without zeros.
    pub(crate) fn checked(dims: &[usize]) -> Option<Self> {
        let product = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))?;
        isize::try_from(product).ok()?;
        Self::new(dims.iter().copied())
    }

    /// The number of elements.
    pub(crate) fn numel(&self) -> usize {
        self.iter().product()
    }

    /// The last dimension; 1 for a scalar.
    pub(crate) fn last_or_one(&self) -> usize {
        self.last().copied().unwrap_or(1)
    }

    /// The number of rows: of elements in all dimensions but the last.
    pub(crate) fn rows(&self) -> usize {
        self.iter().rev().skip(1).product()
    }

    /// How far apart neighbours are along each axis, in elements.
    pub(crate) fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut stride = 1;
        for (place, dim) in strides.iter_mut().zip(self.iter()).rev() {
            *place = stride;
            stride *= dim;
        }
        strides
    }

    /// How far apart neighbours of an array of shape `to` are when it is read from this one by broadcasting: 0 along
    /// the axes that are repeated.
    pub(crate) fn broadcast_strides(&self, to: &Extents) -> [usize; MAX_RANK] {
        let own = self.strides();
        let shift = to.rank.saturating_sub(self.rank);
        let mut strides = [0; MAX_RANK];
        for (axis, &dim) in self.iter().enumerate() {
            strides[axis + shift] = if dim == 1 { 0 } else { own[axis] };
        }
        strides
    }
}

impl Deref for Extents {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}
