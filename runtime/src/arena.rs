//! Memory with the alignment that kernels want, and the step from bytes to elements and back.
//!
//! This file holds all of that step, so that no other one needs `unsafe` to look at typed data.
#![expect(unsafe_code, reason = "bytes and elements are views of the same memory; everyone else goes through here")]

use alloc::vec::Vec;
use core::slice;

use crate::RunError;

/// Alignment of every slot and of the bytes of a program.
pub(crate) const ALIGN: usize = 64;

/// One cache line; a vector of them is aligned memory.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// Zeroed bytes, aligned to 64; they grow and never shrink.
#[derive(Default)]
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
}

impl AlignedBytes {
    /// Makes room for at least `len` bytes. What was in them may be lost when it grows.
    pub(crate) fn reserve(&mut self, len: usize) -> Result<(), RunError> {
        let n_lines = len.div_ceil(ALIGN);
        if n_lines <= self.lines.len() {
            return Ok(());
        }
        self.lines = Vec::new();
        self.lines.try_reserve_exact(n_lines).map_err(|_| RunError::OutOfMemory { bytes: len as u64 })?;
        self.lines.resize(n_lines, Line([0; ALIGN]));
        Ok(())
    }

    /// All bytes there is room for.
    pub(crate) fn bytes(&self) -> &[u8] {
        let (start, len) = (self.lines.as_ptr().cast::<u8>(), self.lines.len() * ALIGN);
        // SAFETY: the vector holds that many initialised bytes, `Line` has no padding, and the borrow of `self` keeps
        // them alive and unchanged.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// All bytes there is room for.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, len) = (self.lines.as_mut_ptr().cast::<u8>(), self.lines.len() * ALIGN);
        // SAFETY: as in `bytes`, and the exclusive borrow of `self` makes this the only view.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }
}

/// An element type that every pattern of bits is a value of.
///
/// # Safety
///
/// The type has no padding and no invalid values.
pub unsafe trait Pod: Copy + Default + Send + Sync + 'static {}

macro_rules! pods {
    ($($ty:ty)*) => {
        $(
            // SAFETY: a primitive number has no padding and no invalid values.
            unsafe impl Pod for $ty {}
        )*
    };
}

pods! { u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 }

/// The bytes as elements; `None` where address or length does not fit.
pub(crate) fn elements<T: Pod>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: any bytes are values of a `Pod`.
    let (head, middle, tail) = unsafe { bytes.align_to::<T>() };
    (head.is_empty() && tail.is_empty()).then_some(middle)
}

/// The bytes as elements; `None` where address or length does not fit.
pub(crate) fn elements_mut<T: Pod>(bytes: &mut [u8]) -> Option<&mut [T]> {
    // SAFETY: any bytes are values of a `Pod`, and any value of a `Pod` is bytes.
    let (head, middle, tail) = unsafe { bytes.align_to_mut::<T>() };
    (head.is_empty() && tail.is_empty()).then_some(middle)
}

/// The elements as bytes.
pub(crate) fn bytes_of<T: Pod>(elements: &[T]) -> &[u8] {
    let (start, len) = (elements.as_ptr().cast::<u8>(), size_of_val(elements));
    // SAFETY: the slice covers `len` initialised bytes without padding, borrowed as long as the result.
    unsafe { slice::from_raw_parts(start, len) }
}

/// The elements as bytes.
pub(crate) fn bytes_of_mut<T: Pod>(elements: &mut [T]) -> &mut [u8] {
    let (start, len) = (elements.as_mut_ptr().cast::<u8>(), size_of_val(elements));
    // SAFETY: the slice covers `len` bytes borrowed exclusively as long as the result, and any bytes are elements.
    unsafe { slice::from_raw_parts_mut(start, len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeroed_and_only_grows() {
        let mut memory = AlignedBytes::default();
        assert!(memory.bytes().is_empty());
        memory.reserve(1).unwrap();
        assert_eq!(memory.bytes().len(), 64);
        assert_eq!(memory.bytes().as_ptr() as usize % ALIGN, 0);
        assert!(memory.bytes().iter().all(|&b| b == 0));
        memory.bytes_mut()[3] = 7;
        memory.reserve(10).unwrap();
        assert_eq!(memory.bytes()[3], 7);
        memory.reserve(1000).unwrap();
        assert_eq!(memory.bytes().len(), 1024);
        assert!(memory.reserve(usize::MAX - 1000).is_err());
    }

    #[test]
    fn elements_need_their_alignment_and_whole_length() {
        let values = [1.5f32, -2.0];
        let bytes = bytes_of(&values);
        assert_eq!(elements::<f32>(bytes), Some(&values[..]));
        assert_eq!(elements::<f32>(&bytes[1..5]), None);
        assert_eq!(elements::<f32>(&bytes[..5]), None);
        assert_eq!(elements::<u8>(&bytes[1..5]).map(<[u8]>::len), Some(4));
    }
}
