//! The driver library.

pub mod error;
pub mod files;
pub mod frontend;
pub mod input;
pub mod npy;
pub mod output;
pub mod weights;
