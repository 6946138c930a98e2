//! The text form: what it looks like, what it refuses, and that printing and parsing are inverse.

use bitc_ir::attr::Attr;
use bitc_ir::graph::{Graph, Origin};
use bitc_ir::ops::{self, Op};
use bitc_ir::text::{NoReferences, PrintOptions, parse, parse_attrs, print_with};
use bitc_ir::types::{DType, Dim, Shape, TensorType};
use bitc_ir::{Attrs, Tensor, random};
use proptest::prelude::*;

fn full(graph: &Graph) -> String {
    print_with(graph, &PrintOptions::full())
}

fn faults(text: &str) -> Vec<String> {
    parse(text, &NoReferences).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_graph_reads_back_as_it_was_written() {
    let text = r#"frozen graph @mlp(%x: f32[N, 4]) {
  meta "producer" = "a \"quoted\" name"
  const %w: t2[2, 4] = dense [1, 0, -1, 1, 0, 1, 1, -1]
  const %s: f32 = dense [0.03]
  const %"7": f32[2] = dense [0.1, -inf]
  const %big: f32[8] = splat(0.5)
  %0, %1 = quantize_act(%x) {floor = "clip_scale", eps = 1e-6, low = -127} : i8[N, 4], f32[N, 1] from "fc1", "fc1/q"
  %h = bit_linear(%0, %1, %w, %s, %"7") {act = "relu"} : f32[N, 2] from "fc1"
  %r = reshape(%h) {shape = [2*N]} : f32[2*N]
  %c = custom(%r, %big) {domain = "acme", op = "Foo", attr.k = [1.0, 2.5], attr.t = tensor f32[1] dense [1.0]} : f32[((N + 1)/2)]
  return %h as "out", %c
}
"#;
    let graph = parse(text, &NoReferences).unwrap();
    assert_eq!(full(&graph), text);
    assert!(bitc_ir::verify::verify(&graph, bitc_ir::Facts::FROZEN).is_ok());
}

#[test]
fn every_fault_of_meaning_is_reported_with_its_place() {
    let text = "graph @g(%x: f32[N, 4]) {
  const %w: f32[2, 3] = random(seed = 1)
  %a = linear(%x, %w)
  %b = relu(%a) : f32[N, 2]
  %c = relux(%x)
  %d = relu(%xx) {slope = 1}
  %x = relu(%x) : f64[N, 4]
  return %b
}";
    assert_eq!(
        faults(text),
        [
            "3:3: `linear`: expected `x` with last dimension 3 for weights f32[2, 3], found f32[N, 4]",
            "5:3: no operation is called `relux`; did you mean `relu`?",
            "6:13: `%xx` is not defined above; did you mean `%x`?",
            "7:3: `relu` gives f32[N, 4], the text says f64[N, 4]",
            "7:3: `%x` is defined twice",
        ]
    );
}

#[test]
fn a_fault_of_syntax_says_what_was_expected() {
    let one = |text: &str| faults(text).remove(0);
    assert_eq!(one("graph g() { return }"), "1:7: expected a name such as `@model`, found `g`");
    assert_eq!(one("graph @g(%x: f33) { return }"), "1:14: no element type is called `f33`");
    assert_eq!(one("graph @g() { %y = add(%a %b) return }"), "1:26: expected `,` or `)`, found `%b`");
    assert_eq!(one("graph @g() { const %c: f32[2] = dense [1] return }"), "1:33: f32[2] takes 8 bytes, found 4");
    assert_eq!(
        one("graph @g() { const %c: t2 = dense [2] return }"),
        "1:29: element 0 is 2, which is no value of type t2"
    );
    assert_eq!(
        one("graph @g() { const %c: f32[N] = splat(1) return }"),
        "1:33: a constant needs fixed dimensions, found f32[N]"
    );
    assert_eq!(
        one("graph @g() { const %c: f32[2] = elided(sha = 0) return }").split(": ").nth(1),
        Some("this constant was left out when the text was printed; print it in full")
    );
    assert_eq!(one("graph @g(%\"a"), "1:10: this string is not closed");
    assert_eq!(
        one("graph @g(%x: f32[0 - 9999999999999999999999]) { return %x }"),
        "1:22: `9999999999999999999999` is not a size"
    );
    assert!(one(&format!("graph @g(%x: f32[{}N]) {{ return }}", "(".repeat(100))).contains("nested too deeply"));
    assert_eq!(
        one("graph @g() { const %c: f32[2] = file(\"w\", 0, 8) return }"),
        "1:14: this text may not refer to data outside itself"
    );
}

