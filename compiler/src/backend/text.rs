//! The text of the IR, `.bir`.

use bitc_ir::Graph;
use bitc_ir::text::{PrintOptions, print_with};

use super::{Exporter, Options};
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

    fn export(&self, graph: &Graph, _: &Options) -> Result<Vec<u8>, Failure> {
        Ok(print_with(graph, &PrintOptions::full()).into_bytes())
    }
}
