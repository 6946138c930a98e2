//! Models built message by message, imported, and evaluated or refused.

mod builder;
mod composed;
mod corrupt;
mod faults;
mod functions;
mod fused;
mod models;
mod operators;
mod sequences;
mod shapes;
mod tensors;
mod windows;
