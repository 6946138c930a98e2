//! Integers without a measured scale: those with a constant one, and values that can be nothing else.

use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{BinaryKind, Dequantize, QuantizeAct};
use bitc_ir::{NodeId, Op};

use crate::integers::{Evidence, Integers, binary, integers_of, number, ones};
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
