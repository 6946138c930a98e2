//! Complementing values inside a network so that fewer kinds of gates occur.
//!
//! A node may give the complement of its value if its readers expect that: its table is complemented, and an input of
//! their tables. What is counted may be complemented as well. An executor pays for every run of equal gates, so a node is
//! flipped where gates then fall into kinds that are there anyway: while that lowers the sum of `ln(1 + n)` over kinds of
//! `n` gates.

use super::schedule::{Head, Readers, Uses};
use super::truth;
use bitc_ir::netlist::{Netlist, Wire, table_mask};

/// Walks over all nodes.
const WALKS: usize = 4;
/// Nodes of more readers stay as they are: to change so many tables seldom pays.
const MAX_READERS: usize = 16;

/// The same network with other values inside.
pub(super) fn unify(net: &Netlist, head: Head, uses: &Uses) -> Netlist {
    let mut kinds = Kinds::new(net, head, uses);
    for _ in 0..WALKS {
        if kinds.walk() == 0 {
            break;
        }
    }
    kinds.rebuild()
}

struct Kinds<'n> {
    net: &'n Netlist,
    readers: Readers,
    needed: &'n [bool],
    /// Nodes that are answers, which keep their values.
    fixed: Vec<bool>,
    flipped: Vec<bool>,
    /// Tables of nodes as they are now, repeated to six inputs.
    tables: Vec<u64>,
    canonical: Vec<u8>,
    /// Gates of each kind.
    counts: [u32; 256],
    /// Changes of `counts` that a flip would make.
    changes: Vec<(u8, i32)>,
}

impl<'n> Kinds<'n> {
    fn new(net: &'n Netlist, head: Head, uses: &'n Uses) -> Self {
        let mut fixed = vec![false; net.n_wires()];
        if head == Head::Bits {
            net.outputs().iter().for_each(|wire| fixed[wire.index()] = true);
        }
        let mut kinds = Self {
            net,
            readers: Readers::of(net, uses),
            needed: &uses.needed,
            fixed,
            flipped: vec![false; net.n_wires()],
            tables: net.nodes().map(|(_, node)| truth::repeat(node.table, node.inputs.len())).collect(),
            canonical: (0..=255).map(truth::canonical_of_three).collect(),
            counts: [0; 256],
            changes: Vec::new(),
        };
        for (wire, node) in net.nodes() {
            if uses.needed[wire.index()] && node.inputs.len() <= 3 {
                let kind = kinds.kind(kinds.tables[wire.index() - net.n_inputs() as usize]);
                kinds.counts[usize::from(kind)] += 1;
            }
        }
        kinds
    }

    fn kind(&self, table: u64) -> u8 {
        self.canonical[(table & 0xff) as usize]
    }

    /// The place of a node in `tables`.
    fn at(&self, node: Wire) -> usize {
        node.index() - self.net.n_inputs() as usize
    }

    /// Flips nodes, each where that pays now; answers how many.
    fn walk(&mut self) -> usize {
        let mut n_flipped = 0;
        for (wire, node) in self.net.nodes() {
            let n_readers = self.readers.of_wire(wire).len();
            let free = self.needed[wire.index()] && !self.fixed[wire.index()];
            if !free || node.inputs.len() < 2 || n_readers > MAX_READERS {
                continue;
            }
            self.changes.clear();
            self.change(node.inputs.len(), self.tables[self.at(wire)], !self.tables[self.at(wire)]);
            for i in 0..n_readers {
                let reader = self.readers.of_wire(wire)[i];
                if i > 0 && self.readers.of_wire(wire)[i - 1] == reader {
                    continue;
                }
                let (table, n) = (self.tables[self.at(reader)], self.fanin(reader));
                self.change(n, table, self.with_input_flipped(reader, wire));
            }
            if self.gain() > 1e-9 {
                n_flipped += 1;
                self.flip(wire);
            }
        }
        n_flipped
    }

    fn fanin(&self, node: Wire) -> usize {
        self.net.node(node).map_or(0, |node| node.inputs.len())
    }

    /// The table of a node that reads the complement of a wire.
    fn with_input_flipped(&self, node: Wire, input: Wire) -> u64 {
        let inputs = self.net.node(node).map_or(&[][..], |node| node.inputs);
        let positions = inputs.iter().enumerate().filter(|(_, wire)| **wire == input);
        positions.fold(self.tables[self.at(node)], |table, (j, _)| truth::negate_input(table, j))
    }

