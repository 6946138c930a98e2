//! Operators that work element by element.

use bitc_ir::ops::{BitCast, Clip};
use bitc_ir::{Attr, DType, Dim, Tensor, ValueId};

use super::Rule::{Chain, Same, With};
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("Abs", Same("abs")),
    std("Acos", Same("acos")),
    std("Acosh", Same("acosh")),
    std("Asin", Same("asin")),
    std("Asinh", Same("asinh")),
    std("Atan", Same("atan")),
    std("Atanh", Same("atanh")),
    std("Ceil", Same("ceil")),
    std("Cos", Same("cos")),
    std("Cosh", Same("cosh")),
    std("Erf", Same("erf")),
    std("Exp", Same("exp")),
    std("Floor", Same("floor")),
    std("Log", Same("log")),
    std("Neg", Same("neg")),
    std("Reciprocal", Same("reciprocal")),
    std("Relu", Same("relu")),
    std("Round", Same("round")),
    std("Sigmoid", Same("sigmoid")),
    std("Sign", Same("sign")),
    std("Sin", Same("sin")),
    std("Sinh", Same("sinh")),
    std("Softplus", Same("softplus")),
    std("Sqrt", Same("sqrt")),
    std("Tan", Same("tan")),
    std("Tanh", Same("tanh")),
    std("Add", With(|cx| broadcasting(cx, "add"))),
    std("Sub", With(|cx| broadcasting(cx, "sub"))),
    std("Mul", With(|cx| broadcasting(cx, "mul"))),
    std("Div", With(|cx| broadcasting(cx, "div"))),
    std("Pow", With(pow)),
    std("Mod", With(modulo)),
    std("Equal", With(|cx| broadcasting(cx, "equal"))),
    std("Less", With(|cx| broadcasting(cx, "less"))),
    std("Greater", With(|cx| broadcasting(cx, "greater"))),
    std("LessOrEqual", Same("less_equal")),
    std("GreaterOrEqual", Same("greater_equal")),
    std("And", With(|cx| broadcasting(cx, "and"))),
    std("Or", With(|cx| broadcasting(cx, "or"))),
    std("Xor", With(|cx| broadcasting(cx, "xor"))),
    std("BitwiseAnd", Same("and")),
    std("BitwiseOr", Same("or")),
    std("BitwiseXor", Same("xor")),
    std("Not", With(not)),
    std("BitwiseNot", With(not)),
    std("BitShift", With(bit_shift)),
    std("Max", Chain("max")),
    std("Min", Chain("min")),
    std("Sum", Chain("add")),
    std("Mean", With(mean)),
    std("Where", Same("where")),
    std("Clip", With(clip)),
    std("Cast", With(cast)),
    std("CastLike", With(cast_like)),
    std("IsNaN", With(is_nan)),
    std("IsInf", With(is_inf)),
    std("LeakyRelu", With(leaky_relu)),
    std("PRelu", With(prelu)),
    std("Elu", With(elu)),
    std("Celu", With(celu)),
    std("Selu", With(selu)),
    std("ThresholdedRelu", With(thresholded_relu)),
    std("HardSigmoid", With(hard_sigmoid)),
    std("HardSwish", With(hard_swish)),
    std("Mish", With(mish)),
    std("Softsign", With(softsign)),
    std("Shrink", With(shrink)),
    std("Gelu", With(gelu)),
    std("Swish", With(swish)),
    std("SwiGLU", With(swiglu)),
    std("BitCast", With(bit_cast)),
    std("Identity", With(identity)),
    std("Dropout", With(dropout)),
];

/// A binary operator. Before opset 7 only the second input broadcasts, and only with `broadcast` set.
fn broadcasting(cx: &mut NodeCx<'_, '_>, name: &str) -> Outputs {
    cx.arity(2, 2)?;
    let (a, mut b) = (cx.input(0)?, cx.input(1)?);
    if cx.version < 7 {
        cx.attrs.ignore(&["consumed_inputs"]);
        let broadcasts = cx.attrs.flag("broadcast", false)?;
        if let Some(axis) = cx.attrs.int("axis")?.filter(|_| broadcasts) {
            // The axes of b begin at `axis` of a.
            let axis = cx.axis(axis, cx.rank(a))?;
            let mut dims = cx.dims(b);
            let trailing = (cx.rank(a) - axis).saturating_sub(dims.len());
            dims.extend(vec![Dim::from(1); trailing]);
            b = cx.reshape(b, dims)?;
        }
    }
    Ok(vec![cx.simple(name, &[a, b])?])
}

