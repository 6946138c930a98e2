//! Operators that become several operations: their values, by hand.

use bitc_ir::Tensor;

use crate::builder::{attr_f, attr_i, attr_ints, attr_s, floats, ints, node, run_node};

fn close(y: &Tensor, dims: &[usize], expect: &[f64]) {
    assert_eq!(y.dims(), dims);
    for (a, b) in y.to_f64().iter().zip(expect) {
        assert!((a - b).abs() <= 1e-5, "{:?} instead of {expect:?}", y.to_f64());
    }
}

fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(dims, values)
}

#[test]
fn transposed_convolutions_spread_their_input() {
    let x = f32s(&[1, 1, 2], &[1.0, 2.0]);
    let conv = |attrs| {
        let w = vec![floats("w", &[1, 1, 2], &[1.0, 10.0])];
        run_node(11, node("y = ConvTranspose(x0, w)", attrs), w, std::slice::from_ref(&x)).remove(0)
    };
    close(&conv(vec![]), &[1, 1, 3], &[1.0, 12.0, 20.0]);
    close(&conv(vec![attr_ints("strides", &[2])]), &[1, 1, 4], &[1.0, 10.0, 2.0, 20.0]);
    close(&conv(vec![attr_ints("strides", &[2]), attr_ints("pads", &[1, 1])]), &[1, 1, 2], &[10.0, 2.0]);
    let padded = vec![attr_ints("strides", &[3]), attr_ints("output_padding", &[1])];
    close(&conv(padded), &[1, 1, 6], &[1.0, 10.0, 0.0, 2.0, 20.0, 0.0]);
    close(&conv(vec![attr_ints("output_shape", &[2])]), &[1, 1, 2], &[12.0, 20.0]);
    close(&conv(vec![attr_ints("dilations", &[2])]), &[1, 1, 4], &[1.0, 2.0, 10.0, 20.0]);
}

#[test]
fn transposed_convolutions_keep_groups_apart() {
    let x = f32s(&[1, 2, 1, 1], &[1.0, 2.0]);
    let w = vec![floats("w", &[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0])];
    let y = run_node(11, node("y = ConvTranspose(x0, w)", vec![attr_i("group", 2)]), w, &[x]);
    close(&y[0], &[1, 4, 1, 1], &[1.0, 2.0, 6.0, 8.0]);
}

