//! What a pass is, what it is given, and what it says about its work.

use std::borrow::Cow;
use std::fmt;

use bitc_ir::ops::TypeError;
use bitc_ir::{AttrError, Facts, Fault, Graph, NodeId, Origin, Tensor};

/// One transformation of a graph.
pub trait Pass: fmt::Debug {
    /// The name in pipelines, tests and logs: `fold-scales`.
    fn name(&self) -> &'static str;

    /// What must hold before it runs. The graph is always canonical.
    fn requires(&self) -> Facts {
        Facts::NONE
    }

    /// What holds after it has run.
    fn establishes(&self) -> Facts {
        Facts::NONE
    }

    /// How far the outputs of the graph may move.
    fn values(&self) -> Values {
        Values::Rounding
    }

    /// Changes the graph.
    ///
    /// # Errors
    /// If the graph cannot be compiled (a fault of the input) or a rule misbehaved (a fault of bitc).
    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError>;
}

/// How far a pass may move the outputs of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// Not at all.
    Exact,
    /// By the rounding of float operations done in another order.
    Rounding,
    /// Freely: the user asked for another model.
    Free,
}

/// Whether a pass changed the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// It did.
    Yes,
    /// It did not.
    No,
}

impl Changed {
    /// `Yes` if the condition holds.
    pub fn when(condition: bool) -> Self {
        if condition { Changed::Yes } else { Changed::No }
    }
}

/// What a pass may use besides the graph.
pub struct PassCx<'a> {
    pass: &'static str,
    remarks: &'a mut dyn FnMut(Remark),
    calibration: &'a [Vec<Tensor>],
    rewrites_left: u64,
    /// Rewrites done so far, over all passes that share this context.
    pub rewrites: u64,
}

impl<'a> PassCx<'a> {
    /// A context that hands remarks to a function and stops rewriting after `limit` rewrites.
    pub fn new(pass: &'static str, limit: Option<u64>, remarks: &'a mut dyn FnMut(Remark)) -> Self {
        Self { pass, remarks, calibration: &[], rewrites_left: limit.unwrap_or(u64::MAX), rewrites: 0 }
    }

    /// The same with sets of calibration inputs.
    pub fn with_calibration(self, calibration: &'a [Vec<Tensor>]) -> Self {
        Self { calibration, ..self }
    }

    /// Sets of inputs that stand for what the model will see; empty where the user gave none.
    pub fn calibration(&self) -> &'a [Vec<Tensor>] {
        self.calibration
    }

    /// Asks for one more rewrite; `false` once the limit has been reached.
    pub fn take_rewrite(&mut self) -> bool {
        let granted = self.rewrites_left > 0;
        self.rewrites_left = self.rewrites_left.saturating_sub(1);
        self.rewrites += u64::from(granted);
        granted
    }

    /// Whether another rewrite would be granted.
    pub fn may_rewrite(&self) -> bool {
        self.rewrites_left > 0
    }

    /// Says something about a node.
    pub fn remark(&mut self, graph: &Graph, node: NodeId, rule: &'static str, kind: RemarkKind) {
        let at = graph.node(node);
        let value = at.outputs.first().map_or_else(String::new, |&v| graph.value(v).name.clone());
        let remark = Remark { pass: self.pass, rule, op: at.op.name(), value, origin: at.origin.clone(), kind };
        (self.remarks)(remark);
    }
}

/// What a pass said about one node: the raw material of `--explain`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// The pass.
    pub pass: &'static str,
    /// The rule within it.
    pub rule: &'static str,
    /// The operation of the node.
    pub op: &'static str,
    /// The name of its first output; may be empty.
    pub value: String,
    /// Where the node came from.
    pub origin: Origin,
    /// What happened.
    pub kind: RemarkKind,
}

/// What happened to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RemarkKind {
    /// It was rewritten.
    Applied,
    /// It looks like what the rule wants, but something stands in the way.
    Blocked(Cow<'static, str>),
    /// Something worth knowing.
    Note(String),
    /// Something that a user should know before trusting the result.
    Warning(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.origin.names().is_empty(), self.value.is_empty()) {
            (false, _) => self.origin.to_string(),
            (true, false) => format!("%{}", self.value),
            (true, true) => "(anonymous)".to_owned(),
        };
        write!(f, "{name}: `{}`, {}/{}: ", self.op, self.pass, self.rule)?;
        match &self.kind {
            RemarkKind::Applied => f.write_str("applied"),
            RemarkKind::Blocked(reason) => write!(f, "not applied, {reason}"),
            RemarkKind::Note(text) => f.write_str(text),
            RemarkKind::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

/// Why a pass failed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The graph given to the manager is wrong.
    #[error("the graph is not valid: {}", list(.0))]
    InvalidInput(Vec<Fault>),
    /// What the model holds cannot be compiled.
    #[error("{message}{}", if origin.names().is_empty() { String::new() } else { format!(" (from {origin})") })]
    Input {
        /// What is wrong.
        message: String,
        /// The node it is about.
        origin: Origin,
    },
    /// A fact the pass requires does not hold.
    #[error("pass `{pass}` needs a graph that is {required}: {}", list(.faults))]
    Requirement {
        /// The pass.
        pass: &'static str,
        /// What it requires.
        required: Facts,
        /// What is in the way.
        faults: Vec<Fault>,
    },
    /// The pipeline ended without what was asked of it.
    #[error("after the last pass the graph is not {goal}: {}", list(.faults))]
    Goal {
        /// What was asked.
        goal: Facts,
        /// What is in the way.
        faults: Vec<Fault>,
    },
    /// A pass left a graph that does not verify. This is a bug in bitc.
    #[error("pass `{pass}` left an invalid graph: {}", list(.faults))]
    Broken {
        /// The pass.
        pass: &'static str,
        /// What is wrong.
        faults: Vec<Fault>,
    },
    /// A rule replaced a value by one of another type. This is a bug in bitc.
    #[error("rule `{rule}` of pass `{pass}` changed a type: {error}")]
    Retyped {
        /// The pass.
        pass: &'static str,
        /// The rule.
        rule: &'static str,
        /// The two types.
        error: TypeError,
    },
    /// Rules went on rewriting beyond any reasonable number. This is a bug in bitc.
    #[error("pass `{pass}` does not come to an end; rules still firing: {}", .rules.join(", "))]
    Endless {
        /// The pass.
        pass: &'static str,
        /// The rules that fired last.
        rules: Vec<&'static str>,
    },
    /// The outputs moved further than the pass may move them. This is a bug in bitc.
    #[error("pass `{pass}` changed output `{output}` by {difference:e}, allowed is {allowed:e}")]
    Values {
        /// The pass.
        pass: &'static str,
        /// The output that moved most.
        output: String,
        /// The largest difference, relative to the largest value.
        difference: f64,
        /// What was allowed.
        allowed: f64,
    },
    /// The graph could not be evaluated to compare values.
    #[error("values could not be compared after pass `{pass}`: {message}")]
    NotEvaluated {
        /// The pass, or `input`.
        pass: &'static str,
        /// Why.
        message: String,
    },
}

impl PassError {
    /// Whether the fault lies in bitc and not in what it was given.
    pub fn is_bug(&self) -> bool {
        use PassError::{Broken, Endless, Retyped, Values};
        matches!(self, Broken { .. } | Retyped { .. } | Endless { .. } | Values { .. })
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a pass cannot be built from its parameters.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("pass `{pass}`: {error}")]
pub struct ParamError {
    /// The pass.
    pub pass: &'static str,
    /// What is wrong with a parameter.
    #[source]
    pub error: AttrError,
}
