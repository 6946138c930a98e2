//! Operations that work element by element.

use bitc_ir::DType;
use bitc_ir::ops::activation::Activation;
use bitc_ir::ops::compare::CompareKind;
use bitc_ir::ops::{BinaryKind, Remainder, UnaryKind};

use super::convert::{attr_int, attr_str};
use super::cx::{Cx, Names, No, no};
use super::scope::Scope;

pub(super) fn unary(cx: &mut Cx<'_, '_>, kind: UnaryKind) -> Names {
    let (x, dtype) = (cx.input(0)?, cx.ty(0)?.dtype);
    if !dtype.is_float() && matches!(kind, UnaryKind::Floor | UnaryKind::Ceil | UnaryKind::Round) {
        return Ok(vec![x]);
    }
    if dtype.is_integer() {
        let is_signed = dtype.integer_range().is_some_and(|(low, _)| low < 0);
        let zero = |s: &mut Scope| s.scalar(dtype, 0.0);
        match kind {
            UnaryKind::Relu => {
                let zero = zero(cx.s());
                return Ok(vec![cx.op("Max", &[&x, &zero], Vec::new())]);
            }
            UnaryKind::Neg if !is_signed => {
                let via = carried_by(dtype, &[DType::I32, DType::I64, DType::U32, DType::U64])?;
                let zero = zero(cx.s());
                let minus = |s: &mut Scope, xs: &[&str]| s.op("Sub", xs, Vec::new());
                return Ok(vec![widened(cx, dtype, via, &[&zero, &x], minus)]);
            }
            _ => {}
        }
    }
    Ok(vec![unary_of(cx.s(), kind, &x, dtype)])
}

/// The result of an operation that stands behind a layer.
pub(super) fn activation(cx: &mut Cx<'_, '_>, act: Activation, x: String) -> String {
    let Some(kind) = act.unary() else { return x };
    unary_of(cx.s(), kind, &x, DType::F32)
}

fn unary_of(s: &mut Scope, kind: UnaryKind, x: &str, dtype: DType) -> String {
    let op = match kind {
        UnaryKind::Relu => "Relu",
        UnaryKind::Sigmoid => "Sigmoid",
        UnaryKind::Tanh => "Tanh",
        UnaryKind::Erf => "Erf",
        UnaryKind::Exp => "Exp",
        UnaryKind::Log => "Log",
        UnaryKind::Sqrt => "Sqrt",
        UnaryKind::Reciprocal => "Reciprocal",
        UnaryKind::Sin => "Sin",
        UnaryKind::Cos => "Cos",
        UnaryKind::Tan => "Tan",
        UnaryKind::Asin => "Asin",
        UnaryKind::Acos => "Acos",
        UnaryKind::Atan => "Atan",
        UnaryKind::Sinh => "Sinh",
        UnaryKind::Cosh => "Cosh",
        UnaryKind::Asinh => "Asinh",
        UnaryKind::Acosh => "Acosh",
        UnaryKind::Atanh => "Atanh",
        UnaryKind::Softplus => "Softplus",
        UnaryKind::Abs => "Abs",
        UnaryKind::Neg => "Neg",
        UnaryKind::Sign => "Sign",
        UnaryKind::Floor => "Floor",
        UnaryKind::Ceil => "Ceil",
        UnaryKind::Round => "Round",
        UnaryKind::Relu2 => {
            let y = s.op("Relu", &[x], Vec::new());
            return s.op("Mul", &[&y, &y], Vec::new());
        }
        UnaryKind::Silu => {
            let gate = s.op("Sigmoid", &[x], Vec::new());
            return s.op("Mul", &[x, &gate], Vec::new());
        }
        UnaryKind::Gelu if s.opset >= 20 => "Gelu",
        UnaryKind::GeluTanh if s.opset >= 20 => return s.op("Gelu", &[x], vec![attr_str("approximate", "tanh")]),
        UnaryKind::Gelu => {
            let factor = s.scalar(dtype, std::f64::consts::FRAC_1_SQRT_2);
            let scaled = s.op("Mul", &[x, &factor], Vec::new());
            let erf = s.op("Erf", &[&scaled], Vec::new());
            return gated(s, x, &erf, dtype);
        }
        UnaryKind::GeluTanh => {
            let (cubic, factor) = (s.scalar(dtype, 0.044715), s.scalar(dtype, (2.0 / std::f64::consts::PI).sqrt()));
            let square = s.op("Mul", &[x, x], Vec::new());
            let cube = s.op("Mul", &[&square, x], Vec::new());
            let cube = s.op("Mul", &[&cube, &cubic], Vec::new());
            let inner = s.op("Add", &[x, &cube], Vec::new());
            let inner = s.op("Mul", &[&inner, &factor], Vec::new());
            let tanh = s.op("Tanh", &[&inner], Vec::new());
            return gated(s, x, &tanh, dtype);
        }
    };
    s.op(op, &[x], Vec::new())
}

/// `0.5 * x * (1 + gate)`.
fn gated(s: &mut Scope, x: &str, gate: &str, dtype: DType) -> String {
    let (half, one) = (s.scalar(dtype, 0.5), s.scalar(dtype, 1.0));
    let gate = s.op("Add", &[gate, &one], Vec::new());
    let scaled = s.op("Mul", &[x, &half], Vec::new());
    s.op("Mul", &[&scaled, &gate], Vec::new())
}

