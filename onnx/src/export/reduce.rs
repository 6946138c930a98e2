//! Summaries along axes.

use bitc_ir::DType;
use bitc_ir::ops::{ArgMax, Cumulate, Reduce, ReduceKind, TopK};

use super::convert::attr_int;
use super::cx::{Cx, Names, no};
use super::elementwise::{carried_by, widened};

pub(super) fn reduce(cx: &mut Cx<'_, '_>, op: &Reduce) -> Names {
    let x = cx.input(0)?;
    let name = match op.kind {
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::Mean => "ReduceMean",
        ReduceKind::Max => "ReduceMax",
        ReduceKind::Min => "ReduceMin",
        ReduceKind::Prod => "ReduceProd",
    };
    let axes = (!op.axes.is_empty()).then_some(&op.axes[..]);
    let dtype = cx.ty(0)?.dtype;
    let is_extreme = matches!(op.kind, ReduceKind::Max | ReduceKind::Min);
    let via = match dtype {
        DType::I8 | DType::U8 if is_extreme => dtype,
        _ => carried_by(dtype, &[DType::I32, DType::I64, DType::U32, DType::U64])?,
    };
    Ok(vec![widened(cx, dtype, via, &[&x], |s, xs| s.reduce(name, xs[0], axes, op.keep))])
}

pub(super) fn arg_max(cx: &mut Cx<'_, '_>, op: &ArgMax) -> Names {
    let x = cx.input(0)?;
    let attrs = vec![
        attr_int("axis", op.axis),
        attr_int("keepdims", i64::from(op.keep)),
        attr_int("select_last_index", i64::from(op.last)),
    ];
    Ok(vec![cx.op(if op.min { "ArgMin" } else { "ArgMax" }, &[&x], attrs)])
}

pub(super) fn cumulate(cx: &mut Cx<'_, '_>, op: &Cumulate) -> Names {
    if op.product && cx.opset() < 26 {
        return no(format!("products along an axis, which ONNX has since opset 26, this is opset {}", cx.opset()));
    }
    let x = cx.input(0)?;
    let axis = cx.s().tensor(&bitc_ir::Tensor::scalar(op.axis));
    let flags = vec![attr_int("exclusive", i64::from(op.exclusive)), attr_int("reverse", i64::from(op.reverse))];
    Ok(vec![cx.op(if op.product { "CumProd" } else { "CumSum" }, &[&x, &axis], flags)])
}

pub(super) fn top_k(cx: &mut Cx<'_, '_>, op: &TopK) -> Names {
    let (x, k) = (cx.input(0)?, cx.s().ints(&[op.k as i64]));
    let attrs = vec![attr_int("axis", op.axis), attr_int("largest", i64::from(op.largest)), attr_int("sorted", 1)];
    Ok(cx.s().ops("", "TopK", &[&x, &k], attrs, 2))
}
