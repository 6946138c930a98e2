//! The text of the IR, `.bir`.

use bitc_ir::Graph;
use bitc_ir::text::{PrintOptions, print_with};

use super::{Content, Exporter, Options};
use crate::error::Failure;

/// Writes the text of a graph; what it writes can be read again.
pub struct Text;

impl Exporter for Text {
    fn name(&self) -> &'static str {
        "bir"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["bir"]
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        Ok(print_with(graph, &PrintOptions::full()).into_bytes().into())
    }
}
