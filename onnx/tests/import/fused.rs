//! Operators that onnxruntime's optimizers make of several, against what they were made of.

use bitc_ir::{Tensor, random};
use bitc_onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};

use crate::builder::{
    attr_f, attr_floats, attr_i, attr_ints, attr_s, floats, graph, model, node, opset, refusal, run, with_constants,
};

const F32: bitc_ir::DType = bitc_ir::DType::F32;

/// The model of some nodes from the inputs x0, x1, .. to y.
fn of(nodes: Vec<NodeProto>, constants: Vec<TensorProto>, inputs: &[Tensor]) -> ModelProto {
    let types: Vec<String> = inputs.iter().enumerate().map(|(i, t)| format!("x{i}: {}", t.ty())).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let opset_import = vec![opset("", 20), opset("com.microsoft", 1)];
    ModelProto { opset_import, ..model(with_constants(graph(&types, nodes, &["y: f32[]"]), constants)) }
}

/// Checks that a node computes the very bits that some others do.
fn same(fused: NodeProto, apart: Vec<NodeProto>, constants: &[TensorProto], inputs: &[Tensor]) {
    let text = format!("{fused:?}");
    let found = run(&of(vec![fused], constants.to_vec(), inputs), inputs);
    assert_eq!(found, run(&of(apart, constants.to_vec(), inputs), inputs), "{text}");
}

fn array(dims: &[usize], seed: u64) -> Tensor {
    random::tensor(F32, dims, seed)
}

/// Every activation with its parameters, as its own operator has them.
fn activations() -> Vec<(&'static str, Vec<(&'static str, f32)>)> {
    let (alpha, beta, gamma) = (("alpha", 0.3), ("beta", 0.4), ("gamma", 1.2));
    vec![
        ("Relu", vec![]),
        ("Sigmoid", vec![]),
        ("Tanh", vec![]),
        ("Softplus", vec![]),
        ("Softsign", vec![]),
        ("LeakyRelu", vec![alpha]),
        ("Elu", vec![alpha]),
        ("Celu", vec![alpha]),
        ("ThresholdedRelu", vec![alpha]),
        ("HardSigmoid", vec![alpha, beta]),
        ("Selu", vec![alpha, gamma]),
    ]
}

#[test]
fn products_are_scaled_and_their_operands_transposed() {
    let product = |attrs| node("y = com.microsoft::FusedMatMul(x0, x1)", attrs);
    let transpose = |text: &str, perm: &[i64]| node(text, vec![attr_ints("perm", perm)]);
    let half = floats("half", &[], &[0.5]);
    let inputs = [array(&[3, 2], 1), array(&[4, 3], 2)];
    same(
        product(vec![attr_i("transA", 1), attr_i("transB", 1), attr_f("alpha", 0.5)]),
        vec![
            transpose("a = Transpose(x0)", &[1, 0]),
            transpose("b = Transpose(x1)", &[1, 0]),
            node("p = MatMul(a, b)", vec![]),
            node("y = Mul(p, half)", vec![]),
        ],
        &[half],
        &inputs,
    );
    // The first axis moves behind those of the batch, before the last two change places.
    let inputs = [array(&[2, 5, 6, 3], 1), array(&[3, 5, 6, 4], 2)];
    same(
        product(vec![attr_i("transBatchA", 1), attr_i("transBatchB", 1)]),
        vec![
            transpose("a = Transpose(x0)", &[1, 2, 0, 3]),
            transpose("b = Transpose(x1)", &[1, 2, 0, 3]),
            node("y = MatMul(a, b)", vec![]),
        ],
        &[],
        &inputs,
    );
    let inputs = [array(&[3, 5, 2], 1), array(&[5, 3, 4], 2)];
    same(
        product(vec![attr_i("transBatchA", 1), attr_i("transA", 1)]),
        vec![transpose("a = Transpose(x0)", &[1, 2, 0]), node("y = MatMul(a, x1)", vec![])],
        &[],
        &inputs,
    );
    // A vector has nothing to exchange.
    let inputs = [array(&[3], 1), array(&[3, 4], 2)];
    same(product(vec![attr_i("transA", 1)]), vec![node("y = MatMul(x0, x1)", vec![])], &[], &inputs);
    let matrices = [array(&[2, 3], 1), array(&[3, 4], 2)];
    let error = refusal(&of(vec![product(vec![attr_i("transBatchA", 1)])], vec![], &matrices)).to_string();
    assert!(error.contains("rank 3 or more"), "{error}");
}

