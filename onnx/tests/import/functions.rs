//! Model-local functions and branches.

use bitc_ir::Tensor;
use bitc_onnx::Cause;
use bitc_onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, attribute_type, data_type};

use crate::builder::{
    attr_f, attr_g, attr_ref, floats, function, graph, ints, load, model, node, opset, raw, refusal, run,
    with_constants,
};

fn with_functions(graph: GraphProto, functions: Vec<FunctionProto>) -> ModelProto {
    ModelProto { functions, ..model(graph) }
}

fn x(value: f32) -> Tensor {
    Tensor::new(&[1], &[value])
}

/// `y = my::Scale(x)` with the attribute `by`, which defaults to 3 where `default` is set.
fn scale_function(default: bool) -> FunctionProto {
    let factor = node("f = Constant()", vec![attr_ref("value_float", "by", attribute_type::FLOAT)]);
    let mut f = function("my::Scale", &["a"], &["b"], vec![factor, node("b = Mul(a, f)", vec![])]);
    if default {
        f.attribute_proto.push(attr_f("by", 3.0))
    } else {
        f.attribute.push("by".into())
    }
    f
}

#[test]
fn attributes_of_a_call_reach_the_body() {
    let call = |attrs| graph(&["x: f32[1]"], vec![node("y = my::Scale(x)", attrs)], &["y: f32[1]"]);
    let given = with_functions(call(vec![attr_f("by", 5.0)]), vec![scale_function(false)]);
    assert_eq!(run(&given, &[x(2.0)]), [x(10.0)]);
    let default = with_functions(call(vec![]), vec![scale_function(true)]);
    assert_eq!(run(&default, &[x(2.0)]), [x(6.0)]);
    let missing = with_functions(call(vec![]), vec![scale_function(false)]);
    assert!(refusal(&missing).to_string().contains("attribute `value`: is missing"));
    let unknown = with_functions(call(vec![attr_f("bi", 5.0)]), vec![scale_function(true)]);
    assert!(refusal(&unknown).to_string().contains("function my::Scale: has no attribute `bi`"));
}

#[test]
fn functions_call_functions_and_pass_attributes_on() {
    let inner = node("b = my::Scale(a)", vec![attr_ref("by", "factor", attribute_type::FLOAT)]);
    let mut twice = function("my::Twice", &["a"], &["c"], vec![inner, node("c = my::Scale(b)", vec![])]);
    twice.attribute.push("factor".into());
    let g = graph(&["x: f32[1]"], vec![node("y = my::Twice(x)", vec![attr_f("factor", 7.0)])], &["y: f32[1]"]);
    let m = with_functions(g, vec![twice, scale_function(true)]);
    assert_eq!(run(&m, &[x(2.0)]), [x(42.0)]);
}

#[test]
fn an_absent_input_and_an_unused_output_are_fine() {
    let nodes = vec![node("b = Clip(a, low, high)", vec![]), node("c = Neg(a)", vec![])];
    let f = function("my::Bound", &["a", "low", "high"], &["b", "c"], nodes);
    let g = graph(&["x: f32[1]"], vec![node("y = my::Bound(x, , h)", vec![])], &["y: f32[1]"]);
    let m = with_functions(with_constants(g, vec![floats("h", &[], &[1.0])]), vec![f]);
    assert_eq!(run(&m, &[x(-5.0)]), [x(-5.0)]);
    assert_eq!(run(&m, &[x(5.0)]), [x(1.0)]);
}

#[test]
fn overloads_are_told_apart() {
    let body = |op: &str, overload: &str| FunctionProto {
        overload: overload.into(),
        ..function("my::F", &["a"], &["b"], vec![node(&format!("b = {op}(a)"), vec![])])
    };
    let call = NodeProto { overload: "second".into(), ..node("y = my::F(x)", vec![]) };
    let g = graph(&["x: f32[1]"], vec![call], &["y: f32[1]"]);
    assert_eq!(run(&with_functions(g.clone(), vec![body("Abs", ""), body("Neg", "second")]), &[x(-2.0)]), [x(2.0)]);
    let twice = with_functions(g, vec![body("Abs", "second"), body("Neg", "second")]);
    assert!(refusal(&twice).to_string().contains("function my::F: is defined twice"));
}

#[test]
fn a_function_has_its_own_opset() {
    // Axes are an attribute in opset 11, whatever the model imports.
    let squeeze = node("b = Squeeze(a)", vec![crate::builder::attr_ints("axes", &[0])]);
    let old = FunctionProto { opset_import: vec![opset("", 11)], ..function("my::S", &["a"], &["b"], vec![squeeze]) };
    let g = graph(&["x: f32[1]"], vec![node("y = my::S(x)", vec![])], &["y: f32[]"]);
    assert_eq!(run(&with_functions(g, vec![old]), &[x(4.0)]), [Tensor::scalar(4.0f32)]);
}

#[test]
fn a_known_operator_wins_over_a_function_of_its_name() {
    let wrong = function("::Relu", &["a"], &["b"], vec![node("b = Neg(a)", vec![])]);
    let g = graph(&["x: f32[1]"], vec![node("y = Relu(x)", vec![])], &["y: f32[1]"]);
    assert_eq!(run(&with_functions(g, vec![wrong]), &[x(3.0)]), [x(3.0)]);
}

