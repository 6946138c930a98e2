//! Verilog: a module of assignments, and one that counts groups.

use std::fmt::Write as _;

use bitc_ir::Graph;
use bitc_ir::netlist::Wire;

use super::{Constants, Network, expression};
use crate::backend::{Content, Exporter, Options};
use crate::error::Failure;

/// Writes the netlist of a logic network as synthesizable Verilog.
pub struct Verilog;

impl Exporter for Verilog {
    fn name(&self) -> &'static str {
        "verilog"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["v"]
    }

    fn needs_frozen(&self) -> bool {
        true
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        let network = Network::of(graph, "Verilog")?;
        let (net, name) = (network.net, &network.name);
        let (n, m) = (net.n_inputs() as usize, net.outputs().len());
        let mut out = String::new();
        for i in 0..n {
            if let Some(comment) = network.input_comment(i) {
                let _ = writeln!(out, "// x[{i}]: {comment}");
            }
        }
        let _ = writeln!(out, "module {name}(input wire [{}:0] x, output wire [{}:0] y);", n.max(1) - 1, m.max(1) - 1);
        let wire_name = |wire: Wire| {
            if wire.id() < net.n_inputs() { format!("x[{}]", wire.id()) } else { format!("w{}", wire.id()) }
        };
        let constants = Constants { zero: "1'b0", one: "1'b1" };
        for (wire, node) in net.nodes() {
            let value = expression(node.table, node.inputs, &constants, &wire_name);
            let _ = writeln!(out, "  wire {};\n  assign {} = {value};", wire_name(wire), wire_name(wire));
        }
        for (i, &wire) in net.outputs().iter().enumerate() {
            let _ = writeln!(out, "  assign y[{i}] = {};", wire_name(wire));
        }
        out.push_str("endmodule\n");
        if let Some(sum) = network.sum {
            let size = sum.group_len(m);
            let bits = usize::BITS - size.leading_zeros();
            let _ = writeln!(out, "\n// Ones of each group of {size} outputs, {bits} bits per group.");
            let _ = writeln!(out, "// score = (count + {:?}) / {:?}", sum.beta, sum.tau);
            let width = sum.groups * bits as usize;
            let _ = writeln!(
                out,
                "module {name}_counts(input wire [{}:0] x, output wire [{}:0] counts);",
                n.max(1) - 1,
                width.max(1) - 1
            );
            let _ = writeln!(out, "  wire [{}:0] y;\n  {name} network(.x(x), .y(y));", m.max(1) - 1);
            for group in 0..sum.groups {
                let terms: Vec<String> =
                    (group * size..((group + 1) * size).min(m)).map(|i| format!("y[{i}]")).collect();
                let value = if terms.is_empty() { "0".to_owned() } else { terms.join(" + ") };
                let low = group * bits as usize;
                let _ = writeln!(out, "  assign counts[{}:{low}] = {value};", low + bits as usize - 1);
            }
            out.push_str("endmodule\n");
        }
        Ok(out.into_bytes().into())
    }
}
