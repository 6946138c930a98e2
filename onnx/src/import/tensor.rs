//! TensorProto to [`Tensor`]: every numeric element type, raw and typed fields, packed sub-byte types, sparse, external.
//!
//! Bytes that are laid out as a tensor wants them stay a slice of the file. What has to be converted or unpacked is
//! charged to the budget first. A tensor whose data does not have exactly the length that its dimensions ask for is
//! refused.

use bitc_ir::{Blob, DType, Tensor};

use crate::error::{Cause, quoted};
use crate::external::{Extent, Resolver};
use crate::limits::Budget;
use crate::proto::{self, SparseTensorProto, TensorProto, data_type};

/// The element type of ONNX's number, or the name of one that has no counterpart.
pub fn dtype(number: i32) -> Result<DType, &'static str> {
    Ok(match number {
        data_type::FLOAT => DType::F32,
        data_type::UINT8 => DType::U8,
        data_type::INT8 => DType::I8,
        data_type::UINT16 => DType::U16,
        data_type::INT16 => DType::I16,
        data_type::INT32 => DType::I32,
        data_type::INT64 => DType::I64,
        data_type::BOOL => DType::Bool,
        data_type::FLOAT16 => DType::F16,
        data_type::DOUBLE => DType::F64,
        data_type::UINT32 => DType::U32,
        data_type::UINT64 => DType::U64,
        data_type::BFLOAT16 => DType::BF16,
        data_type::UINT4 => DType::U4,
        data_type::INT4 => DType::I4,
        data_type::UINT2 => DType::U2,
        data_type::INT2 => DType::I2,
        data_type::STRING => return Err("string"),
        data_type::COMPLEX64 => return Err("complex64"),
        data_type::COMPLEX128 => return Err("complex128"),
        data_type::FLOAT8E4M3FN => return Err("float8e4m3fn"),
        data_type::FLOAT8E4M3FNUZ => return Err("float8e4m3fnuz"),
        data_type::FLOAT8E5M2 => return Err("float8e5m2"),
        data_type::FLOAT8E5M2FNUZ => return Err("float8e5m2fnuz"),
        data_type::FLOAT4E2M1 => return Err("float4e2m1"),
        data_type::FLOAT8E8M0 => return Err("float8e8m0"),
        data_type::FLOAT6E2M3 => return Err("float6e2m3"),
        data_type::FLOAT6E3M2 => return Err("float6e3m2"),
        data_type::UNDEFINED => return Err("undefined"),
        _ => return Err("unknown"),
    })
}

/// ONNX's number of an element type; `t2` is written as INT2.
pub fn data_type_of(dtype: DType) -> i32 {
    match dtype {
        DType::Bool => data_type::BOOL,
        DType::T2 | DType::I2 => data_type::INT2,
        DType::U2 => data_type::UINT2,
        DType::I4 => data_type::INT4,
        DType::U4 => data_type::UINT4,
        DType::I8 => data_type::INT8,
        DType::U8 => data_type::UINT8,
        DType::I16 => data_type::INT16,
        DType::U16 => data_type::UINT16,
        DType::I32 => data_type::INT32,
        DType::U32 => data_type::UINT32,
        DType::I64 => data_type::INT64,
        DType::U64 => data_type::UINT64,
        DType::F16 => data_type::FLOAT16,
        DType::BF16 => data_type::BFLOAT16,
        DType::F32 => data_type::FLOAT,
        DType::F64 => data_type::DOUBLE,
    }
}

