//! ONNX in the form of `bitc export`: operators of `ai.bitc` with bodies.

use bitc_ir::Graph;

use super::{Content, Exporter, Options};
use crate::error::Failure;
use crate::export;

/// Writes a model with its weights inside.
pub struct Onnx;

impl Exporter for Onnx {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["onnx"]
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        Ok(export::export(graph, &export::Options::default())?.model.into())
    }
}
