//! Bits of integers: combinations, shifts, and types of fewer than eight bits.

use bitc_ir::ops::logic::LogicKind;
use bitc_ir::{DType, Tensor};

use super::Form;
use super::convert::{attr_int, attr_str};
use super::cx::{Cx, Names, no};

pub(super) fn logic(cx: &mut Cx<'_, '_>, kind: LogicKind) -> Names {
    let dtype = cx.ty(0)?.dtype;
    let all_true = |t: &Tensor| t.dtype() == DType::Bool && t.bytes().iter().all(|&b| b == 1);
    if kind == LogicKind::Xor
        && let Some(negated) = [1, 0].into_iter().find(|&i| cx.constant(i).is_some_and(all_true))
        && cx.ty(1 - negated)?.shape == cx.result(0).shape
    {
        let x = cx.input(1 - negated)?;
        return Ok(vec![cx.op("Not", &[&x], Vec::new())]);
    }
    let (of_bools, of_integers) = match kind {
        LogicKind::And => ("And", "BitwiseAnd"),
        LogicKind::Or => ("Or", "BitwiseOr"),
        LogicKind::Xor => ("Xor", "BitwiseXor"),
        LogicKind::ShiftLeft | LogicKind::ShiftRight => return shift(cx, kind),
    };
    if dtype == DType::Bool {
        return cx.same(of_bools);
    }
    if cx.opset() < 18 {
        return no(format!("bits of {dtype} are combined since opset 18, this is opset {}", cx.opset()));
    }
    cx.same(of_integers)
}

/// A shift. `BitShift` says what it does only for unsigned numbers and amounts below the width, and not every engine has
/// it; elsewhere a shift is a product or quotient by the power of two that a table holds for the amount.
fn shift(cx: &mut Cx<'_, '_>, kind: LogicKind) -> Names {
    let (dtype, is_left) = (cx.ty(0)?.dtype, kind == LogicKind::ShiftLeft);
    let (width, is_signed) = (dtype.bits(), dtype.integer_range().is_some_and(|(low, _)| low < 0));
    if width < 8 {
        return no(format!("a shift of {dtype}, which no operator takes"));
    }
    let fits = |t: &Tensor| t.to_f64().iter().all(|&amount| amount < width as f64);
    let has_operator = matches!(dtype, DType::U8 | DType::U32 | DType::U64) && cx.form() != Form::Inline;
    // There is no wider type for 64 bits without a sign; amounts from 64 on are then up to the engine.
    if has_operator && (dtype == DType::U64 || cx.constant(1).is_some_and(fits)) {
        let (a, b) = (cx.input(0)?, cx.input(1)?);
        let direction = attr_str("direction", if is_left { "LEFT" } else { "RIGHT" });
        return Ok(vec![cx.op("BitShift", &[&a, &b], vec![direction])]);
    }
    if dtype == DType::U64 {
        return no("a shift of u64 without BitShift, which engines that this form is for lack");
    }
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    // The place of an amount in the tables: all that are negative have one, all that reach the width another.
    let s = cx.s();
    let amount = s.cast(&b, DType::I64);
    let (low, high, one) =
        (s.tensor(&Tensor::scalar(-1i64)), s.tensor(&Tensor::scalar(width as i64)), s.tensor(&Tensor::scalar(1i64)));
    let amount = s.op("Clip", &[&amount, &low, &high], Vec::new());
    let place = s.op("Add", &[&amount, &one], Vec::new());
    let found = |s: &mut super::scope::Scope, entry: &dyn Fn(usize) -> i64, outside: i64| {
        let inside = (0..width).map(entry);
        let table: Vec<i64> = [outside].into_iter().chain(inside).chain([outside]).collect();
        let table = s.tensor(&Tensor::new(&[table.len()], &table));
        s.op("Gather", &[&table, &place], vec![attr_int("axis", 0)])
    };
    let x = s.cast(&a, DType::I64);
    if is_left {
        // What wraps beyond 64 bits is nothing that the result keeps.
        let factor = found(s, &|n| 1i64 << n, 0);
        let y = s.op("Mul", &[&x, &factor], Vec::new());
        return Ok(vec![s.cast(&y, dtype)]);
    }
    // -1 - x has the bits of x turned over, and of both one is not negative. No such number has bit 63.
    let (zero, all) = (s.tensor(&Tensor::scalar(0i64)), s.tensor(&Tensor::scalar(-1i64)));
    let is_negative = s.op("Less", &[&x, &zero], Vec::new());
    let turned = |s: &mut super::scope::Scope, x: &str| {
        let other = s.op("Sub", &[&all, x], Vec::new());
        s.op("Where", &[&is_negative, &other, x], Vec::new())
    };
    let magnitude = if is_signed { turned(s, &x) } else { x.clone() };
    let divisor = found(s, &|n| if n < 63 { 1i64 << n } else { 1 }, 1);
    let keeps = found(s, &|n| i64::from(n < 63), 0);
    let y = s.op("Div", &[&magnitude, &divisor], Vec::new());
    let y = s.op("Mul", &[&y, &keeps], Vec::new());
    let y = if is_signed { turned(s, &y) } else { y };
    Ok(vec![s.cast(&y, dtype)])
}

pub(super) fn bit_cast() -> Names {
    no("bits taken for another type, which ONNX has from opset 26 on")
}

pub(super) fn cast(cx: &mut Cx<'_, '_>, to: DType) -> Names {
    let (x, from) = (cx.input(0)?, cx.ty(0)?.dtype);
    if to.bits() >= 8 || to == DType::Bool {
        return Ok(vec![cx.s().cast(&x, to)]);
    }
    let s = cx.s();
    if to == DType::T2 {
        // The sign, where floats are cut off first.
        let sign = if from.is_float() {
            let (low, high) = (s.scalar(from, -1.0), s.scalar(from, 1.0));
            s.op("Clip", &[&x, &low, &high], Vec::new())
        } else {
            let wide = if from == DType::Bool { s.cast(&x, DType::I32) } else { x };
            s.op("Sign", &[&wide], Vec::new())
        };
        return Ok(vec![s.cast(&sign, to)]);
    }
    // Within its own bits: the remainder that has the sign of the divisor, moved so that half of it is negative.
    let size = 1i64 << to.bits();
    let half = if to.integer_range().is_some_and(|(low, _)| low < 0) { size / 2 } else { 0 };
    let (size, half) = (s.tensor(&Tensor::scalar(size)), s.tensor(&Tensor::scalar(half)));
    let wide = s.cast(&x, DType::I64);
    let moved = s.op("Add", &[&wide, &half], Vec::new());
    let low = s.op("Mod", &[&moved, &size], vec![attr_int("fmod", 0)]);
    let y = s.op("Sub", &[&low, &half], Vec::new());
    Ok(vec![s.cast(&y, to)])
}
