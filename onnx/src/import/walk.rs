//! The walk over bodies: the graph, called functions, taken branches.
//!
//! A stack of frames on the heap, one per body that is open; names are looked up in the frame and, for branches, in the
//! frames around it. A node that cannot be imported does not stop the walk: its outputs are *lost*, and what reads them
//! is lost as well. At the end the faults that the outputs of the model depend on are reported, and only those.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use bitc_ir::graph::Mark;
use bitc_ir::{Dim, Graph, Origin, Tensor, TensorType, ValueId};

mod bodies;

use super::attrs::NodeAttrs;
use super::build::Builder;
use super::node::NodeCx;
use super::opset::{Opsets, op_name};
use super::order::live_order;
use super::origin::{innermost_scope, source_line};
use super::{Options, declared_type, tensor, unknown};
use crate::error::{Cause, Fault, ImportError, NodePlace, quoted};
use crate::export;
use crate::external::Resolver;
use crate::functions::{Bound, Functions};
use crate::limits::Budget;
use crate::op_map;
use crate::proto::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Value(ValueId),
    /// An input of a function that the call leaves out.
    Absent,
    /// Nothing, because of the loss of that number.
    Lost(usize),
}

/// Why values are lost: a fault of the node itself, or the losses of what it reads.
struct Loss {
    fault: Option<Fault>,
    because_of: Vec<usize>,
}

/// Constants of a body that are decoded when something reads them.
#[derive(Clone, Copy)]
enum Stored<'m> {
    Dense(&'m TensorProto),
    Sparse(&'m SparseTensorProto),
}

/// An open body.
struct Frame<'m> {
    nodes: &'m [NodeProto],
    order: Rc<[u32]>,
    next: usize,
    names: HashMap<&'m str, Slot>,
    stored: HashMap<&'m str, Stored<'m>>,
    /// Whether names that are not here are looked up in the frame below.
    sees_outside: bool,
    opsets: Opsets,
    bound: Rc<Bound<'m>>,
    /// Where the body is, for names of nodes: `block/attn/`.
    path: String,
    /// The names that the body gives, and what the frame below calls them.
    results: Vec<(&'m str, &'m str)>,
}

pub(super) struct Walk<'m, 'f> {
    build: Builder,
    files: &'f mut dyn Resolver,
    functions: Functions<'m>,
    orders: HashMap<usize, Rc<[u32]>>,
    frames: Vec<Frame<'m>>,
    losses: Vec<Loss>,
    opsets: Opsets,
    options: &'f Options,
    unnamed_dims: usize,
    /// Types that the graph declares for its values, for operators that are taken along.
    types: Rc<HashMap<&'m str, TensorType>>,
    pub(super) warnings: Vec<String>,
}

impl<'m, 'f> Walk<'m, 'f> {
    pub(super) fn new(
        model: &'m ModelProto,
        opsets: Opsets,
        graph: Graph,
        files: &'f mut dyn Resolver,
        options: &'f Options,
        budget: Budget,
    ) -> Result<Self, ImportError> {
        let functions = Functions::new(&model.functions, &opsets)?;
        if let Some(graph) = &model.graph {
            let is_known = |n: &NodeProto, o: &Opsets| {
                let by_body = options.bodies && n.domain == export::DOMAIN && functions.called_by(n).is_some();
                !by_body && o.of(n).is_ok_and(|v| op_map::find(&n.domain, &n.op_type, v).is_some())
            };
            functions.check(graph, &opsets, options.limits.nodes, is_known)?;
        }
        Ok(Self {
            build: Builder::new(graph, budget),
            files,
            functions,
            orders: HashMap::new(),
            frames: Vec::new(),
            losses: Vec::new(),
            opsets,
            options,
            unnamed_dims: 0,
            types: Rc::default(),
            warnings: Vec::new(),
        })
    }

