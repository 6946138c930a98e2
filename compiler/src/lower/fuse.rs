//! Which elementwise nodes become one `map` instruction.
//!
//! A node joins the group of its readers when all of them are in one group and its shape is that of the group's result,
//! so nothing is computed twice and nothing is computed for elements that broadcasting would repeat. A group is named
//! by its last node, the root.

use std::collections::BTreeSet;

use bitc_format::inst::{Domain, MAX_REGISTERS};
use bitc_ir::ops::Op;
use bitc_ir::{DType, Graph, NodeId, Uses, ValueId};

use super::cx::const_type;
use super::map;
use super::requantize::Chains;

/// The groups of a graph.
pub(super) struct Groups {
    /// For each node of a group its root.
    roots: Vec<Option<NodeId>>,
    /// For each root its group, in the order of the graph.
    members: Vec<Vec<NodeId>>,
}

impl Groups {
    /// The groups of those nodes that are in no chain.
    pub(super) fn new(graph: &Graph, order: &[NodeId], uses: &Uses, chains: &Chains) -> Self {
        let mut groups =
            Self { roots: vec![None; graph.nodes().len()], members: vec![Vec::new(); graph.nodes().len()] };
        // What the instruction of a group loads, and how many registers its constants and steps take at most.
        let mut loads: Vec<BTreeSet<ValueId>> = vec![BTreeSet::new(); graph.nodes().len()];
        let mut steps = vec![0; graph.nodes().len()];
        for &id in order.iter().rev().filter(|&&id| is_map(graph, id) && !chains.holds(id)) {
            let node = graph.node(id);
            let y = node.outputs[0];
            let reads: BTreeSet<ValueId> = node.inputs.iter().flatten().copied().collect();
            let readers = uses.of(y);
            let root = match readers.first().map(|r| groups.roots[r.index()]) {
                Some(Some(root))
                    if uses.count(y) == readers.len()
                        && readers.iter().all(|r| groups.roots[r.index()] == Some(root))
                        && graph.ty(y).shape == graph.ty(graph.node(root).outputs[0]).shape =>
                {
                    let mut joined: BTreeSet<ValueId> = loads[root.index()].union(&reads).copied().collect();
                    joined.remove(&y);
                    let total = joined.len() + steps[root.index()] + registers(&node.op);
                    (total <= MAX_REGISTERS).then(|| {
                        loads[root.index()] = joined;
                        root
                    })
                }
                _ => None,
            };
            let root = root.unwrap_or_else(|| {
                loads[id.index()] = reads;
                id
            });
            steps[root.index()] += registers(&node.op);
            groups.roots[id.index()] = Some(root);
            groups.members[root.index()].insert(0, id);
        }
        groups
    }

    /// The root of the group that a node is in.
    pub(super) fn root(&self, id: NodeId) -> Option<NodeId> {
        self.roots[id.index()]
    }

    /// The nodes of the group with that root, in the order of the graph.
    pub(super) fn members(&self, root: NodeId) -> &[NodeId] {
        &self.members[root.index()]
    }
}

/// The types whose elements a `map` in `f32` loads, each value exactly.
pub(super) fn is_loaded(dtype: DType) -> bool {
    Domain::F32.loads(const_type(dtype))
}

/// Whether a node can be steps of a `map` in `f32`.
fn is_map(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let dtype = |i: usize| graph.input(id, i).map(|v| graph.ty(v).dtype);
    let is = |i: usize, wanted: DType| dtype(i) == Some(wanted);
    match &node.op {
        Op::Unary(op) => map::unary_cost(op.0).is_some() && is(0, DType::F32),
        Op::Binary(_) | Op::Clip(_) | Op::BatchNorm(_) => is(0, DType::F32),
        Op::Dequantize(op) => op.group == 0 && dtype(0).is_some_and(is_loaded),
        Op::Compare(_) => dtype(0).is_some_and(is_loaded),
        Op::Logic(_) => is(0, DType::Bool),
        Op::Where(_) => is(1, DType::F32) || is(1, DType::Bool),
        Op::Cast(op) => {
            let stored = matches!(op.to, DType::F32 | DType::Bool);
            stored && !is(0, op.to) && dtype(0).is_some_and(is_loaded)
        }
        _ => false,
    }
}

/// The registers for steps and constants that an operation takes at most.
fn registers(op: &Op) -> usize {
    match op {
        Op::BatchNorm(_) => 8,
        Op::Unary(op) => map::unary_cost(op.0).unwrap_or(0),
        Op::Cast(_) | Op::Clip(_) => 2,
        _ => 1,
    }
}
