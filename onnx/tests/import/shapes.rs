//! Shapes that exporters compute while the model runs, known here before it does.

use bitc_ir::{Tensor, text};
use bitc_onnx::proto::NodeProto;

use crate::builder::{attr_i, graph, ints, load, model, node, refusal, run, with_constants};

/// The printed graph of nodes over `x: f32[N, T, 64]`.
fn printed(nodes: Vec<NodeProto>, constants: &[(&str, &[i64])], output: &str) -> String {
    let constants = constants.iter().map(|(n, v)| ints(n, v)).collect();
    let g = with_constants(graph(&["x: f32[N, T, 64]"], nodes, &[output]), constants);
    text::print(&load(&model(g)).unwrap_or_else(|e| panic!("{e}")).graph)
}

#[test]
fn the_head_split_of_attention_is_a_plain_reshape() {
    // shape(x) -> gather 0, gather 1 -> unsqueeze -> concat [N, T, 4, 16] -> reshape -> transpose.
    let nodes = vec![
        node("s = Shape(x)", vec![]),
        node("n = Gather(s, zero)", vec![]),
        node("t = Gather(s, one)", vec![]),
        node("d = Concat(n, t, heads, minus)", vec![attr_i("axis", 0)]),
        node("h = Reshape(x, d)", vec![]),
        node("y = Transpose(h)", vec![crate::builder::attr_ints("perm", &[0, 2, 1, 3])]),
    ];
    let constants: [(&str, &[i64]); 4] = [("zero", &[0]), ("one", &[1]), ("heads", &[4]), ("minus", &[-1])];
    let out = printed(nodes, &constants, "y: f32[1]");
    assert!(out.contains("shape = [N, T, 4, 16]") && out.contains("f32[N, 4, T, 16]"), "{out}");
    assert!(!out.contains("gather") && !out.contains("concat"), "what only shapes needed is gone: {out}");
}

#[test]
fn arithmetic_on_dimensions_is_followed() {
    let nodes = vec![
        node("s = Shape(x)", vec![attr_i("start", 1), attr_i("end", 2)]),
        node("twice = Mul(s, two)", vec![]),
        node("half = Div(last, two)", vec![]),
        node("d = Concat(first, twice, half)", vec![attr_i("axis", 0)]),
        node("y = Reshape(x, d)", vec![]),
    ];
    let out = printed(nodes, &[("two", &[2]), ("last", &[64]), ("first", &[0])], "y: f32[1]");
    assert!(out.contains("shape = [N, 2*T, 32]"), "{out}");
}

#[test]
fn expand_with_a_guarded_shape_is_followed() {
    // The pattern of exporters for -1: where(shape == -1, ones, shape).
    let nodes = vec![
        node("s = Shape(x)", vec![]),
        node("is = Equal(s, minus)", vec![]),
        node("d = Where(is, ones, s)", vec![]),
        node("y = Expand(one, d)", vec![]),
    ];
    let out = printed(nodes, &[("minus", &[-1]), ("ones", &[1, 1, 1]), ("one", &[7])], "y: i64[1]");
    assert!(out.contains("shape = [N, T, 64]"), "{out}");
}

#[test]
fn a_resize_needs_numbers_for_axes_that_change() {
    let nodes = |sizes: &str| {
        vec![
            node("n = Shape(x)", vec![attr_i("start", 0), attr_i("end", 1)]),
            node("t = Shape(x)", vec![attr_i("start", 1), attr_i("end", 2)]),
            node(&format!("d = Concat({sizes}, half)"), vec![attr_i("axis", 0)]),
            node("y = Resize(x, , , d)", vec![]),
        ]
    };
    let out = printed(nodes("n, t"), &[("half", &[32])], "y: f32[1]");
    assert!(out.contains("f32[N, T, 32]"), "{out}");
    let swapped =
        with_constants(graph(&["x: f32[N, T, 64]"], nodes("t, n"), &["y: f32[1]"]), vec![ints("half", &[32])]);
    let fault = refusal(&model(swapped)).to_string();
    assert!(fault.contains("resizing axis 0 to the symbolic size T"), "{fault}");
}

#[test]
fn ranges_and_slices_may_be_symbolic() {
    let nodes = vec![
        node("s = Shape(x)", vec![]),
        node("t = Gather(s, at)", vec![]),
        node("y = Range(zero, t, one)", vec![]),
        node("z = Slice(x, start, t1, axis)", vec![]),
        node("t1 = Unsqueeze(t, at1)", vec![]),
    ];
    let mut g = graph(&["x: f32[N, T, 64]"], nodes, &["y: i64[1]", "z: f32[1]"]);
    let scalar = |name: &str, v: i64| crate::builder::raw(name, 7, &[], &v.to_le_bytes());
    g.initializer = vec![scalar("at", 1), scalar("zero", 0), scalar("one", 1), ints("at1", &[0]), ints("start", &[0])];
    g.initializer.push(ints("axis", &[1]));
    let m = model(g);
    let x = Tensor::splat(&[2, 3, 64], 1.0f32);
    assert_eq!(run(&m, std::slice::from_ref(&x)), [Tensor::new(&[3], &[0i64, 1, 2]), x]);
}

#[test]
fn a_shape_that_is_data_is_computed_while_running() {
    let nodes = vec![node("s = Shape(x)", vec![]), node("y = Cast(s)", vec![attr_i("to", 1)])];
    let m = model(graph(&["x: f32[N, T, 64]"], nodes, &["y: f32[3]"]));
    let y = run(&m, &[Tensor::splat(&[2, 3, 64], 0.0f32)]);
    assert_eq!(y, [Tensor::new(&[3], &[2.0f32, 3.0, 64.0])]);
}

#[test]
fn a_shape_that_depends_on_values_is_refused_with_a_hint() {
    let nodes = vec![node("y = Reshape(x, d)", vec![])];
    let m = model(graph(&["x: f32[N, T, 64]", "d: i64[2]"], nodes, &["y: f32[1]"]));
    let error = refusal(&m);
    assert!(error.is_unsupported(), "{error}");
    assert!(error.to_string().contains("`shape` `d` that depends on the inputs of the model"), "{error}");
    assert!(error.to_string().contains("hint: bind symbolic dimensions"), "{error}");
}

#[test]
fn reshape_keeps_infers_and_refuses() {
    let reshape = |dims: &[i64]| {
        let g = graph(&["x: f32[N, 4, 6]"], vec![node("y = Reshape(x, d)", vec![])], &["y: f32[1]"]);
        load(&model(with_constants(g, vec![ints("d", dims)]))).map(|i| text::print(&i.graph)).map_err(|e| e.to_string())
    };
    assert!(reshape(&[0, -1]).unwrap().contains("shape = [N, 24]"));
    assert!(reshape(&[-1, 3]).unwrap().contains("shape = [8*N, 3]"));
    assert!(reshape(&[-1, 5]).unwrap_err().contains("does not divide into"));
    assert!(reshape(&[-1, -1]).unwrap_err().contains("at most one -1"));
    assert!(reshape(&[2, 2]).unwrap_err().contains("as many elements as"));
    assert!(reshape(&[0, 0, 0, 0]).unwrap_err().contains("dimension 3"));
}
