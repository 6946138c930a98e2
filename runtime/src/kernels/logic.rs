//! Logic networks: rows in, class scores, classes or bits out.
//!
//! Rows are taken in blocks of 512 samples, or of 128 where there are no more; a block is packed into slots, the program
//! runs over them (`run`), and its outputs are counted out (`head`). All of a block stays in the caller's scratch, and
//! nothing is allocated.

mod head;
mod pack;
mod run;

use bitc_format::logic::Program;

use crate::isa::bits::{Bits, FEW, MANY, PACKED_TOGETHER, Samples};

/// A threshold on one feature: the input bit is `x[feature] > threshold`, false for NaN.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cut {
    /// Which feature.
    pub feature: u32,
    /// The largest value that gives 0.
    pub threshold: f32,
}

/// Rows for a logic program.
#[derive(Clone, Copy, Debug)]
pub enum LogicInput<'a> {
    /// A byte per input, row after row; anything but 0 is 1.
    Bytes(&'a [u8]),
    /// Eight inputs per byte, lowest bit first; each row begins at a byte.
    Bits(&'a [u8]),
    /// Already packed: for each 512 rows and each input 512 bits, row `r` in bit `r % 64` of word `r / 64`.
    Packed(&'a [[u64; MANY]]),
    /// Floats, row after row, and for each input where its feature is cut.
    Floats {
        /// The values.
        x: &'a [f32],
        /// Values per row.
        n_features: usize,
        /// One per input of the program.
        cuts: &'a [Cut],
    },
}

/// Where the answers of a logic program go.
#[derive(Debug)]
pub enum LogicOutput<'a> {
    /// A byte per output, 0 or 1, row after row.
    Bytes(&'a mut [u8]),
    /// Eight outputs per byte, lowest bit first; each row begins at a byte.
    Bits(&'a mut [u8]),
    /// `(count + beta) / tau` per group, row after row.
    Scores {
        /// The scores.
        y: &'a mut [f32],
        /// What a count is divided by.
        tau: f32,
        /// What is added before.
        beta: f32,
    },
    /// The group of the largest score per row, the first of equal ones.
    Argmax {
        /// The groups.
        y: &'a mut [i64],
        /// What a count is divided by.
        tau: f32,
        /// What is added before.
        beta: f32,
    },
}

/// The planes a group counts in: at least as many as the counting kernel keeps in registers.
fn n_planes(program: &Program) -> usize {
    (program.count_bits() as usize).max(run::PLANES_IN_REGISTERS)
}

/// Words of scratch that a program needs; `None` when that is more than memory can hold.
pub fn logic_scratch_words(program: &Program) -> Option<usize> {
    let planes = program.n_groups().checked_mul(n_planes(program))?;
    let turned = program.n_inputs().checked_next_multiple_of(PACKED_TOGETHER)?;
    program.n_slots().checked_add(planes)?.checked_add(turned)?.checked_mul(MANY)
}

/// Checks the lengths and runs all blocks.
///
/// # Panics
/// If the lengths do not fit.
#[inline(always)]
pub(super) fn logic<I: Samples>(
    isa: I,
    program: &Program,
    input: LogicInput<'_>,
    mut output: LogicOutput<'_>,
    n_rows: usize,
    scratch: &mut [u64],
) {
    pack::check(program, input, n_rows);
    head::check(program, &output, n_rows);
    let mut first = 0;
    while first < n_rows {
        let left = n_rows - first;
        if left > 64 * FEW {
            block::<I, MANY>(isa, program, input, &mut output, first, left.min(64 * MANY), scratch);
        } else {
            block::<I, FEW>(isa, program, input, &mut output, first, left, scratch);
        }
        first += left.min(64 * MANY);
    }
}

/// Runs `n` rows from row `first` on.
#[inline(always)]
fn block<I: Bits<N>, const N: usize>(
    isa: I,
    program: &Program,
    input: LogicInput<'_>,
    output: &mut LogicOutput<'_>,
    first: usize,
    n: usize,
    scratch: &mut [u64],
) {
    let n_planes = n_planes(program);
    let (words, _) = scratch.as_chunks_mut::<N>();
    let (slots, rest) = words.split_at_mut(program.n_slots());
    let (planes, turned) = rest.split_at_mut(program.n_groups() * n_planes);
    pack::pack(isa, input, first, n, &mut slots[..program.n_inputs()], turned);
    planes.fill([0; N]);
    if program.is_wide() {
        run::run::<I, N, true>(isa, program, slots, planes, n_planes);
    } else {
        run::run::<I, N, false>(isa, program, slots, planes, n_planes);
    }
    head::write(isa, program, slots, planes, first, n, output);
}
