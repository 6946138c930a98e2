//! Views of a graph for petgraph: order, cycles, reachability, dominators, and the dot language.
//!
//! A view is built on demand and never stored, so it cannot be stale. Its nodes are the nodes of the graph and two
//! artificial ends, the source of all inputs and the sink of all outputs.

use std::fmt::Write as _;

use petgraph::Direction;
use petgraph::algo::dominators::{self, Dominators};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, Reversed};

use crate::graph::{Graph, NodeId, ValueDef, ValueId};

/// A vertex of a [`View`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vertex {
    /// Where inputs and constants come from.
    Source,
    /// A node of the graph.
    Node(NodeId),
    /// Where outputs go.
    Sink,
}

/// A graph as petgraph sees it; edges carry the value that flows.
pub struct View {
    /// The petgraph graph: first all nodes in storage order, then source and sink.
    pub graph: DiGraph<Vertex, ValueId>,
    source: NodeIndex,
    sink: NodeIndex,
}

impl View {
    /// The view of a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut view = DiGraph::with_capacity(graph.nodes().len() + 2, graph.values().len());
        for (id, _) in graph.nodes() {
            view.add_node(Vertex::Node(id));
        }
        let source = view.add_node(Vertex::Source);
        let sink = view.add_node(Vertex::Sink);
        let from = |v: ValueId| graph.producer_id(v).map_or(source, |n| NodeIndex::new(n.index()));
        for (id, node) in graph.nodes() {
            for &value in node.inputs.iter().flatten() {
                view.add_edge(from(value), NodeIndex::new(id.index()), value);
            }
        }
        for output in graph.outputs() {
            view.add_edge(from(output.value), sink, output.value);
        }
        Self { graph: view, source, sink }
    }

    fn node(&self, index: NodeIndex) -> Option<NodeId> {
        match self.graph[index] {
            Vertex::Node(id) => Some(id),
            Vertex::Source | Vertex::Sink => None,
        }
    }

    /// All nodes, producers first.
    ///
    /// # Errors
    /// A node on a cycle.
    pub fn order(&self) -> Result<Vec<NodeId>, NodeId> {
        match petgraph::algo::toposort(&self.graph, None) {
            Ok(order) => Ok(order.into_iter().filter_map(|i| self.node(i)).collect()),
            Err(cycle) => Err(self.node(cycle.node_id()).expect("the ends are on no cycle")),
        }
    }

    /// The groups of nodes that form cycles; none in a graph that verifies.
    pub fn cycles(&self) -> Vec<Vec<NodeId>> {
        let components = petgraph::algo::tarjan_scc(&self.graph);
        let is_cycle = |c: &Vec<NodeIndex>| c.len() > 1 || self.graph.contains_edge(c[0], c[0]);
        components.into_iter().filter(is_cycle).map(|c| c.into_iter().filter_map(|i| self.node(i)).collect()).collect()
    }

    /// The nodes that a node needs (`Incoming`) or that need it (`Outgoing`), itself left out, in storage order.
    pub fn reachable(&self, node: NodeId, direction: Direction) -> Vec<NodeId> {
        let start = NodeIndex::new(node.index());
        let mut found = Vec::new();
        let mut dfs = Dfs::new(&self.graph, start);
        let mut visit = |i: NodeIndex| found.extend(self.node(i).filter(|&n| n != node));
        match direction {
            Direction::Outgoing => {
                while let Some(i) = dfs.next(&self.graph) {
                    visit(i);
                }
            }
            Direction::Incoming => {
                while let Some(i) = dfs.next(Reversed(&self.graph)) {
                    visit(i);
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The node every path from the inputs to `node` goes through last, if there is one.
    pub fn dominator(&self, node: NodeId) -> Option<NodeId> {
        self.dominators().immediate_dominator(NodeIndex::new(node.index())).and_then(|i| self.node(i))
    }

    /// The node every path from `node` to the outputs goes through first, if there is one.
    pub fn post_dominator(&self, node: NodeId) -> Option<NodeId> {
        let all = dominators::simple_fast(Reversed(&self.graph), self.sink);
        all.immediate_dominator(NodeIndex::new(node.index())).and_then(|i| self.node(i))
    }

    fn dominators(&self) -> Dominators<NodeIndex> {
        dominators::simple_fast(&self.graph, self.source)
    }
}

/// The graph in the dot language, for graphviz.
pub fn dot(graph: &Graph) -> String {
    fn escaped(text: &str) -> String {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect::<String>()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
    }
    let mut out = format!("digraph \"{}\" {{\n  node [shape = box];\n", escaped(&graph.name));
    let from = |v: ValueId| match graph.value(v).def {
        ValueDef::Node(n, _) => format!("n{}", n.index()),
        ValueDef::Input | ValueDef::Const(_) | ValueDef::Param(_) => format!("v{}", v.index()),
    };
    for (id, value) in graph.values() {
        let shape = match value.def {
            ValueDef::Input => "ellipse",
            ValueDef::Const(_) | ValueDef::Param(_) => "note",
            ValueDef::Node(..) => continue,
        };
        let _ =
            writeln!(out, "  v{} [shape = {shape}, label = \"{}\\n{}\"];", id.index(), escaped(&value.name), value.ty);
    }
    for (id, node) in graph.nodes() {
        let _ = writeln!(out, "  n{} [label = \"{}\"];", id.index(), node.op.name());
        for &value in node.inputs.iter().flatten() {
            let label = match graph.value(value).def {
                ValueDef::Node(..) => format!(" [label = \"{}\"]", graph.ty(value)),
                _ => String::new(),
            };
            let _ = writeln!(out, "  {} -> n{}{label};", from(value), id.index());
        }
    }
    for (i, output) in graph.outputs().iter().enumerate() {
        let _ = writeln!(out, "  o{i} [shape = ellipse, label = \"{}\"];", escaped(&output.name));
        let _ = writeln!(out, "  {} -> o{i} [label = \"{}\"];", from(output.value), graph.ty(output.value));
    }
    out.push_str("}\n");
    out
}
