//! The reference evaluator: walks the graph and calls the definition of each operation. Slow and plain.
//!
//! What it computes is what a graph means. Values are dropped after their last use, so a large model needs the memory
//! of its widest point.

pub mod array;
mod flow;
pub mod select;

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, ValueDef, ValueId};
use crate::ops::{EvalCx, TypeError};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

pub use flow::Flow;

/// Why evaluation stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EvalError {
    /// Inputs of an operation do not fit.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A dimension has no value in this run.
    #[error("dimension `{0}` has no value in this run")]
    Unbound(Dim),
    /// The operation is not defined on these values.
    #[error("{0}")]
    Undefined(String),
    /// A value would take more memory than the evaluator gives to one.
    #[error("a value of type {ty} would take more than {MAX_VALUE_BYTES} bytes")]
    TooLarge {
        /// The type of the value.
        ty: TensorType,
    },
    /// The evaluator does not know the operation.
    #[error("`{0}` is not known here and cannot be evaluated")]
    Unsupported(String),
    /// The number of inputs is wrong.
    #[error("the graph has {expected} inputs, found {found}")]
    InputCount {
        /// What the graph has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// An input of the graph has another type than declared.
    #[error("input `{name}` must be {expected}, found {found}")]
    Input {
        /// The input.
        name: String,
        /// The declared type, with symbols bound so far left as they are.
        expected: TensorType,
        /// The type given.
        found: TensorType,
    },
    /// A node failed.
    #[error("node {node} (`{op}`{}): {source}", if origin.is_empty() { String::new() } else { format!(", from {origin}") })]
    Node {
        /// The position of the node.
        node: usize,
        /// Its operation.
        op: String,
        /// Where it came from.
        origin: String,
        /// What went wrong.
        #[source]
        source: Box<EvalError>,
    },
}

/// The largest value that is computed.
pub const MAX_VALUE_BYTES: usize = 1 << 32;

/// Symbols and what they stand for in one run.
pub type Bindings = BTreeMap<String, usize>;

/// Called with each node and its outputs as they are computed. It may put others of the same types in their place, to see
/// what follows from them.
pub type Tap<'a> = &'a mut dyn FnMut(NodeId, &mut [Tensor]);

/// The outputs of a graph for these inputs.
///
/// # Errors
/// If the inputs do not fit the graph or an operation is not defined on what reaches it.
pub fn eval(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    eval_with(graph, inputs, &mut |_, _| {})
}

/// As [`eval`], showing every node's outputs to `tap`.
///
/// # Errors
/// As [`eval`].
pub fn eval_with(graph: &Graph, inputs: &[Tensor], tap: Tap<'_>) -> Result<Vec<Tensor>, EvalError> {
    let bindings = bind(graph, inputs)?;
    let order = graph.live_order().ok_or_else(|| EvalError::Undefined("the graph has a cycle".to_owned()))?;

    let mut reads_left = vec![0u32; graph.values().len()];
    for value in order.iter().flat_map(|&n| graph.node(n).inputs.iter().flatten()) {
        reads_left[value.index()] += 1;
    }
    for output in graph.outputs() {
        reads_left[output.value.index()] += 1;
    }
    let mut values: Vec<Option<Tensor>> = vec![None; graph.values().len()];
    for (&id, tensor) in graph.inputs().iter().zip(inputs) {
        values[id.index()] = Some(tensor.clone());
    }
    for node_id in order {
        let node = graph.node(node_id);
        let outputs = eval_node(graph, node_id, &|v| values[v.index()].as_ref(), &bindings, tap)?;
        for (&value, tensor) in node.outputs.iter().zip(outputs) {
            values[value.index()] = (reads_left[value.index()] > 0).then_some(tensor);
        }
        for value in node.inputs.iter().flatten() {
            reads_left[value.index()] -= 1;
            if reads_left[value.index()] == 0 {
                values[value.index()] = None;
            }
        }
    }
    let output = |v: ValueId| graph.constant(v).or(values[v.index()].as_ref()).cloned();
    let missing = || EvalError::Undefined("an output was not computed".to_owned());
    graph.outputs().iter().map(|o| output(o.value).ok_or_else(missing)).collect()
}

