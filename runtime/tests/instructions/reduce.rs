//! `reduce`, `scan`, `softmax`, `layer_norm` and `rms_norm`.

use bitc_format::DType;
use bitc_format::inst::{LayerNorm, Reduce, ReduceOp, RmsNorm, Scan, Softmax};
use bitc_runtime::RunError;

use crate::harness::{Case, Random, assert_close, indices, position};

const SHAPES: [&[usize]; 6] = [&[1], &[17], &[3, 4, 5], &[2, 1, 9, 2], &[0, 3], &[3, 0]];

fn meaning(op: ReduceOp, x: &[f64]) -> f64 {
    let sum = || x.iter().sum::<f64>();
    let squares = || x.iter().map(|v| v * v).sum::<f64>();
    match op {
        ReduceOp::Sum => sum(),
        ReduceOp::Mean => sum() / x.len() as f64,
        ReduceOp::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceOp::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceOp::Prod => x.iter().product(),
        ReduceOp::L1 => x.iter().map(|v| v.abs()).sum(),
        ReduceOp::L2 => squares().sqrt(),
        ReduceOp::SumSquare => squares(),
        ReduceOp::LogSum => sum().ln(),
        ReduceOp::LogSumExp => x.iter().map(|v| v.exp()).sum::<f64>().ln(),
    }
}

#[test]
fn reduce_takes_any_set_of_axes() {
    let mut random = Random::new(20);
    for shape in SHAPES {
        let x = random.floats(shape.iter().product());
        for axes in 0..1u32 << shape.len() {
            for &op in ReduceOp::ALL {
                for keep in [true, false] {
                    check_reduce(shape, &x, axes, op, keep);
                }
            }
        }
    }
}

fn check_reduce(shape: &[usize], x: &[f32], axes: u32, op: ReduceOp, keep: bool) {
    let reduced = |axis: usize| axes >> axis & 1 == 1;
    let kept_shape: Vec<usize> = shape.iter().enumerate().map(|(axis, &d)| if reduced(axis) { 1 } else { d }).collect();
    let y_shape: Vec<usize> =
        if keep { kept_shape.clone() } else { (0..shape.len()).filter(|&a| !reduced(a)).map(|a| shape[a]).collect() };
    let mut groups = vec![Vec::new(); kept_shape.iter().product()];
    for (i, index) in indices(shape).iter().enumerate() {
        let of: Vec<usize> = index.iter().enumerate().map(|(a, &i)| if reduced(a) { 0 } else { i }).collect();
        groups[position(&kept_shape, &of)].push(f64::from(x[i]));
    }
    let mut case = Case::new();
    let input = case.input(shape, x);
    let y = case.output(DType::F32, &y_shape);
    case.push(Reduce { y, x: input, op, axes });
    let expected: Vec<f64> = groups.iter().map(|group| f64::from(meaning(op, group) as f32)).collect();
    assert_close(&case.run()[0].to_vec(), &expected, 2e-7);
}

#[test]
fn extremes_keep_nan() {
    for (op, axis) in [(ReduceOp::Max, 0b1), (ReduceOp::Min, 0b1), (ReduceOp::Max, 0b10), (ReduceOp::Min, 0b10)] {
        let mut case = Case::new();
        let input = case.input(&[2, 2], &[1.0, f32::NAN, f32::NAN, 2.0]);
        let y = case.output(DType::F32, &[2]);
        case.push(Reduce { y, x: input, op, axes: axis });
        assert!(case.run()[0].to_vec::<f32>().iter().all(|v| v.is_nan()));
    }
}

#[test]
fn softmax_sums_to_one_along_any_axis() {
    let mut random = Random::new(21);
    for shape in SHAPES {
        let mut x = random.floats(shape.iter().product());
        x.iter_mut().step_by(7).for_each(|v| *v += 300.0);
        for axis in 0..shape.len() {
            for log in [false, true] {
                let mut case = Case::new();
                let input = case.input(shape, &x);
                let y = case.output(DType::F32, shape);
                case.push(Softmax { y, x: input, axis: axis as u32, log });
                let mut expected = Vec::new();
                for index in indices(shape) {
                    let along: Vec<f64> = (0..shape[axis])
                        .map(|i| {
                            let mut index = index.clone();
                            index[axis] = i;
                            f64::from(x[position(shape, &index)])
                        })
                        .collect();
                    let total: f64 = along.iter().map(|v| (v - 300.0).exp()).sum();
                    let own = along[index[axis]] - 300.0;
                    expected.push(if log { own - total.ln() } else { own.exp() / total });
                }
                // The logarithm of a sum near 1 cannot be better than the exponentials it is made of.
                assert_close(&case.run()[0].to_vec(), &expected, 5e-7);
            }
        }
    }
}

#[test]
fn a_mask_of_minus_infinity_weighs_nothing() {
    let mut case = Case::new();
    let input = case.input(&[3], &[0.0, f32::NEG_INFINITY, 0.0]);
    let y = case.output(DType::F32, &[3]);
    case.push(Softmax { y, x: input, axis: 0, log: false });
    assert_eq!(case.run()[0].to_vec::<f32>(), [0.5, 0.0, 0.5]);
}

