//! `cones-to-logic`: logic networks by what they compute, whatever exporter wrote them.
//!
//! Bits are where a comparison makes them, or an input holds them. From there every element of every array is followed as
//! a table over the few bits that it depends on: operations that move elements move tables, and what computes is computed
//! by its own definition for every assignment of the bits. A table of two values is a node of a network, and becomes a bit
//! where a layer gathers it or where a table over what it depends on would be too large; where the
//! trace ends, because a sum counts bits or an element depends on too many, the network takes the place of what was
//! followed: `y == cast(logic_net(bits))`, or `y == lut(logic_net(bits))` where elements take more than two values. There
//! is no matcher for any kind of node.
//!
//! Only graphs are looked at in which bits are gathered by constant indices, and only what is the same for every sample.
//! Two samples are traced (all, where the batch size is fixed), and elements of one must not depend on another.
//!
//! Parameter: `binary_inputs`, that all inputs hold only 0 and 1 whatever their type, as networks of gates are exported
//! that take bits as floats. A network then compares them with one half; other values give other results, and the graph
//! remembers that under `ai.bitc.binary_inputs`.
//!
//! Afterwards `reduce_sum` of groups of bits becomes `group_sum`, a division of it its `tau`, and comparisons of each
//! feature with its thresholds a `thermometer`.

mod cone;
mod heads;
mod rebuild;
mod trace;

use std::rc::Rc;

use bitc_ir::ops::EvalCx;
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op, Tensor, ValueDef, ValueId};

use self::cone::{Bits, Cone, Traced};
use self::trace::{Input, number};
use crate::logic::record;
use crate::pass::{Changed, Pass, PassCx, PassError, RemarkKind, Values};
use crate::rewrite::{Rule, rewrite};

/// The most elements of a traced array.
const MAX_ELEMENTS: usize = 1 << 22;
/// Samples that are traced where their number is free.
const SAMPLES: usize = 2;
/// The largest fixed number of samples.
const MAX_SAMPLES: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct ConesToLogic {
    binary_inputs: bool,
}

impl ConesToLogic {
    pub(crate) const NAME: &'static str = "cones-to-logic";
    pub(crate) const DOC: &'static str = "Finds logic networks by what they compute and makes them netlists.";

    pub(crate) fn from_params(params: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { binary_inputs: params.bool("binary_inputs")?.unwrap_or(false) })
    }
}

impl Pass for ConesToLogic {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        if self.binary_inputs { Values::Free } else { Values::Rounding }
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let Some(found) = Found::in_graph(graph, self.binary_inputs) else { return Ok(Changed::No) };
        let mut changed = Changed::No;
        for (value, stop) in &found.ends {
            if !cx.may_rewrite() {
                break;
            }
            let Some(node) = graph.producer_id(*value) else { continue };
            match rebuild::rebuild(graph, &found, *value) {
                Ok(true) => {
                    cx.take_rewrite();
                    cx.remark(graph, node, "cone", RemarkKind::Note(format!("a network up to here: {stop}")));
                    changed = Changed::Yes;
                }
                Ok(false) => {}
                Err(reason) => {
                    let reason = format!("{reason}; the trace ended here because {stop}");
                    cx.remark(graph, node, "cone", RemarkKind::Blocked(reason.into()));
                }
            }
        }
        if changed == Changed::No {
            return Ok(Changed::No);
        }
        if self.binary_inputs {
            graph.meta.insert(record::BINARY_INPUTS.to_owned(), "true".to_owned());
        }
        graph.compact();
        let rules = [
            Rule { name: "thermometer", apply: &heads::thermometer },
            Rule { name: "group-sum", apply: &heads::group_sum },
            Rule { name: "tau", apply: &heads::tau },
        ];
        rewrite(graph, &rules, Self::NAME, cx)?;
        Ok(Changed::Yes)
    }
}

