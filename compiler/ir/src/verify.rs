//! Checks a graph and the facts claimed about it, and reports all faults at once.

use std::collections::HashMap;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::graph::{Graph, NodeId, ValueDef, ValueId};
use crate::ops::Op;

/// A set of facts that passes require and establish. Each has a verifier here.
///
/// A set, not a ladder: float, ternary, logic and half-converted graphs take different ways to an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts(u8);

impl Facts {
    /// No fact.
    pub const NONE: Facts = Facts(0);
    /// Compact: nodes in topological order, nothing dead, names unique.
    pub const CANONICAL: Facts = Facts(1);
    /// No parameter and no operation that quantises weights while running.
    pub const NO_TRAINABLE: Facts = Facts(2);
    /// Deployment is frozen: nothing trainable is left and the graph says so.
    pub const FROZEN: Facts = Facts(4);
    /// Every operation has an instruction in the runtime.
    pub const LOWERABLE: Facts = Facts(8);

    const NAMES: [(Facts, &'static str); 4] = [
        (Facts::CANONICAL, "canonical"),
        (Facts::NO_TRAINABLE, "no-trainable"),
        (Facts::FROZEN, "frozen"),
        (Facts::LOWERABLE, "lowerable"),
    ];

    /// Whether every fact of `other` is in this set.
    pub fn contains(self, other: Facts) -> bool {
        self.0 & other.0 == other.0
    }

    /// The facts of this set that are not in `other`.
    pub fn without(self, other: Facts) -> Facts {
        Facts(self.0 & !other.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The fact of that name.
    pub fn from_name(name: &str) -> Option<Facts> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|&(f, _)| f)
    }
}

impl BitOr for Facts {
    type Output = Facts;
    fn bitor(self, other: Facts) -> Facts {
        Facts(self.0 | other.0)
    }
}

impl BitOrAssign for Facts {
    fn bitor_assign(&mut self, other: Facts) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::NAMES.iter().filter(|(fact, _)| self.contains(*fact)).map(|&(_, n)| n).collect();
        f.write_str(if names.is_empty() { "nothing" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({self})")
    }
}

/// One thing wrong with a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The node it is about, if it is about one.
    pub node: Option<NodeId>,
    /// What it is, naming the values.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Checks the structure of a graph and the given facts.
///
/// # Errors
/// All faults, in the order of the graph.
pub fn verify(graph: &Graph, facts: Facts) -> Result<(), Vec<Fault>> {
    let mut checker = Checker { graph, faults: Vec::new() };
    checker.ids();
    if checker.faults.is_empty() {
        checker.values();
        checker.nodes();
        checker.facts(facts);
    }
    if checker.faults.is_empty() { Ok(()) } else { Err(checker.faults) }
}

struct Checker<'a> {
    graph: &'a Graph,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    fn fault(&mut self, node: Option<NodeId>, message: impl Into<String>) {
        self.faults.push(Fault { node, message: message.into() });
    }

    fn name(&self, value: ValueId) -> String {
        match self.graph.value(value).name.as_str() {
            "" => format!("value {}", value.index()),
            name => format!("`%{name}`"),
        }
    }

    /// Every id points at something; the rest of the checks index freely.
    fn ids(&mut self) {
        let (nodes, values) = (self.graph.nodes().len(), self.graph.values().len());
        for (id, node) in self.graph.nodes() {
            for &value in node.inputs.iter().flatten().chain(&node.outputs) {
                if value.index() >= values {
                    self.fault(
                        Some(id),
                        format!("`{}` refers to value {}, there are {values}", node.op.name(), value.index()),
                    );
                }
            }
        }
        for (id, value) in self.graph.values() {
            if let ValueDef::Node(node, _) = value.def
                && node.index() >= nodes
            {
                self.fault(
                    None,
                    format!("value {} is defined by node {}, there are {nodes}", id.index(), node.index()),
                );
            }
        }
        let ends = self.graph.outputs().iter().map(|o| o.value).chain(self.graph.inputs().iter().copied());
        for value in ends.filter(|v| v.index() >= values).collect::<Vec<_>>() {
            self.fault(None, format!("the graph refers to value {}, there are {values}", value.index()));
        }
    }

