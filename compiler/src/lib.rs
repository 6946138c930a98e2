//! The driver of bitc as a library: models in, artifacts out.
//!
//! ```
//! use bitc::frontend::Source;
//!
//! let text = b"graph @twice(%x: f32[N, 2]) { %y = add(%x, %x) : f32[N, 2]  return %y }";
//! let source = Source { path: "twice.bir".into(), bytes: bitc_ir::Blob::new(text.to_vec()) };
//! let compiled = bitc::compile(&source, &bitc::Options::default())?;
//! assert!(compiled.artifact.starts_with(b"BITC"));
//! # Ok::<(), bitc::error::Failure>(())
//! ```
//! The command line in [`cli`] is a thin layer over this. Nothing here prints.

pub mod agreement;
pub mod backend;
pub mod bench;
pub mod bisect;
pub mod cli;
mod clock;
pub mod compile;
pub mod error;
pub mod explain;
pub mod export;
pub mod files;
pub mod frontend;
pub mod input;
pub mod lower;
pub mod notes;
pub mod npy;
pub mod observe;
#[cfg(feature = "tract")]
pub mod oracle;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod random;
pub mod runnable;
pub mod summary;
pub mod verify;
pub mod weights;

pub use compile::{Compiled, Options, compile};
