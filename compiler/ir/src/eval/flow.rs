//! Evaluation of a graph that is rewritten meanwhile, from its inputs on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bindings, EvalError, bind, eval_node};
use crate::graph::{Graph, NodeId, ValueId};
use crate::tensor::Tensor;

/// The values of a graph for one set of inputs: computed when they are asked for, and kept while a node that has not been
/// computed reads them. Nodes may be added to the graph, and put in the place of such as have not been computed.
#[derive(Debug)]
pub struct Flow {
    bindings: Bindings,
    inputs: BTreeMap<ValueId, Tensor>,
    values: BTreeMap<ValueId, Tensor>,
    done: BTreeSet<NodeId>,
}

impl Flow {
    /// Nothing but the inputs.
    ///
    /// # Errors
    /// If the inputs do not fit the graph.
    pub fn new(graph: &Graph, inputs: &[Tensor]) -> Result<Self, EvalError> {
        let bindings = bind(graph, inputs)?;
        let inputs = graph.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
        Ok(Self { bindings, inputs, values: BTreeMap::new(), done: BTreeSet::new() })
    }

    /// A value of the graph as it is now.
    ///
    /// # Errors
    /// If an operation is not defined on what reaches it.
    pub fn value(&mut self, graph: &Graph, value: ValueId) -> Result<Tensor, EvalError> {
        for id in self.missing(graph, value)? {
            let computed = |v: ValueId| self.inputs.get(&v).or_else(|| self.values.get(&v));
            let outputs = eval_node(graph, id, &computed, &self.bindings, &mut |_, _| {})?;
            self.values.extend(graph.node(id).outputs.iter().copied().zip(outputs));
            self.done.insert(id);
        }
        let found = graph.constant(value).or_else(|| self.inputs.get(&value)).or_else(|| self.values.get(&value));
        let found = found.cloned().ok_or_else(|| EvalError::Undefined("a value was not computed".to_owned()));
        self.forget(graph)?;
        found
    }

    /// The nodes that are still to be computed for a value, producers first.
    fn missing(&self, graph: &Graph, value: ValueId) -> Result<Vec<NodeId>, EvalError> {
        let mut wanted = BTreeSet::new();
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            if self.values.contains_key(&value) {
                continue;
            }
            if let Some(id) = graph.producer_id(value).filter(|&id| wanted.insert(id)) {
                stack.extend(graph.node(id).inputs.iter().flatten());
            }
        }
        let order = live_order(&graph.with_outputs(&[value]))?;
        Ok(order.into_iter().filter(|id| wanted.contains(id)).collect())
    }

    /// Drops what no node reads that is still to come.
    fn forget(&mut self, graph: &Graph) -> Result<(), EvalError> {
        let mut read = BTreeSet::new();
        for id in live_order(graph)?.into_iter().filter(|id| !self.done.contains(id)) {
            read.extend(graph.node(id).inputs.iter().flatten().copied());
        }
        self.values.retain(|value, _| read.contains(value));
        Ok(())
    }
}

fn live_order(graph: &Graph) -> Result<Vec<NodeId>, EvalError> {
    graph.live_order().ok_or_else(|| EvalError::Undefined("the graph has a cycle".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::eval;
    use crate::ops::{Binary, BinaryKind, Unary, UnaryKind};
    use crate::types::{DType, Shape, TensorType};

    #[test]
    fn values_follow_what_the_graph_becomes() {
        let mut graph = Graph::new("g");
        let x = graph.add_input("x", TensorType::new(DType::F32, Shape::fixed(&[2])));
        let unary = |graph: &mut Graph, kind, x| graph.add_node("", Unary(kind), &[Some(x)]).unwrap();
        let a = unary(&mut graph, UnaryKind::Neg, x);
        let b = unary(&mut graph, UnaryKind::Abs, a);
        let y = graph.add_node("y", Binary(BinaryKind::Add), &[Some(b), Some(a)]).unwrap();
        graph.add_output("y", y);
        let inputs = [Tensor::new(&[2], &[3f32, -2.0])];
        let mut flow = Flow::new(&graph, &inputs).unwrap();
        assert_eq!(flow.value(&graph, a).unwrap().to_f64(), [-3.0, 2.0]);
        // What reads `a` reads it still; what came of it is new.
        let c = unary(&mut graph, UnaryKind::Neg, a);
        graph.replace_uses(b, c).unwrap();
        assert_eq!(flow.value(&graph, c).unwrap().to_f64(), [3.0, -2.0]);
        assert_eq!(flow.value(&graph, y).unwrap(), eval(&graph, &inputs).unwrap()[0]);
        // Nothing is left to read; a value that was dropped is computed once more.
        assert!(flow.values.is_empty());
        assert_eq!(flow.value(&graph, a).unwrap().to_f64(), [-3.0, 2.0]);
    }
}
