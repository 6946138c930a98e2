//! Bits of many samples: what logic networks ask of an instruction set.
//!
//! A slot of a logic program holds one bit per sample in `N` words of 64; sample `i` is bit `i % 64` of word `i / 64`.
//! [`Bits`] moves and combines such slots, packs rows of bytes and floats into them, and adds up counts that are spread
//! over bit planes. `plain` defines the meaning of the latter; instruction sets override it where they know better, and
//! give the same bits.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that the compiler does not know to be there")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that the compiler does not know to be there")]
mod avx512;
mod plain;
#[expect(unsafe_code, reason = "offsets that are masked instead of compared")]
mod slots;
mod words;

use super::Isa;
pub(crate) use plain::group_scores;
pub(crate) use slots::Slots;

/// Words of 64 bits of a slot where there are many samples.
pub(crate) const MANY: usize = 8;
/// Words of a slot where there are few.
pub(crate) const FEW: usize = 1;

/// Columns that may be packed together.
pub(crate) const PACKED_TOGETHER: usize = 64;

/// How bit planes become scores.
#[derive(Clone, Copy)]
pub(crate) struct Head<'p> {
    /// Planes of a group that were counted in, of `per_group` that it has.
    pub(crate) count_bits: usize,
    /// Planes of a group.
    pub(crate) per_group: usize,
    /// For each group what it counts beside its planes.
    pub(crate) offsets: &'p [u32],
    /// What is added to a count.
    pub(crate) beta: f32,
    /// What the sum is divided by.
    pub(crate) tau: f32,
    /// `1 / tau`, where multiplying by it gives the same as dividing by `tau`.
    pub(crate) factor: Option<f32>,
}

/// Slots of `N` words in registers.
pub(crate) trait Bits<const N: usize>: Isa {
    /// Whether a table of three inputs is one instruction.
    const TABLE_IS_ONE_INSTRUCTION: bool = false;

    /// A slot in registers.
    type Slot: Copy;

    /// Reads a slot.
    fn load(self, from: &[u64; N]) -> Self::Slot;

    /// Writes a slot.
    fn store(self, slot: Self::Slot, to: &mut [u64; N]);

    /// Bit `a + 2b + 4c` of `TABLE`, for every sample.
    fn table<const TABLE: i32>(self, a: Self::Slot, b: Self::Slot, c: Self::Slot) -> Self::Slot;

    /// Packs up to `64 * N` rows of bytes: bit `r` of `slots[c]` is whether byte `c` of row `r` is not zero. Row `r`
    /// begins at `r * pitch`, and has as many columns as there are slots; bits past the last row are 0. `turned` is
    /// scratch of as many slots, rounded up to [`PACKED_TOGETHER`].
    #[inline(always)]
    fn pack_bytes(self, x: &[u8], pitch: usize, n_rows: usize, slots: &mut [[u64; N]], turned: &mut [[u64; N]]) {
        let _ = turned;
        plain::pack_bytes(x, pitch, n_rows, slots);
    }

    /// Writes the scores of the rows of word `word`, at most 64 and as many as `y` has: `y[r * n_groups + g]` is what
    /// `head` makes of the count of group `g`.
    #[inline(always)]
    fn write_scores(self, head: &Head<'_>, planes: &[[u64; N]], word: usize, y: &mut [f32]) {
        plain::write_scores(self, head, planes, word, y);
    }

    /// Writes `x[r] > threshold` to bit `r` for up to `64 * N` values; further bits are 0.
    #[inline(always)]
    fn compare(self, x: &[f32], threshold: f32, slot: &mut [u64; N]) {
        plain::compare(x, threshold, slot);
    }

    /// Adds up the bit planes of 64 samples: `counts[r] = offset + sum over p of bit r of planes[p][word] << p`.
    #[inline(always)]
    fn sum_planes(self, planes: &[[u64; N]], word: usize, offset: u32, counts: &mut [u32; 64]) {
        plain::sum_planes(planes, word, offset, counts);
    }
}

/// An instruction set for blocks of either size.
pub(crate) trait Samples: Bits<MANY> + Bits<FEW> {
    /// Whether a slot of [`MANY`] words is a few registers.
    const HOLDS_MANY: bool;
}
