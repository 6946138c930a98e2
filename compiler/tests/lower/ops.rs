//! Operations without weights, one by one.

use crate::harness::{EXACT, FUNCTION, PRODUCT, check, check_special};

const SIZES: &[usize] = &[0, 1, 2, 7];

/// Functions of one input that are computed by one correctly rounded step, or without rounding.
const EXACT_UNARY: &[&str] = &["relu", "relu2", "sqrt", "reciprocal", "abs", "neg", "sign", "floor", "ceil", "round"];

#[test]
fn functions_of_one_input() {
    for op in EXACT_UNARY {
        check(&format!("graph @g(%x: f32[N, 19]) {{ %y = {op}(%x) return %y }}"), SIZES, EXACT);
    }
    for op in ["gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "erf", "exp", "log", "softplus", "cosh", "sinh"] {
        check(&format!("graph @g(%x: f32[N, 19]) {{ %y = {op}(%x) return %y }}"), SIZES, FUNCTION);
    }
}

#[test]
fn functions_of_two_inputs_broadcast() {
    for (a, b) in [("[N, 5]", "[N, 5]"), ("[N, 5]", "[5]"), ("[N, 1, 5]", "[3, 1]"), ("[N]", ""), ("[1]", "[N, 2]")] {
        for (op, bound) in
            [("add", EXACT), ("sub", EXACT), ("mul", EXACT), ("div", EXACT), ("max", EXACT), ("min", EXACT)]
        {
            let text = format!("graph @g(%n: f32[N], %a: f32{a}, %b: f32{b}) {{ %y = {op}(%a, %b) return %y }}");
            check(&text, SIZES, bound);
        }
    }
    check("graph @g(%a: f32[N, 5]) { const %b: f32 = splat(2.0) %y = pow(%a, %b) return %y }", SIZES, FUNCTION);
}

#[test]
fn narrow_floats_are_computed_in_single_precision() {
    for dtype in ["f16", "bf16"] {
        for op in ["add", "sub", "mul", "div", "max"] {
            let text = format!("graph @g(%a: {dtype}[N, 5], %b: {dtype}[5]) {{ %y = {op}(%a, %b) return %y }}");
            check(&text, SIZES, EXACT);
        }
        let text = format!(
            "graph @g(%a: {dtype}[N, 5]) {{ %y = tanh(%a) %z = softmax(%a) %s = reduce_sum(%a) {{axes = [1]}} return %y, %z, %s }}"
        );
        check(&text, SIZES, FUNCTION);
    }
}

#[test]
fn narrow_integers_wrap() {
    for dtype in ["i8", "u8", "i16", "u16"] {
        for op in ["add", "sub", "max", "min"] {
            let text = format!("graph @g(%a: {dtype}[N, 50], %b: {dtype}[50]) {{ %y = {op}(%a, %b) return %y }}");
            check(&text, SIZES, EXACT);
        }
    }
    check("graph @g(%a: i8[N, 50], %b: i8[50]) { %y = mul(%a, %b) %z = neg(%y) return %y, %z }", SIZES, EXACT);
}

#[test]
fn comparisons_choices_and_bounds() {
    for dtype in ["f32", "i8", "f16"] {
        for op in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"] {
            let text = format!("graph @g(%a: {dtype}[N, 9], %b: {dtype}[9]) {{ %y = {op}(%a, %b) return %y }}");
            check(&text, SIZES, EXACT);
        }
    }
    check(
        "graph @g(%a: f32[N, 9], %b: f32[9], %c: bool[N, 1], %d: bool[9], %i: i16[N, 9]) {
          %x = where(%c, %a, %b)
          %and = and(%c, %d) %or = or(%c, %d) %xor = xor(%c, %d)
          %w = where(%and, %or, %xor)
          %j = where(%c, %i, %i)
          return %x, %and, %or, %xor, %w, %j
        }",
        SIZES,
        EXACT,
    );
    check(
        "graph @g(%a: f32[N, 9], %low: f32[1, 1, 1], %i: i8[N, 9]) {
          const %lo: f32 = splat(-0.5) const %hi: f32[1] = dense [0.25] const %ilo: i8 = dense [-20]
          %x = clip(%a, %lo, %hi) %y = clip(%a, _, %hi) %z = clip(%a, %low) %w = clip(%a) %v = clip(%i, %ilo)
          return %x, %y, %z, %w, %v
        }",
        SIZES,
        EXACT,
    );
}