fn pow(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let dtype = cx.dtype(a);
    if cx.dtype(b) == dtype {
        return broadcasting(cx, "pow");
    }
    // An integer power of a float is the float power; a float power of an integer is computed in double precision.
    if dtype.is_float() {
        let b = cx.cast(b, dtype)?;
        return Ok(vec![cx.simple("pow", &[a, b])?]);
    }
    let (wide_a, wide_b) = (cx.cast(a, DType::F64)?, cx.cast(b, DType::F64)?);
    let y = cx.simple("pow", &[wide_a, wide_b])?;
    Ok(vec![cx.cast(y, dtype)?])
}

fn modulo(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let name = if cx.attrs.flag("fmod", false)? { "rem" } else { "mod" };
    let inputs = cx.all()?;
    Ok(vec![cx.simple(name, &inputs)?])
}

fn not(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    // All bits of the type, which is -1 where there is a sign.
    let Some((low, high)) = dtype.integer_range() else { return Err(unsupported(format!("{} on {dtype}", cx.op))) };
    let ones = if low < 0 { -1 } else { high };
    let mask = if dtype == DType::U64 {
        cx.constant(Tensor::scalar(u64::MAX))
    } else {
        let wide = cx.constant(Tensor::scalar(i64::try_from(ones).unwrap_or(-1)));
        cx.cast(wide, dtype)?
    };
    Ok(vec![cx.simple("xor", &[x, mask])?])
}

fn bit_shift(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let direction = cx.attrs.str("direction")?;
    let name = match required("direction", direction)? {
        "LEFT" => "shift_left",
        "RIGHT" => "shift_right",
        other => return Err(invalid("direction", "`LEFT` or `RIGHT`", other)),
    };
    let inputs = cx.all()?;
    Ok(vec![cx.simple(name, &inputs)?])
}

fn mean(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let sum = Chain("add").apply(cx)?;
    let count = cx.inputs.len() as f64;
    let total = sum[0];
    let divisor = cx.scalar(cx.dtype(total), count)?;
    Ok(vec![cx.simple("div", &[total, divisor])?])
}

fn clip(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let (low, high) = if cx.version < 11 {
        cx.attrs.ignore(&["consumed_inputs"]);
        let (low, high) = (cx.attrs.float("min")?, cx.attrs.float("max")?);
        let mut bound = |v: Option<f32>| v.map(|v| cx.scalar(dtype, f64::from(v))).transpose();
        (bound(low)?, bound(high)?)
    } else {
        cx.arity(1, 3)?;
        (cx.opt(1), cx.opt(2))
    };
    if low.is_none() && high.is_none() {
        return Ok(vec![x]);
    }
    Ok(vec![cx.add_opt(Clip, &[Some(x), low, high])?])
}

fn cast(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    // These say what happens beyond the range of the eight-bit floats, which are refused by name.
    cx.attrs.ignore(&["saturate", "round_mode"]);
    let x = cx.input(0)?;
    let to = cx.attrs.dtype("to")?;
    Ok(vec![cx.cast(x, required("to", to)?)?])
}

fn cast_like(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    cx.attrs.ignore(&["saturate", "round_mode"]);
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let to = cx.dtype(like);
    Ok(vec![cx.cast(x, to)?])
}

fn is_nan(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    Ok(vec![cx.simple("not_equal", &[x, x])?])
}

fn is_inf(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let (positive, negative) = (cx.attrs.flag("detect_positive", true)?, cx.attrs.flag("detect_negative", true)?);
    let x = cx.input(0)?;
    let infinity = cx.scalar(cx.dtype(x), f64::INFINITY)?;
    let against = match (positive, negative) {
        (true, true) => cx.simple("abs", &[x])?,
        (true, false) => x,
        (false, true) => cx.simple("neg", &[x])?,
        (false, false) => {
            let not_less = cx.simple("equal", &[x, x])?;
            let differs = cx.simple("not_equal", &[x, x])?;
            return Ok(vec![cx.simple("and", &[not_less, differs])?]);
        }
    };
    Ok(vec![cx.simple("equal", &[against, infinity])?])
}

/// `x` where it is at least (or above) zero, else `below`.
fn split_at_zero(cx: &mut NodeCx<'_, '_>, x: ValueId, below: ValueId) -> Result<ValueId, Cause> {
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    let condition = cx.simple("greater_equal", &[x, zero])?;
    cx.simple("where", &[condition, x, below])
}

/// `name(x, constant)` for a scalar constant.
pub(super) fn with_scalar(cx: &mut NodeCx<'_, '_>, name: &str, x: ValueId, constant: f64) -> Result<ValueId, Cause> {
    let constant = cx.scalar(cx.dtype(x), constant)?;
    cx.simple(name, &[x, constant])
}