#[test]
fn an_activation_follows_its_product() {
    let inputs = [array(&[3, 4], 1), array(&[5, 3], 2), array(&[5], 3)];
    let attrs = || vec![attr_f("alpha", 0.5), attr_f("beta", 2.0), attr_i("transA", 1), attr_i("transB", 1)];
    for (name, parameters) in activations() {
        let own: Vec<AttributeProto> = parameters.iter().map(|(n, v)| attr_f(n, *v)).collect();
        let mut fused: Vec<_> = parameters.iter().map(|(n, v)| attr_f(&format!("activation_{n}"), *v)).collect();
        fused.push(attr_s("activation", name));
        let activation = node(&format!("y = {name}(p)"), own);
        let gemm = [fused.clone(), attrs()].concat();
        let apart = vec![node("p = Gemm(x0, x1, x2)", attrs()), activation.clone()];
        same(node("y = com.microsoft::FusedGemm(x0, x1, x2)", gemm), apart, &[], &inputs);
        let square = [array(&[4, 3], 1), array(&[3, 5], 2)];
        let apart = vec![node("p = MatMul(x0, x1)", vec![]), activation];
        same(node("y = com.microsoft::FusedMatMulActivation(x0, x1)", fused), apart, &[], &square);
    }
    let of_name = |name: &str| node("y = com.microsoft::FusedGemm(x0, x1)", vec![attr_s("activation", name)]);
    let square = [array(&[4, 3], 1), array(&[3, 5], 2)];
    let error = |name: &str| refusal(&of(vec![of_name(name)], vec![], &square)).to_string();
    assert!(error("LeakyRelu").contains("`activation_alpha`") && error("LeakyRelu").contains("is missing"));
    assert!(error("Gelu").contains("found `Gelu`"), "{}", error("Gelu"));
}

#[test]
fn a_convolution_takes_another_image_and_an_activation() {
    let inputs = [array(&[2, 3, 5, 4], 1), array(&[4, 3, 3, 3], 2), array(&[4], 3), array(&[2, 4, 5, 4], 4)];
    let pads = || attr_ints("pads", &[1, 1, 1, 1]);
    let clip = ("Clip", vec![("min", -0.2), ("max", 0.4)]);
    let swish = ("HardSwish", vec![]);
    let taken = |name: &&str| ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"].contains(name);
    for (name, parameters) in activations().into_iter().filter(|(n, _)| taken(n)).chain([clip, swish]) {
        let values: Vec<f32> = parameters.iter().map(|(_, v)| *v).collect();
        let fused = || {
            let mut attrs = vec![pads(), attr_s("activation", name)];
            attrs.extend((!values.is_empty()).then(|| attr_floats("activation_params", &values)));
            attrs
        };
        let (activation, constants) = if name == "Clip" {
            (node("y = Clip(s, l, h)", vec![]), vec![floats("l", &[], &values[..1]), floats("h", &[], &values[1..])])
        } else {
            let own = parameters.iter().map(|(n, v)| attr_f(n, *v)).collect();
            (node(&format!("y = {name}(s)"), own), vec![])
        };
        let sum = vec![node("p = Conv(x0, x1, x2)", vec![pads()]), node("s = Add(p, x3)", vec![]), activation.clone()];
        same(node("y = com.microsoft::FusedConv(x0, x1, x2, x3)", fused()), sum, &constants, &inputs);
        let plain = vec![node("s = Conv(x0, x1)", vec![pads()]), activation];
        same(node("y = com.microsoft::FusedConv(x0, x1)", fused()), plain, &constants, &inputs[..2]);
    }
    let mut other = inputs.clone();
    other[3] = array(&[1, 4, 5, 4], 4);
    let fused = node("y = com.microsoft::FusedConv(x0, x1, x2, x3)", vec![pads()]);
    let error = refusal(&of(vec![fused], vec![], &other)).to_string();
    assert!(error.contains("found f32[1, 4, 5, 4]"), "{error}");
}
