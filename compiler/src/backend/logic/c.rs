//! C: the network on words of 64 samples, and the whole model on one sample.

use std::fmt::Write as _;

use bitc_ir::Graph;
use bitc_ir::netlist::Wire;

use super::{Constants, Network, expression};
use crate::backend::{Content, Exporter, Options};
use crate::error::Failure;

/// Statements of one function: compilers take more than linear time for long ones.
const STATEMENTS: usize = 512;

/// Writes a logic network as C99 without dependencies.
pub struct C;

impl Exporter for C {
    fn name(&self) -> &'static str {
        "c"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["c"]
    }

    fn needs_frozen(&self) -> bool {
        true
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        let network = Network::of(graph, "C")?;
        let (net, name) = (network.net, &network.name);
        let (n, m) = (net.n_inputs() as usize, net.outputs().len());
        let mut out = String::from("#include <stdint.h>\n\n");
        let constants = Constants { zero: "UINT64_C(0)", one: "~UINT64_C(0)" };
        let wire_name = |wire: Wire| format!("w[{}]", wire.id());
        let nodes: Vec<_> = net.nodes().collect();
        for (part, nodes) in nodes.chunks(STATEMENTS).enumerate() {
            let _ = writeln!(out, "static void {name}_part{part}(uint64_t *w) {{");
            for (wire, node) in nodes {
                let value = expression(node.table, node.inputs, &constants, &wire_name);
                let _ = writeln!(out, "  {} = {value};", wire_name(*wire));
            }
            out.push_str("}\n\n");
        }
        let _ = writeln!(out, "/* 64 samples: bit s of x[i] is input i of sample s, {n} inputs, {m} outputs. */");
        let _ = writeln!(out, "void {name}_words(const uint64_t *x, uint64_t *y) {{");
        let _ = writeln!(out, "  {}uint64_t w[{}];", storage(net.n_wires()), net.n_wires().max(1));
        let _ = writeln!(out, "  for (int i = 0; i < {n}; i++) w[i] = x[i];");
        for part in 0..nodes.len().div_ceil(STATEMENTS) {
            let _ = writeln!(out, "  {name}_part{part}(w);");
        }
        let _ =
            writeln!(out, "  static const uint32_t outputs[] = {{{}}};", list(net.outputs().iter().map(|w| w.id())));
        let _ = writeln!(out, "  for (int i = 0; i < {m}; i++) y[i] = w[outputs[i]];\n}}\n");
        sample(&mut out, &network);
        Ok(out.into_bytes().into())
    }
}

/// The function for one sample.
fn sample(out: &mut String, network: &Network<'_>) {
    let (n, m, name) = (network.net.n_inputs(), network.net.outputs().len(), &network.name);
    let from = if network.cuts.is_some() { "float" } else { "uint8_t" };
    let to = match (network.sum, network.argmax) {
        (None, _) => "uint8_t",
        (Some(_), false) => "float",
        (Some(_), true) => "int64_t",
    };
    let n_answers = match (network.sum, network.argmax) {
        (None, _) => m,
        (Some(sum), false) => sum.groups,
        (Some(_), true) => 1,
    };
    let _ = writeln!(out, "/* One sample: {} values in, {n_answers} out. */", network.n_values);
    let _ = writeln!(out, "void {name}(const {from} *x, {to} *y) {{");
    let storage = storage(n as usize + m);
    let _ = writeln!(out, "  {storage}uint64_t bits[{}], outputs[{}];", n.max(1), m.max(1));
    match &network.cuts {
        Some(cuts) => {
            let _ = writeln!(out, "  static const uint32_t features[] = {{{}}};", list(cuts.iter().map(|c| c.0)));
            let _ = writeln!(
                out,
                "  static const uint32_t thresholds[] = {{{}}}; /* as bits */",
                list(cuts.iter().map(|c| c.1.to_bits()))
            );
            let _ = writeln!(out, "  for (int i = 0; i < {n}; i++) {{");
            out.push_str("    union { uint32_t bits; float value; } t = { thresholds[i] };\n");
            out.push_str("    bits[i] = x[features[i]] > t.value;\n  }\n");
        }
        None => {
            let _ = writeln!(out, "  for (int i = 0; i < {n}; i++) bits[i] = x[i] != 0;");
        }
    }
    let _ = writeln!(out, "  {name}_words(bits, outputs);");
    match network.sum {
        None => {
            let _ = writeln!(out, "  for (int i = 0; i < {m}; i++) y[i] = outputs[i] & 1;\n}}");
        }
        Some(sum) => {
            let (size, groups) = (sum.group_len(m), sum.groups);
            if network.argmax {
                out.push_str("  float best = 0;\n  y[0] = 0;\n");
            }
            let _ = writeln!(out, "  for (int g = 0; g < {groups}; g++) {{\n    uint32_t count = 0;");
            let _ = writeln!(
                out,
                "    for (int i = g * {size}; i < (g + 1) * {size} && i < {m}; i++) count += outputs[i] & 1;"
            );
            let _ = writeln!(out, "    float score = ((float)count + {:e}f) / {:e}f;", sum.beta, sum.tau);
            if network.argmax {
                out.push_str("    if (g == 0 || score > best) { best = score; y[0] = g; }\n  }\n}\n");
            } else {
                out.push_str("    y[g] = score;\n  }\n}\n");
            }
        }
    }
}

/// Large arrays are static, since stacks are small; a function with one is for one thread at a time.
fn storage(words: usize) -> &'static str {
    if words > 1 << 15 { "static " } else { "" }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.map(|i| i.to_string()).collect();
    if items.is_empty() { "0".to_owned() } else { items.join(", ") }
}