fn leaky_relu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    cx.attrs.ignore(&["consumed_inputs"]);
    let alpha = cx.attrs.float_or("alpha", 0.01)?;
    let x = cx.input(0)?;
    Ok(vec![leaky_relu_of(cx, x, f64::from(alpha))?])
}

pub(super) fn leaky_relu_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f64) -> Result<ValueId, Cause> {
    let below = with_scalar(cx, "mul", x, alpha)?;
    split_at_zero(cx, x, below)
}

fn prelu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    cx.attrs.ignore(&["consumed_inputs"]);
    let (x, mut slope) = (cx.input(0)?, cx.input(1)?);
    // Before opset 7 a slope of rank 1 belongs to the channels; exporters write it so later too, where no other fits.
    let per_channel = cx.rank(slope) == 1 && cx.rank(x) > 2 && cx.dims(slope).first() == cx.dims(x).get(1);
    if per_channel && cx.dims(slope).last() != cx.dims(x).last() {
        let mut dims = cx.dims(slope);
        dims.extend(vec![Dim::from(1); cx.rank(x) - 2]);
        slope = cx.reshape(slope, dims)?;
    }
    let below = cx.simple("mul", &[x, slope])?;
    Ok(vec![split_at_zero(cx, x, below)?])
}

/// `scale * (exp(x / divisor) - 1)`.
fn exp_minus_one(cx: &mut NodeCx<'_, '_>, x: ValueId, divisor: f64, scale: f64) -> Result<ValueId, Cause> {
    let scaled = if divisor == 1.0 { x } else { with_scalar(cx, "div", x, divisor)? };
    let exp = cx.simple("exp", &[scaled])?;
    let less = with_scalar(cx, "sub", exp, 1.0)?;
    with_scalar(cx, "mul", less, scale)
}

fn elu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    cx.attrs.ignore(&["consumed_inputs"]);
    let alpha = f64::from(cx.attrs.float_or("alpha", 1.0)?);
    let x = cx.input(0)?;
    Ok(vec![elu_of(cx, x, alpha)?])
}

pub(super) fn elu_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f64) -> Result<ValueId, Cause> {
    let below = exp_minus_one(cx, x, 1.0, alpha)?;
    split_at_zero(cx, x, below)
}

fn celu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let alpha = f64::from(cx.attrs.float_or("alpha", 1.0)?);
    let x = cx.input(0)?;
    Ok(vec![celu_of(cx, x, alpha)?])
}

pub(super) fn celu_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f64) -> Result<ValueId, Cause> {
    let below = exp_minus_one(cx, x, alpha, alpha)?;
    split_at_zero(cx, x, below)
}

fn selu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    cx.attrs.ignore(&["consumed_inputs"]);
    // Before opset 6 the defaults had fewer digits.
    let (alpha, gamma) = if cx.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (cx.attrs.float_or("alpha", alpha)?, cx.attrs.float_or("gamma", gamma)?);
    let x = cx.input(0)?;
    Ok(vec![selu_of(cx, x, f64::from(alpha), f64::from(gamma))?])
}

pub(super) fn selu_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f64, gamma: f64) -> Result<ValueId, Cause> {
    let y = elu_of(cx, x, alpha)?;
    with_scalar(cx, "mul", y, gamma)
}

fn thresholded_relu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let x = cx.input(0)?;
    Ok(vec![thresholded_relu_of(cx, x, f64::from(alpha))?])
}

pub(super) fn thresholded_relu_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f64) -> Result<ValueId, Cause> {
    let condition = with_scalar(cx, "greater", x, alpha)?;
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    cx.simple("where", &[condition, x, zero])
}

/// `max(0, min(1, alpha * x + beta))`.
pub(super) fn hard_sigmoid_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f64, beta: f64) -> Result<ValueId, Cause> {
    let scaled = with_scalar(cx, "mul", x, alpha)?;
    let shifted = with_scalar(cx, "add", scaled, beta)?;
    let dtype = cx.dtype(x);
    let (low, high) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, 1.0)?);
    cx.add(Clip, &[shifted, low, high])
}

fn hard_sigmoid(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    cx.attrs.ignore(&["consumed_inputs"]);
    let (alpha, beta) = (cx.attrs.float_or("alpha", 0.2)?, cx.attrs.float_or("beta", 0.5)?);
    let x = cx.input(0)?;
    Ok(vec![hard_sigmoid_of(cx, x, f64::from(alpha), f64::from(beta))?])
}

fn hard_swish(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    Ok(vec![hard_swish_of(cx, x)?])
}

pub(super) fn hard_swish_of(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    let gate = hard_sigmoid_of(cx, x, 1.0 / 6.0, 0.5)?;
    cx.simple("mul", &[x, gate])
}

