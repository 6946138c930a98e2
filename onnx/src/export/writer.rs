//! The walk over a graph that makes a model: names, constants, nodes in order, what is known about each.

use std::collections::{BTreeMap, BTreeSet};

use bitc_ir::types::{DimView, FactorView};
use bitc_ir::{Dim, Graph, Node, Shape, ValueDef, ValueId};

use super::convert::{attr_int, fixed, value_info};
use super::cx::{Cx, No, rename};
use super::scope::{Scope, needed};
use super::{
    DOMAIN, DOMAIN_VERSION, Form, META_PREFIX, NEWEST_OPSET, OPSET_KEY, ORIGIN_KEY, Options, Refusal, bodies, table,
};
use crate::proto::{FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};

pub(super) struct Writer<'g> {
    pub(super) graph: &'g Graph,
    pub(super) form: Form,
    pub(super) scope: Scope,
    /// What each value is called, once it is there under its own type.
    names: Vec<Option<String>>,
    /// What each value of a node shall be called.
    wanted: BTreeMap<ValueId, String>,
    /// What carries the integers of values that are quantised activations.
    pub(super) carriers: BTreeMap<ValueId, String>,
    pub(super) functions: BTreeMap<&'static str, FunctionProto>,
    /// Where the size that a symbol stands for can be had: an input and its axis.
    symbols: BTreeMap<String, (String, usize)>,
    sizes: BTreeMap<String, String>,
    node_names: BTreeSet<String>,
}

