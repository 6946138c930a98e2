//! BLIF, the exchange format of logic synthesis: one `.names` per node.

use std::fmt::Write as _;

use bitc_ir::Graph;
use bitc_ir::netlist::Wire;

use super::Network;
use crate::backend::{Content, Exporter, Options};
use crate::error::Failure;

/// Writes the netlist of a logic network as BLIF.
pub struct Blif;

impl Exporter for Blif {
    fn name(&self) -> &'static str {
        "blif"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["blif"]
    }

    fn needs_frozen(&self) -> bool {
        true
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        let network = Network::of(graph, "BLIF")?;
        let net = network.net;
        let mut out = String::new();
        for i in 0..net.n_inputs() as usize {
            if let Some(comment) = network.input_comment(i) {
                let _ = writeln!(out, "# x{i}: {comment}");
            }
        }
        if let Some(sum) = network.sum {
            let size = sum.group_len(net.outputs().len());
            let _ = writeln!(
                out,
                "# outputs in groups of {size}; score = (ones of a group + {:?}) / {:?}",
                sum.beta, sum.tau
            );
        }
        let _ = writeln!(out, ".model {}", network.name);
        list(&mut out, ".inputs", net.n_inputs() as usize, 'x');
        list(&mut out, ".outputs", net.outputs().len(), 'y');
        let name =
            |wire: Wire| if wire.id() < net.n_inputs() { format!("x{}", wire.id()) } else { format!("w{}", wire.id()) };
        for (wire, node) in net.nodes() {
            out.push_str(".names");
            node.inputs.iter().for_each(|&input| out.extend([" ", name(input).as_str()]));
            let _ = writeln!(out, " {}", name(wire));
            for address in (0..1u32 << node.inputs.len()).filter(|a| node.table >> a & 1 == 1) {
                out.extend((0..node.inputs.len()).map(|j| if address >> j & 1 == 1 { '1' } else { '0' }));
                out.push_str(if node.inputs.is_empty() { "1\n" } else { " 1\n" });
            }
        }
        for (i, &wire) in net.outputs().iter().enumerate() {
            let _ = writeln!(out, ".names {} y{i}\n1 1", name(wire));
        }
        out.push_str(".end\n");
        Ok(out.into_bytes().into())
    }
}

/// Names with numbers, a few to a line.
fn list(out: &mut String, keyword: &str, n: usize, letter: char) {
    out.push_str(keyword);
    for i in 0..n {
        if i % 16 == 0 && i > 0 {
            out.push_str(" \\\n");
        }
        let _ = write!(out, " {letter}{i}");
    }
    out.push('\n');
}
