//! What surrounds the nodes: inputs, constants, names, origins, dimensions.

use bitc_ir::{Tensor, text};
use bitc_onnx::proto::{ModelProto, NodeProto};

use crate::builder::{
    attr_f, attr_i, attr_ints, attr_t, entries, floats, graph, ints, load, model, node, opset, run, value,
    with_constants,
};

fn f32s(values: &[f32]) -> Tensor {
    Tensor::new(&[values.len()], values)
}

#[test]
fn an_initializer_that_is_also_an_input_is_a_constant() {
    let nodes = vec![node("y = Add(x, w)", vec![])];
    let g =
        with_constants(graph(&["x: f32[2]", "w: f32[2]"], nodes, &["y: f32[2]"]), vec![floats("w", &[2], &[1.0, 2.0])]);
    let m = ModelProto { ir_version: 3, ..model(g) };
    let imported = load(&m).unwrap();
    assert_eq!(imported.graph.inputs().len(), 1);
    assert_eq!(imported.warnings, ["1 inputs have initializers and are taken as constants"]);
    assert_eq!(run(&m, &[f32s(&[10.0, 20.0])]), [f32s(&[11.0, 22.0])]);
}

#[test]
fn every_form_of_constant_is_read() {
    let forms = [
        (vec![attr_t("value", floats("", &[2], &[1.0, 2.0]))], "f32[2] = dense [1.0, 2.0]"),
        (vec![attr_f("value_float", 3.0)], "f32 = dense [3.0]"),
        (vec![attr_i("value_int", 0)], "i64 = dense [0]"),
        (vec![attr_ints("value_ints", &[4, 5])], "i64[2] = dense [4, 5]"),
    ];
    for (attrs, expect) in forms {
        let m = model(graph(&[], vec![node("c = Constant()", attrs)], &["c: f32[]"]));
        let printed = text::print(&load(&m).unwrap().graph);
        assert!(printed.contains(expect), "{printed}");
    }
}

#[test]
fn nodes_without_names_and_with_equal_names_are_told_apart() {
    let unnamed = |text: &str, name: &str| NodeProto { name: name.into(), ..node(text, vec![]) };
    let nodes = vec![unnamed("a = Relu(x)", ""), unnamed("b = Relu(a)", "same"), unnamed("y = Relu(b)", "same")];
    let printed = text::print(&load(&model(graph(&["x: f32[2]"], nodes, &["y: f32[2]"]))).unwrap().graph);
    assert!(printed.contains("from \"Relu_0\"") && printed.matches("from \"same\"").count() == 2, "{printed}");
}

#[test]
fn torch_scopes_and_source_lines_are_the_origin() {
    let trace = "File \"/home/u/net.py\", line 7, in forward\n    return self.fc(x)";
    let metadata_props =
        entries(&[("pkg.torch.onnx.name_scopes", "['', 'block.fc', 'linear']"), ("pkg.torch.onnx.stack_trace", trace)]);
    let relu = NodeProto { metadata_props, ..node("y = Relu(x)", vec![]) };
    let printed = text::print(&load(&model(graph(&["x: f32[2]"], vec![relu], &["y: f32[2]"]))).unwrap().graph);
    assert!(printed.contains("from \"block.fc/n_y\", \"net.py:7, in forward\""), "{printed}");
}

#[test]
fn nodes_in_any_order_are_sorted() {
    let nodes = vec![node("y = Neg(a)", vec![]), node("a = Abs(x)", vec![])];
    assert_eq!(run(&model(graph(&["x: f32[2]"], nodes, &["y: f32[2]"])), &[f32s(&[-1.0, 2.0])]), [f32s(&[-1.0, -2.0])]);
}

#[test]
fn an_input_may_be_an_output_and_an_output_may_be_given_twice() {
    let g = graph(&["x: f32[2]"], vec![node("y = Identity(x)", vec![])], &["x: f32[2]", "y: f32[2]"]);
    assert_eq!(run(&model(g), &[f32s(&[1.0, 2.0])]), [f32s(&[1.0, 2.0]), f32s(&[1.0, 2.0])]);
}

