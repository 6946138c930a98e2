//! Layers with weights: the first things a network is made of.

use bitc::backend::artifact;
use bitc::lower::{Target, lower};
use bitc_ir::DType;
use bitc_ir::random::{self, Random};
use bitc_ir::text::{PrintOptions, print_with};
use bitc_runtime::{Limits, Program};

use crate::harness::{EXACT, FUNCTION, PRODUCT, check, compare, graph, lowered};

const SIZES: &[usize] = &[0, 1, 2, 7];

fn bit_linear(k: usize, n: usize, quantise: &str, scale: &str, act: &str) -> String {
    format!(
        "graph @g(%x: f32[N, {k}]) {{
          const %w: t2[{n}, {k}] = random(seed = 3)
          const %s: f32{scale} = random(seed = 4)
          const %b: f32[{n}] = random(seed = 5)
          %q, %qs = quantize_act(%x) {{{quantise}}}
          %y = bit_linear(%q, %qs, %w, %s, %b) {{act = \"{act}\"}}
          return %y
        }}"
    )
}

#[test]
fn bit_linear_equals_the_evaluator_for_odd_and_even_sizes() {
    for (k, n) in [(1, 1), (3, 5), (16, 16), (17, 15), (63, 33), (64, 64), (65, 10), (130, 100)] {
        check(&bit_linear(k, n, "", "", "none"), SIZES, EXACT);
        check(&bit_linear(k, n, "", &format!("[{n}]"), "relu"), SIZES, EXACT);
    }
}

#[test]
fn eight_bits_take_a_byte_and_equal_the_evaluator() {
    for (k, n) in [(1, 1), (3, 5), (4, 16), (5, 17), (63, 33), (784, 10)] {
        let text = bit_linear(k, n, "", &format!("[{n}]"), "relu").replace("const %w: t2", "const %w: i8");
        check(&text, SIZES, EXACT);
        let program = lowered(&graph(&text)).program;
        assert_eq!((program.layers[0].layout.as_str(), program.layers[0].weights), ("int8", (n * k) as u64));
    }
    for (groups, over) in [(1, "sample"), (2, "tensor"), (1, "channel"), (2, "channel")] {
        let text = format!(
            "graph @g(%x: f32[N, 4, 6, 5]) {{
              const %w: i8[6, {}, 3, 2] = random(seed = 9) const %s: f32[6] = random(seed = 4)
              %q, %qs = quantize_act(%x) {{over = \"{over}\"}}
              %y = bit_conv2d(%q, %qs, %w, %s) {{groups = {groups}, pads = [1, 1, 1, 1]}} return %y }}",
            4 / groups
        );
        check(&text, SIZES, EXACT);
    }
}

#[test]
fn groups_of_inputs_with_scales_equal_the_evaluator() {
    for (k, n, group) in [(5, 3, 2), (32, 17, 16), (100, 33, 32), (784, 10, 64), (7, 3, 9)] {
        for (dtype, layout) in [("t2", "trit2"), ("i8", "int8")] {
            let text = format!(
                "graph @g(%x: f32[N, {k}]) {{
                  const %w: {dtype}[{n}, {k}] = random(seed = 3)
                  const %s: f32[{n}, {}] = random(seed = 4)
                  const %b: f32[{n}] = random(seed = 5)
                  %q, %qs = quantize_act(%x)
                  %y = bit_linear(%q, %qs, %w, %s, %b) {{act = \"relu\", group = {group}}}
                  return %y
                }}",
                usize::div_ceil(k, group)
            );
            check(&text, &[0, 1, 7, 70], EXACT);
            let (graph, lowered) = (graph(&text), lowered(&graph(&text)));
            assert_eq!(lowered.program.layers[0].layout, layout);
            let again = bitc::backend::artifact::read_graph(&crate::harness::bytes_of(&lowered)).unwrap().unwrap();
            assert_eq!(print_with(&again, &PrintOptions::full()), print_with(&graph, &PrintOptions::full()));
        }
    }
    // Without a zero there is one bit per weight, unless zeros fill up the last group.
    for (k, layout) in [(64, "bit1"), (65, "trit2")] {
        let text = format!(
            "graph @g(%x: f32[N, {k}]) {{ const %w: t2[2, {k}] = hex \"{}\" const %s: f32[2, {}] = random(seed = 4)
              %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %w, %s) {{group = 32}} return %y }}",
            binary(2 * k, 1),
            usize::div_ceil(k, 32)
        );
        check(&text, SIZES, EXACT);
        assert_eq!(lowered(&graph(&text)).program.layers[0].layout, layout);
    }
}

