//! A node as its form sees it: its inputs by name and type, and the nodes to write.

use bitc_ir::{DType, Node, Shape, Tensor, TensorType, ValueId};

use super::bodies::{self, Carrier};
use super::convert::any_attr;
use super::scope::Scope;
use super::writer::Writer;
use super::{DOMAIN, Form, inline};
use crate::proto::{AttributeProto, FunctionProto, OperatorSetIdProto};

/// Why a node cannot be written, in words.
pub(super) struct No(pub(super) String);

/// The names of the outputs of a node, in order.
pub(super) type Names = Result<Vec<String>, No>;

/// A refusal.
pub(super) fn no<T>(reason: impl Into<String>) -> Result<T, No> {
    Err(No(reason.into()))
}

pub(super) struct Cx<'w, 'g> {
    pub(super) w: &'w mut Writer<'g>,
    pub(super) node: &'g Node,
}

impl<'g> Cx<'_, 'g> {
    /// The nodes written so far.
    pub(super) fn s(&mut self) -> &mut Scope {
        &mut self.w.scope
    }

    /// The form that is written.
    pub(super) fn form(&self) -> Form {
        self.w.form
    }

    /// The version of the standard operators.
    pub(super) fn opset(&self) -> i64 {
        self.w.scope.opset
    }

    /// Input `i` as a value.
    pub(super) fn value(&self, i: usize) -> Option<ValueId> {
        self.node.inputs.get(i).copied().flatten()
    }

    /// The name of input `i`.
    pub(super) fn input(&mut self, i: usize) -> Result<String, No> {
        match self.value(i) {
            Some(value) => self.w.name_of(value),
            None => no(format!("`{}` lacks input {i}", self.node.op.name())),
        }
    }

    /// The name of an optional input, empty where it is absent.
    pub(super) fn opt(&mut self, i: usize) -> Result<String, No> {
        self.value(i).map_or_else(|| Ok(String::new()), |v| self.w.name_of(v))
    }

    /// The type of input `i`, which is there.
    pub(super) fn ty(&self, i: usize) -> Result<&'g TensorType, No> {
        let value = self.value(i).ok_or_else(|| No(format!("`{}` lacks input {i}", self.node.op.name())))?;
        Ok(self.w.graph.ty(value))
    }

    /// The type of output `i`.
    pub(super) fn result(&self, i: usize) -> &'g TensorType {
        self.w.graph.ty(self.node.outputs[i])
    }

    /// The tensor of input `i`, where it is constant.
    pub(super) fn constant(&self, i: usize) -> Option<&'g Tensor> {
        self.w.graph.constant(self.value(i)?)
    }

    /// What a constant made of input `i` is called after: its name.
    pub(super) fn hint(&self, i: usize) -> String {
        self.value(i).map(|v| self.w.graph.value(v).name.clone()).unwrap_or_default()
    }

    /// Adds a standard operator.
    pub(super) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.w.scope.op(op, inputs, attributes)
    }

    /// An operator between all inputs of the node, without attributes.
    pub(super) fn same(&mut self, op: &str) -> Names {
        let inputs = (0..self.node.inputs.len()).map(|i| self.input(i)).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(vec![self.op(op, &inputs, Vec::new())])
    }

    /// An operator of [`DOMAIN`]: a call with a function, or its definition in place, by the form.
    pub(super) fn call(&mut self, name: &'static str, inputs: &[&str], attributes: Vec<AttributeProto>) -> Vec<String> {
        let carrier = self.form().carrier();
        if self.form() != Form::Functions {
            let mark = self.w.scope.nodes.len();
            self.w.scope.begin_call(&attributes);
            let outputs = bodies::define(&mut self.w.scope, name, inputs, carrier).unwrap_or_default();
            if self.form() == Form::Inline
                && let Some(first) = self.w.scope.nodes.get_mut(mark)
            {
                first.metadata_props.push(inline::mark(name, &attributes));
            }
            return outputs;
        }
        let (formal, outputs) = bodies::signature(name);
        if !self.w.functions.contains_key(name) {
            let mut body = Scope::body(self.opset());
            formal.iter().chain(outputs).for_each(|n| {
                body.take_name(n);
            });
            let results = bodies::define(&mut body, name, formal, carrier).unwrap_or_default();
            for (result, output) in results.iter().zip(outputs) {
                rename(&mut body.nodes, result, output);
            }
            let opset = OperatorSetIdProto { domain: String::new(), version: self.opset() };
            let function = FunctionProto {
                name: name.to_owned(),
                domain: DOMAIN.to_owned(),
                input: formal.iter().map(|&s| s.to_owned()).collect(),
                output: outputs.iter().map(|&s| s.to_owned()).collect(),
                attribute: attributes.iter().map(|a| a.name.clone()).collect(),
                node: body.nodes,
                opset_import: vec![opset],
                ..FunctionProto::default()
            };
            self.w.functions.insert(name, function);
        }
        self.w.scope.ops(DOMAIN, name, inputs, attributes, outputs.len())
    }

    /// What carries the integers of input `i`, which are of type `i8`.
    pub(super) fn carried(&mut self, i: usize, carrier: Carrier) -> Result<String, No> {
        let value = self.value(i).ok_or_else(|| No("lacks its activations".into()))?;
        if let Some(name) = self.w.carriers.get(&value) {
            return Ok(name.clone());
        }
        let q = self.w.name_of(value)?;
        Ok(match carrier {
            Carrier::Bytes => bodies::i8_to_bytes(self.s(), &q),
            Carrier::Floats => self.s().cast(&q, DType::F32),
        })
    }

    /// The elements of input `i` as small integers, where it is a constant of a type that is stored so.
    pub(super) fn small_ints(&self, i: usize) -> Option<Vec<i8>> {
        self.constant(i)?.to_vec::<i8>()
    }

    /// The dimensions as a list of integers while running. `like` is a value whose dimensions may be referred to by 0.
    pub(super) fn dims(&mut self, shape: &Shape) -> Result<String, No> {
        self.w.dims(shape)
    }

    /// The elements of `x` under other dimensions.
    pub(super) fn reshape(&mut self, x: &str, from: &Shape, to: &Shape) -> Result<String, No> {
        let symbolic: Vec<usize> = (0..to.rank()).filter(|&i| to.0[i].as_const().is_none()).collect();
        let kept = |i: usize| from.0.get(i) == Some(&to.0[i]);
        let unkept: Vec<usize> = symbolic.iter().copied().filter(|&i| !kept(i)).collect();
        let no_zero = to.0.iter().all(|d| d.as_const() != Some(0));
        if unkept.len() > 1 || !no_zero {
            let dims = self.dims(to)?;
            return Ok(self.op("Reshape", &[x, &dims], reshape_attrs(self.opset(), !no_zero)));
        }
        let number = |i: usize| match to.0[i].as_const() {
            Some(n) => n as i64,
            // With one symbolic dimension the rest tells its size; otherwise those that stay in place are copied.
            None if unkept.contains(&i) || symbolic.len() == 1 => -1,
            None => 0,
        };
        let dims: Vec<i64> = (0..to.rank()).map(number).collect();
        let dims = self.s().ints(&dims);
        Ok(self.op("Reshape", &[x, &dims], Vec::new()))
    }

    /// The attributes of an operation that bitc does not know.
    pub(super) fn unknown_attrs(&self, attrs: &bitc_ir::Attrs) -> Result<Vec<AttributeProto>, No> {
        let each = |(name, value): (&String, &bitc_ir::Attr)| {
            any_attr(name, value)
                .ok_or_else(|| No(format!("attribute `{name}` is {}, which ONNX has no kind for", value.kind())))
        };
        attrs.iter().map(each).collect()
    }
}

/// Where a dimension is zero, a zero in a list of dimensions must not mean the one that was there.
fn reshape_attrs(opset: i64, has_zero: bool) -> Vec<AttributeProto> {
    if has_zero && opset >= 14 { vec![super::convert::attr_int("allowzero", 1)] } else { Vec::new() }
}

/// Gives the value that is called `from` another name, wherever it occurs.
pub(super) fn rename(nodes: &mut [crate::proto::NodeProto], from: &str, to: &str) {
    for node in nodes {
        node.input.iter_mut().chain(&mut node.output).filter(|n| *n == from).for_each(|n| to.clone_into(n));
    }
}