#[test]
fn a_function_that_calls_itself_is_refused() {
    let a = function("my::A", &["a"], &["b"], vec![node("b = my::B(a)", vec![])]);
    let b = function("my::B", &["a"], &["b"], vec![node("b = my::A(a)", vec![])]);
    let g = graph(&["x: f32[1]"], vec![node("y = my::A(x)", vec![])], &["y: f32[1]"]);
    assert!(refusal(&with_functions(g, vec![a, b])).to_string().ends_with("calls itself"));
}

#[test]
fn doubling_functions_are_refused_before_they_are_expanded() {
    let level = |i: usize| {
        let callee = if i == 0 { "Relu".to_owned() } else { format!("my::L{}", i - 1) };
        let nodes = vec![node(&format!("b = {callee}(a)"), vec![]), node(&format!("c = {callee}(b)"), vec![])];
        function(&format!("my::L{i}"), &["a"], &["c"], nodes)
    };
    let g = graph(&["x: f32[1]"], vec![node("y = my::L29(x)", vec![])], &["y: f32[1]"]);
    let error = refusal(&with_functions(g, (0..30).map(level).collect()));
    assert!(matches!(*error.faults()[0].cause, Cause::TooManyNodes { limit: 1_000_000 }), "{error}");
}

#[test]
fn a_long_chain_of_functions_needs_no_deep_stack() {
    let level = |i: usize| {
        let callee = if i == 0 { "Neg".to_owned() } else { format!("my::L{}", i - 1) };
        function(&format!("my::L{i}"), &["a"], &["b"], vec![node(&format!("b = {callee}(a)"), vec![])])
    };
    let g = graph(&["x: f32[1]"], vec![node("y = my::L4999(x)", vec![])], &["y: f32[1]"]);
    let m = with_functions(g, (0..5000).map(level).collect());
    let small_stack = std::thread::Builder::new().stack_size(256 << 10);
    let y = small_stack.spawn(move || run(&m, &[x(1.0)])).unwrap().join().unwrap();
    assert_eq!(y, [x(-1.0)]);
}

#[test]
fn a_call_with_too_many_inputs_is_refused() {
    let f = function("my::F", &["a"], &["b"], vec![node("b = Neg(a)", vec![])]);
    let g = graph(&["x: f32[1]"], vec![node("y = my::F(x, x)", vec![])], &["y: f32[1]"]);
    assert!(
        refusal(&with_functions(g, vec![f])).to_string().contains("has 1 inputs and 1 outputs, called with 2 and 1")
    );
}

/// `if condition { x + one } else { acme::Unknown(x) }`.
fn branches(condition: GraphProto) -> ModelProto {
    let add = vec![node("t = Add(x, one)", vec![])];
    let then = with_constants(graph(&[], add, &["t: f32[1]"]), vec![floats("one", &[1], &[1.0])]);
    let other = graph(&[], vec![node("e = acme::Unknown(x)", vec![])], &["e: f32[1]"]);
    let mut g = condition;
    g.node.push(node("y = If(c)", vec![attr_g("then_branch", then), attr_g("else_branch", other)]));
    model(g)
}

#[test]
fn a_branch_with_a_constant_condition_is_taken() {
    let g = graph(&["x: f32[1]"], vec![], &["y: f32[1]"]);
    let constant = |v: u8| branches(with_constants(g.clone(), vec![raw("c", data_type::BOOL, &[], &[v])]));
    assert_eq!(run(&constant(1), &[x(2.0)]), [x(3.0)]);
    assert!(refusal(&constant(0)).to_string().contains("acme::Unknown"));
}

#[test]
fn a_condition_computed_from_shapes_is_constant() {
    let nodes = vec![node("s = Shape(x)", vec![]), node("c = Equal(s, k)", vec![])];
    let g = with_constants(graph(&["x: f32[1]"], nodes, &["y: f32[1]"]), vec![ints("k", &[1])]);
    assert_eq!(run(&branches(g), &[x(2.0)]), [x(3.0)]);
}

#[test]
fn control_flow_that_depends_on_data_is_refused_by_name() {
    let dynamic = branches(graph(&["x: f32[1]", "c: bool[1]"], vec![], &["y: f32[1]"]));
    let error = refusal(&dynamic);
    assert!(error.is_unsupported() && error.to_string().contains("the condition of If"), "{error}");
    for op in ["Loop", "Scan"] {
        let body = attr_g("body", graph(&[], vec![], &[]));
        let g = graph(&["x: f32[1]"], vec![node(&format!("y = {op}(x)"), vec![body])], &["y: f32[1]"]);
        let error = refusal(&model(g));
        assert!(error.is_unsupported() && error.to_string().contains(op), "{error}");
    }
}

#[test]
fn faults_in_functions_name_the_way_there() {
    let f = function("my::F", &["a"], &["b"], vec![node("b = Frobnicate(a)", vec![])]);
    let g = graph(&["x: f32[1]"], vec![node("y = my::F(x)", vec![])], &["y: f32[1]"]);
    let error = load(&with_functions(g, vec![f])).unwrap_err();
    assert!(error.to_string().contains("in node `n_y/n_b` (Frobnicate, opset 20)"), "{error}");
}
