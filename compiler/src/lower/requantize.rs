//! Layers of integer sums whose results are quantised with a fixed step: one instruction for the layer and the quantiser,
//! so that no float lies between two products.
//!
//! What may stand between the two is what [`Chain`] finds, and nothing else may read it. A quantiser that measures its
//! scale needs a whole row before it can begin.

use std::collections::{BTreeMap, BTreeSet};

use bitc_format::DType;
use bitc_format::inst::{BitConv2dQuantize, BitLinearQuantize, Steps};
use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{Op, QuantizeAct};
use bitc_ir::{Graph, NodeId, Uses};
use bitc_passes::requantize::Chain;

use super::cx::{Cx, PaddedRows, Refusal};
use super::quantize::{Readers, padded_rows, readers};
use super::{bit_linear, conv};

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

/// The chain that ends with a node, where an instruction does it.
fn chain(graph: &Graph, uses: &Uses, quantizer: NodeId) -> Option<Chain> {
    let Op::QuantizeAct(op) = &graph.node(quantizer).op else { return None };
    let &[q, scale] = &graph.node(quantizer).outputs[..] else { return None };
    if op.form != Form::Integer || uses.count(scale) > 0 {
        return None;
    }
    let chain = Chain::ending(graph, uses, quantizer).filter(|chain| chain.alone)?;
    // Only rows of the layer can be rows of what comes next.
    let layer = graph.node(chain.layer());
    let (from, to) = (&graph.ty(layer.outputs[0]).shape, &graph.ty(q).shape);
    let readers = readers(graph, uses, q);
    let fits = match &layer.op {
        // Who wants padded rows makes them of the integers.
        Op::BitConv2d(_) => true,
        _ => !readers.padded || (!readers.plain && from.0.last() == to.0.last()),
    };
    fits.then_some(chain)
}

/// The instruction of a chain, when its quantiser is reached.
pub(super) fn requantized(cx: &mut Cx<'_>, id: NodeId, quantizer: &QuantizeAct, chain: &Chain) -> Result<(), Refusal> {
    let layer_id = chain.layer();
    let (graph, q) = (cx.graph(), cx.graph().node(id).outputs[0]);
    let &Chain { step, divide, offset, .. } = chain;
    let steps = Steps { step, divide, offset, lo: quantizer.low.into(), hi: quantizer.high.into() };
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
    cx.note_sums(id, layer_id);
    Ok(())
}
