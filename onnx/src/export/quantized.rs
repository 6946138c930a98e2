//! Quantised activations and layers of few-bit weights.

use bitc_ir::ops::quantize_act::{Floor, Form as Quantizer, Over, QuantizeAct};
use bitc_ir::ops::{BitConv2d, BitLinear, Conv2d, Dequantize, activation::Activation};
use bitc_ir::{DType, Tensor};
use bytes::Bytes;

use super::bodies::{self, Carrier, floor_of};
use super::convert::{attr_float, attr_int, attr_ints, raw};
use super::cx::{Cx, Names, No, no};
use super::elementwise::activation;
use super::product::{Stored, conv_attrs, dequantized, dequantized_activations, stored_matmul};
use super::{Form, pack};
use crate::proto::data_type;

pub(super) fn quantize_act(cx: &mut Cx<'_, '_>, op: &QuantizeAct) -> Names {
    let x = cx.input(0)?;
    let rank = cx.ty(0)?.shape.rank() as i64;
    let axes: Vec<i64> = match op.over {
        _ if op.form == Quantizer::Integer => (0..rank).collect(),
        Over::Row => vec![-1],
        Over::Tensor => (0..rank).collect(),
        Over::Sample => (1..rank).collect(),
        Over::Channel => vec![1],
    };
    if axes.is_empty() {
        return no("a scale per element");
    }
    let mut attrs = vec![attr_float("low", f32::from(op.low)), attr_float("high", f32::from(op.high))];
    if op.form == Quantizer::Integer {
        attrs.push(attr_ints("scale_shape", &vec![1; axes.len()]));
    } else {
        attrs.push(attr_ints("axes", &axes));
        attrs.push(attr_float("levels", f32::from(op.levels)));
        attrs.push(attr_float("max_floor", floor_of(op, Floor::ClipMax)));
    }
    if op.form == Quantizer::Divide {
        attrs.push(attr_float("scale_floor", floor_of(op, Floor::ClipScale)));
        attrs.push(attr_float("divisor_add", floor_of(op, Floor::AddToDivisor)));
    }
    let outputs = cx.call(bodies::quantizer_name(op.form), &[&x], attrs);
    cx.w.carriers.insert(cx.node.outputs[0], outputs[0].clone());
    Ok(vec![String::new(), outputs[1].clone()])
}

/// Packed ternary weights as a constant.
fn packed_weights(cx: &mut Cx<'_, '_>, weights: &[i8], hint: &str) -> String {
    let bytes = pack::trits(weights.iter().copied());
    cx.s().constant(hint, raw(data_type::UINT8, &[bytes.len()], Bytes::from(bytes)))
}

/// 8-bit weights as a constant with the zero point of activations.
fn byte_weights(cx: &mut Cx<'_, '_>, weights: &[i8], dims: &[usize], hint: &str) -> String {
    // Flipping the highest bit adds 128.
    let bytes: Vec<u8> = weights.iter().map(|v| v.cast_unsigned() ^ 0x80).collect();
    cx.s().constant(hint, raw(data_type::UINT8, dims, Bytes::from(bytes)))
}

/// Weights as floats without their scale: packed where the form has that, a constant elsewhere.
fn float_weights(cx: &mut Cx<'_, '_>, weights: &[i8], dims: &[usize], ternary: bool, hint: &str) -> String {
    if cx.form() == Form::Float || !ternary {
        let floats: Vec<f32> = weights.iter().map(|&v| f32::from(v)).collect();
        return cx.s().tensor_as(hint, &Tensor::new(dims, &floats));
    }
    let (packed, one) = (packed_weights(cx, weights, hint), cx.s().f32(1.0));
    ternary_weight(cx, &packed, &one, dims)
}

/// A call of `TernaryWeight`.
fn ternary_weight(cx: &mut Cx<'_, '_>, packed: &str, scale: &str, dims: &[usize]) -> String {
    let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    let attrs = vec![attr_ints("shape", &shape)];
    cx.call("TernaryWeight", &[packed, scale], attrs).swap_remove(0)
}

