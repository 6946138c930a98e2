//! The graph under edits: compaction, rollback, the table of uses, analyses, faults, bindings.

use std::collections::BTreeSet;

use bitc_ir::analysis::{View, dot};
use bitc_ir::eval::{EvalError, bind, eval};
use bitc_ir::graph::Uses;
use bitc_ir::ops::{Binary, BinaryKind, Custom, QuantizeAct, Ternarize, Unary, UnaryKind};
use bitc_ir::text::{NoReferences, PrintOptions, parse, print_with};
use bitc_ir::verify::verify;
use bitc_ir::{Attrs, DType, Dim, Facts, Graph, NodeId, Origin, Tensor, TensorType, ValueId};
use petgraph::Direction;
use proptest::prelude::*;

const RELU: Unary = Unary(UnaryKind::Relu);
const NEG: Unary = Unary(UnaryKind::Neg);
const ADD: Binary = Binary(BinaryKind::Add);

fn rows() -> TensorType {
    TensorType::new(DType::F32, vec![Dim::symbol("N")])
}

fn text(graph: &Graph) -> String {
    print_with(graph, &PrintOptions::full())
}

fn graph(text: &str) -> Graph {
    parse(text, &NoReferences).unwrap()
}

fn faults(graph: &Graph, facts: Facts) -> Vec<String> {
    verify(graph, facts).unwrap_err().iter().map(ToString::to_string).collect()
}

/// A graph of nodes that all have the type `f32[N]`, with its values in the order they were added.
fn build(choices: &[(u8, u8, u8)]) -> (Graph, Vec<ValueId>) {
    let mut graph = Graph::new("g");
    let mut values = vec![graph.add_input("x", rows()), graph.add_input("y", rows())];
    for &(kind, a, b) in choices {
        let pick = |i: u8| Some(values[i as usize % values.len()]);
        let node = match kind % 3 {
            0 => graph.add_node("", RELU, &[pick(a)]),
            1 => graph.add_node("", NEG, &[pick(a)]),
            _ => graph.add_node("", ADD, &[pick(a), pick(b)]),
        };
        values.push(node.unwrap());
    }
    for (i, &value) in values.iter().rev().take(2).enumerate() {
        graph.add_output(format!("out{i}"), value);
    }
    (graph, values)
}

