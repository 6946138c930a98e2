//! How constants are written: numbers, hexadecimal bytes, and what is generated.

use crate::tensor::{Blob, Element, Tensor};
use crate::types::DType;

/// The most elements a generated constant may have.
const MAX_GENERATED: usize = 1 << 28;

/// The number of elements of a constant that the text only describes.
pub(super) fn generated_len(dims: &[usize]) -> Result<usize, String> {
    let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_GENERATED);
    n.ok_or_else(|| format!("a generated constant has at most {MAX_GENERATED} elements"))
}

pub(super) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A tensor from its elements as written.
pub(super) fn from_numbers(dtype: DType, dims: &[usize], items: &[String]) -> Result<Tensor, String> {
    fn encode<T: Element>(items: &[String], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(items.len() * size_of::<T>());
        for item in items {
            parse(item).ok_or_else(|| format!("`{item}` is no value of type {}", T::DTYPE))?.put_le(&mut bytes);
        }
        Ok(bytes)
    }
    let bytes = match dtype {
        DType::Bool | DType::U2 | DType::U4 | DType::U8 => encode::<u8>(items, |s| s.parse().ok()),
        DType::T2 | DType::I2 | DType::I4 | DType::I8 => encode::<i8>(items, |s| s.parse().ok()),
        DType::I16 => encode::<i16>(items, |s| s.parse().ok()),
        DType::U16 => encode::<u16>(items, |s| s.parse().ok()),
        DType::I32 => encode::<i32>(items, |s| s.parse().ok()),
        DType::U32 => encode::<u32>(items, |s| s.parse().ok()),
        DType::I64 => encode::<i64>(items, |s| s.parse().ok()),
        DType::U64 => encode::<u64>(items, |s| s.parse().ok()),
        DType::F16 => encode(items, |s| s.parse().ok().map(half::f16::from_f32)),
        DType::BF16 => encode(items, |s| s.parse().ok().map(half::bf16::from_f32)),
        DType::F32 => encode::<f32>(items, |s| s.parse().ok()),
        DType::F64 => encode::<f64>(items, |s| s.parse().ok()),
    }?;
    Tensor::from_blob(dtype, dims, Blob::new(bytes)).map_err(|e| e.to_string())
}