/// Whether something is gathered that depends on bits: without that a graph is not worth a trace.
fn gathers_bits(graph: &Graph, is_root: &dyn Fn(ValueId) -> bool) -> Option<bool> {
    let mut depends: Vec<bool> = graph.values().map(|(_, v)| v.ty.dtype == DType::Bool).collect();
    graph.inputs().iter().filter(|&&v| is_root(v)).for_each(|v| depends[v.index()] = true);
    for id in graph.live_order()? {
        let node = graph.node(id);
        let reads = |v: &Option<ValueId>| v.is_some_and(|v| depends[v.index()]);
        let gathers = matches!(node.op, Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_));
        if gathers && node.inputs.first().is_some_and(reads) {
            return Some(true);
        }
        if node.inputs.iter().any(reads) {
            node.outputs.iter().for_each(|v| depends[v.index()] = true);
        }
    }
    Some(false)
}

/// What the trace of a graph found.
struct Found {
    bits: Bits,
    /// The number of samples that were traced.
    samples: usize,
    /// The values that bits start from, with the first of their bits, sample 0.
    roots: Vec<(ValueId, u32, usize)>,
    traced: Vec<Option<Rc<Traced>>>,
    /// Values that depend on nothing but the number of samples.
    constants: Vec<Option<Tensor>>,
    /// Traced values that something untraced reads, and why the trace ends there.
    ends: Vec<(ValueId, String)>,
}

impl Found {
    /// Traces a graph; `None` where no network is in it.
    fn in_graph(graph: &Graph, binary_inputs: bool) -> Option<Self> {
        let is_root = |v: ValueId| binary_inputs || graph.ty(v).dtype == DType::Bool;
        if !gathers_bits(graph, &is_root)? {
            return None;
        }
        let batch = graph.ty(*graph.inputs().first()?).shape.0.first()?.clone();
        let samples = match batch.as_const() {
            Some(n) if (1..=MAX_SAMPLES).contains(&n) => n,
            None if batch.as_symbol().is_some() => SAMPLES,
            _ => return None,
        };
        let symbol = batch.as_symbol().map(|s| s.to_string());
        let bind = |s: &str| (symbol.as_deref() == Some(s)).then_some(samples);
        let mut found = Self {
            bits: Bits::default(),
            samples,
            roots: Vec::new(),
            traced: vec![None; graph.values().len()],
            constants: vec![None; graph.values().len()],
            ends: Vec::new(),
        };
        let dims_of = |v: ValueId| -> Option<Vec<usize>> {
            let dims: Vec<usize> = graph.ty(v).shape.0.iter().map(|d| d.eval(&bind)).collect::<Option<_>>()?;
            let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
            (dims.first() == Some(&samples) && graph.ty(v).shape.0.first() == Some(&batch) && n <= MAX_ELEMENTS)
                .then_some(dims)
        };
        for &input in graph.inputs().iter().filter(|&&v| is_root(v)) {
            if let Some(dims) = dims_of(input) {
                found.start(input, graph.ty(input).dtype, dims);
            }
        }
        let mut gathered = false;
        for id in graph.live_order()? {
            gathered |= found.step(graph, id, &bind, &dims_of);
        }
        for output in graph.outputs() {
            found.end(output.value, "the model returns it");
        }
        gathered.then_some(found)
    }

    /// Makes the elements of a value bits.
    fn start(&mut self, value: ValueId, dtype: DType, dims: Vec<usize>) {
        let Some(values) = number(dtype, 0).zip(number(dtype, 1)) else { return };
        let values = [values.0, values.1].concat();
        let per_sample = dims.iter().skip(1).product();
        let first = self.bits.add_roots(per_sample);
        let element = |i: usize| {
            let (row, bit) = ((i / per_sample) as u32, first + (i % per_sample) as u32);
            Rc::new(Cone { row: Some(row), support: vec![bit], values: values.clone() })
        };
        let elements = (0..self.samples * per_sample).map(element).collect();
        self.roots.push((value, first, per_sample));
        self.traced[value.index()] = Some(Rc::new(Traced { dtype, dims, elements }));
    }

