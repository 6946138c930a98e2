//! Using that some addresses of tables never occur on given data.
//!
//! Every wire of the new network has on that data the values of the old one: wires without change become constants, wires
//! that always agree (or never) become one, and a table keeps the entries that occur. The others are free and serve to leave
//! out inputs and to need fewer gates. Elsewhere the network computes something else.

use super::builder::{Builder, FastMap, Literal};
use super::decompose::{self, SplitLimits};
use super::partial::Partial;
use super::seen::Seen;
use super::truth;
use bitc_ir::netlist::{MAX_FANIN, Netlist, Wire};

/// What the freedom was used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Entries of tables that no row addresses.
    pub free_entries: u64,
    /// Entries of all tables.
    pub entries: u64,
    /// Nodes that became constants.
    pub constants: usize,
    /// Nodes that became an input or another node, or its complement.
    pub merged: usize,
    /// Inputs that the remaining nodes no longer read.
    pub inputs: usize,
    /// Tables that fewer gates compute.
    pub cheaper: usize,
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { free_entries, entries, constants, merged, inputs, cheaper } = self;
        let counts =
            [(constants, "constant"), (merged, "merged"), (inputs, "inputs left out"), (cheaper, "cheaper tables")];
        write!(f, "{free_entries} of {entries} entries free: {}", super::record::list(&counts))
    }
}

/// The network with the freedom used that `seen` leaves. It must have seen a row.
pub fn use_freedom(net: &Netlist, seen: &Seen<'_>, limits: SplitLimits) -> (Netlist, Used) {
    let n_inputs = net.n_inputs() as usize;
    let mut used = Used::default();
    let mut builder = Builder::new(net.n_inputs());
    let mut map: Vec<Literal> = Vec::with_capacity(net.n_wires());
    let mut known: FastMap<[u64; 2], (Literal, bool)> = FastMap::default();
    let signatures = seen.signatures();
    for input in 0..net.n_inputs() {
        // An input costs nothing, so it stays what it is; but of equal ones the first is read.
        let (literal, signature) = (Literal::new(Wire::new(input), false), signatures[input as usize]);
        map.push(match signature.changes {
            false => Literal::FALSE.complement_if(signature.first),
            true => {
                let &mut (same, first) = known.entry(signature.hash).or_insert((literal, signature.first));
                same.complement_if(first != signature.first)
            }
        });
    }
    let mut gates = decompose::Gates::default();
    for (wire, node) in net.nodes() {
        let (signature, n) = (signatures[wire.index()], node.inputs.len());
        let occurs = seen.addresses()[wire.index() - n_inputs];
        used.entries += 1 << n;
        used.free_entries += (1 << n) - u64::from(occurs.count_ones());
        if !signature.changes {
            used.constants += 1;
            map.push(Literal::FALSE.complement_if(signature.first));
            continue;
        }
        if let Some(&(same, first)) = known.get(&signature.hash) {
            used.merged += 1;
            map.push(same.complement_if(first != signature.first));
            continue;
        }
        let mut inputs = [Literal::FALSE; MAX_FANIN];
        for (input, wire) in inputs.iter_mut().zip(node.inputs) {
            *input = map[wire.index()];
        }
        let table = truth::repeat(node.table, n);
        let partial = Partial::new(table, truth::repeat(occurs, n));
        let (small, left) = partial.smallest((1u8 << n) - 1);
        used.inputs += n - left.count_ones() as usize;
        let mut full = small.filled_like(table, left);
        if left.count_ones() > 3 && !small.is_full() {
            let most = limits.0[left.count_ones() as usize];
            let limit = gates.of(full, most).map_or(most, |now| now - 1);
            if let Some((_, cheaper)) = small.cheapest(limit).filter(|&(_, table)| gates.of(table, limit).is_some()) {
                used.cheaper += 1;
                full = cheaper;
            }
        }
        let literal = builder.node(full, &inputs[..n]);
        known.insert(signature.hash, (literal, signature.first));
        map.push(literal);
    }
    let outputs: Vec<Literal> = net.outputs().iter().map(|wire| map[wire.index()]).collect();
    (builder.finish(&outputs), used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(rows: usize, width: usize, mut bit: impl FnMut(usize, usize) -> bool) -> Vec<u8> {
        (0..rows * width).map(|i| u8::from(bit(i / width, i % width))).collect()
    }

    fn run(net: &Netlist, rows: &[u8]) -> (Netlist, Used) {
        let mut seen = Seen::new(net);
        seen.look(rows);
        let (got, used) = use_freedom(net, &seen, SplitLimits::default());
        let mut again = Seen::new(&got);
        again.look(rows);
        assert_eq!(seen.first_difference(&again), None);
        (got, used)
    }

    #[test]
    fn what_the_data_never_asks_for_goes() {
        let net: Netlist =
            "netlist {\n inputs 4\n %4 = 8(%0, %1)\n %5 = e(%2, %3)\n %6 = 6(%4, %5)\n %7 = 9(%2, %0)\n \
                            outputs %6, %7\n}"
                .parse()
                .unwrap();
        // The second bit is the first, the fourth its complement, the third always 0.
        let rows = bits(70, 4, |r, i| [r % 3 == 0, r % 3 == 0, false, r % 3 != 0][i]);
        let (got, used) = run(&net, &rows);
        // and(a, a) is a; or(0, not a) is not a; xor of them is 1; xnor(0, a) is not a.
        assert_eq!(got, "netlist {\n inputs 4\n %4 = 1()\n %5 = 1(%0)\n outputs %4, %5\n}".parse().unwrap());
        assert_eq!((used.constants, used.merged), (1, 3));
        assert_eq!(used.free_entries, 8);
    }

    #[test]
    fn every_row_seen_keeps_its_outputs() {
        let mut state = 11u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        };
        for rows in [1, 2, 63, 64, 65, 511, 512, 513, 3000] {
            let mut net = Netlist::new(40);
            for i in 40..400u64 {
                let n = (random() % 7) as usize;
                let inputs: Vec<Wire> = (0..n).map(|_| Wire::new((random() >> 20) as u32 % i as u32)).collect();
                net.add(random() & bitc_ir::netlist::table_mask(n), &inputs).unwrap();
            }
            (300..400).for_each(|i| net.add_output(Wire::new(i)).unwrap());
            let data = bits(rows, 40, |_, i| random() >> 33 & (i as u64 % 5) == 0);
            let (got, used) = run(&net, &data);
            assert!(got.n_nodes() < net.n_nodes() && used.free_entries > 0, "{rows} rows");
            // The evaluator agrees as well.
            let words: Vec<u64> = (0..40)
                .flat_map(|i| {
                    let data = &data;
                    (0..rows.div_ceil(64)).map(move |w| {
                        let bit = |r: usize| data.get((64 * w + r) * 40 + i).map_or(0, |&b| u64::from(b) << r);
                        (0..64).map(bit).sum::<u64>()
                    })
                })
                .collect();
            let n_words = rows.div_ceil(64);
            let (a, b) = (net.eval_words(&words, n_words), got.eval_words(&words, n_words));
            let last = u64::MAX >> (64 * n_words - rows);
            for (i, (a, b)) in a.iter().zip(&b).enumerate() {
                let mask = if i % n_words == n_words - 1 { last } else { u64::MAX };
                assert_eq!(a & mask, b & mask);
            }
        }
    }
}
