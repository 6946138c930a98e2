//! The network the figures are about: 784-512-512-10 with ternary weights.

use bitc_format::Artifact;
use bitc_ir::ops::QuantizeAct;
use bitc_ir::ops::activation::Activation;
use bitc_ir::ops::bit_linear::BitLinear;
use bitc_ir::{DType, Dim, Graph, Origin, TensorType, random};
use bitc_runtime::{Limits, Program};

use crate::harness::{bytes_of, compare, lowered};

fn network() -> Graph {
    let mut graph = Graph::new("bit_mlp");
    let mut x = graph.add_input("x", TensorType::new(DType::F32, vec![Dim::symbol("N"), Dim::from(784)]));
    let sizes = [784, 512, 512, 10];
    for (i, pair) in sizes.windows(2).enumerate() {
        let (k, n) = (pair[0], pair[1]);
        let w = graph.add_const(&format!("fc{i}.weight"), random::tensor(DType::T2, &[n, k], 10 + i as u64));
        let s = graph.add_const(&format!("fc{i}.scale"), bitc_ir::Tensor::scalar(0.0361f32));
        let b = graph.add_const(&format!("fc{i}.bias"), random::tensor(DType::F32, &[n], 20 + i as u64));
        let q = graph.add_nodes(&[], QuantizeAct::default(), &[Some(x)]).unwrap();
        let act = if i == 2 { Activation::None } else { Activation::Relu };
        let inputs = [Some(q[0]), Some(q[1]), Some(w), Some(s), Some(b)];
        x = graph.add_node(&format!("fc{i}"), BitLinear { act, group: 0 }, &inputs).unwrap();
        let node = graph.producer_id(x).unwrap();
        graph.merge_origin(node, &Origin::of(format!("layers.{i}")));
    }
    graph.add_output("logits", x);
    graph.frozen = true;
    graph
}

#[test]
fn accumulators_and_outputs_equal_the_evaluator_for_every_batch() {
    let graph = network();
    let lowered = lowered(&graph);
    let program = Program::from_bytes(&bytes_of(&lowered), &Limits::default()).unwrap();
    for n in [0, 1, 2, 7, 64, 1000] {
        let x = random::tensor(DType::F32, &[n, 784], 99 + n as u64);
        // Nothing but quantisers and exact sums: the outputs have the bits of the evaluator.
        compare(&lowered, &program, &[x], crate::harness::EXACT, &format!("batch {n}"));
    }
}

#[test]
fn the_artifact_takes_little_more_than_two_bits_per_weight() {
    let bytes = bytes_of(&lowered(&network()));
    let weights = 784 * 512 + 512 * 512 + 512 * 10;
    let limit = weights as f64 * 2.1 / 8.0 + 4096.0;
    let artifact = Artifact::parse(&bytes).unwrap();
    assert!((bytes.len() as f64) <= limit, "{} bytes, {limit} allowed", bytes.len());
    assert!(artifact.ir().is_some());
}