#[test]
fn float_activations_meet_weights_in_few_bits() {
    for (k, n) in [(1, 1), (5, 3), (16, 16), (33, 65), (100, 70), (784, 10)] {
        let groups = usize::div_ceil(k, 16);
        for (scale, group) in [
            (String::new(), 0),
            ("[1, 1]".to_owned(), 0),
            (format!("[{n}, 1]"), 0),
            (format!("[1, {k}]"), 0),
            (format!("[{k}]"), 0),
            (format!("[{n}, {groups}]"), 16),
        ] {
            // Long rows of bytes cancel so much that their sums depend on the order.
            for (dtype, layout) in [("t2", "trit2"), ("i8", "int8")].into_iter().take(if k > 5 { 1 } else { 2 }) {
                let text = format!(
                    "graph @g(%x: f32[N, {k}]) {{
                      const %t: {dtype}[{n}, {k}] = random(seed = 3)
                      const %s: f32{scale} = random(seed = 4)
                      const %b: f32[{n}] = random(seed = 5)
                      %w = dequantize(%t, %s) {{group = {group}}}
                      %y = linear(%x, %w, %b) {{act = \"relu\"}}
                      return %y
                    }}"
                );
                check(&text, &[0, 1, 2, 70], PRODUCT);
                let layer = &lowered(&graph(&text)).program.layers[0];
                assert!(layer.layout == layout || (k, n) == (1, 1), "{}", layer.layout);
            }
        }
    }
    // Axes in front, no bias, no zeros; trit5 has no rows to take one after the other.
    let text = format!(
        "graph @g(%x: f32[2, N, 40]) {{ const %t: t2[70, 40] = hex \"{}\" const %s: f32 = splat(0.5)
          %w = dequantize(%t, %s) %y = linear(%x, %w) return %y }}",
        binary(70 * 40, 7)
    );
    check(&text, SIZES, PRODUCT);
    assert_eq!(lowered(&graph(&text)).program.layers[0].layout, "bit1");
    let large = graph(
        "graph @g(%x: f32[N, 4097]) { const %t: t2[4100, 4097] = random(seed = 1) const %s: f32 = splat(0.5)
          %w = dequantize(%t, %s) %y = linear(%x, %w) return %y }",
    );
    assert_eq!(lower(&large, Target::Avx512).unwrap().program.layers[0].layout, "trit2");
}

#[test]
fn extreme_bytes_and_activations_do_not_overflow() {
    // Whatever the largest activation is, it becomes 127 or -128 where the range begins there.
    for (w, x) in [("80", -1), ("80", 1), ("7f", -1), ("7f", 1)] {
        let text = format!(
            "graph @g(%n: f32[N, 2051]) {{
              const %w: i8[3, 2051] = hex \"{}\" const %s: f32 = splat(1) const %v: f32[1, 2051] = splat({x})
              %x = mul(%n, %v) %q, %qs = quantize_act(%x) {{levels = 127, low = -128}}
              %y = bit_linear(%q, %qs, %w, %s) return %y }}",
            w.repeat(3 * 2051)
        );
        check(&text, &[1, 3], EXACT);
    }
}

/// The bytes of `n` random weights without a zero, as hexadecimal digits.
fn binary(n: usize, seed: u64) -> String {
    let mut rng = Random::new(seed);
    (0..n).map(|_| if rng.below(2) == 0 { "01" } else { "ff" }).collect()
}

