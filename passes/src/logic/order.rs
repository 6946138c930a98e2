//! The order of execution: see `schedule`.
//!
//! The base order is depth first from the outputs, so that a value is made shortly before it is read and dies soon.
//! Inside windows of that order nodes of equal tables are put together, because an executor pays for every change of
//! table: a table goes first when all its nodes have their inputs, else the one of which most have them.

use std::collections::{BTreeMap, VecDeque};

use super::schedule::{Item, Readers, Uses};
use super::truth;
use bitc_ir::netlist::{Netlist, Node, Wire};

/// Nodes that may change places.
const WINDOW: usize = 4096;
/// Wires of a group are counted in multiples of this, until the end.
const COUNTED_TOGETHER: usize = 16;

/// All steps, in an order that respects what reads what.
pub(super) fn order(net: &Netlist, uses: &Uses) -> Vec<Item> {
    let base = depth_first(net, uses);
    let mut grouping = Grouping::new(net, uses);
    grouping.count_pending(COUNTED_TOGETHER);
    for (window, nodes) in base.chunks(WINDOW).enumerate() {
        if window > 0 {
            grouping.count_pending(COUNTED_TOGETHER);
        }
        grouping.take_window(window as u32, nodes);
    }
    grouping.count_pending(1);
    grouping.items
}

/// The needed nodes, inputs before readers, from output to output.
fn depth_first(net: &Netlist, uses: &Uses) -> Vec<Wire> {
    let mut done = vec![false; net.n_wires()];
    let mut nodes = Vec::new();
    let mut stack = Vec::new();
    let counted = uses.counted.iter().flatten().map(|(wire, _)| *wire);
    let outputs = net.outputs().iter().copied().filter(|wire| uses.needed[wire.index()]);
    for root in counted.chain(outputs) {
        stack.push((root, false));
        while let Some((wire, inputs_done)) = stack.pop() {
            let Some(node) = net.node(wire) else { continue };
            if done[wire.index()] {
                continue;
            }
            if inputs_done {
                done[wire.index()] = true;
                nodes.push(wire);
                continue;
            }
            stack.push((wire, true));
            let missing = node.inputs.iter().rev().filter(|input| !done[input.index()]);
            stack.extend(missing.map(|&input| (input, false)));
        }
    }
    nodes
}

/// What makes two nodes run together: the number of inputs, and up to three the table but for the order of inputs.
type Kind = (usize, u8);

struct Grouping<'n> {
    net: &'n Netlist,
    readers: Readers,
    window_of: Vec<u32>,
    /// Inputs of a node that its window has still to make.
    waiting: Vec<u8>,
    /// The groups that count a wire, as `(wire, group, complement)`, by wire.
    counts: Vec<(Wire, u16, bool)>,
    /// Wires that are there and wait to be counted, for each group plain and complemented.
    pending: Vec<[Vec<Wire>; 2]>,
    canonical: Vec<u8>,
    items: Vec<Item>,
}

impl<'n> Grouping<'n> {
    fn new(net: &'n Netlist, uses: &Uses) -> Self {
        let mut counts = Vec::new();
        let mut pending = vec![<[Vec<Wire>; 2]>::default(); uses.counted.len()];
        for (group, wires) in uses.counted.iter().enumerate() {
            for &(wire, negated) in wires {
                if net.node(wire).is_some() {
                    counts.push((wire, group as u16, negated));
                } else {
                    pending[group][usize::from(negated)].push(wire);
                }
            }
        }
        counts.sort_unstable();
        Self {
            net,
            readers: Readers::of(net, uses),
            window_of: vec![u32::MAX; net.n_wires()],
            waiting: vec![0; net.n_wires()],
            counts,
            pending,
            canonical: (0..=255).map(truth::canonical_of_three).collect(),
            items: Vec::new(),
        }
    }

    fn kind(&self, node: Node<'_>) -> Kind {
        let n = node.inputs.len();
        (n, if n > 3 { 0 } else { self.canonical[truth::repeat(node.table, n) as usize & 0xff] })
    }

    /// Appends the nodes of a window, kind after kind.
    fn take_window(&mut self, window: u32, nodes: &[Wire]) {
        nodes.iter().for_each(|wire| self.window_of[wire.index()] = window);
        let mut ready: BTreeMap<Kind, VecDeque<Wire>> = BTreeMap::new();
        let mut left: BTreeMap<Kind, usize> = BTreeMap::new();
        for &wire in nodes {
            let Some(node) = self.net.node(wire) else { continue };
            let waiting = node.inputs.iter().filter(|input| self.window_of[input.index()] == window).count();
            self.waiting[wire.index()] = waiting as u8;
            *left.entry(self.kind(node)).or_default() += 1;
            if waiting == 0 {
                ready.entry(self.kind(node)).or_default().push_back(wire);
            }
        }
        // A kind that is complete goes at once, for it need not come again; else one of which much is there, and most of
        // what there will be.
        let rank = |kind: &Kind, n: usize, left: &BTreeMap<Kind, usize>| {
            let left = left.get(kind).copied().unwrap_or(n);
            (left == n, n * n / left.max(1), n)
        };
        while let Some((&kind, _)) = ready.iter().max_by_key(|(kind, nodes)| rank(kind, nodes.len(), &left)) {
            let mut queue = ready.remove(&kind).unwrap_or_default();
            while let Some(wire) = queue.pop_front() {
                self.emit(wire);
                left.entry(kind).and_modify(|n| *n -= 1);
                for &reader in self.readers.of_wire(wire) {
                    if self.window_of[reader.index()] != window {
                        continue;
                    }
                    self.waiting[reader.index()] -= 1;
                    let Some(node) = self.net.node(reader).filter(|_| self.waiting[reader.index()] == 0) else {
                        continue;
                    };
                    match self.kind(node) {
                        same if same == kind => queue.push_back(reader),
                        other => ready.entry(other).or_default().push_back(reader),
                    }
                }
            }
        }
    }

    fn emit(&mut self, wire: Wire) {
        self.items.push(Item::Node(wire));
        let first = self.counts.partition_point(|(counted, ..)| *counted < wire);
        for &(_, group, negated) in self.counts[first..].iter().take_while(|(counted, ..)| *counted == wire) {
            self.pending[usize::from(group)][usize::from(negated)].push(wire);
        }
    }

    /// Counts what is pending, as far as it makes whole multiples of `together`.
    fn count_pending(&mut self, together: usize) {
        for (group, pending) in self.pending.iter_mut().enumerate() {
            for (negated, wires) in pending.iter_mut().enumerate() {
                let n = wires.len() / together * together;
                if n > 0 {
                    let wires = wires.drain(..n).collect();
                    self.items.push(Item::Count { group: group as u16, negated: negated == 1, wires });
                }
            }
        }
    }
}
