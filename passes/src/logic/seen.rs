//! What a network sees on rows of data: which addresses of every table occur, and which wires always agree.
//!
//! Rows come in blocks and are forgotten again; what is kept is a word and two hashes per wire, so the rows may be as many
//! as there are. All tables of a block are looked up 512 rows at a time, and then only the addresses that have not yet
//! occurred are looked for: a table that has seen them all costs no more than its value.

use super::truth;
use bitc_ir::netlist::{MAX_FANIN, Netlist, Wire, table_mask};

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

    /// Nothing seen yet, and only values to be seen: all addresses count as having occurred.
    pub fn values_of(net: &'n Netlist) -> Self {
        let addresses = net.nodes().map(|(_, node)| table_mask(node.inputs.len())).collect();
        Self { addresses, ..Self::new(net) }
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
        for ((wire, node), occurred) in self.net.nodes().zip(&mut self.addresses) {
            let unseen = table_mask(node.inputs.len()) & !*occurred;
            if unseen != 0 {
                *occurred |= occurring(unseen, node.inputs, &self.values, &valid);
            }
            self.values[wire.index()] = value(node.table, node.inputs, &self.values);
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

/// The values of a table, of rows that are not valid too: its bits are multiplexed, four of them at a time by the first two
/// inputs, then halved input after input.
fn value(table: u64, inputs: &[Wire], values: &[Block]) -> Block {
    let table = truth::repeat(table, inputs.len());
    let [first, second, rest @ ..] = inputs else {
        let of = inputs.first().map_or([0; WORDS], |wire| values[wire.index()]);
        return multiplex(&of, &[(table & 1).wrapping_neg(); WORDS], &[(table >> 1 & 1).wrapping_neg(); WORDS]);
    };
    let (a, b) = (&values[first.index()], &values[second.index()]);
    // Bit `i` of a function's number is its value where `a` is `i & 1` and `b` is `i >> 1`.
    let mut functions = [[0; WORDS]; 16];
    for (number, function) in functions.iter_mut().enumerate().skip(1) {
        let of = |i: usize| ((number >> i & 1) as u64).wrapping_neg();
        let (low, step) = ([of(0), of(2)], [of(0) ^ of(1), of(2) ^ of(3)]);
        for i in 0..WORDS {
            let (zero, one) = (low[0] ^ step[0] & a[i], low[1] ^ step[1] & a[i]);
            function[i] = zero ^ (zero ^ one) & b[i];
        }
    }
    let function = |quarter: usize| &functions[(table >> (4 * quarter) & 15) as usize];
    let Some((third, rest)) = rest.split_first() else { return *function(0) };
    let mut n = 1usize << rest.len();
    let mut leaves = [[0; WORDS]; 1 << (MAX_FANIN - 3)];
    for (i, leaf) in leaves[..n].iter_mut().enumerate() {
        *leaf = multiplex(&values[third.index()], function(2 * i), function(2 * i + 1));
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
    std::array::from_fn(|i| low[i] ^ (low[i] ^ high[i]) & select[i])
}

/// Those of some addresses that occur in the valid rows: where an address occurs, a product of the first three inputs and
/// one of the others are both 1.
fn occurring(addresses: u64, inputs: &[Wire], values: &[Block], valid: &Block) -> u64 {
    let (first, rest) = inputs.split_at(inputs.len().min(3));
    let (low, high) = (products(first, values, valid), products(rest, values, valid));
    let (mut found, mut left) = (0, addresses);
    while left != 0 {
        let address = left.trailing_zeros() as usize;
        let (low, high) = (&low[address % 8], &high[address / 8]);
        let any = (0..WORDS).fold(0, |any, i| any | low[i] & high[i]);
        found |= u64::from(any != 0) << address;
        left &= left - 1;
    }
    found
}

/// For each address of at most three inputs, the valid rows that have it.
fn products(inputs: &[Wire], values: &[Block], valid: &Block) -> [Block; 8] {
    let mut products = [[0; WORDS]; 8];
    products[0] = *valid;
    for (j, input) in inputs.iter().enumerate() {
        let (value, (low, high)) = (&values[input.index()], products.split_at_mut(1 << j));
        for (low, high) in low.iter_mut().zip(high) {
            for i in 0..WORDS {
                high[i] = low[i] & value[i];
                low[i] &= !value[i];
            }
        }
    }
    products
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
    fn tables_of_any_size_are_those_of_the_evaluator() {
        let mut state = 5u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 31
        };
        for n in 0..=MAX_FANIN {
            let inputs: Vec<Wire> = (0..n as u32).map(Wire::new).collect();
            for _ in 0..50 {
                let mut net = Netlist::new(MAX_FANIN as u32);
                let y = net.add(random() & table_mask(n), &inputs).unwrap();
                net.add_output(y).unwrap();
                let rows: Vec<u8> = (0..70 * MAX_FANIN).map(|_| (random() >> 40 & 1) as u8).collect();
                let bit = |r: usize, j: usize| rows[r * MAX_FANIN + j];
                let (mut seen, mut values) = (Seen::new(&net), Seen::values_of(&net));
                seen.look(&rows);
                values.look(&rows);
                let mut occurs = 0u64;
                for row in 0..70 {
                    let address: u64 = (0..n).map(|j| u64::from(bit(row, j)) << j).sum();
                    occurs |= 1 << address;
                    let words: Vec<u64> = (0..MAX_FANIN).map(|j| u64::from(bit(row, j))).collect();
                    let got = seen.values[MAX_FANIN][row / 64] >> (row % 64) & 1;
                    assert_eq!(got, net.eval_words(&words, 1)[0] & 1, "{n} inputs");
                }
                assert_eq!(seen.addresses(), [occurs]);
                assert_eq!(values.signatures(), seen.signatures());
            }
        }
    }

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
