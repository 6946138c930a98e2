//! Logic networks: rows in, class scores, classes or bits out.
//!
//! Rows are taken in blocks of 512 samples, or of 64 where there are no more; a block is packed into slots, the program
//! runs over them (`run`), and its outputs are counted out (`head`). All of a block stays in the caller's scratch, and
//! nothing is allocated.

mod head;
mod pack;
mod run;

use bitc_format::logic::Program;

use crate::isa::bits::{Bits, FEW, MANY, PACKED_TOGETHER, Samples};

/// Rows for a logic program.
#[derive(Clone, Copy, Debug)]
pub enum LogicInput<'a> {
    /// A byte per input, row after row; anything but 0 is 1.
    Bytes(&'a [u8]),
    /// Eight inputs per byte, lowest bit first; each row begins at a byte.
    Bits(&'a [u8]),
    /// Already packed: for each 512 rows and each input 512 bits, row `r` in bit `r % 64` of word `r / 64`.
    Packed(&'a [[u64; MANY]]),
    /// Floats, row after row. Input `i` is `x[features[i]] > thresholds[i]`, false for NaN.
    Floats {
        /// The values.
        x: &'a [f32],
        /// Values per row.
        n_features: usize,
        /// For each input of the program which feature it compares.
        features: &'a [i32],
        /// For each input of the program the largest value that gives 0.
        thresholds: &'a [f32],
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

impl<'a> LogicInput<'a> {
    /// The rows from `first` on, which is the first of a block.
    #[cfg(feature = "threads")]
    pub(super) fn skip_rows(self, program: &Program, first: usize) -> Self {
        let n_inputs = program.n_inputs();
        match self {
            LogicInput::Bytes(x) => LogicInput::Bytes(&x[first * n_inputs..]),
            LogicInput::Bits(x) => LogicInput::Bits(&x[first * n_inputs.div_ceil(8)..]),
            LogicInput::Packed(x) => LogicInput::Packed(&x[first / BLOCK_ROWS * n_inputs..]),
            LogicInput::Floats { x, n_features, features, thresholds } => {
                LogicInput::Floats { x: &x[first * n_features..], n_features, features, thresholds }
            }
        }
    }
}

impl<'a> LogicOutput<'a> {
    /// The places of the first `n` rows, and those of the others.
    #[cfg(feature = "threads")]
    pub(super) fn split_at_row(self, program: &Program, n: usize) -> (Self, Self) {
        let (n_outputs, n_groups) = (program.outputs().len(), program.n_groups());
        match self {
            LogicOutput::Bytes(y) => {
                let (a, b) = y.split_at_mut(n * n_outputs);
                (LogicOutput::Bytes(a), LogicOutput::Bytes(b))
            }
            LogicOutput::Bits(y) => {
                let (a, b) = y.split_at_mut(n * n_outputs.div_ceil(8));
                (LogicOutput::Bits(a), LogicOutput::Bits(b))
            }
            LogicOutput::Scores { y, tau, beta } => {
                let (a, b) = y.split_at_mut(n * n_groups);
                (LogicOutput::Scores { y: a, tau, beta }, LogicOutput::Scores { y: b, tau, beta })
            }
            LogicOutput::Argmax { y, tau, beta } => {
                let (a, b) = y.split_at_mut(n);
                (LogicOutput::Argmax { y: a, tau, beta }, LogicOutput::Argmax { y: b, tau, beta })
            }
        }
    }
}

/// Rows of a whole block.
#[cfg(feature = "threads")]
pub(super) const BLOCK_ROWS: usize = 64 * MANY;

/// The planes a group counts in: at least as many as the counting kernel keeps in registers.
fn n_planes(program: &Program) -> usize {
    (program.count_bits() as usize).max(run::PLANES_IN_REGISTERS)
}

/// Words of scratch that a program needs; `None` when that is more than memory can hold.
pub fn logic_scratch_words(program: &Program) -> Option<usize> {
    let planes = program.n_groups().checked_mul(n_planes(program))?;
    let turned = program.n_inputs().checked_next_multiple_of(PACKED_TOGETHER)?;
    program.n_slots().checked_next_power_of_two()?.checked_add(planes)?.checked_add(turned)?.checked_mul(MANY)
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
        // One block size is less code: the one that registers of the instruction set hold.
        let many = if cfg!(feature = "minimal") { I::HOLDS_MANY } else { left > 64 * FEW };
        let n = left.min(64 * if many { MANY } else { FEW });
        if many {
            block::<I, MANY>(isa, program, input, &mut output, first, n, scratch);
        } else {
            block::<I, FEW>(isa, program, input, &mut output, first, n, scratch);
        }
        first += n;
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
    let (slots, rest) = words.split_at_mut(program.n_slots().next_power_of_two());
    let (planes, turned) = rest.split_at_mut(program.n_groups() * n_planes);
    pack::pack(isa, input, first, n, &mut slots[..program.n_inputs()], turned);
    planes.fill([0; N]);
    run::run(isa, program, slots, planes, n_planes);
    head::write(isa, program, slots, planes, first, n, output);
}
