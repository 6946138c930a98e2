//! Operators whose meaning depends on the opset, or that become several operations.

use bitc_ir::{DType, Tensor};

use crate::builder::{
    attr_f, attr_i, attr_ints, attr_s, attr_t, empty, floats, graph, ints, load, model, node, raw, run_node,
    with_constants,
};

fn matrix(rows: usize, columns: usize, values: &[f32]) -> Tensor {
    Tensor::new(&[rows, columns], values)
}

fn close(y: &Tensor, expect: &[f64]) {
    let y = y.to_f64();
    assert_eq!(y.len(), expect.len());
    for (a, b) in y.iter().zip(expect) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{y:?} instead of {expect:?}");
    }
}

#[test]
fn arguments_move_from_attributes_to_inputs() {
    let x = matrix(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let sum = |version, attrs: Vec<_>, inputs: &str, constants| {
        run_node(version, node(&format!("y = ReduceSum(x0{inputs})"), attrs), constants, std::slice::from_ref(&x))
    };
    let old = sum(11, vec![attr_ints("axes", &[1]), attr_i("keepdims", 0)], "", vec![]);
    let new = sum(13, vec![attr_i("keepdims", 0)], ", a", vec![ints("a", &[1])]);
    assert_eq!(old, [Tensor::new(&[2], &[6.0f32, 15.0])]);
    assert_eq!(old, new);
    let clip = run_node(
        6,
        node("y = Clip(x0)", vec![attr_f("min", 2.0), attr_f("max", 5.0)]),
        vec![],
        std::slice::from_ref(&x),
    );
    let bounds = vec![floats("l", &[], &[2.0]), floats("h", &[], &[5.0])];
    assert_eq!(clip, run_node(13, node("y = Clip(x0, l, h)", vec![]), bounds, std::slice::from_ref(&x)));
    let attrs = vec![attr_ints("starts", &[0]), attr_ints("ends", &[-1]), attr_ints("axes", &[1])];
    let slice = run_node(9, node("y = Slice(x0)", attrs), vec![], std::slice::from_ref(&x));
    assert_eq!(slice, [matrix(2, 2, &[1.0, 2.0, 4.0, 5.0])]);
    let at = vec![ints("s", &[0]), ints("e", &[-1]), ints("a", &[1])];
    assert_eq!(slice, run_node(13, node("y = Slice(x0, s, e, a)", vec![]), at, std::slice::from_ref(&x)));
    let squeezed =
        run_node(11, node("y = Unsqueeze(x0)", vec![attr_ints("axes", &[0, 3])]), vec![], std::slice::from_ref(&x));
    assert_eq!(squeezed[0].dims(), [1, 2, 3, 1]);
    let split =
        run_node(11, node("a, b = Split(x0)", vec![attr_i("axis", 1), attr_ints("split", &[1, 2])]), vec![], &[x]);
    assert_eq!(split[1], matrix(2, 2, &[2.0, 3.0, 5.0, 6.0]));
}

#[test]
fn broadcasting_before_opset_7_begins_at_an_axis() {
    let x = Tensor::splat(&[2, 3, 2], 1.0f32);
    let attrs = vec![attr_i("broadcast", 1), attr_i("axis", 1)];
    let y = run_node(6, node("y = Add(x0, b)", attrs), vec![floats("b", &[3], &[10.0, 20.0, 30.0])], &[x]);
    assert_eq!(y[0].to_f64()[..6], [11.0, 11.0, 21.0, 21.0, 31.0, 31.0]);
}

#[test]
fn softmax_before_opset_13_goes_over_all_axes_behind() {
    let x = Tensor::splat(&[1, 2, 2], 0.0f32);
    close(&run_node(11, node("y = Softmax(x0)", vec![]), vec![], std::slice::from_ref(&x))[0], &[0.25; 4]);
    close(&run_node(13, node("y = Softmax(x0)", vec![]), vec![], &[x])[0], &[0.5; 4]);
}

#[test]
fn gemm_scales_transposes_and_adds() {
    let (a, b) = (matrix(2, 2, &[1.0, 2.0, 3.0, 4.0]), floats("b", &[2, 2], &[5.0, 6.0, 7.0, 8.0]));
    let gemm = |attrs, c| run_node(13, node("y = Gemm(x0, b, c)", attrs), vec![b.clone(), c], std::slice::from_ref(&a));
    let bias = || floats("c", &[2], &[1.0, 2.0]);
    close(&gemm(vec![attr_i("transB", 1)], bias())[0], &[18.0, 25.0, 40.0, 55.0]);
    close(&gemm(vec![attr_i("transA", 1), attr_f("alpha", 0.5)], bias())[0], &[14.0, 17.0, 20.0, 24.0]);
    close(&gemm(vec![attr_f("beta", 2.0)], floats("c", &[2, 1], &[1.0, 2.0]))[0], &[21.0, 24.0, 47.0, 54.0]);
}

#[test]
fn slices_run_backwards_and_clamp() {
    let x = Tensor::new(&[5], &[0.0f32, 1.0, 2.0, 3.0, 4.0]);
    let slice = |start: i64, end: i64, step: i64| {
        let at = vec![ints("s", &[start]), ints("e", &[end]), ints("a", &[0]), ints("t", &[step])];
        run_node(13, node("y = Slice(x0, s, e, a, t)", vec![]), at, std::slice::from_ref(&x))[0].to_f64()
    };
    assert_eq!(slice(-1, -100, -2), [4.0, 2.0, 0.0]);
    assert_eq!(slice(3, 0, -1), [3.0, 2.0, 1.0]);
    assert_eq!(slice(i64::MAX, i64::MIN, -1), [4.0, 3.0, 2.0, 1.0, 0.0]);
    assert_eq!(slice(1, 100, 3), [1.0, 4.0]);
    assert_eq!(slice(4, 2, 1), [0.0; 0]);
    assert_eq!(slice(-100, 2, 1), [0.0, 1.0]);
}

#[test]
fn convolutions_and_pools_over_one_axis_pad_by_themselves() {
    let x = Tensor::new(&[1, 1, 4], &[1.0f32, 2.0, 3.0, 4.0]);
    let w = floats("w", &[1, 1, 2], &[1.0, 10.0]);
    let conv = |auto| {
        run_node(13, node("y = Conv(x0, w)", vec![attr_s("auto_pad", auto)]), vec![w.clone()], std::slice::from_ref(&x))
    };
    close(&conv("VALID")[0], &[21.0, 32.0, 43.0]);
    close(&conv("SAME_UPPER")[0], &[21.0, 32.0, 43.0, 4.0]);
    close(&conv("SAME_LOWER")[0], &[10.0, 21.0, 32.0, 43.0]);
    let attrs = vec![attr_ints("kernel_shape", &[2]), attr_ints("strides", &[2])];
    assert_eq!(
        run_node(13, node("y = MaxPool(x0)", attrs.clone()), vec![], std::slice::from_ref(&x))[0].to_f64(),
        [2.0, 4.0]
    );
    assert_eq!(run_node(13, node("y = AveragePool(x0)", attrs), vec![], &[x])[0].to_f64(), [1.5, 3.5]);
}

#[test]
fn quantisers_saturate_per_tensor_channel_and_block() {
    let x = matrix(2, 2, &[1.0, -1000.0, 2.5, 1000.0]);
    let per_tensor = vec![floats("s", &[], &[1.0]), raw("z", 3, &[], &[0])];
    let q = run_node(13, node("y = QuantizeLinear(x0, s, z)", vec![]), per_tensor, std::slice::from_ref(&x));
    assert_eq!(q, [Tensor::new(&[2, 2], &[1i8, -128, 2, 127])]);
    let per_row = vec![floats("s", &[2], &[0.5, 1.0]), raw("z", 2, &[2], &[10, 20])];
    let q = run_node(13, node("y = QuantizeLinear(x0, s, z)", vec![attr_i("axis", 0)]), per_row, &[x]);
    assert_eq!(q, [Tensor::new(&[2, 2], &[12u8, 0, 22, 255])]);
    // Two-bit weights in blocks of two along axis 0: 0, 1, -2, -1 times 2, 2, 3, 3.
    let blocks = vec![raw("q", 26, &[4, 1], &[0b11_10_01_00]), floats("s", &[2, 1], &[2.0, 3.0])];
    let attrs = vec![attr_i("axis", 0), attr_i("block_size", 2)];
    let w = run_node(25, node("y = DequantizeLinear(q, s)", attrs), blocks, &[]);
    close(&w[0], &[0.0, 2.0, -6.0, -3.0]);
}

#[test]
fn integer_products_take_zero_points_off() {
    let a = Tensor::new(&[1, 2], &[3u8, 5]);
    let constants = vec![raw("b", 3, &[2, 1], &[2, 0xff]), raw("z", 2, &[], &[1])];
    let y = run_node(13, node("y = MatMulInteger(x0, b, z)", vec![]), constants, &[a]);
    assert_eq!(y, [Tensor::new(&[1, 1], &[2 * 2 - 4])]);
}

#[test]
fn packed_weights_of_onnxruntime_are_unpacked() {
    // K = 16 codes of 2 bits, zero point 1: the codes 0, 1, 2 are -1, 0, 1.
    let codes: Vec<u8> = (0..4).map(|_| 0b01_10_01_00).collect();
    let constants = vec![raw("b", 2, &[1, 1, 4], &codes), floats("s", &[1], &[0.5]), raw("z", 2, &[1], &[1])];
    let attrs = vec![attr_i("K", 16), attr_i("N", 1), attr_i("bits", 2), attr_i("block_size", 16)];
    let x = Tensor::new(&[1, 16], &(0..16).map(|i| i as f32).collect::<Vec<_>>());
    let y = run_node(13, node("y = com.microsoft::MatMulNBits(x0, b, s, z)", attrs), constants, &[x]);
    // -0 + 2, -4 + 6, ..: four times 2, halved.
    close(&y[0], &[4.0]);
}

#[test]
fn qonnx_quantisers_round_and_clip() {
    let x = Tensor::new(&[4], &[0.3f32, -0.9, 5.0, -5.0]);
    let constants = vec![floats("s", &[], &[0.5]), floats("z", &[], &[0.0]), floats("b", &[], &[2.0])];
    let op = "y = qonnx.custom_op.general::Quant(x0, s, z, b)";
    close(&run_node(13, node(op, vec![]), constants.clone(), std::slice::from_ref(&x))[0], &[0.5, -1.0, 0.5, -1.0]);
    let narrow = run_node(13, node(op, vec![attr_i("narrow", 1)]), constants.clone(), std::slice::from_ref(&x));
    close(&narrow[0], &[0.5, -0.5, 0.5, -0.5]);
    let op = "y = qonnx.custom_op.general::BipolarQuant(x0, s)";
    close(&run_node(13, node(op, vec![]), constants, &[x])[0], &[0.5, -0.5, 0.5, -0.5]);
}

#[test]
fn norms_have_their_definitions() {
    let x = Tensor::new(&[1, 2, 2], &[1.0f32, 3.0, 2.0, 6.0]);
    let weights = || vec![floats("g", &[2], &[1.0, 2.0]), floats("b", &[2], &[0.0, 1.0])];
    let eps = || vec![attr_f("epsilon", 0.0)];
    let y = run_node(17, node("y = LayerNormalization(x0, g, b)", eps()), weights(), std::slice::from_ref(&x));
    close(&y[0], &[-1.0, 3.0, -1.0, 3.0]);
    let y = run_node(17, node("y = InstanceNormalization(x0, g, b)", eps()), weights(), std::slice::from_ref(&x));
    close(&y[0], &[-1.0, 1.0, -1.0, 3.0]);
    let attrs = vec![attr_f("epsilon", 0.0), attr_i("num_groups", 2)];
    let y = run_node(18, node("y = GroupNormalization(x0, g, b)", attrs), weights(), std::slice::from_ref(&x));
    close(&y[0], &[-1.0, 1.0, -1.0, 3.0]);
    let rms = (5.0f64).sqrt();
    let y = run_node(23, node("y = RMSNormalization(x0, g)", eps()), weights(), &[x]);
    close(&y[0], &[1.0 / rms, 6.0 / rms, 2.0 / 20f64.sqrt(), 12.0 / 20f64.sqrt()]);
}

#[test]
fn a_tile_makes_axes_only_for_what_it_repeats() {
    let repeats = || vec![ints("r", &[3, 1, 2, 2, 1])];
    let x = Tensor::new(&[1, 2, 1, 2, 1], &[1f32, 2.0, 3.0, 4.0]);
    let tile = run_node(13, node("y = Tile(x0, r)", vec![]), repeats(), std::slice::from_ref(&x));
    let once = [1f32, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0];
    assert_eq!(tile, [Tensor::new(&[3, 2, 2, 4, 1], &once.repeat(3))]);
    let tiled = graph(&["x: f32[1, 2, 1, 2, 1]"], vec![node("y = Tile(x, r)", vec![])], &["y: f32[]"]);
    let imported = load(&model(with_constants(tiled, repeats()))).unwrap();
    let ranks = imported.graph.values().map(|(_, v)| v.ty.shape.rank());
    assert_eq!(ranks.max(), Some(6), "one more for the axis of two");
}

#[test]
fn elements_are_moved() {
    let x = matrix(2, 2, &[1.0, 2.0, 3.0, 4.0]);
    let tile = run_node(13, node("y = Tile(x0, r)", vec![]), vec![ints("r", &[1, 2])], std::slice::from_ref(&x));
    assert_eq!(tile, [matrix(2, 4, &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0])]);
    let pad = run_node(13, node("y = Pad(x0, p)", vec![]), vec![ints("p", &[0, 1, -1, 0])], std::slice::from_ref(&x));
    assert_eq!(pad, [matrix(1, 3, &[0.0, 1.0, 2.0])]);
    let upper = run_node(14, node("y = Trilu(x0)", vec![]), vec![], std::slice::from_ref(&x));
    assert_eq!(upper, [matrix(2, 2, &[1.0, 2.0, 0.0, 4.0])]);
    let hot = run_node(
        13,
        node("y = OneHot(i, d, v)", vec![]),
        vec![ints("i", &[1, -1]), ints("d", &[3]), ints("v", &[0, 9])],
        &[],
    );
    assert_eq!(hot, [Tensor::new(&[2, 3], &[0i64, 9, 0, 0, 0, 9])]);
    let fill = attr_t("value", raw("", 7, &[1], &5i64.to_le_bytes()));
    let full = run_node(13, node("y = ConstantOfShape(d)", vec![fill]), vec![ints("d", &[2])], &[]);
    assert_eq!(full, [Tensor::new(&[2], &[5i64, 5])]);
    let range =
        run_node(13, node("y = Range(a, b, c)", vec![]), vec![ints("a", &[5]), ints("b", &[0]), ints("c", &[-2])], &[]);
    assert_eq!(range[0].to_f64(), [5.0, 3.0, 1.0]);
    let nothing = run_node(
        13,
        node("y = Concat(x0, e)", vec![attr_i("axis", 0)]),
        vec![empty("e", 1, &[0, 2])],
        std::slice::from_ref(&x),
    );
    assert_eq!(nothing, [x]);
}

