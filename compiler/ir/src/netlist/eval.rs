//! The reference evaluator of netlists: 64 samples in a word, every wire kept, nothing clever.

use super::{Netlist, Wire};

/// Words evaluated together: small enough that a network of a million nodes needs some tens of megabytes.
const BLOCK: usize = 8;
type Block = [u64; BLOCK];

impl Netlist {
    /// Evaluates `64 * n_words` samples. `inputs` holds `n_words` words per input, input after input, bit `i` of a
    /// word being one sample; the answer has the same layout for the outputs.
    ///
    /// # Panics
    /// When `inputs.len()` is not `n_inputs * n_words`.
    pub fn eval_words(&self, inputs: &[u64], n_words: usize) -> Vec<u64> {
        assert_eq!(inputs.len(), self.n_inputs() as usize * n_words, "words of the inputs");
        let mut outputs = vec![0; self.outputs().len() * n_words];
        let mut values = vec![[0; BLOCK]; self.n_wires()];
        for first in (0..n_words).step_by(BLOCK) {
            let n = BLOCK.min(n_words - first);
            for (i, value) in values[..self.n_inputs() as usize].iter_mut().enumerate() {
                value[..n].copy_from_slice(&inputs[i * n_words + first..][..n]);
            }
            for (wire, node) in self.nodes() {
                values[wire.index()] = look_up(node.table, node.inputs, &values);
            }
            for (i, output) in self.outputs().iter().enumerate() {
                outputs[i * n_words + first..][..n].copy_from_slice(&values[output.index()][..n]);
            }
        }
        outputs
    }
}

/// Multiplexes the bits of a table, halving them input after input. Each two bits of the table name a function of the first
/// input.
fn look_up(table: u64, inputs: &[Wire], values: &[Block]) -> Block {
    let Some((first, rest)) = inputs.split_first() else { return [(table & 1).wrapping_neg(); BLOCK] };
    let value = values[first.index()];
    let functions = [[0; BLOCK], value.map(|word| !word), value, [u64::MAX; BLOCK]];
    let mut leaves = [[0; BLOCK]; 32];
    let mut n = 1usize << rest.len();
    for (i, leaf) in leaves[..n].iter_mut().enumerate() {
        *leaf = functions[(table >> (2 * i) & 3) as usize];
    }
    for input in rest {
        n /= 2;
        for i in 0..n {
            leaves[i] = multiplex(&values[input.index()], &leaves[2 * i], &leaves[2 * i + 1]);
        }
    }
    leaves[0]
}

/// `high` where `select` is 1, else `low`.
fn multiplex(select: &Block, low: &Block, high: &Block) -> Block {
    std::array::from_fn(|i| (high[i] & select[i]) | (low[i] & !select[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_up_to_three_inputs() {
        for n in 0..=3u32 {
            let inputs: Vec<Wire> = (0..n).map(Wire::new).collect();
            for table in 0..1u64 << (1 << n) {
                let mut net = Netlist::new(n);
                let out = net.add(table, &inputs).unwrap();
                net.add_output(out).unwrap();
                let words: Vec<u64> = [0xaa, 0xcc, 0xf0][..n as usize].to_vec();
                let got = net.eval_words(&words, 1)[0];
                for address in 0..8u64 {
                    let want = table >> (address & ((1 << n) - 1)) & 1;
                    assert_eq!(got >> address & 1, want, "table {table:x} of {n} inputs at {address}");
                }
            }
        }
    }

    #[test]
    fn any_number_of_words() {
        let mut net = Netlist::new(2);
        let out = net.add(6, &[Wire::new(0), Wire::new(1)]).unwrap();
        net.add_output(out).unwrap();
        net.add_output(Wire::new(1)).unwrap();
        for n in 0..2 * BLOCK + 2 {
            let words: Vec<u64> = (0..2 * n as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let got = net.eval_words(&words, n);
            assert_eq!(got.len(), 2 * n);
            for i in 0..n {
                assert_eq!(got[i], words[i] ^ words[n + i]);
                assert_eq!(got[n + i], words[n + i]);
            }
        }
    }
}
