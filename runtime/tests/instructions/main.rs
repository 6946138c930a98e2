//! Every instruction against a plain loop: through an artifact, on every kernel set of this machine.

#[cfg(not(feature = "minimal"))]
mod dense;
mod elementwise;
mod harness;
#[cfg(not(feature = "minimal"))]
mod index;
mod logic;
#[cfg(not(feature = "minimal"))]
mod moves;
mod quantized;
#[cfg(not(feature = "minimal"))]
mod reduce;
#[cfg(not(feature = "minimal"))]
mod wide;
