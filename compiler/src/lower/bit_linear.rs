//! Fully connected layers with few-bit weights.

use bitc_format::inst::BitLinear;
use bitc_format::{BufferId, ConstId, Operand};
use bitc_ir::{DType, NodeId, Tensor, ValueId, ops};

use super::cx::{Cx, LayerInfo, Refusal, activation};
use super::layouts::Values;
use super::{Target, choose, consts, quantize};

/// `act((q · wᵀ * q_scale) * scale + bias)`.
pub(super) fn bit_linear(cx: &mut Cx<'_>, id: NodeId, op: &ops::BitLinear) -> Result<(), Refusal> {
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    let inst = product(cx, id, op, y)?;
    cx.emit(inst);
    Ok(())
}

/// The instruction that stores the layer in `y`, and its line in the table of layers.
pub(super) fn product(cx: &mut Cx<'_>, id: NodeId, op: &ops::BitLinear, y: BufferId) -> Result<BitLinear, Refusal> {
    let (q, q_scale, w) = (cx.input(id, 0)?, cx.input(id, 1)?, cx.input(id, 2)?);
    let weights = Weights::new(cx, id, w)?;
    let rows = quantize::rows_of(cx, q)?;
    let q_scale = cx.operand(q_scale)?;
    let dims = weights.tensor.dims().to_vec();
    let (scale, bias) = scale_and_bias(cx, id)?;
    let (packed, info) = match op.group {
        0 => weights.pack(cx, id, cx.target(), &dims, consts::bytes)?,
        group => {
            let shape = [dims[1].div_ceil(group), dims[0], group];
            weights
                .pack(cx, id, cx.target(), &shape, |tensor| consts::in_groups(&consts::bytes(tensor), dims[1], group))?
        }
    };
    let bytes = cx.const_len(packed.into()) + cx.const_len(scale);
    cx.add_layer(id, w, bytes, dims[1] as u64, info);
    Ok(BitLinear {
        y,
        q: rows.q.into(),
        q_scale,
        sums: rows.sums.into(),
        w: packed.into(),
        scale,
        bias,
        activation: activation(op.act),
    })
}

/// Begins the key of a graph's meta that names the method by which the weights of a source node became ternary.
const METHOD_OF: &str = "method of ";

/// Ternary or 8-bit weights of a product.
pub(super) struct Weights<'g> {
    value: ValueId,
    pub(super) tensor: &'g Tensor,
}

impl<'g> Weights<'g> {
    /// The weights of a node, which must be constant.
    pub(super) fn new(cx: &Cx<'g>, id: NodeId, value: ValueId) -> Result<Self, Refusal> {
        let tensor = cx.graph().constant(value).filter(|t| matches!(t.dtype(), DType::T2 | DType::I8));
        let tensor = tensor.ok_or_else(|| cx.unsupported(id, "its weights are not constant"))?;
        Ok(Self { value, tensor })
    }

    /// The packed constant of shape `shape`, `[rows, columns]` or `[groups, rows, columns]`, whose elements `order`
    /// gives, and what the layer table says about it.
    pub(super) fn pack(
        &self,
        cx: &mut Cx<'_>,
        id: NodeId,
        target: Target,
        shape: &[usize],
        order: impl FnOnce(&Tensor) -> Vec<i8>,
    ) -> Result<(ConstId, LayerInfo), Refusal> {
        let size = |back: usize| shape.iter().rev().nth(back).map_or(1, |&d| d as u64);
        let ordered = order(self.tensor);
        let values = match self.tensor.dtype() {
            DType::I8 => Values::Bytes,
            // What pads the last of several groups is zero as well.
            _ if ordered.contains(&0) => Values::Ternary,
            _ => Values::Binary,
        };
        let choice = choose(target, size(1), size(0), values);
        if size(0) > choice.layout.max_columns() {
            let long = cx.unsupported(id, "its rows are so long that sums may not fit 32 bits");
            return Err(long.expected(format!("at most {} inputs", choice.layout.max_columns())).found(size(0)).into());
        }
        let constant = consts::pack(choice.layout, shape, &ordered);
        let constant = constant.ok_or_else(|| cx.unsupported(id, "its weights are too large to pack"))?;
        let packed = cx.add_packed(self.value, || constant);
        // A pass that made the weights ternary says by which method.
        let meta = &cx.graph().meta;
        let method = cx.names(id).iter().find_map(|name| meta.get(&format!("{METHOD_OF}{name}")).cloned());
        let rewritten = method.is_some();
        let method = method.unwrap_or_else(|| "trained".to_owned());
        let method = format!("{method}, {} since {}", choice.layout.name(), choice.reason);
        Ok((packed, LayerInfo { method, layout: choice.layout, rewritten }))
    }
}

/// Scale and bias of a product; both must be constant.
pub(super) fn scale_and_bias(cx: &mut Cx<'_>, id: NodeId) -> Result<(Operand, Option<Operand>), Refusal> {
    let scale = cx.input(id, 3)?;
    let bias = cx.graph().input(id, 4);
    for value in [Some(scale), bias].into_iter().flatten() {
        if cx.graph().constant(value).is_none() {
            return Err(cx.unsupported(id, "the scale of its weights or its bias is not constant").into());
        }
    }
    Ok((cx.operand(scale)?, bias.map(|v| cx.operand(v)).transpose()?))
}
