//! What was traced, as a network in the graph.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bitc_ir::ops::{Cast, Concat, LogicNet, Lut, Reshape, Thermometer};
use bitc_ir::{DType, Dim, Graph, Shape, Tensor, TypeError, ValueId};

use super::Found;
use super::cone::{Cone, Output, Traced};
use super::trace::{is_binary, number};

/// The most bytes of the tables of one layer of real numbers.
const MAX_TABLE_BYTES: usize = 1 << 28;

/// Puts a network in the place of a traced value; answers whether it did.
///
/// # Errors
/// Why it cannot.
pub(super) fn rebuild(graph: &mut Graph, found: &Found, value: ValueId) -> Result<bool, String> {
    let Some(traced) = &found.traced[value.index()] else { return Ok(false) };
    let ty = graph.ty(value).clone();
    let cones = of_one_sample(found, traced)?;
    // Bits that were only moved, or changed one by one, are no network.
    let computed = |cone: &Rc<Cone>| cone.support.len() != 1 || cone.support.iter().any(|&b| found.bits.is_node(b));
    if !cones.iter().any(computed) {
        return Ok(false);
    }
    let batch = ty.shape.0.first().cloned().ok_or("it has no samples")?;
    let node = graph.producer_id(value);
    let origin = node.map(|id| graph.node(id).origin.clone()).unwrap_or_default();
    let mark = graph.mark();
    let made = match cones.iter().all(|c| is_binary(c, traced.dtype)) {
        true => bits(graph, found, &cones, traced.dtype, &batch),
        false => reals(graph, found, &cones, traced.dtype, &batch),
    };
    let replaced = made.and_then(|y| {
        let y = if graph.ty(y).shape == ty.shape {
            y
        } else {
            graph.add_node("", Reshape { shape: ty.shape.clone() }, &[Some(y)]).map_err(text)?
        };
        for new in graph.nodes_since(mark).collect::<Vec<_>>() {
            graph.merge_origin(new, &origin);
        }
        graph.replace_uses(value, y).map_err(text)?;
        graph.take_name(value, y);
        Ok(true)
    });
    if replaced.is_err() {
        graph.rollback(mark);
    }
    replaced
}

fn text(error: TypeError) -> String {
    error.to_string()
}

/// The elements of the first sample, which are those of every other.
fn of_one_sample(found: &Found, traced: &Traced) -> Result<Vec<Rc<Cone>>, String> {
    if traced.dims.first() != Some(&found.samples) {
        return Err("its first axis does not count samples".to_owned());
    }
    let per_sample = traced.elements.len() / found.samples;
    let (first, others) = traced.elements.split_at(per_sample);
    for (row, sample) in (1u32..).zip(others.chunks(per_sample.max(1))) {
        let same = |(a, b): (&Rc<Cone>, &Rc<Cone>)| {
            a.support == b.support && a.values == b.values && b.row.is_none_or(|r| r == row)
        };
        if !first.iter().zip(sample).all(same) || first.iter().any(|c| c.row.is_some_and(|r| r != 0)) {
            return Err("samples are not treated alike".to_owned());
        }
    }
    Ok(first.to_vec())
}

/// Elements of 0 and 1: outputs of the network.
fn bits(graph: &mut Graph, found: &Found, cones: &[Rc<Cone>], dtype: DType, batch: &Dim) -> Result<ValueId, String> {
    let mut more = Nodes::default();
    let size = dtype.size_bytes();
    let one = number(dtype, 1).ok_or("its type")?;
    let outputs: Vec<Output> = cones.iter().map(|cone| more.output(cone, size, &one)).collect();
    let y = more.network(graph, found, &outputs, batch)?;
    match dtype {
        DType::Bool => Ok(y),
        _ => graph.add_node("", Cast { to: dtype }, &[Some(y)]).map_err(text),
    }
}

/// Elements of any values: tables of real numbers over outputs of the network.
fn reals(graph: &mut Graph, found: &Found, cones: &[Rc<Cone>], dtype: DType, batch: &Dim) -> Result<ValueId, String> {
    if dtype != DType::F32 {
        return Err(format!("its elements are of type {dtype} and take more than two values"));
    }
    let fan_in = cones.iter().map(|c| c.support.len()).max().unwrap_or(0).max(1);
    if cones.len() << (fan_in + 2) > MAX_TABLE_BYTES {
        return Err("its tables are too large".to_owned());
    }
    let mut read: Vec<u32> = cones.iter().flat_map(|c| c.support.iter().copied()).collect();
    read.sort_unstable();
    read.dedup();
    let (mut connections, mut tables) = (Vec::new(), Vec::new());
    for cone in cones {
        let place = |bit: &u32| read.binary_search(bit).unwrap_or(0) as i32;
        let mut reads: Vec<i32> = cone.support.iter().map(place).collect();
        reads.resize(fan_in, 0);
        connections.extend(reads);
        // Inputs that are missing do not matter: the table is repeated.
        (0..1 << (fan_in - cone.support.len())).for_each(|_| tables.extend_from_slice(&cone.values));
    }
    let outputs: Vec<Output> = read.iter().map(|&bit| Output::Bit(bit)).collect();
    let y = Nodes::default().network(graph, found, &outputs, batch)?;
    let connections = graph.add_const("", Tensor::new(&[cones.len(), fan_in], &connections));
    let tables = Tensor::from_blob(DType::F32, &[cones.len(), 1 << fan_in], bitc_ir::Blob::new(tables));
    let tables = graph.add_const("", tables.map_err(|e| e.to_string())?);
    graph.add_node("", Lut, &[Some(y), Some(connections), Some(tables)]).map_err(text)
}

