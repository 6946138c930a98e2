//! Integers without a measured scale: those with a constant one, and values that can be nothing else.

use bitc_ir::ops::{BinaryKind, Dequantize};
use bitc_ir::{Dim, NodeId, Op, Shape, Tensor};

use super::integers_in;
use crate::integers::{Evidence, Integers, binary, integers_of, number, ones};
use crate::rewrite::{Editor, Miss, Replacement};

/// `dequantize(q, 1) * c == dequantize(q, c)` and `dequantize(q, 1) / c == dequantize(q, 1 / c)` for one number c; `q` is
/// what rounds to integers by itself.
pub(super) fn constant_scale(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let (divides, pairs) = match binary(g, result) {
        Some((BinaryKind::Mul, a, b)) => (false, vec![(a, b), (b, a)]),
        Some((BinaryKind::Div, a, b)) => (true, vec![(a, b)]),
        _ => return Err(Miss::NoMatch),
    };
    for (integers, c) in pairs {
        let Some((q, false)) = integers_in(g, integers) else { continue };
        if g.constant(c).is_none() {
            continue;
        }
        let Some(number) = number(g, c).filter(|_| g.ty(result).shape == g.ty(q).shape) else {
            return Err(Miss::blocked("its scale is not one number"));
        };
        let step = match (divides, (1.0 / number) as f32) {
            (true, step) if step.is_finite() && step != 0.0 => g.add_const("", Tensor::scalar(step)),
            (true, _) => return Err(Miss::blocked("a division by it is no multiplication")),
            (false, _) => c,
        };
        let shape = Shape(vec![Dim::from(1); g.ty(q).shape.rank()]);
        let scale = ones(g, step, shape)?;
        return Ok(g.add(Dequantize::default(), &[Some(q), Some(scale)])?.into());
    }
    Err(Miss::NoMatch)
}

/// `layer(v * c, w) == layer(dequantize(quantize_act{integer}(v), c), w)` for a v that can only be integers of 8 bits.
pub(super) fn into_product(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let at = g.node(node).clone();
    if !matches!(at.op, Op::Linear(_) | Op::Conv2d(_)) {
        return Err(Miss::NoMatch);
    }
    let x = at.inputs.first().copied().flatten().ok_or(Miss::NoMatch)?;
    let Integers { q, scale, zero: 0, .. } = integers_of(g, x, Evidence::Made)? else { return Err(Miss::NoMatch) };
    let mut inputs = at.inputs.clone();
    inputs[0] = Some(g.add(Dequantize::default(), &[Some(q), Some(scale)])?);
    Ok(g.add(at.op, &inputs)?.into())
}
