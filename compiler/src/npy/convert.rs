//! Conversion between element types without loss.

use bitc_ir::{Blob, DType, Tensor};
use half::{bf16, f16};

use crate::error::Diagnostic;

/// The tensor with elements of type `dtype`, every one with the value it has now. NaN stays NaN, and the zero of a
/// float, whatever its sign, becomes the integer 0.
///
/// # Errors
/// If an element has no equal in `dtype`; the diagnostic names the first one.
pub fn convert_exact(tensor: &Tensor, dtype: DType) -> Result<Tensor, Diagnostic> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    let mut out = Vec::with_capacity(tensor.numel() * dtype.size_bytes());
    let failed = if tensor.dtype().is_float() {
        tensor.to_f64().iter().position(|&v| !put_float(v, dtype, &mut out))
    } else {
        integers(tensor).position(|v| !put_integer(v, dtype, &mut out))
    };
    if let Some(index) = failed {
        let value = tensor.to_f64().get(index).copied().unwrap_or_default();
        let from = tensor.dtype();
        return Err(Diagnostic::wrong_input(format!("converting {from} to {dtype} would change element {index}"))
            .expected(format!("a value that {dtype} holds exactly"))
            .found(value)
            .hint("round the array, or give it in the type asked for"));
    }
    Tensor::from_blob(dtype, tensor.dims(), Blob::new(out)).map_err(|e| Diagnostic::bug(e.to_string()))
}

/// The elements of an integer or boolean tensor.
fn integers(tensor: &Tensor) -> impl Iterator<Item = i128> + '_ {
    let (dtype, size) = (tensor.dtype(), tensor.dtype().size_bytes());
    let signed = dtype.integer_range().is_some_and(|(low, _)| low < 0);
    tensor.bytes().chunks_exact(size).map(move |bytes| {
        let unsigned = bytes.iter().rev().fold(0i128, |n, &b| n << 8 | i128::from(b));
        let negative = signed && bytes.last().is_some_and(|b| b & 0x80 != 0);
        if negative { unsigned - (1 << (8 * size)) } else { unsigned }
    })
}

fn put_integer(v: i128, dtype: DType, out: &mut Vec<u8>) -> bool {
    let Some((low, high)) = dtype.integer_range() else {
        let float = v as f64;
        return float as i128 == v && put_float(float, dtype, out);
    };
    // In two's complement the low bytes of the wide integer are the narrow one.
    out.extend_from_slice(&v.to_le_bytes()[..dtype.size_bytes()]);
    (low..=high).contains(&v)
}

fn put_float(v: f64, dtype: DType, out: &mut Vec<u8>) -> bool {
    let same = |back: f64| back == v || v.is_nan();
    match dtype {
        DType::F16 => {
            let narrow = f16::from_f64(v);
            out.extend_from_slice(&narrow.to_le_bytes());
            same(narrow.to_f64())
        }
        DType::BF16 => {
            let narrow = bf16::from_f64(v);
            out.extend_from_slice(&narrow.to_le_bytes());
            same(narrow.to_f64())
        }
        DType::F32 => {
            let narrow = v as f32;
            out.extend_from_slice(&narrow.to_le_bytes());
            same(f64::from(narrow))
        }
        DType::F64 => {
            out.extend_from_slice(&v.to_le_bytes());
            true
        }
        // The bound keeps the cast exact: it saturates only beyond.
        _ => v.fract() == 0.0 && v.abs() < 2f64.powi(100) && put_integer(v as i128, dtype, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_fit_are_converted() {
        let f = Tensor::new(&[2, 2], &[0.0f32, -1.0, 1.0, -0.0]);
        let t = convert_exact(&f, DType::T2).unwrap();
        assert_eq!((t.dtype(), t.dims(), t.to_vec::<i8>().unwrap()), (DType::T2, &[2, 2][..], vec![0, -1, 1, 0]));
        assert_eq!(convert_exact(&t, DType::F64).unwrap().to_f64(), [0.0, -1.0, 1.0, 0.0]);
        let big = Tensor::new(&[2], &[i64::MIN, i64::MIN + (1 << 20)]);
        assert_eq!(convert_exact(&big, DType::F64).unwrap().to_f64(), [-9223372036854775808.0, -9223372036853727232.0]);
        let u = Tensor::new(&[2], &[u64::MAX, 7]);
        assert_eq!(integers(&u).collect::<Vec<_>>(), [i128::from(u64::MAX), 7]);
        let special = Tensor::new(&[3], &[f64::NAN, f64::INFINITY, 0.5]);
        let h = convert_exact(&special, DType::F16).unwrap().to_f64();
        assert!(h[0].is_nan() && h[1] == f64::INFINITY && h[2] == 0.5);
        assert_eq!(convert_exact(&Tensor::new(&[2], &[1u8, 0]), DType::Bool).unwrap().bytes(), [1, 0]);
    }

    #[test]
    fn a_value_that_would_change_is_named() {
        let fails = |t: Tensor, dtype| convert_exact(&t, dtype).unwrap_err().to_string();
        let text = fails(Tensor::new(&[3], &[1i32, 300, 2]), DType::U8);
        assert!(text.contains("converting i32 to u8 would change element 1") && text.contains("found: 300"), "{text}");
        fails(Tensor::new(&[1], &[-1i8]), DType::U64);
        fails(Tensor::new(&[1], &[0.1f64]), DType::F32);
        fails(Tensor::new(&[1], &[1e300f64]), DType::F32);
        fails(Tensor::new(&[1], &[0.5f32]), DType::I8);
        fails(Tensor::new(&[1], &[f32::NAN]), DType::I64);
        fails(Tensor::new(&[1], &[f32::INFINITY]), DType::I64);
        fails(Tensor::new(&[1], &[9223372036854775808f64]), DType::I64);
        fails(Tensor::new(&[1], &[(1i64 << 53) + 1]), DType::F64);
        fails(Tensor::new(&[1], &[u64::MAX]), DType::F32);
        fails(Tensor::new(&[1], &[2u8]), DType::Bool);
        fails(Tensor::new(&[1], &[257i32]), DType::BF16);
        fails(Tensor::new(&[1], &[2i8]), DType::T2);
    }
}
