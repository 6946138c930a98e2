//! Layers of integer sums whose results are quantised with a fixed step: one instruction for the layer and the quantiser,
//! so that no float lies between two products.
//!
//! What may stand between the two is one multiplication or division by a number, a rounding and a whole number added to
//! it, and changes of shape; and nothing else may read what is in between. A quantiser that measures its scale needs a
//! whole row before it can begin.

use std::collections::{BTreeMap, BTreeSet};

use bitc_format::DType;
use bitc_format::inst::{BitConv2dQuantize, BitLinearQuantize, Steps};
use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{Binary, BinaryKind, Op, Unary, UnaryKind};
use bitc_ir::{Graph, NodeId, Uses, ValueId};

use super::cx::{Cx, PaddedRows, Refusal};
use super::quantize::{Readers, padded_rows, readers};
use super::{bit_linear, conv};

/// A layer and the quantiser behind it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// The layer, what is in between, and the quantiser.
    members: Vec<NodeId>,
    steps: Steps,
}

/// The chains of a graph.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// By quantiser.
    chains: BTreeMap<NodeId, Chain>,
    /// What is part of a chain and no quantiser.
    inner: BTreeSet<NodeId>,
}

impl Chains {
    pub(super) fn new(graph: &Graph, order: &[NodeId], uses: &Uses) -> Self {
        let mut found = Self::default();
        for &id in order {
            if let Some(chain) = chain(graph, uses, id) {
                found.inner.extend(chain.members.iter().filter(|&&member| member != id));
                found.chains.insert(id, chain);
            }
        }
        found
    }

    /// The chain that ends with a quantiser.
    pub(super) fn ending(&self, quantizer: NodeId) -> Option<&Chain> {
        self.chains.get(&quantizer)
    }

    /// Whether the instruction of a node is that of a quantiser behind it.
    pub(super) fn holds(&self, id: NodeId) -> bool {
        self.inner.contains(&id)
    }
}

/// The layer whose sums an instruction that completes a quantiser has as well.
pub fn layer_before(graph: &Graph, quantizer: NodeId) -> Option<NodeId> {
    chain(graph, &graph.uses(), quantizer)?.members.first().copied()
}

/// The chain that ends with a node.
fn chain(graph: &Graph, uses: &Uses, quantizer: NodeId) -> Option<Chain> {
    let Op::QuantizeAct(op) = &graph.node(quantizer).op else { return None };
    let &[q, scale] = &graph.node(quantizer).outputs[..] else { return None };
    if op.form != Form::Integer || uses.count(scale) > 0 {
        return None;
    }
    let mut steps = Steps { step: 1.0, divide: false, offset: 0, lo: op.low.into(), hi: op.high.into() };
    let (mut moved, mut rounded, mut scaled) = (false, false, false);
    let mut members = vec![quantizer];
    let mut at = graph.input(quantizer, 0)?;
    let layer = loop {
        let id = graph.producer_id(at).filter(|_| uses.count(at) == 1)?;
        members.push(id);
        at = match &graph.node(id).op {
            Op::Reshape(_) | Op::Flatten(_) => graph.input(id, 0)?,
            Op::Unary(Unary(UnaryKind::Round)) if !rounded && !scaled => {
                rounded = true;
                graph.input(id, 0)?
            }
            Op::Binary(Binary(kind)) => {
                let (x, c, number) = with_number(graph, id)?;
                let behind = graph.producer_id(x).map(|n| &graph.node(n).op);
                match kind {
                    BinaryKind::Add | BinaryKind::Sub
                        if !moved && !rounded && matches!(behind, Some(Op::Unary(Unary(UnaryKind::Round)))) =>
                    {
                        let whole = number.fract() == 0.0 && number.abs() <= 1024.0;
                        let by = whole.then_some(number as i32)?;
                        let negated = *kind == BinaryKind::Sub && graph.input(id, 1) == Some(c);
                        steps.offset = if negated { -by } else { by };
                        moved = *kind == BinaryKind::Add || negated;
                        moved.then_some(x)?
                    }
                    BinaryKind::Mul | BinaryKind::Div if !scaled => {
                        scaled = true;
                        steps.divide = *kind == BinaryKind::Div;
                        steps.step = number;
                        (!steps.divide || graph.input(id, 1) == Some(c)).then_some(x)?
                    }
                    _ => return None,
                }
            }
            Op::BitLinear(op) if op.group == 0 => break id,
            Op::BitConv2d(_) => break id,
            _ => return None,
        };
    };
    // Only rows of the layer can be rows of what comes next.
    let (from, to) = (&graph.ty(graph.node(layer).outputs[0]).shape, &graph.ty(q).shape);
    let readers = readers(graph, uses, q);
    let fits = match &graph.node(layer).op {
        Op::BitConv2d(_) => !readers.padded,
        _ => !readers.padded || (!readers.plain && from.0.last() == to.0.last()),
    };
    members.reverse();
    fits.then_some(Chain { members, steps })
}

/// The inputs of an operation on a tensor of `f32` and one number, which keeps the shape of the tensor.
fn with_number(graph: &Graph, id: NodeId) -> Option<(ValueId, ValueId, f32)> {
    let (a, b) = (graph.input(id, 0)?, graph.input(id, 1)?);
    let number = |v: ValueId| graph.constant(v).filter(|t| t.numel() == 1)?.to_vec::<f32>()?.first().copied();
    let (x, c, number) = match number(b) {
        Some(number) => (a, b, number),
        None => (b, a, number(a)?),
    };
    (graph.ty(x) == graph.ty(graph.node(id).outputs[0])).then_some((x, c, number))
}

/// The instruction of a chain, when its quantiser is reached.
pub(super) fn requantized(cx: &mut Cx<'_>, id: NodeId, chain: &Chain) -> Result<(), Refusal> {
    let layer_id = chain.members[0];
    let (graph, q, steps) = (cx.graph(), cx.graph().node(id).outputs[0], chain.steps.clone());
    let shape = graph.ty(q).shape.clone();
    let from = graph.ty(graph.node(layer_id).outputs[0]).shape.clone();
    let Readers { padded, .. } = readers(graph, cx.uses(), q);
    match &graph.node(layer_id).op {
        Op::BitLinear(op) => {
            let (y, row_sums) = if padded {
                let rows = padded_rows(cx, &from)?;
                (rows.q, Some(rows.sums))
            } else {
                (cx.buffer(DType::I8, &from)?, None)
            };
            let layer = bit_linear::product(cx, layer_id, op, y)?;
            cx.emit_for(&chain.members, BitLinearQuantize { layer, row_sums, steps });
            match row_sums {
                Some(sums) => {
                    let outer = bitc_ir::Shape(shape.0[..shape.rank() - 1].to_vec());
                    let rows = PaddedRows { q: cx.alias(y, &shape)?, sums: cx.alias(sums, &outer)? };
                    cx.padded.insert(q, rows);
                }
                None => {
                    let placed = cx.alias(y, &shape)?;
                    cx.place(q, placed);
                }
            }
        }
        Op::BitConv2d(op) => {
            let y = cx.buffer(DType::I8, &from)?;
            let layer = conv::product(cx, layer_id, op, y)?;
            cx.emit_for(&chain.members, BitConv2dQuantize { layer, steps });
            let placed = cx.alias(y, &shape)?;
            cx.place(q, placed);
        }
        _ => return Err(cx.unsupported(id, "it follows no layer of integer sums").into()),
    }
    Ok(())
}