pub(super) fn binary(cx: &mut Cx<'_, '_>, kind: BinaryKind) -> Names {
    let op = match kind {
        BinaryKind::Add => "Add",
        BinaryKind::Sub => "Sub",
        BinaryKind::Mul => "Mul",
        BinaryKind::Div => "Div",
        BinaryKind::Max => "Max",
        BinaryKind::Min => "Min",
        BinaryKind::Pow => "Pow",
    };
    let dtype = cx.ty(0)?.dtype;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let via = match kind {
        BinaryKind::Max | BinaryKind::Min => dtype,
        BinaryKind::Pow => carried_by(dtype, &[DType::I32, DType::I64])?,
        _ if cx.opset() >= 14 => dtype,
        _ => carried_by(dtype, &[DType::I32, DType::I64, DType::U32, DType::U64])?,
    };
    Ok(vec![widened(cx, dtype, via, &[&a, &b], |s, xs| s.op(op, xs, Vec::new()))])
}

/// The type that integers of `dtype` are computed in where an operator takes only some: wrapping to the smaller type
/// afterwards gives the same bits.
pub(super) fn carried_by(dtype: DType, taken: &[DType]) -> Result<DType, No> {
    if !dtype.is_integer() || taken.contains(&dtype) {
        return Ok(dtype);
    }
    match dtype.bits() {
        ..=16 => Ok(DType::I32),
        32 => Ok(DType::I64),
        _ => no(format!("numbers of type {dtype}, which the operator does not take")),
    }
}

/// An operation on values of one type that is computed in another.
pub(super) fn widened(
    cx: &mut Cx<'_, '_>,
    dtype: DType,
    via: DType,
    inputs: &[&str],
    op: impl FnOnce(&mut Scope, &[&str]) -> String,
) -> String {
    if via == dtype {
        return op(cx.s(), inputs);
    }
    let wide: Vec<String> = inputs.iter().map(|x| cx.s().cast(x, via)).collect();
    let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
    let y = op(cx.s(), &wide);
    cx.s().cast(&y, dtype)
}

pub(super) fn remainder(cx: &mut Cx<'_, '_>, op: &Remainder) -> Names {
    let (a, b, dtype) = (cx.input(0)?, cx.input(1)?, cx.ty(0)?.dtype);
    if dtype.is_float() && op.floored {
        // a - floor(a / b) * b: ONNX has this remainder for integers only.
        let quotient = cx.op("Div", &[&a, &b], Vec::new());
        let whole = cx.op("Floor", &[&quotient], Vec::new());
        let multiple = cx.op("Mul", &[&whole, &b], Vec::new());
        return Ok(vec![cx.op("Sub", &[&a, &multiple], Vec::new())]);
    }
    Ok(vec![cx.op("Mod", &[&a, &b], vec![attr_int("fmod", i64::from(!op.floored))])])
}

pub(super) fn compare(cx: &mut Cx<'_, '_>, kind: CompareKind) -> Names {
    let (mut a, mut b) = (cx.input(0)?, cx.input(1)?);
    let is_order = !matches!(kind, CompareKind::Equal | CompareKind::NotEqual);
    if is_order && cx.ty(0)?.dtype == DType::Bool {
        (a, b) = (cx.s().cast(&a, DType::I32), cx.s().cast(&b, DType::I32));
    }
    let op = match kind {
        CompareKind::Equal | CompareKind::NotEqual => "Equal",
        CompareKind::Less => "Less",
        CompareKind::LessEqual => "LessOrEqual",
        CompareKind::Greater => "Greater",
        CompareKind::GreaterEqual => "GreaterOrEqual",
    };
    let holds = cx.op(op, &[&a, &b], Vec::new());
    Ok(vec![if kind == CompareKind::NotEqual { cx.op("Not", &[&holds], Vec::new()) } else { holds }])
}

/// One of two values. Between bools it is written as logic, since onnxruntime has no `Where` for them.
pub(super) fn choose(cx: &mut Cx<'_, '_>) -> Names {
    if cx.ty(1)?.dtype != DType::Bool {
        return cx.same("Where");
    }
    let (condition, yes, no) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let yes = cx.op("And", &[&condition, &yes], Vec::new());
    let otherwise = cx.op("Not", &[&condition], Vec::new());
    let no = cx.op("And", &[&otherwise, &no], Vec::new());
    Ok(vec![cx.op("Or", &[&yes, &no], Vec::new())])
}

pub(super) fn clip(cx: &mut Cx<'_, '_>) -> Names {
    let x = cx.input(0)?;
    let mut bounds = Vec::new();
    for i in [1, 2] {
        bounds.push(scalar_of(cx, i)?);
    }
    Ok(vec![cx.op("Clip", &[&x, &bounds[0], &bounds[1]], Vec::new())])
}

/// An input of one element as a scalar; empty where it is absent.
pub(super) fn scalar_of(cx: &mut Cx<'_, '_>, i: usize) -> Result<String, No> {
    if cx.value(i).is_none() || cx.ty(i)?.shape.rank() == 0 {
        return cx.opt(i);
    }
    if let Some(scalar) = cx.constant(i).and_then(|t| t.reshaped(&[])) {
        return Ok(cx.s().tensor(&scalar));
    }
    let (v, dims) = (cx.input(i)?, cx.s().ints(&[]));
    Ok(cx.op("Reshape", &[&v, &dims], Vec::new()))
}
