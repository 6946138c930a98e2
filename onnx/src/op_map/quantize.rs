//! Quantisation: affine quantisers, their products, and QONNX's quantisers.

use bitc_ir::ops::{Clip, Expand, Reduce, reduce::ReduceKind};
use bitc_ir::{DType, Dim, Shape, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::invalid;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("QuantizeLinear", With(quantize_linear)),
    std("DequantizeLinear", With(dequantize_linear)),
    std("DynamicQuantizeLinear", With(dynamic_quantize_linear)),
    std("QLinearMatMul", With(qlinear_matmul)),
    Entry { domain: "qonnx.custom_op.general", op: "Quant", since: 1, rule: With(quant) },
    Entry { domain: "qonnx.custom_op.general", op: "IntQuant", since: 1, rule: With(quant) },
    Entry { domain: "qonnx.custom_op.general", op: "BipolarQuant", since: 1, rule: With(bipolar_quant) },
    Entry { domain: "qonnx.custom_op.general", op: "Trunc", since: 1, rule: With(trunc) },
    Entry { domain: "onnx.brevitas", op: "Quant", since: 1, rule: With(quant) },
    Entry { domain: "onnx.brevitas", op: "IntQuant", since: 1, rule: With(quant) },
    Entry { domain: "onnx.brevitas", op: "BipolarQuant", since: 1, rule: With(bipolar_quant) },
    Entry { domain: "onnx.brevitas", op: "Trunc", since: 1, rule: With(trunc) },
];

/// A scale or zero point, aligned with the axes of `x`: one for all, one per position of an axis, or one per block.
fn aligned(cx: &mut NodeCx<'_, '_>, v: ValueId, x: ValueId, axis: i64, block: i64) -> Result<ValueId, Cause> {
    let (own, dims) = (cx.dims(v), cx.dims(x));
    if own.iter().all(Dim::is_one) && own.len() <= 1 {
        return cx.reshape(v, Vec::new());
    }
    let at = cx.axis(axis, dims.len())?;
    if own.len() == 1 && block == 0 {
        let mut shape = vec![Dim::from(1); dims.len()];
        shape[at] = own[0].clone();
        return cx.reshape(v, shape);
    }
    if own.len() != dims.len() {
        return Err(Cause::Type(format!("a scale that fits {} expected, found {}", cx.ty(x), cx.ty(v))));
    }
    // Every position of the axis repeats as often as a block is long; the last block may be shorter.
    let (Some(blocks), Some(size)) = (own[at].as_const(), dims[at].as_const()) else {
        return Err(unsupported("blocks of a symbolic dimension"));
    };
    let block = usize::try_from(block).ok().filter(|&b| b > 0).unwrap_or_else(|| size.div_ceil(blocks.max(1)));
    if blocks.saturating_mul(block) < size || (blocks.saturating_sub(1)).saturating_mul(block) >= size.max(1) {
        return Err(Cause::Type(format!("{blocks} blocks of {block} do not cover a dimension of size {size}")));
    }
    let mut split = own.clone();
    split.insert(at + 1, Dim::from(1));
    let mut full = own.clone();
    full.insert(at + 1, Dim::from(block));
    let mut merged = own;
    merged[at] = Dim::from(blocks * block);
    let v = cx.reshape(v, split)?;
    let v = cx.add(Expand { shape: Shape(full) }, &[v])?;
    let v = cx.reshape(v, merged)?;
    if blocks * block == size {
        return Ok(v);
    }
    let slice = bitc_ir::ops::Slice {
        axes: vec![at],
        starts: Shape(vec![Dim::from(0)]),
        ends: Shape(vec![Dim::from(size)]),
        steps: vec![1],
    };
    cx.add(slice, &[v])
}

/// `saturate(round(x / scale) + zero)` in an integer type.
pub(super) fn quantized(
    cx: &mut NodeCx<'_, '_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
) -> Result<ValueId, Cause> {
    let Some((low, high)) = to.integer_range().filter(|_| to.bits() <= 16) else {
        return Err(unsupported(format!("quantisation to {to}")));
    };
    let x = cx.cast(x, DType::F32)?;
    let scale = cx.cast(scale, DType::F32)?;
    let quotient = cx.simple("div", &[x, scale])?;
    let mut q = cx.simple("round", &[quotient])?;
    if let Some(zero) = zero {
        let zero = cx.cast(zero, DType::F32)?;
        q = cx.simple("add", &[q, zero])?;
    }
    let (low, high) = (cx.scalar(DType::F32, low as f64)?, cx.scalar(DType::F32, high as f64)?);
    let q = cx.add(Clip, &[q, low, high])?;
    cx.cast(q, to)
}

