//! Slots and bit planes into answers.

use bitc_format::logic::Program;

use super::LogicOutput;
use crate::isa::bits::{Bits, Head, group_scores};

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
            let head = scaled_by(program, *tau, *beta);
            let y = &mut y[first * n_groups..(first + n) * n_groups];
            for (word, y) in y.chunks_mut(64 * n_groups).enumerate() {
                isa.write_scores(&head, planes, word, y);
            }
        }
        LogicOutput::Argmax { y, tau, beta } => {
            let head = scaled_by(program, *tau, *beta);
            let mut scores = [0f32; 64];
            for (word, y) in y[first..first + n].chunks_mut(64).enumerate() {
                let (mut best, mut classes) = ([f32::NEG_INFINITY; 64], [0u32; 64]);
                for group in 0..program.n_groups() {
                    group_scores(isa, &head, planes, group, word, &mut scores);
                    for ((class, best), &score) in classes.iter_mut().zip(&mut best).zip(&scores) {
                        *class = if score > *best { group as u32 } else { *class };
                        *best = if score > *best { score } else { *best };
                    }
                }
                y.iter_mut().zip(&classes).for_each(|(y, &class)| *y = i64::from(class));
            }
        }
    }
}

/// What becomes of the counts of a program.
fn scaled_by(program: &Program, tau: f32, beta: f32) -> Head<'_> {
    Head {
        count_bits: program.count_bits() as usize,
        per_group: super::n_planes(program),
        offsets: program.offsets(),
        beta,
        tau,
        factor: exact_reciprocal(tau),
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
