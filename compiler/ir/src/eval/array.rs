//! Tensors as ndarray arrays and back, for the definitions of operations.
//!
//! Floats of every width compute as `f64` and round once when stored; for the basic operations on `f32` and narrower
//! that equals computing in the type itself. Integers compute as `i128` and wrap when stored.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use crate::eval::EvalError;
use crate::tensor::Tensor;
use crate::types::DType;

fn array<T>(dims: &[usize], values: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(dims), values).expect("a tensor has as many elements as its dimensions say")
}

/// Any tensor as an array of `f64`.
pub fn floats(tensor: &Tensor) -> ArrayD<f64> {
    array(tensor.dims(), tensor.to_f64())
}

/// An integer or boolean tensor as an array; `None` for floats.
pub fn integers(tensor: &Tensor) -> Option<ArrayD<i128>> {
    let values = match tensor.dtype() {
        DType::Bool | DType::U2 | DType::U4 | DType::U8 => tensor.iter::<u8>()?.map(i128::from).collect(),
        DType::T2 | DType::I2 | DType::I4 | DType::I8 => tensor.iter::<i8>()?.map(i128::from).collect(),
        DType::I16 => tensor.iter::<i16>()?.map(i128::from).collect(),
        DType::U16 => tensor.iter::<u16>()?.map(i128::from).collect(),
        DType::I32 => tensor.iter::<i32>()?.map(i128::from).collect(),
        DType::U32 => tensor.iter::<u32>()?.map(i128::from).collect(),
        DType::I64 => tensor.iter::<i64>()?.map(i128::from).collect(),
        DType::U64 => tensor.iter::<u64>()?.map(i128::from).collect(),
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => return None,
    };
    Some(array(tensor.dims(), values))
}

/// An `f32` tensor as an array.
///
/// # Errors
/// If the tensor has another element type.
pub fn f32s(tensor: &Tensor) -> Result<ArrayD<f32>, EvalError> {
    let wrong = || EvalError::Undefined(format!("this operation is evaluated on f32, found {}", tensor.ty()));
    Ok(array(tensor.dims(), tensor.to_vec::<f32>().ok_or_else(wrong)?))
}

/// Floats rounded to a float type, or truncated and wrapped to an integer one.
pub fn store_floats(dtype: DType, values: &ArrayD<f64>) -> Tensor {
    let dims = values.shape();
    match dtype {
        DType::F64 => Tensor::new(dims, &values.iter().copied().collect::<Vec<_>>()),
        DType::F32 => Tensor::new(dims, &values.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        DType::F16 => Tensor::new(dims, &values.iter().map(|&v| f16::from_f64(v)).collect::<Vec<_>>()),
        DType::BF16 => Tensor::new(dims, &values.iter().map(|&v| bf16::from_f64(v)).collect::<Vec<_>>()),
        DType::Bool => store_integers(dtype, &values.mapv(|v| i128::from(v != 0.0))),
        _ => store_integers(dtype, &values.mapv(|v| v as i128)),
    }
}

/// Integers wrapped to an integer type; for `bool`, nonzero is 1; for floats, rounded.
pub fn store_integers(dtype: DType, values: &ArrayD<i128>) -> Tensor {
    let dims = values.shape();
    macro_rules! wrapped {
        ($ty:ty) => {
            Tensor::with_dtype(dtype, dims, &values.iter().map(|&v| v as $ty).collect::<Vec<_>>())
        };
    }
    // A sub-byte value wraps within its own bits.
    let narrow = |v: &i128, bits: u32, signed: bool| {
        let low = v & ((1 << bits) - 1);
        if signed && low >> (bits - 1) == 1 { low - (1 << bits) } else { low }
    };
    match dtype {
        DType::Bool => Tensor::with_dtype(dtype, dims, &values.iter().map(|&v| u8::from(v != 0)).collect::<Vec<_>>()),
        DType::T2 => {
            let sign = |v: &i128| v.signum() as i8;
            Tensor::with_dtype(dtype, dims, &values.iter().map(sign).collect::<Vec<_>>())
        }
        DType::I2 | DType::I4 => {
            let bits = dtype.bits() as u32;
            Tensor::with_dtype(dtype, dims, &values.iter().map(|v| narrow(v, bits, true) as i8).collect::<Vec<_>>())
        }
        DType::U2 | DType::U4 => {
            let bits = dtype.bits() as u32;
            Tensor::with_dtype(dtype, dims, &values.iter().map(|v| narrow(v, bits, false) as u8).collect::<Vec<_>>())
        }
        DType::I8 => wrapped!(i8),
        DType::U8 => wrapped!(u8),
        DType::I16 => wrapped!(i16),
        DType::U16 => wrapped!(u16),
        DType::I32 => wrapped!(i32),
        DType::U32 => wrapped!(u32),
        DType::I64 => wrapped!(i64),
        DType::U64 => wrapped!(u64),
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => store_floats(dtype, &values.mapv(|v| v as f64)),
    }
}

/// A tensor of `f32` from an array.
pub fn tensor_f32(values: &ArrayD<f32>) -> Tensor {
    Tensor::new(values.shape(), &values.iter().copied().collect::<Vec<_>>())
}