    /// Notes that a gate of `n` inputs changes its table.
    fn change(&mut self, n: usize, from: u64, to: u64) {
        if n > 3 {
            return;
        }
        for (kind, by) in [(self.kind(from), -1), (self.kind(to), 1)] {
            match self.changes.iter_mut().find(|(k, _)| *k == kind) {
                Some((_, change)) => *change += by,
                None => self.changes.push((kind, by)),
            }
        }
    }

    /// By how much the noted changes lower the sum.
    fn gain(&self) -> f64 {
        let value = |n: f64| (1.0 + n).ln();
        let gain = |&(kind, change): &(u8, i32)| {
            let n = f64::from(self.counts[usize::from(kind)]);
            value(n) - value((n + f64::from(change)).max(0.0))
        };
        self.changes.iter().map(gain).sum()
    }

    fn flip(&mut self, wire: Wire) {
        for &(kind, change) in &self.changes {
            let count = &mut self.counts[usize::from(kind)];
            *count = count.saturating_add_signed(change);
        }
        self.flipped[wire.index()] ^= true;
        let at = self.at(wire);
        self.tables[at] = !self.tables[at];
        for i in 0..self.readers.of_wire(wire).len() {
            let reader = self.readers.of_wire(wire)[i];
            // One that reads the wire twice is there twice.
            if i > 0 && self.readers.of_wire(wire)[i - 1] == reader {
                continue;
            }
            let at = self.at(reader);
            self.tables[at] = self.with_input_flipped(reader, wire);
        }
    }

    /// The network of the tables as they are now; outputs on flipped nodes get an inverter.
    fn rebuild(self) -> Netlist {
        let net = self.net;
        let mut result = Netlist::new(net.n_inputs());
        let add = |result: &mut Netlist, table: u64, inputs: &[Wire]| {
            result.add(table & table_mask(inputs.len()), inputs).expect("wires keep their numbers")
        };
        for ((wire, node), &table) in net.nodes().zip(&self.tables) {
            // The head's own inverters are no gates, and have seen no change.
            let table = if self.needed[wire.index()] {
                table
            } else {
                let flipped = node.inputs.iter().enumerate().filter(|(_, input)| self.flipped[input.index()]);
                flipped.fold(table, |table, (j, _)| truth::negate_input(table, j))
            };
            add(&mut result, table, node.inputs);
        }
        let mut inverted = vec![None; net.n_wires()];
        for &output in net.outputs() {
            let wire = if self.flipped[output.index()] {
                *inverted[output.index()].get_or_insert_with(|| add(&mut result, 0b01, &[output]))
            } else {
                output
            };
            result.add_output(wire).expect("the wire was added above");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::uses;
    use super::*;
    use bitc_ir::netlist::compare;
    use std::collections::BTreeSet;

    #[test]
    fn gates_become_the_gates_that_there_are() {
        // One gate gives the complement of what three others give of theirs, and one of two parities as well.
        let net: Netlist =
            "netlist {\n inputs 4\n %4 = 8(%0, %1)\n %5 = 8(%1, %2)\n %6 = 8(%2, %3)\n %7 = 7(%0, %3)\n \
             %8 = 6(%4, %5)\n %9 = 9(%6, %7)\n outputs %4, %7, %8, %9\n}"
                .parse()
                .unwrap();
        let head = Head::Groups { groups: 2, size: 2 };
        let kinds = |net: &Netlist| {
            let uses = uses(net, head);
            let needed = net.nodes().filter(|(wire, _)| uses.needed[wire.index()]);
            needed.map(|(_, node)| node.table).collect::<BTreeSet<u64>>().len()
        };
        let got = unify(&net, head, &uses(&net, head));
        compare(&net, &got, 1, 1).unwrap();
        assert_eq!((kinds(&net), kinds(&got)), (4, 3), "{got}");
        let bits = unify(&net, Head::Bits, &uses(&net, Head::Bits));
        compare(&net, &bits, 1, 1).unwrap();
        assert_eq!(bits.n_nodes(), net.n_nodes(), "answers keep their values");
    }
}
