//! Every instruction against a plain loop: through an artifact, on every kernel set of this machine.

mod harness;
mod quantized;
