//! Access by index, and the operations whose values are positions and sizes.

use bitc_format::inst::{Combine, Gather, Iota, Pick, Scatter, Sizes};
use bitc_ir::ops::scatter::{self, Target};
use bitc_ir::{NodeId, ValueId, ops};

use super::cx::{Cx, Refusal, number_type};
use super::shape::axis;

/// `gather`.
pub(super) fn gather(cx: &mut Cx<'_>, id: NodeId, op: &ops::Gather) -> Result<(), Refusal> {
    let (input, indices) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let axis = axis(op.axis, cx.graph().ty(input).shape.rank());
    let (x, indices) = (cx.operand(input)?, indices_of(cx, indices)?);
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Gather { y, x, indices, axis });
    Ok(())
}

/// `gather_elements`.
pub(super) fn gather_elements(cx: &mut Cx<'_>, id: NodeId, op: &ops::GatherElements) -> Result<(), Refusal> {
    let axis = axis(op.axis, cx.graph().ty(cx.input(id, 0)?).shape.rank());
    pick(cx, id, Some(axis), 0)
}

/// `gather_nd`.
pub(super) fn gather_nd(cx: &mut Cx<'_>, id: NodeId, op: &ops::GatherNd) -> Result<(), Refusal> {
    // The type rule keeps it within the rank.
    pick(cx, id, None, op.batch_dims as u32)
}

fn pick(cx: &mut Cx<'_>, id: NodeId, axis: Option<u32>, batch: u32) -> Result<(), Refusal> {
    let (input, indices) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let (x, indices) = (cx.operand(input)?, indices_of(cx, indices)?);
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Pick { y, x, indices, axis, batch });
    Ok(())
}

/// `scatter_elements` and `scatter_nd`.
pub(super) fn scatter(cx: &mut Cx<'_>, id: NodeId, op: &ops::Scatter) -> Result<(), Refusal> {
    let (input, indices, updates) = (cx.input(id, 0)?, cx.input(id, 1)?, cx.input(id, 2)?);
    let ty = cx.graph().ty(input);
    let axis = match op.target {
        Target::Elements { axis: picked } => Some(axis(picked, ty.shape.rank())),
        Target::Slices => None,
    };
    let combine = match op.combine {
        scatter::Combine::Replace => Combine::Replace,
        scatter::Combine::Add => Combine::Add,
        scatter::Combine::Mul => Combine::Mul,
        scatter::Combine::Max => Combine::Max,
        scatter::Combine::Min => Combine::Min,
    };
    // Updates of 16-bit floats are rounded to single precision, one after the other, and to their type at the end.
    let dtype = match number_type(ty.dtype) {
        _ if combine == Combine::Replace => super::cx::const_type(ty.dtype),
        bitc_format::DType::F64 if ty.dtype != bitc_ir::DType::F64 => bitc_format::DType::F32,
        other => other,
    };
    let (x, updates) = (cx.operand_as(input, dtype)?, cx.operand_as(updates, dtype)?);
    let indices = indices_of(cx, indices)?;
    let scatter = |y| Scatter { y, x, indices, updates, axis, combine }.into();
    cx.compute_as(cx.graph().node(id).outputs[0], dtype, scatter)
}

/// Indices in a type that instructions take.
fn indices_of(cx: &mut Cx<'_>, indices: ValueId) -> Result<bitc_format::Operand, Refusal> {
    match cx.graph().ty(indices).dtype {
        bitc_ir::DType::I32 => cx.operand(indices),
        _ => cx.operand_as(indices, bitc_format::DType::I64),
    }
}

/// `iota`.
pub(super) fn iota(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Iota { y });
    Ok(())
}

/// `shape`.
pub(super) fn shape_of(cx: &mut Cx<'_>, id: NodeId, op: &ops::ShapeOf) -> Result<(), Refusal> {
    let x = cx.input(id, 0)?;
    let sizes = &cx.graph().ty(x).shape.0[op.start..op.end];
    let dims = sizes.iter().map(|dim| cx.dim(dim)).collect::<Result<_, _>>()?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Sizes { y, dims });
    Ok(())
}
