//! The text form of the IR: [`print()`] and [`parse()`] are inverse to each other.
//!
//! `IR.md` is the normative grammar. Constants of more than [`PrintOptions::elide_above`] elements print as
//! `elided(..)`, which reads well and cannot be parsed; [`PrintOptions::full`] prints everything.

mod build;
mod data;
mod lex;
mod parse;
mod print;

use std::fmt;

use crate::attr::Attrs;
use crate::netlist::Netlist;
use crate::tensor::Tensor;
use crate::types::TensorType;

pub use parse::MAX_LEN_BYTES;
pub use print::{PrintOptions, print, print_with};

/// A place in a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// Counted from 1.
    pub line: u32,
    /// Counted in characters from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing wrong with a text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {message}")]
pub struct ParseError {
    /// Where it is.
    pub at: Position,
    /// What it is.
    pub message: String,
}

/// Finds data that a text only refers to: `file("w.bin", offset, length)` and `packed(index)`.
pub trait Resolver {
    /// The tensor of type `ty` that the reference stands for.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn resolve(&self, reference: &Reference, ty: &TensorType) -> Result<Tensor, String>;

    /// The netlist that `netlist packed(index)` stands for.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn netlist(&self, _index: u32) -> Result<Netlist, String> {
        Err("this text may not refer to netlists outside itself".to_owned())
    }
}

/// A reference to data outside the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reference {
    /// A range of bytes in a file.
    File {
        /// The path as written.
        path: String,
        /// Where the data begins.
        offset: u64,
        /// How many bytes it has.
        len: u64,
    },
    /// A constant of the artifact that carries the text.
    Packed(u32),
}

/// A resolver for texts that refer to nothing.
pub struct NoReferences;

impl Resolver for NoReferences {
    fn resolve(&self, _: &Reference, _: &TensorType) -> Result<Tensor, String> {
        Err("this text may not refer to data outside itself".to_owned())
    }
}

/// Reads a graph.
///
/// # Errors
/// The first fault of syntax, or all faults of meaning (types, names, attributes).
pub fn parse(text: &str, resolver: &dyn Resolver) -> Result<crate::Graph, Vec<ParseError>> {
    let syntax = parse::parse(text).map_err(|e| vec![e])?;
    build::build(syntax, resolver)
}

/// Reads attributes as they follow the inputs of a node: `{tolerance = 1e-5, weight_only = true}`.
///
/// # Errors
/// The first fault of syntax, or all faults of meaning.
pub fn parse_attrs(text: &str) -> Result<Attrs, Vec<ParseError>> {
    let syntax = parse::parse_attrs(text).map_err(|e| vec![e])?;
    build::build_attrs(syntax)
}