    fn values(&mut self) {
        let mut names = HashMap::with_capacity(self.graph.values().len());
        for (id, value) in self.graph.values() {
            if !value.name.is_empty()
                && let Some(other) = names.insert(value.name.as_str(), id)
            {
                let message = format!("values {} and {} are both called `%{}`", other.index(), id.index(), value.name);
                self.fault(None, message);
            }
            if value.name.contains('\0') {
                self.fault(None, format!("the name of value {} holds a NUL", id.index()));
            }
            let listed = self.graph.inputs().contains(&id);
            match &value.def {
                ValueDef::Input if !listed => {
                    self.fault(None, format!("{} is an input that the graph does not list", self.name(id)));
                }
                ValueDef::Const(t) | ValueDef::Param(t) if t.ty() != value.ty => {
                    self.fault(None, format!("constant {} says {}, its data is {}", self.name(id), value.ty, t.ty()));
                }
                &ValueDef::Node(node, i) if self.graph.node(node).outputs.get(i as usize) != Some(&id) => {
                    self.fault(Some(node), format!("{} is not output {i} of its node", self.name(id)));
                }
                ValueDef::Input | ValueDef::Const(_) | ValueDef::Param(_) | ValueDef::Node(..) => {}
            }
            if listed && value.def != ValueDef::Input {
                self.fault(None, format!("the graph lists {} as an input, which it is not", self.name(id)));
            }
        }
        for (i, input) in self.graph.inputs().iter().enumerate() {
            if self.graph.inputs()[..i].contains(input) {
                self.fault(None, format!("the graph lists input {} twice", self.name(*input)));
            }
        }
        let mut outputs: Vec<&str> = self.graph.outputs().iter().map(|o| o.name.as_str()).collect();
        outputs.sort_unstable();
        for pair in outputs.windows(2).filter(|p| p[0] == p[1]) {
            self.fault(None, format!("two outputs are called `{}`", pair[0]));
        }
    }

    fn nodes(&mut self) {
        for (id, node) in self.graph.nodes() {
            let types = node.inputs.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
            let expected = match node.op.infer(types) {
                Ok(types) => types,
                Err(error) => {
                    let output = node.outputs.first().map_or_else(String::new, |&v| format!(" of {}", self.name(v)));
                    self.fault(Some(id), format!("`{}`{output}: {error}", node.op.name()));
                    continue;
                }
            };
            for (i, &value) in node.outputs.iter().enumerate() {
                if self.graph.value(value).def != ValueDef::Node(id, i as u32) {
                    self.fault(
                        Some(id),
                        format!("`{}` lists {}, which it does not define", node.op.name(), self.name(value)),
                    );
                }
            }
            if expected.len() != node.outputs.len() {
                let message =
                    format!("`{}` has {} outputs, its node {}", node.op.name(), expected.len(), node.outputs.len());
                self.fault(Some(id), message);
            }
            for (&value, ty) in node.outputs.iter().zip(&expected).filter(|&(&v, ty)| self.graph.ty(v) != ty) {
                let message = format!(
                    "`{}` makes {} of type {ty}, found {}",
                    node.op.name(),
                    self.name(value),
                    self.graph.ty(value)
                );
                self.fault(Some(id), message);
            }
        }
        if self.graph.live_order().is_none() {
            self.fault(None, "the nodes form a cycle");
        }
    }

    fn facts(&mut self, facts: Facts) {
        if facts.contains(Facts::CANONICAL) {
            self.canonical();
        }
        if facts.contains(Facts::NO_TRAINABLE) || facts.contains(Facts::FROZEN) || self.graph.frozen {
            self.no_trainable();
        }
        if facts.contains(Facts::FROZEN) && !self.graph.frozen {
            self.fault(None, "the graph is not frozen");
        }
        if facts.contains(Facts::LOWERABLE) {
            self.lowerable();
        }
    }

    fn canonical(&mut self) {
        let uses = self.graph.uses();
        for (id, value) in self.graph.values() {
            if matches!(value.def, ValueDef::Const(_) | ValueDef::Param(_)) && uses.count(id) == 0 {
                self.fault(None, format!("constant {} is never used", self.name(id)));
            }
        }
        for (id, node) in self.graph.nodes() {
            if node.outputs.iter().all(|&v| uses.count(v) == 0) {
                self.fault(Some(id), format!("no output of this `{}` is used", node.op.name()));
            }
            for &value in node.inputs.iter().flatten() {
                if self.graph.producer_id(value).is_some_and(|p| p >= id) {
                    self.fault(Some(id), format!("{} is read before it is defined", self.name(value)));
                }
            }
        }
    }

    fn no_trainable(&mut self) {
        for (id, value) in self.graph.values() {
            if matches!(value.def, ValueDef::Param(_)) {
                self.fault(None, format!("{} is still trainable", self.name(id)));
            }
        }
        for (id, node) in self.graph.nodes() {
            if let Op::Ternarize(_) = node.op {
                self.fault(Some(id), "`ternarize` still quantises weights while running");
            }
        }
    }

    fn lowerable(&mut self) {
        for (id, node) in self.graph.nodes() {
            if let Op::Custom(op) = &node.op {
                self.fault(Some(id), format!("`{}` has no instruction in the runtime", op.qualified_name()));
            } else if let Op::Ternarize(_) = node.op {
                self.fault(Some(id), "`ternarize` has no instruction in the runtime");
            }
        }
    }
}
