//! Runnable examples of bitc, one program each under `src/bin`; their tests run them.
//!
//! - `quantize_mlp`: a float network becomes ternary, and what that costs.
//! - `custom_pass`: a pass of one's own in a pipeline.
//! - `embed_runtime`: an artifact in a program that links nothing but the runtime.
#![forbid(unsafe_code)]
