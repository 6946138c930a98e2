//! Logic networks: encoders, layers of tables, group sums.
//!
//! The operators of `ai.bitc` take rows; other ranks are flattened before them and restored behind them.

use std::collections::BTreeMap;

use bitc_ir::netlist::Netlist;
use bitc_ir::ops::{GroupSum, LogicNet};
use bitc_ir::{DType, Shape, Tensor};
use bytes::Bytes;

use super::convert::{attr_float, attr_int, attr_str, raw};
use super::cx::{Cx, Names, No, no};
use super::pack;
use crate::proto::data_type;

/// A value as a matrix of rows.
fn rows(cx: &mut Cx<'_, '_>, x: String, rank: usize) -> String {
    if rank == 2 { x } else { cx.op("Flatten", &[&x], vec![attr_int("axis", rank as i64 - 1)]) }
}

/// A matrix of rows in the shape of the result.
fn restored(cx: &mut Cx<'_, '_>, y: String, rank: usize) -> Names {
    if rank == 2 {
        return Ok(vec![y]);
    }
    Ok(vec![cx.reshape(&y, &Shape(Vec::new()), &cx.result(0).shape)?])
}

pub(super) fn thermometer(cx: &mut Cx<'_, '_>) -> Names {
    let (x, thresholds, rank) = (cx.input(0)?, cx.input(1)?, cx.ty(0)?.shape.rank());
    let x = rows(cx, x, rank);
    if cx.value(2).is_some() {
        let features = cx.input(2)?;
        let y = cx.call("EncodeChosen", &[&x, &thresholds, &features], Vec::new()).swap_remove(0);
        return restored(cx, y, rank);
    }
    let y = cx.call("Encode", &[&x, &thresholds], Vec::new()).swap_remove(0);
    restored(cx, y, rank)
}

pub(super) fn lut(cx: &mut Cx<'_, '_>) -> Names {
    let (bits, connections, rank) = (cx.input(0)?, cx.input(1)?, cx.ty(0)?.shape.rank());
    let Some(tables) = cx.constant(2) else { return no("tables that are computed while running") };
    let hint = cx.hint(2);
    let bits = rows(cx, bits, rank);
    let y = match tables.to_vec::<u8>() {
        Some(entries) => {
            let &[nodes, size] = tables.dims() else { return no("tables of another rank than 2") };
            let tables = packed_tables(cx, &entries, nodes, size, &hint);
            layer(cx, &bits, &connections, &tables)
        }
        None => {
            let tables = cx.input(2)?;
            cx.call("LutLayerReal", &[&bits, &connections, &tables], Vec::new()).swap_remove(0)
        }
    };
    restored(cx, y, rank)
}

/// Tables of one byte per entry as a constant of one bit per entry, whole bytes per node.
fn packed_tables(cx: &mut Cx<'_, '_>, entries: &[u8], nodes: usize, size: usize, hint: &str) -> String {
    let row_bytes = size.div_ceil(8);
    let bytes: Vec<u8> = entries.chunks(size.max(1)).flat_map(|row| pack::bits(row.iter().copied())).collect();
    cx.s().constant(hint, raw(data_type::UINT8, &[nodes, row_bytes], Bytes::from(bytes)))
}

fn layer(cx: &mut Cx<'_, '_>, bits: &str, connections: &str, tables: &str) -> String {
    cx.call("LutLayer", &[bits, connections, tables], Vec::new()).swap_remove(0)
}

/// A network level by level: every level is a layer of tables per number of inputs, over all bits before it.
pub(super) fn logic_net(cx: &mut Cx<'_, '_>, op: &LogicNet) -> Names {
    let (bits, rank) = (cx.input(0)?, cx.ty(0)?.shape.rank());
    let net = &*op.net;
    if net.n_inputs() == 0 {
        return no("a network without inputs");
    }
    let mut all = rows(cx, bits, rank);
    // The column of each wire among the bits so far.
    let mut columns: Vec<usize> = (0..net.n_inputs() as usize).collect();
    columns.resize(net.n_wires(), 0);
    let mut width = net.n_inputs() as usize;
    for level in levels(net) {
        let mut parts = vec![all.clone()];
        for (fan_in, nodes) in level {
            let (mut wires, mut entries) = (Vec::new(), Vec::new());
            for &(wire, ref inputs, table) in &nodes {
                columns[wire] = width;
                width += 1;
                wires.extend(inputs.iter().map(|&w| column(&columns, w)).collect::<Result<Vec<_>, No>>()?);
                entries.extend((0..1u64 << fan_in).map(|a| ((table >> a) & 1) as u8));
            }
            let connections = cx.s().tensor_as("connections", &Tensor::new(&[nodes.len(), fan_in], &wires));
            let tables = packed_tables(cx, &entries, nodes.len(), 1 << fan_in, "tables");
            parts.push(layer(cx, &all, &connections, &tables));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        all = cx.op("Concat", &parts, vec![attr_int("axis", 1)]);
    }
    // Tables of one input that repeat it put the outputs in order.
    let wires = net.outputs().iter().map(|w| column(&columns, w.index())).collect::<Result<Vec<_>, No>>()?;
    let connections = cx.s().tensor_as("connections", &Tensor::new(&[wires.len(), 1], &wires));
    let tables = packed_tables(cx, &[0, 1].repeat(wires.len()), wires.len(), 2, "tables");
    let y = layer(cx, &all, &connections, &tables);
    restored(cx, y, rank)
}

/// The nodes of one level by their number of inputs: wire, wires read, table.
type Level = BTreeMap<usize, Vec<(usize, Vec<usize>, u64)>>;

fn levels(net: &Netlist) -> Vec<Level> {
    let mut depth = vec![0usize; net.n_wires()];
    let mut levels: Vec<Level> = Vec::new();
    for (wire, node) in net.nodes() {
        let own = node.inputs.iter().map(|w| depth[w.index()] + 1).max().unwrap_or(1);
        depth[wire.index()] = own;
        levels.resize_with(levels.len().max(own), Level::new);
        // A constant reads the first input and ignores it.
        let (inputs, table) = match node.inputs {
            [] => (vec![0], if node.table & 1 == 1 { 3 } else { 0 }),
            some => (some.iter().map(|w| w.index()).collect(), node.table),
        };
        levels[own - 1].entry(inputs.len()).or_default().push((wire.index(), inputs, table));
    }
    levels
}

fn column(columns: &[usize], wire: usize) -> Result<i32, No> {
    i32::try_from(columns[wire]).map_err(|_| No("a network of more than 2^31 wires".into()))
}

pub(super) fn group_sum(cx: &mut Cx<'_, '_>, op: &GroupSum) -> Names {
    let (x, ty) = (cx.input(0)?, cx.ty(0)?);
    let (rank, dtype) = (ty.shape.rank(), ty.dtype);
    let Some(n) = ty.shape.last().and_then(bitc_ir::Dim::as_const) else { return no("groups of symbolic size") };
    let mut x = rows(cx, x, rank);
    let missing = op.group_len(n) * op.groups - n;
    if missing > 0 {
        if dtype == DType::Bool {
            x = cx.s().cast(&x, DType::F32);
        }
        let pads = cx.s().ints(&[0, 0, 0, missing as i64]);
        x = cx.op("Pad", &[&x, &pads], vec![attr_str("mode", "constant")]);
    }
    let attrs = vec![attr_int("groups", op.groups as i64), attr_float("tau", op.tau), attr_float("beta", op.beta)];
    let y = cx.call("GroupSum", &[&x], attrs).swap_remove(0);
    restored(cx, y, rank)
}