#[test]
fn windows_over_three_axes_go_plane_by_plane() {
    let x = f32s(&[1, 1, 3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let w = vec![floats("w", &[1, 1, 2, 1, 2], &[1.0, 1.0, 10.0, 10.0]), floats("b", &[1], &[0.5])];
    let y = run_node(11, node("y = Conv(x0, w, b)", vec![]), w, std::slice::from_ref(&x));
    close(&y[0], &[1, 1, 2, 1, 1], &[73.5, 117.5]);
    let window = || vec![attr_ints("kernel_shape", &[2, 1, 2])];
    let y = run_node(11, node("y = MaxPool(x0)", window()), vec![], std::slice::from_ref(&x));
    close(&y[0], &[1, 1, 2, 1, 1], &[4.0, 6.0]);
    let y = run_node(11, node("y = AveragePool(x0)", window()), vec![], &[x]);
    close(&y[0], &[1, 1, 2, 1, 1], &[2.5, 4.5]);
}

#[test]
fn losses_weigh_and_ignore_classes() {
    let logs = f32s(&[2, 2], &[-1.0, -2.0, -3.0, -4.0]);
    let loss = |call: &str, attrs| {
        let constants = vec![ints("t", &[0, 1]), floats("w", &[2], &[1.0, 3.0])];
        run_node(
            13,
            node(&format!("y = NegativeLogLikelihoodLoss({call})"), attrs),
            constants,
            std::slice::from_ref(&logs),
        )
        .remove(0)
    };
    close(&loss("x0, t", vec![]), &[], &[2.5]);
    close(&loss("x0, t, w", vec![]), &[], &[(1.0 + 12.0) / 4.0]);
    close(&loss("x0, t", vec![attr_i("ignore_index", 1)]), &[], &[1.0]);
    close(&loss("x0, t, w", vec![attr_s("reduction", "none")]), &[2], &[1.0, 12.0]);
    let scores = f32s(&[1, 2], &[0.0, 0.0]);
    let call = node("y, p = SoftmaxCrossEntropyLoss(x0, t)", vec![attr_s("reduction", "sum")]);
    let y = run_node(13, call, vec![ints("t", &[1])], &[scores]);
    close(&y[0], &[], &[std::f64::consts::LN_2]);
    close(&y[1], &[1, 2], &[-std::f64::consts::LN_2; 2]);
}

#[test]
fn attention_weighs_values() {
    let zeros = f32s(&[1, 2, 2, 1], &[0.0; 4]);
    // One head of values for two heads of queries.
    let values = f32s(&[1, 1, 2, 1], &[2.0, 4.0]);
    let keys = f32s(&[1, 1, 2, 1], &[0.0; 2]);
    let run = |call: &str, attrs, constants| {
        run_node(23, node(call, attrs), constants, &[zeros.clone(), keys.clone(), values.clone()]).remove(0)
    };
    close(&run("y = Attention(x0, x1, x2)", vec![], vec![]), &[1, 2, 2, 1], &[3.0; 4]);
    close(
        &run("y = Attention(x0, x1, x2)", vec![attr_i("is_causal", 1)], vec![]),
        &[1, 2, 2, 1],
        &[2.0, 3.0, 2.0, 3.0],
    );
    let blind = floats("m", &[2, 2], &[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    close(&run("y = Attention(x0, x1, x2, m)", vec![], vec![blind]), &[1, 2, 2, 1], &[2.0, 0.0, 2.0, 0.0]);
}

#[test]
fn rotary_embedding_turns_pairs() {
    let x = f32s(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let turn = |attrs| {
        let quarter = vec![floats("c", &[1, 1, 2], &[0.0; 2]), floats("s", &[1, 1, 2], &[1.0; 2])];
        run_node(23, node("y = RotaryEmbedding(x0, c, s)", attrs), quarter, std::slice::from_ref(&x)).remove(0)
    };
    close(&turn(vec![]), &[1, 1, 1, 4], &[-3.0, -4.0, 1.0, 2.0]);
    close(&turn(vec![attr_i("interleaved", 1)]), &[1, 1, 1, 4], &[-2.0, 1.0, -4.0, 3.0]);
    let part = vec![attr_i("rotary_embedding_dim", 2)];
    close(&turn(part), &[1, 1, 1, 4], &[-2.0, 1.0, 3.0, 4.0]);
}

#[test]
fn resizing_takes_nearest_or_weighted_positions() {
    let x = f32s(&[1, 2], &[1.0, 3.0]);
    let resize = |attrs, scale: f32| {
        let scales = vec![floats("s", &[2], &[1.0, scale])];
        run_node(13, node("y = Resize(x0, , s)", attrs), scales, std::slice::from_ref(&x)).remove(0)
    };
    close(&resize(vec![], 2.0), &[1, 4], &[1.0, 1.0, 3.0, 3.0]);
    close(&resize(vec![attr_s("mode", "linear")], 2.0), &[1, 4], &[1.0, 1.5, 2.5, 3.0]);
    let corners = || vec![attr_s("mode", "linear"), attr_s("coordinate_transformation_mode", "align_corners")];
    close(&resize(corners(), 1.5), &[1, 3], &[1.0, 2.0, 3.0]);
    let cubic = vec![attr_s("mode", "cubic"), attr_f("cubic_coeff_a", -0.5)];
    close(&resize(cubic, 1.0), &[1, 2], &[1.0, 3.0]);
    let sizes = vec![ints("n", &[1, 3])];
    let y = run_node(13, node("y = Resize(x0, , , n)", corners()), sizes, std::slice::from_ref(&x));
    close(&y[0], &[1, 3], &[1.0, 2.0, 3.0]);
    let shrink = vec![attr_s("mode", "linear"), attr_i("antialias", 1)];
    close(&resize(shrink, 0.5), &[1, 1], &[2.0]);
}
