//! Logic networks: thermometers, networks, group sums and the argmax of one become a single instruction where each is
//! all that reads the one before; what stands alone is a network of wires.

mod network;
mod real;

pub(crate) use network::decode;

use bitc_format::inst::{Logic, LogicHead};
use bitc_format::{Layer, Operand};
use bitc_ir::netlist::{Netlist, Wire};
use bitc_ir::ops::{self, Op};
use bitc_ir::{DType, NodeId, ValueId};
use bitc_passes::logic::Head;

use super::cx::{Cx, Refusal};
use super::shape::axis;
use crate::error::Diagnostic;

/// What becomes of the outputs of a network.
struct Answer {
    /// The value that is computed.
    y: ValueId,
    head: LogicHead,
    outputs: Head,
    tau: f32,
    beta: f32,
}

/// Where the bits of a network come from.
struct Rows {
    x: Operand,
    features: Option<Operand>,
    thresholds: Option<Operand>,
}

/// `thermometer`: part of the networks that read it, or bits of its own.
pub(super) fn thermometer(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    if is_fused(cx, id) {
        return Ok(());
    }
    let bits = cx.graph().node(id).outputs[0];
    let rows = compared(cx, id)?;
    let net = wires(cx, bits, id)?;
    emit(cx, &[id], &net, rows, answer_bits(bits))
}

/// `logic_net`: part of the group sum that reads it, or bits of its own.
pub(super) fn logic_net(cx: &mut Cx<'_>, id: NodeId, op: &ops::LogicNet) -> Result<(), Refusal> {
    let y = cx.graph().node(id).outputs[0];
    if only_reader(cx, y).is_some_and(|(_, op)| matches!(op, Op::GroupSum(_))) {
        return Ok(());
    }
    let (chain, rows) = rows_of(cx, id)?;
    emit(cx, &chain, &op.net, rows, answer_bits(y))
}

/// `group_sum`: part of the argmax that reads it, or scores.
pub(super) fn group_sum(cx: &mut Cx<'_>, id: NodeId, op: &ops::GroupSum) -> Result<(), Refusal> {
    let y = cx.graph().node(id).outputs[0];
    if cx.graph().ty(cx.input(id, 0)?).dtype != DType::Bool {
        return real::group_sum(cx, id, op);
    }
    if only_reader(cx, y).is_some_and(|(reader, op)| decides(cx, reader, op)) {
        return Ok(());
    }
    sums(cx, &[id], op, y, LogicHead::Scores)
}

/// `argmax` of the scores of a network; `None` where it is not one.
pub(super) fn argmax(cx: &mut Cx<'_>, id: NodeId) -> Option<Result<(), Refusal>> {
    let scores = cx.graph().input(id, 0)?;
    let (producer, op) = cx.graph().producer::<ops::GroupSum>(scores)?;
    let only = only_reader(cx, scores).is_some_and(|(reader, op)| reader == id && decides(cx, reader, op));
    if !only || cx.graph().input(producer, 0).is_none_or(|bits| cx.graph().ty(bits).dtype != DType::Bool) {
        return None;
    }
    Some(sums(cx, &[producer, id], op, cx.graph().node(id).outputs[0], LogicHead::Argmax))
}

/// `lut` that no pass made part of a network: tables of real numbers.
pub(super) fn lut(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    real::lut(cx, id)
}

fn answer_bits(y: ValueId) -> Answer {
    Answer { y, head: LogicHead::Bits, outputs: Head::Bits, tau: 1.0, beta: 0.0 }
}

/// The only node that reads a value, where there is one and it reads it once.
fn only_reader<'c>(cx: &Cx<'c>, value: ValueId) -> Option<(NodeId, &'c Op)> {
    match cx.uses().of(value) {
        &[reader] if cx.uses().returned(value) == 0 => Some((reader, &cx.graph().node(reader).op)),
        _ => None,
    }
}

/// Whether a node is the first position of the largest value along the last axis.
fn decides(cx: &Cx<'_>, id: NodeId, op: &Op) -> bool {
    let Op::ArgMax(op) = op else { return false };
    let rank = cx.graph().input(id, 0).map_or(0, |v| cx.graph().ty(v).shape.rank());
    !op.min && !op.last && rank > 0 && axis(op.axis, rank) as usize == rank - 1
}

/// Counts groups of bits.
fn sums(cx: &mut Cx<'_>, tail: &[NodeId], op: &ops::GroupSum, y: ValueId, head: LogicHead) -> Result<(), Refusal> {
    let id = tail[0];
    let bits = cx.input(id, 0)?;
    let n_bits = cx.graph().ty(bits).shape.last().and_then(|d| d.as_const()).unwrap_or(0);
    let size = op.group_len(n_bits);
    let too_many = |cx: &Cx<'_>| cx.unsupported(id, "its groups are too many or too large");
    let groups = u16::try_from(op.groups).map_err(|_| too_many(cx))?;
    let size = u32::try_from(size).map_err(|_| too_many(cx))?;
    let outputs = Head::Groups { groups, size };
    let answer = Answer { y, head, outputs, tau: op.tau, beta: op.beta };
    let network = cx.graph().producer::<ops::LogicNet>(bits).filter(|_| only_reader(cx, bits).is_some());
    let Some((producer, network)) = network else {
        let rows = Rows { x: cx.operand(bits)?, features: None, thresholds: None };
        let net = wires(cx, bits, id)?;
        return emit(cx, tail, &net, rows, answer);
    };
    let (mut chain, rows) = rows_of(cx, producer)?;
    chain.extend(tail);
    emit(cx, &chain, &network.net, rows, answer)
}

