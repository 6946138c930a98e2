//! The driver library.

pub mod backend;
pub mod error;
pub mod files;
pub mod frontend;
pub mod input;
pub mod lower;
pub mod npy;
pub mod output;
pub mod plan;
pub mod weights;
