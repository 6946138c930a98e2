//! What cannot be lowered is told by node, all at once.

use bitc::error::{Failure, Kind};
use bitc::lower::{Target, has_instruction, lower};

use crate::harness::graph;

fn refused(text: &str) -> Failure {
    lower(&graph(text), Target::Any).expect_err("this graph has no program")
}

fn messages(text: &str) -> Vec<String> {
    refused(text).diagnostics().iter().map(|d| d.message.clone()).collect()
}

#[test]
fn every_fault_is_collected_with_node_and_origin() {
    let failure = refused(
        "graph @g(%x: f32[N, 4], %i: f64[N]) {
          %a = einsum(%x) {equation = \"ij->j\"} : f32[4] from \"layer1/Einsum\"
          %b = relu(%a)
          %c = erf(%i)
          %d = einsum(%x) {equation = \"ij->i\"}
          return %b, %c, %d
        }",
    );
    assert_eq!(failure.kind(), Kind::Unsupported);
    let found: Vec<_> = failure.diagnostics().iter().map(|d| (d.message.as_str(), d.node.as_deref())).collect();
    assert_eq!(
        found,
        [
            ("cannot lower `einsum`: no instruction does this", Some("a")),
            ("cannot lower `erf`: no instruction computes it in this type", Some("c")),
            ("cannot lower `einsum`: no instruction does this", Some("d")),
        ]
    );
    assert_eq!(failure.diagnostics()[0].origin.as_deref(), Some("layer1/Einsum"));
    assert_eq!(failure.diagnostics()[1].found.as_deref(), Some("f64"));
}

#[test]
fn weights_must_be_constant() {
    let text = "graph @g(%x: f32[N, 4], %w: t2[3, 4], %s: f32) {
      %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %w, %s, _) return %y }";
    let found = messages(text);
    assert_eq!(
        found,
        [
            "values of type t2 cannot be computed while running",
            "cannot lower `bit_linear`: its weights are not constant"
        ]
    );
}

#[test]
fn rows_of_bytes_are_no_longer_than_their_sums_allow() {
    let text = "graph @g(%x: f32[N, 131072]) { const %w: i8[1, 131072] = splat(-128) const %s: f32 = splat(1)
      %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %w, %s) return %y }";
    let failure = refused(text);
    let [fault] = failure.diagnostics() else { panic!("{failure:?}") };
    assert_eq!(fault.message, "cannot lower `bit_linear`: its rows are so long that sums may not fit 32 bits");
    assert_eq!(fault.expected.as_deref(), Some("at most 131071 inputs"));
}

#[test]
fn a_symbol_must_be_bound_by_an_input() {
    let found = messages("graph @g(%x: f32[2*N]) { %y = relu(%x) return %y }");
    assert_eq!(found, ["nothing says how large dimension `2*N` is"]);
}

#[test]
fn an_unknown_operation_is_named() {
    let text = "graph @g(%x: f32[N]) { %y = custom(%x) {op = \"Fancy\", domain = \"acme\"} : f32[N] return %y }";
    assert_eq!(messages(text), ["cannot lower `custom`: `acme::Fancy` has no instruction"]);
}

#[test]
fn windows_have_limits() {
    let text = "graph @g(%x: f32[N, 1, 9, 9]) {
      %a = max_pool2d(%x) {kernel = [2, 2], strides = [100000, 1]}
      %b = max_pool2d(%x) {kernel = [2, 2], dilations = [2, 2], pads = [3, 0, 0, 0]}
      return %a, %b }";
    assert_eq!(
        messages(text),
        [
            "cannot lower `max_pool2d`: its `strides` are too large",
            "cannot lower `max_pool2d`: its padding is wider than its window reaches"
        ]
    );
}

#[test]
fn a_graph_must_be_frozen() {
    let mut unfrozen = graph("graph @g(%x: f32[N]) { %y = relu(%x) return %y }");
    unfrozen.frozen = false;
    let failure = lower(&unfrozen, Target::Any).expect_err("it is not frozen");
    assert_eq!(failure.kind(), Kind::WrongInput);
}

#[test]
fn the_list_of_operations_without_instruction_is_true() {
    for name in ["einsum", "custom", "ternarize"] {
        assert!(!has_instruction(name), "{name}");
    }
    for name in ["relu", "sin", "shift_left", "mod", "top_k", "pad", "bit_linear", "reduce_sum"] {
        assert!(has_instruction(name), "{name}");
    }
}
