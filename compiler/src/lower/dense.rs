//! Products of matrices.

use bitc_format::DType;
use bitc_format::inst::{Activation, Cast, DequantLinear, Matmul};
use bitc_ir::ops::{Dequantize, Linear};
use bitc_ir::{DType as IrType, Dim, Graph, NodeId, Shape, ValueId};

use super::bit_linear::Weights;
use super::cx::{Cx, LayerInfo, Refusal, activation, const_type};
use super::{Target, consts};

/// `act(x · wᵀ + bias)`.
pub(super) fn linear(cx: &mut Cx<'_>, id: NodeId, op: &Linear) -> Result<(), Refusal> {
    if let Some(weights) = cx.input(id, 1).ok().and_then(|w| few_bit_weights(cx.graph(), w)) {
        return dequant_linear(cx, id, op, weights);
    }
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

/// Weights that a float product takes in few bits: what they are a scale times of, that scale, and the inputs that share
/// a column of it.
pub(super) fn few_bit_weights(graph: &Graph, w: ValueId) -> Option<(ValueId, ValueId, usize)> {
    let (node, op) = graph.producer::<Dequantize>(w)?;
    let (t, scale) = (graph.input(node, 0)?, graph.input(node, 1)?);
    let tensor = graph.constant(t).filter(|t| matches!(t.dtype(), IrType::T2 | IrType::I8) && t.rank() == 2)?;
    let fits = tensor.numel() > 0 && graph.constant(scale)?.rank() <= 2;
    fits.then_some((t, scale, op.group.max(1)))
}

/// `act(x · (t * scale)ᵀ + bias)`.
fn dequant_linear(
    cx: &mut Cx<'_>,
    id: NodeId,
    op: &Linear,
    (t, scale, group): (ValueId, ValueId, usize),
) -> Result<(), Refusal> {
    let weights = Weights::new(cx, id, t)?;
    let dims = weights.tensor.dims().to_vec();
    let group = u32::try_from(group).map_err(|_| cx.unsupported(id, "its groups of inputs are too large"))?;
    let (x, bias) = (cx.input(id, 0)?, cx.graph().input(id, 2));
    if bias.is_some_and(|b| cx.graph().constant(b).is_none()) {
        return Err(cx.unsupported(id, "its bias is not constant").into());
    }
    let (x, scale) = (cx.operand(x)?, cx.operand(scale)?);
    let bias = bias.map(|v| cx.operand(v)).transpose()?;
    let (w, info) = weights.pack(cx, id, Target::Any, &dims, consts::bytes)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(DequantLinear { y, x, w: w.into(), scale, group, bias, activation: activation(op.act) });
    let bytes = cx.const_len(w.into()) + cx.const_len(scale);
    cx.add_layer(id, t, bytes, dims[1] as u64, info);
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
