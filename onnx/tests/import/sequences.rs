//! Operators that become many: recurrent networks, samples of images, convolutions of integers.

use bitc_ir::Tensor;

use crate::builder::{
    attr_i, attr_ints, attr_s, floats, graph, ints, model, node, raw, refusal, run_node, with_constants,
};

/// A network of one unit that adds its input to its state, without activation beyond relu.
fn adder(attrs: Vec<bitc_onnx::proto::AttributeProto>, lengths: bool, x: &Tensor) -> Vec<Tensor> {
    let directions = if attrs.iter().any(|a| a.s.as_ref().is_some_and(|s| &s[..] == b"bidirectional")) { 2 } else { 1 };
    let ones = vec![1.0; directions as usize];
    let mut attrs = attrs;
    attrs.push(bitc_onnx::proto::AttributeProto {
        name: "activations".into(),
        strings: vec!["Relu".into(); directions as usize],
        r#type: 8,
        ..Default::default()
    });
    let text = if lengths { "y, h = RNN(x0, w, r, , l)" } else { "y, h = RNN(x0, w, r)" };
    let mut constants = vec![floats("w", &[directions, 1, 1], &ones), floats("r", &[directions, 1, 1], &ones)];
    if lengths {
        constants.push(raw("l", 6, &[2], &[2, 0, 0, 0, 3, 0, 0, 0]));
    }
    run_node(14, node(text, attrs), constants, std::slice::from_ref(x))
}

#[test]
fn a_recurrent_network_runs_in_both_directions_and_keeps_to_lengths() {
    // Three steps of two samples.
    let x = Tensor::new(&[3, 2, 1], &[1.0f32, 10.0, 2.0, 20.0, 4.0, 40.0]);
    let forward = adder(vec![], false, &x);
    assert_eq!(forward[0].dims(), [3, 1, 2, 1]);
    assert_eq!(forward[0].to_f64(), [1.0, 10.0, 3.0, 30.0, 7.0, 70.0]);
    assert_eq!(forward[1].to_f64(), [7.0, 70.0]);
    let reverse = adder(vec![attr_s("direction", "reverse")], false, &x);
    assert_eq!(reverse[0].to_f64(), [7.0, 70.0, 6.0, 60.0, 4.0, 40.0]);
    let both = adder(vec![attr_s("direction", "bidirectional")], true, &x);
    assert_eq!(both[0].dims(), [3, 2, 2, 1]);
    // The first sample ends after two steps.
    assert_eq!(both[0].to_f64(), [1.0, 10.0, 3.0, 70.0, 3.0, 30.0, 2.0, 60.0, 0.0, 70.0, 0.0, 40.0]);
    assert_eq!(both[1].to_f64(), [3.0, 70.0, 3.0, 70.0]);
    let by_batch =
        adder(vec![attr_i("layout", 1)], false, &Tensor::new(&[2, 3, 1], &[1.0f32, 2.0, 4.0, 10.0, 20.0, 40.0]));
    assert_eq!(by_batch[0].dims(), [2, 3, 1, 1]);
    assert_eq!(by_batch[0].to_f64(), [1.0, 3.0, 7.0, 10.0, 30.0, 70.0]);
}

#[test]
fn a_sequence_of_unknown_length_is_refused() {
    let g = graph(&["x: f32[T, 1, 2]"], vec![node("y, h, c = LSTM(x, w, r)", vec![])], &["y: f32[T, 1, 1, 3]"]);
    let g = with_constants(g, vec![floats("w", &[1, 12, 2], &[0.5; 24]), floats("r", &[1, 12, 3], &[0.5; 36])]);
    let message = refusal(&model(g)).to_string();
    assert!(message.contains("LSTM over a sequence of symbolic length T"), "{message}");
    assert!(message.contains("--dim"), "{message}");
}

#[test]
fn samples_between_elements_are_means() {
    let x = Tensor::new(&[1, 1, 2, 2], &[0.0f32, 2.0, 4.0, 6.0]);
    let grid = floats("g", &[1, 1, 3, 2], &[0.0, 0.0, 1.0, 1.0, 3.0, 0.0]);
    let sample =
        |attrs| run_node(20, node("y = GridSample(x0, g)", attrs), vec![grid.clone()], std::slice::from_ref(&x));
    let aligned = sample(vec![attr_i("align_corners", 1)]);
    assert_eq!(aligned[0].dims(), [1, 1, 1, 3]);
    assert_eq!(aligned[0].to_f64(), [3.0, 6.0, 0.0]);
    let border = sample(vec![attr_i("align_corners", 1), attr_s("padding_mode", "border")]);
    assert_eq!(border[0].to_f64(), [3.0, 6.0, 4.0]);
    let nearest = sample(vec![attr_s("mode", "nearest"), attr_s("padding_mode", "reflection")]);
    assert_eq!(nearest[0].to_f64()[1], 6.0);
}

