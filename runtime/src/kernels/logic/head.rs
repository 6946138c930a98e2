//! Slots and bit planes into answers.

use bitc_format::logic::Program;

use super::LogicOutput;
use crate::isa::bits::{Bits, MANY};

/// The most groups whose scores are interleaved at once.
const TOGETHER: usize = 16;
/// The most rows of a block.
const ROWS: usize = 64 * MANY;

/// Panics where an output is too short: a mistake of the caller.
pub(super) fn check(program: &Program, output: &LogicOutput<'_>, n_rows: usize) {
    let (n_outputs, n_groups) = (program.outputs().len(), program.n_groups());
    match output {
        LogicOutput::Bytes(y) => assert!(y.len() / n_outputs.max(1) >= n_rows, "bytes of the answers"),
        LogicOutput::Bits(y) => assert!(y.len() / n_outputs.div_ceil(8).max(1) >= n_rows, "bytes of the answers"),
        LogicOutput::Scores { y, .. } => assert!(y.len() / n_groups.max(1) >= n_rows, "scores of the rows"),
        LogicOutput::Argmax { y, .. } => assert!(y.len() >= n_rows, "classes of the rows"),
    }
}

/// Writes the answers of `n` rows from row `first` on.
#[inline(always)]
pub(super) fn write<I: Bits<N>, const N: usize>(
    isa: I,
    program: &Program,
    slots: &[[u64; N]],
    planes: &[[u64; N]],
    first: usize,
    n: usize,
    output: &mut LogicOutput<'_>,
) {
    let n_outputs = program.outputs().len();
    match output {
        LogicOutput::Bytes(y) => {
            let y = &mut y[first * n_outputs..(first + n) * n_outputs];
            for (i, &slot) in program.outputs().iter().enumerate() {
                let slot = &slots[slot as usize];
                for (row, y) in y.chunks_exact_mut(n_outputs).enumerate() {
                    y[i] = bit(slot, row);
                }
            }
        }
        LogicOutput::Bits(y) => {
            let pitch = n_outputs.div_ceil(8);
            let y = &mut y[first * pitch..(first + n) * pitch];
            y.fill(0);
            for (i, &slot) in program.outputs().iter().enumerate() {
                let slot = &slots[slot as usize];
                for (row, y) in y.chunks_exact_mut(pitch).enumerate() {
                    y[i / 8] |= bit(slot, row) << (i % 8);
                }
            }
        }
        LogicOutput::Scores { y, tau, beta } => {
            let n_groups = program.n_groups();
            let y = &mut y[first * n_groups..(first + n) * n_groups];
            if n_groups <= TOGETHER {
                let mut all = [0f32; TOGETHER * ROWS];
                let all = &mut all[..n_groups * n];
                let mut rows = all.chunks_exact_mut(n);
                each_group(isa, program, planes, n, *tau, *beta, |_, scores| {
                    if let Some(row) = rows.next() {
                        row.copy_from_slice(scores);
                    }
                });
                isa.interleave_groups(all, n, y, n_groups);
            } else {
                each_group(isa, program, planes, n, *tau, *beta, |group, scores| {
                    for (y, &score) in y.chunks_exact_mut(n_groups).zip(scores) {
                        y[group] = score;
                    }
                });
            }
        }
        LogicOutput::Argmax { y, tau, beta } => {
            let y = &mut y[first..first + n];
            y.fill(0);
            let mut best = [f32::NEG_INFINITY; ROWS];
            each_group(isa, program, planes, n, *tau, *beta, |group, scores| {
                for ((y, best), &score) in y.iter_mut().zip(&mut best).zip(scores) {
                    if score > *best {
                        *best = score;
                        *y = group as i64;
                    }
                }
            });
        }
    }
}

/// Hands out the scores of the rows, group after group.
#[inline(always)]
fn each_group<I: Bits<N>, const N: usize>(
    isa: I,
    program: &Program,
    planes: &[[u64; N]],
    n: usize,
    tau: f32,
    beta: f32,
    mut take: impl FnMut(usize, &[f32]),
) {
    let (mut counts, mut scores) = ([0u32; ROWS], [0f32; ROWS]);
    let (counts, scores) = (&mut counts[..n], &mut scores[..n]);
    let per_group = super::n_planes(program);
    let factor = exact_reciprocal(tau);
    for (group, &offset) in program.offsets().iter().enumerate() {
        let planes = &planes[group * per_group..][..program.count_bits() as usize];
        isa.sum_planes(planes, offset, counts);
        // Counts are below 2^24, so neither conversion rounds, and the signed one is the faster.
        if let Some(factor) = factor {
            for (score, &count) in scores.iter_mut().zip(&*counts) {
                *score = (count as i32 as f32 + beta) * factor;
            }
        } else {
            for (score, &count) in scores.iter_mut().zip(&*counts) {
                *score = (count as i32 as f32 + beta) / tau;
            }
        }
        take(group, scores);
    }
}

/// `1 / x` where multiplying by it gives the same as dividing by `x`: for powers of two.
fn exact_reciprocal(x: f32) -> Option<f32> {
    let is_power = x.is_normal() && x.to_bits() & 0x007f_ffff == 0;
    Some(1.0 / x).filter(|factor| is_power && factor.is_normal())
}

/// The bit of a row.
#[inline(always)]
fn bit<const N: usize>(slot: &[u64; N], row: usize) -> u8 {
    (slot[row / 64] >> (row % 64) & 1) as u8
}
