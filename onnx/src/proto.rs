//! The ONNX messages that bitc reads and writes, by hand: prost structs with ONNX's field numbers, IR versions 3 to 14.
//!
//! Byte fields are [`Bytes`], so a weight decoded from a file is a slice of that file. Fields that bitc has no use for
//! (training, device configurations, maps and sequences) are left out and skipped when read. `limits.rs` walks the same
//! messages before anything is decoded; a field added here that holds a message is added there as well.

use bytes::Bytes;
use prost::{Message, Oneof};

/// The whole file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Operator sets that the nodes of the graph refer to.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The tool that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The version of that tool.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Namespace of the model.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// Version of the model.
    #[prost(int64, tag = "5")]
    pub model_version: i64,
    /// Free text.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The computation.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Free key-value pairs.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Model-local functions.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// A graph, or the body of a control-flow attribute.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// The name of the graph.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Named constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Named sparse constants; the name is that of the values.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Free text.
    #[prost(string, tag = "10")]
    pub doc_string: String,
    /// Inputs; below IR version 4 also every initializer.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of values in between.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Free key-value pairs.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// One operation.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the inputs; an empty name is an absent input.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the outputs; an empty name is an output nobody wants.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The name of the node; may be empty or used twice.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// The operator's domain; empty and `ai.onnx` are the same.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Which of several functions of one name is called.
    #[prost(string, tag = "8")]
    pub overload: String,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Free text.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// Free key-value pairs; torch writes the source position here.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Values of `AttributeProto::type`.
pub mod attribute_type {
    /// Not stated.
    pub const UNDEFINED: i32 = 0;
    /// `f`.
    pub const FLOAT: i32 = 1;
    /// `i`.
    pub const INT: i32 = 2;
    /// `s`.
    pub const STRING: i32 = 3;
    /// `t`.
    pub const TENSOR: i32 = 4;
    /// `g`.
    pub const GRAPH: i32 = 5;
    /// `floats`.
    pub const FLOATS: i32 = 6;
    /// `ints`.
    pub const INTS: i32 = 7;
    /// `strings`.
    pub const STRINGS: i32 = 8;
    /// `tensors`.
    pub const TENSORS: i32 = 9;
    /// `graphs`.
    pub const GRAPHS: i32 = 10;
    /// `sparse_tensor`.
    pub const SPARSE_TENSOR: i32 = 11;
}

/// A named value of a node.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// In a function body: the attribute of the function whose value this takes.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    /// Free text.
    #[prost(string, tag = "13")]
    pub doc_string: String,
    /// Which field holds the value: [`attribute_type`].
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    /// A float.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// A string, UTF-8 by convention.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// A tensor.
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<TensorProto>>,
    /// A graph.
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    /// A sparse tensor.
    #[prost(message, optional, boxed, tag = "22")]
    pub sparse_tensor: Option<Box<SparseTensorProto>>,
    /// Floats.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
}

/// Values of `TensorProto::data_type` and of a type's `elem_type`.
pub mod data_type {
    /// Not stated.
    pub const UNDEFINED: i32 = 0;
    /// IEEE single precision.
    pub const FLOAT: i32 = 1;
    /// Eight bits, unsigned.
    pub const UINT8: i32 = 2;
    /// Eight bits, signed.
    pub const INT8: i32 = 3;
    /// Sixteen bits, unsigned.
    pub const UINT16: i32 = 4;
    /// Sixteen bits, signed.
    pub const INT16: i32 = 5;
    /// Thirty-two bits, signed.
    pub const INT32: i32 = 6;
    /// Sixty-four bits, signed.
    pub const INT64: i32 = 7;
    /// Text.
    pub const STRING: i32 = 8;
    /// 0 or 1.
    pub const BOOL: i32 = 9;
    /// IEEE half precision.
    pub const FLOAT16: i32 = 10;
    /// IEEE double precision.
    pub const DOUBLE: i32 = 11;
    /// Thirty-two bits, unsigned.
    pub const UINT32: i32 = 12;
    /// Sixty-four bits, unsigned.
    pub const UINT64: i32 = 13;
    /// Two floats.
    pub const COMPLEX64: i32 = 14;
    /// Two doubles.
    pub const COMPLEX128: i32 = 15;
    /// Upper half of a float.
    pub const BFLOAT16: i32 = 16;
    /// Eight-bit float, 4 bits of exponent, no infinity.
    pub const FLOAT8E4M3FN: i32 = 17;
    /// Eight-bit float, 4 bits of exponent, no negative zero.
    pub const FLOAT8E4M3FNUZ: i32 = 18;
    /// Eight-bit float, 5 bits of exponent.
    pub const FLOAT8E5M2: i32 = 19;
    /// Eight-bit float, 5 bits of exponent, no negative zero.
    pub const FLOAT8E5M2FNUZ: i32 = 20;
    /// Four bits, unsigned; two in a byte, the first in the low half.
    pub const UINT4: i32 = 21;
    /// Four bits, signed; two in a byte, the first in the low half.
    pub const INT4: i32 = 22;
    /// Four-bit float.
    pub const FLOAT4E2M1: i32 = 23;
    /// Eight bits of exponent.
    pub const FLOAT8E8M0: i32 = 24;
    /// Two bits, unsigned; four in a byte, the first in the lowest bits.
    pub const UINT2: i32 = 25;
    /// Two bits, signed; four in a byte, the first in the lowest bits.
    pub const INT2: i32 = 26;
    /// Six-bit float, 2 bits of exponent.
    pub const FLOAT6E2M3: i32 = 27;
    /// Six-bit float, 3 bits of exponent.
    pub const FLOAT6E3M2: i32 = 28;
}

