//! `map` and `cast`.

use bitc_format::DType;
use bitc_format::inst::{Cast, Domain, Map, MapOp, Step};

use crate::harness::{Case, Random, indices, position};

/// What an operation means, by the standard library.
fn meaning(op: MapOp, a: f32, b: f32, c: f32) -> f32 {
    let truth = |t: bool| f32::from(u8::from(t));
    let nan_if = |v: f32| if a.is_nan() || b.is_nan() { f32::NAN } else { v };
    let erf_part = |v: f64| 0.5 * (1.0 + erf(v / std::f64::consts::SQRT_2));
    let x = f64::from(a);
    match op {
        MapOp::Neg => -a,
        MapOp::Abs => a.abs(),
        MapOp::Sqrt => a.sqrt(),
        MapOp::Recip => 1.0 / a,
        MapOp::Exp => x.exp() as f32,
        MapOp::Log => x.ln() as f32,
        MapOp::Floor => a.floor(),
        MapOp::Ceil => a.ceil(),
        MapOp::RoundHalfEven => a.round_ties_even(),
        MapOp::Trunc => a.trunc(),
        MapOp::Sign => {
            if a.is_nan() || a == 0.0 {
                a
            } else {
                a.signum()
            }
        }
        MapOp::Relu => {
            if a < 0.0 {
                0.0
            } else {
                a
            }
        }
        MapOp::Sigmoid => (1.0 / (1.0 + (-x).exp())) as f32,
        MapOp::Tanh => x.tanh() as f32,
        MapOp::Erf => erf(x) as f32,
        MapOp::GeluErf => (x * erf_part(x)) as f32,
        MapOp::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            (x * 0.5 * (1.0 + inner.tanh())) as f32
        }
        MapOp::Silu => (x / (1.0 + (-x).exp())) as f32,
        MapOp::Not => truth(a == 0.0),
        MapOp::IsNan => truth(a.is_nan()),
        MapOp::Add => a + b,
        MapOp::Sub => a - b,
        MapOp::Mul => a * b,
        MapOp::Div => a / b,
        MapOp::Min => nan_if(a.min(b)),
        MapOp::Max => nan_if(a.max(b)),
        MapOp::Pow => x.powf(f64::from(b)) as f32,
        MapOp::Eq => truth(a == b),
        MapOp::Ne => truth(a != b),
        MapOp::Lt => truth(a < b),
        MapOp::Le => truth(a <= b),
        MapOp::Gt => truth(a > b),
        MapOp::Ge => truth(a >= b),
        MapOp::And => truth(a != 0.0 && b != 0.0),
        MapOp::Or => truth(a != 0.0 || b != 0.0),
        MapOp::Xor => truth((a != 0.0) != (b != 0.0)),
        MapOp::Where => {
            if a != 0.0 {
                b
            } else {
                c
            }
        }
        MapOp::Clip => nan_if(a.max(b).min(c)),
        other => panic!("{} is not in f32", other.name()),
    }
}

