//! `freeze`: ends training for good.
//!
//! `param == const`, and `ternarize(const) == (t, scale)`. After it nothing trainable is left, the graph says so, and the
//! verifier keeps it that way. An artifact comes only from a frozen graph.

use bitc_ir::{AttrError, AttrReader, Facts, Graph, Op};

use crate::fold_constants::FoldConstants;
use crate::pass::{Changed, Pass, PassCx, PassError, Values};

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
        if graph.nodes().any(|(_, n)| matches!(n.op, Op::Ternarize(_))) {
            FoldConstants.run(graph, cx)?;
        }
        if let Some((_, node)) = graph.nodes().find(|(_, n)| matches!(n.op, Op::Ternarize(_))) {
            let message = "weights that are computed while running cannot be frozen".to_owned();
            return Err(PassError::Input { message, origin: node.origin.clone() });
        }
        graph.frozen = true;
        Ok(Changed::Yes)
    }
}
