//! `map` in the domains of doubles and integers.

use bitc_format::DType;
use bitc_format::inst::{Domain, Map, MapOp, Step};
use bitc_runtime::{Element, RunError};

use crate::harness::{Case, Random};

/// `y = op(a, b, c)` in a domain, for operands of one type.
fn wide<T: Element>(domain: Domain, op: MapOp, operands: [&[T]; 3], to: DType) -> Result<Vec<u8>, RunError> {
    let mut case = Case::new();
    let n = operands[0].len();
    let xs = operands.map(|x| case.input(&[n], x));
    let y = case.output(to, &[n]);
    let mut args = [0, 1, 2];
    args[op.arity()..].fill(0);
    case.push(Map { y, domain, xs: xs.to_vec(), consts: vec![], steps: vec![Step { op, args }], result: 3 });
    Ok(case.try_run()?.remove(0).bytes)
}

#[test]
fn integers_wrap_in_their_own_type() {
    // More than a tile, so that the last one is shorter; nothing past its end may be looked at.
    let n = 300;
    let mut random = Random::new(12);
    let a: Vec<i8> = (0..n).map(|_| random.next() as i8).collect();
    let b: Vec<i8> = (0..n).map(|_| random.next() as i8 | 1).collect();
    let c: Vec<i8> = (0..n).map(|_| random.next() as i8).collect();
    type Meaning = fn(i8, i8, i8) -> i8;
    let cases: [(MapOp, Meaning); 16] = [
        (MapOp::Neg, |a, _, _| a.wrapping_neg()),
        (MapOp::Abs, |a, _, _| a.wrapping_abs()),
        (MapOp::Sign, |a, _, _| a.signum()),
        (MapOp::Add, |a, b, _| a.wrapping_add(b)),
        (MapOp::Sub, |a, b, _| a.wrapping_sub(b)),
        (MapOp::Mul, |a, b, _| a.wrapping_mul(b)),
        (MapOp::Div, |a, b, _| a.wrapping_div(b)),
        (MapOp::Rem, |a, b, _| a.wrapping_rem(b)),
        (MapOp::Mod, |a, b, _| (i64::from(a) - (f64::from(a) / f64::from(b)).floor() as i64 * i64::from(b)) as i8),
        (MapOp::Min, |a, b, _| a.min(b)),
        (MapOp::BitAnd, |a, b, _| a & b),
        (MapOp::BitOr, |a, b, _| a | b),
        (MapOp::BitXor, |a, b, _| a ^ b),
        (MapOp::ShiftLeft, |a, b, _| if (0..8).contains(&b) { a << b } else { 0 }),
        (MapOp::ShiftRight, |a, b, _| a >> if (0..8).contains(&b) { b } else { 7 }),
        (MapOp::Where, |a, b, c| if a != 0 { b } else { c }),
    ];
    for (op, meaning) in cases {
        let found = wide(Domain::I64, op, [&a, &b, &c], DType::I8).unwrap();
        for (i, &found) in found.iter().enumerate() {
            let expected = meaning(a[i], b[i], c[i]);
            assert_eq!(found.cast_signed(), expected, "{} of {}, {}, {}", op.name(), a[i], b[i], c[i]);
        }
    }
    let large = [u64::MAX, 1 << 63, 5];
    let halved = wide(Domain::U64, MapOp::Div, [&large, &[2, 2, 2], &large], DType::U64).unwrap();
    let halved: Vec<u64> = halved.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
    assert_eq!(halved, [u64::MAX / 2, 1 << 62, 2]);
}

#[test]
fn an_integer_without_result_is_an_error() {
    for op in [MapOp::Div, MapOp::Mod, MapOp::Rem] {
        let found = wide(Domain::I64, op, [&[4i32, 1], &[2, 0], &[0, 0]], DType::I32);
        assert_eq!(found.unwrap_err(), RunError::Undefined { inst: 0 }, "{}", op.name());
    }
    let found = wide(Domain::I64, MapOp::Pow, [&[4i32], &[-1], &[0]], DType::I32);
    assert_eq!(
        found.unwrap_err().to_string(),
        "an integer is divided by zero or raised to a negative power (instruction 0)"
    );
}

#[test]
fn double_precision_is_rounded_once() {
    let a: Vec<f32> = (0..300).map(|i| i as f32 * 0.01 - 0.9).collect();
    type Formula = fn(f64) -> f64;
    let formulas: [(MapOp, Formula); 6] = [
        (MapOp::Sin, f64::sin),
        (MapOp::Atan, f64::atan),
        (MapOp::Cosh, f64::cosh),
        (MapOp::Asinh, f64::asinh),
        (MapOp::Softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        (MapOp::Exp, f64::exp),
    ];
    for (op, formula) in formulas {
        let found = wide(Domain::F64, op, [&a, &a, &a], DType::F32).unwrap();
        let expected: Vec<u8> = a.iter().flat_map(|&a| (formula(f64::from(a)) as f32).to_le_bytes()).collect();
        assert_eq!(found, expected, "{}", op.name());
    }
    // 1 + 2^-11 + 2^-24 in half precision: rounding to f32 first would give 1.
    let found = wide(Domain::F64, MapOp::Add, [&[1.0f64], &[2f64.powi(-11) + 2f64.powi(-30)], &[0.0]], DType::F16);
    assert_eq!(found.unwrap(), 0x3c01u16.to_le_bytes());
}
