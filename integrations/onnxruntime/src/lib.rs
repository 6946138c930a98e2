//! A library of custom operators for onnxruntime: the operators of `ai.bitc` on bitc's kernels.
//!
//! ```python
//! options = onnxruntime.SessionOptions()
//! options.register_custom_ops_library("libbitc_onnxruntime.so")
//! session = onnxruntime.InferenceSession("model.onnx", options)
//! ```
//!
//! A model that `bitc export` wrote runs without this library as well: onnxruntime then takes the bodies of the operators.
//! With it, an operator that is registered here wins over its body. `TernaryWeight` alone keeps its body, which onnxruntime
//! computes once when it loads a model. `onnx/AI_BITC.md` defines what each
//! computes.
//!
//! `abi.rs` declares the part of onnxruntime's C interface that is used, `api.rs` makes it safe, `operator.rs` turns a
//! Rust type into an operator. The operators themselves are safe code: quantisers and fully connected layers call the
//! kernels, and what stands in `ops/compiled.rs` is compiled, each node by itself, to a program for the runtime.

mod abi;
mod api;
mod operator;
mod ops;
mod program;
mod scratch;
#[cfg(test)]
mod tests;

pub use abi::{ApiBase, SessionOptions, Status};
use api::Api;

/// The domain of the operators.
const DOMAIN: &std::ffi::CStr = c"ai.bitc";

/// What onnxruntime calls when the library is registered.
///
/// # Safety
/// `options` and `base` are what onnxruntime passes to the entry point of a library of custom operators.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "this is the entry point that onnxruntime looks up by its name")]
pub unsafe extern "system" fn RegisterCustomOps(options: *mut SessionOptions, base: *const ApiBase) -> *mut Status {
    // SAFETY: the caller passes the base of its interface, which lives as long as the process.
    let api = unsafe { Api::from_base(base) };
    let Some(api) = api else { return std::ptr::null_mut() };
    // SAFETY: the caller passes the options of a session that is being set up.
    match unsafe { api.register(options, DOMAIN, ops::all()) } {
        Ok(()) => std::ptr::null_mut(),
        Err(fault) => api.status(&fault),
    }
}
