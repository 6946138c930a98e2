//! What `--explain` shows: first a line for each layer of the source with what it became, or why not, then the other
//! nodes with what was applied to them and what was not, and the steps of logic networks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bitc_ir::ops::quantize_act::{Form, Over};
use bitc_ir::ops::{Dequantize, QuantizeAct};
use bitc_ir::{DType, Graph, NodeId, Op, Origin, ValueId};
use bitc_passes::{Remark, RemarkKind};

use crate::error::escape;
use crate::notes::Notes;

/// Operations that multiply with weights, as a source has them.
const PRODUCTS: [&str; 6] = ["linear", "conv2d", "matmul", "einsum", "bit_linear", "bit_conv2d"];

/// Passes that see to the weights of layers.
const REWRITE: &str = "rewrite-to-ternary";
const TERNARIZE: &str = "ternarize-weights";
const TO_BIT_LINEAR: &str = "linear-to-bit-linear";

/// Those whose reasons say best why a layer stayed float, the best first.
const REASONS: [&str; 3] = [REWRITE, TERNARIZE, TO_BIT_LINEAR];

/// The nodes of a source: names and the operations that carry them, without the weights.
#[derive(Clone, Debug, Default)]
pub struct SourceNodes(Vec<SourceNode>);

#[derive(Clone, Debug)]
struct SourceNode {
    name: String,
    ops: Vec<&'static str>,
}

impl SourceNode {
    /// The product that this is, where it is a layer.
    fn product(&self) -> Option<&'static str> {
        self.ops.iter().copied().find(|op| PRODUCTS.contains(op))
    }
}

/// What is known of each name at the end.
struct Outcome<'a> {
    graph: &'a Graph,
    became: BTreeMap<&'a str, Vec<NodeId>>,
    said: BTreeMap<&'a str, Vec<&'a Remark>>,
}

impl SourceNodes {
    /// The nodes of a graph by the first name of their origin.
    pub fn of(graph: &Graph) -> Self {
        let mut rows: Vec<SourceNode> = Vec::new();
        let mut row_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, node) in graph.nodes() {
            let Some(name) = node.origin.names().first() else { continue };
            let row = *row_of.entry(name).or_insert_with(|| {
                rows.push(SourceNode { name: name.clone(), ops: Vec::new() });
                rows.len() - 1
            });
            rows[row].ops.push(node.op.name());
        }
        Self(rows)
    }

    /// What became of each of them in `graph`, and what passes said on the way.
    pub fn explain(&self, graph: &Graph, remarks: &[Remark]) -> String {
        let outcome = Outcome {
            graph,
            became: by_name(graph.nodes().map(|(id, n)| (&n.origin, id))),
            said: by_name(remarks.iter().map(|r| (&r.origin, r))),
        };
        let mut text = String::new();
        let layers: Vec<(&SourceNode, &str)> = self.0.iter().filter_map(|n| Some((n, n.product()?))).collect();
        if !layers.is_empty() {
            let names: Vec<String> = layers.iter().map(|(n, _)| escape(&n.name)).collect();
            let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).min(40);
            let _ = writeln!(text, "layers:");
            for ((node, op), name) in layers.iter().zip(&names) {
                let _ = writeln!(text, "  {name:<width$}  {op} {}", outcome.of_layer(&node.name));
            }
            let _ = writeln!(text, "nodes:");
        }
        let mut rest = &self.0[..];
        while let [first, ..] = rest {
            // Neighbours that share their fate are one entry: a quantiser is many nodes of the source.
            let mut fate = outcome.of_node(&first.name);
            let (_, mut left) = rest.split_at(1);
            while let [next, others @ ..] = left {
                let other = outcome.of_node(&next.name);
                if !fate.takes(other) {
                    break;
                }
                left = others;
            }
            entry(&mut text, &rest[..rest.len() - left.len()], &fate);
            rest = left;
        }
        text + &Notes::of_graph(graph).text()
    }
}