pub(super) fn dequantize(cx: &mut Cx<'_, '_>, op: &Dequantize) -> Names {
    if op.group > 0 {
        return dequantize_groups(cx, op.group);
    }
    let ternary = cx.constant(0).filter(|t| t.dtype() == DType::T2);
    let (Some(q), Some(scale)) = (ternary, cx.constant(1)) else {
        let (q, scale) = (cx.input(0)?, cx.input(1)?);
        let wide = cx.s().cast(&q, DType::F32);
        return Ok(vec![cx.op("Mul", &[&wide, &scale], Vec::new())]);
    };
    let (values, dims) = (q.to_vec::<i8>().unwrap_or_default(), q.dims());
    let hint = cx.hint(0);
    let along: Vec<usize> = (0..scale.rank()).filter(|&i| scale.dims()[i] != 1).collect();
    match (cx.form(), &along[..]) {
        (Form::Float, _) => {
            let value = cx.node.op.eval(vec![Some(q), Some(scale)], &bitc_ir::ops::EvalCx { bind: &|_| None });
            match value.ok().and_then(|mut all| all.pop()) {
                Some(value) => Ok(vec![cx.s().tensor_as(&hint, &value)]),
                None => no("weights that cannot be dequantised"),
            }
        }
        (Form::Qdq | Form::Ort, [] | [_]) if scale.rank() <= dims.len() => {
            let axis = along.first().map(|&i| i + dims.len() - scale.rank());
            let flat: &[usize] = if axis.is_some() { &[scale.numel()] } else { &[] };
            let Some(flat) = scale.reshaped(flat) else { return no("a scale of that shape") };
            let attrs = axis.map(|a| attr_int("axis", a as i64)).into_iter().collect();
            Ok(vec![dequantized(cx, &values, dims, true, &flat, attrs, &hint)])
        }
        _ => {
            let packed = packed_weights(cx, &values, &hint);
            let scale = cx.input(1)?;
            Ok(vec![ternary_weight(cx, &packed, &scale, dims)])
        }
    }
}

/// The bias, or the number that added to any other gives that one.
fn bias_or_nothing(cx: &mut Cx<'_, '_>) -> Result<String, No> {
    if cx.value(4).is_some() {
        return cx.input(4);
    }
    Ok(cx.s().tensor(&Tensor::new(&[1], &[-0.0f32])))
}

/// The weights of a layer, which must be constant.
fn weights(cx: &Cx<'_, '_>) -> Result<Vec<i8>, No> {
    cx.small_ints(2).ok_or_else(|| No("weights that are computed while running".into()))
}

pub(super) fn bit_linear(cx: &mut Cx<'_, '_>, op: &BitLinear) -> Names {
    if op.group > 0 {
        return grouped_linear(cx, op);
    }
    let (w, ty, hint) = (weights(cx)?, cx.ty(2)?, cx.hint(2));
    let Some([outputs, inputs]) = ty.shape.to_fixed().and_then(|d| <[usize; 2]>::try_from(d).ok()) else {
        return no("weights of symbolic dimensions");
    };
    let ternary = ty.dtype == DType::T2;
    let columns = || pack::transposed(&w, outputs, inputs);
    let y = match cx.form() {
        Form::Functions | Form::Inline => {
            let (q, q_scale) = (cx.carried(0, Carrier::Bytes)?, cx.input(1)?);
            let shape = [inputs as i64, outputs as i64];
            let stored = if ternary {
                packed_weights(cx, &columns(), &hint)
            } else {
                byte_weights(cx, &columns(), &[inputs, outputs], &hint)
            };
            let (scale, bias) = (cx.input(3)?, bias_or_nothing(cx)?);
            let args: [&str; 5] = [&q, &q_scale, &stored, &scale, &bias];
            if ternary {
                cx.call("BitLinear", &args, vec![attr_ints("shape", &shape)])
            } else {
                cx.call("IntLinear", &args, Vec::new())
            }
            .swap_remove(0)
        }
        Form::Float => {
            let (q, q_scale) = (cx.carried(0, Carrier::Floats)?, cx.input(1)?);
            let floats: Vec<f32> = columns().iter().map(|&v| f32::from(v)).collect();
            let w = cx.s().tensor_as(&hint, &Tensor::new(&[inputs, outputs], &floats));
            let sums = cx.op("MatMul", &[&q, &w], Vec::new());
            let (scale, bias) = (cx.input(3)?, bias_or_nothing(cx)?);
            bodies::scaled(cx.s(), &sums, &q_scale, &scale, &bias)
        }
        Form::Qdq | Form::Ort => {
            let scale = constant_scale(cx)?;
            let x = dequantized_activations(cx)?;
            let stored = Stored { weights: w, outputs, inputs, ternary, scale, group: 0, hint };
            let y = stored_matmul(cx, &x, &stored)?;
            let bias = cx.opt(4)?;
            if bias.is_empty() { y } else { cx.op("Add", &[&y, &bias], Vec::new()) }
        }
    };
    Ok(vec![activation(cx, op.act, y)])
}