#[test]
fn no_prefix_or_mutation_of_a_text_panics() {
    let text = "graph @g(%x: f32[N, 4]) { const %w: t2[2, 4] = hex \"00\" %a = dequantize(%w, _) {k = [1, N, \"s\"]} : f32 from \"q\" return %a as \"\\u{41}\" }";
    for end in 0..=text.len() {
        let _ = parse(&text[..end], &NoReferences);
    }
    for at in 0..text.len() {
        for c in ['%', '"', '(', '9', '\0', '-', '{'] {
            let mut changed: Vec<char> = text.chars().collect();
            changed[at] = c;
            let _ = parse(&changed.into_iter().collect::<String>(), &NoReferences);
        }
    }
}

/// A graph built from random choices: names of every kind, symbolic shapes, constants of every type.
fn build(choices: &[(u8, u8, u32)], names: &[String]) -> Graph {
    let mut graph = Graph::new(names.first().cloned().unwrap_or_default());
    let n = Dim::symbol(names.last().filter(|n| !n.is_empty()).map_or("N", String::as_str));
    let shape = Shape(vec![n.add(&Dim::from(1)).unwrap().floor_div(2).unwrap(), Dim::from(4)]);
    let mut values = vec![graph.add_input("x", TensorType::new(DType::F32, shape))];
    for (i, &(kind, pick, seed)) in choices.iter().enumerate() {
        let name = names.get(i).map(String::as_str).unwrap_or("");
        let v = values[pick as usize % values.len()];
        let op: Op = match kind % 8 {
            0 => ops::Unary(ops::unary::UnaryKind::ALL[pick as usize % ops::unary::UnaryKind::ALL.len()]).into(),
            1 => ops::Transpose { perm: (0..graph.ty(v).shape.rank()).rev().collect() }.into(),
            2 => ops::QuantizeAct { eps: f32::from_bits(seed & 0x7f7f_ffff), ..Default::default() }.into(),
            3 => ops::Reduce { kind: ops::reduce::ReduceKind::Sum, axes: vec![-1], keep: pick & 1 == 0 }.into(),
            4 => {
                let attrs: Attrs = [
                    ("f".to_owned(), Attr::Floats(vec![f32::from_bits(seed), 1.0])),
                    (format!("k{pick}"), Attr::Str(name.to_owned())),
                ]
                .into();
                let attrs = attrs.into_iter().filter(|(_, a)| !matches!(a, Attr::Floats(v) if v[0].is_nan())).collect();
                ops::Custom { domain: name.to_owned(), op: "Op".into(), attrs, results: vec![graph.ty(v).clone()] }
                    .into()
            }
            5 => ops::Cast { to: DType::ALL[pick as usize % DType::ALL.len()] }.into(),
            _ => {
                let dtype = DType::ALL[pick as usize % DType::ALL.len()];
                let tensor = random::tensor(dtype, &[seed as usize % 5, 2], u64::from(seed));
                values.push(if kind & 1 == 0 { graph.add_const(name, tensor) } else { graph.add_param(name, tensor) });
                continue;
            }
        };
        if let Ok(outputs) = graph.add_nodes(&[name], op, &[Some(v)]) {
            let producer = graph.producer_id(outputs[0]).unwrap();
            *graph.origin_mut(producer) = names.iter().take(pick as usize % 3).cloned().collect::<Origin>();
            values.extend(outputs);
        }
    }
    for (i, &v) in values.iter().rev().take(3).enumerate() {
        graph.add_output(format!("out{i}"), v);
    }
    graph.compact();
    graph
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_are_inverse(
        choices in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>()), 0..24),
        names in prop::collection::vec("[^\0]{0,6}|[0-9]{1,3}|[a-z/:.]{1,8}", 0..24),
    ) {
        let graph = build(&choices, &names);
        let text = full(&graph);
        let again = parse(&text, &NoReferences).map_err(|e| TestCaseError::fail(format!("{e:?}\n{text}")))?;
        prop_assert_eq!(&full(&again), &text);
        prop_assert_eq!(again.nodes().map(|(_, n)| n).collect::<Vec<_>>(), graph.nodes().map(|(_, n)| n).collect::<Vec<_>>());
        prop_assert_eq!(again.values().map(|(_, v)| v).collect::<Vec<_>>(), graph.values().map(|(_, v)| v).collect::<Vec<_>>());
        let faults = bitc_ir::verify::verify(&graph, bitc_ir::Facts::CANONICAL);
        prop_assert!(faults.is_ok(), "{:?}\n{}", faults, text);
    }
}

