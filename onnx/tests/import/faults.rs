//! One model for each way to be refused.

use bitc_ir::Blob;
use bitc_onnx::external::NoFiles;
use bitc_onnx::import::{Options, import};
use bitc_onnx::limits::Limits;
use bitc_onnx::proto::{ModelProto, NodeProto, TypeProto, TypeValue, ValueInfoProto, data_type as t};
use bitc_onnx::{Cause, ImportError};
use prost::Message as _;

use crate::builder::{
    attr_f, attr_i, entries, floats, graph, ints, load, model, node, opset, raw, refusal, value, with_constants,
};

/// The refusal of nodes over `x: f32[2, 3]` that give `y`.
fn nodes_refused(nodes: Vec<NodeProto>) -> ImportError {
    refusal(&model(graph(&["x: f32[2, 3]"], nodes, &["y: f32[1]"])))
}

#[test]
fn every_unsupported_node_is_listed_at_once() {
    let source = entries(&[("pkg.torch.onnx.stack_trace", "File \"a/net.py\", line 3, in forward\n  y")]);
    let nodes = vec![
        NodeProto { metadata_props: source, ..node("a = Convolve(x)", vec![]) },
        node("b = Add(a, x)", vec![]),
        node("c = acme::Fancy(b)", vec![]),
        node("dead = acme::Dead(x)", vec![]),
        node("y = Relus(c)", vec![]),
    ];
    let error = nodes_refused(nodes);
    assert!(error.is_unsupported());
    assert_eq!(error.faults().len(), 3, "{error}");
    let text = error.to_string();
    assert!(text.contains("in node `n_a` (Convolve, opset 20)\n  from net.py:3, in forward"), "{text}");
    assert!(text.contains("acme::Fancy") && text.contains("did you mean `Relu`?") && !text.contains("Dead"), "{text}");
}

#[test]
fn the_structure_of_a_graph_is_checked() {
    let cause = |nodes| *nodes_refused(nodes).faults()[0].cause.clone();
    assert_eq!(cause(vec![node("y = Relu(z)", vec![])]), Cause::Undefined("z".into()));
    assert_eq!(cause(vec![node("x = Relu(x)", vec![])]), Cause::DefinedTwice("x".into()));
    assert_eq!(cause(vec![node("y = Add(x, y)", vec![])]), Cause::Cycle("y".into()));
    assert_eq!(cause(vec![]), Cause::Undefined("y".into()));
    let same = graph(&["x: f32[2]", "x: f32[2]"], vec![], &["x: f32[2]"]);
    assert_eq!(*refusal(&model(same)).faults()[0].cause, Cause::DefinedTwice("x".into()));
    let twice = with_constants(graph(&[], vec![], &["w: f32[1]"]), vec![ints("w", &[1]), ints("w", &[1])]);
    assert_eq!(*refusal(&model(twice)).faults()[0].cause, Cause::DefinedTwice("w".into()));
    let named = graph(&["x: f32[2]"], vec![node("y = Relu(x)", vec![])], &["y: f32[2]", "y: f32[2]"]);
    let found = refusal(&model(named));
    assert_eq!(*found.faults()[0].cause, Cause::NotAModel("two outputs are called `y`".into()));
    let unnamed = with_constants(graph(&[], vec![], &["w: f32[1]"]), vec![ints("", &[1])]);
    assert!(refusal(&model(unnamed)).to_string().contains("an initializer has no name"));
    assert!(refusal(&model(graph(&["x: f32[2]"], vec![], &[]))).to_string().contains("no outputs"));
}

#[test]
fn the_head_of_a_model_is_checked() {
    let relu = || graph(&["x: f32[2]"], vec![node("y = Relu(x)", vec![])], &["y: f32[2]"]);
    let message = |m: ModelProto| refusal(&m).to_string();
    assert_eq!(message(ModelProto { ir_version: 0, ..model(relu()) }), "not an ONNX model: `ir_version` is missing");
    assert!(message(ModelProto { ir_version: 15, ..model(relu()) }).contains("IR version 15 is not supported"));
    assert!(message(ModelProto { ir_version: 2, ..model(relu()) }).contains("IR version 2 is not supported"));
    assert_eq!(message(ModelProto { graph: None, ..model(relu()) }), "not an ONNX model: there is no graph");
    let imports = |list| ModelProto { opset_import: list, ..model(relu()) };
    assert!(message(imports(vec![])).contains("no operator set"));
    assert!(message(imports(vec![opset("", 13), opset("ai.onnx", 14)])).contains("two versions"));
    assert!(message(imports(vec![opset("", 0)])).contains("opset version 0"));
    assert!(message(imports(vec![opset("acme", 1)])).contains("domain `ai.onnx` is used but not imported"));
}