    /// Imports the graph of the model.
    pub(super) fn run(&mut self, graph: &'m GraphProto) -> Result<Graph, ImportError> {
        let stored = stored(graph)?;
        let mut names = HashMap::new();
        let mut also_inputs = 0;
        for info in &graph.input {
            if stored.contains_key(info.name.as_str()) {
                also_inputs += 1;
                continue;
            }
            let slot = self.input(info);
            if names.insert(info.name.as_str(), slot).is_some() {
                return Err(Cause::DefinedTwice(info.name.clone()).into());
            }
        }
        if self.options.keep_unknown {
            self.types = Rc::new(self.declared_types(graph));
        }
        if also_inputs > 0 {
            self.warnings.push(format!("{also_inputs} inputs have initializers and are taken as constants"));
        }
        let given = |n: &str| names.contains_key(n) || stored.contains_key(n);
        let order = live_order(&graph.node, graph.output.iter().map(|o| o.name.as_str()), given)?;
        self.frames.push(Frame {
            nodes: &graph.node,
            order: order.into(),
            next: 0,
            names,
            stored,
            sees_outside: false,
            opsets: self.opsets.clone(),
            bound: Rc::default(),
            path: String::new(),
            results: Vec::new(),
        });
        while self.frames.len() > 1 || self.frames.last().is_some_and(|f| f.next < f.order.len()) {
            self.step()?;
        }
        self.finish(graph)
    }

    fn input(&mut self, info: &'m ValueInfoProto) -> Slot {
        let unnamed = &mut self.unnamed_dims;
        let mut fresh = || {
            *unnamed += 1;
            Dim::symbol(format!("unknown{unnamed}"))
        };
        match declared_type(info, &self.options.dims, &mut fresh) {
            Ok(ty) => Slot::Value(self.build.graph.add_input(&info.name, ty)),
            Err(cause) => self.lose(Some(cause.into()), Vec::new()),
        }
    }

    /// The types of values as far as the graph declares them; nothing is known of a value without one.
    fn declared_types(&mut self, graph: &'m GraphProto) -> HashMap<&'m str, TensorType> {
        let mut types = HashMap::new();
        for info in graph.value_info.iter().chain(&graph.output) {
            let unnamed = &mut self.unnamed_dims;
            let mut fresh = || {
                *unnamed += 1;
                Dim::symbol(format!("unknown{unnamed}"))
            };
            if let Ok(ty) = declared_type(info, &self.options.dims, &mut fresh) {
                types.insert(info.name.as_str(), ty);
            }
        }
        types
    }

    /// The graph with its outputs, or the faults that these depend on.
    fn finish(&mut self, graph: &'m GraphProto) -> Result<Graph, ImportError> {
        let mut lost = Vec::new();
        let mut names = BTreeSet::new();
        for info in &graph.output {
            if !names.insert(info.name.as_str()) {
                return Err(Cause::NotAModel(format!("two outputs are called {}", quoted(&info.name))).into());
            }
            match self.read(&info.name) {
                Some(Slot::Value(value)) => self.build.graph.add_output(&info.name, value),
                Some(Slot::Lost(loss)) => lost.push(loss),
                Some(Slot::Absent) | None => return Err(Cause::Undefined(info.name.clone()).into()),
            }
        }
        if graph.output.is_empty() {
            return Err(Cause::NotAModel("the graph has no outputs".into()).into());
        }
        let mut needed = BTreeSet::new();
        while let Some(loss) = lost.pop() {
            if needed.insert(loss) {
                lost.extend(self.losses.get(loss).into_iter().flat_map(|l| &l.because_of));
            }
        }
        let faults: Vec<Fault> = needed.into_iter().filter_map(|i| self.losses.get(i)?.fault.clone()).collect();
        if let Some(error) = ImportError::new(faults) {
            return Err(error);
        }
        let mut out = std::mem::take(&mut self.build.graph);
        out.compact();
        Ok(out)
    }

    fn lose(&mut self, fault: Option<Fault>, because_of: Vec<usize>) -> Slot {
        self.losses.push(Loss { fault, because_of });
        Slot::Lost(self.losses.len() - 1)
    }

    /// What a name stands for in the innermost frame. Decodes a constant at its first use.
    fn read(&mut self, name: &str) -> Option<Slot> {
        for i in (0..self.frames.len()).rev() {
            let frame = self.frames.get(i)?;
            if let Some(&slot) = frame.names.get(name) {
                return Some(slot);
            }
            if let Some((&key, &stored)) = frame.stored.get_key_value(name) {
                let slot = self.load(stored);
                self.frames.get_mut(i)?.names.insert(key, slot);
                return Some(slot);
            }
            if !frame.sees_outside {
                return None;
            }
        }
        None
    }

    fn load(&mut self, stored: Stored<'m>) -> Slot {
        let (name, decoded) = match stored {
            Stored::Dense(t) => (t.name.as_str(), tensor::dense(t, self.files, &mut self.build.budget)),
            Stored::Sparse(t) => (tensor::sparse_name(t), tensor::sparse(t, self.files, &mut self.build.budget)),
        };
        match decoded {
            Ok(tensor) => Slot::Value(self.constant(name, tensor)),
            Err(cause) => self.lose(Some(cause.into()), Vec::new()),
        }
    }

    fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.build.graph.add_const(name, tensor)
    }

