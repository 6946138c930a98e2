//! Layers whose results are quantised with a fixed step: one instruction that stores integers.

use crate::harness::{EXACT, check, check_special, graph, lowered};

const SIZES: &[usize] = &[0, 1, 2, 15];

fn instructions(text: &str) -> Vec<&'static str> {
    lowered(&graph(text)).program.code.iter().map(|i| i.inst.name()).collect()
}

/// Two layers with something in between; the scale of the first ones' activations is measured per row.
fn two_layers(k: usize, n: usize, act: &str, between: &str, attrs: &str) -> String {
    format!(
        "graph @g(%x: f32[N, {k}]) {{
          const %w: t2[{n}, {k}] = random(seed = 3) const %s: f32[{n}] = random(seed = 4)
          const %b: f32[{n}] = random(seed = 5) const %v: t2[7, {n}] = random(seed = 6)
          const %c: f32 = dense [0.037] const %k: f32 = dense [11.0] const %one: f32[1, 1] = dense [0.037]
          %q, %qs = quantize_act(%x)
          %y = bit_linear(%q, %qs, %w, %s, %b) {{act = \"{act}\"}}
          {between}
          %p, %ps = quantize_act(%z) {{form = \"integer\"{attrs}}}
          %r = bit_linear(%p, %one, %v, %c)
          return %r
        }}"
    )
}

const BETWEEN: &[&str] = &[
    "%z = div(%y, %c)",
    "%z = mul(%c, %y)",
    "%d = div(%y, %c) %r0 = round(%d) %z = sub(%r0, %k)",
    "%d = mul(%y, %c) %r0 = round(%d) %z = add(%k, %r0)",
    "%r0 = round(%y) %z = add(%r0, %k)",
    "%d = div(%y, %c) %z = round(%d)",
];

#[test]
fn a_layer_and_the_quantiser_behind_it_are_one_instruction() {
    for (i, between) in BETWEEN.iter().enumerate() {
        for (k, n) in [(3, 5), (64, 64), (65, 63), (100, 130)] {
            let attrs = [", low = -8, high = 7", ""][i % 2];
            for act in ["none", "relu", "gelu"] {
                let text = two_layers(k, n, act, between, attrs);
                assert_eq!(instructions(&text), ["quantize", "bit_linear_quantize", "bit_linear"], "{text}");
                check(&text, SIZES, EXACT);
            }
        }
        check_special(&two_layers(6, 70, "none", between, ""), EXACT);
    }
    // Nothing between the two.
    let bare = two_layers(6, 70, "relu", "", "").replace("%z", "%y");
    assert_eq!(instructions(&bare), ["quantize", "bit_linear_quantize", "bit_linear"]);
    check(&bare, SIZES, EXACT);
}

#[test]
fn values_that_something_else_reads_stay_floats() {
    for (between, more) in [
        ("%z = div(%y, %c)", "%o = neg(%y)"),
        ("%z = div(%y, %c)", "%o = neg(%z)"),
        ("%d = div(%y, %c) %z = sub(%d, %k)", "%o = neg(%x)"),
        ("%z = div(%c, %y)", "%o = neg(%x)"),
        ("%d = round(%y) %z = sub(%k, %d)", "%o = neg(%x)"),
        ("%d = mul(%y, %c) %z = mul(%d, %c)", "%o = neg(%x)"),
        ("%d = sigmoid(%y) %z = mul(%d, %c)", "%o = neg(%x)"),
    ] {
        let text = two_layers(6, 70, "relu", between, "").replace("return %r", &format!("{more} return %r, %o"));
        assert!(!instructions(&text).contains(&"bit_linear_quantize"), "{text}");
        check(&text, SIZES, EXACT);
    }
    let measured = two_layers(6, 70, "relu", "%z = div(%y, %c)", "").replace("integer", "divide");
    assert!(!instructions(&measured).contains(&"bit_linear_quantize"));
}

#[test]
fn integers_that_are_returned_or_reshaped_are_stored_as_they_are() {
    let returned = "graph @g(%x: f32[N, 2, 6]) {
      const %w: t2[70, 6] = random(seed = 3) const %s: f32 = dense [0.5] const %c: f32 = dense [0.037]
      %q, %qs = quantize_act(%x) %y = bit_linear(%q, %qs, %w, %s) %z = div(%y, %c) {SHAPE}
      %p, %ps = quantize_act(%f) {form = \"integer\"} return %p }";
    for shape in ["%f = reshape(%z) {shape = [N, 140]}", "%f = reshape(%z) {shape = [2*N, 70]}"] {
        let text = returned.replace("{SHAPE}", shape);
        assert_eq!(instructions(&text), ["quantize", "bit_linear_quantize"]);
        check(&text, SIZES, EXACT);
        // Rows of the next layer are rows of this one or they are not.
        let next = text
            .replace("return %p", "const %v: t2[3, 70] = random(seed = 8) %r = bit_linear(%p, %ps, %v, %s) return %r");
        if shape.contains("70") {
            assert_eq!(instructions(&next), ["quantize", "bit_linear_quantize", "bit_linear"]);
            check(&next, SIZES, EXACT);
        } else {
            let next = next.replace("t2[3, 70]", "t2[3, 140]");
            assert!(!instructions(&next).contains(&"bit_linear_quantize"));
            check(&next, SIZES, EXACT);
        }
    }
}

#[test]
fn a_convolution_stores_integers_as_well() {
    for (groups, over, pads) in [(1, "sample", 1), (2, "tensor", 0), (1, "channel", 1)] {
        let text = format!(
            "graph @g(%x: f32[N, 4, 9, 11]) {{
              const %w: t2[6, {}, 3, 2] = random(seed = 9) const %s: f32[6] = random(seed = 4)
              const %b: f32[6] = random(seed = 5) const %v: i8[3, 6, 2, 2] = random(seed = 6)
              const %c: f32 = dense [0.5] const %k: f32 = dense [-7.0]
              %q, %qs = quantize_act(%x) {{over = \"{over}\"}}
              %y = bit_conv2d(%q, %qs, %w, %s, %b) {{groups = {groups}, pads = [{pads}, 1, 1, 1], act = \"relu\"}}
              %d = mul(%y, %c) %r = round(%d) %z = add(%r, %k)
              %p, %ps = quantize_act(%z) {{form = \"integer\", high = 100}}
              %t = bit_conv2d(%p, %ps, %v, %c) return %t }}",
            4 / groups
        );
        assert_eq!(instructions(&text), ["quantize", "bit_conv2d_quantize", "bit_conv2d"]);
        check(&text, SIZES, EXACT);
    }
}

#[test]
fn integers_go_through_pools_and_into_rows() {
    let text = "graph @g(%x: f32[N, 3, 9, 11]) {
      const %w: t2[6, 3, 3, 2] = random(seed = 9) const %s: f32[6] = random(seed = 4)
      const %v: t2[7, 120] = random(seed = 6) const %c: f32 = dense [0.5]
      %q, %qs = quantize_act(%x) {over = \"sample\"}
      %y = bit_conv2d(%q, %qs, %w, %s) {act = \"relu\", pads = [1, 0, 1, 1]}
      %z = div(%y, %c) %p, %ps = quantize_act(%z) {form = \"integer\", high = 100}
      %m = max_pool2d(%p) {kernel = [2, 2], strides = [2, 2]} %f = reshape(%m) {shape = [N, 120]}
      const %one: f32[1, 1] = dense [0.5]
      %t = bit_linear(%f, %one, %v, %c) return %t }";
    assert_eq!(instructions(text), ["quantize", "bit_conv2d_quantize", "pool2d", "quantize", "bit_linear"]);
    check(text, SIZES, EXACT);
    // Without a pool the rows are made of the integers as well.
    let flat = text.replace(
        "%m = max_pool2d(%p) {kernel = [2, 2], strides = [2, 2]} %f = reshape(%m) {shape = [N, 120]}",
        "%f = reshape(%p) {shape = [N, 594]}",
    );
    let flat = flat.replace("t2[7, 120]", "t2[7, 594]");
    assert_eq!(instructions(&flat), ["quantize", "bit_conv2d_quantize", "quantize", "bit_linear"]);
    check(&flat, SIZES, EXACT);
}
