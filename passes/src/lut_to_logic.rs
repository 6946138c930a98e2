//! `lut-to-logic`: layers of lookup tables become one netlist.
//!
//! `lut(bits, connections, tables) == logic_net(bits)` with one node per row of the tables, and
//! `logic_net(logic_net(bits)) == logic_net'(bits)` with both networks one after the other. Tables of real numbers stay:
//! they are no logic.

use std::sync::Arc;

use bitc_ir::netlist::{Netlist, NetlistError, Wire};
use bitc_ir::ops::LogicNet;
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op};

use crate::pass::{Changed, Pass, PassCx, PassError, Values};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct LutToLogic;

impl LutToLogic {
    pub(crate) const NAME: &'static str = "lut-to-logic";
    pub(crate) const DOC: &'static str = "Turns layers of lookup tables into one netlist.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for LutToLogic {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let rules = [Rule { name: "layer", apply: &layer }, Rule { name: "join", apply: &join }];
        rewrite(graph, &rules, Self::NAME, cx)
    }
}

fn layer(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Lut(_) = g.node(node).op else { return Err(Miss::NoMatch) };
    let at = |i| g.input(node, i).ok_or(Miss::NoMatch);
    let (bits, connections, tables) = (at(0)?, at(1)?, at(2)?);
    let (Some(connections), Some(tables)) = (g.constant(connections), g.constant(tables)) else {
        return Err(Miss::blocked("its connections or tables are not constant"));
    };
    if tables.dtype() != DType::Bool {
        return Err(Miss::blocked("its tables hold real numbers"));
    }
    let n_inputs = g.ty(bits).shape.last().and_then(|d| d.as_const()).and_then(|n| u32::try_from(n).ok());
    let n_inputs = n_inputs.ok_or_else(|| Miss::blocked("the number of its input bits is not known"))?;
    let (wires, entries) = (connections.to_vec::<i32>().ok_or(Miss::NoMatch)?, tables.bytes());
    let (nodes, fan_in) = (connections.dims()[0], connections.dims()[1]);
    let mut net = Netlist::new(n_inputs);
    for node in 0..nodes {
        let inputs = wires[node * fan_in..][..fan_in]
            .iter()
            .map(|&w| u32::try_from(w).ok().filter(|&w| w < n_inputs).map(Wire::new));
        let inputs = inputs.collect::<Option<Vec<_>>>();
        let inputs = inputs.ok_or_else(|| Miss::blocked(format!("node {node} reads a bit that does not exist")))?;
        let words = packed_table(&entries[node << fan_in..][..1 << fan_in]);
        let wire = net.add_wide(&words, &inputs).and_then(|w| net.add_output(w));
        wire.map_err(|e| Miss::blocked(e.to_string()))?;
    }
    Ok(g.add(LogicNet { net: Arc::new(net) }, &[Some(bits)])?.into())
}

/// Table entries as the bits of words, least significant first.
fn packed_table(entries: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| chunk.iter().enumerate().fold(0u64, |word, (i, &bit)| word | u64::from(bit) << i);
    entries.chunks(64).map(word).collect()
}

fn join(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::LogicNet(second) = &g.node(node).op else { return Err(Miss::NoMatch) };
    let middle = g.input(node, 0).ok_or(Miss::NoMatch)?;
    let (first_node, first) = g.producer::<LogicNet>(middle).ok_or(Miss::NoMatch)?;
    if !g.only_use(middle) {
        return Err(Miss::blocked("the bits in between are also used elsewhere"));
    }
    let bits = g.input(first_node, 0);
    let net = joined(&first.net, &second.net).map_err(|e| Miss::blocked(e.to_string()))?;
    Ok(g.add(LogicNet { net: Arc::new(net) }, &[bits])?.into())
}

/// The network that feeds the outputs of one into the inputs of another.
fn joined(first: &Netlist, second: &Netlist) -> Result<Netlist, NetlistError> {
    let mut net = first.without_outputs();
    let mut wires: Vec<Wire> = first.outputs().to_vec();
    wires.reserve(second.n_nodes());
    let mut inputs = Vec::new();
    for (_, node) in second.nodes() {
        inputs.clear();
        inputs.extend(node.inputs.iter().map(|w| wires[w.index()]));
        wires.push(net.add(node.table, &inputs)?);
    }
    for output in second.outputs() {
        net.add_output(wires[output.index()])?;
    }
    Ok(net)
}
