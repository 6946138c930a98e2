//! The passes of bitc: rewrites of its graph, the manager that runs them, and the table of all of them.
//!
//! One pass is one file named after it. A pass is mostly a list of rules over an editor that rolls back
//! (`rewrite.rs`); the manager (`manager.rs`) checks facts, verifies after every pass and compares values on demand.
//! `logic.rs` holds the passes over netlists, which are no graphs. This crate does no I/O: printing, timing and dumping
//! are observers that the driver brings.
#![forbid(unsafe_code)]

pub mod logic;
pub mod manager;
pub mod pass;
pub mod registry;
pub mod requantize;
pub mod rewrite;
pub mod samples;

mod integers;
mod layer;
mod moves;

pub mod cones_to_logic;
pub mod cse;
pub mod eliminate_dead_code;
pub mod fold_batch_norm;
pub mod fold_constants;
pub mod fold_scales;
pub mod fold_thresholds;
pub mod freeze;
pub mod fuse_bias_and_activation;
pub mod linear_to_bit_linear;
pub mod logic_dont_cares;
pub mod lut_to_logic;
pub mod optimize_logic;
pub mod quantize_before_pool;
pub mod recognize_quantizers;
pub mod rewrite_to_ternary;
pub mod simplify;
pub mod ternarize_weights;

pub use manager::{CheckValues, Observer, Options, PassManager, PassReport, PipelineError, Quiet, Report};
pub use pass::{Changed, ParamError, Pass, PassCx, PassError, Remark, RemarkKind, Values};
pub use registry::{PASSES, PassEntry};
pub use rewrite::{Editor, Miss, Replacement, Rule, rewrite};