/// Outputs that are tables of their own, beside the nodes that the trace made.
#[derive(Default)]
struct Nodes {
    tables: Vec<(Vec<u64>, Vec<u32>)>,
}

/// Marks the number of a table of `Nodes`.
const OWN: u32 = 1 << 31;

impl Nodes {
    fn output(&mut self, cone: &Cone, size: usize, one: &[u8]) -> Output {
        let is_one: Vec<bool> = cone.values.chunks_exact(size).map(|v| v == one).collect();
        match (&cone.support[..], &is_one[..]) {
            ([], _) => Output::Constant(is_one.first() == Some(&true)),
            (&[bit], [false, true]) => Output::Bit(bit),
            (&[bit], _) => Output::Not(bit),
            _ => {
                let mut table = vec![0u64; is_one.len().div_ceil(64)];
                is_one.iter().enumerate().for_each(|(a, &v)| table[a / 64] |= u64::from(v) << (a % 64));
                self.tables.push((table, cone.support.clone()));
                Output::Bit(OWN | (self.tables.len() as u32 - 1))
            }
        }
    }

    /// The network with these outputs, over the bits that it reads.
    fn network(self, graph: &mut Graph, found: &Found, outputs: &[Output], batch: &Dim) -> Result<ValueId, String> {
        // What tables read are outputs of an inner network first.
        let mut inner: Vec<u32> = self.tables.iter().flat_map(|(_, support)| support.iter().copied()).collect();
        inner.extend(outputs.iter().filter_map(|o| match *o {
            Output::Bit(bit) | Output::Not(bit) if bit & OWN == 0 => Some(bit),
            _ => None,
        }));
        inner.sort_unstable();
        inner.dedup();
        let (bits, inputs) = root_bits(graph, found, &inner, batch)?;
        let n_inputs = graph.ty(bits).shape.last().and_then(Dim::as_const).unwrap_or(0) as u32;
        let below: Vec<Output> = inner.iter().map(|&bit| Output::Bit(bit)).collect();
        let below = found.bits.network(&below, n_inputs, &inputs).map_err(|e| e.to_string())?;
        let wires = below.outputs().to_vec();
        let mut net = below.without_outputs();
        let wire_of = |bit: u32| wires[inner.binary_search(&bit).unwrap_or(0)];
        let mut own = Vec::with_capacity(self.tables.len());
        for (table, support) in &self.tables {
            let read: Vec<_> = support.iter().map(|&bit| wire_of(bit)).collect();
            own.push(net.add_wide(table, &read).map_err(|e| e.to_string())?);
        }
        for output in outputs {
            let wire = match *output {
                Output::Constant(value) => net.add(u64::from(value), &[]),
                Output::Bit(bit) if bit & OWN != 0 => Ok(own[(bit ^ OWN) as usize]),
                Output::Bit(bit) => Ok(wire_of(bit)),
                Output::Not(bit) => net.add(0b01, &[wire_of(bit)]),
            };
            wire.and_then(|w| net.add_output(w)).map_err(|e| e.to_string())?;
        }
        graph.add_node("", LogicNet { net: Arc::new(net) }, &[Some(bits)]).map_err(text)
    }
}

/// Whether numbers that are 0 or 1 are 1.
fn as_bits(graph: &mut Graph, x: ValueId, per_sample: usize) -> Result<ValueId, String> {
    let dtype = graph.ty(x).dtype;
    if dtype == DType::Bool {
        return Ok(x);
    }
    let x = match dtype {
        DType::F32 => x,
        _ => graph.add_node("", Cast { to: DType::F32 }, &[Some(x)]).map_err(text)?,
    };
    let half = graph.add_const("", Tensor::new(&[per_sample, 1], &vec![0.5f32; per_sample]));
    graph.add_node("", Thermometer, &[Some(x), Some(half)]).map_err(text)
}

/// The values that bits start from, side by side as `[samples, bits]`, and where each root is in them.
fn root_bits(
    graph: &mut Graph,
    found: &Found,
    bits: &[u32],
    batch: &Dim,
) -> Result<(ValueId, HashMap<u32, u32>), String> {
    let needed = found.bits.roots_of(bits.iter().copied());
    let (mut parts, mut inputs, mut n) = (Vec::new(), HashMap::new(), 0u32);
    for (i, &(root, first, per_sample)) in found.roots.iter().enumerate() {
        let range = first..first + per_sample as u32;
        // A network of constants has inputs as well.
        let read = needed.iter().any(|bit| range.contains(bit)) || (needed.is_empty() && i == 0);
        if !read {
            continue;
        }
        inputs.extend(range.map(|bit| (bit, n + bit - first)));
        n += per_sample as u32;
        let flat = Shape(vec![batch.clone(), Dim::from(per_sample)]);
        let part = if graph.ty(root).shape == flat {
            root
        } else {
            graph.add_node("", Reshape { shape: flat }, &[Some(root)]).map_err(text)?
        };
        parts.push(Some(as_bits(graph, part, per_sample)?));
    }
    match parts[..] {
        [] => Err("it depends on no bits".to_owned()),
        [Some(only)] => Ok((only, inputs)),
        _ => Ok((graph.add_node("", Concat { axis: 1 }, &parts).map_err(text)?, inputs)),
    }
}
