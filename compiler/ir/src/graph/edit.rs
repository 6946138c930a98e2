//! Changing a graph: replacing uses, rolling back, dropping what is dead.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Graph, Node, NodeId, Origin, Output, Value, ValueDef, ValueId};
use crate::tensor::Tensor;

/// A point to roll back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    nodes: usize,
    values: usize,
}

impl Graph {
    /// The present state, for [`Graph::rollback`].
    pub fn mark(&self) -> Mark {
        Mark { nodes: self.nodes.len(), values: self.values.len() }
    }

    /// Drops all nodes and values added since the mark. Nothing that stays may refer to them.
    pub fn rollback(&mut self, mark: Mark) {
        self.nodes.truncate(mark.nodes);
        self.values.truncate(mark.values);
    }

    /// The nodes added since the mark.
    pub fn nodes_since(&self, mark: Mark) -> impl Iterator<Item = NodeId> + use<> {
        (mark.nodes..self.nodes.len()).map(NodeId::new)
    }

    /// The same graph returning other values; constants are shared.
    pub fn with_outputs(&self, values: &[ValueId]) -> Graph {
        let output = |(i, &value): (usize, &ValueId)| Output { name: i.to_string(), value };
        let outputs = values.iter().enumerate().map(output).collect();
        Graph { outputs, ..self.clone() }
    }

    /// Moves the name of a value that is about to die to the one that takes its place, unless that has its own.
    ///
    /// An input of the graph is never renamed, not even one without a name: callers know it by what it is called.
    pub fn take_name(&mut self, from: ValueId, to: ValueId) {
        if self.value(to).name.is_empty() && self.value(to).def != ValueDef::Input {
            let name = std::mem::take(&mut self.values[from.index()].name);
            self.values[to.index()].name = name;
        }
    }

    /// Gives up the elements of a constant that nothing reads any more, which compacting would do later.
    ///
    /// What is in its place has no elements and another type.
    pub fn give_up_constant(&mut self, value: ValueId) {
        let empty = Tensor::new::<u8>(&[0], &[]);
        let dead = &mut self.values[value.index()];
        if let ValueDef::Const(tensor) | ValueDef::Param(tensor) = &mut dead.def {
            dead.ty = empty.ty();
            *tensor = empty;
        }
    }

    /// Renames a value.
    pub fn set_name(&mut self, value: ValueId, name: impl Into<String>) {
        self.values[value.index()].name = name.into();
    }

    /// Turns every trainable parameter into a constant.
    pub fn params_to_consts(&mut self) -> usize {
        let mut count = 0;
        for value in &mut self.values {
            if let ValueDef::Param(tensor) = &value.def {
                value.def = ValueDef::Const(tensor.clone());
                count += 1;
            }
        }
        count
    }

    /// Drops nodes and constants that no output needs, orders nodes topologically and makes ids dense and names unique.
    ///
    /// Inputs of the graph stay, used or not. The order is stable: a node moves only behind what it reads.
    ///
    /// # Panics
    /// If the graph has a cycle; [`crate::verify::verify`] reports those.
    pub fn compact(&mut self) {
        let order = self.live_order().expect("a graph under construction has no cycle");
        let mut new_node = vec![None; self.nodes.len()];
        let mut live = vec![false; self.values.len()];
        self.inputs.iter().chain(self.outputs.iter().map(|o| &o.value)).for_each(|v| live[v.index()] = true);
        for (new, &old) in order.iter().enumerate() {
            new_node[old.index()] = Some(NodeId::new(new));
            let node = self.node(old);
            node.outputs.iter().chain(node.inputs.iter().flatten()).for_each(|v| live[v.index()] = true);
        }

        // Inputs and constants keep their order; node outputs follow the new order of nodes.
        let free = (0..live.len()).filter(|&i| live[i]).map(ValueId::new).filter(|&v| self.producer_id(v).is_none());
        let defined = order.iter().flat_map(|&n| self.node(n).outputs.iter().copied());
        let values: Vec<ValueId> = free.chain(defined).collect();
        let mut new_value = vec![None; self.values.len()];
        for (new, &old) in values.iter().enumerate() {
            new_value[old.index()] = Some(ValueId::new(new));
        }

        let map = |v: ValueId| new_value[v.index()].expect("a live node reads live values");
        let moved = |old: &Value| {
            let mut value = old.clone();
            if let ValueDef::Node(node, i) = value.def {
                value.def = ValueDef::Node(new_node[node.index()].expect("its producer is live"), i);
            }
            value
        };
        let new_values: Vec<Value> = values.iter().map(|&v| moved(self.value(v))).collect();
        let new_nodes: Vec<Node> = order
            .iter()
            .map(|&n| {
                let node = self.node(n);
                let inputs = node.inputs.iter().map(|v| v.map(map)).collect();
                let outputs = node.outputs.iter().map(|&v| map(v)).collect();
                Node { op: node.op.clone(), inputs, outputs, origin: node.origin.clone() }
            })
            .collect();
        for input in &mut self.inputs {
            *input = map(*input);
        }
        for output in &mut self.outputs {
            output.value = map(output.value);
        }
        (self.nodes, self.values) = (new_nodes, new_values);
        self.make_names_unique();
    }

    /// The nodes that outputs need, producers first; `None` if they form a cycle.
    ///
    /// Where the storage order is already topological it is kept.
    pub fn live_order(&self) -> Option<Vec<NodeId>> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            Unseen,
            Open,
            Done,
        }
        let mut live = vec![false; self.nodes.len()];
        let mut stack: Vec<NodeId> = self.outputs.iter().filter_map(|o| self.producer_id(o.value)).collect();
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut live[node.index()], true) {
                stack.extend(self.node(node).inputs.iter().flatten().filter_map(|&v| self.producer_id(v)));
            }
        }
        let mut state = vec![State::Unseen; self.nodes.len()];
        let mut order = Vec::new();
        for root in (0..self.nodes.len()).map(NodeId::new).filter(|n| live[n.index()]) {
            let mut stack = vec![root];
            while let Some(&node) = stack.last() {
                match state[node.index()] {
                    State::Done => {
                        stack.pop();
                    }
                    State::Open => {
                        state[node.index()] = State::Done;
                        order.push(node);
                        stack.pop();
                    }
                    State::Unseen => {
                        state[node.index()] = State::Open;
                        for producer in self.node(node).inputs.iter().flatten().filter_map(|&v| self.producer_id(v)) {
                            match state[producer.index()] {
                                State::Unseen => stack.push(producer),
                                State::Open => return None,
                                State::Done => {}
                            }
                        }
                    }
                }
            }
        }
        Some(order)
    }

    fn make_names_unique(&mut self) {
        let mut found = HashSet::with_capacity(self.values.len());
        if self.values.iter().map(|v| v.name.as_str()).filter(|n| !n.is_empty()).all(|n| found.insert(n)) {
            return;
        }
        let mut taken: BTreeSet<String> = self.values.iter().map(|v| v.name.clone()).collect();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for value in self.values.iter_mut().filter(|v| !v.name.is_empty()) {
            let count = seen.entry(value.name.clone()).or_insert(0);
            if *count > 0 {
                let free = (*count..).map(|i| (i, format!("{}.{i}", value.name))).find(|(_, n)| !taken.contains(n));
                let (i, name) = free.expect("some number is free");
                *count = i;
                taken.insert(name.clone());
                value.name = name;
            }
            *count += 1;
        }
    }

    /// Adds names to the origin of a node.
    pub fn merge_origin(&mut self, node: NodeId, origin: &Origin) {
        self.origin_mut(node).merge(origin);
    }
}
