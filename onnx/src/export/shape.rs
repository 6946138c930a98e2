//! Operations about shapes, and operations that bitc does not know.

use bitc_ir::ops::{Custom, Expand, Flatten, Iota, ShapeOf};
use bitc_ir::{DType, Tensor};

use super::convert::attr_int;
use super::cx::{Cx, Names, no};

pub(super) fn reshape(cx: &mut Cx<'_, '_>) -> Names {
    let (x, from, to) = (cx.input(0)?, cx.ty(0)?, cx.result(0));
    Ok(vec![cx.reshape(&x, &from.shape, &to.shape)?])
}

pub(super) fn flatten(cx: &mut Cx<'_, '_>, op: &Flatten) -> Names {
    let x = cx.input(0)?;
    Ok(vec![cx.op("Flatten", &[&x], vec![attr_int("axis", op.axis)])])
}

pub(super) fn expand(cx: &mut Cx<'_, '_>, op: &Expand) -> Names {
    let (x, dims) = (cx.input(0)?, cx.dims(&op.shape)?);
    Ok(vec![cx.op("Expand", &[&x, &dims], Vec::new())])
}

pub(super) fn shape_of(cx: &mut Cx<'_, '_>, op: &ShapeOf) -> Names {
    let (x, start, end) = (cx.input(0)?, op.start as i64, op.end as i64);
    if cx.opset() >= 15 {
        return Ok(vec![cx.op("Shape", &[&x], vec![attr_int("start", start), attr_int("end", end)])]);
    }
    let all = cx.op("Shape", &[&x], Vec::new());
    let (start, end) = (cx.s().ints(&[start]), cx.s().ints(&[end]));
    Ok(vec![cx.op("Slice", &[&all, &start, &end], Vec::new())])
}

pub(super) fn iota(cx: &mut Cx<'_, '_>, op: &Iota) -> Names {
    let count = cx.dims(&op.count)?;
    let scalar = cx.s().ints(&[]);
    let count = cx.op("Reshape", &[&count, &scalar], Vec::new());
    let (from, step) = (cx.s().tensor(&Tensor::scalar(0i64)), cx.s().tensor(&Tensor::scalar(1i64)));
    Ok(vec![cx.op("Range", &[&from, &count, &step], Vec::new())])
}

pub(super) fn custom(cx: &mut Cx<'_, '_>, op: &Custom) -> Names {
    if let Some(small) = op.results.iter().find(|t| t.dtype.bits() < 8 && t.dtype != DType::Bool) {
        return no(format!("a result of type {}", small.dtype));
    }
    let attrs = cx.unknown_attrs(&op.attrs)?;
    let inputs = (0..cx.node.inputs.len()).map(|i| cx.opt(i)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Ok(cx.s().ops(&op.domain, &op.op, &inputs, attrs, op.results.len()))
}