/// Decodes a dense constant.
///
/// # Errors
/// If its type is not supported, its data does not fit its dimensions, or the budget or the resolver refuses.
pub fn dense(proto: &TensorProto, files: &mut dyn Resolver, budget: &mut Budget) -> Result<Tensor, Cause> {
    let name = proto.name.as_str();
    let wrong = |detail: String| Cause::Tensor { tensor: name.into(), detail };
    let dtype = dtype_of(proto)?;
    let dims = dims_of(&proto.dims).map_err(wrong)?;
    let numel = numel_of(&dims).map_err(wrong)?;
    if proto.segment.is_some() {
        return Err(Cause::TensorKind { tensor: name.into(), detail: "a tensor stored in segments".into() });
    }
    let typed = typed_field(proto).map_err(wrong)?;
    let is_external = proto.data_location == proto::EXTERNAL;
    if !is_external && (proto.data_location != 0 || !proto.external_data.is_empty()) {
        return Err(wrong(format!("`data_location` is {}, but there is external data", proto.data_location)));
    }
    if is_external && (proto.raw_data.is_some() || typed.is_some()) {
        return Err(wrong("has external data and data in the file".into()));
    }
    let raw = match &proto.raw_data {
        _ if is_external => Some(external(proto, stored_len(dtype, numel), files)?),
        // Some exporters write an empty `raw_data` beside a typed field.
        Some(raw) if typed.is_none() || !raw.is_empty() => Some(Blob::new(raw.clone())),
        _ => None,
    };
    let blob = match (raw, typed) {
        (Some(_), Some(field)) => return Err(wrong(format!("has both `raw_data` and `{field}`"))),
        (Some(raw), None) => {
            let (expected, found) = (stored_len(dtype, numel), raw.bytes().len() as u64);
            if expected != found {
                return Err(wrong(format!("{dtype}{dims:?} takes {expected} bytes, found {found}")));
            }
            if dtype.bits() < 8 && dtype != DType::Bool {
                charge(budget, name, numel)?;
                Blob::new(unpack(dtype, raw.bytes(), numel))
            } else {
                raw
            }
        }
        (None, Some(field)) => {
            let expected = field_of(dtype);
            if field != expected {
                return Err(wrong(format!("{dtype} elements belong in `{expected}` or `raw_data`, found `{field}`")));
            }
            charge(budget, name, numel.saturating_mul(dtype.size_bytes() as u64))?;
            Blob::new(from_typed(proto, dtype, numel).map_err(wrong)?)
        }
        (None, None) if numel == 0 => Blob::new(Vec::new()),
        (None, None) => return Err(wrong(format!("{dtype}{dims:?} has {numel} elements, found no data"))),
    };
    Tensor::from_blob(dtype, &dims, blob).map_err(|e| wrong(e.to_string()))
}

/// Decodes a sparse constant into a dense one.
///
/// # Errors
/// As [`dense`], and if an index is out of range or out of order.
pub fn sparse(proto: &SparseTensorProto, files: &mut dyn Resolver, budget: &mut Budget) -> Result<Tensor, Cause> {
    let name = sparse_name(proto);
    let wrong = |detail: String| Cause::Tensor { tensor: name.into(), detail };
    let missing = |part: &str| wrong(format!("is sparse and has no {part}"));
    let values = dense(proto.values.as_ref().ok_or_else(|| missing("values"))?, files, budget)?;
    let indices = dense(proto.indices.as_ref().ok_or_else(|| missing("indices"))?, files, budget)?;
    let dims = dims_of(&proto.dims).map_err(wrong)?;
    let numel = numel_of(&dims).map_err(wrong)?;
    let count = values.numel();
    let expected = if indices.rank() == 1 { vec![count] } else { vec![count, dims.len()] };
    if values.rank() != 1 || indices.dims() != expected {
        let (values, indices) = (values.ty(), indices.ty());
        return Err(wrong(format!("sparse values {values} and indices {indices} do not fit dimensions {dims:?}")));
    }
    let Some(places) = indices.to_vec::<i64>() else {
        return Err(wrong(format!("sparse indices must be i64, found {}", indices.dtype())));
    };
    let size = values.dtype().size_bytes();
    charge(budget, name, numel.saturating_mul(size as u64))?;
    // The budget bounds the number of bytes, which therefore fits the address space.
    let mut bytes = vec![0; usize::try_from(numel).unwrap_or(usize::MAX).saturating_mul(size)];
    let mut last = None;
    let bounds: Vec<u64> = if indices.rank() == 1 { vec![numel] } else { dims.iter().map(|&d| d as u64).collect() };
    for (i, value) in values.bytes().chunks_exact(size).enumerate() {
        let row = places.get(i * bounds.len()..(i + 1) * bounds.len()).unwrap_or_default();
        let place = row.iter().zip(&bounds).try_fold(0u64, |at, (&index, &bound)| {
            let index = u64::try_from(index).ok().filter(|&index| index < bound)?;
            at.checked_mul(bound)?.checked_add(index)
        });
        let place = place.ok_or_else(|| wrong(format!("sparse index {row:?} lies outside dimensions {dims:?}")))?;
        if last.is_some_and(|last| place <= last) {
            return Err(wrong(format!("sparse indices must ascend, found {row:?} at position {i}")));
        }
        last = Some(place);
        let start = usize::try_from(place).unwrap_or(usize::MAX).saturating_mul(size);
        if let Some(slot) = bytes.get_mut(start..start.saturating_add(size)) {
            slot.copy_from_slice(value);
        }
    }
    Tensor::from_blob(values.dtype(), &dims, Blob::new(bytes)).map_err(|e| wrong(e.to_string()))
}

