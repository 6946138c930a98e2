//! The dot language of graphviz.

use bitc_ir::Graph;

use super::{Content, Exporter, Options};
use crate::error::Failure;

/// Writes a picture of a graph.
pub struct Dot;

impl Exporter for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["dot", "gv"]
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        Ok(bitc_ir::analysis::dot(graph).into_bytes().into())
    }
}
