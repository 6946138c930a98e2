//! Elementwise fusion, and seeded random chains of operations.

use std::fmt::Write as _;

use bitc_ir::random::Random;

use crate::harness::{EXACT, PRODUCT, check, graph, lowered};

fn instructions(text: &str) -> Vec<&'static str> {
    lowered(&graph(text)).program.code.iter().map(|i| i.inst.name()).collect()
}

#[test]
fn a_chain_of_one_shape_is_one_instruction() {
    let text = "graph @g(%x: f32[N, 6], %i: i8[N, 6]) {
      const %b: f32[6] = random(seed = 1) const %half: f32 = splat(0.5)
      %a = add(%x, %b) %c = relu(%a) %d = mul(%c, %half) %e = mul(%d, %c)
      %f = cast(%i) {to = \"f32\"} %h = sub(%e, %f) %y = cast(%h) {to = \"bool\"}
      return %y }";
    assert_eq!(instructions(text), ["map"]);
    check(text, &[0, 1, 7], EXACT);
}

#[test]
fn a_value_that_is_returned_or_read_elsewhere_is_stored() {
    let text = "graph @g(%x: f32[N, 6]) {
      %a = neg(%x) %b = relu(%a) %c = abs(%b) %s = reduce_sum(%a) {axes = [1]}
      return %b, %c, %s }";
    assert_eq!(instructions(text), ["map", "map", "map", "reduce"]);
    check(text, &[0, 1, 7], PRODUCT);
}

#[test]
fn what_broadcasting_repeats_is_computed_before() {
    let text = "graph @g(%x: f32[N, 6], %v: f32[6]) { %e = abs(%v) %y = add(%x, %e) return %y }";
    assert_eq!(instructions(text), ["map", "map"]);
    check(text, &[0, 1, 7], EXACT);
}

#[test]
fn what_is_much_larger_than_its_constants_is_left_to_the_runtime() {
    let expand = |rows: u64| {
        format!(
            "graph @g(%x: f32[N, 8]) {{
             const %c: f32[1, 8] = splat(0.5) %big = expand(%c) {{shape = [{rows}, 8]}} return %big, %x }}"
        )
    };
    assert!(instructions(&expand(1 << 31)).contains(&"expand"));
    assert!(!instructions(&expand(1 << 10)).contains(&"expand"));
}

#[test]
fn a_chain_beyond_the_registers_is_cut() {
    let mut text = "graph @g(%x: f32[N, 3]) {\n".to_owned();
    for i in 0..150 {
        let from = if i == 0 { "x".to_owned() } else { format!("v{}", i - 1) };
        let _ = writeln!(text, "const %c{i}: f32[3] = random(seed = {i}) %v{i} = add(%{from}, %c{i})");
    }
    text.push_str("return %v149 }");
    assert!(instructions(&text).len() > 1);
    check(&text, &[0, 2], EXACT);
}

/// A chain of operations, each on one of the values before it.
fn random_chain(seed: u64) -> String {
    let mut rng = Random::new(seed);
    let k = 1 + rng.below(40) as usize;
    let mut text = format!("graph @g(%v0: f32[N, {k}]) {{\n");
    // The values so far and their widths.
    let mut values = vec![("v0".to_owned(), k)];
    for i in 1..=(4 + rng.below(12)) {
        let (x, k) = values[rng.below(values.len() as u64) as usize].clone();
        let same: Vec<_> = values.iter().filter(|v| v.1 == k).cloned().collect();
        let other = &same[rng.below(same.len() as u64) as usize].0;
        let y = format!("v{i}");
        let mut width = k;
        let line = match rng.below(12) {
            0 => format!("%{y} = relu(%{x})"),
            1 => format!("%{y} = add(%{x}, %{other})"),
            2 => format!("%{y} = mul(%{x}, %{other})"),
            3 => format!("%{y} = max(%{x}, %{other})"),
            4 => format!("const %c{i}: f32[{k}] = random(seed = {i}) %{y} = sub(%{x}, %c{i})"),
            5 => {
                width = 1 + rng.below(40) as usize;
                format!(
                    "const %w{i}: t2[{width}, {k}] = random(seed = {i}) const %s{i}: f32 = splat(0.125)
                     %q{i}, %qs{i} = quantize_act(%{x}) %{y} = bit_linear(%q{i}, %qs{i}, %w{i}, %s{i}, _)"
                )
            }
            6 => format!("%q{i}, %qs{i} = quantize_act(%{x}) {{over = \"tensor\"}} %{y} = dequantize(%q{i}, %qs{i})"),
            7 => {
                width = 2 * k;
                format!("%{y} = concat(%{x}, %{other}) {{axis = 1}}")
            }
            8 => format!("%t{i} = transpose(%{x}) {{perm = [1, 0]}} %{y} = transpose(%t{i}) {{perm = [1, 0]}}"),
            9 => format!("%r{i} = reshape(%{x}) {{shape = [{k}*N]}} %{y} = reshape(%r{i}) {{shape = [N, {k}]}}"),
            10 => format!("%b{i} = greater(%{x}, %{other}) %{y} = where(%b{i}, %{other}, %{x})"),
            _ => format!("%{y} = reverse(%{x}) {{axes = [1]}}"),
        };
        if width > 300 {
            continue;
        }
        let _ = writeln!(text, "{line}");
        values.push((y, width));
    }
    let n_outputs = 1 + rng.below(3) as usize;
    let outputs: Vec<String> = values.iter().rev().take(n_outputs).map(|v| format!("%{}", v.0)).collect();
    let _ = write!(text, "return {} }}", outputs.join(", "));
    text
}