#[test]
fn binary_weights_take_one_bit_and_equal_the_evaluator() {
    for (k, n) in [(1, 1), (3, 5), (31, 17), (64, 33), (130, 100)] {
        let text = format!(
            "graph @g(%x: f32[N, {k}]) {{
              const %w: t2[{n}, {k}] = hex \"{}\" const %s: f32 = splat(0.5)
              %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %w, %s, _) return %y }}",
            binary(n * k, k as u64)
        );
        check(&text, SIZES, EXACT);
        assert_eq!(lowered(&graph(&text)).program.layers[0].layout, "bit1");
    }
    for groups in [1, 2] {
        let text = format!(
            "graph @g(%x: f32[N, 4, 6, 5]) {{
              const %w: t2[6, {}, 3, 2] = hex \"{}\" const %s: f32 = splat(0.5)
              %q, %qs = quantize_act(%x) {{over = \"tensor\"}}
              %y = bit_conv2d(%q, %qs, %w, %s) {{groups = {groups}, pads = [1, 1, 1, 1]}} return %y }}",
            4 / groups,
            binary(6 * 4 / groups * 6, 5)
        );
        check(&text, SIZES, EXACT);
        let graph = graph(&text);
        let again = bitc::backend::artifact::read_graph(&crate::harness::bytes_of(&lowered(&graph))).unwrap().unwrap();
        assert_eq!(print_with(&again, &PrintOptions::full()), print_with(&graph, &PrintOptions::full()));
    }
}

#[test]
fn large_weights_for_a_named_target_equal_the_evaluator() {
    let text = "graph @g(%x: f32[N, 4097]) {
      const %w: t2[4099, 4097] = random(seed = 3) const %s: f32 = splat(0.5)
      %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %w, %s, _) return %y }";
    let graph = graph(text);
    let lowered = lower(&graph, Target::Avx512).unwrap();
    assert_eq!(lowered.program.layers[0].layout, "trit5");
    let bytes = artifact::write(&lowered, Target::Avx512, false).unwrap().to_bytes();
    let program = Program::from_bytes(&bytes, &Limits::default()).unwrap();
    compare(&lowered, &program, &[random::tensor(DType::F32, &[1, 4097], 5)], EXACT, text);
    let again = artifact::read_graph(&bytes).unwrap().unwrap();
    assert_eq!(
        again.values().map(|(_, v)| &v.def).collect::<Vec<_>>(),
        lowered.graph.values().map(|(_, v)| &v.def).collect::<Vec<_>>()
    );
}

#[test]
fn every_quantiser_equals_the_evaluator() {
    for over in ["row", "tensor", "sample"] {
        for quantise in [
            "form = \"divide\"",
            "floor = \"add\", eps = 0.001",
            "floor = \"clip_scale\", eps = 0.01",
            "floor = \"clip_max\", eps = 2.0",
            "form = \"reciprocal\", floor = \"clip_max\", eps = 0.00001",
            "form = \"reciprocal\"",
            "form = \"quotient\", floor = \"clip_max\", eps = 0.00001",
            "form = \"integer\"",
            "levels = 7, low = -8, high = 7",
            "low = -127",
        ] {
            check(&bit_linear(33, 9, &format!("over = \"{over}\", {quantise}"), "", "none"), SIZES, EXACT);
        }
    }
}

#[test]
fn functions_after_a_product_stay_close() {
    for act in ["relu2", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"] {
        check(&bit_linear(20, 6, "", "", act), SIZES, FUNCTION);
    }
}

#[test]
fn a_shared_quantiser_is_computed_once_for_products_and_once_for_others() {
    let text = "graph @g(%x: f32[N, 3, 20]) {
      const %w: t2[7, 20] = random(seed = 3)
      const %v: t2[5, 20] = random(seed = 6)
      const %s: f32 = splat(0.25)
      %q, %qs = quantize_act(%x)
      %a = bit_linear(%q, %qs, %w, %s, _)
      %b = bit_linear(%q, %qs, %v, %s, _)
      %c = dequantize(%q, %qs)
      return %a, %b, %c, %q, %qs
    }";
    check(text, SIZES, EXACT);
    let lowered = lowered(&graph(text));
    let quantisers = lowered.program.code.iter().filter(|i| i.inst.name() == "quantize").count();
    assert_eq!(quantisers, 2, "one for rows, one for the plain array");
}

#[test]
fn integers_from_elsewhere_reach_a_product() {
    let text = "graph @g(%q: i8[N, 2, 9], %qs: f32[1]) {
      const %w: t2[7, 18] = random(seed = 3)
      const %s: f32 = splat(0.5)
      %flat = flatten(%q)
      %y = bit_linear(%flat, %qs, %w, %s, _)
      %z = bit_linear(%flat, %qs, %w, %s, _) {act = \"relu\"}
      return %y, %z
    }";
    check(text, SIZES, EXACT);
}

