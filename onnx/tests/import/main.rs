//! Models built message by message, imported, and evaluated or refused.

mod builder;
mod tensors;
