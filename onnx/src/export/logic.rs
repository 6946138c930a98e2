//! Logic networks: encoders, layers of tables, group sums.
//!
//! The operators of `ai.bitc` take rows; other ranks are flattened before them and restored behind them.

use std::collections::{BTreeMap, BTreeSet};

use bitc_ir::netlist::Netlist;
use bitc_ir::ops::{GroupSum, LogicNet};
use bitc_ir::{DType, Shape, Tensor};
use bytes::Bytes;

use super::convert::{attr_float, attr_int, attr_ints, attr_str, raw};
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

/// A network level by level: every level is a layer of tables per number of inputs, over the bits that it reads.
pub(super) fn logic_net(cx: &mut Cx<'_, '_>, op: &LogicNet) -> Names {
    let (bits, rank) = (cx.input(0)?, cx.ty(0)?.shape.rank());
    let net = &*op.net;
    if net.n_inputs() == 0 {
        return no("a network without inputs");
    }
    let bits = rows(cx, bits, rank);
    let mut wires = Wires::new(bits, net);
    for level in levels(net) {
        let read: Vec<usize> = level.values().flatten().flat_map(|n| n.inputs.iter().copied()).collect();
        let all = wires.gathered(cx, &read);
        for (fan_in, nodes) in merged(level, all.width) {
            let (mut connections, mut entries) = (Vec::new(), Vec::new());
            for node in &nodes {
                connections.extend(node.inputs.iter().map(|&w| all.column(&wires, w)).collect::<Result<Vec<_>, _>>()?);
                entries.extend((0..1u64 << fan_in).map(|a| ((node.table >> a) & 1) as u8));
            }
            let connections = cx.s().tensor_as("connections", &Tensor::new(&[nodes.len(), fan_in], &connections));
            let tables = packed_tables(cx, &entries, nodes.len(), 1 << fan_in, "tables");
            let y = layer(cx, &all.name, &connections, &tables);
            wires.add(y, nodes.iter().map(|n| n.wire));
        }
    }
    let outputs: Vec<usize> = net.outputs().iter().map(|w| w.index()).collect();
    let all = wires.gathered(cx, &outputs);
    let columns = outputs.iter().map(|&w| all.column(&wires, w)).collect::<Result<Vec<_>, _>>()?;
    if columns.len() == all.width && columns.iter().zip(0..).all(|(&column, i)| column == i) {
        return restored(cx, all.name, rank);
    }
    // Rows are gathered, not columns: engines move them whole.
    let swap = || vec![attr_ints("perm", &[1, 0])];
    let columns = cx.s().tensor_as("outputs", &Tensor::new(&[columns.len()], &columns));
    let turned = cx.op("Transpose", &[&all.name], swap());
    let chosen = cx.op("Gather", &[&turned, &columns], vec![attr_int("axis", 0)]);
    let y = cx.op("Transpose", &[&chosen], swap());
    restored(cx, y, rank)
}

/// The bits of a network that were computed so far: arrays `[rows, width]`, and where each wire lies.
struct Wires {
    arrays: Vec<(String, usize)>,
    /// The array and the column of each wire.
    places: Vec<(usize, usize)>,
}

/// Some arrays side by side.
struct Gathered {
    name: String,
    width: usize,
    /// Where each array begins.
    starts: BTreeMap<usize, usize>,
}

impl Wires {
    fn new(inputs: String, net: &Netlist) -> Self {
        let n_inputs = net.n_inputs() as usize;
        let places = (0..net.n_wires()).map(|wire| (0, wire)).collect();
        Self { arrays: vec![(inputs, n_inputs)], places }
    }

    /// An array with these wires.
    fn add(&mut self, name: String, wires: impl Iterator<Item = usize>) {
        let mut width = 0;
        for wire in wires {
            self.places[wire] = (self.arrays.len(), width);
            width += 1;
        }
        self.arrays.push((name, width));
    }

