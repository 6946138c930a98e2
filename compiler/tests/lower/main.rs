//! Lowering against the reference evaluator: what a graph means is what its artifact computes, with every set of
//! kernels this machine has.

mod chains;
mod faults;
mod harness;
mod layers;
mod network;
mod ops;
mod plan;
mod requantize;
