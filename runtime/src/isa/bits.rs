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
mod words;

use super::Isa;

/// Words of 64 bits of a slot where there are many samples.
pub(crate) const MANY: usize = 8;
/// Words of a slot where there are few.
pub(crate) const FEW: usize = 1;

/// Columns that may be packed together.
pub(crate) const PACKED_TOGETHER: usize = 64;

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

    /// Writes `y[r * n_groups + g] = scores[g * rows + r]` for as many rows as `y` has.
    #[inline(always)]
    fn interleave_groups(self, scores: &[f32], rows: usize, y: &mut [f32], n_groups: usize) {
        plain::interleave_groups(scores, rows, y, n_groups);
    }

    /// Writes `x[r] > threshold` to bit `r` for up to `64 * N` values; further bits are 0.
    #[inline(always)]
    fn compare(self, x: &[f32], threshold: f32, slot: &mut [u64; N]) {
        plain::compare(x, threshold, slot);
    }

    /// Adds up bit planes: `counts[r] = offset + sum over p of bit r of planes[p] << p`, for as many rows as there are
    /// counts.
    #[inline(always)]
    fn sum_planes(self, planes: &[[u64; N]], offset: u32, counts: &mut [u32]) {
        plain::sum_planes(planes, offset, counts);
    }
}

/// An instruction set for blocks of either size.
pub(crate) trait Samples: Bits<MANY> + Bits<FEW> {
    /// Whether a slot of [`MANY`] words is a few registers.
    const HOLDS_MANY: bool;
}
