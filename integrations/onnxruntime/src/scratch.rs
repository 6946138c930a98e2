//! Memory at multiples of a cache line: kernels read weights that lie otherwise in two steps.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

const LINE: usize = 64;

/// Bytes that begin at a multiple of 64.
#[derive(Default)]
pub(crate) struct Aligned<T> {
    /// The bytes, with up to 63 before them and what room is left behind.
    all: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// Makes it this long. What was in it may stay, move or be lost.
    fn resize(&mut self, len: usize) {
        const { assert!(size_of::<T>() == 1) };
        if self.all.len() < len + LINE {
            self.all = vec![T::default(); len + LINE];
            self.start = self.all.as_ptr().align_offset(LINE).min(LINE);
        }
        self.len = len;
    }

    /// A copy of these bytes.
    pub(crate) fn copy_of(bytes: &[T]) -> Self {
        let mut copy = Self { all: Vec::new(), start: 0, len: 0 };
        copy.resize(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..][..self.len]
    }
}

/// What a call works in.
#[derive(Default)]
struct Scratch {
    rows: Aligned<i8>,
    sums: Vec<i32>,
}

/// Work on padded rows of integers, of `len` bytes together, and as many sums as there are rows. The memory is that of
/// the thread and comes as the last call left it.
pub(crate) fn with_rows<R>(len: usize, rows: usize, work: impl FnOnce(&mut [i8], &mut [i32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.rows.resize(len);
        if scratch.sums.len() < rows {
            scratch.sums.resize(rows, 0);
        }
        work(&mut scratch.rows, &mut scratch.sums[..rows])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_line_whatever_its_size() {
        for len in [0, 1, 63, 64, 65, 1000, 5] {
            with_rows(len, 2, |rows, sums| {
                assert_eq!((rows.len(), sums.len()), (len, 2));
                assert_eq!(rows.as_ptr().align_offset(LINE), 0);
            });
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let copy = Aligned::copy_of(&bytes);
            assert_eq!(*copy, *bytes);
            assert_eq!(copy.as_ptr().align_offset(LINE), 0);
        }
    }
}
