//! `eliminate-dead-code`: drops what no output needs.
//!
//! Sound because an operation has no effect but its outputs.

use bitc_ir::{AttrError, AttrReader, Graph};

use crate::pass::{Changed, Pass, PassCx, PassError, Values};

/// See the module.
#[derive(Debug)]
pub struct EliminateDeadCode;

impl EliminateDeadCode {
    pub(crate) const NAME: &'static str = "eliminate-dead-code";
    pub(crate) const DOC: &'static str = "Drops nodes and constants that no output needs.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for EliminateDeadCode {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, _: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let size = |g: &Graph| (g.nodes().len(), g.values().len());
        let before = size(graph);
        graph.compact();
        Ok(Changed::when(size(graph) != before))
    }
}
