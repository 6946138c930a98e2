//! `freeze`: ends training for good.
//!
//! `param == const`, and `ternarize(const) == (t, scale)`. After it nothing trainable is left, the graph says so, and the
//! verifier keeps it that way. An artifact comes only from a frozen graph.

use bitc_ir::ops::EvalCx;
use bitc_ir::{AttrError, AttrReader, Facts, Graph, NodeId, Op, Tensor};

use crate::pass::{Changed, Pass, PassCx, PassError, Values};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct Freeze;

impl Freeze {
    pub(crate) const NAME: &'static str = "freeze";
    pub(crate) const DOC: &'static str =
        "Turns parameters into constants and marks the graph: nothing trainable is left.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for Freeze {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn establishes(&self) -> Facts {
        Facts::NO_TRAINABLE | Facts::FROZEN
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        if graph.frozen {
            return Ok(Changed::No);
        }
        graph.params_to_consts();
        rewrite(graph, &[Rule { name: "ternarize", apply: &ternarize }], Self::NAME, cx)?;
        let left = graph.nodes().find(|(_, n)| matches!(n.op, Op::Ternarize(_)));
        if let Some((id, node)) = left.filter(|_| cx.may_rewrite()) {
            let message = match node.inputs[0].and_then(|w| graph.constant(w)) {
                None => "weights that are computed while running cannot be frozen".to_owned(),
                Some(w) => format!("weights cannot be made ternary: {}", failure(graph, id, w)),
            };
            return Err(PassError::Input { message, origin: node.origin.clone() });
        }
        // Where a limit on rewrites left something to do, the graph is not frozen yet.
        graph.frozen = left.is_none();
        Ok(Changed::Yes)
    }
}

/// `ternarize(const) == (t, scale)`.
fn ternarize(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Ternarize(_) = g.node(node).op else { return Err(Miss::NoMatch) };
    let weights = g.input(node, 0).and_then(|w| g.constant(w)).ok_or(Miss::NoMatch)?;
    let results = g.node(node).op.eval(vec![Some(weights)], &EvalCx { bind: &|_| None }).map_err(|_| Miss::NoMatch)?;
    let outputs = g.node(node).outputs.clone();
    let pairs = outputs.into_iter().zip(results).map(|(old, tensor)| (old, g.add_const("", tensor)));
    Ok(Replacement::Values(pairs.collect()))
}

fn failure(graph: &Graph, node: NodeId, weights: &Tensor) -> String {
    let result = graph.node(node).op.eval(vec![Some(weights)], &EvalCx { bind: &|_| None });
    result.err().map_or_else(String::new, |e| e.to_string())
}
