//! Comparing two netlists by value: all inputs when there are few, seeded random ones otherwise.

use super::Netlist;
use std::fmt;

/// The most inputs that are tried exhaustively.
const EXHAUSTIVE: u32 = 16;
/// Words evaluated in one go.
const CHUNK: usize = 64;

/// Where two netlists differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// They have different numbers of inputs or outputs.
    Shape {
        /// Inputs and outputs of the first.
        left: (u32, usize),
        /// Inputs and outputs of the second.
        right: (u32, usize),
    },
    /// An output differs for these inputs.
    Value {
        /// Which output.
        output: usize,
        /// The bits of the inputs.
        inputs: Vec<bool>,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Shape { left, right } => {
                write!(f, "{} inputs and {} outputs against {} and {}", left.0, left.1, right.0, right.1)
            }
            Mismatch::Value { output, inputs } => {
                let bits: String = inputs.iter().map(|&b| if b { '1' } else { '0' }).collect();
                write!(f, "output {output} differs for inputs {bits} (input 0 first)")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Compares two netlists: exhaustively up to 16 inputs, else on at least `samples` random input vectors from `seed`.
///
/// # Errors
/// The first difference found.
pub fn compare(left: &Netlist, right: &Netlist, samples: u64, seed: u64) -> Result<(), Mismatch> {
    let shape = |net: &Netlist| (net.n_inputs(), net.outputs().len());
    if shape(left) != shape(right) {
        return Err(Mismatch::Shape { left: shape(left), right: shape(right) });
    }
    let n_inputs = left.n_inputs();
    let exhaustive = n_inputs <= EXHAUSTIVE;
    let n_words = if exhaustive { (1u64 << n_inputs).div_ceil(64) } else { samples.div_ceil(64) } as usize;
    let mut state = seed;
    for first in (0..n_words).step_by(CHUNK) {
        let n = CHUNK.min(n_words - first);
        let mut words = Vec::with_capacity(n_inputs as usize * n);
        for input in 0..n_inputs {
            for word in first..first + n {
                words.push(if exhaustive { counting_word(input, word) } else { next_random(&mut state) });
            }
        }
        let (a, b) = (left.eval_words(&words, n), right.eval_words(&words, n));
        if let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) {
            let bit = (a[at] ^ b[at]).trailing_zeros();
            let word = at % n;
            let inputs = (0..n_inputs as usize).map(|i| words[i * n + word] >> bit & 1 == 1).collect();
            return Err(Mismatch::Value { output: at / n, inputs });
        }
    }
    Ok(())
}

/// The word that input `input` has in word `word` of a count through all addresses.
fn counting_word(input: u32, word: usize) -> u64 {
    const LOW: [u64; 6] = [
        0xaaaa_aaaa_aaaa_aaaa,
        0xcccc_cccc_cccc_cccc,
        0xf0f0_f0f0_f0f0_f0f0,
        0xff00_ff00_ff00_ff00,
        0xffff_0000_ffff_0000,
        0xffff_ffff_0000_0000,
    ];
    match LOW.get(input as usize) {
        Some(&pattern) => pattern,
        None => (word as u64 >> (input - 6) & 1).wrapping_neg(),
    }
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::Wire;
    use super::*;

    fn gate(n_inputs: u32, table: u64, inputs: &[u32]) -> Netlist {
        let mut net = Netlist::new(n_inputs);
        let inputs: Vec<Wire> = inputs.iter().map(|&i| Wire::new(i)).collect();
        let out = net.add(table, &inputs).unwrap();
        net.add_output(out).unwrap();
        net
    }

    #[test]
    fn equal_functions_in_other_words() {
        for n in [2, 7, 16, 40] {
            compare(&gate(n, 0b0010, &[0, 1]), &gate(n, 0b0100, &[1, 0]), 1000, 1).unwrap();
        }
    }

    #[test]
    fn finds_the_one_address_that_differs() {
        let mut inputs: Vec<u32> = (0..6).collect();
        inputs.reverse();
        let got = compare(&gate(16, 1 << 63, &inputs), &gate(16, 0, &inputs), 0, 1);
        let mut want = vec![true; 6];
        want.resize(16, false);
        assert_eq!(got, Err(Mismatch::Value { output: 0, inputs: want }));
        assert_eq!(
            compare(&gate(2, 0, &[]), &gate(3, 0, &[]), 0, 1),
            Err(Mismatch::Shape { left: (2, 1), right: (3, 1) })
        );
        assert!(compare(&gate(40, 8, &[0, 39]), &gate(40, 0, &[0, 39]), 1000, 7).is_err());
    }
}
