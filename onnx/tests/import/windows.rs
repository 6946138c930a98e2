//! Windows that reach beyond the input, positions of maxima, attention over parts of the keys, diagonals.

use bitc_ir::Tensor;

use crate::builder::{attr_i, attr_ints, attr_s, floats, graph, ints, load, model, node, run_node};

fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(dims, values)
}

/// 0, 1, 2, .. in this shape.
fn counted(dims: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| i as f32).collect();
    f32s(dims, &values)
}

fn close(y: &Tensor, dims: &[usize], expect: &[f64]) {
    assert_eq!(y.dims(), dims);
    for (a, b) in y.to_f64().iter().zip(expect) {
        assert!((a - b).abs() <= 1e-5, "{:?} instead of {expect:?}", y.to_f64());
    }
}

#[test]
fn positions_of_maxima_count_over_the_whole_input() {
    let x = f32s(&[1, 2, 2, 3], &[5.0, 1.0, 2.0, 3.0, 4.0, 9.0, -1.0, -1.0, -3.0, -4.0, -2.0, -5.0]);
    let pool = |attrs: Vec<_>| {
        let attrs = [vec![attr_ints("kernel_shape", &[2, 2])], attrs].concat();
        run_node(12, node("y, i = MaxPool(x0)", attrs), vec![], std::slice::from_ref(&x))
    };
    let y = pool(vec![]);
    close(&y[0], &[1, 2, 1, 2], &[5.0, 9.0, -1.0, -1.0]);
    assert_eq!(y[1], Tensor::new(&[1, 2, 1, 2], &[0i64, 5, 6, 7]), "the first of equals");
    let y = pool(vec![attr_i("storage_order", 1)]);
    assert_eq!(y[1].to_f64(), [0.0, 5.0, 6.0, 8.0], "by columns within a plane");
    let y = pool(vec![attr_ints("pads", &[1, 1, 0, 0]), attr_ints("strides", &[2, 2])]);
    assert_eq!(y[0].dims(), [1, 2, 1, 2]);
    assert_eq!(y[1].to_f64(), [0.0, 2.0, 6.0, 7.0]);
    let y = pool(vec![attr_ints("strides", &[2, 2]), attr_i("ceil_mode", 1)]);
    close(&y[0], &[1, 2, 1, 2], &[5.0, 9.0, -1.0, -3.0]);
    assert_eq!(y[1].to_f64(), [0.0, 5.0, 6.0, 8.0]);
}

#[test]
fn positions_in_an_image_of_any_size_cost_nothing_to_import() {
    let pool = node("y, i = MaxPool(x)", vec![attr_ints("kernel_shape", &[2, 2])]);
    let g = graph(&["x: f32[1, 1, 1099511627776, 4]"], vec![pool], &["y: f32[1]", "i: i64[1]"]);
    let imported = load(&model(g)).unwrap().graph;
    assert_eq!(imported.ty(imported.outputs()[1].value).to_string(), "i64[1, 1, 1099511627775, 3]");
}

#[test]
fn windows_over_three_axes_may_reach_beyond_the_input() {
    let x = counted(&[1, 1, 3, 1, 3]);
    let pool = |op: &str, attrs: Vec<_>| {
        let base =
            vec![attr_ints("kernel_shape", &[2, 1, 2]), attr_ints("strides", &[2, 1, 2]), attr_i("ceil_mode", 1)];
        run_node(19, node(&format!("y = {op}(x0)"), [base, attrs].concat()), vec![], std::slice::from_ref(&x)).remove(0)
    };
    close(&pool("MaxPool", vec![]), &[1, 1, 2, 1, 2], &[4.0, 5.0, 7.0, 8.0]);
    close(&pool("AveragePool", vec![]), &[1, 1, 2, 1, 2], &[2.0, 3.5, 6.5, 8.0]);
    // Padding that was asked for counts if it shall, what the last window lacks does not.
    let pads = || attr_ints("pads", &[1, 0, 0, 0, 0, 0]);
    close(&pool("AveragePool", vec![pads()]), &[1, 1, 2, 1, 2], &[0.5, 2.0, 5.0, 6.5]);
    let counted = vec![pads(), attr_i("count_include_pad", 1)];
    close(&pool("AveragePool", counted), &[1, 1, 2, 1, 2], &[0.25, 1.0, 5.0, 6.5]);
    let y = pool("LpPool", vec![attr_i("p", 1)]);
    close(&y, &[1, 1, 2, 1, 2], &[8.0, 7.0, 13.0, 8.0]);
}