/// `(q - zero) * scale` in the type of the scale.
fn dequantized(cx: &mut NodeCx<'_, '_>, q: ValueId, scale: ValueId, zero: Option<ValueId>) -> Result<ValueId, Cause> {
    let dtype = cx.dtype(scale);
    let mut x = q;
    if let Some(zero) = zero {
        // Differences of 8-bit values do not fit 8 bits.
        let (wide, wide_zero) = (cx.cast(q, DType::I32)?, cx.cast(zero, DType::I32)?);
        x = cx.simple("sub", &[wide, wide_zero])?;
    }
    let x = cx.cast(x, dtype)?;
    cx.simple("mul", &[x, scale])
}

fn quantize_linear(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    // `saturate` is about eight-bit floats; `precision` about the type of the division.
    cx.attrs.ignore(&["saturate"]);
    let (axis, block) = (cx.attrs.int_or("axis", 1)?, cx.attrs.int_or("block_size", 0)?);
    let stated = cx.attrs.dtype("output_dtype")?;
    if cx.attrs.int_or("precision", 0)? > 1 {
        return Err(unsupported("QuantizeLinear with a stated precision"));
    }
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.opt(2));
    let to = zero.map(|z| cx.dtype(z)).or(stated).unwrap_or(DType::U8);
    let scale = aligned(cx, scale, x, axis, block)?;
    let zero = zero.map(|z| aligned(cx, z, x, axis, block)).transpose()?;
    Ok(vec![quantized(cx, x, scale, zero, to)?])
}

fn dequantize_linear(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let (axis, block) = (cx.attrs.int_or("axis", 1)?, cx.attrs.int_or("block_size", 0)?);
    let to = cx.attrs.dtype("output_dtype")?;
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.opt(2));
    let scale = aligned(cx, scale, x, axis, block)?;
    let zero = zero.map(|z| aligned(cx, z, x, axis, block)).transpose()?;
    let y = dequantized(cx, x, scale, zero)?;
    Ok(vec![match to {
        Some(to) => cx.cast(y, to)?,
        None => y,
    }])
}

/// Eight bits over the range of all elements and zero.
fn dynamic_quantize_linear(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let (q, scale, zero) = dynamically_quantized(cx, x)?;
    Ok(vec![q, scale, zero])
}

/// The quantised tensor, its scale and its zero point.
pub(super) fn dynamically_quantized(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<(ValueId, ValueId, ValueId), Cause> {
    let over_all = |cx: &mut NodeCx<'_, '_>, kind| cx.add(Reduce { kind, axes: Vec::new(), keep: false }, &[x]);
    let (low, high) = (over_all(cx, ReduceKind::Min)?, over_all(cx, ReduceKind::Max)?);
    let low = with_scalar(cx, "min", low, 0.0)?;
    let high = with_scalar(cx, "max", high, 0.0)?;
    let span = cx.simple("sub", &[high, low])?;
    let scale = with_scalar(cx, "div", span, 255.0)?;
    let zero_float = cx.scalar(DType::F32, 0.0)?;
    let quotient = cx.simple("div", &[low, scale])?;
    let at = cx.simple("sub", &[zero_float, quotient])?;
    let (bottom, top) = (cx.scalar(DType::F32, 0.0)?, cx.scalar(DType::F32, 255.0)?);
    let clipped = cx.add(Clip, &[at, bottom, top])?;
    let rounded = cx.simple("round", &[clipped])?;
    let zero = cx.cast(rounded, DType::U8)?;
    let q = quantized(cx, x, scale, Some(zero), DType::U8)?;
    Ok((q, scale, zero))
}

/// A product of dequantised operands, quantised.
fn qlinear_matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(8, 8)?;
    let inputs = cx.all()?;
    let operand = |cx: &mut NodeCx<'_, '_>, i: usize, by_row: bool| -> Result<(ValueId, ValueId), Cause> {
        let (x, mut scale, mut zero) = (inputs[i], inputs[i + 1], inputs[i + 2]);
        for v in [&mut scale, &mut zero] {
            let own = cx.dims(*v);
            if own.iter().all(Dim::is_one) && own.len() <= 1 {
                *v = cx.reshape(*v, Vec::new())?;
            } else if by_row && own.len() == 1 {
                *v = cx.reshape(*v, vec![own[0].clone(), Dim::from(1)])?;
            }
        }
        let (wide, wide_zero) = (cx.cast(x, DType::I32)?, cx.cast(zero, DType::I32)?);
        let scale = cx.cast(scale, DType::F32)?;
        Ok((cx.simple("sub", &[wide, wide_zero])?, scale))
    };
    let (a, a_scale) = operand(cx, 0, true)?;
    let (b, b_scale) = operand(cx, 3, false)?;
    let product = cx.simple("matmul", &[a, b])?;
    let product = cx.cast(product, DType::F32)?;
    let scale = cx.simple("mul", &[a_scale, b_scale])?;
    let real = cx.simple("mul", &[product, scale])?;
    let to = cx.dtype(inputs[7]);
    let y_scale = cx.reshape(inputs[6], Vec::new())?;
    let y_zero = cx.reshape(inputs[7], Vec::new())?;
    Ok(vec![quantized(cx, real, y_scale, Some(y_zero), to)?])
}

