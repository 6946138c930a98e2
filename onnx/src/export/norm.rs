//! Norms, softmax and pools.

use bitc_ir::ops::max_pool2d::Pool;
use bitc_ir::ops::{AvgPool2d, BatchNorm, LayerNorm, MaxPool2d, RmsNorm, Softmax};

use super::convert::{attr_float, attr_int, attr_sizes};
use super::cx::{Cx, Names, No, no};
use crate::proto::AttributeProto;

pub(super) fn batch_norm(cx: &mut Cx<'_, '_>, op: &BatchNorm) -> Names {
    let inputs = (0..5).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Ok(vec![cx.op("BatchNormalization", &inputs, vec![attr_float("epsilon", op.eps)])])
}

/// The axes from `axis` on.
fn trailing(cx: &Cx<'_, '_>, axis: i64) -> Result<Vec<i64>, No> {
    let rank = cx.ty(0)?.shape.rank() as i64;
    Ok((if axis < 0 { axis + rank } else { axis }..rank).collect())
}

pub(super) fn layer_norm(cx: &mut Cx<'_, '_>, op: &LayerNorm) -> Names {
    let (x, gamma, beta) = (cx.input(0)?, cx.opt(1)?, cx.opt(2)?);
    if cx.opset() >= 17 && !gamma.is_empty() {
        let attrs = vec![attr_int("axis", op.axis), attr_float("epsilon", op.eps)];
        return Ok(vec![cx.op("LayerNormalization", &[&x, &gamma, &beta], attrs)]);
    }
    let axes = trailing(cx, op.axis)?;
    let mean = cx.s().reduce("ReduceMean", &x, Some(&axes), true);
    let centred = cx.op("Sub", &[&x, &mean], Vec::new());
    let y = scaled_to_one(cx, &centred, &axes, op.eps);
    Ok(vec![affine(cx, y, &gamma, &beta)])
}

pub(super) fn rms_norm(cx: &mut Cx<'_, '_>, op: &RmsNorm) -> Names {
    let (x, gamma) = (cx.input(0)?, cx.opt(1)?);
    let axes = trailing(cx, op.axis)?;
    let y = scaled_to_one(cx, &x, &axes, op.eps);
    Ok(vec![affine(cx, y, &gamma, "")])
}

/// `x / sqrt(mean(x * x) + eps)`.
fn scaled_to_one(cx: &mut Cx<'_, '_>, x: &str, axes: &[i64], eps: f32) -> String {
    let square = cx.op("Mul", &[x, x], Vec::new());
    let mean = cx.s().reduce("ReduceMean", &square, Some(axes), true);
    let eps = cx.s().f32(eps);
    let mean = cx.op("Add", &[&mean, &eps], Vec::new());
    let root = cx.op("Sqrt", &[&mean], Vec::new());
    cx.op("Div", &[x, &root], Vec::new())
}

fn affine(cx: &mut Cx<'_, '_>, mut y: String, gamma: &str, beta: &str) -> String {
    for (op, by) in [("Mul", gamma), ("Add", beta)] {
        if !by.is_empty() {
            y = cx.op(op, &[&y, by], Vec::new());
        }
    }
    y
}

pub(super) fn softmax(cx: &mut Cx<'_, '_>, op: &Softmax) -> Names {
    let x = cx.input(0)?;
    Ok(vec![cx.op(if op.log { "LogSoftmax" } else { "Softmax" }, &[&x], vec![attr_int("axis", op.axis)])])
}

pub(super) fn max_pool(cx: &mut Cx<'_, '_>, op: &MaxPool2d) -> Names {
    let x = cx.input(0)?;
    let mut attrs = pool_attrs(cx, &op.0, false)?;
    attrs.push(attr_sizes("dilations", &op.0.window.dilations));
    Ok(vec![cx.op("MaxPool", &[&x], attrs)])
}

pub(super) fn avg_pool(cx: &mut Cx<'_, '_>, op: &AvgPool2d) -> Names {
    let x = cx.input(0)?;
    let mut attrs = pool_attrs(cx, &op.pool, op.count_padding)?;
    attrs.push(attr_int("count_include_pad", i64::from(op.count_padding)));
    if op.pool.window.dilations != [1, 1] {
        if cx.opset() < 19 {
            return no(format!(
                "AveragePool with dilations, which ONNX has since opset 19, this is opset {}",
                cx.opset()
            ));
        }
        attrs.push(attr_sizes("dilations", &op.pool.window.dilations));
    }
    Ok(vec![cx.op("AveragePool", &[&x], attrs)])
}

/// The attributes of a window. Versions differ in which last window counts when sizes are rounded up, so that for sizes
/// that are known the padding says it; padding that counts in a divisor cannot.
fn pool_attrs(cx: &Cx<'_, '_>, pool: &Pool, counts: bool) -> Result<Vec<AttributeProto>, No> {
    let (mut pads, mut ceil) = (pool.window.pads, pool.ceil);
    let sizes = cx.ty(0)?.shape.to_fixed().zip(cx.result(0).shape.to_fixed());
    if let Some((x, y)) = sizes.filter(|(x, _)| ceil && x.len() == 4) {
        for axis in 0..2 {
            let span = (pool.kernel[axis] - 1) * pool.window.dilations[axis] + 1;
            let (before, stride) = (pool.window.pads[axis], pool.window.strides[axis]);
            let reach = y[axis + 2].saturating_sub(1) * stride + span;
            pads[axis + 2] = reach.saturating_sub(x[axis + 2] + before);
        }
        if counts && pads != pool.window.pads {
            return no("padding that counts in a mean, with sizes that are rounded up");
        }
        ceil = false;
    }
    Ok(vec![
        attr_sizes("kernel_shape", &pool.kernel),
        attr_sizes("strides", &pool.window.strides),
        attr_sizes("pads", &pads),
        attr_int("ceil_mode", i64::from(ceil)),
    ])
}