#[test]
fn bits_and_truth_values() {
    let bytes = Tensor::new(&[2], &[1u8, 254]);
    let y = run_node(18, node("y = BitwiseNot(x0)", vec![]), vec![], std::slice::from_ref(&bytes));
    assert_eq!(y, [Tensor::new(&[2], &[254u8, 1])]);
    let attrs = vec![attr_s("direction", "LEFT")];
    let y = run_node(11, node("y = BitShift(x0, x0)", attrs), vec![], &[Tensor::new(&[1], &[3u8])]);
    assert_eq!(y, [Tensor::new(&[1], &[24u8])]);
    let flags = Tensor::with_dtype(DType::Bool, &[2], &[0u8, 1]);
    let y = run_node(13, node("y = Not(x0)", vec![]), vec![], &[flags]);
    assert_eq!(y, [Tensor::with_dtype(DType::Bool, &[2], &[1u8, 0])]);
    let odd = Tensor::new(&[3], &[f32::NAN, f32::INFINITY, 0.0]);
    let y = run_node(20, node("y = IsInf(x0)", vec![attr_i("detect_negative", 0)]), vec![], &[odd]);
    assert_eq!(y[0].to_f64(), [0.0, 1.0, 0.0]);
}

#[test]
fn products_of_quantised_matrices_are_scaled_once_and_quantised_where_a_scale_says_so() {
    let a = Tensor::new(&[2, 3], &[130u8, 127, 128, 0, 255, 128]);
    let constants = || {
        let scalar = |name, v: f32| floats(name, &[], &[v]);
        vec![
            scalar("as", 0.5),
            raw("az", 2, &[], &[128]),
            raw("b", 3, &[2, 3], &[1, 2, 3, 0xfc, 5, 0xfa]),
            floats("bs", &[2], &[0.25, 2.0]),
            raw("bz", 3, &[2], &[0, 1]),
            raw("c", 6, &[2], &[10, 0, 0, 0, 0xf6, 0xff, 0xff, 0xff]),
            scalar("ys", 2.0),
            raw("yz", 2, &[], &[7]),
        ]
    };
    let run = |call: &str, attrs| {
        let call = format!("y = com.microsoft::QGemm(x0, as, az, b, bs, bz{call})");
        run_node(13, node(&call, attrs), constants(), std::slice::from_ref(&a)).remove(0)
    };
    // The integers are [[2, -1, 0], [-128, 127, 0]] times the columns [1, 2, 3] and [-5, 4, -7].
    let transposed = || vec![attr_i("transB", 1)];
    close(&run("", transposed()), &[0.0, -14.0, 126.0 * 0.125, 1148.0]);
    close(&run(", c", transposed()), &[1.25, -24.0, 136.0 * 0.125, 1138.0]);
    let halved = vec![attr_i("transB", 1), attr_f("alpha", 0.5)];
    close(&run(", c", halved), &[0.625, -12.0, 8.5, 569.0]);
    // Halves go to the even neighbour, and nothing leaves 8 bits: 1.25 / 2, -12, 8.5, 569.
    assert_eq!(run(", c, ys, yz", transposed()), Tensor::new(&[2, 2], &[8u8, 0, 15, 255]));
}
