//! The intermediate representation of bitc: types, tensors, the typed graph and what works on it.
//!
//! This crate does no I/O and imports none of the other crates of bitc. `IR.md` beside it is the normative description
//! of the text form.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod attr;
pub mod eval;
pub mod graph;
pub mod netlist;
pub mod ops;
pub mod random;
pub mod shape_value;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use attr::{Attr, AttrError, AttrReader, Attrs};
pub use graph::{Graph, Node, NodeId, Origin, Output, Uses, Value, ValueDef, ValueId};
pub use ops::{Op, OpDef, OpInfo, TypeError};
pub use tensor::{Blob, Element, Tensor, TensorError};
pub use types::{DType, Dim, Shape, Symbol, TensorType};
pub use verify::{Facts, Fault};