    /// The arrays in which these wires lie, as one.
    fn gathered(&self, cx: &mut Cx<'_, '_>, wires: &[usize]) -> Gathered {
        let needed: BTreeSet<usize> = wires.iter().map(|&w| self.places[w].0).collect();
        let (mut starts, mut width, mut names) = (BTreeMap::new(), 0, Vec::new());
        for array in needed {
            starts.insert(array, width);
            width += self.arrays[array].1;
            names.push(self.arrays[array].0.as_str());
        }
        let name = match names[..] {
            [] => self.arrays[0].0.clone(),
            [one] => one.to_owned(),
            _ => cx.op("Concat", &names, vec![attr_int("axis", 1)]),
        };
        Gathered { name, width, starts }
    }
}

impl Gathered {
    fn column(&self, wires: &Wires, wire: usize) -> Result<i32, No> {
        let (array, column) = wires.places[wire];
        let column = self.starts.get(&array).and_then(|start| i32::try_from(start + column).ok());
        column.ok_or_else(|| No("a network of more than 2^31 wires".into()))
    }
}

/// A node of a network.
struct Table {
    wire: usize,
    inputs: Vec<usize>,
    table: u64,
}

/// The nodes of one level by their number of inputs.
type Level = BTreeMap<usize, Vec<Table>>;

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
        levels[own - 1].entry(inputs.len()).or_default().push(Table { wire: wire.index(), inputs, table });
    }
    levels
}

/// A level with few layers: nodes of fewer inputs read one of them again, which their tables ignore, where that costs
/// less than a layer of their own, which has to turn all bits it reads.
fn merged(level: Level, width: usize) -> Level {
    const LAYER: usize = 512;
    let mut merged = Level::new();
    for (fan_in, mut nodes) in level {
        if let Some((last, small)) = merged.pop_last() {
            if small.len() * (fan_in - last) > LAYER + width {
                merged.insert(last, small);
            } else {
                nodes.extend(small.into_iter().map(|node| widened(node, fan_in)));
                nodes.sort_by_key(|n| n.wire);
            }
        }
        merged.insert(fan_in, nodes);
    }
    merged
}

/// The same node with more inputs, all of which but its own it ignores.
fn widened(mut node: Table, fan_in: usize) -> Table {
    for n in node.inputs.len()..fan_in {
        let entries = 1u32 << n;
        let own = node.table & (u64::MAX >> (64 - entries));
        node.table = own | own << entries;
        node.inputs.push(node.inputs[0]);
    }
    node
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

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize, fan_in: usize, table: u64) -> Vec<Table> {
        (0..count).map(|wire| Table { wire, inputs: (0..fan_in).collect(), table }).collect()
    }

    #[test]
    fn a_node_with_more_inputs_computes_the_same() {
        let table = 0b1000_0110u64;
        let wide = widened(Table { wire: 0, inputs: vec![4, 2, 7], table }, 6);
        assert_eq!(wide.inputs, [4, 2, 7, 4, 4, 4]);
        for address in 0..64 {
            assert_eq!((wide.table >> address) & 1, (table >> (address % 8)) & 1, "at {address}");
        }
        let whole = widened(Table { wire: 0, inputs: vec![0; 6], table: u64::MAX }, 6);
        assert_eq!((whole.inputs.len(), whole.table), (6, u64::MAX));
    }

    #[test]
    fn few_nodes_of_fewer_inputs_join_the_next_layer() {
        let level = |small: usize| Level::from([(2, nodes(small, 2, 6)), (6, nodes(100, 6, 1))]);
        let joined = merged(level(50), 100);
        assert_eq!(joined.keys().collect::<Vec<_>>(), [&6]);
        assert_eq!(joined[&6].len(), 150);
        assert!(joined[&6].iter().all(|n| n.inputs.len() == 6));
        let apart = merged(level(10_000), 100);
        assert_eq!(apart.iter().map(|(f, n)| (*f, n.len())).collect::<Vec<_>>(), [(2, 10_000), (6, 100)]);
    }
}
