//! What says which outputs are right: the evaluator, another engine, or arrays that another engine wrote.

use std::path::Path;

use bitc_ir::{Graph, Tensor};
use clap::ValueEnum;

use crate::cli::inputs;
use crate::error::{Diagnostic, Failure};
#[cfg(feature = "tract")]
use crate::frontend::Source;
use crate::runnable::Runnable;
use crate::verify::reference;

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Reference {
    /// The reference evaluator.
    Eval,
    /// tract, an engine that shares no code with bitc.
    Tract,
}

/// What says which outputs are right.
pub(super) enum Oracle {
    /// The reference evaluator.
    Evaluator,
    /// The model's own file in tract.
    #[cfg(feature = "tract")]
    Tract(crate::oracle::Oracle),
    /// Outputs that came with the inputs.
    Given(Vec<Tensor>),
}

impl Oracle {
    #[cfg(feature = "tract")]
    pub(super) fn engine(reference: Reference, path: &Path) -> Result<Self, Diagnostic> {
        Ok(match reference {
            Reference::Eval => Oracle::Evaluator,
            Reference::Tract => Oracle::Tract(crate::oracle::Oracle::new(Source::read(path)?)?),
        })
    }

    #[cfg(not(feature = "tract"))]
    pub(super) fn engine(reference: Reference, _: &Path) -> Result<Self, Diagnostic> {
        match reference {
            Reference::Eval => Ok(Oracle::Evaluator),
            Reference::Tract => Err(Diagnostic::unsupported("this build has no tract to compare with")
                .hint("`cargo install --features tract` builds it in")),
        }
    }

    /// The arrays that `[NAME=]FILE` texts name.
    pub(super) fn given(texts: &[String], model: &Runnable) -> Result<Self, Failure> {
        Ok(Oracle::Given(inputs::read_expected(texts, model)?))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Oracle::Evaluator => "the evaluator",
            #[cfg(feature = "tract")]
            Oracle::Tract(_) => "tract",
            Oracle::Given(_) => "the expected outputs",
        }
    }

    /// The graph that is run, where it can be looked into.
    pub(super) fn graph<'m>(&self, model: &'m Runnable) -> Option<&'m Graph> {
        match (self, model) {
            (Oracle::Evaluator, Runnable::Graph(graph)) => Some(graph),
            _ => None,
        }
    }

    pub(super) fn run(&self, model: &Runnable, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
        match self {
            Oracle::Evaluator => reference(model, inputs),
            #[cfg(feature = "tract")]
            Oracle::Tract(oracle) => oracle.run(inputs),
            Oracle::Given(outputs) => Ok(outputs.clone()),
        }
    }
}
