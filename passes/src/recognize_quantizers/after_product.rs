//! Scales that stand behind a product of integers move in front of it.

use bitc_ir::ops::{Activation, Binary, BinaryKind, Cast, Dequantize, Linear, MatMul, Unary, UnaryKind};
use bitc_ir::{DType, NodeId, Op, Tensor, ValueId};

use super::{integers_in, inverse_of};
use crate::integers::binary;
use crate::rewrite::{Editor, Miss, Replacement};

/// `y / (c * (1 / s)) == (y / c) * s`, either order of the product, for a constant c; and `y / (1 / s) == y * s`. y is a
/// product, or integers.
pub(super) fn divide_by_inverse(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let Some((BinaryKind::Div, y, d)) = binary(g, result) else { return Err(Miss::NoMatch) };
    let layer = |n: NodeId| matches!(g.node(n).op, Op::Linear(_) | Op::Conv2d(_));
    if !g.producer_id(y).is_some_and(layer) && integers_in(g, y).is_none() {
        return Err(Miss::NoMatch);
    }
    if let Some(s) = inverse_of(g, d) {
        return Ok(g.add(Binary(BinaryKind::Mul), &[Some(y), Some(s)])?.into());
    }
    let Some((BinaryKind::Mul, a, b)) = binary(g, d) else { return Err(Miss::NoMatch) };
    for (c, inverse) in [(a, b), (b, a)] {
        if let (Some(_), Some(s)) = (g.constant(c), inverse_of(g, inverse)) {
            let scaled = g.add(Binary(BinaryKind::Mul), &[Some(y), Some(s)])?;
            return Ok(g.add(Binary(BinaryKind::Div), &[Some(scaled), Some(c)])?.into());
        }
    }
    Err(Miss::NoMatch)
}

/// `y * (s * c) == (y * s) * c` and `y / (s * c) == (y / s) / c` for a product y of integers and a constant c.
pub(super) fn product_of_scales(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let Some((kind @ (BinaryKind::Mul | BinaryKind::Div), a, b)) = binary(g, result) else { return Err(Miss::NoMatch) };
    let pairs = if kind == BinaryKind::Mul { vec![(a, b), (b, a)] } else { vec![(a, b)] };
    for (y, scales) in pairs {
        let (Some(_), Some((BinaryKind::Mul, s, c))) = (product(g, y), binary(g, scales)) else { continue };
        let (s, c) = if g.constant(s).is_some() { (c, s) } else { (s, c) };
        if g.constant(s).is_none() && g.constant(c).is_some() && g.ty(y) == g.ty(result) {
            let scaled = g.add(Binary(kind), &[Some(y), Some(s)])?;
            return Ok(g.add(Binary(kind), &[Some(scaled), Some(c)])?.into());
        }
    }
    Err(Miss::NoMatch)
}

/// The layer of integers that a value is the product of, and the integers.
fn product(g: &Editor<'_>, y: ValueId) -> Option<(NodeId, ValueId)> {
    let layer = g.producer_id(y)?;
    let wanted = matches!(g.node(layer).op, Op::Linear(_) | Op::Conv2d(_));
    let (q, _) = integers_in(g, g.input(layer, 0).filter(|_| wanted)?)?;
    Some((layer, q))
}

/// `linear(cast(q), w) * s == linear(dequantize(q, s), w)` for a layer without bias and an s that is one per row, one per
/// sample where the layer is a convolution; likewise for division.
pub(super) fn scale_after_product(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let result = g.node(node).outputs[0];
    let Some((kind @ (BinaryKind::Mul | BinaryKind::Div), a, b)) = binary(g, result) else { return Err(Miss::NoMatch) };
    let pairs = if kind == BinaryKind::Mul { vec![(a, b), (b, a)] } else { vec![(a, b)] };
    for (y, s) in pairs {
        let Some((layer, q)) = product(g, y) else { continue };
        let op = g.node(layer).op.clone();
        let act = match &op {
            Op::Linear(op) => op.act,
            Op::Conv2d(op) => op.act,
            _ => continue,
        };
        let shape = &g.ty(s).shape;
        let sums_over = if matches!(op, Op::Linear(_)) { shape.rank().saturating_sub(1) } else { 1 };
        let common = shape.0.iter().skip(sums_over).all(bitc_ir::Dim::is_one);
        if g.constant(s).is_some() || shape.rank() != g.ty(q).shape.rank() || !common || g.ty(result) != g.ty(y) {
            continue;
        }
        if g.input(layer, 2).is_some() || act != Activation::None || !g.only_use(y) {
            return Err(Miss::blocked("the layer has a bias or its result is also used elsewhere"));
        }
        let w = g.input(layer, 1);
        let scale = if kind == BinaryKind::Mul { s } else { g.add(Unary(UnaryKind::Reciprocal), &[Some(s)])? };
        let x = g.add(Dequantize::default(), &[Some(q), Some(scale)])?;
        return Ok(g.add(op, &[Some(x), w])?.into());
    }
    Err(Miss::NoMatch)
}

/// `cast(matmul(cast(q), c)) == linear(cast(q), transpose(c))` for a constant matrix c of 8-bit integers, where `f32` holds
/// every sum.
pub(super) fn integer_product(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Cast(Cast { to: DType::F32 }) = g.node(node).op else { return Err(Miss::NoMatch) };
    let product = g.input(node, 0).ok_or(Miss::NoMatch)?;
    let Some((matmul, MatMul)) = g.producer::<MatMul>(product) else { return Err(Miss::NoMatch) };
    let (Some(a), Some(c)) = (g.input(matmul, 0), g.input(matmul, 1)) else { return Err(Miss::NoMatch) };
    let Some((cast, _)) = g.producer::<Cast>(a) else { return Err(Miss::NoMatch) };
    let q = g.input(cast, 0).filter(|&q| g.ty(q).dtype == DType::I8).ok_or(Miss::NoMatch)?;
    let matrix = g.constant(c).filter(|t| t.rank() == 2 && g.ty(q).shape.rank() >= 2).ok_or(Miss::NoMatch)?;
    let (values, &[rows, columns]) = (matrix.to_f64(), matrix.dims()) else { return Err(Miss::NoMatch) };
    if values.iter().any(|v| v.abs() > 128.0) || rows as f64 * 128.0 * 128.0 > f64::from(1 << 24) {
        return Err(Miss::blocked("its integers are too large for sums in 32-bit floats"));
    }
    let transposed: Vec<f32> = (0..columns)
        .flat_map(|c| (0..rows).map(move |r| (r, c)))
        .map(|(r, c)| values[r * columns + c] as f32)
        .collect();
    let name = g.value(c).name.clone();
    let w = g.add_const(&name, Tensor::new(&[columns, rows], &transposed));
    let x = g.add(Cast { to: DType::F32 }, &[Some(q)])?;
    Ok(g.add(Linear { act: Activation::None }, &[Some(x), Some(w)])?.into())
}