/// The model of a graph.
pub(super) fn write(graph: &Graph, options: &Options) -> Result<ModelProto, Vec<Refusal>> {
    let (opset, mismatch) = opset(graph, options);
    let mut writer = Writer {
        graph,
        form: options.form,
        scope: Scope::graph(opset),
        names: vec![None; graph.values().len()],
        wanted: BTreeMap::new(),
        carriers: BTreeMap::new(),
        functions: BTreeMap::new(),
        symbols: BTreeMap::new(),
        sizes: BTreeMap::new(),
        node_names: BTreeSet::new(),
    };
    let mut refusals = writer.name_values();
    refusals.extend(mismatch);
    let Some(order) = graph.live_order() else {
        return Err(vec![refusal("", "", "", "the graph has a cycle")]);
    };
    for id in order {
        let node = graph.node(id);
        let mark = writer.scope.nodes.len();
        match table::emit(&mut Cx { w: &mut writer, node }) {
            Ok(names) => writer.define(node, &names, mark),
            Err(No(reason)) => {
                let value = node.outputs.first().map_or("", |&v| &graph.value(v).name);
                refusals.push(refusal(node.op.name(), value, &node.origin.to_string(), &reason));
                for &output in &node.outputs {
                    writer.names[output.index()] = Some(writer.scope.fresh(""));
                }
            }
        }
    }
    if graph.outputs().is_empty() {
        refusals.push(refusal("", "", "", "a graph without outputs"));
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    writer.finish(options).map_err(|No(reason)| vec![refusal("", "", "", &reason)])
}

/// The opset to write. Standard operators that bitc does not know mean what they mean in the opset of their source.
fn opset(graph: &Graph, options: &Options) -> (i64, Option<Refusal>) {
    let asked = options.opset.unwrap_or_else(|| options.form.default_opset());
    let kept = |n: &Node| matches!(&n.op, bitc_ir::Op::Custom(c) if c.domain.is_empty());
    let Some((_, node)) = graph.nodes().find(|(_, n)| kept(n)) else { return (asked, None) };
    let own = graph.meta.get(OPSET_KEY).and_then(|v| v.parse::<i64>().ok()).or(options.opset);
    let range = options.form.oldest_opset()..=NEWEST_OPSET;
    match own.filter(|o| range.contains(o) && options.opset.is_none_or(|asked| asked == *o)) {
        Some(own) => (own, None),
        None => {
            let own = own.map_or_else(|| "an unknown opset".into(), |o| format!("opset {o}"));
            let name = if let bitc_ir::Op::Custom(c) = &node.op { c.qualified_name() } else { String::new() };
            let reason = format!("`{name}` of {own} in opset {asked}; the opset can be chosen");
            (asked, Some(refusal(node.op.name(), "", &node.origin.to_string(), &reason)))
        }
    }
}

fn refusal(op: &str, node: &str, origin: &str, reason: &str) -> Refusal {
    Refusal { op: op.into(), node: node.into(), origin: origin.into(), reason: reason.into() }
}

impl Writer<'_> {
    /// Names inputs and reserves the names of outputs and of what nodes define.
    fn name_values(&mut self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (i, &input) in self.graph.inputs().iter().enumerate() {
            let value = self.graph.value(input);
            let hint = if value.name.is_empty() { format!("input{i}") } else { value.name.clone() };
            let name = self.scope.fresh(&hint);
            for (axis, dim) in value.ty.shape.0.iter().enumerate() {
                if let Some(symbol) = dim.as_symbol() {
                    self.symbols.entry(symbol.to_string()).or_insert_with(|| (name.clone(), axis));
                }
            }
            if value.ty.dtype.bits() < 8 && value.ty.dtype != bitc_ir::DType::Bool {
                refusals.push(refusal("", &name, "", &format!("an input of type {} has no operators", value.ty.dtype)));
            }
            self.names[input.index()] = Some(name);
        }
        let mut seen = BTreeSet::new();
        for output in self.graph.outputs() {
            let dtype = self.graph.ty(output.value).dtype;
            if dtype.bits() < 8 && dtype != bitc_ir::DType::Bool {
                refusals.push(refusal("", &output.name, "", &format!("an output of type {dtype}")));
            }
            if output.name.is_empty() || !seen.insert(&output.name) {
                refusals.push(refusal("", &output.name, "", "an output without a name of its own"));
            }
            let is_new = self.names[output.value.index()].is_none() && !self.wanted.contains_key(&output.value);
            if self.scope.take_name(&output.name) && is_new && self.graph.constant(output.value).is_none() {
                self.wanted.insert(output.value, output.name.clone());
            }
        }
        for (id, value) in self.graph.values() {
            let defined = matches!(value.def, ValueDef::Node(..)) && !self.wanted.contains_key(&id);
            if defined && self.scope.take_name(&value.name) {
                self.wanted.insert(id, value.name.clone());
            }
        }
        refusals
    }

    /// What a value is called; a constant is written when it is first asked for.
    pub(super) fn name_of(&mut self, value: ValueId) -> Result<String, No> {
        if let Some(name) = &self.names[value.index()] {
            return Ok(name.clone());
        }
        let name = match (&self.graph.value(value).def, self.carriers.get(&value).cloned()) {
            (ValueDef::Const(tensor) | ValueDef::Param(tensor), _) => {
                self.scope.tensor_as(&self.graph.value(value).name, tensor)
            }
            (_, Some(carrier)) => match self.form.carrier() {
                bodies::Carrier::Bytes => bodies::bytes_to_i8(&mut self.scope, &carrier),
                bodies::Carrier::Floats => self.scope.cast(&carrier, bitc_ir::DType::I8),
            },
            _ => return Err(No("reads a value that nothing defines".into())),
        };
        self.names[value.index()] = Some(name.clone());
        Ok(name)
    }

    /// Takes over what was written for a node: its values get their names, the nodes theirs and their origin. An empty
    /// name is a value that only its carrier stands for.
    fn define(&mut self, node: &Node, names: &[String], mark: usize) {
        for (&value, name) in node.outputs.iter().zip(names).filter(|(_, n)| !n.is_empty()) {
            let made_here = self.scope.nodes[mark..].iter().any(|n| n.output.contains(name));
            let name = match self.wanted.get(&value).filter(|_| made_here) {
                Some(wanted) => {
                    rename(&mut self.scope.nodes[mark..], name, wanted);
                    wanted.clone()
                }
                None => name.clone(),
            };
            self.names[value.index()] = Some(name);
        }
        for value in &node.outputs {
            // What stands for a value takes its name, unless callers know the value by it.
            if self.graph.outputs().iter().any(|o| o.value == *value) {
                continue;
            }
            if let (Some(carrier), Some(wanted)) = (self.carriers.get_mut(value), self.wanted.get(value))
                && self.names[value.index()].is_none()
                && self.scope.nodes[mark..].iter().any(|n| n.output.contains(carrier))
            {
                rename(&mut self.scope.nodes[mark..], carrier, wanted);
                carrier.clone_from(wanted);
            }
        }
        let own = node.outputs.iter().find_map(|v| self.wanted.get(v));
        let base = node.origin.names().first().or(own).cloned().unwrap_or_else(|| node.op.name().to_owned());
        let origin = node.origin.names().join("\n");
        let last = self.scope.nodes.len();
        for (i, made) in self.scope.nodes[mark..].iter_mut().enumerate() {
            let hint = if mark + i + 1 == last { base.clone() } else { format!("{base}/{}", made.op_type) };
            let mut name = hint.clone();
            let mut count = 1;
            while !self.node_names.insert(name.clone()) {
                count += 1;
                name = format!("{hint}_{count}");
            }
            made.name = name;
            if !origin.is_empty() {
                made.metadata_props.push(entry(ORIGIN_KEY, &origin));
            }
        }
    }

    /// The sizes of a shape as a list of integers.
    pub(super) fn dims(&mut self, shape: &Shape) -> Result<String, No> {
        if let Some(dims) = fixed(shape) {
            return Ok(self.scope.ints(&dims));
        }
        let mut parts = Vec::new();
        for dim in &shape.0 {
            parts.push(self.dim(dim)?);
        }
        if let [only] = &parts[..] {
            return Ok(only.clone());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.scope.op("Concat", &parts, vec![attr_int("axis", 0)]))
    }

    /// One size as a list of one integer.
    fn dim(&mut self, dim: &Dim) -> Result<String, No> {
        let terms = match dim.view() {
            DimView::Const(n) => return Ok(self.scope.ints(&[n])),
            DimView::Sum(terms) => terms,
        };
        let mut sum: Option<String> = None;
        for (coefficient, factors) in terms {
            let mut product =
                if coefficient == 1 && !factors.is_empty() { None } else { Some(self.scope.ints(&[coefficient])) };
            for factor in factors {
                let factor = match factor {
                    FactorView::Symbol(symbol) => self.size(symbol)?,
                    FactorView::FloorDiv(numerator, divisor) => {
                        let (numerator, divisor) = (self.dim(numerator)?, self.scope.ints(&[divisor]));
                        self.scope.op("Div", &[&numerator, &divisor], Vec::new())
                    }
                };
                product = Some(match product {
                    Some(product) => self.scope.op("Mul", &[&product, &factor], Vec::new()),
                    None => factor,
                });
            }
            let Some(product) = product else { continue };
            sum = Some(match sum {
                Some(sum) => self.scope.op("Add", &[&sum, &product], Vec::new()),
                None => product,
            });
        }
        sum.map_or_else(|| Ok(self.scope.ints(&[0])), Ok)
    }

    /// The size that a symbol stands for, taken from an input.
    fn size(&mut self, symbol: &str) -> Result<String, No> {
        if let Some(name) = self.sizes.get(symbol) {
            return Ok(name.clone());
        }
        let Some((input, axis)) = self.symbols.get(symbol).cloned() else {
            return Err(No(format!("the dimension `{symbol}` is no dimension of an input by itself")));
        };
        let axis = axis as i64;
        let name = if self.scope.opset >= 15 {
            self.scope.op("Shape", &[&input], vec![attr_int("start", axis), attr_int("end", axis + 1)])
        } else {
            let shape = self.scope.op("Shape", &[&input], Vec::new());
            let (from, to) = (self.scope.ints(&[axis]), self.scope.ints(&[axis + 1]));
            self.scope.op("Slice", &[&shape, &from, &to], Vec::new())
        };
        self.sizes.insert(symbol.to_owned(), name.clone());
        Ok(name)
    }

    /// The outputs, without what none of them needs, and what a model says about itself.
    fn finish(mut self, options: &Options) -> Result<ModelProto, No> {
        let mut outputs = Vec::new();
        for output in self.graph.outputs() {
            let name = self.name_of(output.value)?;
            if name != output.name {
                let mark = self.scope.nodes.len();
                let copy = self.scope.op("Identity", &[&name], Vec::new());
                rename(&mut self.scope.nodes[mark..], &copy, &output.name);
            }
            outputs.push(value_info(&output.name, self.graph.ty(output.value)));
        }
        let inputs: Vec<ValueInfoProto> = self
            .graph
            .inputs()
            .iter()
            .filter_map(|&v| Some(value_info(self.names[v.index()].as_ref()?, self.graph.ty(v))))
            .collect();
        let nodes = needed(std::mem::take(&mut self.scope.nodes), outputs.iter().map(|o| &o.name));
        let defined: BTreeSet<&String> = nodes.iter().flat_map(|n| &n.output).collect();
        let results: BTreeSet<&String> = outputs.iter().map(|o| &o.name).collect();
        let mut infos = Vec::new();
        for (id, value) in self.graph.values() {
            let name = self.names[id.index()].as_ref().filter(|n| defined.contains(n) && !results.contains(n));
            if let Some(name) = name.filter(|_| matches!(value.def, ValueDef::Node(..))) {
                infos.push(value_info(name, &value.ty));
            }
        }
        let domains: BTreeSet<&str> = nodes.iter().map(|n| n.domain.as_str()).filter(|d| !d.is_empty()).collect();
        let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: self.scope.opset }];
        opset_import.extend(domains.iter().map(|&domain| OperatorSetIdProto {
            domain: domain.to_owned(),
            version: match self.graph.meta.get(&format!("{OPSET_KEY}{domain}")).and_then(|v| v.parse().ok()) {
                _ if domain == DOMAIN => DOMAIN_VERSION,
                Some(version) => version,
                None => 1,
            },
        }));
        let used = |f: &FunctionProto| nodes.iter().any(|n| n.domain == DOMAIN && n.op_type == f.name);
        let functions = self.functions.into_values().filter(|f| used(f)).collect();
        let read: BTreeSet<&String> =
            nodes.iter().flat_map(|n| &n.input).chain(outputs.iter().map(|o| &o.name)).collect();
        let initializer = self.scope.constants.into_iter().filter(|t| read.contains(&t.name)).collect();
        let graph = GraphProto {
            name: if self.graph.name.is_empty() { "graph".into() } else { self.graph.name.clone() },
            initializer,
            input: inputs,
            output: outputs,
            value_info: infos,
            node: nodes,
            ..GraphProto::default()
        };
        Ok(ModelProto {
            ir_version: ir_version(self.scope.opset),
            opset_import,
            producer_name: "bitc".into(),
            producer_version: options.version.clone(),
            domain: self.graph.meta.get("domain").cloned().unwrap_or_default(),
            doc_string: self.graph.meta.get("doc_string").cloned().unwrap_or_default(),
            graph: Some(graph),
            metadata_props: metadata(self.graph, options),
            functions,
            ..ModelProto::default()
        })
    }
}

/// The oldest version of the file format that may hold an opset. Functions need 8.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        _ => 13,
    }
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}

/// What the source said about itself, and what bitc says about the model.
fn metadata(graph: &Graph, options: &Options) -> Vec<StringStringEntryProto> {
    let form = options.form;
    let mut props = Vec::new();
    let in_its_place = |key: &str| matches!(key, "domain" | "doc_string") || key.starts_with(OPSET_KEY);
    for (key, value) in graph.meta.iter().filter(|(key, _)| !in_its_place(key)) {
        let own = matches!(key.as_str(), "producer" | "producer_version");
        props.push(if own { entry(&format!("{META_PREFIX}source.{key}"), value) } else { entry(key, value) });
    }
    props.push(entry(&format!("{META_PREFIX}version"), &options.version));
    props.push(entry(&format!("{META_PREFIX}form"), form.name()));
    props.push(entry(&format!("{META_PREFIX}exactness"), form.difference()));
    props.push(entry(
        &format!("{META_PREFIX}packing"),
        "ternary weights: code = weight + 1, four codes to a byte, lowest bits first, row-major over the attribute \
         `shape`; tables: one bit per entry, lowest bits first, a row of whole bytes per node",
    ));
    props
}
