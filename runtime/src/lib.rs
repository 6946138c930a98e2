//! The runtime: loads a bitc artifact and runs it.
//!
//! A [`Program`] is an artifact that was checked once; it is shared between threads. A [`Session`] is the memory of one
//! caller. A run with input sizes that the session has seen allocates nothing.
//!
//! ```
//! use bitc_format::inst::{Domain, Map, MapOp, Step};
//! use bitc_format::{ArtifactWriter, DType, DTypeSet};
//! use bitc_runtime::{Limits, Program, Session, View, ViewMut};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // y = x * 2, usually written by the compiler.
//! let mut writer = ArtifactWriter::new();
//! let n = writer.symbol("N");
//! let n = writer.symbol_dim(n);
//! let (a, b) = (writer.slot(), writer.slot());
//! let x = writer.buffer(DType::F32, &[n], 1, a);
//! let y = writer.buffer(DType::F32, &[n], 1, b);
//! writer.input("x", x, DTypeSet::of(&[DType::F32]));
//! writer.output("y", y, DTypeSet::of(&[DType::F32]));
//! let steps = vec![Step { op: MapOp::Mul, args: [0, 1, 0] }];
//! let consts = vec![u64::from(2.0f32.to_bits())];
//! writer.push(Map { y, domain: Domain::F32, xs: vec![x.into()], consts, steps, result: 2 });
//!
//! let program = Program::from_bytes(&writer.finish()?, &Limits::default())?;
//! let mut session = Session::new(&program);
//! let mut y = [0.0f32; 3];
//! session.run(&[View::of(&[3], &[1.0f32, 2.5, -4.0])], &mut [ViewMut::of(&[3], &mut y)])?;
//! assert_eq!(y, [2.0, 5.0, -8.0]);
//! # Ok(())
//! # }
//! ```

#![no_std]

extern crate alloc;
// The minimal runtime needs none of it.
#[cfg(any(test, feature = "threads", not(feature = "minimal")))]
extern crate std;

mod arena;
mod bind;
mod convert;
mod error;
mod exec;
mod extents;
mod frame;
mod isa;
pub mod kernels;
#[cfg(feature = "threads")]
mod pool;
mod program;
mod session;
#[cfg(not(feature = "minimal"))]
mod trace;
mod view;

pub use arena::Pod;
pub use bitc_format::{DType, DTypeSet};
pub use error::{LoadError, RunError};
pub use kernels::Kernels;
pub use program::{Limits, Port, PortDim, Program};
pub use session::Session;
#[cfg(not(feature = "minimal"))]
pub use trace::{Executed, Trace};
pub use view::{Element, View, ViewMut, len_bytes};