    /// Follows one node; answers whether it gathers bits by constant indices.
    fn step(
        &mut self,
        graph: &Graph,
        id: NodeId,
        bind: &dyn Fn(&str) -> Option<usize>,
        dims_of: &dyn Fn(ValueId) -> Option<Vec<usize>>,
    ) -> bool {
        let node = graph.node(id);
        let traced = |v: &Option<ValueId>| v.is_some_and(|v| self.traced[v.index()].is_some());
        if !node.inputs.iter().any(traced) {
            self.compute(graph, id, bind);
            if let (Op::Compare(_), &[y]) = (&node.op, &node.outputs[..])
                && let Some(dims) = dims_of(y)
            {
                self.start(y, DType::Bool, dims);
            }
            return false;
        }
        let input = |v: &Option<ValueId>| match v {
            None => Some(Input::Absent),
            Some(v) => match (&self.traced[v.index()], &graph.value(*v).def) {
                (Some(traced), _) => Some(Input::Traced(Rc::clone(traced))),
                (None, ValueDef::Const(tensor) | ValueDef::Param(tensor)) => Some(Input::Constant(tensor.clone())),
                _ => self.constants[v.index()].clone().map(Input::Constant),
            },
        };
        let inputs: Option<Vec<Input>> = node.inputs.iter().map(input).collect();
        let followed = match (inputs, &node.outputs[..]) {
            (Some(inputs), [_]) => {
                let elements: usize = inputs.iter().map(Input::len).sum();
                if elements > MAX_ELEMENTS {
                    Err("its arrays are too large".to_owned())
                } else {
                    trace::trace(&node.op, &inputs, &EvalCx { bind }, &mut self.bits)
                }
            }
            _ => Err(format!("`{}` reads what is not made of bits", node.op.name())),
        };
        match followed {
            Ok(result) => {
                self.traced[node.outputs[0].index()] = Some(Rc::new(result));
                matches!(node.op, Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_))
            }
            Err(stop) => {
                node.inputs.iter().flatten().for_each(|&v| self.end(v, &stop));
                // Comparisons of numbers that bits were counted into are bits again.
                if let (Op::Compare(_), &[y]) = (&node.op, &node.outputs[..])
                    && let Some(dims) = dims_of(y)
                {
                    self.start(y, DType::Bool, dims);
                }
                false
            }
        }
    }

    /// Computes a node of constants, which may depend on the number of samples.
    fn compute(&mut self, graph: &Graph, id: NodeId, bind: &dyn Fn(&str) -> Option<usize>) {
        let node = graph.node(id);
        let input = |v: &Option<ValueId>| match v {
            None => Some(None),
            Some(v) => graph.constant(*v).or(self.constants[v.index()].as_ref()).map(Some),
        };
        let inputs: Option<Vec<Option<&Tensor>>> = node.inputs.iter().map(input).collect();
        let small = |v: &ValueId| {
            let dims = graph.ty(*v).shape.0.iter().map(|d| d.eval(bind));
            dims.collect::<Option<Vec<_>>>().and_then(|d| d.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))
        };
        if !node.outputs.iter().all(|v| small(v).is_some_and(|n| n <= MAX_ELEMENTS)) {
            return;
        }
        if let Some(values) = inputs.and_then(|inputs| node.op.eval(inputs, &EvalCx { bind }).ok()) {
            for (&output, value) in node.outputs.iter().zip(values) {
                self.constants[output.index()] = Some(value);
            }
        }
    }

    /// Notes that something untraced reads a value.
    fn end(&mut self, value: ValueId, why: &str) {
        let is_root = self.roots.iter().any(|(root, ..)| *root == value);
        if self.traced[value.index()].is_some() && !is_root && self.ends.iter().all(|(v, _)| *v != value) {
            self.ends.push((value, why.to_owned()));
        }
    }
}
