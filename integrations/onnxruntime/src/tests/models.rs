//! Exported models whose nodes are all of `ai.bitc`: node by node on the kernels of this library, and the bodies of the
//! same operators on the evaluator.

use std::collections::BTreeMap;

use bitc_ir::text::{NoReferences, parse};
use bitc_ir::{DType, Graph, Tensor, random};
use bitc_onnx::export::{DOMAIN, Form, Options, encode, export};
use bitc_onnx::external::NoFiles;
use bitc_onnx::import::{Options as ImportOptions, import};
use bitc_onnx::proto::{ModelProto, NodeProto};

use super::{Node, Stored, element, run};

/// Graphs, and the operators that they become.
const GRAPHS: &[(&str, &[&str])] = &[
    (
        "graph @row_scales(%x: f32[N, 70]) {
            const %w: t2[5, 70] = random(seed = 1)
            const %s: f32[5] = dense [0.5, 1, 2, 0.25, 3]
            const %b: f32[5] = dense [0.5, 1, 2, 0.25, 3]
            %q, %qs = quantize_act(%x) {floor = \"clip_max\", eps = 1e-5}
            %y = bit_linear(%q, %qs, %w, %s, %b)
            return %y
        }",
        &["QuantizeAct", "BitLinear"],
    ),
    (
        "graph @bytes(%x: f32[N, 3, 9]) {
            const %w: i8[4, 9] = random(seed = 1)
            const %s: f32 = dense [0.5]
            %q, %qs = quantize_act(%x) {form = \"reciprocal\", over = \"tensor\"}
            %y = bit_linear(%q, %qs, %w, %s)
            return %y
        }",
        &["QuantizeActReciprocal", "IntLinear"],
    ),
    (
        "graph @groups(%x: f32[N, 6]) {
            const %w: t2[5, 6] = random(seed = 1)
            const %s: f32[5, 3] = dense [0.5, 1, 2, 0.25, 4, 8, 2, 1, 1, 0.5, 2, 2, 0.125, 1, 0.5]
            %q, %qs = quantize_act(%x) {floor = \"clip_max\", eps = 1e-5}
            %y = bit_linear(%q, %qs, %w, %s) {group = 2}
            return %y
        }",
        &["QuantizeAct", "BitLinearGrouped"],
    ),
    (
        "graph @whole_numbers(%x: f32[N, 6]) {
            const %w: t2[5, 6] = random(seed = 3)
            const %s: f32[5] = dense [0.5, 1, 2, 0.25, 3]
            %q, %qs = quantize_act(%x) {form = \"integer\"}
            %y = bit_linear(%q, %qs, %w, %s)
            return %y
        }",
        &["RoundAct", "BitLinear"],
    ),
    (
        "graph @images(%x: f32[N, 4, 6, 5]) {
            const %w: t2[6, 2, 3, 2] = random(seed = 3)
            const %s: f32[6] = dense [0.5, 1, 2, 0.25, 3, 1]
            const %b: f32[6] = dense [0.5, 1, 2, 0.25, 3, 1]
            %q, %qs = quantize_act(%x) {over = \"sample\"}
            %y = bit_conv2d(%q, %qs, %w, %s, %b) {groups = 2, strides = [2, 1], pads = [1, 1, 1, 0]}
            return %y
        }",
        &["QuantizeAct", "BitConv"],
    ),
    (
        "graph @images_of_bytes(%x: f32[N, 2, 4, 5]) {
            const %w: i8[3, 2, 2, 2] = random(seed = 3)
            const %s: f32 = dense [0.5]
            %q, %qs = quantize_act(%x) {form = \"quotient\", over = \"tensor\"}
            %y = bit_conv2d(%q, %qs, %w, %s) {dilations = [2, 1]}
            return %y
        }",
        &["QuantizeActQuotient", "IntConv"],
    ),
    (
        "graph @tables(%x: f32[N, 3]) {
            const %t: f32[3, 2] = dense [-0.5, 0.5, -0.2, 0.3, 0, 0.1]
            const %c: i32[4, 3] = dense [0, 1, 2, 3, 4, 5, 5, 5, 0, 2, 0, 4]
            const %f: bool[4, 8] = dense [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1,
                                          0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]
            %b = thermometer(%x, %t)
            %l = lut(%b, %c, %f)
            %y = group_sum(%l) {groups = 2, tau = 3.0, beta = 0.5}
            return %y, %l
        }",
        &["Encode", "LutLayer", "GroupSum"],
    ),
    (
        "graph @tables_of_numbers(%x: f32[N, 3]) {
            const %t: f32[5] = dense [-0.5, 0.5, -0.2, 0.3, 0]
            const %g: i32[5] = dense [2, 2, 0, 1, 1]
            const %c: i32[4, 2] = dense [0, 1, 2, 3, 4, 0, 3, 2]
            const %f: f32[4, 4] = random(seed = 5)
            %b = thermometer(%x, %t, %g)
            %l = lut(%b, %c, %f)
            %y = group_sum(%l) {groups = 4}
            return %y
        }",
        &["EncodeChosen", "LutLayerReal", "GroupSum"],
    ),
];

