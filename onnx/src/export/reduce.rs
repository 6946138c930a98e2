//! Summaries along axes.

use bitc_ir::ops::{ArgMax, Cumulate, Reduce, ReduceKind, TopK};

use super::convert::attr_int;
use super::cx::{Cx, Names, no};

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
    Ok(vec![cx.s().reduce(name, &x, axes, op.keep)])
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
    if op.product {
        return no("products along an axis, which ONNX has since opset 26");
    }
    let x = cx.input(0)?;
    let axis = cx.s().tensor(&bitc_ir::Tensor::scalar(op.axis));
    let flags = vec![attr_int("exclusive", i64::from(op.exclusive)), attr_int("reverse", i64::from(op.reverse))];
    Ok(vec![cx.op("CumSum", &[&x, &axis], flags)])
}

pub(super) fn top_k(cx: &mut Cx<'_, '_>, op: &TopK) -> Names {
    let (x, k) = (cx.input(0)?, cx.s().ints(&[op.k as i64]));
    let attrs = vec![attr_int("axis", op.axis), attr_int("largest", i64::from(op.largest)), attr_int("sorted", 1)];
    Ok(cx.s().ops("", "TopK", &[&x, &k], attrs, 2))
}