/// The nodes that a network's instruction computes, itself included, and what it reads.
fn rows_of(cx: &mut Cx<'_>, id: NodeId) -> Result<(Vec<NodeId>, Rows), Refusal> {
    let bits = cx.input(id, 0)?;
    if let Some(producer) = cx.graph().producer_id(bits)
        && is_fused(cx, producer)
    {
        return Ok((vec![producer, id], compared(cx, producer)?));
    }
    Ok((vec![id], Rows { x: cx.operand(bits)?, features: None, thresholds: None }))
}

/// Whether a node is a thermometer that only networks read, which compare by themselves.
fn is_fused(cx: &Cx<'_>, id: NodeId) -> bool {
    let node = cx.graph().node(id);
    let Op::Thermometer(_) = node.op else { return false };
    let readers = cx.uses().of(node.outputs[0]);
    let networks = readers.iter().all(|&r| matches!(cx.graph().node(r).op, Op::LogicNet(_)));
    networks && !readers.is_empty() && cx.uses().returned(node.outputs[0]) == 0
}

/// The floats that a thermometer reads, and what it compares them with.
fn compared(cx: &mut Cx<'_>, id: NodeId) -> Result<Rows, Refusal> {
    let (x, thresholds) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let features = cx.graph().input(id, 2);
    let (Some(tensor), true) =
        (cx.graph().constant(thresholds), features.is_none_or(|f| cx.graph().constant(f).is_some()))
    else {
        return Err(cx.unsupported(id, "its thresholds are not constant").into());
    };
    let n_features = cx.graph().ty(x).shape.last().and_then(|d| d.as_const());
    let chosen: Vec<i32> = match features.and_then(|f| cx.graph().constant(f)) {
        Some(features) => features.to_vec::<i32>().unwrap_or_default(),
        None => {
            let per_feature = tensor.dims().get(1).copied().unwrap_or(0);
            (0..tensor.numel()).map(|i| (i / per_feature.max(1)) as i32).collect()
        }
    };
    let known = |&f: &i32| usize::try_from(f).is_ok_and(|f| n_features.is_none_or(|n| f < n));
    if let Some(feature) = chosen.iter().find(|f| !known(f)) {
        let fault = cx.unsupported(id, "a threshold is for a feature that does not exist");
        return Err(fault.found(format!("feature {feature}")).into());
    }
    let flat = bitc_ir::Shape::from(vec![bitc_ir::Dim::from(chosen.len())]);
    let thresholds = Some(cx.view(thresholds, &flat)?);
    let features = match features {
        Some(features) => cx.operand(features)?,
        None => cx.add_tensor(bitc_ir::Tensor::new(&[chosen.len()], &chosen)).into(),
    };
    Ok(Rows { x: cx.operand(x)?, features: Some(features), thresholds })
}

/// A network whose outputs are its inputs, as many as a value has elements in a row.
fn wires(cx: &Cx<'_>, bits: ValueId, id: NodeId) -> Result<Netlist, Refusal> {
    let n = cx.graph().ty(bits).shape.last().and_then(|d| d.as_const()).and_then(|n| u32::try_from(n).ok());
    let n = n.ok_or_else(|| cx.unsupported(id, "the number of its bits is not known"))?;
    let mut net = Netlist::new(n);
    for i in 0..n {
        net.add_output(Wire::new(i)).map_err(|e| cx.unsupported(id, &e.to_string()))?;
    }
    Ok(net)
}

/// The instruction of a network, which completes the last node of the chain.
fn emit(cx: &mut Cx<'_>, chain: &[NodeId], net: &Netlist, rows: Rows, answer: Answer) -> Result<(), Refusal> {
    let id = chain[chain.len() - 1];
    if net.n_inputs() == 0 {
        return Err(cx.unsupported(id, "a network without inputs has no instruction").into());
    }
    let refused = |cx: &Cx<'_>, e: &dyn std::fmt::Display| -> Diagnostic { cx.unsupported(id, &e.to_string()) };
    let bytes = network::encode(net, answer.outputs).map_err(|e| refused(cx, &e))?;
    note_layer(cx, chain, net, bytes.len() as u64);
    let whole = match answer.outputs {
        Head::Bits => true,
        Head::Groups { groups, size } => net.outputs().len() as u64 == u64::from(groups) * u64::from(size),
    };
    let program = cx.add_bytes(bytes);
    for &node in chain.iter().filter(|_| whole) {
        if matches!(cx.graph().node(node).op, Op::LogicNet(_)) {
            cx.note_network(node, program);
        }
    }
    let y = cx.define(answer.y)?;
    let Rows { x, features, thresholds } = rows;
    let Answer { head, tau, beta, .. } = answer;
    cx.emit_for(chain, Logic { y, x, program: program.into(), features, thresholds, head, tau, beta });
    Ok(())
}

/// Notes a network as a layer: its weights are the bits of its tables.
fn note_layer(cx: &mut Cx<'_>, chain: &[NodeId], net: &Netlist, packed_bytes: u64) {
    let Some(&id) = chain.iter().find(|&&id| matches!(cx.graph().node(id).op, Op::LogicNet(_))) else { return };
    let stats = net.stats();
    let connections: u64 = stats.nodes_by_fanin.iter().zip(0u64..).map(|(&n, fan_in)| n as u64 * fan_in).sum();
    let name = cx.names(id).first().cloned().unwrap_or_default();
    cx.push_layer(Layer {
        name,
        op: "logic_net".to_owned(),
        method: "logic".to_owned(),
        layout: "program".to_owned(),
        weights: stats.table_bits,
        zeros: 0,
        source_bytes: stats.table_bits.div_ceil(8) + 4 * connections,
        packed_bytes,
        macs: 0,
    });
}
