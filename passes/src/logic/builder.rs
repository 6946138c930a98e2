//! Building a netlist node by node in normal form: what the passes of this module share.
//!
//! A literal is a wire with a polarity, or a constant. `Builder::node` takes any table over literals and answers with
//! a literal, adding a node only when no equal one exists. In normal form a node reads distinct wires in ascending
//! order, each of them matters, and its table is 0 at address 0 (otherwise the complement is stored and the literal
//! negated); so constants, wires, inverters, unread and repeated inputs and duplicates vanish while the network is
//! rebuilt.

use super::truth;
use bitc_ir::netlist::{MAX_FANIN, Netlist, Wire, table_mask};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// A wire or its complement, or a constant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Literal(u32);

impl Literal {
    pub(crate) const FALSE: Literal = Literal(u32::MAX - 1);

    pub(crate) fn new(wire: Wire, negated: bool) -> Self {
        Self(wire.id() << 1 | u32::from(negated))
    }

    /// The wire, or `None` for a constant.
    pub(crate) fn wire(self) -> Option<Wire> {
        (self < Literal::FALSE).then(|| Wire::new(self.0 >> 1))
    }

    /// Whether the wire is complemented; for a constant its value.
    pub(crate) fn negated(self) -> bool {
        self.0 & 1 == 1
    }

    pub(crate) fn complement_if(self, negate: bool) -> Self {
        Self(self.0 ^ u32::from(negate))
    }
}

/// What a rebuild removed, by reason.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folded {
    /// Nodes of constant value.
    pub constants: usize,
    /// Nodes equal to one of their inputs.
    pub wires: usize,
    /// Nodes equal to the complement of one of their inputs.
    pub inverters: usize,
    /// Nodes equal to an earlier node or its complement.
    pub duplicates: usize,
    /// Inputs of remaining nodes that were constant, repeated or not read by the table.
    pub unread_inputs: usize,
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { constants, wires, inverters, duplicates, unread_inputs } = self;
        let counts = [
            (constants, "constant"),
            (wires, "wires"),
            (inverters, "inverters"),
            (duplicates, "duplicates"),
            (unread_inputs, "unread inputs"),
        ];
        f.write_str(&super::record::list(&counts))
    }
}

/// Multiplies and rotates; the keys are tables and wire numbers, not hostile text.
#[derive(Default, Clone)]
pub(crate) struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// A node's table and inputs; absent inputs hold `u32::MAX`.
type Key = (u64, [u32; MAX_FANIN]);

/// Builds a netlist in normal form.
pub(crate) struct Builder {
    net: Netlist,
    known: FastMap<Key, Wire>,
    pub(crate) folded: Folded,
}

impl Builder {
    pub(crate) fn new(n_inputs: u32) -> Self {
        Self { net: Netlist::new(n_inputs), known: FastMap::default(), folded: Folded::default() }
    }

    /// A literal equal to `table` over `inputs`; the table is repeated over the word.
    pub(crate) fn node(&mut self, mut table: u64, inputs: &[Literal]) -> Literal {
        debug_assert!(inputs.len() <= MAX_FANIN);
        let mut wires = [u32::MAX; MAX_FANIN];
        for (j, input) in inputs.iter().enumerate() {
            match input.wire() {
                None if input.negated() => table = truth::cofactor1(table, j),
                None => table = truth::cofactor0(table, j),
                Some(wire) => {
                    if input.negated() {
                        table = truth::negate_input(table, j);
                    }
                    if let Some(i) = wires[..j].iter().position(|&w| w == wire.id()) {
                        table = truth::merge_inputs(table, j, i);
                    }
                    wires[j] = wire.id();
                }
            }
        }
        // Move what is read to the front, in the order of the wires.
        let mut n = 0;
        for j in 0..inputs.len() {
            if !truth::depends(table, j) {
                continue;
            }
            if n != j {
                table = truth::swap_inputs(table, n, j);
                wires.swap(n, j);
            }
            n += 1;
        }
        wires[n..].fill(u32::MAX);
        for end in (1..n).rev() {
            for j in 0..end {
                if wires[j] > wires[j + 1] {
                    table = truth::swap_inputs(table, j, j + 1);
                    wires.swap(j, j + 1);
                }
            }
        }
        let negated = table & 1 == 1;
        let table = if negated { !table } else { table };
        match n {
            0 => {
                self.folded.constants += 1;
                Literal::FALSE.complement_if(negated)
            }
            1 => {
                if negated {
                    self.folded.inverters += 1;
                } else {
                    self.folded.wires += 1;
                }
                Literal::new(Wire::new(wires[0]), negated)
            }
            _ => Literal::new(self.stored(table, wires, n, inputs.len()), negated),
        }
    }

    /// A literal for a netlist's wire of the same inputs, given the literals of its earlier wires.
    pub(crate) fn copy(&mut self, table: u64, inputs: &[Wire], map: &[Literal]) -> Literal {
        let mut literals = [Literal::FALSE; MAX_FANIN];
        for (literal, wire) in literals.iter_mut().zip(inputs) {
            *literal = map[wire.index()];
        }
        self.node(truth::repeat(table, inputs.len()), &literals[..inputs.len()])
    }

    fn stored(&mut self, table: u64, wires: [u32; MAX_FANIN], n: usize, n_given: usize) -> Wire {
        if let Some(&wire) = self.known.get(&(table, wires)) {
            self.folded.duplicates += 1;
            return wire;
        }
        self.folded.unread_inputs += n_given - n;
        let inputs = wires.map(Wire::new);
        let added = self.net.add(table & table_mask(n), &inputs[..n]);
        let wire = added.expect("inputs exist, and a rebuilt netlist fits because its source did");
        self.known.insert((table, wires), wire);
        wire
    }

    /// Ends with these outputs. Constants and complements become nodes of their own, unless `sweep` resolves them.
    pub(crate) fn finish(self, outputs: &[Literal]) -> Netlist {
        super::sweep::sweep(&self.net, outputs)
    }
}