#[test]
fn casts_between_all_types_that_buffers_have() {
    for from in ["bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "bf16", "f32"] {
        for to in ["bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "f16", "bf16", "f32", "f64"] {
            // 1000 times a small float reaches beyond the narrow integers.
            let text = format!("graph @g(%x: {from}[N, 9]) {{ %y = cast(%x) {{to = \"{to}\"}} return %y }}");
            check(&text, &[0, 3], EXACT);
        }
    }
    check(
        "graph @g(%x: f32[N, 9]) { const %k: f32 = splat(100000.0) %m = mul(%x, %k) %y = cast(%m) {to = \"i8\"} return %y }",
        SIZES,
        EXACT,
    );
}

#[test]
fn dequantised_integers_of_every_width() {
    for dtype in ["i8", "u8", "i16", "u16", "i32", "u32"] {
        let text = format!(
            "graph @g(%q: {dtype}[N, 9]) {{ const %s: f32[9] = random(seed = 2) %y = dequantize(%q, %s) return %y }}"
        );
        check(&text, SIZES, EXACT);
    }
}

#[test]
fn dequantised_constants_are_weights_of_float_products() {
    check(
        "graph @g(%x: f32[N, 9]) {
          const %t: t2[4, 9] = random(seed = 2) const %s: f32[4, 1] = random(seed = 3)
          %w = dequantize(%t, %s) %y = linear(%x, %w) return %y }",
        SIZES,
        PRODUCT,
    );
}

#[test]
fn normalisations() {
    check(
        "graph @g(%x: f32[N, 4, 3, 2], %gamma: f32[4]) {
          const %g: f32[4] = random(seed = 1) const %b: f32[4] = random(seed = 2)
          const %m: f32[4] = random(seed = 3) const %v: f32[4] = dense [0.5, 1.0, 2.0, 0.25]
          %y = batch_norm(%x, %g, %b, %m, %v)
          %z = batch_norm(%x, %gamma, %b, %m, %v) {eps = 0.01}
          return %y, %z }",
        SIZES,
        FUNCTION,
    );
    check(
        "graph @g(%x: f32[N, 4, 6]) {
          const %g: f32[6] = random(seed = 1) const %b: f32[6] = random(seed = 2) const %m: f32[4, 6] = random(seed = 3)
          %a = layer_norm(%x, %g, %b) %b2 = layer_norm(%x) %c = layer_norm(%x, %m) {axis = 1}
          %d = rms_norm(%x, %g) %e = rms_norm(%x) {axis = -2} %f = softmax(%x) %h = softmax(%x) {axis = 1}
          %i = log_softmax(%x)
          return %a, %b2, %c, %d, %e, %f, %h, %i }",
        SIZES,
        PRODUCT,
    );
}

#[test]
fn reductions_and_positions() {
    for op in ["reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"] {
        for attrs in ["axes = [1]", "axes = [-1], keep = false", "axes = [1, 2], keep = false", "axes = [2, 1]"] {
            let text = format!("graph @g(%x: f32[N, 4, 6]) {{ %y = {op}(%x) {{{attrs}}} return %y }}");
            check(&text, SIZES, PRODUCT);
        }
        check(&format!("graph @g(%x: f32[N, 4]) {{ %y = {op}(%x) return %y }}"), &[1, 2, 7], PRODUCT);
    }
    for op in ["argmax", "argmin"] {
        for attrs in ["", "{axis = 1}", "{keep = true, last = true}"] {
            check(&format!("graph @g(%x: f32[N, 4, 6]) {{ %y = {op}(%x) {attrs} return %y }}"), SIZES, EXACT);
            check(&format!("graph @g(%x: i8[N, 4, 6]) {{ %y = {op}(%x) {attrs} return %y }}"), SIZES, EXACT);
        }
    }
}

#[test]
fn moves() {
    for dtype in ["f32", "i8", "i64", "bool", "f16"] {
        check(
            &format!(
                "graph @g(%x: {dtype}[N, 3, 4], %z: {dtype}[N, 1, 4], %i: i32[2]) {{
                  %a = transpose(%x) {{perm = [2, 0, 1]}}
                  %b = reshape(%x) {{shape = [3*N, 4]}}
                  %c = flatten(%x)
                  %d = concat(%x, %z, %x) {{axis = 1}}
                  %e = expand(%z) {{shape = [2, N, 3, 4]}}
                  %f = slice(%x) {{axes = [1, 2], starts = [1, 0], ends = [3, 4], steps = [1, 3]}}
                  %g = reverse(%x) {{axes = [0, 2]}}
                  return %a, %b, %c, %d, %e, %f, %g
                }}"
            ),
            SIZES,
            EXACT,
        );
    }
    check(
        "graph @g(%x: f32[N, 3, 4], %i: i8[N, 3]) {
          const %v: f32 = splat(0.5) const %k: i8[1] = dense [-3]
          %a = pad(%x, %v) {pads = [1, 0, 2, 0, 1, 3]} %b = pad(%x) {pads = [0, 2, 0, 0, 0, 3], mode = \"reflect\"}
          %c = pad(%x) {pads = [0, 0, 7, 0, 1, 0], mode = \"edge\"} %d = pad(%x) {pads = [0, 1, 4, 0, 3, 0], mode = \"wrap\"}
          %e = pad(%i, %k) {pads = [0, 1, 2, 0]}
          return %a, %b, %c, %d, %e }",
        SIZES,
        EXACT,
    );
    check(
        "graph @g(%x: f32[N, 5, 2]) {
          const %i: i64[3] = dense [4, -5, 2] const %j: i32[2, 1] = dense [1, -1]
          %a = gather(%x, %i) {axis = 1} %b = gather(%x, %j) {axis = -1} return %a, %b }",
        SIZES,
        EXACT,
    );
}