#[test]
fn quantised_samples_of_images_reach_convolutions() {
    for (over, groups, window) in [
        ("tensor", 1, "pads = [1, 1, 1, 1]"),
        ("sample", 1, "strides = [2, 1]"),
        ("sample", 2, "dilations = [1, 2], pads = [0, 2, 1, 0]"),
    ] {
        let per_group = 4 / groups;
        check(
            &format!(
                "graph @g(%x: f32[N, 4, 6, 5]) {{
                  const %w: t2[6, {per_group}, 3, 2] = random(seed = 3)
                  const %s: f32[6] = random(seed = 4)
                  const %b: f32[6] = random(seed = 5)
                  %q, %qs = quantize_act(%x) {{over = \"{over}\"}}
                  %y = bit_conv2d(%q, %qs, %w, %s, %b) {{groups = {groups}, {window}, act = \"relu\"}}
                  return %y
                }}"
            ),
            SIZES,
            EXACT,
        );
    }
}

#[test]
fn float_products_stay_within_their_bound() {
    for (k, n) in [(1, 1), (5, 3), (16, 16), (33, 65)] {
        check(
            &format!(
                "graph @g(%x: f32[N, {k}], %v: f32[{k}]) {{
                  const %w: f32[{n}, {k}] = random(seed = 3)
                  const %b: f32[{n}] = random(seed = 5)
                  %y = linear(%x, %w, %b) {{act = \"relu\"}}
                  %z = linear(%v, %w)
                  return %y, %z
                }}"
            ),
            SIZES,
            PRODUCT,
        );
    }
}

#[test]
fn matmul_follows_numpy_for_vectors_and_batches() {
    for (a, b) in [
        ("[N, 4, 5]", "[5, 3]"),
        ("[4, 5]", "[N, 5, 3]"),
        ("[N, 1, 4, 5]", "[1, 2, 5, 3]"),
        ("[5]", "[N, 5, 3]"),
        ("[N, 4, 5]", "[5]"),
        ("[5]", "[5]"),
        ("[5]", "[5, 2]"),
    ] {
        check(
            &format!("graph @g(%n: f32[N], %a: f32{a}, %b: f32{b}) {{ %y = matmul(%a, %b) return %y }}"),
            SIZES,
            PRODUCT,
        );
    }
    check(
        "graph @g(%x: f32[N, 5]) { const %w: f32[5, 3] = random(seed = 1) const %v: f32[5] = random(seed = 2)
          %y = matmul(%x, %w) %z = matmul(%x, %v) return %y, %z }",
        SIZES,
        PRODUCT,
    );
}

#[test]
fn convolutions_and_pools_of_floats() {
    for (groups, window) in
        [(1, ""), (1, "pads = [1, 0, 2, 1]"), (2, "strides = [2, 3]"), (4, "dilations = [2, 1], act = \"relu\"")]
    {
        let per_group = 4 / groups;
        check(
            &format!(
                "graph @g(%x: f32[N, 4, 7, 8]) {{
                  const %w: f32[8, {per_group}, 2, 3] = random(seed = 3)
                  const %b: f32[8] = random(seed = 5)
                  %y = conv2d(%x, %w, %b) {{groups = {groups}{}{window}}}
                  return %y
                }}",
                if window.is_empty() { "" } else { ", " }
            ),
            SIZES,
            PRODUCT,
        );
    }
    for window in [
        "kernel = [2, 2]",
        "kernel = [3, 2], strides = [2, 2], pads = [1, 0, 1, 1]",
        "kernel = [2, 2], strides = [2, 2], ceil = true",
        "kernel = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil = true",
        "kernel = [2, 2], dilations = [2, 3], pads = [2, 1, 0, 3]",
    ] {
        check(
            &format!(
                "graph @g(%x: f32[N, 3, 7, 8]) {{
                  %a = max_pool2d(%x) {{{window}}}
                  %b = avg_pool2d(%x) {{{window}}}
                  %c = avg_pool2d(%x) {{{window}, count_padding = true}}
                  return %a, %b, %c
                }}"
            ),
            SIZES,
            PRODUCT,
        );
    }
}
