//! Runnable examples of bitc, one program each under `src/bin`; their tests run them. `embed` beside them is a program
//! that links nothing but the runtime.
//!
//! - `quantize_mlp`: a float network becomes ternary, and what that costs.
//! - `custom_pass`: a pass of one's own in a pipeline.
#![forbid(unsafe_code)]