/// The error function by its series, good for small arguments.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for k in 1..200 {
        term *= -x * x / f64::from(k);
        sum += term / f64::from(2 * k + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn every_operation_means_what_it_says() {
    let mut random = Random::new(10);
    let n = 300;
    let mut a = random.floats(n);
    let (mut b, c) = (random.floats(n), random.floats(n));
    a[..6].copy_from_slice(&[0.0, -0.0, f32::NAN, 1.0, 2.5, -2.5]);
    b[..6].copy_from_slice(&[0.0, 1.0, 1.0, f32::NAN, 2.5, 2.0]);
    for &op in MapOp::ALL.iter().filter(|&&op| Domain::F32.has(op)) {
        let mut case = Case::new();
        let (x0, x1, x2) = (case.input(&[n], &a), case.input(&[n], &b), case.input(&[n], &c));
        let y = case.output(DType::F32, &[n]);
        let mut args = [0, 1, 2];
        args[op.arity()..].fill(0);
        let steps = vec![Step { op, args }];
        case.push(Map { y, domain: Domain::F32, xs: vec![x0, x1, x2], consts: vec![], steps, result: 3 });
        let found = case.run()[0].to_vec::<f32>();
        for (i, &found) in found.iter().enumerate() {
            let expected = meaning(op, a[i], b[i], c[i]);
            let close = (f64::from(found) - f64::from(expected)).abs() <= 1e-6 * f64::from(expected).abs().max(0.3);
            let same = found == expected || (found.is_nan() && expected.is_nan());
            assert!(close || same, "{} of {}, {}, {}: {found} instead of {expected}", op.name(), a[i], b[i], c[i]);
        }
    }
}

#[test]
fn operands_broadcast_along_any_axes() {
    let mut random = Random::new(11);
    let ys: [&[usize]; 6] = [&[], &[1], &[257], &[3, 4, 5], &[2, 0, 3], &[7, 130]];
    for y_shape in ys {
        for mask in 0..1u32 << y_shape.len() {
            for rank in 0..=y_shape.len() {
                let skipped = y_shape.len() - rank;
                let x_shape: Vec<usize> =
                    (skipped..y_shape.len()).map(|i| if mask >> i & 1 == 1 { 1 } else { y_shape[i] }).collect();
                let x = random.floats(x_shape.iter().product());
                let whole = random.floats(y_shape.iter().product());
                let mut case = Case::new();
                let (a, b) = (case.input(y_shape, &whole), case.constant(&x_shape, &x));
                let y = case.output(DType::F32, y_shape);
                let steps = vec![Step { op: MapOp::Sub, args: [0, 1, 0] }, Step { op: MapOp::Mul, args: [3, 2, 0] }];
                let consts = vec![u64::from(0.5f32.to_bits())];
                case.push(Map { y, domain: Domain::F32, xs: vec![a, b], consts, steps, result: 4 });
                let expected: Vec<f32> = indices(y_shape)
                    .iter()
                    .enumerate()
                    .map(|(i, index)| {
                        let of: Vec<usize> =
                            index[skipped..].iter().zip(&x_shape).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
                        (whole[i] - x[position(&x_shape, &of)]) * 0.5
                    })
                    .collect();
                assert_eq!(case.run()[0].to_vec::<f32>(), expected, "{x_shape:?} to {y_shape:?}");
            }
        }
    }
}

#[test]
fn loads_convert_and_truth_values_are_stored() {
    let mut case = Case::new();
    let a = case.input(&[4], &[-128i8, 127, 0, 5]);
    let b = case.input(&[1], &[65535u16]);
    let c = case.input_bytes(DType::Bool, &[4], &[0, 1, 7, 0]);
    let sum = case.output(DType::F32, &[4]);
    let truth = case.output(DType::Bool, &[4]);
    let steps = vec![Step { op: MapOp::Add, args: [0, 1, 0] }, Step { op: MapOp::Add, args: [3, 2, 0] }];
    case.push(Map { y: sum, domain: Domain::F32, xs: vec![a, b, c], consts: vec![], steps, result: 4 });
    let steps = vec![Step { op: MapOp::Gt, args: [0, 1, 0] }];
    let consts = vec![0];
    case.push(Map { y: truth, domain: Domain::F32, xs: vec![a], consts, steps, result: 2 });
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<f32>(), [65407.0, 65663.0, 65536.0, 65540.0]);
    assert_eq!(outputs[1].bytes, [0, 1, 0, 1]);
}

#[test]
fn a_map_without_steps_copies_a_register() {
    let mut case = Case::new();
    let a = case.input(&[2, 1], &[1.0f32, 2.0]);
    let y = case.output(DType::F32, &[2, 3]);
    case.push(Map { y, domain: Domain::F32, xs: vec![a], consts: vec![], steps: vec![], result: 0 });
    assert_eq!(case.run()[0].to_vec::<f32>(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
}

#[test]
fn cast_converts_and_reshapes() {
    let mut case = Case::new();
    let a = case.input(&[2, 3], &[1.9f32, -1.9, f32::NAN, 1e20, -0.0, 130.0]);
    let (i8s, i64s, bools) =
        (case.output(DType::I8, &[6]), case.output(DType::I64, &[3, 2]), case.output(DType::Bool, &[6, 1]));
    for y in [i8s, i64s, bools] {
        case.push(Cast { y, x: a });
    }
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<i8>(), [1, -1, 0, 127, 0, 127]);
    assert_eq!(outputs[1].to_vec::<i64>(), [1, -1, 0, i64::MAX, 0, 130]);
    assert_eq!(outputs[2].bytes, [1, 1, 1, 1, 0, 1]);
}

#[test]
fn cast_packs_and_unpacks_bits() {
    let mut case = Case::new();
    let values: Vec<u8> = (0..22).map(|i| u8::from(i % 3 == 0)).collect();
    let a = case.input_bytes(DType::Bool, &[2, 11], &values);
    let bits = case.output(DType::Bits, &[2, 11]);
    let back = case.output(DType::Bool, &[2, 11]);
    case.push(Cast { y: bits, x: a });
    case.push(Cast { y: back, x: bits.into() });
    let outputs = case.run();
    assert_eq!(outputs[0].bytes, [0b0100_1001, 0b010, 0b1001_0010, 0b100]);
    assert_eq!(outputs[1].bytes, values);
}
