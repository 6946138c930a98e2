//! A graph to text.

use std::fmt::{self, Write as _};

use super::lex::is_plain_name;
use crate::attr::Attr;
use crate::graph::{Graph, Node, NodeId, ValueDef, ValueId};
use crate::tensor::Tensor;
use crate::types::DType;

/// How constants print.
pub struct PrintOptions<'a> {
    /// Constants with more elements print as `elided(..)`.
    pub elide_above: usize,
    /// Writes a constant as a reference instead, where it gives one.
    pub refer: Option<&'a dyn Fn(ValueId) -> Option<String>>,
    /// Writes the netlist of a node as a reference instead, where it gives one.
    pub refer_netlist: Option<&'a dyn Fn(NodeId) -> Option<String>>,
}

impl PrintOptions<'_> {
    /// Everything is printed, so the text can be parsed.
    pub fn full() -> Self {
        Self { elide_above: usize::MAX, refer: None, refer_netlist: None }
    }

    /// Large constants are elided: for people.
    pub fn brief() -> Self {
        Self { elide_above: 64, refer: None, refer_netlist: None }
    }
}

/// The text of a graph with large constants elided.
pub fn print(graph: &Graph) -> String {
    print_with(graph, &PrintOptions::brief())
}

/// The text of a graph.
pub fn print_with(graph: &Graph, options: &PrintOptions<'_>) -> String {
    let mut printer = Printer { graph, options, anonymous: number_anonymous(graph), out: String::new() };
    printer.graph().expect("writing to a string does not fail");
    printer.out
}

/// Anonymous values are numbered in storage order, skipping numbers that are names.
fn number_anonymous(graph: &Graph) -> Vec<u32> {
    let taken: std::collections::BTreeSet<&str> = graph.values().map(|(_, v)| v.name.as_str()).collect();
    let mut next = 0;
    let number = |(_, value): (ValueId, &crate::graph::Value)| {
        if !value.name.is_empty() {
            return 0;
        }
        while taken.contains(next.to_string().as_str()) {
            next += 1;
        }
        next += 1;
        next - 1
    };
    graph.values().map(number).collect()
}

struct Printer<'a> {
    graph: &'a Graph,
    options: &'a PrintOptions<'a>,
    anonymous: Vec<u32>,
    out: String,
}

impl Printer<'_> {
    fn graph(&mut self) -> fmt::Result {
        let graph = self.graph;
        if graph.frozen {
            self.out.push_str("frozen ");
        }
        write!(self.out, "graph @{}(", name_text(&graph.name))?;
        for (i, &input) in graph.inputs().iter().enumerate() {
            write!(self.out, "{}{}: {}", if i == 0 { "" } else { ", " }, self.value_text(input), graph.ty(input))?;
        }
        self.out.push_str(") {\n");
        for (key, value) in &graph.meta {
            writeln!(self.out, "  meta {} = {}", quoted(key), quoted(value))?;
        }
        for (id, value) in graph.values() {
            let (word, tensor) = match &value.def {
                ValueDef::Const(t) => ("const", t),
                ValueDef::Param(t) => ("param", t),
                ValueDef::Input | ValueDef::Node(..) => continue,
            };
            let data = self.options.refer.and_then(|refer| refer(id));
            let data = data.unwrap_or_else(|| tensor_text(tensor, self.options.elide_above));
            writeln!(self.out, "  {word} {}: {} = {data}", self.value_text(id), value.ty)?;
        }
        for (id, node) in graph.nodes() {
            self.node(id, node)?;
        }
        self.out.push_str("  return");
        for (i, output) in graph.outputs().iter().enumerate() {
            let text = self.value_text(output.value);
            write!(self.out, "{} {text}", if i == 0 { "" } else { "," })?;
            if graph.value(output.value).name != output.name {
                write!(self.out, " as {}", quoted(&output.name))?;
            }
        }
        self.out.push_str("\n}\n");
        Ok(())
    }

    fn node(&mut self, id: NodeId, node: &Node) -> fmt::Result {
        let names: Vec<_> = node.outputs.iter().map(|&v| self.value_text(v)).collect();
        let inputs: Vec<_> =
            node.inputs.iter().map(|v| v.map_or_else(|| "_".to_owned(), |v| self.value_text(v))).collect();
        write!(self.out, "  {} = {}({})", names.join(", "), node.op.name(), inputs.join(", "))?;
        let attrs = node.op.attrs();
        for (i, (name, attr)) in attrs.iter().enumerate() {
            write!(self.out, "{}{name} = {}", if i == 0 { " {" } else { ", " }, self.attr(id, attr))?;
        }
        if !attrs.is_empty() {
            self.out.push('}');
        }
        let types: Vec<_> = node.outputs.iter().map(|&v| self.graph.ty(v).to_string()).collect();
        write!(self.out, " : {}", types.join(", "))?;
        for (i, name) in node.origin.names().iter().enumerate() {
            write!(self.out, "{} {}", if i == 0 { " from" } else { "," }, quoted(name))?;
        }
        self.out.push('\n');
        Ok(())
    }

    fn attr(&self, node: NodeId, attr: &Attr) -> String {
        let Attr::Netlist(net) = attr else { return attr_text(attr) };
        match self.options.refer_netlist.and_then(|refer| refer(node)) {
            Some(reference) => format!("netlist {reference}"),
            None if net.n_nodes() > self.options.elide_above => format!("netlist elided(nodes = {})", net.n_nodes()),
            None => attr_text(attr),
        }
    }

    fn value_text(&self, id: ValueId) -> String {
        match self.graph.value(id).name.as_str() {
            "" => format!("%{}", self.anonymous[id.index()]),
            name => format!("%{}", name_text(name)),
        }
    }
}

