//! Quantised values that change their shape on the way to a layer.

use bitc_ir::ops::quantize_act::{Form, Over};
use bitc_ir::ops::{Dequantize, QuantizeAct, Reshape};
use bitc_ir::{Dim, NodeId, Op, ValueId};

use crate::integers::ones;
use crate::rewrite::{Editor, Miss, Replacement};

/// `transpose(dequantize(quantize_act(x))) == dequantize(quantize_act(transpose(x)))` in front of a layer, where the axes that
/// share a scale are again those of a quantiser.
pub(super) fn transposed(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Transpose(transpose) = g.node(node).op.clone() else { return Err(Miss::NoMatch) };
    let (from, result) = (g.input(node, 0).ok_or(Miss::NoMatch)?, g.node(node).outputs[0]);
    if !before_layer(g, result) {
        return Err(Miss::NoMatch);
    }
    let Some((dequantize, Dequantize { group: 0 })) = g.producer::<Dequantize>(from) else { return Err(Miss::NoMatch) };
    let (Some(q), Some(scale)) = (g.input(dequantize, 0), g.input(dequantize, 1)) else { return Err(Miss::NoMatch) };
    let (quantizer, mut op) = g.producer::<QuantizeAct>(q).map(|(n, op)| (n, op.clone())).ok_or(Miss::NoMatch)?;
    let rank = transpose.perm.len();
    // Which axes of the result share a scale.
    let shares = |over: Over, axis: usize| match over {
        Over::Tensor => true,
        Over::Row => axis + 1 == rank,
        Over::Sample => axis > 0,
        Over::Channel => axis == 1,
    };
    let moved = |over: Over| (0..rank).all(|i| shares(over, i) == shares(op.over, transpose.perm[i]));
    let over = [Over::Row, Over::Channel, Over::Sample, Over::Tensor].into_iter().find(|&over| moved(over));
    let over = if op.form == Form::Integer { Some(op.over) } else { over };
    op.over = over.ok_or_else(|| Miss::blocked("no quantiser measures over these axes"))?;
    let constant = g.constant(scale).is_some_and(|t| t.numel() == 1);
    if !constant && !is_measured(g, quantizer, scale) {
        return Err(Miss::blocked("its scale is not the one that was measured"));
    }
    let x = g.add(transpose, &[g.input(quantizer, 0)])?;
    let outputs = g.add_multi(op, &[Some(x)])?;
    let [q, measured] = outputs[..] else { return Err(Miss::NoMatch) };
    let scale = if constant { scale } else { measured };
    Ok(g.add(Dequantize::default(), &[Some(q), Some(scale)])?.into())
}

/// Whether a scale is the one that a quantiser measured; a single number may have lost its axes since.
fn is_measured(g: &Editor<'_>, quantizer: NodeId, scale: ValueId) -> bool {
    let single = |v: ValueId| g.ty(v).shape.0.iter().all(Dim::is_one);
    let before = g.producer::<Reshape>(scale).and_then(|(n, _)| g.input(n, 0)).filter(|&v| single(v));
    let measured = g.node(quantizer).outputs.get(1);
    measured == Some(&scale) || (measured.is_some() && measured == before.as_ref())
}

/// Whether a layer reads a value.
fn before_layer(g: &Editor<'_>, value: ValueId) -> bool {
    let layer = |n: &NodeId| matches!(g.node(*n).op, Op::Linear(_) | Op::Conv2d(_) | Op::MatMul(_));
    g.uses().of(value).iter().any(layer)
}

/// `reshape(dequantize(quantize_act(x))) == dequantize(quantize_act(reshape(x)))` in front of a layer, where the elements that
/// share a scale stay together.
pub(super) fn reshaped(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Reshape(reshape) = g.node(node).op.clone() else { return Err(Miss::NoMatch) };
    let (from, result) = (g.input(node, 0).ok_or(Miss::NoMatch)?, g.node(node).outputs[0]);
    if !before_layer(g, result) {
        return Err(Miss::NoMatch);
    }
    let Some((dequantize, Dequantize { group: 0 })) = g.producer::<Dequantize>(from) else { return Err(Miss::NoMatch) };
    let (Some(q), Some(scale)) = (g.input(dequantize, 0), g.input(dequantize, 1)) else { return Err(Miss::NoMatch) };
    let (quantizer, op) = g.producer::<QuantizeAct>(q).map(|(n, op)| (n, op.clone())).ok_or(Miss::NoMatch)?;
    let (old, new) = (g.ty(q).shape.clone(), reshape.shape.clone());
    let same = |n: usize| old.rank() >= n && new.rank() >= n && old.0[..n] == new.0[..n];
    let together = new.rank() > 0
        && match op.over {
            _ if op.form == Form::Integer => true,
            Over::Tensor => true,
            Over::Row => old.0.last() == new.0.last(),
            Over::Sample => same(1),
            Over::Channel => same(2),
        };
    if !together {
        return Err(Miss::blocked("elements with a common scale would come apart"));
    }
    let constant = g.constant(scale).is_some_and(|t| t.numel() == 1);
    if !constant && !is_measured(g, quantizer, scale) {
        return Err(Miss::blocked("its scale is not the one that was measured"));
    }
    let x = g.add(Reshape { shape: new }, &[g.input(quantizer, 0)])?;
    let outputs = g.add_multi(op, &[Some(x)])?;
    let [q, measured] = outputs[..] else { return Err(Miss::NoMatch) };
    let scale = match constant {
        true => ones(g, scale, g.ty(measured).shape.clone())?,
        false => measured,
    };
    Ok(g.add(Dequantize::default(), &[Some(q), Some(scale)])?.into())
}
