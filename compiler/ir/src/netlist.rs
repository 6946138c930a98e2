//! Logic networks: a netlist of small lookup tables over single bits.
//!
//! A network of a million tables is no graph of nodes, so the type is a struct of arrays with `u32` ids. Wires are
//! numbered: first the inputs, then the nodes in the order they were added. A node may only read wires that exist when
//! it is added, so the numbering is a topological order and no cycle can be built.
//!
//! Bit `a` of a table is the output at address `a`, and input `j` of a node is bit `j` of the address.
//!
//! The text form lives in `netlist/text.rs`, evaluation in `netlist/eval.rs`, comparison in `netlist/check.rs`. What
//! rewrites netlists lives in the passes.

mod check;
mod eval;
mod text;

pub use check::{Mismatch, compare};
pub use text::ParseError;

use thiserror::Error;

/// The most inputs a node holds; wider tables are split when they are added.
pub const MAX_FANIN: usize = 6;
/// The most inputs `add_wide` takes.
pub const MAX_WIDE_FANIN: usize = 16;
/// The most wires of a netlist; passes keep a polarity bit beside a wire in 32 bits.
pub const MAX_WIRES: u32 = 1 << 30;

/// A bit of the network: an input or the output of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Wire(u32);

impl Wire {
    /// The wire with this number.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The number as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number.
    pub const fn id(self) -> u32 {
        self.0
    }
}

/// Why a node or an output was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum NetlistError {
    /// A node reads a wire that does not exist yet.
    #[error("node %{node} reads %{wire} as input {position}, expected a wire below %{node}")]
    UnknownWire {
        /// The number the node would have.
        node: u32,
        /// Which input of the node.
        position: usize,
        /// The wire it names.
        wire: u32,
    },
    /// An output names a wire that does not exist.
    #[error("output {output} is %{wire}, expected a wire below %{limit}")]
    UnknownOutput {
        /// Which output.
        output: usize,
        /// The wire it names.
        wire: u32,
        /// The number of wires.
        limit: u32,
    },
    /// A table has more inputs than a node may have.
    #[error("node %{node} has {found} inputs, expected at most {limit}")]
    TooManyInputs {
        /// The number the node would have.
        node: u32,
        /// Inputs found.
        found: usize,
        /// Inputs allowed.
        limit: usize,
    },
    /// A table has bits above 2^inputs, or the wrong number of words.
    #[error("the table of node %{node} does not fit {inputs} inputs")]
    TableSize {
        /// The number the node would have.
        node: u32,
        /// Inputs of the node.
        inputs: usize,
    },
    /// The netlist is full.
    #[error("a netlist holds at most {limit} wires")]
    TooLarge {
        /// Wires allowed.
        limit: u32,
    },
}

/// One node of a netlist, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node<'a> {
    /// Bit `a` is the output at address `a`; bits at and above `2^inputs.len()` are zero.
    pub table: u64,
    /// The wires read, lowest address bit first; at most `MAX_FANIN`.
    pub inputs: &'a [Wire],
}

/// A network of lookup tables over bits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Netlist {
    n_inputs: u32,
    tables: Vec<u64>,
    /// `starts[i]..starts[i + 1]` is the range of node `i` in `fanins`; one longer than `tables`.
    starts: Vec<u32>,
    fanins: Vec<Wire>,
    outputs: Vec<Wire>,
}

/// Counts of a netlist, for reports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Inputs of the network.
    pub inputs: usize,
    /// Outputs of the network.
    pub outputs: usize,
    /// Nodes by number of inputs.
    pub nodes_by_fanin: [usize; MAX_FANIN + 1],
    /// The bits of all tables.
    pub table_bits: u64,
    /// The most nodes on a path from an input to an output.
    pub depth: u32,
}

impl Stats {
    /// The number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes_by_fanin.iter().sum()
    }
}

/// The bits a table of `inputs` inputs (at most six) may have set.
pub const fn table_mask(inputs: usize) -> u64 {
    if inputs >= 6 { u64::MAX } else { (1 << (1u32 << inputs)) - 1 }
}