/// The reads of each value by nodes that are not dead, and by the graph.
fn reads(graph: &Graph, uses: &Uses, dead: &BTreeSet<NodeId>) -> Vec<(Vec<NodeId>, usize)> {
    let read = |(id, _)| {
        let mut readers: Vec<NodeId> = uses.of(id).iter().copied().filter(|n| !dead.contains(n)).collect();
        readers.sort_unstable();
        (readers, uses.returned(id))
    };
    graph.values().map(read).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_of_uses_stays_true_under_edits(
        choices in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..16),
        edits in prop::collection::vec((any::<u8>(), any::<u8>()), 0..16),
    ) {
        let (mut graph, mut values) = build(&choices);
        let mut uses = graph.uses();
        let mut dead = BTreeSet::new();
        for (a, b) in edits {
            let (i, j) = (a as usize % values.len(), b as usize % values.len());
            // A value is replaced by an earlier one, so no cycle comes about; or a node is added.
            let alive = |v: ValueId, dead: &BTreeSet<NodeId>| graph.producer_id(v).is_none_or(|n| !dead.contains(&n));
            if !alive(values[i], &dead) || !alive(values[j], &dead) {
                continue;
            }
            if i > j {
                uses.replace(&mut graph, values[i], values[j]).unwrap();
                let producer = graph.producer_id(values[i]);
                dead.extend(producer.into_iter().flat_map(|n| uses.release(&graph, n)));
            } else {
                let new = graph.add_node("", ADD, &[Some(values[i]), Some(values[j])]).unwrap();
                values.push(new);
                uses.add_node(&graph, graph.producer_id(new).unwrap());
                graph.add_output(format!("new{}", values.len()), new);
                uses = graph.uses();
                // A new table counts what was dead already; it is dropped again.
                for &node in &dead {
                    prop_assert!(graph.node(node).outputs.iter().all(|&v| graph.uses().returned(v) == 0));
                }
            }
            prop_assert_eq!(reads(&graph, &uses, &dead), reads(&graph, &graph.uses(), &dead));
        }
    }

    #[test]
    fn compaction_keeps_meaning_and_settles_at_once(
        choices in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..16),
    ) {
        let (mut graph, _) = build(&choices);
        let inputs = [Tensor::new(&[3], &[1.5f32, -2.0, 0.0]), Tensor::new(&[3], &[-0.5f32, 4.0, 1.0])];
        let before = eval(&graph, &inputs).unwrap();
        graph.compact();
        prop_assert_eq!(verify(&graph, Facts::CANONICAL), Ok(()));
        prop_assert_eq!(eval(&graph, &inputs).unwrap(), before);
        let settled = text(&graph);
        graph.compact();
        prop_assert_eq!(text(&graph), settled);
    }

    #[test]
    fn a_rollback_leaves_no_trace(
        choices in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..8),
        more in prop::collection::vec((any::<u8>(), any::<u8>()), 0..8),
    ) {
        let (mut graph, values) = build(&choices);
        let before = text(&graph);
        let mark = graph.mark();
        let mut staged = values.clone();
        for (a, b) in more {
            let pick = |i: u8| Some(staged[i as usize % staged.len()]);
            let new = graph.add_node("", ADD, &[pick(a), pick(b)]).unwrap();
            staged.push(new);
        }
        graph.add_const("c", Tensor::scalar(1f32));
        prop_assert_eq!(graph.nodes_since(mark).count() + values.len(), staged.len());
        graph.rollback(mark);
        prop_assert_eq!(text(&graph), before);
    }

    #[test]
    fn the_view_orders_and_reaches_as_the_graph_does(
        choices in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..16),
    ) {
        let (graph, _) = build(&choices);
        let view = View::new(&graph);
        prop_assert!(view.cycles().is_empty());
        let order = view.order().unwrap();
        prop_assert_eq!(order.len(), graph.nodes().len());
        let place = |n: NodeId| order.iter().position(|&m| m == n).unwrap();
        for (id, node) in graph.nodes() {
            let producers: Vec<NodeId> = node.inputs.iter().flatten().filter_map(|&v| graph.producer_id(v)).collect();
            prop_assert!(producers.iter().all(|&p| place(p) < place(id)));
            // What a node needs is what its producers need, and they themselves.
            let mut needed: BTreeSet<NodeId> = producers.iter().copied().collect();
            needed.extend(producers.iter().flat_map(|&p| view.reachable(p, Direction::Incoming)));
            prop_assert_eq!(view.reachable(id, Direction::Incoming), needed.iter().copied().collect::<Vec<_>>());
            // The two directions agree, and a dominator is among what is needed.
            for &other in &needed {
                prop_assert!(view.reachable(other, Direction::Outgoing).contains(&id));
            }
            prop_assert!(view.dominator(id).is_none_or(|d| needed.contains(&d)));
        }
    }
}

#[test]
fn compaction_sorts_what_a_rewrite_appended() {
    let mut graph = graph("graph @g(%x: f32[N]) { %a = relu(%x) %b = neg(%a) return %b }");
    let (x, a) = (graph.inputs()[0], graph.node(NodeId::new(0)).outputs[0]);
    let new = graph.add_node("", NEG, &[Some(x)]).unwrap();
    graph.replace_uses(a, new).unwrap();
    graph.take_name(a, new);
    assert_eq!(faults(&graph, Facts::CANONICAL)[1..], ["`%a` is read before it is defined"]);
    graph.compact();
    let expected = "graph @g(%x: f32[N]) {\n  %a = neg(%x) : f32[N]\n  %b = neg(%a) : f32[N]\n  return %b\n}\n";
    assert_eq!(text(&graph), expected);
}

#[test]
fn names_become_unique_and_inputs_keep_theirs() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", rows());
    let unnamed = graph.add_input("", rows());
    let a = graph.add_node("x", ADD, &[Some(x), Some(unnamed)]).unwrap();
    let b = graph.add_node("x", RELU, &[Some(a)]).unwrap();
    graph.take_name(b, unnamed);
    graph.add_output("y", b);
    graph.compact();
    let names: Vec<&str> = graph.values().map(|(_, v)| v.name.as_str()).collect();
    assert_eq!(names, ["x", "", "x.1", "x.2"]);
}

