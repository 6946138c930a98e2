//! Products of matrices.

use bitc_format::DType;
use bitc_format::inst::{Activation, Cast, Matmul};
use bitc_ir::ops::Linear;
use bitc_ir::{Dim, NodeId, Shape};

use super::cx::{Cx, LayerInfo, Refusal, activation, const_type};

/// `act(x · wᵀ + bias)`.
pub(super) fn linear(cx: &mut Cx<'_>, id: NodeId, op: &Linear) -> Result<(), Refusal> {
    let (x, w) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let y = cx.graph().node(id).outputs[0];
    // A single row is a matrix of one.
    let matrix =
        |shape: &Shape| if shape.rank() == 1 { Shape([&[Dim::from(1)], &shape.0[..]].concat()) } else { shape.clone() };
    let a = cx.view(x, &matrix(&cx.graph().ty(x).shape))?;
    let b = cx.operand(w)?;
    let bias = cx.graph().input(id, 2).map(|v| cx.operand(v)).transpose()?;
    let buffer = cx.define(y)?;
    let buffer = cx.alias(buffer, &matrix(&cx.graph().ty(y).shape))?;
    cx.emit(Matmul { y: buffer, a, b, bias, transpose_b: true, activation: activation(op.act) });
    let (inner, packed) = (cx.graph().ty(w).shape.0[1].as_const().unwrap_or(0), cx.const_len(b));
    cx.add_layer(id, w, packed, inner as u64, LayerInfo::float());
    Ok(())
}

/// numpy's matrix product.
pub(super) fn matmul(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let (a, b) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let y = cx.graph().node(id).outputs[0];
    let own = cx.graph().ty(y).dtype;
    // Sums of narrow integers are those of 32 bits, of which they keep the low ones.
    let dtype = match own {
        bitc_ir::DType::F32 | bitc_ir::DType::F64 => const_type(own),
        float if float.is_float() => DType::F32,
        narrow if narrow.bits() < 32 => DType::I32,
        wide => const_type(wide),
    };
    let one = Dim::from(1);
    let (a_shape, b_shape) = (&cx.graph().ty(a).shape, &cx.graph().ty(b).shape);
    let mut y_shape = cx.graph().ty(y).shape.clone();
    // A vector gets an axis of 1 that the result drops: the result gets it back.
    let b_matrix = if b_shape.rank() == 1 {
        y_shape.0.push(one.clone());
        Shape(vec![b_shape.0[0].clone(), one.clone()])
    } else {
        b_shape.clone()
    };
    let a_matrix = if a_shape.rank() == 1 {
        y_shape.0.insert(y_shape.rank() - 1, one.clone());
        Shape(vec![one, a_shape.0[0].clone()])
    } else {
        a_shape.clone()
    };
    let inner = a_matrix.last().and_then(Dim::as_const).unwrap_or(0) as u64;
    let mut factor = |value, shape: &Shape| {
        if const_type(own) == dtype {
            return cx.view(value, shape);
        }
        let x = cx.operand(value)?;
        let y = cx.buffer(dtype, shape)?;
        cx.emit(Cast { y, x });
        Ok(y.into())
    };
    let (x, w) = (factor(a, &a_matrix)?, factor(b, &b_matrix)?);
    let result = cx.define(y)?;
    let product = if const_type(own) == dtype { cx.alias(result, &y_shape)? } else { cx.buffer(dtype, &y_shape)? };
    cx.emit(Matmul { y: product, a: x, b: w, bias: None, transpose_b: false, activation: Activation::None });
    if const_type(own) != dtype {
        cx.emit(Cast { y: result, x: product.into() });
    }
    let packed = cx.const_len(w);
    cx.add_layer(id, b, packed, inner, LayerInfo::float());
    Ok(())
}
