//! Nodes in the making: of the graph, or of the body of a function.
//!
//! The same code writes both. What differs is where constants go (initializers, or `Constant` nodes) and where the
//! attributes of an `ai.bitc` operator come from (literals, or references to the attributes of the call).

use std::collections::{BTreeMap, BTreeSet};

use bitc_ir::{DType, Tensor};

use super::convert::{attr_int, attr_ints, reference, tensor_proto};
use crate::proto::{AttributeProto, NodeProto, TensorProto, attribute_type};

pub(super) struct Scope {
    /// The version of the standard operator set.
    pub(super) opset: i64,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    /// Small constants by what they are.
    known: BTreeMap<(i32, Vec<i64>, Vec<u8>), String>,
    taken: BTreeSet<String>,
    is_body: bool,
    /// The attributes of the operator that is written in place.
    call: Vec<AttributeProto>,
    count: usize,
}

impl Scope {
    /// The nodes of a graph.
    pub(super) fn graph(opset: i64) -> Self {
        Self {
            opset,
            nodes: Vec::new(),
            constants: Vec::new(),
            known: BTreeMap::new(),
            taken: BTreeSet::new(),
            is_body: false,
            call: Vec::new(),
            count: 0,
        }
    }

    /// The nodes of a function.
    pub(super) fn body(opset: i64) -> Self {
        Self { is_body: true, ..Self::graph(opset) }
    }

    /// Sets the attributes of the operator that is to be written in place.
    pub(super) fn begin_call(&mut self, attributes: &[AttributeProto]) {
        self.call = attributes.to_vec();
    }

    /// Reserves a name; `false` if it is taken.
    pub(super) fn take_name(&mut self, name: &str) -> bool {
        !name.is_empty() && self.taken.insert(name.to_owned())
    }

    /// A name that nothing has, made of `hint`.
    pub(super) fn fresh(&mut self, hint: &str) -> String {
        if self.take_name(hint) {
            return hint.to_owned();
        }
        loop {
            self.count += 1;
            let name = if hint.is_empty() { format!("v{}", self.count) } else { format!("{hint}_{}", self.count) };
            if self.take_name(&name) {
                return name;
            }
        }
    }