/// QONNX's rounding modes.
fn rounded(cx: &mut NodeCx<'_, '_>, x: ValueId, mode: &str) -> Result<ValueId, Cause> {
    match mode.to_ascii_uppercase().as_str() {
        "ROUND" | "HALF_EVEN" => cx.simple("round", &[x]),
        "CEIL" => cx.simple("ceil", &[x]),
        "FLOOR" => cx.simple("floor", &[x]),
        // Toward zero: the sign times the floor of the magnitude.
        "ROUND_TO_ZERO" | "DOWN" => toward_zero(cx, x, "floor"),
        "UP" => toward_zero(cx, x, "ceil"),
        "HALF_UP" => {
            let magnitude = cx.simple("abs", &[x])?;
            let shifted = with_scalar(cx, "add", magnitude, 0.5)?;
            let whole = cx.simple("floor", &[shifted])?;
            let sign = cx.simple("sign", &[x])?;
            cx.simple("mul", &[sign, whole])
        }
        other => Err(invalid("rounding_mode", "a rounding mode of QONNX", other)),
    }
}

fn toward_zero(cx: &mut NodeCx<'_, '_>, x: ValueId, name: &str) -> Result<ValueId, Cause> {
    let magnitude = cx.simple("abs", &[x])?;
    let whole = cx.simple(name, &[magnitude])?;
    let sign = cx.simple("sign", &[x])?;
    cx.simple("mul", &[sign, whole])
}

/// `(clip(round(x / scale + zero)) - zero) * scale` over an integer range of so many bits.
fn quant(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(4, 4)?;
    let (signed, narrow) = (cx.attrs.flag("signed", true)?, cx.attrs.flag("narrow", false)?);
    let mode = cx.attrs.str_or("rounding_mode", "ROUND")?;
    let inputs = cx.all()?;
    let [x, scale, zero, bits] = inputs[..] else { return Err(unsupported("these inputs")) };
    let width = cx.build.known_tensor(bits, "bitwidth")?.to_f64();
    let width = match width[..] {
        [b] if (1.0..=32.0).contains(&b) => b,
        _ => return Err(unsupported(format!("a bit width of {width:?}"))),
    };
    let (low, high) = integer_range(width, signed, narrow);
    let quotient = cx.simple("div", &[x, scale])?;
    let shifted = cx.simple("add", &[quotient, zero])?;
    // Clipped first, as QONNX does; bounds are whole numbers, so the order does not matter but for directed rounding.
    let (low, high) = (cx.scalar(DType::F32, low)?, cx.scalar(DType::F32, high)?);
    let clipped = cx.add(Clip, &[shifted, low, high])?;
    let whole = rounded(cx, clipped, mode)?;
    let centred = cx.simple("sub", &[whole, zero])?;
    Ok(vec![cx.simple("mul", &[centred, scale])?])
}

fn integer_range(bits: f64, signed: bool, narrow: bool) -> (f64, f64) {
    match (signed, narrow) {
        (true, false) => (-(2f64.powf(bits - 1.0)), 2f64.powf(bits - 1.0) - 1.0),
        (true, true) => (-(2f64.powf(bits - 1.0)) + 1.0, 2f64.powf(bits - 1.0) - 1.0),
        (false, false) => (0.0, 2f64.powf(bits) - 1.0),
        (false, true) => (0.0, 2f64.powf(bits) - 2.0),
    }
}

/// `scale` where x is not negative, else `-scale`.
fn bipolar_quant(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    let positive = cx.simple("greater_equal", &[x, zero])?;
    let (plus, minus) = (cx.scalar(cx.dtype(x), 1.0)?, cx.scalar(cx.dtype(x), -1.0)?);
    let sign = cx.simple("where", &[positive, plus, minus])?;
    Ok(vec![cx.simple("mul", &[sign, scale])?])
}

/// Fewer bits: `(trunc((x / scale + zero) / 2^(in - out)) - zero) * scale`.
fn trunc(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(5, 5)?;
    let mode = cx.attrs.str_or("rounding_mode", "FLOOR")?;
    let inputs = cx.all()?;
    let [x, scale, zero, from, to] = inputs[..] else { return Err(unsupported("these inputs")) };
    let width = |cx: &NodeCx<'_, '_>, v, what| -> Result<f64, Cause> {
        let found = cx.build.known_tensor(v, what)?.to_f64();
        found.first().copied().ok_or_else(|| Cause::Type("one number expected, found none".into()))
    };
    let (from, to) = (width(cx, from, "in_bitwidth")?, width(cx, to, "out_bitwidth")?);
    let quotient = cx.simple("div", &[x, scale])?;
    let shifted = cx.simple("add", &[quotient, zero])?;
    let whole = cx.simple("round", &[shifted])?;
    let reduced = with_scalar(cx, "div", whole, 2f64.powf(from - to))?;
    let cut = rounded(cx, reduced, mode)?;
    let centred = cx.simple("sub", &[cut, zero])?;
    Ok(vec![cx.simple("mul", &[centred, scale])?])
}
