//! Runs an artifact in a program that links the runtime and nothing else of bitc.
//!
//! `embed_runtime model.bit` fills every f32 input with 0, 1/n, 2/n .. for one sample and prints the outputs.
//!
//! `run` is all that concerns bitc; around it are the ways into a program. `hosted` is the usual one. A small build has
//! the size profile and the runtime's `minimal` feature, which needs no standard library, so `bare` does without:
//!
//! `cargo build -p embed_runtime --profile size --features minimal`
#![cfg_attr(all(feature = "minimal", panic = "abort", target_os = "linux"), no_std, no_main)]

extern crate alloc;

#[cfg(all(feature = "minimal", panic = "abort", target_os = "linux"))]
#[expect(unsafe_code, reason = "a program without the standard library talks to the C library itself")]
mod bare;
#[cfg(not(all(feature = "minimal", panic = "abort", target_os = "linux")))]
mod hosted;
mod run;

#[cfg(not(all(feature = "minimal", panic = "abort", target_os = "linux")))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    hosted::main()
}
