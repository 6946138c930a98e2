//! The wire format of bitc artifacts (`.bit`): one writer, one validating reader, the instruction set and the weight
//! layouts. FORMAT.md beside this crate is the byte-level specification.
//!
//! [`Artifact::parse`] is the only way to get at the contents of an artifact, and it checks everything that can be
//! checked without knowing the sizes of symbolic dimensions. [`Contents::check`] repeats the same contracts once those
//! are known. Nothing here computes a layer; that is the runtime's business.
//!
//! The crate has no dependencies, needs no `std`, and does not panic on any input.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

extern crate alloc;

mod buffers;
mod check;
mod consts;
mod contract;
mod crc;
mod cursor;
mod dims;
mod dtype;
mod error;
mod image;
pub mod inst;
pub mod layout;
pub mod logic;
mod meta;
mod networks;
mod notes;
mod ports;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use buffers::{Buffer, BufferId, SlotId};
pub use consts::{Const, ConstId};
pub use contract::{Cx, Operand, Shape, Ty};
pub use dims::{DimExpr, DimId, Dims, SymbolId};
pub use dtype::{DType, DTypeSet};
pub use error::{ErrorKind, Fault, FormatError};
pub use image::{Image, Shared};
pub use inst::Inst;
pub use layout::{Layout, LayoutError};
pub use meta::{Layer, Meta};
pub use notes::Note;
pub use ports::Port;
pub use read::{Artifact, Contents};
pub use write::ArtifactWriter;

/// The largest rank of a buffer or constant.
pub const MAX_RANK: usize = 8;
/// The alignment of sections and of constants inside `data`.
pub const ALIGN: usize = 64;
/// The version that this crate writes; it reads this major version and any minor one.
pub const VERSION: (u16, u16) = (1, 1);
