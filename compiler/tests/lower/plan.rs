//! The plan of memory, and what an artifact remembers of its graph.

use std::collections::BTreeMap;

use bitc::backend::{self, Options, artifact};
use bitc::lower::{Target, lower};
use bitc::plan::plan;
use bitc_format::inst::Access;
use bitc_format::{Artifact, Operand};
use bitc_ir::random::Random;
use bitc_ir::text::{PrintOptions, print_with};

use crate::harness::{bytes_of, graph, lowered};

const NET: &str = "graph @net(%x: f32[N, 20]) {
  const %w1: t2[33, 20] = random(seed = 1) const %s1: f32[33] = random(seed = 2) const %b1: f32[33] = random(seed = 3)
  const %w2: t2[33, 33] = random(seed = 4) const %s2: f32 = splat(0.5)
  const %w3: f32[4, 33] = random(seed = 5)
  const %g: f32[33] = random(seed = 6) const %m: f32[33] = random(seed = 7)
  %q1, %qs1 = quantize_act(%x)
  %a = bit_linear(%q1, %qs1, %w1, %s1, %b1) {act = \"relu\"} : f32[N, 33] from \"fc1/MatMul\"
  %n = batch_norm(%a, %g, %m, %m, %g)
  %q2, %qs2 = quantize_act(%n) %b = bit_linear(%q2, %qs2, %w2, %s2, _) {act = \"relu\"}
  %q3, %qs3 = quantize_act(%b) %c = bit_linear(%q3, %qs3, %w2, %s2, _) {act = \"relu\"}
  %y = linear(%c, %w3) %z = softmax(%y)
  return %z as \"scores\" }";

#[test]
fn storages_that_share_a_slot_never_meet() {
    for (text, saves) in [(NET, true), ("graph @g(%x: f32[N, 2]) { %y = relu(%x) return %y }", false)] {
        let lowered = lowered(&graph(text));
        let plan = plan(&lowered.program);
        let n_storages = lowered.program.n_storages;
        assert_eq!((plan.n_slots as usize) < n_storages, saves, "{} slots, {n_storages} storages", plan.n_slots);
        let mut spans: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (i, instruction) in lowered.program.code.iter().enumerate() {
            instruction.inst.each(&mut |access| {
                if let Access::Read(Operand::Buffer(id)) | Access::Write(id) = access {
                    let storage = lowered.program.buffers[id.index()].storage;
                    spans.entry(storage).or_insert((i, i)).1 = i;
                }
            });
        }
        for (&a, span_a) in &spans {
            for (&b, span_b) in &spans {
                let shared = a != b && plan.slot_of[a] == plan.slot_of[b];
                assert!(!shared || span_a.1 < span_b.0 || span_b.1 < span_a.0, "storages {a} and {b}");
            }
        }
    }
}

#[test]
fn an_artifact_gives_its_graph_back() {
    let lowered = lowered(&graph(NET));
    let bytes = bytes_of(&lowered);
    let again = artifact::read_graph(&bytes).expect("the text can be read").expect("it was kept");
    let full = |g| print_with(g, &PrintOptions::full());
    assert_eq!(full(&again), full(&lowered.graph));
    // From the graph of an artifact the same artifact is made.
    assert_eq!(bytes_of(&lower(&again, Target::Any).unwrap()), bytes);
    let stripped = artifact::write(&lowered, Target::Any, true).unwrap().to_bytes();
    assert!(artifact::read_graph(&stripped).unwrap().is_none());
}

#[test]
fn packed_weights_of_convolutions_come_back_in_their_order() {
    for (groups, per_group) in [(1, 4), (2, 2)] {
        let text = format!(
            "graph @g(%x: f32[N, 4, 6, 5]) {{
              const %w: t2[6, {per_group}, 3, 2] = random(seed = 3) const %s: f32 = splat(0.5)
              %q, %qs = quantize_act(%x) {{over = \"tensor\"}}
              %y = bit_conv2d(%q, %qs, %w, %s) {{groups = {groups}}} return %y }}"
        );
        let lowered = lowered(&graph(&text));
        let again = artifact::read_graph(&bytes_of(&lowered)).unwrap().unwrap();
        let full = |g| print_with(g, &PrintOptions::full());
        assert_eq!(full(&again), full(&lowered.graph));
    }
}

#[test]
fn the_layer_table_counts_weights_zeros_and_products() {
    let bytes = backend::by_name("bit").unwrap().export(&graph(NET), &Options::default()).unwrap().into_bytes();
    let artifact = Artifact::parse(&bytes).unwrap();
    let meta = artifact.contents().meta().unwrap();
    assert_eq!(meta.target, "any");
    let rows: Vec<_> = meta.layers.iter().map(|l| (l.op.as_str(), l.layout.as_str(), l.weights, l.macs)).collect();
    assert_eq!(
        rows,
        [
            ("bit_linear", "trit2", 660, 660),
            ("bit_linear", "trit2", 1089, 1089),
            ("bit_linear", "trit2", 1089, 1089),
            ("linear", "dense", 132, 132)
        ]
    );
    let first = &meta.layers[0];
    assert_eq!((first.name.as_str(), first.source_bytes, first.packed_bytes), ("fc1/MatMul", 2640, 384 + 132));
    assert!(first.method.starts_with("trained"), "{}", first.method);
    assert_eq!(meta.layers[3].method, "float");
    assert!(first.zeros > 100 && first.zeros < 400);
    assert_eq!(meta.origins.len(), artifact.contents().code().len());
    assert_eq!(meta.origins[1], ["fc1/MatMul"]);
    assert_eq!(artifact.contents().dims().batch().map(|s| s.0), Some(0));
}

#[test]
fn a_layer_is_called_after_its_weights_and_tells_its_method() {
    let text = "graph @g(%x: f32[N, 20]) {
      meta \"method of fc1\" = \"absmean\"
      const %fc1.weight: t2[3, 20] = random(seed = 1) const %s: f32 = splat(0.5)
      %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %fc1.weight, %s, _) : f32[N, 3] from \"act\", \"fc1\"
      return %y }";
    let lowered = lowered(&graph(text));
    let layer = &lowered.program.layers[0];
    assert_eq!(layer.name, "fc1");
    assert!(layer.method.starts_with("absmean, trit2 since"), "{}", layer.method);
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    let mut rng = Random::new(11);
    let first = bytes_of(&lowered(&graph(NET)));
    for _ in 0..3 {
        let _ = rng.bits();
        assert_eq!(bytes_of(&lowered(&graph(NET))), first);
    }
}
