//! What a network sees on rows of data: which addresses of every table occur, and which wires always agree.
//!
//! Rows come in blocks and are forgotten again; what is kept is a word and two hashes per wire. All tables of a block are
//! looked up 512 rows at a time, as products of their inputs: one product per address, which is also what tells whether
//! the address occurs.

use bitc_ir::netlist::{MAX_FANIN, Netlist};

/// Words of 64 rows that are looked up together.
const WORDS: usize = 8;
/// Rows of a block.
pub const BLOCK_ROWS: usize = 64 * WORDS;

type Block = [u64; WORDS];

/// The values of a wire on all rows: its first one, whether it ever has the other, and a hash of where it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Signature {
    /// The value on the first row.
    pub(super) first: bool,
    /// Whether another value occurs.
    pub(super) changes: bool,
    /// Of the rows whose value is not that of the first.
    pub(super) hash: [u64; 2],
}

/// What was seen so far.
pub struct Seen<'n> {
    net: &'n Netlist,
    values: Vec<Block>,
    /// For each node the addresses that occurred.
    addresses: Vec<u64>,
    signatures: Vec<Signature>,
    rows: u64,
}

impl<'n> Seen<'n> {
    /// Nothing seen yet.
    pub fn new(net: &'n Netlist) -> Self {
        Self {
            net,
            values: vec![[0; WORDS]; net.n_wires()],
            addresses: vec![0; net.n_nodes()],
            signatures: vec![Signature::default(); net.n_wires()],
            rows: 0,
        }
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes rows of one byte per input, 0 or 1.
    pub fn look(&mut self, rows: &[u8]) {
        let n_inputs = self.net.n_inputs() as usize;
        if n_inputs == 0 {
            return;
        }
        for block in rows.chunks(n_inputs * BLOCK_ROWS) {
            let n_rows = block.len() / n_inputs;
            self.values[..n_inputs].fill([0; WORDS]);
            for (row, bits) in block.chunks_exact(n_inputs).enumerate() {
                for (value, &bit) in self.values.iter_mut().zip(bits) {
                    value[row / 64] |= u64::from(bit != 0) << (row % 64);
                }
            }
            self.block(n_rows);
        }
    }

    /// Looks up all tables for the rows in `values`, and notes what occurs.
    fn block(&mut self, n_rows: usize) {
        let mut valid = [0; WORDS];
        for (i, word) in valid.iter_mut().enumerate() {
            let n = n_rows.saturating_sub(64 * i).min(64);
            *word = if n == 64 { u64::MAX } else { (1 << n) - 1 };
        }
        let n_inputs = self.net.n_inputs() as usize;
        let mut products = [[0; WORDS]; 1 << MAX_FANIN];
        for (wire, node) in self.net.nodes() {
            products[0] = valid;
            let mut n = 1;
            for input in node.inputs {
                let (value, (low, high)) = (&self.values[input.index()], products.split_at_mut(n));
                for (low, high) in low.iter_mut().zip(high) {
                    for i in 0..WORDS {
                        high[i] = low[i] & value[i];
                        low[i] &= !value[i];
                    }
                }
                n *= 2;
            }
            let (mut occurs, mut value) = (0, [0; WORDS]);
            for (address, product) in products[..n].iter().enumerate() {
                let keep = (node.table >> address & 1).wrapping_neg();
                let mut any = 0;
                for i in 0..WORDS {
                    any |= product[i];
                    value[i] |= product[i] & keep;
                }
                occurs |= u64::from(any != 0) << address;
            }
            self.addresses[wire.index() - n_inputs] |= occurs;
            self.values[wire.index()] = value;
        }
        let is_start = self.rows == 0;
        for (signature, value) in self.signatures.iter_mut().zip(&self.values) {
            signature.add(value, &valid, is_start);
        }
        self.rows += n_rows as u64;
    }

    /// For each node, in order, the addresses that occurred.
    pub(super) fn addresses(&self) -> &[u64] {
        &self.addresses
    }

    /// The values of each wire.
    pub(super) fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The first output whose values are not those of another network on the same rows.
    pub fn first_difference(&self, other: &Seen<'_>) -> Option<usize> {
        let values = |seen: &Seen<'_>, output: usize| seen.signatures[seen.net.outputs()[output].index()];
        (0..self.net.outputs().len()).find(|&output| values(self, output) != values(other, output))
    }
}

impl Signature {
    fn add(&mut self, value: &Block, valid: &Block, is_start: bool) {
        if is_start {
            self.first = value[0] & 1 == 1;
        }
        let flip = u64::from(self.first).wrapping_neg();
        for (&word, &valid) in value.iter().zip(valid) {
            let word = (word ^ flip) & valid;
            self.changes |= word != 0;
            self.hash[0] = (self.hash[0].rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash[1] = (self.hash[1] ^ word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_values_are_those_of_the_rows() {
        let net: Netlist =
            "netlist {\n inputs 3\n %3 = 8(%0, %1)\n %4 = 7(%1, %0)\n %5 = 96(%0, %1, %2)\n outputs %3, %4\n}"
                .parse()
                .unwrap();
        for n in [1, 63, 64, 65, 511, 512, 513, 1500] {
            let mut seen = Seen::new(&net);
            // The third bit is the first, so of eight addresses four can occur.
            let rows: Vec<u8> = (0..n).flat_map(|r: usize| [(r % 2) as u8, (r / 2 % 2) as u8, (r % 2) as u8]).collect();
            // In uneven pieces: whole blocks, then the rest.
            let (head, tail) = rows.split_at(n / 700 * 512 * 3);
            seen.look(head);
            seen.look(tail);
            assert_eq!(seen.rows(), n as u64);
            let all = if n == 1 { [1, 1, 1] } else { [0b1111, 0b1111, 0b1010_0101] };
            assert_eq!(seen.addresses(), all, "{n} rows");
            let of = |wire: usize| seen.signatures()[wire];
            assert_eq!((of(0), of(3).hash), (of(2), of(4).hash));
            assert!(of(0) == of(2) && (n == 1 || of(0) != of(1)));
            assert_eq!((of(3).first, of(4).first), (false, true));
        }
    }
}