/// The outputs of one node; `computed` hands out what is no constant.
fn eval_node<'a>(
    graph: &'a Graph,
    id: NodeId,
    computed: &dyn Fn(ValueId) -> Option<&'a Tensor>,
    bindings: &Bindings,
    tap: Tap<'_>,
) -> Result<Vec<Tensor>, EvalError> {
    let node = graph.node(id);
    let at = |source| EvalError::Node {
        node: id.index(),
        op: node.op.name().to_owned(),
        origin: node.origin.to_string(),
        source: Box::new(source),
    };
    let read = |v: ValueId| match &graph.value(v).def {
        ValueDef::Const(t) | ValueDef::Param(t) => Some(t),
        ValueDef::Input | ValueDef::Node(..) => computed(v),
    };
    node.outputs.iter().try_for_each(|&v| check_size(graph.ty(v), bindings)).map_err(at)?;
    let args = node.inputs.iter().map(|v| v.and_then(read)).collect();
    let mut outputs = node.op.eval(args, &EvalCx { bind: &|s| bindings.get(s).copied() }).map_err(at)?;
    tap(id, &mut outputs);
    for (&value, tensor) in node.outputs.iter().zip(&outputs) {
        check_type(graph.ty(value), tensor, bindings).map_err(at)?;
    }
    Ok(outputs)
}

/// What the symbols of a graph stand for, given inputs. Every input is checked against its declared type.
///
/// # Errors
/// If the inputs do not fit the graph.
pub fn bind(graph: &Graph, inputs: &[Tensor]) -> Result<Bindings, EvalError> {
    if graph.inputs().len() != inputs.len() {
        return Err(EvalError::InputCount { expected: graph.inputs().len(), found: inputs.len() });
    }
    let mut bindings = Bindings::new();
    let pairs = || graph.inputs().iter().zip(inputs);
    // Bare symbols first: they may occur in an expression of an earlier input.
    for (&id, tensor) in pairs() {
        for (dim, &n) in graph.ty(id).shape.0.iter().zip(tensor.dims()) {
            if let Some(symbol) = dim.as_symbol() {
                bindings.entry(symbol.to_string()).or_insert(n);
            }
        }
    }
    for (&id, tensor) in pairs() {
        if check_type(graph.ty(id), tensor, &bindings).is_err() {
            let name = graph.value(id).name.clone();
            return Err(EvalError::Input { name, expected: graph.ty(id).clone(), found: tensor.ty() });
        }
    }
    Ok(bindings)
}

/// Refuses a value that is too large before anything is allocated for it.
fn check_size(ty: &TensorType, bindings: &Bindings) -> Result<(), EvalError> {
    let dims = ty.shape.0.iter().map(|d| d.eval(&|s| bindings.get(s).copied()));
    let Some(dims) = dims.collect::<Option<Vec<_>>>() else { return Ok(()) };
    let len = dims.iter().try_fold(ty.dtype.size_bytes(), |len, &d| len.checked_mul(d));
    match len.filter(|&len| len <= MAX_VALUE_BYTES) {
        Some(_) => Ok(()),
        None => Err(EvalError::TooLarge { ty: ty.clone() }),
    }
}

fn check_type(ty: &TensorType, tensor: &Tensor, bindings: &Bindings) -> Result<(), EvalError> {
    let fits = |(dim, &n): (&Dim, &usize)| dim.eval(&|s| bindings.get(s).copied()).is_none_or(|d| d == n);
    let same_rank = ty.shape.rank() == tensor.rank();
    if ty.dtype == tensor.dtype() && same_rank && ty.shape.0.iter().zip(tensor.dims()).all(fits) {
        return Ok(());
    }
    Err(TypeError::new(ty.to_string(), tensor.ty()).into())
}
