//! ONNX in and out of the graph of bitc.
//!
//! Reading is `import.rs` over `proto.rs`; what a hostile file may take is bounded in `limits.rs`, and data beside the
//! model is had through a [`Resolver`](external::Resolver). This crate opens no file.
#![forbid(unsafe_code)]

pub mod error;
pub mod export;
pub mod external;
mod functions;
pub mod import;
pub mod limits;
pub mod op_map;
pub mod proto;

pub use error::{Cause, Fault, ImportError, NodePlace};