fn mish(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let soft = cx.simple("softplus", &[x])?;
    let gate = cx.simple("tanh", &[soft])?;
    Ok(vec![cx.simple("mul", &[x, gate])?])
}

fn softsign(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    Ok(vec![softsign_of(cx, x)?])
}

pub(super) fn softsign_of(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    let magnitude = cx.simple("abs", &[x])?;
    let divisor = with_scalar(cx, "add", magnitude, 1.0)?;
    cx.simple("div", &[x, divisor])
}

fn shrink(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let (bias, lambd) = (f64::from(cx.attrs.float_or("bias", 0.0)?), f64::from(cx.attrs.float_or("lambd", 0.5)?));
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    // Integers are compared with the bounds as floats, as the reference does.
    let wide = if dtype.is_float() { x } else { cx.cast(x, DType::F64)? };
    let (below, above) = (with_scalar(cx, "less", wide, -lambd)?, with_scalar(cx, "greater", wide, lambd)?);
    let (raised, lowered) = (with_scalar(cx, "add", wide, bias)?, with_scalar(cx, "sub", wide, bias)?);
    let zero = cx.scalar(cx.dtype(wide), 0.0)?;
    let upper = cx.simple("where", &[above, lowered, zero])?;
    let y = cx.simple("where", &[below, raised, upper])?;
    Ok(vec![cx.cast(y, dtype)?])
}

fn gelu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let name = match cx.attrs.str_or("approximate", "none")? {
        "none" => "gelu",
        "tanh" => "gelu_tanh",
        other => return Err(invalid("approximate", "`none` or `tanh`", other)),
    };
    let x = cx.input(0)?;
    Ok(vec![cx.simple(name, &[x])?])
}

fn swish(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let x = cx.input(0)?;
    Ok(vec![swish_of(cx, x, alpha)?])
}

fn swish_of(cx: &mut NodeCx<'_, '_>, x: ValueId, alpha: f32) -> Result<ValueId, Cause> {
    if alpha == 1.0 {
        return cx.simple("silu", &[x]);
    }
    let scaled = with_scalar(cx, "mul", x, f64::from(alpha))?;
    let gate = cx.simple("sigmoid", &[scaled])?;
    cx.simple("mul", &[x, gate])
}

/// A value by the swish of its gate.
fn swiglu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let (gate, x) = (cx.input(0)?, cx.input(1)?);
    if cx.dims(gate) != cx.dims(x) {
        return Err(Cause::Type(format!("inputs of one shape expected, found {} and {}", cx.ty(gate), cx.ty(x))));
    }
    let gate = swish_of(cx, gate, alpha)?;
    Ok(vec![cx.simple("mul", &[gate, x])?])
}

/// The same bits in another element type. A boolean is a byte that is 0 or 1.
fn bit_cast(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let to = required("to", cx.attrs.dtype("to")?)?;
    let x = cx.input(0)?;
    let from = cx.dtype(x);
    if from == to {
        return Ok(vec![x]);
    }
    if from.bits() < 8 && from != DType::Bool || to.bits() < 8 && to != DType::Bool {
        return Err(unsupported(format!("BitCast of {from} to {to}")));
    }
    let (width, byte) = (|dtype: DType| dtype.size_bytes(), DType::U8);
    if width(from) != width(to) {
        return Err(Cause::Type(format!("a type as wide as {from} expected, found {to}")));
    }
    let x = if from == DType::Bool { cx.cast(x, byte)? } else { x };
    let wanted = if to == DType::Bool { byte } else { to };
    let y = if cx.dtype(x) == wanted { x } else { cx.add(BitCast { to: wanted }, &[x])? };
    Ok(vec![cx.cast(y, to)?])
}

fn identity(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    Ok(vec![cx.input(0)?])
}

/// Nothing is dropped at inference; the mask, where someone wants it, is all true.
fn dropout(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 3)?;
    cx.attrs.ignore(&["ratio", "is_test", "consumed_inputs", "seed"]);
    let x = cx.input(0)?;
    if let Some(training) = cx.opt(2) {
        let training = cx.build.known_ints(training, "training_mode")?;
        if training != [0] {
            return Err(unsupported("Dropout in training mode"));
        }
    }
    if !cx.wants(1) {
        return Ok(vec![x]);
    }
    let kept = cx.constant(Tensor::with_dtype(DType::Bool, &[], &[1u8]));
    let dtype = if cx.version < 10 { cx.dtype(x) } else { DType::Bool };
    let kept = cx.cast(kept, dtype)?;
    let shape = Attr::from(&cx.ty(x).shape);
    Ok(vec![x, cx.named("expand", vec![("shape", shape)], &[kept])?])
}
