//! What stands around a network: comparisons before it, counts behind it.

use bitc_ir::ops::compare::CompareKind;
use bitc_ir::ops::reduce::ReduceKind;
use bitc_ir::ops::{Binary, BinaryKind, Cast, Compare, GroupSum, LogicNet, Reduce, Reshape, Thermometer};
use bitc_ir::{DType, NodeId, Op, ValueId};

use crate::rewrite::{Editor, Miss, Replacement};

/// `reshape(x, [.., F, 1]) > t[F, b] == reshape(thermometer(x, t), [.., F, b])`
pub(super) fn thermometer(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Compare(Compare(CompareKind::Greater)) = g.node(node).op else { return Err(Miss::NoMatch) };
    let (column, thresholds) = (input(g, node, 0)?, input(g, node, 1)?);
    let y = g.node(node).outputs[0];
    let t = g.constant(thresholds).filter(|t| t.dtype() == DType::F32 && t.rank() == 2).ok_or(Miss::NoMatch)?;
    let features = t.dims()[0];
    let (reshape, _) = g.producer::<Reshape>(column).ok_or(Miss::NoMatch)?;
    let x = input(g, reshape, 0)?;
    let (x_ty, column_ty, y_ty) = (g.ty(x).clone(), g.ty(column).clone(), g.ty(y).clone());
    let rank = x_ty.shape.rank();
    let lengthened = column_ty.shape.rank() == rank + 1
        && column_ty.shape.0[..rank] == x_ty.shape.0[..]
        && column_ty.shape.0[rank].as_const() == Some(1);
    if !lengthened || x_ty.shape.last().and_then(|d| d.as_const()) != Some(features) {
        return Err(Miss::NoMatch);
    }
    let bits = g.add(Thermometer, &[Some(x), Some(thresholds)])?;
    Ok(g.add(Reshape { shape: y_ty.shape }, &[Some(bits)])?.into())
}

/// `reduce_sum(reshape(cast(bits), [.., k, G]), last axis) == group_sum(bits) {groups = k}`: counts are exact in f32. A mean
/// is a sum with `tau = G`.
pub(super) fn group_sum(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let (is_mean, axes) = match &g.node(node).op {
        Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep: false }) => (false, axes),
        Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keep: false }) => (true, axes),
        _ => return Err(Miss::NoMatch),
    };
    let grouped = input(g, node, 0)?;
    let shape = g.ty(grouped).shape.clone();
    let rank = shape.rank();
    let last = |axis: i64| axis == -1 || axis == rank as i64 - 1;
    if rank < 2 || axes.len() != 1 || !last(axes[0]) || g.ty(grouped).dtype != DType::F32 {
        return Err(Miss::NoMatch);
    }
    let (reshape, _) = g.producer::<Reshape>(grouped).ok_or(Miss::NoMatch)?;
    let floats = input(g, reshape, 0)?;
    let (cast, _) = g.producer::<Cast>(floats).ok_or(Miss::NoMatch)?;
    let bits = input(g, cast, 0)?;
    let flat = g.ty(bits).clone();
    let (Some(groups), Some(size)) = (shape.0[rank - 2].as_const(), shape.0[rank - 1].as_const()) else {
        return Err(Miss::NoMatch);
    };
    let same_rows = flat.shape.rank() == rank - 1 && flat.shape.0[..rank - 2] == shape.0[..rank - 2];
    let whole = flat.shape.last().and_then(|d| d.as_const()) == groups.checked_mul(size);
    if flat.dtype != DType::Bool || !same_rows || !whole || groups == 0 || size >= 1 << 24 {
        return Err(Miss::NoMatch);
    }
    g.producer::<LogicNet>(bits).ok_or(Miss::NoMatch)?;
    let tau = if is_mean { size as f32 } else { 1.0 };
    Ok(g.add(GroupSum { groups, tau, beta: 0.0 }, &[Some(bits)])?.into())
}

/// `group_sum(bits) / c == group_sum(bits) {tau = c}`, and `group_sum(bits) + c == group_sum(bits) {beta = c}`.
pub(super) fn tau(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Binary(Binary(kind)) = g.node(node).op else { return Err(Miss::NoMatch) };
    let (scores, by) = (input(g, node, 0)?, input(g, node, 1)?);
    let (sum, op) = g.producer::<GroupSum>(scores).ok_or(Miss::NoMatch)?;
    let c = g.constant(by).filter(|t| t.numel() == 1 && t.rank() <= 1).and_then(|t| t.to_vec::<f32>());
    let c = c.and_then(|v| v.first().copied()).filter(|c| c.is_finite()).ok_or(Miss::NoMatch)?;
    let op = match kind {
        BinaryKind::Div if op.tau == 1.0 && c != 0.0 => GroupSum { tau: c, ..op.clone() },
        BinaryKind::Add if op.tau == 1.0 && op.beta == 0.0 => GroupSum { beta: c, ..op.clone() },
        _ => return Err(Miss::NoMatch),
    };
    let bits = input(g, sum, 0)?;
    Ok(g.add(op, &[Some(bits)])?.into())
}

fn input(g: &Editor<'_>, node: NodeId, i: usize) -> Result<ValueId, Miss> {
    g.input(node, i).ok_or(Miss::NoMatch)
}