/// A name as it follows `%` or `@`. A name of digits only is quoted so that it differs from an anonymous value.
fn name_text(name: &str) -> String {
    if is_plain_name(name) { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn float_text(v: f32) -> String {
    if v.is_nan() { "nan".to_owned() } else { format!("{v:?}") }
}

fn attr_text(attr: &Attr) -> String {
    fn list(items: impl Iterator<Item = String>) -> String {
        format!("[{}]", items.collect::<Vec<_>>().join(", "))
    }
    match attr {
        Attr::Bool(v) => v.to_string(),
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => float_text(*v),
        Attr::Str(v) => quoted(v),
        Attr::Ints(v) => list(v.iter().map(i64::to_string)),
        Attr::Floats(v) => list(v.iter().map(|&v| float_text(v))),
        Attr::Strs(v) => list(v.iter().map(|s| quoted(s))),
        Attr::Shape(shape) => shape.to_string(),
        Attr::Netlist(net) => format!("netlist \"\"\"\n{net}\"\"\""),
        Attr::Tensor(t) => format!("tensor {} {}", t.ty(), tensor_text(t, usize::MAX)),
    }
}

fn tensor_text(tensor: &Tensor, elide_above: usize) -> String {
    let n = tensor.numel();
    if n > elide_above {
        return format!("elided(sha = {:016x})", fingerprint(tensor.bytes()));
    }
    let size = tensor.dtype().size_bytes();
    let first = tensor.bytes().get(..size);
    let float = tensor.dtype().is_float();
    // A NaN has bits that a number does not show, so such data prints as hex.
    let has_nan = float && tensor.to_f64().iter().any(|v| v.is_nan());
    if !has_nan && n > 4 && tensor.bytes().chunks_exact(size).all(|c| Some(c) == first) {
        return format!("splat({})", numbers(tensor)[0]);
    }
    if has_nan || n > 64 {
        let hex: String = tensor.bytes().iter().map(|b| format!("{b:02x}")).collect();
        return format!("hex \"{hex}\"");
    }
    format!("dense [{}]", numbers(tensor).join(", "))
}

fn numbers(tensor: &Tensor) -> Vec<String> {
    match tensor.dtype() {
        DType::F32 => tensor.iter::<f32>().into_iter().flatten().map(float_text).collect(),
        DType::F64 => tensor.iter::<f64>().into_iter().flatten().map(|v| format!("{v:?}")).collect(),
        DType::F16 => tensor.iter::<half::f16>().into_iter().flatten().map(|v| float_text(v.to_f32())).collect(),
        DType::BF16 => tensor.iter::<half::bf16>().into_iter().flatten().map(|v| float_text(v.to_f32())).collect(),
        DType::I64 => tensor.iter::<i64>().into_iter().flatten().map(|v| v.to_string()).collect(),
        DType::U64 => tensor.iter::<u64>().into_iter().flatten().map(|v| v.to_string()).collect(),
        _ => tensor.to_f64().into_iter().map(|v| format!("{v}")).collect(),
    }
}

/// Sixty-four bits that tell elided constants apart (FNV-1a).
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}
