//! Rules and the driver that applies them until nothing changes.
//!
//! A rule is a function from a node to a replacement or a reason why not. It works on an [`Editor`], which reads like the
//! graph and stages additions; on a miss they are rolled back. Rules must not make the graph worse and must come to an
//! end: the driver has a bound and names the rules that still fire beyond it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;

use bitc_ir::graph::Uses;
use bitc_ir::{Graph, NodeId, Op, Tensor, TypeError, ValueId};

use crate::pass::{Changed, PassCx, PassError, RemarkKind};

/// Why a rule did not apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Miss {
    /// The node is nothing for this rule.
    NoMatch,
    /// The node is as the rule would make it.
    NoEffect,
    /// The node is meant, but something stands in the way. Becomes a remark.
    Blocked(Cow<'static, str>),
}

impl Miss {
    /// Blocked for a reason that has to be put together.
    pub fn blocked(reason: impl Into<Cow<'static, str>>) -> Self {
        Miss::Blocked(reason.into())
    }
}

impl From<TypeError> for Miss {
    fn from(error: TypeError) -> Self {
        Miss::blocked(format!("the rewritten form would not fit: {error}"))
    }
}

/// What a rule puts in place of what it matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replacement {
    /// One value for the single output of the node.
    Value(ValueId),
    /// New values for old ones, which may belong to other nodes too.
    Values(Vec<(ValueId, ValueId)>),
}

impl From<ValueId> for Replacement {
    fn from(value: ValueId) -> Self {
        Replacement::Value(value)
    }
}

/// One rewrite rule.
pub struct Rule<'a> {
    /// The name in remarks.
    pub name: &'static str,
    /// Looks at a node and stages what replaces it.
    pub apply: &'a dyn Fn(&mut Editor<'_>, NodeId) -> Result<Replacement, Miss>,
}

/// A graph that can be read freely and added to for the time being.
pub struct Editor<'a> {
    graph: &'a mut Graph,
    uses: &'a Uses,
}

impl Deref for Editor<'_> {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        self.graph
    }
}

impl Editor<'_> {
    /// Stages a node with one output.
    ///
    /// # Errors
    /// A miss if the inputs do not fit.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<ValueId, Miss> {
        Ok(self.graph.add_node("", op, inputs)?)
    }

    /// Stages a node with several outputs.
    ///
    /// # Errors
    /// A miss if the inputs do not fit.
    pub fn add_multi(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>, Miss> {
        Ok(self.graph.add_nodes(&[], op, inputs)?)
    }

    /// Stages a constant. A name that is taken is made unique later.
    pub fn add_const(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.graph.add_const(name, tensor)
    }

    /// Whether exactly one node input or output of the graph reads a value: fusing it away takes it from nobody.
    pub fn only_use(&self, value: ValueId) -> bool {
        self.uses.count(value) == 1
    }

    /// Who reads what; staged nodes are not in it.
    pub fn uses(&self) -> &Uses {
        self.uses
    }
}