#[test]
fn inputs_must_be_tensors_of_known_rank() {
    let with_input = |r#type: Option<TypeProto>| {
        let mut g = graph(&[], vec![node("y = Relu(x)", vec![])], &["y: f32[2]"]);
        g.input.push(ValueInfoProto { name: "x".into(), r#type, ..Default::default() });
        refusal(&model(g))
    };
    let sequence = TypeProto { value: Some(TypeValue::Sequence(Default::default())) };
    let error = with_input(Some(sequence));
    assert!(error.is_unsupported() && error.to_string().contains("a sequence"), "{error}");
    let error = with_input(None);
    assert!(!error.is_unsupported() && error.to_string().contains("value `x`: has no type"), "{error}");
    let with_type = |text: &str| refusal(&model(graph(&[text], vec![node("y = Relu(x)", vec![])], &["y: f32[2]"])));
    assert!(with_type("x: 17[2]").to_string().contains("element type float8e4m3fn is not supported"));
    assert!(with_type("x: 0[2]").to_string().contains("has no element type"));
    assert!(with_type("x: f32[-7]").to_string().contains("must not be negative"));
    let mut unranked = value("x: f32[2]");
    if let Some(TypeValue::Tensor(tensor)) = unranked.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.shape = None;
    }
    assert!(with_input(unranked.r#type).to_string().contains("unknown rank"));
}

#[test]
fn attributes_are_checked_by_name_and_kind() {
    let message = |nodes| nodes_refused(nodes).to_string();
    let relu = |attrs| vec![node("y = LeakyRelu(x)", attrs)];
    assert!(
        message(relu(vec![attr_f("alpa", 0.1)]))
            .contains("attribute `alpa`: the operator has none of this name, did you mean `alpha`?")
    );
    assert!(message(relu(vec![attr_i("alpha", 1)])).contains("attribute `alpha`: expected a float, found an integer"));
    assert!(message(relu(vec![attr_f("alpha", 0.1), attr_f("alpha", 0.1)])).contains("is given twice"));
    assert!(message(vec![node("y = Cast(x)", vec![])]).contains("attribute `to`: is missing"));
    assert!(message(vec![node("y = Cast(x)", vec![attr_i("to", 17)])]).contains("element type float8e4m3fn"));
    assert!(message(vec![node("y = Concat(x, x)", vec![attr_i("axis", 5)])]).contains("within rank 2, found 5"));
    assert!(message(vec![node("y = ReduceSum(x)", vec![attr_i("keepdims", 2)])]).contains("expected 0 or 1, found 2"));
}

#[test]
fn inputs_of_nodes_are_checked() {
    let message = |text| nodes_refused(vec![node(text, vec![])]).to_string();
    assert!(message("y = Pow(x)").contains("Pow takes 2 inputs, found 1"));
    assert!(message("y = MatMul(x, x)").contains("agree in the summed dimension"));
    assert!(message("y = Where(x, x, x)").contains("bool"));
    assert!(message("y = MaxPool(x)").contains("MaxPool over 0 spatial axes is not supported"));
}

#[test]
fn faults_of_constants_are_found_where_they_are_needed() {
    let broken = raw("w", t::FLOAT, &[2, 3], &[0; 8]);
    let used = graph(&["x: f32[2, 3]"], vec![node("y = Add(x, w)", vec![])], &["y: f32[2, 3]"]);
    let error = refusal(&model(with_constants(used, vec![broken.clone()])));
    assert_eq!(error.to_string(), "tensor `w`: f32[2, 3] takes 24 bytes, found 8");
    let unused = graph(&["x: f32[2, 3]"], vec![node("y = Relu(x)", vec![])], &["y: f32[2, 3]"]);
    assert!(load(&model(with_constants(unused, vec![broken]))).is_ok());
}

#[test]
fn memory_is_bounded() {
    let g = graph(&["x: f32[2]"], vec![node("y = Relu(x)", vec![])], &["y: f32[2]"]);
    let file = Blob::new(model(g).encode_to_vec());
    let limits = Limits { memory_bytes: Some(100), ..Limits::default() };
    let error = import(&file, &mut NoFiles, &Options { limits, ..Options::default() }).unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("memory limit of 100 bytes"), "{error}");
    assert!(error.to_string().contains("--max-memory"), "{error}");
    // A tensor of 2^40 elements from a few bytes stays a broadcast, and what would expand it is refused.
    let fill = node("y = ConstantOfShape(d)", vec![]);
    let bomb = with_constants(graph(&[], vec![fill], &["y: f32[1]"]), vec![ints("d", &[1 << 20, 1 << 20])]);
    assert_eq!(load(&model(bomb)).unwrap().graph.nodes().len(), 1);
}

#[test]
fn names_in_messages_are_escaped() {
    let evil = NodeProto { name: "a\n\u{1b}[2J".into(), ..node("y = Frobnicate(x)", vec![]) };
    let text = nodes_refused(vec![evil]).to_string();
    assert!(text.contains("`a\\u{a}\\u{1b}[2J`"), "{text}");
    let weights = with_constants(graph(&[], vec![], &["w\u{7}: f32[1]"]), vec![floats("w\u{7}", &[2], &[0.0])]);
    assert!(!refusal(&model(weights)).to_string().contains('\u{7}'));
}
