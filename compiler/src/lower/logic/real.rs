//! Tables of real numbers, and sums of them: by instructions for arrays, since they are no logic.

use bitc_format::inst::{Cast, Gather, MapOp, Pad, PadMode, Reduce, ReduceOp};
use bitc_format::{DType, Operand};
use bitc_ir::{Dim, NodeId, Shape, Tensor, ops};

use super::super::cx::{Cx, Refusal};
use super::super::map::Builder;

/// Addresses below this are exact as `f32`.
const EXACT: usize = 1 << 24;

/// `lut`: bits are gathered, multiplied with powers of two and added up to addresses, by which entries are gathered.
pub(super) fn lut(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let (bits, connections, tables) = (cx.input(id, 0)?, cx.input(id, 1)?, cx.input(id, 2)?);
    let graph = cx.graph();
    let (Some(wires), Some(entries)) = (graph.constant(connections), graph.constant(tables)) else {
        return Err(cx.unsupported(id, "its connections or tables are not constant").into());
    };
    if entries.dtype() != bitc_ir::DType::F32 {
        let fault = cx.unsupported(id, "tables of bits are no instruction of their own");
        return Err(fault.hint("the pass `lut-to-logic` makes networks of them").into());
    }
    let [nodes, fan_in] = wires.dims() else { return Err(cx.unsupported(id, "its connections have no rank 2").into()) };
    let (nodes, fan_in) = (*nodes, *fan_in);
    if entries.numel() > EXACT {
        let fault = cx.unsupported(id, "its tables are too large");
        return Err(fault.expected(format!("at most {EXACT} entries")).found(entries.numel()).into());
    }
    let n_bits = graph.ty(bits).shape.last().and_then(|d| d.as_const());
    let read = wires.to_vec::<i32>().unwrap_or_default();
    if read.iter().any(|&w| usize::try_from(w).is_ok_and(|w| n_bits.is_some_and(|n| w >= n)) || w < 0) {
        return Err(cx.unsupported(id, "a node reads a bit that does not exist").into());
    }
    let outer = graph.ty(bits).shape.0.split_last().map(|(_, outer)| outer.to_vec()).unwrap_or_default();
    let with = |tail: &[usize]| Shape(outer.iter().cloned().chain(tail.iter().map(|&n| Dim::from(n))).collect());

    let bases: Vec<f32> = (0..nodes).map(|node| (node << fan_in) as f32).collect();
    let flat = Shape(vec![Dim::from(entries.numel())]);
    let entries = cx.view(tables, &flat)?;
    let address = if fan_in == 0 {
        // A node that reads nothing has one entry.
        let zeros = Tensor::new(&[nodes], &bases);
        let address = cx.buffer(DType::F32, &with(&[nodes]))?;
        let x = cx.add_tensor(zeros).into();
        cx.emit(bitc_format::inst::Expand { y: address, x });
        address
    } else {
        let gathered = cx.buffer(DType::Bool, &with(&[nodes, fan_in]))?;
        let (x, indices) = (cx.operand(bits)?, cx.operand(connections)?);
        cx.emit(Gather { y: gathered, x, indices, axis: outer.len() as u32 });
        let powers: Vec<f32> = (0..fan_in).map(|j| (1u32 << j) as f32).collect();
        let powers: Operand = cx.add_tensor(Tensor::new(&[fan_in], &powers)).into();
        let weighted = cx.buffer(DType::F32, &with(&[nodes, fan_in]))?;
        let mut map = Builder::default();
        let (a, b) = (map.load(gathered.into()), map.load(powers));
        let product = map.step(MapOp::Mul, &[a, b]);
        cx.emit(map.finish(weighted, product));
        let local = cx.buffer(DType::F32, &with(&[nodes]))?;
        cx.emit(Reduce { y: local, x: weighted.into(), op: ReduceOp::Sum, axes: 1 << (outer.len() + 1) });
        let bases: Operand = cx.add_tensor(Tensor::new(&[nodes], &bases)).into();
        let address = cx.buffer(DType::F32, &with(&[nodes]))?;
        let mut map = Builder::default();
        let (a, b) = (map.load(local.into()), map.load(bases));
        let sum = map.step(MapOp::Add, &[a, b]);
        cx.emit(map.finish(address, sum));
        address
    };
    let indices = cx.buffer(DType::I32, &with(&[nodes]))?;
    cx.emit(Cast { y: indices, x: address.into() });
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Gather { y, x: entries, indices: indices.into(), axis: 0 });
    Ok(())
}

/// `group_sum` of floats: rows are filled with zeros to whole groups, added up, shifted and divided.
pub(super) fn group_sum(cx: &mut Cx<'_>, id: NodeId, op: &ops::GroupSum) -> Result<(), Refusal> {
    let input = cx.input(id, 0)?;
    let shape = cx.graph().ty(input).shape.clone();
    let Some((last, outer)) = shape.0.split_last() else {
        return Err(cx.unsupported(id, "its input has no axis").into());
    };
    let n = last.as_const().ok_or_else(|| cx.unsupported(id, "the length of its groups is not known"))?;
    let size = op.group_len(n);
    let with = |tail: &[usize]| Shape(outer.iter().cloned().chain(tail.iter().map(|&n| Dim::from(n))).collect());
    let grouped = with(&[op.groups, size]);
    let x = if op.groups * size == n {
        cx.view(input, &grouped)?
    } else {
        let x = cx.operand(input)?;
        let filled = cx.buffer(DType::F32, &with(&[op.groups * size]))?;
        let before = shape.0.iter().map(|_| cx.dim(&Dim::from(0))).collect::<Result<_, _>>()?;
        cx.emit(Pad { y: filled, x, before, mode: PadMode::Constant, value: 0 });
        cx.alias(filled, &grouped)?.into()
    };
    let sums = cx.buffer(DType::F32, &with(&[op.groups]))?;
    cx.emit(Reduce { y: sums, x, op: ReduceOp::Sum, axes: 1 << (outer.len() + 1) });
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    let mut map = Builder::default();
    let (sum, beta, tau) = (map.load(sums.into()), map.constant(op.beta), map.constant(op.tau));
    let shifted = map.step(MapOp::Add, &[sum, beta]);
    let score = map.step(MapOp::Div, &[shifted, tau]);
    cx.emit(map.finish(y, score));
    Ok(())
}
