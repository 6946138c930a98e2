//! Operations that look along axes: normalisations, softmax, reductions, scans, the position of an
//! extreme, sorting.

use bitc_format::inst::{ArgReduce, LayerNorm, Reduce, ReduceOp, RmsNorm, Scan, Softmax, TopK};
use bitc_ir::ops::reduce::ReduceKind;
use bitc_ir::{DType, NodeId, ops};

use super::cx::{Cx, Refusal, number_type};
use super::shape::axis;

/// `layer_norm`.
pub(super) fn layer_norm(cx: &mut Cx<'_>, id: NodeId, op: &ops::LayerNorm) -> Result<(), Refusal> {
    let first = first_axis(cx, id, op.axis)?;
    let input = cx.input(id, 0)?;
    let x = cx.operand(input)?;
    let gamma = cx.graph().input(id, 1).map(|v| cx.operand(v)).transpose()?;
    let beta = cx.graph().input(id, 2).map(|v| cx.operand(v)).transpose()?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(LayerNorm { y, x, gamma, beta, axis: first, eps: op.eps });
    Ok(())
}

/// `rms_norm`.
pub(super) fn rms_norm(cx: &mut Cx<'_>, id: NodeId, op: &ops::RmsNorm) -> Result<(), Refusal> {
    let first = first_axis(cx, id, op.axis)?;
    let input = cx.input(id, 0)?;
    let x = cx.operand(input)?;
    let gamma = cx.graph().input(id, 1).map(|v| cx.operand(v)).transpose()?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(RmsNorm { y, x, gamma, axis: first, eps: op.eps });
    Ok(())
}

/// The first of the normalised axes.
fn first_axis(cx: &Cx<'_>, id: NodeId, first: i64) -> Result<u32, Refusal> {
    Ok(axis(first, cx.graph().ty(cx.input(id, 0)?).shape.rank()))
}

/// `softmax` and `log_softmax`.
pub(super) fn softmax(cx: &mut Cx<'_>, id: NodeId, op: &ops::Softmax) -> Result<(), Refusal> {
    computed_as_f32(cx, id)?;
    let input = cx.input(id, 0)?;
    let axis = axis(op.axis, cx.graph().ty(input).shape.rank());
    let x = cx.f32_operand(input)?;
    cx.compute_f32(cx.graph().node(id).outputs[0], |y| Softmax { y, x, axis, log: op.log }.into())
}

/// `reduce_sum` and its like.
pub(super) fn reduce(cx: &mut Cx<'_>, id: NodeId, op: &ops::Reduce) -> Result<(), Refusal> {
    let input = cx.input(id, 0)?;
    let ty = cx.graph().ty(input);
    let dtype = number_type(ty.dtype);
    let kind = match op.kind {
        ReduceKind::Sum => ReduceOp::Sum,
        ReduceKind::Mean => ReduceOp::Mean,
        ReduceKind::Max => ReduceOp::Max,
        ReduceKind::Min => ReduceOp::Min,
        ReduceKind::Prod => ReduceOp::Prod,
    };
    let axes = op.resolved(ty.shape.rank()).unwrap_or_default().into_iter().fold(0, |bits, axis| bits | 1 << axis);
    let x = cx.operand_as(input, dtype)?;
    cx.compute_as(cx.graph().node(id).outputs[0], dtype, |y| Reduce { y, x, op: kind, axes }.into())
}

/// `cumsum` and `cumprod`.
pub(super) fn cumulate(cx: &mut Cx<'_>, id: NodeId, op: &ops::Cumulate) -> Result<(), Refusal> {
    let input = cx.input(id, 0)?;
    let ty = cx.graph().ty(input);
    let dtype = number_type(ty.dtype);
    let axis = axis(op.axis, ty.shape.rank());
    let x = cx.operand_as(input, dtype)?;
    let ops::Cumulate { product, exclusive, reverse, .. } = *op;
    let scan = |y| Scan { y, x, axis, product, exclusive, reverse }.into();
    cx.compute_as(cx.graph().node(id).outputs[0], dtype, scan)
}

/// `argmax` and `argmin`.
pub(super) fn argmax(cx: &mut Cx<'_>, id: NodeId, op: &ops::ArgMax) -> Result<(), Refusal> {
    let input = cx.input(id, 0)?;
    let ty = cx.graph().ty(input);
    let axis = axis(op.axis, ty.shape.rank());
    let x = cx.operand_as(input, number_type(ty.dtype))?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(ArgReduce { y, x, axis, min: op.min, last: op.last });
    Ok(())
}

/// `top_k`.
pub(super) fn top_k(cx: &mut Cx<'_>, id: NodeId, op: &ops::TopK) -> Result<(), Refusal> {
    let input = cx.input(id, 0)?;
    let ty = cx.graph().ty(input);
    let (dtype, axis) = (number_type(ty.dtype), axis(op.axis, ty.shape.rank()));
    let x = cx.operand_as(input, dtype)?;
    let &[values, indices] = &cx.graph().node(id).outputs[..] else {
        return Err(cx.unsupported(id, "it has not two results").into());
    };
    let positions = cx.define(indices)?;
    cx.compute_as(values, dtype, |y| TopK { y, positions, x, axis, largest: op.largest }.into())
}

/// The first input is of a type that is computed as `f32`.
fn computed_as_f32(cx: &Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let dtype = cx.graph().ty(cx.input(id, 0)?).dtype;
    if matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Ok(());
    }
    let fault = cx.unsupported(id, "no instruction computes this in that type");
    Err(fault.expected("f32, f16 or bf16").found(dtype).into())
}