    /// Visits the next node of the innermost body, or closes it.
    fn step(&mut self) -> Result<(), ImportError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let Some(&index) = frame.order.get(frame.next) else {
            self.close();
            return Ok(());
        };
        frame.next += 1;
        let Some(node) = frame.nodes.get(index as usize) else { return Ok(()) };
        let mut inputs = Vec::new();
        let mut lost = Vec::new();
        let mut given = node.input.iter().map(String::as_str).collect::<Vec<_>>();
        while given.last().is_some_and(|n| n.is_empty()) {
            given.pop();
        }
        for name in given {
            inputs.push(match name {
                "" => None,
                name => match self.read(name) {
                    Some(Slot::Value(value)) => Some(value),
                    Some(Slot::Absent) => None,
                    Some(Slot::Lost(loss)) => {
                        lost.push(loss);
                        None
                    }
                    None => return Err(Fault::at(Cause::Undefined(name.into()), self.place(node, index)).into()),
                },
            });
        }
        match self.visit(node, index, inputs, lost) {
            Ok(()) => Ok(()),
            Err(Stop::Lost(cause, because_of)) => {
                let fault = cause.map(|c| Fault::at(c, self.place(node, index)));
                let slot = self.lose(fault, because_of);
                self.define(node, |_| slot);
                Ok(())
            }
            Err(Stop::Fatal(cause)) => Err(Fault::at(cause, self.place(node, index)).into()),
        }
    }

    fn visit(
        &mut self,
        node: &'m NodeProto,
        index: u32,
        inputs: Vec<Option<ValueId>>,
        lost: Vec<usize>,
    ) -> Result<(), Stop> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let version = frame.opsets.of(node)?;
        let by_body = self.options.bodies && node.domain == export::DOMAIN && self.functions.called_by(node).is_some();
        let rule = if by_body { None } else { op_map::find(&node.domain, &node.op_type, version) };
        if rule.is_none()
            && let Some(function) = self.functions.called_by(node)
        {
            return self.call(node, index, function, inputs, lost);
        }
        let bound = frame.bound.clone();
        let is_control = super::opset::canonical_domain(&node.domain).is_empty()
            && matches!(node.op_type.as_str(), "If" | "Loop" | "Scan" | "SequenceMap");
        if is_control {
            return self.control(node, index, &inputs, lost);
        }
        if rule.is_none() && self.options.keep_unknown && lost.is_empty() {
            return self.keep(node, index, &inputs);
        }
        let Some(rule) = rule else {
            return Err(Stop::Lost(Some(op_map::unknown(&node.domain, &node.op_type, version)), lost));
        };
        if !lost.is_empty() {
            return Err(Stop::Lost(None, lost));
        }
        let mark = self.build.mark();
        let mut inputs = inputs;
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        let wanted: Vec<bool> = node.output.iter().map(|n| !n.is_empty()).collect();
        let mut cx = NodeCx {
            build: &mut self.build,
            files: self.files,
            attrs: NodeAttrs::new(node, &bound)?,
            inputs,
            wanted,
            version,
            op: &node.op_type,
        };
        let outputs = rule.apply(&mut cx)?;
        cx.attrs.finish()?;
        self.settle(node, index, mark, &outputs)
    }

    /// Takes an operator along that has no meaning here.
    fn keep(&mut self, node: &'m NodeProto, index: u32, inputs: &[Option<ValueId>]) -> Result<(), Stop> {
        let types = self.types.clone();
        let declared = |name: &str| types.get(name).cloned();
        if self.frames.len() > 1 {
            return Err(super::node::unsupported(format!("{} within a function or branch", node.op_type)).into());
        }
        if inputs.iter().any(Option::is_none) {
            return Err(super::node::unsupported(format!("{} that leaves an input out", node.op_type)).into());
        }
        let op = unknown::custom(node, declared, self.files, &mut self.build.budget)?;
        let mark = self.build.mark();
        let outputs = self.build.graph.add_nodes(&[], op, inputs).map_err(|e| Cause::Type(e.to_string()))?;
        self.settle(node, index, mark, &outputs)
    }

    /// Gives what was made for a node its origin and names.
    fn settle(&mut self, node: &'m NodeProto, index: u32, mark: Mark, outputs: &[ValueId]) -> Result<(), Stop> {
        let place = self.place(node, index);
        let recorded = node.metadata_props.iter().find(|e| e.key == export::ORIGIN_KEY);
        let origin: Origin = match recorded {
            // What bitc wrote stands for these nodes of its own source.
            Some(names) => names.value.lines().take(MOST_ORIGINS).map(str::to_owned).collect(),
            None => [Some(place.name), place.source].into_iter().flatten().collect(),
        };
        for id in self.build.graph.nodes_since(mark).collect::<Vec<_>>() {
            *self.build.graph.origin_mut(id) = origin.clone();
        }
        if let Some(i) = (outputs.len()..node.output.len()).find(|&i| node.output.get(i).is_some_and(|n| !n.is_empty()))
        {
            return Err(super::node::unsupported(format!("output {i} of {}", node.op_type)).into());
        }
        let path = self.frames.last().map(|f| f.path.clone()).unwrap_or_default();
        for (name, &value) in node.output.iter().zip(outputs).filter(|(n, _)| !n.is_empty()) {
            self.build.name(value, &format!("{path}{name}"));
        }
        self.define(node, |i| outputs.get(i).map_or(Slot::Absent, |&v| Slot::Value(v)));
        Ok(())
    }

    /// Binds the outputs of a node in the innermost frame.
    fn define(&mut self, node: &'m NodeProto, slot: impl Fn(usize) -> Slot) {
        let Some(frame) = self.frames.last_mut() else { return };
        for (i, name) in node.output.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
            frame.names.insert(name, slot(i));
        }
    }

    /// A node in words that its author knows.
    fn place(&self, node: &NodeProto, index: u32) -> NodePlace {
        let frame = self.frames.last();
        let path = frame.map_or("", |f| &f.path);
        let meta = |key: &str| node.metadata_props.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let scope =
            meta("pkg.torch.onnx.name_scopes").and_then(innermost_scope).map_or(String::new(), |s| format!("{s}/"));
        let own = if node.name.is_empty() { format!("{}_{index}", node.op_type) } else { node.name.clone() };
        NodePlace {
            name: format!("{path}{scope}{own}"),
            op: op_name(&node.domain, &node.op_type),
            opset: frame.and_then(|f| f.opsets.of(node).ok()),
            source: meta("pkg.torch.onnx.stack_trace").and_then(source_line),
        }
    }
}

