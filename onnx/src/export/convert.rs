//! Tensors, types and attributes as messages.

use bitc_ir::{Attr, DType, Dim, Shape, Tensor, TensorType};
use bytes::Bytes;

use crate::proto::{
    AttributeProto, Dimension, DimensionValue, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue,
    ValueInfoProto, attribute_type as kind, data_type,
};

/// The element type under which values of a type are written. Types of fewer than eight bits are written as bytes: as
/// such, few operators take them.
pub(super) fn onnx_type(dtype: DType) -> i32 {
    match dtype {
        DType::T2 | DType::I2 | DType::I4 => data_type::INT8,
        DType::U2 | DType::U4 => data_type::UINT8,
        whole => crate::import::tensor::data_type_of(whole),
    }
}

/// A constant without a name. The bytes are shared.
pub(super) fn tensor_proto(tensor: &Tensor) -> TensorProto {
    /// Bytes that stay with their owner.
    struct Owner(bitc_ir::Blob);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    raw(onnx_type(tensor.dtype()), tensor.dims(), Bytes::from_owner(Owner(tensor.blob().clone())))
}

/// A constant of bytes that are there already.
pub(super) fn raw(data_type: i32, dims: &[usize], bytes: Bytes) -> TensorProto {
    let dims = dims.iter().map(|&d| d as i64).collect();
    TensorProto { data_type, dims, raw_data: Some(bytes), ..TensorProto::default() }
}

/// The name and type of a value.
pub(super) fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: ty.shape.0.iter().map(dimension).collect() });
    let tensor = TensorTypeProto { elem_type: onnx_type(ty.dtype), shape };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
}

fn dimension(dim: &Dim) -> Dimension {
    let value = match dim.as_const() {
        Some(n) => DimensionValue::Value(n as i64),
        None => DimensionValue::Param(dim.to_string()),
    };
    Dimension { value: Some(value) }
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() }
}

pub(super) fn attr_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, kind::INT) }
}

pub(super) fn attr_float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, kind::FLOAT) }
}

pub(super) fn attr_str(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::copy_from_slice(value.as_bytes())), ..attribute(name, kind::STRING) }
}

pub(super) fn attr_ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, kind::INTS) }
}

pub(super) fn attr_floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, kind::FLOATS) }
}

/// Sizes as an attribute.
pub(super) fn attr_sizes(name: &str, values: &[usize]) -> AttributeProto {
    attr_ints(name, &values.iter().map(|&v| v as i64).collect::<Vec<_>>())
}

/// In the body of a function: the attribute `name` of a node is the attribute `of` of the call.
pub(super) fn reference(name: &str, of: &str, r#type: i32) -> AttributeProto {
    AttributeProto { ref_attr_name: of.to_owned(), ..attribute(name, r#type) }
}

/// An attribute of an operation that bitc does not know; `None` for what ONNX has no attribute of.
pub(super) fn any_attr(name: &str, value: &Attr) -> Option<AttributeProto> {
    let strings = |list: &[String]| list.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
    Some(match value {
        Attr::Bool(v) => attr_int(name, i64::from(*v)),
        Attr::Int(v) => attr_int(name, *v),
        Attr::Float(v) => attr_float(name, *v),
        Attr::Str(v) => attr_str(name, v),
        Attr::Ints(v) => attr_ints(name, v),
        Attr::Floats(v) => attr_floats(name, v),
        Attr::Strs(v) => AttributeProto { strings: strings(v), ..attribute(name, kind::STRINGS) },
        Attr::Tensor(v) => AttributeProto { t: Some(Box::new(tensor_proto(v))), ..attribute(name, kind::TENSOR) },
        Attr::Shape(_) | Attr::Netlist(_) => return None,
    })
}

/// The dimensions of a shape without symbols.
pub(super) fn fixed(shape: &Shape) -> Option<Vec<i64>> {
    shape.to_fixed().map(|dims| dims.into_iter().map(|d| d as i64).collect())
}
