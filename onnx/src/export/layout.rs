//! Operations that move elements.

use bitc_ir::ops::pad::PadMode;
use bitc_ir::ops::scatter::{Combine, Target};
use bitc_ir::ops::{Concat, GatherNd, Pad, Reverse, Scatter, Slice, Transpose};

use super::convert::{attr_int, attr_sizes, attr_str};
use super::cx::{Cx, Names, no};
use super::elementwise::scalar_of;

pub(super) fn transpose(cx: &mut Cx<'_, '_>, op: &Transpose) -> Names {
    let x = cx.input(0)?;
    Ok(vec![cx.op("Transpose", &[&x], vec![attr_sizes("perm", &op.perm)])])
}

pub(super) fn concat(cx: &mut Cx<'_, '_>, op: &Concat) -> Names {
    let inputs = (0..cx.node.inputs.len()).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Ok(vec![cx.op("Concat", &inputs, vec![attr_int("axis", op.axis)])])
}

pub(super) fn slice(cx: &mut Cx<'_, '_>, op: &Slice) -> Names {
    let x = cx.input(0)?;
    let (starts, ends) = (cx.dims(&op.starts)?, cx.dims(&op.ends)?);
    let list = |v: &[usize]| v.iter().map(|&n| n as i64).collect::<Vec<_>>();
    let axes = cx.s().ints(&list(&op.axes));
    if op.steps.iter().all(|&s| s == 1) {
        return Ok(vec![cx.op("Slice", &[&x, &starts, &ends, &axes], Vec::new())]);
    }
    let steps = cx.s().ints(&list(&op.steps));
    Ok(vec![cx.op("Slice", &[&x, &starts, &ends, &axes, &steps], Vec::new())])
}

pub(super) fn reverse(cx: &mut Cx<'_, '_>, op: &Reverse) -> Names {
    let (x, n) = (cx.input(0)?, op.axes.len());
    let axes: Vec<i64> = op.axes.iter().map(|&a| a as i64).collect();
    // From the last position to before the first.
    let (starts, ends) = (cx.s().ints(&vec![-1; n]), cx.s().ints(&vec![i64::MIN; n]));
    let (axes, steps) = (cx.s().ints(&axes), cx.s().ints(&vec![-1; n]));
    Ok(vec![cx.op("Slice", &[&x, &starts, &ends, &axes, &steps], Vec::new())])
}

pub(super) fn gather(cx: &mut Cx<'_, '_>, name: &str, axis: i64) -> Names {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![cx.op(name, &[&x, &indices], vec![attr_int("axis", axis)])])
}

pub(super) fn gather_nd(cx: &mut Cx<'_, '_>, op: &GatherNd) -> Names {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![cx.op("GatherND", &[&x, &indices], vec![attr_int("batch_dims", op.batch_dims as i64)])])
}

pub(super) fn scatter(cx: &mut Cx<'_, '_>, op: &Scatter) -> Names {
    let (word, since) = match op.combine {
        Combine::Replace => ("none", 13),
        Combine::Add => ("add", 16),
        Combine::Mul => ("mul", 16),
        Combine::Max => ("max", 18),
        Combine::Min => ("min", 18),
    };
    if cx.opset() < since {
        return no(format!("updates by `{word}`, which ONNX has since opset {since}, this is opset {}", cx.opset()));
    }
    let (name, mut attrs) = match op.target {
        Target::Elements { axis } => ("ScatterElements", vec![attr_int("axis", axis)]),
        Target::Slices => ("ScatterND", Vec::new()),
    };
    if op.combine != Combine::Replace {
        attrs.push(attr_str("reduction", word));
    }
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    Ok(vec![cx.op(name, &[&x, &indices, &updates], attrs)])
}

pub(super) fn pad(cx: &mut Cx<'_, '_>, op: &Pad) -> Names {
    let mode = match op.mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
        PadMode::Wrap if cx.opset() < 19 => {
            return no(format!(
                "padding with the opposite side, which ONNX has since opset 19, this is opset {}",
                cx.opset()
            ));
        }
        PadMode::Wrap => "wrap",
    };
    let x = cx.input(0)?;
    let pads: Vec<i64> = op.pads.iter().map(|&p| p as i64).collect();
    let (pads, value) = (cx.s().ints(&pads), scalar_of(cx, 1)?);
    Ok(vec![cx.op("Pad", &[&x, &pads, &value], vec![attr_str("mode", mode)])])
}