#[test]
fn random_chains_equal_the_evaluator() {
    for seed in 0..150 {
        check(&random_chain(seed), &[0, 1, 2, 7], EXACT);
    }
}

/// A chain of operations on images, each on one of the values before it.
fn random_images(seed: u64) -> String {
    let mut rng = Random::new(seed ^ 0x1_0000);
    let start = [1 + rng.below(5) as usize, 3 + rng.below(6) as usize, 3 + rng.below(6) as usize];
    let mut text = format!("graph @g(%v0: f32[N, {}, {}, {}]) {{\n", start[0], start[1], start[2]);
    let mut values = vec![("v0".to_owned(), start)];
    for i in 1..=(3 + rng.below(8)) {
        let (x, [c, h, w]) = values[rng.below(values.len() as u64) as usize].clone();
        let same: Vec<_> = values.iter().filter(|v| v.1 == [c, h, w]).cloned().collect();
        let other = &same[rng.below(same.len() as u64) as usize].0;
        let y = format!("v{i}");
        let (line, dims) = match rng.below(8) {
            0 | 1 if h > 1 && w > 1 => {
                let out = 1 + rng.below(20) as usize;
                let (over, pad) = (["tensor", "sample"][rng.below(2) as usize], rng.below(2) as usize);
                let line = format!(
                    "const %w{i}: t2[{out}, {c}, 2, 2] = random(seed = {i}) const %s{i}: f32[{out}] = splat(0.125)
                     %q{i}, %qs{i} = quantize_act(%{x}) {{over = \"{over}\"}}
                     %{y} = bit_conv2d(%q{i}, %qs{i}, %w{i}, %s{i}) {{pads = [{pad}, 0, {pad}, 0], act = \"relu\"}}"
                );
                (line, [out, h - 1 + 2 * pad, w - 1])
            }
            2 if h > 1 && w > 1 => (format!("%{y} = max_pool2d(%{x}) {{kernel = [2, 2]}}"), [c, h - 1, w - 1]),
            3 => (format!("%{y} = add(%{x}, %{other})"), [c, h, w]),
            4 => (format!("%{y} = concat(%{x}, %{other}) {{axis = 1}}"), [2 * c, h, w]),
            5 => (format!("%{y} = transpose(%{x}) {{perm = [0, 1, 3, 2]}}"), [c, w, h]),
            6 => (format!("const %b{i}: f32[{c}, 1, 1] = random(seed = {i}) %{y} = mul(%{x}, %b{i})"), [c, h, w]),
            _ => (format!("%{y} = relu(%{x})"), [c, h, w]),
        };
        if dims[0] > 40 {
            continue;
        }
        let _ = writeln!(text, "{line}");
        values.push((y, dims));
    }
    let (last, [c, h, w]) = values.last().cloned().expect("there is an input");
    let k = c * h * w;
    let _ = write!(
        text,
        "%flat = flatten(%{last}) const %w: t2[5, {k}] = random(seed = 1) const %s: f32 = splat(0.25)
         %q, %qs = quantize_act(%flat) {{over = \"tensor\"}} %y = bit_linear(%q, %qs, %w, %s, _) return %y, %{last} }}"
    );
    text
}

#[test]
fn random_chains_on_images_equal_the_evaluator() {
    for seed in 0..60 {
        check(&random_images(seed), &[0, 1, 3], EXACT);
    }
}