/// The name under which a graph knows a sparse constant.
pub fn sparse_name(proto: &SparseTensorProto) -> &str {
    proto.values.as_ref().map_or("", |v| &v.name)
}

fn dtype_of(proto: &TensorProto) -> Result<DType, Cause> {
    dtype(proto.data_type).map_err(|found| {
        let tensor = proto.name.clone();
        match found {
            "undefined" => Cause::Tensor { tensor, detail: "has no element type".into() },
            "unknown" => Cause::TensorKind { tensor, detail: format!("element type number {}", proto.data_type) },
            _ => Cause::TensorKind { tensor, detail: format!("element type {found}") },
        }
    })
}

/// Dimensions as numbers.
pub fn dims_of(dims: &[i64]) -> Result<Vec<usize>, String> {
    dims.iter()
        .map(|&d| usize::try_from(d).map_err(|_| format!("dimensions must not be negative, found {dims:?}")))
        .collect()
}

/// The number of elements, small enough that no later product of it with an element size overflows.
fn numel_of(dims: &[usize]) -> Result<u64, String> {
    dims.iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d as u64))
        .filter(|&n| n <= 1 << 58)
        .ok_or_else(|| format!("dimensions {dims:?} are too large"))
}

/// Bytes that the elements take in a file.
fn stored_len(dtype: DType, numel: u64) -> u64 {
    match dtype.bits() {
        2 | 4 if dtype != DType::Bool => numel.div_ceil(8 / dtype.bits() as u64),
        _ => numel.saturating_mul(dtype.size_bytes() as u64),
    }
}

fn charge(budget: &mut Budget, name: &str, bytes: u64) -> Result<(), Cause> {
    budget.charge(bytes, || format!("tensor {}", quoted(name)))
}

/// One element per byte from packed ones, the first in the lowest bits. `packed` is as long as [`stored_len`] says.
fn unpack(dtype: DType, packed: &[u8], numel: u64) -> Vec<u8> {
    let bits = dtype.bits();
    let signed = matches!(dtype, DType::I2 | DType::I4 | DType::T2);
    let element = |byte: u8, slot: usize| {
        let high = byte << (8 - bits - slot * bits);
        if signed { (high.cast_signed() >> (8 - bits)).cast_unsigned() } else { high >> (8 - bits) }
    };
    let all = packed.iter().flat_map(|&byte| (0..8 / bits).map(move |slot| element(byte, slot)));
    all.take(usize::try_from(numel).unwrap_or(usize::MAX)).collect()
}

/// The typed field that holds data, if one does; two are an error.
fn typed_field(proto: &TensorProto) -> Result<Option<&'static str>, String> {
    let fields = [
        ("float_data", proto.float_data.is_empty()),
        ("int32_data", proto.int32_data.is_empty()),
        ("string_data", proto.string_data.is_empty()),
        ("int64_data", proto.int64_data.is_empty()),
        ("double_data", proto.double_data.is_empty()),
        ("uint64_data", proto.uint64_data.is_empty()),
    ];
    let mut used = fields.iter().filter(|(_, empty)| !empty).map(|&(name, _)| name);
    match (used.next(), used.next()) {
        (Some(a), Some(b)) => Err(format!("has both `{a}` and `{b}`")),
        (field, _) => Ok(field),
    }
}

