//! The graph under construction: nodes are typed, small integer values are evaluated, shape values are followed.

use std::collections::HashMap;

use bitc_ir::eval::Bindings;
use bitc_ir::graph::Mark;
use bitc_ir::ops::EvalCx;
use bitc_ir::shape_value::{ShapeValue, dim_of, number_of, propagate};
use bitc_ir::{Attr, Attrs, DType, Dim, Graph, Op, Shape, Tensor, TensorType, ValueId};

use crate::error::{Cause, quoted};
use crate::limits::Budget;

/// Integers that are computed while importing have at most this many elements.
const FOLD_INTEGERS: usize = 1 << 16;
/// Floats that are computed while importing have at most this many: arguments of resizing, not weights.
const FOLD_FLOATS: usize = 64;
/// Memory that a node takes, charged when it is added.
const NODE_BYTES: u64 = 512;

/// A graph and what is known of its values beyond their types.
pub(crate) struct Builder {
    pub(crate) graph: Graph,
    pub(crate) budget: Budget,
    /// What is known of each value; looked up lazily for constants.
    known: Vec<Option<ShapeValue>>,
    /// Quantised activations by the unsigned bytes that operators of `ai.bitc` hand on for them.
    pub(crate) carriers: HashMap<ValueId, ValueId>,
}

impl Builder {
    pub(crate) fn new(graph: Graph, budget: Budget) -> Self {
        Self { graph, budget, known: Vec::new(), carriers: HashMap::new() }
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_const("", tensor)
    }

    /// The type of a value.
    pub(crate) fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// The elements of an integer value, where they are known before anything runs.
    pub(crate) fn shape_value(&self, value: ValueId) -> Option<ShapeValue> {
        match self.graph.constant(value) {
            Some(tensor) => ShapeValue::of_tensor(tensor),
            None => self.known.get(value.index()).cloned().flatten(),
        }
    }

    /// Adds an operation by name.
    pub(crate) fn named(
        &mut self,
        name: &str,
        attrs: Vec<(&str, Attr)>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, Cause> {
        let attrs: Attrs = attrs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let op = Op::from_attrs(name, attrs).map_err(|e| Cause::Type(e.to_string()))?;
        self.add(op, inputs)
    }

    /// Adds an operation, or the constants that it computes where that is cheap.
    pub(crate) fn add(&mut self, op: Op, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>, Cause> {
        self.budget.charge(NODE_BYTES, || "the graph".into())?;
        let types: Vec<Option<&TensorType>> = inputs.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
        let results = op.infer(types.clone()).map_err(|e| Cause::Type(e.to_string()))?;
        let known = if is_shape_like(&results) {
            let values: Vec<_> = inputs.iter().map(|v| v.and_then(|v| self.shape_value(v))).collect();
            propagate(&op, &types, &values)
        } else {
            None
        };
        if let (Some(value), [result]) = (&known, &results[..])
            && let Some(tensor) = value.to_tensor(result.dtype)
            && result.shape.to_fixed().as_deref() == Some(tensor.dims())
        {
            return Ok(vec![self.constant(tensor)]);
        }
        if let Some(tensors) = self.folded(&op, inputs, &results) {
            return Ok(tensors.into_iter().map(|t| self.constant(t)).collect());
        }
        let outputs = self.graph.add_nodes(&[], op, inputs).map_err(|e| Cause::Type(e.to_string()))?;
        if let (Some(known), [only]) = (known, &outputs[..]) {
            self.known.resize(only.index() + 1, None);
            self.known[only.index()] = Some(known);
        }
        Ok(outputs)
    }

    /// The results of an operation on constants, if they are small. An operation that fails is left for the verifier.
    fn folded(&mut self, op: &Op, inputs: &[Option<ValueId>], results: &[TensorType]) -> Option<Vec<Tensor>> {
        let fits = |ty: &TensorType| {
            let limit = if ty.dtype.is_float() { FOLD_FLOATS } else { FOLD_INTEGERS };
            numel(&ty.shape).is_some_and(|n| n <= limit)
        };
        let tensors: Option<Vec<Option<&Tensor>>> =
            inputs.iter().map(|v| v.map_or(Some(None), |v| self.graph.constant(v).map(Some))).collect();
        let tensors = tensors?;
        if !results.iter().all(fits) || !tensors.iter().flatten().all(|t| fits(&t.ty())) || matches!(op, Op::Custom(_))
        {
            return None;
        }
        let bindings = Bindings::new();
        let values = op.eval(tensors, &EvalCx { bind: &|s| bindings.get(s).copied() }).ok()?;
        let bytes = values.iter().map(|t| t.bytes().len() as u64).sum();
        self.budget.charge(bytes, || "constants".into()).ok()?;
        Some(values)
    }

    /// Names a value that has no name yet.
    ///
    /// The bytes of quantised activations hand their name on to the integers that they stand for.
    pub(crate) fn name(&mut self, value: ValueId, name: &str) {
        let value = self.carriers.get(&value).copied().unwrap_or(value);
        if self.graph.value(value).name.is_empty() {
            self.graph.set_name(value, name);
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        self.graph.mark()
    }

    /// The elements of a value that must be known, as dimensions.
    pub(crate) fn known_dims(&self, value: ValueId, what: &str) -> Result<Vec<Dim>, Cause> {
        // The smallest integer, which exporters write for "before everything", is no dimension; its neighbour will do.
        if let Some(values) = self.graph.constant(value).and_then(Tensor::to_vec::<i64>) {
            let elements = values.iter().map(|&v| dim_of(v.max(-i64::MAX))).collect::<Option<_>>();
            return elements.ok_or_else(|| self.unknown(value, what));
        }
        self.shape_value(value).map(|v| v.elements).ok_or_else(|| self.unknown(value, what))
    }

    /// The elements of a value that must be known, as integers.
    pub(crate) fn known_ints(&self, value: ValueId, what: &str) -> Result<Vec<i64>, Cause> {
        let elements = self.known_dims(value, what)?;
        elements.iter().map(|d| number_of(d).ok_or_else(|| self.unknown(value, what))).collect()
    }

    /// The tensor of a value that must be constant.
    pub(crate) fn known_tensor(&self, value: ValueId, what: &str) -> Result<&Tensor, Cause> {
        self.graph.constant(value).ok_or_else(|| self.unknown(value, what))
    }

    fn unknown(&self, value: ValueId, what: &str) -> Cause {
        let value = self.graph.value(value);
        let name = if value.name.is_empty() { String::new() } else { format!(" {}", quoted(&value.name)) };
        let hint = "bind symbolic dimensions with --dim, or export the model with constant arguments".into();
        Cause::OpForm { detail: format!("`{what}`{name} that depends on the inputs of the model"), hint: Some(hint) }
    }
}

/// The number of elements of a shape without symbols.
pub(crate) fn numel(shape: &Shape) -> Option<usize> {
    shape.to_fixed()?.into_iter().try_fold(1usize, usize::checked_mul)
}

/// Whether a value could be one that shapes are computed from.
fn is_shape_like(results: &[TensorType]) -> bool {
    let [result] = results else { return false };
    matches!(result.dtype, DType::I64 | DType::I32 | DType::Bool) && result.shape.rank() <= 1
}
