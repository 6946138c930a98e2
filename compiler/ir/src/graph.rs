//! The graph: nodes and values with dense ids, built so that an ill-typed node cannot be added.
//!
//! One flat DAG per model: no subgraphs, no control flow, no mutation of values. Nodes are only ever appended; what a
//! rewrite leaves unused goes away in [`Graph::compact`], which also restores topological order.

mod edit;
mod uses;

pub use edit::Mark;
pub use uses::Uses;

use std::collections::BTreeMap;
use std::fmt;

use crate::ops::{Op, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Names a node of one graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(u32);

/// Names a value of one graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ValueId(u32);

impl NodeId {
    /// The id of the node at a position.
    ///
    /// # Panics
    /// If the position does not fit 32 bits.
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a graph has fewer than 2^32 nodes"))
    }

    /// The position of the node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// The id of the value at a position.
    ///
    /// # Panics
    /// If the position does not fit 32 bits.
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a graph has fewer than 2^32 values"))
    }

    /// The position of the value.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names of the source nodes that a node stands for; rewrites merge them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin(Vec<String>);

impl Origin {
    /// The origin of a node that comes straight from a source.
    pub fn of(name: impl Into<String>) -> Self {
        Self(vec![name.into()])
    }

    /// The names, in the order they were merged, each once.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Adds the names of another origin.
    pub fn merge(&mut self, other: &Origin) {
        for name in &other.0 {
            if !self.0.contains(name) {
                self.0.push(name.clone());
            }
        }
    }
}

impl FromIterator<String> for Origin {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        let mut origin = Self::default();
        for name in names {
            origin.merge(&Origin::of(name));
        }
        origin
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// One application of an operation.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// What it reads; `None` is an absent optional input.
    pub inputs: Vec<Option<ValueId>>,
    /// What it defines.
    pub outputs: Vec<ValueId>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum ValueDef {
    /// An input of the graph.
    Input,
    /// A constant.
    Const(Tensor),
    /// A constant that training may still change; freezing turns it into [`ValueDef::Const`].
    Param(Tensor),
    /// An output of a node, by position.
    Node(NodeId, u32),
}

/// Something that flows along an edge.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    /// The name; empty for an anonymous value.
    pub name: String,
    /// The type.
    pub ty: TensorType,
    /// The definition.
    pub def: ValueDef,
}

/// An output of the graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// The name that callers see.
    pub name: String,
    /// The value returned.
    pub value: ValueId,
}

/// A model as a typed graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The name of the model.
    pub name: String,
    /// Facts about the source that survive a round trip, such as its producer.
    pub meta: BTreeMap<String, String>,
    /// Whether deployment has been frozen: nothing trainable is left and nothing trainable may be added.
    pub frozen: bool,
    nodes: Vec<Node>,
    values: Vec<Value>,
    inputs: Vec<ValueId>,
    outputs: Vec<Output>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let id = self.add_value(name, ty, ValueDef::Input);
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_const(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.add_value(name, tensor.ty(), ValueDef::Const(tensor))
    }

    /// Adds a constant that training may still change.
    pub fn add_param(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.add_value(name, tensor.ty(), ValueDef::Param(tensor))
    }

    /// Adds a node with one output.
    ///
    /// # Errors
    /// If the inputs do not fit, or the operation has several outputs.
    pub fn add_node(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
    ) -> Result<ValueId, TypeError> {
        match self.add_nodes(&[name], op, inputs)?[..] {
            [only] => Ok(only),
            ref many => Err(TypeError::new("an operation with one output", many.len())),
        }
    }

    /// Adds a node; missing names are anonymous. Optional inputs that are absent at the end are left out, so that nodes
    /// that are the same look the same.
    ///
    /// # Errors
    /// If the inputs do not fit the operation.
    pub fn add_nodes(
        &mut self,
        names: &[&str],
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, TypeError> {
        let op = op.into();
        let variadic = op.info().inputs.last().is_some_and(|n| n.ends_with('*'));
        let present = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let inputs = if variadic { inputs } else { &inputs[..present] };
        let types = op.infer(inputs.iter().map(|v| v.map(|v| &self.value(v).ty)).collect())?;
        let node = NodeId::new(self.nodes.len());
        let outputs: Vec<_> = types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| self.add_value(names.get(i).unwrap_or(&""), ty, ValueDef::Node(node, i as u32)))
            .collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), origin: Origin::default() });
        Ok(outputs)
    }

    /// Makes a value an output of the graph.
    pub fn add_output(&mut self, name: impl Into<String>, value: ValueId) {
        self.outputs.push(Output { name: name.into(), value });
    }

    fn add_value(&mut self, name: &str, ty: TensorType, def: ValueDef) -> ValueId {
        let id = ValueId::new(self.values.len());
        self.values.push(Value { name: name.to_owned(), ty, def });
        id
    }

    /// The nodes with their ids, in storage order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator + Clone {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId::new(i), n))
    }

    /// The values with their ids, in storage order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Value)> + ExactSizeIterator + Clone {
        self.values.iter().enumerate().map(|(i, v)| (ValueId::new(i), v))
    }

    /// The inputs of the graph.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The outputs of the graph.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A node, to change its origin; inputs and operation change by replacement only.
    pub fn origin_mut(&mut self, id: NodeId) -> &mut Origin {
        &mut self.nodes[id.index()].origin
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.value(id).ty
    }

    /// Input `i` of a node, if it is there.
    pub fn input(&self, node: NodeId, i: usize) -> Option<ValueId> {
        self.node(node).inputs.get(i).copied().flatten()
    }

    /// The tensor of a value that does not depend on the inputs of the graph; parameters count.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        match &self.value(value).def {
            ValueDef::Const(t) | ValueDef::Param(t) => Some(t),
            ValueDef::Input | ValueDef::Node(..) => None,
        }
    }

    /// The node that defines a value.
    pub fn producer_id(&self, value: ValueId) -> Option<NodeId> {
        match self.value(value).def {
            ValueDef::Node(node, _) => Some(node),
            _ => None,
        }
    }

    /// The node that defines a value, if its operation is a `T`.
    pub fn producer<'a, T>(&'a self, value: ValueId) -> Option<(NodeId, &'a T)>
    where
        &'a T: TryFrom<&'a Op>,
    {
        let id = self.producer_id(value)?;
        <&T>::try_from(&self.node(id).op).ok().map(|op| (id, op))
    }
}