/// Applies rules to every node until none fires, then compacts the graph.
///
/// # Errors
/// If a rule changes a type, or the rules do not come to an end.
pub fn rewrite(
    graph: &mut Graph,
    rules: &[Rule<'_>],
    pass: &'static str,
    cx: &mut PassCx<'_>,
) -> Result<Changed, PassError> {
    let mut driver = Driver {
        uses: graph.uses(),
        queue: graph.nodes().map(|(id, _)| id).collect(),
        queued: vec![true; graph.nodes().len()],
        dead: vec![false; graph.nodes().len()],
        blocked: BTreeMap::new(),
        fired: Vec::new(),
    };
    // Generous: real pipelines rewrite each node a handful of times.
    let bound = 1000 + 32 * graph.nodes().len();
    while let Some(node) = driver.queue.pop_front() {
        driver.queued[node.index()] = false;
        if driver.dead[node.index()] {
            continue;
        }
        for (index, rule) in rules.iter().enumerate() {
            if !cx.may_rewrite() {
                break;
            }
            if driver.try_rule(graph, index, rule, node, pass, cx)? {
                driver.fired.push(rule.name);
                break;
            }
        }
        if driver.fired.len() > bound {
            let rules: BTreeSet<_> = driver.fired.iter().rev().take(100).copied().collect();
            return Err(PassError::Endless { pass, rules: rules.into_iter().collect() });
        }
    }
    for (&(node, index), reason) in driver.blocked.iter().filter(|((node, _), _)| !driver.dead[node.index()]) {
        cx.remark(graph, node, rules[index].name, RemarkKind::Blocked(reason.clone()));
    }
    graph.compact();
    Ok(Changed::when(!driver.fired.is_empty()))
}

struct Driver {
    uses: Uses,
    queue: VecDeque<NodeId>,
    queued: Vec<bool>,
    dead: Vec<bool>,
    /// Why a rule was blocked at a node when it last looked; said at the end, about the nodes that are left.
    blocked: BTreeMap<(NodeId, usize), Cow<'static, str>>,
    fired: Vec<&'static str>,
}

impl Driver {
    fn try_rule(
        &mut self,
        graph: &mut Graph,
        index: usize,
        rule: &Rule<'_>,
        node: NodeId,
        pass: &'static str,
        cx: &mut PassCx<'_>,
    ) -> Result<bool, PassError> {
        let mark = graph.mark();
        self.blocked.remove(&(node, index));
        let replacement = match (rule.apply)(&mut Editor { graph, uses: &self.uses }, node) {
            Ok(replacement) => replacement,
            Err(miss) => {
                graph.rollback(mark);
                if let Miss::Blocked(reason) = miss {
                    self.blocked.insert((node, index), reason);
                }
                return Ok(false);
            }
        };
        if !cx.take_rewrite() {
            graph.rollback(mark);
            return Ok(false);
        }
        cx.remark(graph, node, rule.name, RemarkKind::Applied);
        let pairs = match replacement {
            Replacement::Value(new) => vec![(graph.node(node).outputs[0], new)],
            Replacement::Values(pairs) => pairs,
        };
        let added: Vec<NodeId> = graph.nodes_since(mark).collect();
        self.queued.resize(graph.nodes().len(), false);
        self.dead.resize(graph.nodes().len(), false);
        for &new in &added {
            self.uses.add_node(graph, new);
        }
        self.uses.grow(graph);

        let mut replaced = Vec::new();
        for (old, new) in pairs {
            let retyped = |error| PassError::Retyped { pass, rule: rule.name, error };
            self.uses.replace(graph, old, new).map_err(retyped)?;
            graph.take_name(old, new);
            self.enqueue(self.uses.of(new).to_vec());
            replaced.extend(graph.producer_id(old));
        }
        // What the rewrite made superfluous is what the new nodes stand for.
        let mut origins = Vec::new();
        for old in replaced {
            for dead in self.uses.release(graph, old) {
                self.dead[dead.index()] = true;
                origins.push((graph.node(dead).op.name(), graph.node(dead).origin.clone()));
                let read: Vec<ValueId> = graph.node(dead).inputs.iter().copied().flatten().collect();
                self.enqueue(read.iter().filter_map(|&v| graph.producer_id(v)).collect());
                // A weight that was rewritten is not held twice.
                read.into_iter().filter(|&v| self.uses.count(v) == 0).for_each(|v| graph.give_up_constant(v));
            }
        }
        for &new in &added {
            // A node goes by the name of the one that it continues, such as the layer that an activation was drawn into.
            let continues = graph.node(new).op.name();
            let (same, others): (Vec<_>, Vec<_>) = origins.iter().partition(|(op, _)| *op == continues);
            same.iter().chain(&others).for_each(|(_, origin)| graph.merge_origin(new, origin));
        }
        self.enqueue(added);
        Ok(true)
    }

    fn enqueue(&mut self, nodes: Vec<NodeId>) {
        for node in nodes {
            if !self.dead[node.index()] && !std::mem::replace(&mut self.queued[node.index()], true) {
                self.queue.push_back(node);
            }
        }
    }
}
