//! Slots by the numbers in the words of a program.
//!
//! A number is shifted and masked to an offset in bytes in one step each, which is most of what an executor does beside
//! moving slots. Every offset that a mask lets through is that of a slot, so nothing is compared.

/// Slots, as many as a power of two.
pub(crate) struct Slots<'s, const N: usize> {
    slots: &'s mut [[u64; N]],
    /// The offset of the last slot in bytes. It has a one wherever an offset may have one.
    last: usize,
}

impl<'s, const N: usize> Slots<'s, N> {
    /// The shift from a number to an offset.
    const SHIFT: usize = {
        assert!(N.is_power_of_two(), "words of a slot");
        size_of::<[u64; N]>().trailing_zeros() as usize
    };

    /// # Panics
    /// If they are not as many as a power of two.
    pub(crate) fn new(slots: &'s mut [[u64; N]]) -> Self {
        assert!(slots.len().is_power_of_two(), "slots");
        Self { last: (slots.len() - 1) << Self::SHIFT, slots }
    }

    /// The slot that field `FIELD` of some words names: fields are `u32` where they are wide, `u16` otherwise, lowest
    /// first. Numbers are taken modulo how many slots there are.
    #[inline(always)]
    pub(crate) fn field<const FIELD: usize>(&self, wide: bool, words: &[u64]) -> &[u64; N] {
        let offset = self.offset::<FIELD>(wide, words);
        // SAFETY: `offset` has ones only where `last` has, and `last` is `2^n - 1` slots in bytes: so it is a multiple of
        // the size of a slot and at most the offset of the last one.
        let slot = unsafe { self.slots.as_ptr().byte_add(offset) };
        // SAFETY: that is a slot, borrowed for as long as `self` is.
        unsafe { &*slot }
    }

    /// See `field`.
    #[inline(always)]
    pub(crate) fn field_mut<const FIELD: usize>(&mut self, wide: bool, words: &[u64]) -> &mut [u64; N] {
        let offset = self.offset::<FIELD>(wide, words);
        // SAFETY: as in `field`.
        let slot = unsafe { self.slots.as_mut_ptr().byte_add(offset) };
        // SAFETY: that is a slot, and `self` is borrowed mutably.
        unsafe { &mut *slot }
    }

    /// The offset in bytes of the slot that a field names.
    #[inline(always)]
    fn offset<const FIELD: usize>(&self, wide: bool, words: &[u64]) -> usize {
        let (per_word, width) = if wide { (2, 32) } else { (4, 16) };
        let (word, bit) = (words[FIELD / per_word], FIELD % per_word * width);
        let shifted = if bit >= Self::SHIFT { word >> (bit - Self::SHIFT) } else { word << (Self::SHIFT - bit) };
        shifted as usize & self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_field_names_a_slot() {
        for log in 0..5 {
            let n = 1usize << log;
            let mut memory: Vec<[u64; 8]> = (0..n as u64).map(|i| [i; 8]).collect();
            let mut few: Vec<[u64; 1]> = (0..n as u64).map(|i| [i]).collect();
            let (mut many, few) = (Slots::new(&mut memory), Slots::new(&mut few));
            let mut word = 1u64;
            for _ in 0..200 {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = |bit: u32| (word >> bit) as usize % n;
                let words = [0, word];
                assert_eq!(many.field::<4>(false, &words)[7] as usize, at(0));
                assert_eq!(many.field::<5>(false, &words)[0] as usize, at(16));
                assert_eq!(few.field::<6>(false, &words)[0] as usize, at(32));
                assert_eq!(few.field::<4>(false, &words)[0] as usize, at(0));
                assert_eq!(many.field_mut::<7>(false, &words)[3] as usize, at(48));
                assert_eq!(many.field::<2>(true, &words)[3] as usize, at(0));
                assert_eq!(few.field::<3>(true, &words)[0] as usize, at(32));
            }
        }
    }

    #[test]
    #[should_panic(expected = "slots")]
    fn other_numbers_of_slots_are_refused() {
        Slots::new(&mut [[0u64; 8]; 3]);
    }
}
