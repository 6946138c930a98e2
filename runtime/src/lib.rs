//! The runtime.

mod isa;
pub mod kernels;