#[test]
fn transposed_convolutions_go_over_three_axes() {
    let w = vec![floats("w", &[1, 1, 2, 1, 2], &[1.0, 10.0, 100.0, 1000.0])];
    let y = run_node(11, node("y = ConvTranspose(x0, w)", vec![]), w, &[f32s(&[1, 1, 1, 1, 2], &[1.0, 2.0])]);
    close(&y[0], &[1, 1, 2, 1, 3], &[1.0, 12.0, 20.0, 100.0, 1200.0, 2000.0]);
}

#[test]
fn causal_convolutions_hand_on_what_the_next_call_needs() {
    let conv = |x: &[f32], past: Option<&[f32]>| {
        let mut constants = vec![floats("w", &[2, 1, 2], &[1.0, 10.0, 2.0, 20.0])];
        constants.extend(past.map(|p| floats("p", &[1, 2, 1], p)));
        let inputs = if past.is_some() { "x0, w, , p" } else { "x0, w" };
        let node = node(&format!("y, s = CausalConvWithState({inputs})"), vec![]);
        run_node(27, node, constants, &[f32s(&[1, 2, x.len() / 2], x)])
    };
    let whole = conv(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None);
    close(&whole[0], &[1, 2, 3], &[10.0, 21.0, 32.0, 80.0, 108.0, 130.0]);
    close(&whole[1], &[1, 2, 1], &[3.0, 6.0]);
    let last = conv(&[3.0, 6.0], Some(&[2.0, 5.0]));
    close(&last[0], &[1, 2, 1], &[32.0, 130.0]);
}

/// Scores are equal, so that the result is the mean of the values of the keys that are seen: key `j` has `10^j`.
fn seen(version: i64, queries: usize, attrs: Vec<bitc_onnx::proto::AttributeProto>, more: &str) -> Vec<f64> {
    let (q, kv) = (Tensor::splat(&[1, 1, queries, 1], 0.0f32), f32s(&[1, 1, 4, 1], &[1.0, 10.0, 100.0, 1000.0]));
    let constants = vec![ints("n", &[3])];
    let y = run_node(version, node(&format!("y = Attention(x0, x1, x1{more})"), attrs), constants, &[q, kv]);
    y[0].to_f64()
}

#[test]
fn attention_sees_the_keys_around_a_query() {
    let mean = |keys: &[f64]| keys.iter().sum::<f64>() / keys.len() as f64;
    let check = |y: Vec<f64>, expect: &[&[f64]]| {
        for (y, keys) in y.iter().zip(expect) {
            let expect = if keys.is_empty() { 0.0 } else { mean(keys) };
            assert!((y - expect).abs() <= 1e-3, "{y} instead of {expect}");
        }
    };
    let window = |left, right| vec![attr_i("left_window_size", left), attr_i("right_window_size", right)];
    check(seen(25, 3, window(1, 0), ""), &[&[1.0], &[1.0, 10.0], &[10.0, 100.0]]);
    check(seen(25, 2, window(-1, 1), ""), &[&[1.0, 10.0], &[1.0, 10.0, 100.0]]);
    // Three of four keys are no padding: the last query stands at the third.
    check(seen(25, 2, vec![], ", , , , n"), &[&[1.0, 10.0, 100.0], &[1.0, 10.0, 100.0]]);
    check(seen(25, 2, vec![attr_i("is_causal", 1)], ", , , , n"), &[&[1.0, 10.0], &[1.0, 10.0, 100.0]]);
    check(seen(25, 4, vec![attr_i("is_causal", 1)], ", , , , n"), &[&[], &[1.0], &[1.0, 10.0], &[1.0, 10.0, 100.0]]);
}

#[test]
fn axes_of_one_name_are_a_diagonal() {
    let x = counted(&[2, 3, 3]);
    let einsum = |equation: &str| {
        let node = node("y = Einsum(x0)", vec![attr_s("equation", equation)]);
        run_node(12, node, vec![], std::slice::from_ref(&x)).remove(0)
    };
    close(&einsum("bii->bi"), &[2, 3], &[0.0, 4.0, 8.0, 9.0, 13.0, 17.0]);
    close(&einsum("bii->ib"), &[3, 2], &[0.0, 9.0, 4.0, 13.0, 8.0, 17.0]);
    close(&einsum("bii->b"), &[2], &[12.0, 39.0]);
}

#[test]
fn bits_are_taken_for_another_type() {
    let cast = |x: Tensor, to| run_node(26, node("y = BitCast(x0)", vec![attr_i("to", to)]), vec![], &[x]).remove(0);
    assert_eq!(cast(f32s(&[2], &[1.0, -0.0]), 6), Tensor::new(&[2], &[0x3f80_0000i32, i32::MIN]));
    let bools = Tensor::with_dtype(bitc_ir::DType::Bool, &[2], &[0u8, 1]);
    assert_eq!(cast(bools, 3), Tensor::new(&[2], &[0i8, 1]));
}
