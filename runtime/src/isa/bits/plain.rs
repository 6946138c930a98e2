//! Plain loops over words of 64 samples: the definitions that instruction sets are checked against, written so that
//! compilers turn them into whatever vectors the target has.

use core::ops::{BitAnd, BitOr, BitXor, Not};

use super::{Bits, Head};

/// Bits of several samples that are combined at once.
pub(super) trait Word:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
}

impl<W: Copy + BitAnd<Output = W> + BitOr<Output = W> + BitXor<Output = W> + Not<Output = W>> Word for W {}

/// A table of three inputs as the multiplexer of two of two inputs. All branches are on constants.
#[inline(always)]
pub(super) fn table<const TABLE: i32, W: Word>(a: W, b: W, c: W) -> W {
    match TABLE {
        // The multiplexer and the majority, in the fewest steps.
        0xe4 => return b ^ (a & (b ^ c)),
        0xe8 => return (a & b) | (c & (a | b)),
        _ => {}
    }
    let (low, high) = (TABLE & 15, TABLE >> 4 & 15);
    let (f0, f1) = (pair(low, a, b), pair(high, a, b));
    if low == high {
        f0
    } else if low == !high & 15 {
        f0 ^ c
    } else if low == 0 {
        f1 & c
    } else if high == 0 {
        f0 & !c
    } else {
        (f0 & !c) | (f1 & c)
    }
}

/// A table of two inputs.
#[inline(always)]
fn pair<W: Word>(table: i32, a: W, b: W) -> W {
    match table {
        0b0000 => a & !a,
        0b0001 => !(a | b),
        0b0010 => a & !b,
        0b0011 => !b,
        0b0100 => !a & b,
        0b0101 => !a,
        0b0110 => a ^ b,
        0b0111 => !(a & b),
        0b1000 => a & b,
        0b1001 => !(a ^ b),
        0b1010 => a,
        0b1011 => a | !b,
        0b1100 => b,
        0b1101 => !a | b,
        0b1110 => a | b,
        _ => a | !a,
    }
}

/// See [`super::Bits::pack_bytes`]: eight rows at a time give a byte of eight bits per column.
#[inline(always)]
pub(super) fn pack_bytes<const N: usize>(x: &[u8], pitch: usize, n_rows: usize, slots: &mut [[u64; N]]) {
    const CHUNK: usize = 64;
    for (chunk_idx, chunk) in slots.chunks_mut(CHUNK).enumerate() {
        let first = chunk_idx * CHUNK;
        for lane in 0..N {
            let mut words = [0u64; CHUNK];
            for byte in 0..8 {
                let mut bits = [0u8; CHUNK];
                for bit in 0..8 {
                    let row = 64 * lane + 8 * byte + bit;
                    if row >= n_rows {
                        break;
                    }
                    let columns = &x[row * pitch + first..][..chunk.len()];
                    for (bits, &value) in bits.iter_mut().zip(columns) {
                        *bits |= u8::from(value != 0) << bit;
                    }
                }
                for (word, &bits) in words.iter_mut().zip(&bits) {
                    *word |= u64::from(bits) << (8 * byte);
                }
            }
            for (slot, &word) in chunk.iter_mut().zip(&words) {
                slot[lane] = word;
            }
        }
    }
}

/// See [`super::Bits::compare`].
#[inline(always)]
pub(super) fn compare<const N: usize>(x: &[f32], threshold: f32, slot: &mut [u64; N]) {
    *slot = [0; N];
    for (word, values) in slot.iter_mut().zip(x.chunks(64)) {
        for (bit, &value) in values.iter().enumerate() {
            *word |= u64::from(value > threshold) << bit;
        }
    }
}

/// See [`super::Bits::sum_planes`]: up to eight planes are added with one byte per sample.
#[inline(always)]
pub(super) fn sum_planes<const N: usize>(planes: &[[u64; N]], word: usize, offset: u32, counts: &mut [u32; 64]) {
    counts.fill(offset);
    for (i, counts) in counts.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (shift, planes) in (0..).step_by(8).zip(planes.chunks(8)) {
            let mut sums = 0u64;
            for (p, plane) in planes.iter().enumerate() {
                sums |= spread(plane[word] >> (8 * i) & 0xff) << p;
            }
            for (count, sum) in counts.iter_mut().zip(sums.to_le_bytes()) {
                *count += u32::from(sum) << shift;
            }
        }
    }
}

/// See [`super::Bits::write_scores`].
#[inline(always)]
pub(super) fn write_scores<I: Bits<N>, const N: usize>(
    isa: I,
    head: &Head<'_>,
    planes: &[[u64; N]],
    word: usize,
    y: &mut [f32],
) {
    let mut scores = [0f32; 64];
    let n_groups = head.offsets.len();
    for group in 0..n_groups {
        group_scores(isa, head, planes, group, word, &mut scores);
        for (y, &score) in y.chunks_exact_mut(n_groups).zip(&scores) {
            y[group] = score;
        }
    }
}

/// The scores of a group for the 64 rows of a word.
#[inline(always)]
pub(crate) fn group_scores<I: Bits<N>, const N: usize>(
    isa: I,
    head: &Head<'_>,
    planes: &[[u64; N]],
    group: usize,
    word: usize,
    scores: &mut [f32; 64],
) {
    let mut counts = [0u32; 64];
    isa.sum_planes(&planes[group * head.per_group..][..head.count_bits], word, head.offsets[group], &mut counts);
    // Counts are below 2^24, so neither conversion rounds, and the signed one is the faster.
    if let Some(factor) = head.factor {
        for (score, &count) in scores.iter_mut().zip(&counts) {
            *score = (count as i32 as f32 + head.beta) * factor;
        }
    } else {
        for (score, &count) in scores.iter_mut().zip(&counts) {
            *score = (count as i32 as f32 + head.beta) / head.tau;
        }
    }
}

/// Bit `i` of a byte in byte `i`.
#[inline(always)]
fn spread(byte: u64) -> u64 {
    // Seven copies 7 bits apart put bit i at 8 i for i < 7 without meeting; bit 7 is moved on its own.
    let low = (byte & 0x7f).wrapping_mul(0x0000_0408_1020_4081);
    (low & 0x0001_0101_0101_0101) | (byte >> 7) << 56
}