/// The most names of source nodes that a node may bring along.
const MOST_ORIGINS: usize = 1024;

/// Why a node was not imported.
enum Stop {
    /// Its outputs are lost; the walk goes on.
    Lost(Option<Cause>, Vec<usize>),
    /// The structure of the model is broken.
    Fatal(Cause),
}

impl From<Cause> for Stop {
    fn from(cause: Cause) -> Self {
        match cause {
            // More nodes would fare no better.
            Cause::OverBudget { .. } => Stop::Fatal(cause),
            _ => Stop::Lost(Some(cause), Vec::new()),
        }
    }
}

/// The constants of a graph by name.
fn stored(graph: &GraphProto) -> Result<HashMap<&str, Stored<'_>>, Cause> {
    let mut stored = HashMap::new();
    let dense = graph.initializer.iter().map(|t| (t.name.as_str(), Stored::Dense(t)));
    let sparse = graph.sparse_initializer.iter().map(|t| (tensor::sparse_name(t), Stored::Sparse(t)));
    for (name, tensor) in dense.chain(sparse) {
        if name.is_empty() {
            return Err(Cause::NotAModel("an initializer has no name".into()));
        }
        if stored.insert(name, tensor).is_some() {
            return Err(Cause::DefinedTwice(name.into()));
        }
    }
    Ok(stored)
}