#[test]
fn dimensions_keep_their_names_or_are_bound() {
    let m = model(graph(&["x: f32[batch, 4]"], vec![node("y = Relu(x)", vec![])], &["y: f32[batch, 4]"]));
    let printed = |m: &ModelProto, dims: &[(&str, usize)]| {
        let file = bitc_ir::Blob::new(prost::Message::encode_to_vec(m));
        let dims = dims.iter().map(|&(n, s)| (n.to_owned(), s)).collect();
        let options = bitc_onnx::import::Options { dims, ..Default::default() };
        bitc_onnx::import::import(&file, &mut bitc_onnx::external::NoFiles, &options).map(|i| text::print(&i.graph))
    };
    assert!(printed(&m, &[]).unwrap().contains("%x: f32[batch, 4]"));
    assert!(printed(&m, &[("batch", 3)]).unwrap().contains("%x: f32[3, 4]"));
    let fault = printed(&m, &[("N", 3)]).unwrap_err().to_string();
    assert_eq!(fault, "no dimension is called `N`, expected `batch`");
    let odd = model(graph(&["x: f32[a-b.c, 4]"], vec![node("y = Relu(x)", vec![])], &["y: f32[1, 4]"]));
    assert!(printed(&odd, &[]).unwrap().contains("%x: f32[a_b_c, 4]"));
    let unknown = model(graph(&["x: f32[-1, ]"], vec![node("y = Relu(x)", vec![])], &["y: f32[1]"]));
    assert!(printed(&unknown, &[]).unwrap().contains("unknown1"));
}

#[test]
fn an_unknown_operator_that_nothing_needs_is_no_error() {
    let nodes = vec![node("d = acme::Debug(x)", vec![]), node("y = Relu(x)", vec![])];
    let m = model(graph(&["x: f32[2]"], nodes, &["y: f32[2]"]));
    assert_eq!(load(&m).unwrap().graph.nodes().len(), 1);
}

#[test]
fn a_newer_opset_warns() {
    let g = graph(&["x: f32[2]"], vec![node("y = Relu(x)", vec![])], &["y: f32[2]"]);
    let m = ModelProto { opset_import: vec![opset("ai.onnx", 99)], ..model(g) };
    assert!(load(&m).unwrap().warnings[0].contains("opset 99 is newer"));
}

#[test]
fn producer_and_metadata_are_kept() {
    let g = graph(&["x: f32[2]"], vec![node("y = Relu(x)", vec![])], &["y: f32[2]"]);
    let m = ModelProto { producer_name: "pytorch".into(), metadata_props: entries(&[("k", "v")]), ..model(g) };
    let m = ModelProto { doc_string: "of digits".into(), ..m };
    let meta = load(&m).unwrap().graph.meta;
    assert_eq!((meta["producer"].as_str(), meta["k"].as_str()), ("pytorch", "v"));
    assert_eq!(meta["doc_string"], "of digits");
}

#[test]
fn weights_stay_slices_of_the_file() {
    let weights: Vec<f32> = (0..4096).map(|i| i as f32).collect();
    let nodes = vec![node("y = MatMul(x, w)", vec![])];
    let g =
        with_constants(graph(&["x: f32[1, 64]"], nodes, &["y: f32[1, 64]"]), vec![floats("w", &[64, 64], &weights)]);
    let file = bitc_ir::Blob::new(prost::Message::encode_to_vec(&model(g)));
    let imported = bitc_onnx::import::import(&file, &mut bitc_onnx::external::NoFiles, &Default::default()).unwrap();
    let weight =
        imported.graph.values().find_map(|(id, v)| (v.name == "w").then(|| imported.graph.constant(id))).flatten();
    let (inside, of) = (weight.unwrap().bytes().as_ptr_range(), file.bytes().as_ptr_range());
    assert!(of.start <= inside.start && inside.end <= of.end);
}

#[test]
fn a_chain_of_many_nodes_is_walked_without_recursion() {
    let mut nodes = vec![node("v0 = Relu(x)", vec![])];
    nodes.extend((1..20_000).map(|i| node(&format!("v{i} = Relu(v{})", i - 1), vec![])));
    let m = model(graph(&["x: f32[1]"], nodes, &["v19999: f32[1]"]));
    let small_stack = std::thread::Builder::new().stack_size(256 << 10);
    let count = small_stack.spawn(move || load(&m).unwrap().graph.nodes().len()).unwrap().join().unwrap();
    assert_eq!(count, 20_000);
}

#[test]
fn shapes_of_values_in_between_are_not_needed() {
    let mut g = graph(&["x: f32[2]"], vec![node("y = Relu(x)", vec![])], &["y: f32[7, 7]"]);
    g.value_info.push(value("z: f32[3]"));
    assert_eq!(run(&model(with_constants(g, vec![ints("unused", &[1])])), &[f32s(&[-1.0, 1.0])]), [f32s(&[0.0, 1.0])]);
}
