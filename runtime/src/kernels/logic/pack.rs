//! Rows into slots.

use bitc_format::logic::Program;

use super::LogicInput;
use crate::isa::bits::{Bits, MANY};

/// Panics where an input is too short: a mistake of the caller.
pub(super) fn check(program: &Program, input: LogicInput<'_>, n_rows: usize) {
    let n_inputs = program.n_inputs();
    match input {
        LogicInput::Bytes(x) => assert!(x.len() / n_inputs.max(1) >= n_rows, "bytes of the rows"),
        LogicInput::Bits(x) => assert!(x.len() / n_inputs.div_ceil(8).max(1) >= n_rows, "bytes of the rows"),
        LogicInput::Packed(x) => {
            assert!(x.len() / n_inputs.max(1) >= n_rows.div_ceil(64 * MANY), "words of the rows");
        }
        LogicInput::Floats { x, n_features, features, thresholds } => {
            assert!(x.len() / n_features.max(1) >= n_rows, "values of the rows");
            assert_eq!(features.len(), n_inputs, "one feature per input");
            assert_eq!(thresholds.len(), n_inputs, "one threshold per input");
        }
    }
}

/// Packs `n` rows from row `first` on; bits past the last row are 0 or those of further rows.
#[inline(always)]
pub(super) fn pack<I: Bits<N>, const N: usize>(
    isa: I,
    input: LogicInput<'_>,
    first: usize,
    n: usize,
    slots: &mut [[u64; N]],
    turned: &mut [[u64; N]],
) {
    let n_inputs = slots.len();
    match input {
        LogicInput::Bytes(x) => isa.pack_bytes(&x[first * n_inputs..], n_inputs, n, slots, turned),
        LogicInput::Bits(x) => unpack_rows(&x[first * n_inputs.div_ceil(8)..], n, slots),
        LogicInput::Packed(x) => {
            let block = &x[first / (64 * MANY) * n_inputs..][..n_inputs];
            let word = first / 64 % MANY;
            for (slot, words) in slots.iter_mut().zip(block) {
                slot.copy_from_slice(&words[word..][..N]);
            }
        }
        LogicInput::Floats { x, n_features, features, thresholds } => {
            compare_rows(isa, &x[first * n_features..], n_features, features.iter().zip(thresholds), n, slots);
        }
    }
}

/// Turns blocks of 64 rows and 64 inputs around.
#[inline(always)]
fn unpack_rows<const N: usize>(x: &[u8], n: usize, slots: &mut [[u64; N]]) {
    let pitch = slots.len().div_ceil(8);
    for (chunk_idx, chunk) in slots.chunks_mut(64).enumerate() {
        let n_bytes = chunk.len().div_ceil(8);
        for lane in 0..N {
            let mut block = [0u64; 64];
            for (row, word) in block.iter_mut().enumerate().take(n.saturating_sub(64 * lane)) {
                let bytes = &x[(64 * lane + row) * pitch + 8 * chunk_idx..][..n_bytes];
                *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            }
            transpose(&mut block);
            for (slot, &word) in chunk.iter_mut().zip(&block) {
                slot[lane] = word;
            }
        }
    }
}

/// Exchanges bit `j` of word `i` with bit `i` of word `j`, in squares of halving size.
#[inline(always)]
fn transpose(block: &mut [u64; 64]) {
    let mut half = 32;
    let mut mask = 0x0000_0000_ffff_ffffu64;
    while half > 0 {
        for i in (0..64).filter(|i| i & half == 0) {
            let exchange = (block[i] >> half ^ block[i + half]) & mask;
            block[i] ^= exchange << half;
            block[i + half] ^= exchange;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

/// Gathers a feature of all rows once for the cuts that follow each other on it.
#[inline(always)]
fn compare_rows<'a, I: Bits<N>, const N: usize>(
    isa: I,
    x: &[f32],
    n_features: usize,
    cuts: impl Iterator<Item = (&'a i32, &'a f32)>,
    n: usize,
    slots: &mut [[u64; N]],
) {
    let mut column = [0f32; 64 * MANY];
    let column = &mut column[..n];
    let mut gathered = None;
    for (slot, (&feature, &threshold)) in slots.iter_mut().zip(cuts) {
        if gathered != Some(feature) {
            gathered = Some(feature);
            let feature = feature as usize;
            for (value, row) in column.iter_mut().zip(x.chunks_exact(n_features)) {
                *value = row[feature];
            }
        }
        isa.compare(column, threshold, slot);
    }
}