fn constant_scale(cx: &Cx<'_, '_>) -> Result<Vec<f32>, No> {
    let scale = cx.constant(3).and_then(Tensor::to_vec::<f32>);
    scale.ok_or_else(|| No("a scale of weights that is computed while running".into()))
}

pub(super) fn bit_conv2d(cx: &mut Cx<'_, '_>, op: &BitConv2d) -> Names {
    let (w, ty, hint) = (weights(cx)?, cx.ty(2)?, cx.hint(2));
    let Some(dims) = ty.shape.to_fixed() else { return no("weights of symbolic dimensions") };
    let ternary = ty.dtype == DType::T2;
    let plain = Conv2d { window: op.window.clone(), groups: op.groups, act: Activation::None };
    let per_pixel = cx.ty(1)?.shape.0.iter().skip(2).any(|d| !d.is_one());
    let y = match cx.form() {
        Form::Functions | Form::Inline | Form::Float if per_pixel => {
            // Sums of products that have scales of their own are no integers.
            let (q, q_scale) = (cx.input(0)?, cx.input(1)?);
            let q = cx.s().cast(&q, DType::F32);
            let x = cx.op("Mul", &[&q, &q_scale], Vec::new());
            let w = float_weights(cx, &w, &dims, ternary, &hint);
            let sums = cx.op("Conv", &[&x, &w], conv_attrs(&plain));
            let (scale, bias) = (cx.input(3)?, bias_or_nothing(cx)?);
            let (scale, bias) = (bodies::per_channel(cx.s(), &scale), bodies::per_channel(cx.s(), &bias));
            let y = cx.op("Mul", &[&sums, &scale], Vec::new());
            cx.op("Add", &[&y, &bias], Vec::new())
        }
        Form::Functions | Form::Inline => {
            let (q, q_scale) = (cx.carried(0, Carrier::Bytes)?, cx.input(1)?);
            let stored = if ternary { packed_weights(cx, &w, &hint) } else { byte_weights(cx, &w, &dims, &hint) };
            let (scale, bias) = (cx.input(3)?, bias_or_nothing(cx)?);
            let args: [&str; 5] = [&q, &q_scale, &stored, &scale, &bias];
            let mut attrs = conv_attrs(&plain);
            if ternary {
                let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
                attrs.push(attr_ints("shape", &shape));
                cx.call("BitConv", &args, attrs)
            } else {
                cx.call("IntConv", &args, attrs)
            }
            .swap_remove(0)
        }
        Form::Float => {
            let (q, q_scale) = (cx.carried(0, Carrier::Floats)?, cx.input(1)?);
            let w = float_weights(cx, &w, &dims, ternary, &hint);
            let sums = cx.op("Conv", &[&q, &w], conv_attrs(&plain));
            let (scale, bias) = (cx.input(3)?, bias_or_nothing(cx)?);
            let (scale, bias) = (bodies::per_channel(cx.s(), &scale), bodies::per_channel(cx.s(), &bias));
            bodies::scaled(cx.s(), &sums, &q_scale, &scale, &bias)
        }
        Form::Qdq | Form::Ort => {
            let scale = constant_scale(cx)?;
            let x = dequantized_activations(cx)?;
            let scale = if scale.len() == 1 { vec![scale[0]; dims[0]] } else { scale };
            let scale = Tensor::new(&[dims[0]], &scale);
            let w = dequantized(cx, &w, &dims, ternary, &scale, vec![attr_int("axis", 0)], &hint);
            let bias = cx.opt(4)?;
            cx.op("Conv", &[&x, &w, &bias], conv_attrs(&plain))
        }
    };
    Ok(vec![activation(cx, op.act, y)])
}