/// What a node became, and what was said about it, each once.
struct Fate {
    became: Vec<NodeId>,
    ops: Vec<&'static str>,
    said: Vec<String>,
}

impl Fate {
    /// Takes in what became of a neighbour, if that is the same: the same nodes, or none for the same reasons.
    fn takes(&mut self, other: Fate) -> bool {
        let same = self.became == other.became && (!self.became.is_empty() || self.said == other.said);
        if same {
            let new: Vec<String> = other.said.into_iter().filter(|line| !self.said.contains(line)).collect();
            self.said.extend(new);
        }
        same
    }
}

impl Outcome<'_> {
    fn of_node(&self, name: &str) -> Fate {
        let became = self.became.get(name).cloned().unwrap_or_default();
        let ops = became.iter().map(|&id| self.graph.node(id).op.name()).collect();
        let mut seen = BTreeSet::new();
        let said = self.said.get(name).into_iter().flatten().map(|r| said(r));
        Fate { became, ops, said: said.filter(|line| seen.insert(line.clone())).collect() }
    }

    /// What became of a layer, in a line.
    fn of_layer(&self, name: &str) -> String {
        let became: Vec<NodeId> = self.became.get(name).cloned().unwrap_or_default();
        let remarks = || self.said.get(name).into_iter().flatten();
        let blocked = |pass: &str| {
            remarks().find_map(|r| match &r.kind {
                RemarkKind::Blocked(reason) if r.pass == pass => Some(reason.to_string()),
                _ => None,
            })
        };
        let mut parts: Vec<String> = Vec::new();
        for (mut text, integers) in became.iter().filter_map(|&id| self.few_bit_layer(id)) {
            // Few-bit weights with float activations are a choice, or something stood in the way.
            if let Some(reason) = blocked(TO_BIT_LINEAR).filter(|_| !integers) {
                text.push_str(&format!(", since {reason}"));
            }
            if !parts.contains(&text) {
                parts.push(text);
            }
        }
        let notes = remarks().filter(|r| r.pass == REWRITE).filter_map(|r| match &r.kind {
            RemarkKind::Note(note) => Some(note.clone()),
            _ => None,
        });
        if !parts.is_empty() {
            parts.extend(notes);
            return format!("-> {}", parts.join("; "));
        }
        let reason = REASONS.into_iter().find_map(blocked);
        let ops: BTreeSet<&str> = became.iter().map(|&id| self.graph.node(id).op.name()).collect();
        let stays = ops.iter().any(|op| PRODUCTS.contains(op));
        let product = became.iter().find(|&&id| PRODUCTS.contains(&self.graph.node(id).op.name()));
        let dtype = product.map(|&id| self.graph.ty(self.graph.node(id).outputs[0]).dtype);
        let reason = match dtype.filter(|d| d.is_float() && *d != DType::F32) {
            Some(dtype) => Some(format!("it is computed in {dtype}, which does not hold sums of integers exactly")),
            None => reason,
        };
        match (stays, reason) {
            (true, Some(reason)) => format!("stays float: {reason}"),
            (true, None) => "stays float: neither of what it multiplies is a weight in few bits".to_owned(),
            (false, _) if ops.is_empty() => "-> gone: no output needs it, or its value is known".to_owned(),
            (false, _) => format!("-> {}", ops.into_iter().collect::<Vec<_>>().join(", ")),
        }
    }

    /// What made integers, through what only moved or selected them since.
    fn quantizer_of(&self, q: ValueId) -> Option<&Op> {
        let mut node = self.graph.producer_id(q)?;
        while let Op::Pad(_) | Op::Reshape(_) | Op::Slice(_) | Op::Flatten(_) | Op::MaxPool2d(_) =
            &self.graph.node(node).op
        {
            node = self.graph.producer_id(self.graph.input(node, 0)?)?;
        }
        Some(&self.graph.node(node).op)
    }

    /// A layer of few-bit weights in words, and whether it sums integers.
    fn few_bit_layer(&self, id: NodeId) -> Option<(String, bool)> {
        let g = self.graph;
        let (q, weights, scale, group) = match &g.node(id).op {
            Op::BitLinear(op) => (g.input(id, 0), g.input(id, 2)?, g.input(id, 3)?, op.group),
            Op::BitConv2d(_) => (g.input(id, 0), g.input(id, 2)?, g.input(id, 3)?, 0),
            Op::Linear(_) | Op::Conv2d(_) => {
                let (node, op) = g.producer::<Dequantize>(g.input(id, 1)?)?;
                let integers = g.input(node, 0)?;
                g.constant(integers)?;
                (None, integers, g.input(node, 1)?, op.group)
            }
            _ => return None,
        };
        let kind = match (g.ty(weights).dtype, g.constant(weights)) {
            (DType::T2, Some(t)) if t.to_f64().iter().all(|&v| v != 0.0) => "binary weights",
            (DType::T2, _) => "ternary weights",
            _ => "8-bit weights",
        };
        let shape = &g.ty(scale).shape;
        let scales = match (group, shape.numel().and_then(|n| n.as_const())) {
            (0, Some(1)) => "one scale".to_owned(),
            (0, _) if shape.rank() > 1 && shape.0[0].is_one() => "a scale per input".to_owned(),
            (0, _) => "a scale per output".to_owned(),
            (group, _) => format!("a scale per group of {group}"),
        };
        let quantizer = q.and_then(|q| self.quantizer_of(q));
        let activations = match quantizer {
            Some(Op::QuantizeAct(op)) => activations(op),
            _ if q.is_some() => "activations of whole numbers".to_owned(),
            _ => "float activations".to_owned(),
        };
        Some((format!("{}, {kind}, {scales}, {activations}", g.node(id).op.name()), q.is_some()))
    }
}