#[test]
fn dimensions_may_be_polynomials_with_quotients() {
    check(
        "graph @g(%x: f32[N, 2, T], %w: f32[T, 3]) {
          %c = concat(%x, %x) {axis = 0} %f = flatten(%c) %y = matmul(%c, %w)
          %h = slice(%c) {axes = [0], starts = [0], ends = [2*N], steps = [3]}
          return %f, %y, %h }",
        &[1, 2, 7],
        PRODUCT,
    );
    check(
        "graph @g(%x: f32[N, 1, H, 5]) {
          const %w: f32[2, 1, 3, 3] = random(seed = 1)
          %y = conv2d(%x, %w) {strides = [2, 1], pads = [1, 0, 1, 0]} %z = relu(%y) return %z }",
        &[3, 7, 8],
        PRODUCT,
    );
}

#[test]
fn fixed_sizes_are_constants() {
    check(
        "graph @g(%x: f32[N, 4, 3]) { %s = shape(%x) {start = 1, end = 3} %y = neg(%x) return %s, %y }",
        SIZES,
        EXACT,
    );
}

#[test]
fn outputs_may_be_inputs_constants_and_each_other() {
    check(
        "graph @g(%x: f32[N, 4], %u: u8[N]) {
          const %c: f32[3] = random(seed = 1)
          %r = reshape(%x) {shape = [2*N, 2]}
          %y = abs(%x)
          %s = reshape(%y) {shape = [4*N]}
          return %x, %x as \"again\", %u, %c, %r, %y, %y as \"twice\", %s
        }",
        SIZES,
        EXACT,
    );
    check("graph @g(%x: f32[N, 4], %unused: f32[2]) { %y = neg(%x) return %y }", SIZES, EXACT);
}

#[test]
fn special_numbers_go_the_way_of_the_evaluator() {
    for op in EXACT_UNARY {
        check_special(&format!("graph @g(%x: f32[N, 19]) {{ %y = {op}(%x) return %y }}"), EXACT);
    }
    for op in ["gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "erf", "exp", "log", "softplus"] {
        check_special(&format!("graph @g(%x: f32[N, 19]) {{ %y = {op}(%x) return %y }}"), FUNCTION);
    }
    for op in ["add", "mul", "div", "max", "min"] {
        let text =
            format!("graph @g(%x: f32[N, 19]) {{ %r = reverse(%x) {{axes = [1]}} %y = {op}(%x, %r) return %y }}");
        check_special(&text, EXACT);
    }
    for op in ["argmax", "argmin", "reduce_max", "reduce_min"] {
        check_special(
            &format!(
                "graph @g(%x: f32[N, 19]) {{ %y = {op}(%x) {} return %y }}",
                match op {
                    "argmax" | "argmin" => "",
                    _ => "{axes = [1]}",
                }
            ),
            EXACT,
        );
    }
    for to in ["bool", "i8", "u16", "i32", "f16", "bf16"] {
        check_special(&format!("graph @g(%x: f32[N, 19]) {{ %y = cast(%x) {{to = \"{to}\"}} return %y }}"), EXACT);
    }
    for op in ["softmax", "rms_norm", "layer_norm"] {
        check_special(&format!("graph @g(%x: f32[N, 19]) {{ %y = {op}(%x) return %y }}"), PRODUCT);
    }
}

#[test]
fn special_numbers_are_quantised_like_by_the_evaluator() {
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
        ] {
            let text = format!(
                "graph @g(%x: f32[N, 19]) {{ %q, %s = quantize_act(%x) {{over = \"{over}\", {quantise}}} return %q, %s }}"
            );
            check_special(&text, EXACT);
        }
    }
}