#[test]
fn a_netlist_is_written_inside_the_operation_that_runs_it() {
    let text = r#"graph @logic(%x: f32[N, 2]) {
  const %t: f32[2, 1] = dense [0.5, 0.25]
  const %c: i32[1, 2] = dense [0, 1]
  const %tables: bool[1, 4] = dense [0, 1, 1, 0]
  %bits = thermometer(%x, %t) : bool[N, 2]
  %a = lut(%bits, %c, %tables) : bool[N, 1]
  %b = logic_net(%bits) {net = netlist """
netlist {
  inputs 2
  %2 = 6(%0, %1)
  %3 = 8(%0, %2)
  outputs %2, %3
}
"""} : bool[N, 2]
  %y = group_sum(%b) {groups = 1, tau = 2.0} : f32[N, 1]
  return %a, %y
}
"#;
    let graph = parse(text, &NoReferences).unwrap();
    assert_eq!(full(&graph), text);
    let x = Tensor::new(&[3, 2], &[0.6f32, 0.2, 0.6, 0.3, 0.5, 0.3]);
    let outputs = bitc_ir::eval::eval(&graph, &[x]).unwrap();
    assert_eq!(outputs[0].to_vec::<u8>().unwrap(), [1, 0, 1]);
    assert_eq!(outputs[1].to_vec::<f32>().unwrap(), [1.0, 0.0, 0.5]);
    let broken = text.replace("outputs %2, %3", "outputs %9");
    assert!(faults(&broken)[0].contains("netlist, line"), "{:?}", faults(&broken));
}

#[test]
fn large_constants_are_elided_for_people_only() {
    let mut graph = Graph::new("g");
    let c = graph.add_const("c", Tensor::new(&[100], &(0..100).map(|v| v as f32).collect::<Vec<_>>()));
    graph.add_output("c", c);
    assert!(bitc_ir::text::print(&graph).contains("const %c: f32[100] = elided(sha = "));
    assert!(parse(&full(&graph), &NoReferences).is_ok());
}

#[test]
fn attributes_can_be_read_alone() {
    let attrs = parse_attrs("{tolerance = 1e-5, weight_only = true, dims = [2, N]}").unwrap();
    assert_eq!(attrs["tolerance"], Attr::Float(1e-5));
    assert_eq!(attrs["weight_only"], Attr::Bool(true));
    assert_eq!(attrs["dims"], Attr::Shape(Shape(vec![Dim::from(2), Dim::symbol("N")])));
    assert_eq!(parse_attrs("{}").unwrap(), Attrs::new());
    let faults = |text: &str| parse_attrs(text).unwrap_err()[0].to_string();
    assert_eq!(faults("{a = 1} b"), "1:9: expected the end of the text, found `b`");
    assert_eq!(faults("{a = 1, a = 2}"), "1:9: attribute `a` is given twice");
}