#[test]
fn integers_are_convolved_exactly() {
    let x = Tensor::new(&[1, 2, 2, 3], &[200u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let w: Vec<u8> = (0..8).map(|v: i8| (v - 4).cast_unsigned()).collect();
    let constants = vec![raw("w", 3, &[2, 1, 2, 2], &w), raw("z", 2, &[1], &[1])];
    let attrs = vec![attr_i("group", 2), attr_ints("pads", &[0, 0, 0, 1])];
    let y = run_node(10, node("y = ConvInteger(x0, w, z)", attrs), constants, &[x]);
    // The windows of each channel, its zero point taken off; padding is zero after that.
    let dot = |a: [i32; 4], w: [i32; 4]| f64::from(a.iter().zip(w).map(|(a, w)| a * w).sum::<i32>());
    let (first, second) = ([-4, -3, -2, -1], [0, 1, 2, 3]);
    let expected = [
        dot([199, 0, 2, 3], first),
        dot([0, 1, 3, 4], first),
        dot([1, 0, 4, 0], first),
        dot([5, 6, 8, 9], second),
        dot([6, 7, 9, 10], second),
        dot([7, 0, 10, 0], second),
    ];
    assert_eq!(y[0].to_f64(), expected);
}

#[test]
fn sums_beyond_the_floats_are_exact_too() {
    // 300 products of 255 * 255 and one of 1 * 1 under one window: 2^24 < 19507501, which no f32 is.
    let mut x = vec![255u8; 301];
    x[300] = 1;
    let mut w = x.clone();
    w[299] = 255;
    let x = Tensor::new(&[1, 301, 1, 1], &x);
    let y = run_node(10, node("y = ConvInteger(x0, w)", vec![]), vec![raw("w", 2, &[1, 301, 1, 1], &w)], &[x]);
    assert_eq!(y[0].to_f64(), [19_507_501.0]);
}

#[test]
fn blocks_are_added_where_they_overlap() {
    let x = Tensor::new(&[1, 2, 3], &[1.0f32, 2.0, 3.0, 10.0, 20.0, 30.0]);
    let constants = vec![ints("i", &[4]), ints("b", &[2])];
    let y = run_node(18, node("y = Col2Im(x0, i, b)", vec![]), constants, &[x]);
    assert_eq!(y[0].dims(), [1, 1, 4]);
    assert_eq!(y[0].to_f64(), [1.0, 12.0, 23.0, 30.0]);
}

#[test]
fn einsum_becomes_products() {
    let x = Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
    let equation = |text: &str, terms: &str, constants: Vec<_>| {
        run_node(
            12,
            node(&format!("y = Einsum({terms})"), vec![attr_s("equation", text)]),
            constants,
            std::slice::from_ref(&x),
        )
    };
    let b = floats("b", &[2, 3], &[1.0, 0.0, 2.0, 0.0, 1.0, 1.0]);
    assert_eq!(equation("ij,jk->ki", "x0, b", vec![b.clone()])[0].to_f64(), [1.0, 3.0, 2.0, 4.0, 4.0, 10.0]);
    assert_eq!(equation("ij->j", "x0", vec![])[0].to_f64(), [4.0, 6.0]);
    assert_eq!(equation("...i, i... -> ...", "x0, x0", vec![])[0].to_f64(), [7.0, 22.0]);
    assert_eq!(equation("ii->i", "x0", vec![])[0].to_f64(), [1.0, 4.0]);
    let c = floats("c", &[3], &[1.0, 2.0, 3.0]);
    assert_eq!(equation("ij,jk,k->i", "x0, b, c", vec![b, c])[0].to_f64(), [17.0, 41.0]);
}

#[test]
fn einsum_without_sums_multiplies_elements() {
    let x = Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
    let c = floats("c", &[2], &[10.0, 100.0]);
    let equation = |text: &str, terms: &str| {
        let node = node(&format!("y = Einsum({terms})"), vec![attr_s("equation", text)]);
        run_node(12, node, vec![c.clone()], std::slice::from_ref(&x))[0].to_f64()
    };
    assert_eq!(equation("n,bn->bn", "c, x0"), [10.0, 200.0, 30.0, 400.0]);
    assert_eq!(equation("bn,n->nb", "x0, c"), [10.0, 30.0, 200.0, 400.0]);
    assert_eq!(equation("b,n->nb", "c, c"), [100.0, 1000.0, 1000.0, 10000.0]);
    assert_eq!(equation("ab,c->bca", "x0, c"), [10.0, 30.0, 100.0, 300.0, 20.0, 40.0, 200.0, 400.0]);
}
