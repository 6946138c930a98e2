//! Who reads what: computed from a graph, and kept true while a rewrite changes it.

use super::{Graph, NodeId, ValueId};
use crate::ops::TypeError;

/// Which nodes read each value, and how often the graph returns it.
///
/// The table is not stored in the graph. Whoever holds one changes the graph through it, or makes a new one.
#[derive(Debug)]
pub struct Uses {
    readers: Vec<Vec<NodeId>>,
    returned: Vec<u32>,
}

impl Graph {
    /// Who reads what.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses { readers: vec![Vec::new(); self.values.len()], returned: vec![0; self.values.len()] };
        for (id, node) in self.nodes() {
            for value in node.inputs.iter().flatten() {
                uses.readers[value.index()].push(id);
            }
        }
        for output in &self.outputs {
            uses.returned[output.value.index()] += 1;
        }
        uses
    }

    /// Makes every reader of `old` read `new`, outputs of the graph included.
    ///
    /// # Errors
    /// If the two have different types.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) -> Result<(), TypeError> {
        self.uses().replace(self, old, new)
    }
}

impl Uses {
    /// The nodes that read a value, once per input that does.
    pub fn of(&self, value: ValueId) -> &[NodeId] {
        self.readers.get(value.index()).map_or(&[], Vec::as_slice)
    }

    /// How often the graph returns a value.
    pub fn returned(&self, value: ValueId) -> usize {
        self.returned.get(value.index()).map_or(0, |&n| n as usize)
    }

    /// The number of reads, returning included.
    pub fn count(&self, value: ValueId) -> usize {
        self.of(value).len() + self.returned(value)
    }

    /// Makes room for values that were added to the graph.
    pub fn grow(&mut self, graph: &Graph) {
        self.readers.resize(graph.values.len(), Vec::new());
        self.returned.resize(graph.values.len(), 0);
    }

    /// Takes in a node that was added to the graph.
    pub fn add_node(&mut self, graph: &Graph, node: NodeId) {
        self.grow(graph);
        for value in graph.node(node).inputs.iter().flatten() {
            self.readers[value.index()].push(node);
        }
    }

    /// Makes every reader of `old` read `new`, outputs of the graph included.
    ///
    /// # Errors
    /// If the two have different types; nothing has changed then.
    pub fn replace(&mut self, graph: &mut Graph, old: ValueId, new: ValueId) -> Result<(), TypeError> {
        if graph.ty(old) != graph.ty(new) {
            return Err(TypeError::new(graph.ty(old).to_string(), graph.ty(new)));
        }
        if old == new {
            return Ok(());
        }
        let readers = std::mem::take(&mut self.readers[old.index()]);
        for &reader in &readers {
            for input in &mut graph.nodes[reader.index()].inputs {
                if *input == Some(old) {
                    *input = Some(new);
                }
            }
        }
        self.readers[new.index()].extend(readers);
        if std::mem::take(&mut self.returned[old.index()]) > 0 {
            for output in graph.outputs.iter_mut().filter(|o| o.value == old) {
                output.value = new;
                self.returned[new.index()] += 1;
            }
        }
        Ok(())
    }

    /// Drops the reads of nodes that nothing needs any more, beginning with `node`. Returns those nodes.
    ///
    /// The nodes stay in the graph until it is compacted.
    pub fn release(&mut self, graph: &Graph, node: NodeId) -> Vec<NodeId> {
        let mut dead = Vec::new();
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            let needed = graph.node(node).outputs.iter().any(|&v| self.count(v) > 0);
            if needed || dead.contains(&node) {
                continue;
            }
            dead.push(node);
            for &value in graph.node(node).inputs.iter().flatten() {
                self.readers[value.index()].retain(|&n| n != node);
                stack.extend(graph.producer_id(value));
            }
        }
        dead
    }
}