#[test]
fn only_a_value_of_the_same_type_takes_the_place_of_another() {
    let mut graph = graph("graph @g(%x: f32[N], %c: i8[N]) { %a = relu(%x) return %a }");
    let error = graph.replace_uses(graph.outputs()[0].value, graph.inputs()[1]).unwrap_err();
    assert_eq!(error.to_string(), "expected f32[N], found i8[N]");
    assert!(verify(&graph, Facts::CANONICAL).is_ok());
}

#[test]
fn absent_inputs_at_the_end_are_left_out() {
    let text = "graph @g(%x: f32[N], %l: f32) { %a = clip(%x, %l, _) %b = clip(%x, _, %l) return %a, %b }";
    let graph = graph(text);
    assert_eq!(graph.nodes().map(|(_, n)| n.inputs.len()).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn every_fault_is_found() {
    let mut twice = Graph::new("g");
    let x = twice.add_input("x", rows());
    let y = twice.add_node("x", RELU, &[Some(x)]).unwrap();
    twice.set_name(x, "x");
    twice.add_output("y", y);
    twice.add_output("y", x);
    assert_eq!(faults(&twice, Facts::NONE), ["values 0 and 1 are both called `%x`", "two outputs are called `y`"]);

    let mut cycle = graph("graph @g(%x: f32[N]) { %a = relu(%x) %b = neg(%a) return %b }");
    let b = cycle.outputs()[0].value;
    cycle.replace_uses(cycle.inputs()[0], b).unwrap();
    assert_eq!(faults(&cycle, Facts::NONE), ["the nodes form a cycle"]);
    assert_eq!(View::new(&cycle).cycles().len(), 1);
    assert!(View::new(&cycle).order().is_err());
    assert_eq!(cycle.live_order(), None);
    assert!(matches!(eval(&cycle, &[Tensor::new(&[1], &[1f32])]), Err(EvalError::Undefined(_))));

    let mut dangling = graph("graph @g(%x: f32[N]) { %a = relu(%x) return %a }");
    let mark = dangling.mark();
    let new = dangling.add_node("", NEG, &[Some(dangling.inputs()[0])]).unwrap();
    dangling.replace_uses(dangling.inputs()[0], new).unwrap();
    dangling.add_output("z", new);
    dangling.rollback(mark);
    let found = ["`relu` refers to value 2, there are 2", "the graph refers to value 2, there are 2"];
    assert_eq!(faults(&dangling, Facts::CANONICAL), found);

    let mut named = graph("graph @g(%x: f32[N]) { return %x }");
    named.set_name(named.inputs()[0], "a\0b");
    assert_eq!(faults(&named, Facts::NONE), ["the name of value 0 holds a NUL"]);
}

#[test]
fn facts_are_checked_one_by_one() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", TensorType::fixed(DType::F32, &[2, 2]));
    let w = graph.add_param("w", Tensor::splat(&[2, 2], 1f32));
    let t = graph.add_nodes(&["t", "s"], Ternarize::BITLAB, &[Some(w)]).unwrap();
    let d = graph.add_node("d", bitc_ir::ops::Dequantize::default(), &[Some(t[0]), Some(t[1])]).unwrap();
    let c = Custom { domain: "acme".into(), op: "Foo".into(), attrs: Attrs::new(), results: vec![graph.ty(d).clone()] };
    let c = graph.add_node("c", c, &[Some(d), Some(x)]).unwrap();
    graph.add_output("y", c);
    graph.add_const("unused", Tensor::scalar(1f32));
    graph.add_nodes(&[], QuantizeAct::default(), &[Some(x)]).unwrap();
    assert_eq!(verify(&graph, Facts::NONE), Ok(()));
    let dead = ["constant `%unused` is never used", "no output of this `quantize_act` is used"];
    assert_eq!(faults(&graph, Facts::CANONICAL), dead);
    let trainable = ["`%w` is still trainable", "`ternarize` still quantises weights while running"];
    assert_eq!(faults(&graph, Facts::NO_TRAINABLE), trainable);
    assert_eq!(faults(&graph, Facts::FROZEN), [&trainable[..], &["the graph is not frozen"]].concat());
    let unknown = ["`ternarize` has no instruction in the runtime", "`acme::Foo` has no instruction in the runtime"];
    assert_eq!(faults(&graph, Facts::LOWERABLE), unknown);
    graph.frozen = true;
    assert_eq!(faults(&graph, Facts::NONE), trainable, "a frozen graph keeps its promise");
    graph.compact();
    assert_eq!(verify(&graph, Facts::CANONICAL), Err(verify(&graph, Facts::NONE).unwrap_err()));
    assert_eq!((Facts::CANONICAL | Facts::FROZEN).to_string(), "canonical, frozen");
    assert_eq!(Facts::NONE.to_string(), "nothing");
}

#[test]
fn dominators_see_what_every_path_goes_through() {
    let graph = graph(
        "graph @g(%x: f32[N]) { %a = relu(%x) %b = neg(%a) %c = abs(%a) %d = add(%b, %c) %e = neg(%d) return %e }",
    );
    let view = View::new(&graph);
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(NodeId::new);
    assert_eq!(view.dominator(a), None);
    assert_eq!([b, c, d, e].map(|n| view.dominator(n)), [Some(a), Some(a), Some(a), Some(d)]);
    assert_eq!([a, b, c, d].map(|n| view.post_dominator(n)), [Some(d), Some(d), Some(d), Some(e)]);
    assert_eq!(view.reachable(d, Direction::Incoming), [a, b, c]);
    assert_eq!(view.reachable(b, Direction::Outgoing), [d, e]);
}

#[test]
fn dot_escapes_what_it_quotes() {
    let mut graph =
        graph("graph @\"a\\\"b\"(%\"x\\ny\": f32[N]) { const %c: f32 = dense [1] %y = add(%\"x\\ny\", %c) return %y }");
    graph.compact();
    let dot = dot(&graph);
    assert!(dot.starts_with("digraph \"a\\\"b\" {\n"), "{dot}");
    assert!(dot.contains("label = \"x\\\\ny\\nf32[N]\""), "{dot}");
    assert!(dot.contains("  v1 -> n0;\n") && dot.contains("  n0 -> o0 [label = \"f32[N]\"];\n"), "{dot}");
}

#[test]
fn symbols_are_bound_by_the_inputs() {
    let graph =
        graph("graph @g(%x: f32[N, 2*M], %y: f32[M, N + 1]) { %z = reshape(%x) {shape = [2*M, N]} return %z, %y }");
    let tensor = |dims: &[usize]| Tensor::splat(dims, 0f32);
    let bindings = bind(&graph, &[tensor(&[3, 4]), tensor(&[2, 4])]).unwrap();
    assert_eq!(bindings.into_iter().collect::<Vec<_>>(), [("M".to_owned(), 2), ("N".to_owned(), 3)]);
    assert_eq!(eval(&graph, &[tensor(&[3, 4]), tensor(&[2, 4])]).unwrap()[0].dims(), [4, 3]);
    let message = |inputs: &[Tensor]| eval(&graph, inputs).unwrap_err().to_string();
    assert_eq!(message(&[tensor(&[3, 4])]), "the graph has 2 inputs, found 1");
    assert_eq!(message(&[tensor(&[3, 4]), tensor(&[2, 5])]), "input `y` must be f32[M, N + 1], found f32[2, 5]");
    assert_eq!(message(&[tensor(&[3, 5]), tensor(&[2, 4])]), "input `x` must be f32[N, 2*M], found f32[3, 5]");
    let wrong = [Tensor::splat(&[3, 4], 0i8), tensor(&[2, 4])];
    assert_eq!(message(&wrong), "input `x` must be f32[N, 2*M], found i8[3, 4]");
}

#[test]
fn a_symbol_that_no_input_binds_is_an_error() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", TensorType::fixed(DType::F32, &[1]));
    let shape = bitc_ir::Shape(vec![Dim::symbol("K")]);
    let y = graph.add_node("y", bitc_ir::ops::Expand { shape }, &[Some(x)]).unwrap();
    *graph.origin_mut(graph.producer_id(y).unwrap()) = Origin::of("expand");
    graph.add_output("y", y);
    let error = eval(&graph, &[Tensor::splat(&[1], 0f32)]).unwrap_err();
    assert_eq!(error.to_string(), "node 0 (`expand`, from expand): dimension `K` has no value in this run");
}