/// Weights with a scale for each so many inputs: packed where the groups are whole, else floats.
fn dequantize_groups(cx: &mut Cx<'_, '_>, group: usize) -> Names {
    let (Some(q), Some(scale)) = (cx.constant(0), cx.constant(1)) else {
        return no("scales for groups of inputs that are computed while running");
    };
    let (dims, hint) = (q.dims().to_vec(), cx.hint(0));
    let packs = matches!(cx.form(), Form::Functions | Form::Inline) && q.dtype() == DType::T2;
    if let Some((&last, outer)) = dims.split_last().filter(|(last, _)| packs && **last % group == 0) {
        let packed = packed_weights(cx, &q.to_vec::<i8>().unwrap_or_default(), &hint);
        let split = |tail: usize| [outer, &[last / group, tail]].concat();
        let Some(scales) = scale.reshaped(&split(1)) else { return no("a scale of that shape") };
        let name = cx.hint(1);
        let scale = cx.s().tensor_as(&name, &scales);
        let y = ternary_weight(cx, &packed, &scale, &split(group));
        return Ok(vec![cx.reshape(&y, &bitc_ir::Shape(Vec::new()), &cx.result(0).shape)?]);
    }
    let value = cx.node.op.eval(vec![Some(q), Some(scale)], &bitc_ir::ops::EvalCx { bind: &|_| None });
    match value.ok().and_then(|mut all| all.pop()) {
        Some(value) => Ok(vec![cx.s().tensor_as(&hint, &value)]),
        None => no("weights that cannot be dequantised"),
    }
}

/// A layer with a scale for each so many inputs.
fn grouped_linear(cx: &mut Cx<'_, '_>, op: &BitLinear) -> Names {
    let (w, scale, ty, hint) = (weights(cx)?, constant_scale(cx)?, cx.ty(2)?, cx.hint(2));
    let Some([outputs, inputs]) = ty.shape.to_fixed().and_then(|d| <[usize; 2]>::try_from(d).ok()) else {
        return no("weights of symbolic dimensions");
    };
    let (rank, group, groups) = (cx.ty(0)?.shape.rank(), op.group, inputs.div_ceil(op.group));
    let ternary = ty.dtype == DType::T2;
    if matches!(cx.form(), Form::Functions | Form::Inline) && ternary && rank == 2 {
        let (mut q, q_scale) = (cx.carried(0, Carrier::Bytes)?, cx.input(1)?);
        let missing = groups * group - inputs;
        if missing > 0 {
            let pads = cx.s().ints(&[0, 0, 0, missing as i64]);
            let zero = cx.s().tensor(&Tensor::scalar(bodies::ZERO_POINT));
            q = cx.op("Pad", &[&q, &pads, &zero], Vec::new());
        }
        let mut columns = pack::transposed(&w, outputs, inputs);
        columns.resize(groups * group * outputs, 0);
        let packed = packed_weights(cx, &columns, &hint);
        let scales = Tensor::new(&[groups, 1, outputs], &pack::transposed(&scale, outputs, groups));
        let (scale, bias) = (cx.s().tensor_as("scales", &scales), bias_or_nothing(cx)?);
        let shape = attr_ints("shape", &[groups as i64, group as i64, outputs as i64]);
        let y = cx.call("BitLinearGrouped", &[&q, &q_scale, &packed, &scale, &bias], vec![shape]).swap_remove(0);
        return Ok(vec![activation(cx, op.act, y)]);
    }
    // Elsewhere the activations are floats again, and the product sums what is scaled already.
    let (q, q_scale) = (cx.carried(0, cx.form().carrier())?, cx.input(1)?);
    let q = match cx.form().carrier() {
        Carrier::Floats => q,
        Carrier::Bytes => {
            let q = bodies::bytes_to_i8(cx.s(), &q);
            cx.s().cast(&q, DType::F32)
        }
    };
    let x = cx.op("Mul", &[&q, &q_scale], Vec::new());
    let y = if matches!(cx.form(), Form::Qdq | Form::Ort) {
        stored_matmul(cx, &x, &Stored { weights: w, outputs, inputs, ternary, scale, group, hint })?
    } else {
        let scaled = |(i, &v): (usize, &i8)| f32::from(v) * scale[i / inputs * groups + i % inputs / group];
        let floats: Vec<f32> = w.iter().enumerate().map(scaled).collect();
        let columns = pack::transposed(&floats, outputs, inputs);
        let w = cx.s().tensor_as(&hint, &Tensor::new(&[inputs, outputs], &columns));
        cx.op("MatMul", &[&x, &w], Vec::new())
    };
    let bias = cx.opt(4)?;
    let y = if bias.is_empty() { y } else { cx.op("Add", &[&y, &bias], Vec::new()) };
    Ok(vec![activation(cx, op.act, y)])
}