    /// Adds a node with one output.
    pub(super) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.ops("", op, inputs, attributes, 1).swap_remove(0)
    }

    /// Adds a node of any domain with `n` outputs.
    pub(super) fn ops(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        n: usize,
    ) -> Vec<String> {
        let output: Vec<String> = (0..n).map(|_| self.fresh("")).collect();
        let mut input: Vec<String> = inputs.iter().map(|&s| s.to_owned()).collect();
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        self.nodes.push(NodeProto {
            input,
            output: output.clone(),
            op_type: op.to_owned(),
            domain: domain.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    /// A constant under a name like `hint`. Small ones are written once.
    pub(super) fn tensor_as(&mut self, hint: &str, tensor: &Tensor) -> String {
        const SMALL: usize = 64;
        let proto = tensor_proto(tensor);
        let small = hint.is_empty() && tensor.bytes().len() <= SMALL;
        let key = (proto.data_type, proto.dims.clone(), if small { tensor.bytes().to_vec() } else { Vec::new() });
        if small && let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.constant(hint, proto);
        if small {
            self.known.insert(key, name.clone());
        }
        name
    }

    /// A constant that many nodes share, whatever its size.
    pub(super) fn shared(&mut self, hint: &str, tensor: &Tensor) -> String {
        let proto = tensor_proto(tensor);
        let key = (proto.data_type, proto.dims.clone(), tensor.bytes().to_vec());
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.constant(hint, proto);
        self.known.insert(key, name.clone());
        name
    }

    /// A constant.
    pub(super) fn tensor(&mut self, tensor: &Tensor) -> String {
        self.tensor_as("", tensor)
    }

    /// A constant of a type that the graph does not have, such as packed 2-bit integers.
    pub(super) fn constant(&mut self, hint: &str, mut proto: TensorProto) -> String {
        if self.is_body {
            let value = AttributeProto {
                name: "value".into(),
                r#type: attribute_type::TENSOR,
                t: Some(Box::new(proto)),
                ..AttributeProto::default()
            };
            return self.op("Constant", &[], vec![value]);
        }
        let name = self.fresh(if hint.is_empty() { "const" } else { hint });
        proto.name.clone_from(&name);
        self.constants.push(proto);
        name
    }

    /// A list of integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        self.tensor(&Tensor::new(&[values.len()], values))
    }

    /// A scalar; integers are written exactly as far as `f64` has them.
    pub(super) fn scalar(&mut self, dtype: DType, value: f64) -> String {
        let tensor = scalar_tensor(dtype, value);
        self.tensor(&tensor)
    }

    /// An `f32` scalar.
    pub(super) fn f32(&mut self, value: f32) -> String {
        self.tensor(&Tensor::scalar(value))
    }

    /// The attribute `name` of the operator under definition: a list of integers.
    pub(super) fn param_ints(&mut self, name: &str) -> String {
        if !self.is_body {
            let literal = self.literal(name).map(|a| a.ints.clone()).unwrap_or_default();
            return self.ints(&literal);
        }
        self.op("Constant", &[], vec![reference("value_ints", name, attribute_type::INTS)])
    }

    /// The float attribute `name` of the operator under definition, as a scalar.
    pub(super) fn param_f32(&mut self, name: &str) -> String {
        if !self.is_body {
            let literal = self.known_f32(name).unwrap_or_default();
            return self.f32(literal);
        }
        self.op("Constant", &[], vec![reference("value_float", name, attribute_type::FLOAT)])
    }

    /// The integer attribute `name` of the operator under definition, as a list of one.
    pub(super) fn param_int(&mut self, name: &str) -> String {
        if !self.is_body {
            let literal = self.literal(name).and_then(|a| a.i).unwrap_or_default();
            return self.ints(&[literal]);
        }
        let scalar = self.op("Constant", &[], vec![reference("value_int", name, attribute_type::INT)]);
        let one = self.ints(&[1]);
        self.op("Reshape", &[&scalar, &one], Vec::new())
    }

    /// The value of a float attribute, where what is written need not hold for every call.
    pub(super) fn known_f32(&self, name: &str) -> Option<f32> {
        if self.is_body { None } else { self.literal(name).map(|a| a.f.unwrap_or_default()) }
    }

    /// The attribute `name` of the operator under definition as an attribute of a node.
    pub(super) fn param(&self, name: &str, r#type: i32) -> AttributeProto {
        let literal = self.literal(name).filter(|_| !self.is_body);
        literal.cloned().unwrap_or_else(|| reference(name, name, r#type))
    }

    fn literal(&self, name: &str) -> Option<&AttributeProto> {
        self.call.iter().find(|a| a.name == name)
    }

    /// The same elements in another element type.
    pub(super) fn cast(&mut self, x: &str, to: DType) -> String {
        self.op("Cast", &[x], vec![attr_int("to", i64::from(super::convert::onnx_type(to)))])
    }

    /// A reduction over axes that are known, or all of them; in the way of the opset.
    pub(super) fn reduce(&mut self, op: &str, x: &str, axes: Option<&[i64]>, keep: bool) -> String {
        let keep = attr_int("keepdims", i64::from(keep));
        let by_input = self.opset >= if op == "ReduceSum" { 13 } else { 18 };
        match axes {
            None => self.op(op, &[x], vec![keep]),
            Some(axes) if by_input => {
                let axes = self.ints(axes);
                self.op(op, &[x, &axes], vec![keep])
            }
            Some(axes) => self.op(op, &[x], vec![attr_ints("axes", axes), keep]),
        }
    }

    /// As [`Scope::reduce`] over the axes that the attribute `axes` of the operator under definition says.
    pub(super) fn reduce_param(&mut self, op: &str, x: &str) -> String {
        let keep = attr_int("keepdims", 1);
        if self.opset >= 18 {
            let axes = self.param_ints("axes");
            return self.op(op, &[x, &axes], vec![keep]);
        }
        let axes = self.param("axes", attribute_type::INTS);
        self.op(op, &[x], vec![axes, keep])
    }
}

/// The nodes that some values need, in order.
pub(super) fn needed<'n>(nodes: Vec<NodeProto>, values: impl Iterator<Item = &'n String>) -> Vec<NodeProto> {
    let mut needed: BTreeSet<String> = values.cloned().collect();
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in nodes.into_iter().rev() {
        if node.output.iter().any(|n| needed.contains(n)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    kept
}

/// A scalar of any element type that is stored in whole bytes.
pub(super) fn scalar_tensor(dtype: DType, value: f64) -> Tensor {
    let wide = Tensor::scalar(value);
    let cast = bitc_ir::Op::from(bitc_ir::ops::Cast { to: dtype });
    let result = cast.eval(vec![Some(&wide)], &bitc_ir::ops::EvalCx { bind: &|_| None });
    result.ok().and_then(|mut all| all.pop()).unwrap_or(wide)
}