/// The typed field that elements of the type belong in.
fn field_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float_data",
        DType::F64 => "double_data",
        DType::I64 => "int64_data",
        DType::U32 | DType::U64 => "uint64_data",
        _ => "int32_data",
    }
}

/// The elements of the typed field as bytes of a tensor.
fn from_typed(proto: &TensorProto, dtype: DType, numel: u64) -> Result<Vec<u8>, String> {
    /// Bytes of every element, if there are as many as expected and each is in range.
    fn all<T: Copy + std::fmt::Display, const N: usize>(
        values: &[T],
        expected: u64,
        encode: impl Fn(T) -> Option<[u8; N]>,
    ) -> Result<Vec<u8>, String> {
        if values.len() as u64 != expected {
            return Err(format!("{expected} values expected, found {}", values.len()));
        }
        let mut out = Vec::with_capacity(values.len() * N);
        for (i, &v) in values.iter().enumerate() {
            let bytes = encode(v).ok_or_else(|| format!("value {i} is {v}, which is out of range"))?;
            out.extend_from_slice(&bytes);
        }
        Ok(out)
    }
    let ints = &proto.int32_data[..];
    match dtype {
        DType::F32 => all(&proto.float_data, numel, |v| Some(v.to_le_bytes())),
        DType::F64 => all(&proto.double_data, numel, |v| Some(v.to_le_bytes())),
        DType::I64 => all(&proto.int64_data, numel, |v| Some(v.to_le_bytes())),
        DType::U64 => all(&proto.uint64_data, numel, |v| Some(v.to_le_bytes())),
        DType::U32 => all(&proto.uint64_data, numel, |v| u32::try_from(v).ok().map(u32::to_le_bytes)),
        DType::I32 => all(ints, numel, |v| Some(v.to_le_bytes())),
        DType::I16 => all(ints, numel, |v| i16::try_from(v).ok().map(i16::to_le_bytes)),
        // Half-precision values are stored as their bits.
        DType::U16 | DType::F16 | DType::BF16 => all(ints, numel, |v| u16::try_from(v).ok().map(u16::to_le_bytes)),
        DType::I8 => all(ints, numel, |v| i8::try_from(v).ok().map(i8::to_le_bytes)),
        DType::U8 | DType::Bool => all(ints, numel, |v| u8::try_from(v).ok().map(u8::to_le_bytes)),
        DType::T2 | DType::I2 | DType::U2 | DType::I4 | DType::U4 => {
            // Some writers sign-extend the packed byte.
            let byte = |v| u8::try_from(v).ok().or_else(|| i8::try_from(v).ok().map(i8::cast_unsigned));
            let packed = all(ints, stored_len(dtype, numel), |v| byte(v).map(|b| [b]))?;
            Ok(unpack(dtype, &packed, numel))
        }
    }
}

/// The bytes of a tensor that are in another file.
fn external(proto: &TensorProto, expected: u64, files: &mut dyn Resolver) -> Result<Blob, Cause> {
    let fault = |detail, hint| Cause::External { tensor: proto.name.clone(), detail, hint };
    let extent = Extent::parse(&proto.external_data).map_err(|detail| fault(detail, None))?;
    let file = quoted(extent.location.as_str());
    let file_len = files.len(&extent.location).map_err(|e| fault(e.message, e.hint))?;
    let rest = file_len.checked_sub(extent.offset);
    let rest = rest.ok_or_else(|| fault(format!("offset {} lies beyond the end of {file}", extent.offset), None))?;
    // Without a stated length the tensor takes what its dimensions ask for.
    let length = extent.length.unwrap_or(expected);
    if length != expected {
        return Err(fault(format!("its type takes {expected} bytes, found `length` {length}"), None));
    }
    if length > rest {
        let at = extent.offset;
        let hint = "the file may be cut off or belong to another model".into();
        return Err(fault(format!("{length} bytes at offset {at} of {file}, which has {file_len} bytes"), Some(hint)));
    }
    let blob = files.read(&extent.location, extent.offset, length).map_err(|e| fault(e.message, e.hint))?;
    if blob.bytes().len() as u64 != length {
        return Err(fault(format!("{length} bytes expected from {file}, found {}", blob.bytes().len()), None));
    }
    Ok(blob)
}
