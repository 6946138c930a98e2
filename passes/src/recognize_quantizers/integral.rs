//! Integers without a measured scale: those with a constant one, and values that can be nothing else.

use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{BinaryKind, Dequantize, QuantizeAct, Reshape, Unary, UnaryKind, Where};
use bitc_ir::{DType, NodeId, Op, Shape, ValueId};

use super::{binary, number, to_i8};
use crate::rewrite::{Editor, Miss, Replacement};

/// `dequantize(q, 1) * c == dequantize(q, c)` for one number c; `q` is what rounds to integers by itself.
pub(super) fn constant_scale(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let Some((BinaryKind::Mul, a, b)) = binary(g, result) else { return Err(Miss::NoMatch) };
    for (integers, c) in [(a, b), (b, a)] {
        let Some((dequantize, _)) = g.producer::<Dequantize>(integers) else { continue };
        let (Some(q), Some(unit)) = (g.input(dequantize, 0), g.input(dequantize, 1)) else { continue };
        let by_itself = g.producer::<QuantizeAct>(q).is_some_and(|(_, op)| op.form == Form::Integer);
        if !by_itself || g.constant(unit).is_some() || g.constant(c).is_none() {
            continue;
        }
        if number(g, c).is_none() || g.ty(result).shape != g.ty(q).shape {
            return Err(Miss::blocked("its scale is not one number"));
        }
        let scale = ones(g, c, g.ty(unit).shape.clone())?;
        return Ok(g.add(Dequantize::default(), &[Some(q), Some(scale)])?.into());
    }
    Err(Miss::NoMatch)
}

/// A constant of one element in a shape of ones.
fn ones(g: &mut Editor<'_>, c: ValueId, shape: Shape) -> Result<ValueId, Miss> {
    let dims: Vec<usize> = vec![1; shape.rank()];
    let tensor = g.constant(c).and_then(|t| t.reshaped(&dims));
    match tensor {
        Some(tensor) => {
            let name = g.value(c).name.clone();
            Ok(g.add_const(&name, tensor))
        }
        None => g.add(Reshape { shape }, &[Some(c)]),
    }
}

/// `layer(v * c, w) == layer(dequantize(quantize_act{integer}(v), c), w)` for a v that can only be some integers.
pub(super) fn into_product(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let at = g.node(node).clone();
    if !matches!(at.op, Op::Linear(_) | Op::Conv2d(_)) {
        return Err(Miss::NoMatch);
    }
    let x = at.inputs.first().copied().flatten().ok_or(Miss::NoMatch)?;
    let scaled = match binary(g, x) {
        Some((BinaryKind::Mul, a, b)) => [(a, b), (b, a)].into_iter().find(|&(_, c)| number(g, c).is_some()),
        _ => None,
    };
    let (v, c) = scaled.map_or((x, None), |(v, c)| (v, Some(c)));
    let (low, high) = range_of(g, v).ok_or(Miss::NoMatch)?;
    if g.ty(v).shape != g.ty(x).shape || g.ty(v).shape.rank() == 0 {
        return Err(Miss::NoMatch);
    }
    let op = QuantizeAct { form: Form::Integer, low, high, ..QuantizeAct::default() };
    let outputs = g.add_multi(op, &[Some(v)])?;
    let [q, unit] = outputs[..] else { return Err(Miss::NoMatch) };
    let scale = match c {
        Some(c) => ones(g, c, g.ty(unit).shape.clone())?,
        None => unit,
    };
    let mut inputs = at.inputs.clone();
    inputs[0] = Some(g.add(Dequantize::default(), &[Some(q), Some(scale)])?);
    Ok(g.add(at.op, &inputs)?.into())
}

/// The least and the largest of the integers that a value can be, where it can be nothing else; 0 lies between them.
fn range_of(g: &Editor<'_>, value: ValueId) -> Option<(i8, i8)> {
    if g.ty(value).dtype != DType::F32 {
        return None;
    }
    let node = g.producer_id(value)?;
    let (low, high) = match &g.node(node).op {
        Op::Unary(Unary(UnaryKind::Sign)) => (-1, 1),
        Op::Cast(_) if g.ty(g.input(node, 0)?).dtype == DType::Bool => (0, 1),
        Op::Where(Where) => {
            let [a, b] = [1, 2].map(|i| g.input(node, i).and_then(|v| number(g, v)).and_then(to_i8));
            (a?.min(b?), a?.max(b?))
        }
        _ => return None,
    };
    Some((low.min(0), high.max(0)))
}
