//! Leaving out nodes that no output reads, and giving outputs the polarity they ask for.
//!
//! An output may be wanted complemented. Where every output on a node is, the node's table is complemented and its
//! readers' tables follow; where both polarities are wanted, or the wire is an input, an inverter is added.

use super::builder::Literal;
use super::truth;
use bitc_ir::netlist::{Netlist, Wire, table_mask};

/// Which polarities of a wire the outputs want.
#[derive(Clone, Copy, Default)]
struct Wanted {
    plain: bool,
    negated: bool,
}

/// The nodes that `outputs` reach, in their order, with `outputs` as outputs.
pub(crate) fn sweep(net: &Netlist, outputs: &[Literal]) -> Netlist {
    let n_inputs = net.n_inputs() as usize;
    let mut live = vec![false; net.n_wires()];
    let mut wanted = vec![Wanted::default(); net.n_wires()];
    for output in outputs {
        if let Some(wire) = output.wire() {
            live[wire.index()] = true;
            let wanted = &mut wanted[wire.index()];
            *(if output.negated() { &mut wanted.negated } else { &mut wanted.plain }) = true;
        }
    }
    for (wire, node) in net.nodes().rev() {
        if live[wire.index()] {
            node.inputs.iter().for_each(|input| live[input.index()] = true);
        }
    }
    let flipped = |wire: Wire| {
        let wanted = wanted[wire.index()];
        wire.index() >= n_inputs && wanted.negated && !wanted.plain
    };

    let mut swept = Netlist::new(net.n_inputs());
    let mut moved: Vec<Wire> = (0..net.n_wires() as u32).map(Wire::new).collect();
    let mut inputs = Vec::new();
    for (wire, node) in net.nodes() {
        if !live[wire.index()] {
            continue;
        }
        let mut table = truth::repeat(node.table, node.inputs.len());
        for (j, &input) in node.inputs.iter().enumerate() {
            if flipped(input) {
                table = truth::negate_input(table, j);
            }
        }
        if flipped(wire) {
            table = !table;
        }
        inputs.clear();
        inputs.extend(node.inputs.iter().map(|input| moved[input.index()]));
        moved[wire.index()] = add(&mut swept, table & table_mask(inputs.len()), &inputs);
    }

    let mut inverted = vec![None; net.n_wires()];
    let mut constants = [None; 2];
    for output in outputs {
        let wire = match output.wire() {
            None => {
                let value = output.negated();
                *constants[usize::from(value)].get_or_insert_with(|| add(&mut swept, u64::from(value), &[]))
            }
            Some(wire) if output.negated() != flipped(wire) => {
                *inverted[wire.index()].get_or_insert_with(|| add(&mut swept, 0b01, &[moved[wire.index()]]))
            }
            Some(wire) => moved[wire.index()],
        };
        swept.add_output(wire).expect("the wire was added above");
    }
    swept
}

fn add(net: &mut Netlist, table: u64, inputs: &[Wire]) -> Wire {
    net.add(table, inputs).expect("a swept netlist has at most the source's nodes, two constants and its outputs")
}
