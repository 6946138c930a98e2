//! The intermediate representation of bitc: types, tensors, the typed graph and what works on it.
//!
//! This crate does no I/O and imports none of the other crates of bitc. `IR.md` beside it is the normative description
//! of the text form.
#![forbid(unsafe_code)]

pub mod tensor;
pub mod types;

pub use tensor::{Blob, Element, Tensor, TensorError};
pub use types::{DType, Dim, Shape, Symbol, TensorType};
