//! Short ways to write ONNX messages, to import them and to evaluate the result.

use bitc_ir::eval::eval;
use bitc_ir::{Blob, DType, Tensor};
use bitc_onnx::ImportError;
use bitc_onnx::external::{Location, NoFiles, ResolveError, Resolver};
use bitc_onnx::import::{Imported, Options, import};
use bitc_onnx::proto::{
    AttributeProto, Dimension, DimensionValue, EXTERNAL, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue,
    ValueInfoProto, attribute_type, data_type,
};
use prost::Message as _;

/// A tensor with raw data.
pub(crate) fn raw(name: &str, data_type: i32, dims: &[i64], bytes: &[u8]) -> TensorProto {
    let raw_data = Some(bytes.to_vec().into());
    TensorProto { name: name.into(), data_type, dims: dims.into(), raw_data, ..Default::default() }
}

/// A tensor without data.
pub(crate) fn empty(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), data_type, dims: dims.into(), ..Default::default() }
}

/// A tensor in another file.
pub(crate) fn external(name: &str, data_type: i32, dims: &[i64], keys: &[(&str, &str)]) -> TensorProto {
    TensorProto { data_location: EXTERNAL, external_data: entries(keys), ..empty(name, data_type, dims) }
}

/// A constant of `f32`.
pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw(name, data_type::FLOAT, dims, &bytes)
}

/// A constant list of `i64`.
pub(crate) fn ints(name: &str, values: &[i64]) -> TensorProto {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    raw(name, data_type::INT64, &[values.len() as i64], &bytes)
}

/// Keys and values.
pub(crate) fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
    pairs.iter().map(|(k, v)| StringStringEntryProto { key: (*k).into(), value: (*v).into() }).collect()
}

/// An operator set.
pub(crate) fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

/// The name and dimensions of a value: `x: f32[N, 4]`, with `f32`, `i64` or `bool`.
pub(crate) fn value(text: &str) -> ValueInfoProto {
    let (name, ty) = text.split_once(": ").unwrap();
    let (dtype, dims) = ty.split_once('[').unwrap();
    let elem_type = match dtype {
        "f32" => data_type::FLOAT,
        "i64" => data_type::INT64,
        "bool" => data_type::BOOL,
        other => other.parse().unwrap(),
    };
    let dim = |d: &str| Dimension {
        value: Some(match d.parse() {
            Ok(n) => DimensionValue::Value(n),
            Err(_) => DimensionValue::Param(d.into()),
        }),
    };
    let dim = dims.trim_end_matches(']').split(", ").filter(|d| !d.is_empty()).map(dim).collect();
    let tensor = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

/// A node: `y = Add(a, b)`, `p, q = my::Op(a, , c)`.
pub(crate) fn node(text: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |list: &str| match list.trim() {
        "" => Vec::new(),
        list => list.split(',').map(|n| n.trim().to_owned()).collect(),
    };
    let (outputs, call) = text.split_once(" = ").unwrap();
    let (op, inputs) = call.trim_end_matches(')').split_once('(').unwrap();
    let (domain, op_type) = op.split_once("::").unwrap_or(("", op));
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        name: format!("n_{}", outputs.split(',').next().unwrap()),
        op_type: op_type.into(),
        domain: domain.into(),
        attribute,
        ..Default::default()
    }
}

/// A float attribute.
pub(crate) fn attr_f(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::FLOAT, f: Some(f), ..Default::default() }
}

/// An integer attribute.
pub(crate) fn attr_i(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::INT, i: Some(i), ..Default::default() }
}

/// A list of integers as attribute.
pub(crate) fn attr_ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::INTS, ints: ints.into(), ..Default::default() }
}

/// A list of floats as attribute.
pub(crate) fn attr_floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::FLOATS, floats: floats.into(), ..Default::default() }
}