/// Where a tensor's data is, if not in the message.
pub const EXTERNAL: i32 = 1;

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// The dimensions.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The element type: [`data_type`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Present where the tensor is only a part of one.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Elements of `FLOAT`.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of the integer types to 32 bits, `BOOL`, and the bits of `FLOAT16` and `BFLOAT16`; packed bytes of the sub-byte types.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements of `STRING`.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// Elements of `INT64`.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The name of the constant.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Free text.
    #[prost(string, tag = "12")]
    pub doc_string: String,
    /// Elements of any type as little-endian bytes.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Where the bytes are, if `data_location` is [`EXTERNAL`].
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// In this message (0) or in another file ([`EXTERNAL`]).
    #[prost(int32, tag = "14")]
    pub data_location: i32,
    /// Elements of `DOUBLE`.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of `UINT32` and `UINT64`.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
}

/// The part of a tensor that a message holds.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Segment {
    /// First element.
    #[prost(int64, tag = "1")]
    pub begin: i64,
    /// One past the last element.
    #[prost(int64, tag = "2")]
    pub end: i64,
}

/// A constant that lists its elements that are not zero.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The elements, rank 1.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Their places: rank 1 in row-major order, or rank 2 with one row per element.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The dimensions of the dense tensor.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// A named value and its type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type, where known.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Free text.
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

/// The type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// Which kind of type.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<TypeValue>,
}

/// The kinds of types. Only tensors have an inside here; the others are named in errors.
#[derive(Clone, PartialEq, Oneof)]
pub enum TypeValue {
    /// A tensor.
    #[prost(message, tag = "1")]
    Tensor(TensorTypeProto),
    /// A sequence.
    #[prost(message, tag = "4")]
    Sequence(OpaqueType),
    /// A map.
    #[prost(message, tag = "5")]
    Map(OpaqueType),
    /// An opaque type.
    #[prost(message, tag = "7")]
    Opaque(OpaqueType),
    /// A sparse tensor.
    #[prost(message, tag = "8")]
    SparseTensor(OpaqueType),
    /// An optional value.
    #[prost(message, tag = "9")]
    Optional(OpaqueType),
}

/// A type that bitc does not look into.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct OpaqueType {}

/// The element type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// The element type: [`data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// The shape; absent where not even the rank is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// The dimensions of a tensor type.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// The dimensions, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One dimension: a number, a name, or unknown.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// The number or the name.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
}

/// What is known of a dimension.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    /// A number.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// A name.
    #[prost(string, tag = "2")]
    Param(String),
}

/// An operator set and its version.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// The domain; empty and `ai.onnx` are the same.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A model-local function.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// The name, which nodes use as their operator.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Names of the inputs inside the body.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of the outputs inside the body.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Attributes without default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// The body.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// Free text.
    #[prost(string, tag = "8")]
    pub doc_string: String,
    /// Operator sets that the nodes of the body refer to.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The domain.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Tells functions of the same domain and name apart.
    #[prost(string, tag = "13")]
    pub overload: String,
    /// Types of values in the body.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Free key-value pairs.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A key and a value.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}