/// A quantiser in words.
fn activations(op: &QuantizeAct) -> String {
    let bits = 1 + (i32::from(op.high).max(-1 - i32::from(op.low)) as u32 + 1).next_power_of_two().ilog2();
    let over = match (op.form, op.over) {
        (Form::Integer, _) => "rounded as they are",
        (_, Over::Row) => "scaled per row",
        (_, Over::Tensor) => "scaled over the whole batch",
        (_, Over::Sample) => "scaled per sample",
        (_, Over::Channel) => "scaled per position",
    };
    format!("{bits}-bit activations {over}")
}

/// Nodes of the source with one fate.
fn entry(text: &mut String, nodes: &[SourceNode], fate: &Fate) {
    let names = match nodes {
        [] => return,
        [one] => escape(&one.name),
        [first, .., last] => format!("{} .. {}", escape(&first.name), escape(&last.name)),
    };
    let ops: Vec<&str> = nodes.iter().flat_map(|n| n.ops.iter().copied()).collect();
    let became = if fate.ops.is_empty() { "gone".to_owned() } else { fate.ops.join(", ") };
    let _ = writeln!(text, "  {names}  {} -> {became}", ops.join(", "));
    for line in &fate.said {
        let _ = writeln!(text, "      {line}");
    }
}

/// What carries each name, in order.
fn by_name<'a, T: Copy>(items: impl Iterator<Item = (&'a Origin, T)>) -> BTreeMap<&'a str, Vec<T>> {
    let mut all: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for (origin, item) in items {
        for name in origin.names() {
            all.entry(name).or_default().push(item);
        }
    }
    all
}

fn said(remark: &Remark) -> String {
    let (pass, rule) = (remark.pass, remark.rule);
    match &remark.kind {
        RemarkKind::Applied => format!("{pass}/{rule}"),
        RemarkKind::Blocked(reason) => format!("not {pass}/{rule}: {reason}"),
        RemarkKind::Note(note) => format!("{pass}: {note}"),
        RemarkKind::Warning(text) => format!("{pass}: warning: {text}"),
    }
}