fn element_of(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => element::F32,
        DType::Bool => element::BOOL,
        DType::I32 => element::I32,
        _ => element::U8,
    }
}

fn stored(tensor: &Tensor) -> Stored {
    let dims: Vec<i64> = tensor.dims().iter().map(|&d| d as i64).collect();
    Stored::of(element_of(tensor.dtype()), &dims, tensor.bytes())
}

/// The node as the mock of onnxruntime shows it.
fn node_of(node: &NodeProto, constants: &BTreeMap<String, Stored>) -> Node {
    let mut shown = Node::default();
    for a in &node.attribute {
        if let Some(f) = a.f {
            shown.floats.insert(a.name.clone(), f);
        } else if let Some(i) = a.i {
            shown.int.insert(a.name.clone(), i);
        } else {
            shown.ints.insert(a.name.clone(), a.ints.clone());
        }
    }
    let constant = |(i, name): (usize, &String)| Some((i, constants.get(name)?.clone()));
    shown.constants = node.input.iter().enumerate().filter_map(constant).collect();
    shown
}

/// Runs the nodes of a model one after the other on the kernels.
fn on_kernels(model: &ModelProto, input: &Tensor) -> Vec<Stored> {
    let graph = model.graph.as_ref().unwrap();
    let constant = |t: &bitc_onnx::proto::TensorProto| {
        (t.name.clone(), Stored::of(t.data_type, &t.dims, t.raw_data.as_deref().unwrap_or_default()))
    };
    let constants: BTreeMap<String, Stored> = graph.initializer.iter().map(constant).collect();
    let mut values = constants.clone();
    values.insert(graph.input[0].name.clone(), stored(input));
    for node in &graph.node {
        assert_eq!(node.domain, DOMAIN, "{}", node.op_type);
        let inputs = node.input.iter().map(|n| values[n].clone()).collect();
        let name = std::ffi::CString::new(node.op_type.clone()).unwrap();
        let outputs = run(&name, &node_of(node, &constants), inputs).unwrap();
        values.extend(node.output.iter().cloned().zip(outputs));
    }
    graph.output.iter().map(|o| values[&o.name].clone()).collect()
}

#[test]
fn kernels_compute_what_the_bodies_say() {
    for (text, operators) in GRAPHS {
        let mut source: Graph = parse(text, &NoReferences).unwrap();
        source.frozen = true;
        let model = export(&source, &Options { form: Form::Functions, ..Options::default() }).unwrap();
        let written: Vec<&str> = model.graph.iter().flat_map(|g| &g.node).map(|n| n.op_type.as_str()).collect();
        assert_eq!(written, *operators, "{}", source.name);
        let options = ImportOptions { bodies: true, ..ImportOptions::default() };
        let bodies = import(&bitc_ir::Blob::new(encode(&model)), &mut NoFiles, &options).unwrap().graph;
        for rows in [1, 3, 0, 70] {
            let ty = source.ty(source.inputs()[0]);
            let dims: Vec<usize> = ty.shape.0.iter().map(|d| d.as_const().unwrap_or(rows)).collect();
            let x = random::tensor(DType::F32, &dims, rows as u64);
            let expected = bitc_ir::eval::eval(&bodies, std::slice::from_ref(&x)).unwrap();
            for (found, expected) in on_kernels(&model, &x).iter().zip(&expected) {
                let dims: Vec<i64> = expected.dims().iter().map(|&d| d as i64).collect();
                assert_eq!(found.dims, dims, "{} for {rows} rows", source.name);
                if operators.contains(&"BitLinearGrouped") {
                    // The sum over groups is one of floats, whose order is not said.
                    let expected = expected.to_vec::<f32>().unwrap();
                    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
                    assert!(found.floats().iter().zip(&expected).all(near), "{} for {rows} rows", source.name);
                    continue;
                }
                assert_eq!(found.bytes(), expected.bytes(), "{} for {rows} rows", source.name);
            }
        }
    }
}