#[test]
fn norms_follow_their_formulas_over_trailing_axes() {
    let mut random = Random::new(22);
    for shape in SHAPES {
        let x = random.floats(shape.iter().product());
        for axis in 0..=shape.len() {
            let n: usize = shape[axis..].iter().product();
            let (gamma, beta) = (random.floats(n), random.floats(n));
            let eps = 1e-5f32;
            let mut case = Case::new();
            let input = case.input(shape, &x);
            let (g, b) = (case.constant(&shape[axis..], &gamma), case.constant(&[n], &beta));
            let layer = case.output(DType::F32, shape);
            let rms = case.output(DType::F32, shape);
            let axis = axis as u32;
            case.push(LayerNorm { y: layer, x: input, gamma: Some(g), beta: Some(b), axis, eps });
            case.push(RmsNorm { y: rms, x: input, gamma: Some(g), axis, eps });
            let (mut layers, mut rmss) = (Vec::new(), Vec::new());
            for row in x.chunks(n.max(1)) {
                let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
                let mean = row.iter().sum::<f64>() / n as f64;
                let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
                let square = row.iter().map(|v| v * v).sum::<f64>() / n as f64;
                for (i, v) in row.iter().enumerate() {
                    let (g, b, eps) = (f64::from(gamma[i]), f64::from(beta[i]), f64::from(eps));
                    layers.push((v - mean) / (variance + eps).sqrt() * g + b);
                    rmss.push(v / (square + eps).sqrt() * g);
                }
            }
            let outputs = case.run();
            assert_close(&outputs[0].to_vec(), &layers, 5e-7);
            assert_close(&outputs[1].to_vec(), &rmss, 5e-7);
        }
    }
}

#[test]
fn integers_are_reduced_exactly() {
    let x = [i32::MAX, 1, -7, i32::MIN, 4, 3];
    let run = |op, axes, y_shape: &[usize]| {
        let mut case = Case::new();
        let input = case.input(&[2, 3], &x);
        let y = case.output(DType::I32, y_shape);
        case.push(Reduce { y, x: input, op, axes });
        case.run()[0].to_vec::<i32>()
    };
    assert_eq!(run(ReduceOp::Sum, 2, &[2]), [i32::MAX - 6, i32::MIN + 7]);
    assert_eq!(run(ReduceOp::Sum, 2, &[2, 1]), [i32::MAX - 6, i32::MIN + 7]);
    assert_eq!(run(ReduceOp::Max, 1, &[3]), [i32::MAX, 4, 3]);
    assert_eq!(run(ReduceOp::Min, 3, &[]), [i32::MIN]);
    assert_eq!(run(ReduceOp::Mean, 1, &[3]), [0, 2, -2]);
    assert_eq!(run(ReduceOp::Prod, 1, &[3]), [i32::MIN, 4, -21]);
}

#[test]
fn nothing_has_extremes_but_no_integer_mean() {
    let run = |op, dtype: DType| {
        let mut case = Case::new();
        let input = case.input_bytes(dtype, &[0], &[]);
        let y = case.output(dtype, &[]);
        case.push(Reduce { y, x: input, op, axes: 1 });
        case.try_run().map(|outputs| outputs[0].bytes.clone())
    };
    assert_eq!(run(ReduceOp::Max, DType::I8), Ok(vec![0x80]));
    assert_eq!(run(ReduceOp::Min, DType::U16), Ok(vec![0xff, 0xff]));
    assert_eq!(run(ReduceOp::Min, DType::Bool), Ok(vec![1]));
    assert_eq!(run(ReduceOp::Max, DType::F64), Ok(f64::NEG_INFINITY.to_le_bytes().to_vec()));
    assert_eq!(run(ReduceOp::Mean, DType::I64), Err(RunError::Undefined { inst: 0 }));
}

#[test]
fn scan_runs_along_an_axis_in_both_directions() {
    let run = |axis, product, exclusive, reverse| {
        let mut case = Case::new();
        let x = case.input(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = case.output(DType::F32, &[2, 3]);
        case.push(Scan { y, x, axis, product, exclusive, reverse });
        case.run()[0].to_vec::<f32>()
    };
    assert_eq!(run(1, false, false, false), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    assert_eq!(run(0, false, false, false), [1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
    assert_eq!(run(1, true, false, true), [6.0, 6.0, 3.0, 120.0, 30.0, 6.0]);
    assert_eq!(run(1, false, true, true), [5.0, 3.0, 0.0, 11.0, 6.0, 0.0]);
    assert_eq!(run(0, true, true, false), [1.0, 1.0, 1.0, 1.0, 2.0, 3.0]);
    let mut case = Case::new();
    let x = case.input(&[3], &[200u8, 100, 7]);
    let y = case.output(DType::U8, &[3]);
    case.push(Scan { y, x, axis: 0, product: false, exclusive: false, reverse: false });
    assert_eq!(case.run()[0].to_vec::<u8>(), [200, 44, 51]);
}