/// A string attribute.
pub(crate) fn attr_s(name: &str, s: &str) -> AttributeProto {
    let s = Some(s.as_bytes().to_vec().into());
    AttributeProto { name: name.into(), r#type: attribute_type::STRING, s, ..Default::default() }
}

/// A tensor attribute.
pub(crate) fn attr_t(name: &str, tensor: TensorProto) -> AttributeProto {
    let t = Some(Box::new(tensor));
    AttributeProto { name: name.into(), r#type: attribute_type::TENSOR, t, ..Default::default() }
}

/// A graph attribute.
pub(crate) fn attr_g(name: &str, graph: GraphProto) -> AttributeProto {
    let g = Some(Box::new(graph));
    AttributeProto { name: name.into(), r#type: attribute_type::GRAPH, g, ..Default::default() }
}

/// An attribute of a body that takes its value from the call.
pub(crate) fn attr_ref(name: &str, outer: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), ref_attr_name: outer.into(), r#type, ..Default::default() }
}

/// A graph of nodes between values.
pub(crate) fn graph(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    GraphProto {
        node: nodes,
        name: "g".into(),
        input: inputs.iter().map(|v| value(v)).collect(),
        output: outputs.iter().map(|v| value(v)).collect(),
        ..Default::default()
    }
}

/// A graph of nodes with constants.
pub(crate) fn with_constants(mut graph: GraphProto, initializer: Vec<TensorProto>) -> GraphProto {
    graph.initializer = initializer;
    graph
}

/// A function `domain::name` of nodes.
pub(crate) fn function(name: &str, inputs: &[&str], outputs: &[&str], node: Vec<NodeProto>) -> FunctionProto {
    let strings = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let (domain, name) = name.split_once("::").unwrap();
    FunctionProto {
        name: name.into(),
        domain: domain.into(),
        input: strings(inputs),
        output: strings(outputs),
        node,
        opset_import: vec![opset("", 20)],
        ..Default::default()
    }
}

/// A model of a graph, at opset 20.
pub(crate) fn model(graph: GraphProto) -> ModelProto {
    ModelProto { ir_version: 10, opset_import: vec![opset("", 20)], graph: Some(graph), ..Default::default() }
}

/// Imports a model through its bytes.
pub(crate) fn load(model: &ModelProto) -> Result<Imported, ImportError> {
    import(&Blob::new(model.encode_to_vec()), &mut NoFiles, &Options::default())
}

/// Imports a model through its bytes, for its message where it is refused.
pub(crate) fn refusal(model: &ModelProto) -> ImportError {
    load(model).expect_err("the model is refused")
}

/// Imports and evaluates.
pub(crate) fn run(model: &ModelProto, inputs: &[Tensor]) -> Vec<Tensor> {
    let imported = load(model).unwrap_or_else(|e| panic!("{e}"));
    bitc_ir::verify::verify(&imported.graph, bitc_ir::Facts::CANONICAL).unwrap_or_else(|f| panic!("{f:?}"));
    eval(&imported.graph, inputs).unwrap_or_else(|e| panic!("{e}\n{}", bitc_ir::text::print(&imported.graph)))
}

/// Runs one node over `f32` inputs `x0`, `x1`, .. with the given dimensions, at an opset version.
pub(crate) fn run_node(version: i64, node: NodeProto, constants: Vec<TensorProto>, inputs: &[Tensor]) -> Vec<Tensor> {
    let type_name = |d: DType| match d {
        DType::F32 => "f32".to_owned(),
        DType::I64 => "i64".to_owned(),
        DType::Bool => "bool".to_owned(),
        other => bitc_onnx::import::tensor::data_type_of(other).to_string(),
    };
    let types: Vec<String> = inputs
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let dims: Vec<String> = t.dims().iter().map(usize::to_string).collect();
            format!("x{i}: {}[{}]", type_name(t.dtype()), dims.join(", "))
        })
        .collect();
    let outputs: Vec<String> = node.output.iter().map(|o| format!("{o}: f32[]")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let domains = vec![opset("", version), opset("com.microsoft", 1), opset("qonnx.custom_op.general", 1)];
    let graph = with_constants(graph(&types, vec![node], &outputs), constants);
    run(&ModelProto { opset_import: domains, ..model(graph) }, inputs)
}

/// Files in memory.
pub(crate) struct Files(pub(crate) Vec<(&'static str, Vec<u8>)>);

impl Files {
    fn find(&self, location: &Location) -> Result<&Vec<u8>, ResolveError> {
        let found = self.0.iter().find(|(name, _)| *name == location.as_str());
        found.map(|(_, bytes)| bytes).ok_or_else(|| ResolveError { message: "no such file".into(), hint: None })
    }
}

impl Resolver for Files {
    fn read(&mut self, location: &Location, offset: u64, len: u64) -> Result<Blob, ResolveError> {
        let bytes = self.find(location)?;
        Ok(Blob::new(bytes[offset as usize..(offset + len) as usize].to_vec()))
    }

    fn len(&mut self, location: &Location) -> Result<u64, ResolveError> {
        Ok(self.find(location)?.len() as u64)
    }
}
