//! Operations that move elements or only name them anew.

use bitc_format::inst::{BitCast, Cast, Concat, Expand, Pad, PadMode, Slice, Transpose};
use bitc_format::{BufferId, Operand};
use bitc_ir::ops::pad::PadMode as IrMode;
use bitc_ir::{Dim, NodeId, ValueId, ops};

use super::cx::{Cx, Refusal};

/// `reshape`, `flatten` and a cast to the same type: the same bytes, so no instruction.
pub(super) fn reshape(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let (x, y) = (cx.input(id, 0)?, cx.graph().node(id).outputs[0]);
    let shape = &cx.graph().ty(y).shape;
    match cx.operand(x)? {
        Operand::Buffer(buffer) => {
            let same: BufferId = cx.alias(buffer, shape)?;
            cx.place(y, same);
        }
        constant @ Operand::Const(_) => {
            let y = cx.define(y)?;
            cx.emit(Cast { y, x: constant });
        }
    }
    Ok(())
}

/// `bit_cast`.
pub(super) fn bit_cast(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let x = cx.input(id, 0)?;
    let x = cx.operand(x)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(BitCast { y, x });
    Ok(())
}

/// `transpose`.
pub(super) fn transpose(cx: &mut Cx<'_>, id: NodeId, op: &ops::Transpose) -> Result<(), Refusal> {
    let x = cx.input(id, 0)?;
    let x = cx.operand(x)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Transpose { y, x, perm: op.perm.iter().map(|&axis| axis as u32).collect() });
    Ok(())
}

/// `concat`.
pub(super) fn concat(cx: &mut Cx<'_>, id: NodeId, op: &ops::Concat) -> Result<(), Refusal> {
    let inputs: Vec<ValueId> = cx.graph().node(id).inputs.iter().flatten().copied().collect();
    let xs = inputs.into_iter().map(|v| cx.operand(v)).collect::<Result<Vec<_>, _>>()?;
    let y = cx.graph().node(id).outputs[0];
    let axis = axis(op.axis, cx.graph().ty(y).shape.rank());
    let y = cx.define(y)?;
    cx.emit(Concat { y, xs, axis });
    Ok(())
}

/// `expand`.
pub(super) fn expand(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let x = cx.input(id, 0)?;
    let x = cx.operand(x)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Expand { y, x });
    Ok(())
}

/// `pad`.
pub(super) fn pad(cx: &mut Cx<'_>, id: NodeId, op: &ops::Pad) -> Result<(), Refusal> {
    let input = cx.input(id, 0)?;
    let shape = &cx.graph().ty(input).shape;
    let mode = match op.mode {
        IrMode::Constant => PadMode::Constant,
        IrMode::Reflect => PadMode::Reflect,
        IrMode::Edge => PadMode::Edge,
        IrMode::Wrap => PadMode::Wrap,
    };
    let rank = shape.rank();
    for (axis, size) in shape.0.iter().enumerate() {
        let most = match (op.mode, size.as_const()) {
            (IrMode::Reflect, Some(size)) => size.saturating_sub(1),
            (IrMode::Wrap, Some(size)) => size,
            _ => usize::MAX,
        };
        let widest = op.pads[axis].max(op.pads[axis + rank]);
        if widest > most {
            let fault = cx.unsupported(id, "elements would be repeated more than once");
            return Err(fault.expected(format!("at most {most} before and behind axis {axis}")).found(widest).into());
        }
    }
    let value = match (op.mode, cx.graph().input(id, 1)) {
        (IrMode::Constant, Some(value)) => {
            let tensor = cx.graph().constant(value);
            let tensor = tensor.ok_or_else(|| cx.unsupported(id, "its value is not constant"))?;
            tensor.bytes().iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte))
        }
        _ => 0,
    };
    let before = op.pads[..rank].iter().map(|&n| cx.dim(&Dim::from(n))).collect::<Result<_, _>>()?;
    let x = cx.operand(input)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Pad { y, x, before, mode, value });
    Ok(())
}

/// `slice`.
pub(super) fn slice(cx: &mut Cx<'_>, id: NodeId, op: &ops::Slice) -> Result<(), Refusal> {
    let mut first = vec![(Dim::from(0), 1); cx.graph().ty(cx.input(id, 0)?).shape.rank()];
    for (i, &axis) in op.axes.iter().enumerate() {
        first[axis] = (op.starts.0[i].clone(), op.steps[i] as i64);
    }
    sliced(cx, id, &first)
}

/// `reverse`: a slice from the last position backwards.
pub(super) fn reverse(cx: &mut Cx<'_>, id: NodeId, op: &ops::Reverse) -> Result<(), Refusal> {
    let shape = &cx.graph().ty(cx.input(id, 0)?).shape;
    let start = |(axis, dim): (usize, &Dim)| match op.axes.contains(&axis) {
        true => dim.sub(&Dim::from(1)).map(|last| (last, -1)),
        false => Some((Dim::from(0), 1)),
    };
    let first: Option<Vec<_>> = shape.0.iter().enumerate().map(start).collect();
    let first = first.ok_or_else(|| cx.unsupported(id, "a dimension is too large"))?;
    sliced(cx, id, &first)
}

/// The elements from a first position on in steps, for each axis.
fn sliced(cx: &mut Cx<'_>, id: NodeId, first: &[(Dim, i64)]) -> Result<(), Refusal> {
    let x = cx.input(id, 0)?;
    let x = cx.operand(x)?;
    let (mut starts, mut steps) = (Vec::new(), Vec::new());
    for (start, step) in first {
        starts.push(cx.dim(start)?);
        let step = i32::try_from(*step).map_err(|_| cx.unsupported(id, "a step does not fit 32 bits"))?;
        steps.push(step);
    }
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Slice { y, x, starts, steps });
    Ok(())
}

/// The position that a possibly negative axis means; the type rule has checked it.
pub(super) fn axis(axis: i64, rank: usize) -> u32 {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    resolved as u32
}