impl Netlist {
    /// A network of `n_inputs` inputs, no nodes and no outputs.
    pub fn new(n_inputs: u32) -> Self {
        Self { n_inputs, starts: vec![0], ..Self::default() }
    }

    /// The number of inputs.
    pub fn n_inputs(&self) -> u32 {
        self.n_inputs
    }

    /// The number of nodes.
    pub fn n_nodes(&self) -> usize {
        self.tables.len()
    }

    /// The number of wires: inputs and nodes.
    pub fn n_wires(&self) -> usize {
        self.n_inputs as usize + self.tables.len()
    }

    /// The outputs, in order; a wire may be several outputs.
    pub fn outputs(&self) -> &[Wire] {
        &self.outputs
    }

    /// The wire of input `index`.
    ///
    /// # Errors
    /// `UnknownWire` when there is no such input.
    pub fn input(&self, index: u32) -> Result<Wire, NetlistError> {
        if index < self.n_inputs {
            return Ok(Wire(index));
        }
        Err(NetlistError::UnknownWire { node: self.n_inputs, position: 0, wire: index })
    }

    /// The node that drives `wire`, or `None` for an input or a wire that does not exist.
    pub fn node(&self, wire: Wire) -> Option<Node<'_>> {
        let idx = wire.index().checked_sub(self.n_inputs as usize)?;
        let table = *self.tables.get(idx)?;
        let inputs = self.fanins.get(self.starts[idx] as usize..self.starts[idx + 1] as usize)?;
        Some(Node { table, inputs })
    }

    /// All nodes with their wires, in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (Wire, Node<'_>)> + ExactSizeIterator {
        (0..self.tables.len()).map(|idx| {
            let inputs = &self.fanins[self.starts[idx] as usize..self.starts[idx + 1] as usize];
            (Wire(self.n_inputs + idx as u32), Node { table: self.tables[idx], inputs })
        })
    }

    /// Adds a node of at most `MAX_FANIN` inputs and returns its wire.
    ///
    /// # Errors
    /// When an input does not exist, there are too many inputs, or the table has bits they cannot address.
    pub fn add(&mut self, table: u64, inputs: &[Wire]) -> Result<Wire, NetlistError> {
        let node = self.next_wire()?;
        if inputs.len() > MAX_FANIN {
            return Err(NetlistError::TooManyInputs { node, found: inputs.len(), limit: MAX_FANIN });
        }
        if table & !table_mask(inputs.len()) != 0 {
            return Err(NetlistError::TableSize { node, inputs: inputs.len() });
        }
        if let Some(position) = inputs.iter().position(|w| w.0 >= node) {
            return Err(NetlistError::UnknownWire { node, position, wire: inputs[position].0 });
        }
        let end =
            u32::try_from(self.fanins.len() + inputs.len()).map_err(|_| NetlistError::TooLarge { limit: MAX_WIRES })?;
        self.tables.push(table);
        self.fanins.extend_from_slice(inputs);
        self.starts.push(end);
        Ok(Wire(node))
    }

    /// Adds a table of up to `MAX_WIDE_FANIN` inputs, least significant word first. A table of more than `MAX_FANIN`
    /// inputs becomes tables of six inputs and a tree of multiplexers on the upper inputs.
    ///
    /// # Errors
    /// As `add`.
    pub fn add_wide(&mut self, table: &[u64], inputs: &[Wire]) -> Result<Wire, NetlistError> {
        let node = self.next_wire()?;
        let n = inputs.len();
        if n > MAX_WIDE_FANIN {
            return Err(NetlistError::TooManyInputs { node, found: n, limit: MAX_WIDE_FANIN });
        }
        if table.len() != 1 << n.saturating_sub(MAX_FANIN) {
            return Err(NetlistError::TableSize { node, inputs: n });
        }
        if n <= MAX_FANIN {
            return self.add(table[0], inputs);
        }
        let (low, selectors) = inputs.split_at(MAX_FANIN);
        let mut layer = table.iter().map(|&t| self.add(t, low)).collect::<Result<Vec<_>, _>>()?;
        for &select in selectors {
            layer = layer
                .chunks_exact(2)
                .map(|pair| self.add(0xe4, &[select, pair[0], pair[1]]))
                .collect::<Result<_, _>>()?;
        }
        Ok(layer[0])
    }

    /// Appends an output.
    ///
    /// # Errors
    /// `UnknownOutput` when the wire does not exist.
    pub fn add_output(&mut self, wire: Wire) -> Result<(), NetlistError> {
        let limit = self.n_wires() as u32;
        if wire.0 >= limit {
            return Err(NetlistError::UnknownOutput { output: self.outputs.len(), wire: wire.0, limit });
        }
        self.outputs.push(wire);
        Ok(())
    }

    /// The same nodes without outputs, to build on.
    pub fn without_outputs(&self) -> Self {
        Self { outputs: Vec::new(), ..self.clone() }
    }

    /// Counts nodes, table bits and depth.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { inputs: self.n_inputs as usize, outputs: self.outputs.len(), ..Stats::default() };
        for (_, node) in self.nodes() {
            stats.nodes_by_fanin[node.inputs.len()] += 1;
            stats.table_bits += 1 << node.inputs.len();
        }
        let levels = self.levels();
        stats.depth = self.outputs.iter().map(|w| levels[w.index()]).max().unwrap_or(0);
        stats
    }

    /// For each wire the most nodes on a path from an input to it; inputs and constants have 0 and 1.
    pub fn levels(&self) -> Vec<u32> {
        let mut levels = vec![0u32; self.n_wires()];
        for (wire, node) in self.nodes() {
            levels[wire.index()] = 1 + node.inputs.iter().map(|w| levels[w.index()]).max().unwrap_or(0);
        }
        levels
    }

    fn next_wire(&self) -> Result<u32, NetlistError> {
        let next = self.n_wires();
        if next >= MAX_WIRES as usize {
            return Err(NetlistError::TooLarge { limit: MAX_WIRES });
        }
        Ok(next as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_exist() {
        let mut net = Netlist::new(2);
        let a = net.input(0).unwrap();
        assert!(net.input(2).is_err());
        assert_eq!(net.add(8, &[a, Wire::new(2)]), Err(NetlistError::UnknownWire { node: 2, position: 1, wire: 2 }));
        assert_eq!(net.add(16, &[a, a]), Err(NetlistError::TableSize { node: 2, inputs: 2 }));
        assert_eq!(net.add(0, &[a; 7]), Err(NetlistError::TooManyInputs { node: 2, found: 7, limit: 6 }));
        assert_eq!(net.add_wide(&[0], &[a; 7]), Err(NetlistError::TableSize { node: 2, inputs: 7 }));
        assert_eq!(net.add_wide(&[0], &[a; 17]), Err(NetlistError::TooManyInputs { node: 2, found: 17, limit: 16 }));
        assert_eq!(net.add_output(Wire::new(2)), Err(NetlistError::UnknownOutput { output: 0, wire: 2, limit: 2 }));
    }

    #[test]
    fn counts_nodes_bits_and_depth() {
        let mut net = Netlist::new(3);
        let [a, b, c] = [0, 1, 2].map(Wire::new);
        let x = net.add(0b1000, &[a, b]).unwrap();
        let y = net.add(0xe8, &[x, b, c]).unwrap();
        net.add_output(y).unwrap();
        let stats = net.stats();
        assert_eq!((stats.nodes(), stats.table_bits, stats.depth), (2, 12, 2));
        assert_eq!(net.node(x).unwrap().inputs, &[a, b]);
        assert_eq!(net.node(a), None);
    }

    #[test]
    fn splits_wide_tables() {
        for n in 7..=9u32 {
            let mut net = Netlist::new(n);
            let inputs: Vec<Wire> = (0..n).map(Wire::new).collect();
            let table: Vec<u64> = (0..1u64 << (n - 6)).map(|i| (i + 3).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let out = net.add_wide(&table, &inputs).unwrap();
            net.add_output(out).unwrap();
            for address in 0..1u64 << n {
                let bits: Vec<u64> = (0..n).map(|i| address >> i & 1).collect();
                let want = table[(address >> 6) as usize] >> (address & 63) & 1;
                assert_eq!(net.eval_words(&bits, 1)[0] & 1, want, "{n} inputs, address {address}");
            }
        }
    }
}
