//! ModelProto to graph.

pub mod tensor;
