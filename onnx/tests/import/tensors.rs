//! Constants: every way to store them, and every lie about their length.

use bitc_ir::{DType, Tensor};
use bitc_onnx::Cause;
use bitc_onnx::external::NoFiles;
use bitc_onnx::import::tensor::{dense, sparse};
use bitc_onnx::limits::Budget;
use bitc_onnx::proto::{Segment, SparseTensorProto, TensorProto, data_type as t};

use crate::builder::{Files, empty, external, raw};

fn read(proto: &TensorProto) -> Result<Tensor, Cause> {
    dense(proto, &mut NoFiles, &mut Budget::new(1 << 20))
}

/// The message of a refusal; panics where there is none.
fn refusal(proto: &TensorProto) -> String {
    read(proto).expect_err("the tensor is wrong").to_string()
}

#[test]
fn raw_data_of_every_type_is_read() {
    let types = [
        (t::FLOAT, DType::F32),
        (t::UINT8, DType::U8),
        (t::INT8, DType::I8),
        (t::UINT16, DType::U16),
        (t::INT16, DType::I16),
        (t::INT32, DType::I32),
        (t::INT64, DType::I64),
        (t::BOOL, DType::Bool),
        (t::FLOAT16, DType::F16),
        (t::DOUBLE, DType::F64),
        (t::UINT32, DType::U32),
        (t::UINT64, DType::U64),
        (t::BFLOAT16, DType::BF16),
    ];
    for (number, dtype) in types {
        let bytes = vec![1; 6 * dtype.size_bytes()];
        let tensor = read(&raw("w", number, &[2, 3], &bytes)).unwrap();
        assert_eq!((tensor.dtype(), tensor.dims(), tensor.bytes()), (dtype, &[2, 3][..], &bytes[..]));
    }
}

#[test]
fn raw_data_is_not_copied() {
    let proto = raw("w", t::FLOAT, &[2], &[0; 8]);
    let tensor = dense(&proto, &mut NoFiles, &mut Budget::new(0)).unwrap();
    assert_eq!(tensor.bytes().as_ptr(), proto.raw_data.as_ref().unwrap().as_ptr());
}

#[test]
fn packed_types_have_their_first_element_in_the_lowest_bits() {
    let int4 = read(&raw("w", t::INT4, &[3], &[0x8f, 0x07])).unwrap();
    assert_eq!(int4.to_vec::<i8>().unwrap(), [-1, -8, 7]);
    let uint4 = read(&raw("w", t::UINT4, &[3], &[0x8f, 0x07])).unwrap();
    assert_eq!(uint4.to_vec::<u8>().unwrap(), [15, 8, 7]);
    let int2 = read(&raw("w", t::INT2, &[5], &[0b11_10_01_00, 0b01])).unwrap();
    assert_eq!(int2.to_vec::<i8>().unwrap(), [0, 1, -2, -1, 1]);
    let uint2 = read(&raw("w", t::UINT2, &[4], &[0b11_10_01_00])).unwrap();
    assert_eq!(uint2.to_vec::<u8>().unwrap(), [0, 1, 2, 3]);
}

#[test]
fn typed_fields_are_read_by_element_type() {
    let tensor = |number, proto: TensorProto| {
        read(&TensorProto { data_type: number, dims: vec![2], name: "w".into(), ..proto }).unwrap()
    };
    let int32 = |values: &[i32]| TensorProto { int32_data: values.into(), ..Default::default() };
    let float = TensorProto { float_data: vec![1.5, -2.0], ..Default::default() };
    assert_eq!(tensor(t::FLOAT, float), Tensor::new(&[2], &[1.5f32, -2.0]));
    let double = TensorProto { double_data: vec![1.5, -2.0], ..Default::default() };
    assert_eq!(tensor(t::DOUBLE, double), Tensor::new(&[2], &[1.5f64, -2.0]));
    let int64 = TensorProto { int64_data: vec![-1, i64::MAX], ..Default::default() };
    assert_eq!(tensor(t::INT64, int64), Tensor::new(&[2], &[-1, i64::MAX]));
    let uint64 = TensorProto { uint64_data: vec![1, 4_000_000_000], ..Default::default() };
    assert_eq!(tensor(t::UINT64, uint64.clone()), Tensor::new(&[2], &[1u64, 4_000_000_000]));
    assert_eq!(tensor(t::UINT32, uint64), Tensor::new(&[2], &[1u32, 4_000_000_000]));
    assert_eq!(tensor(t::INT32, int32(&[-5, 5])), Tensor::new(&[2], &[-5, 5]));
    assert_eq!(tensor(t::INT16, int32(&[-5, 5])), Tensor::new(&[2], &[-5i16, 5]));
    assert_eq!(tensor(t::INT8, int32(&[-128, 127])), Tensor::new(&[2], &[-128i8, 127]));
    assert_eq!(tensor(t::UINT8, int32(&[0, 255])), Tensor::new(&[2], &[0u8, 255]));
    assert_eq!(tensor(t::BOOL, int32(&[0, 1])), Tensor::with_dtype(DType::Bool, &[2], &[0u8, 1]));
    // Halves are stored as their bits: 0x3c00 is 1.0 of f16, 0x3f80 of bf16.
    assert_eq!(tensor(t::FLOAT16, int32(&[0x3c00, 0x8000])).to_f64(), [1.0, -0.0]);
    assert_eq!(tensor(t::BFLOAT16, int32(&[0x3f80, 0])).to_f64(), [1.0, 0.0]);
    assert_eq!(tensor(t::INT4, int32(&[0x7f])).to_f64(), [-1.0, 7.0]);
    assert_eq!(tensor(t::INT2, int32(&[-1])).to_f64(), [-1.0, -1.0], "a sign-extended byte");
}

#[test]
fn a_tensor_without_elements_needs_no_data() {
    assert_eq!(read(&empty("w", t::FLOAT, &[0, 3])).unwrap().dims(), [0, 3]);
    assert_eq!(read(&raw("w", t::FLOAT, &[3, 0], &[])).unwrap().dims(), [3, 0]);
}

#[test]
fn an_empty_raw_field_beside_a_typed_one_is_ignored() {
    let proto = TensorProto { float_data: vec![1.0], ..raw("w", t::FLOAT, &[1], &[]) };
    assert_eq!(read(&proto).unwrap(), Tensor::new(&[1], &[1.0f32]));
}

#[test]
fn lies_about_the_length_are_refused() {
    assert_eq!(refusal(&raw("w", t::FLOAT, &[3], &[0; 8])), "tensor `w`: f32[3] takes 12 bytes, found 8");
    assert_eq!(refusal(&raw("w", t::INT4, &[3], &[0; 3])), "tensor `w`: i4[3] takes 2 bytes, found 3");
    assert_eq!(refusal(&empty("w", t::FLOAT, &[3])), "tensor `w`: f32[3] has 3 elements, found no data");
    assert_eq!(refusal(&empty("w", t::FLOAT, &[-1])), "tensor `w`: dimensions must not be negative, found [-1]");
    for dims in [&[1 << 31, 1 << 31, 4][..], &[i64::MAX, 2], &[i64::MAX], &[1 << 62]] {
        assert!(refusal(&raw("w", t::FLOAT, dims, &[0; 8])).contains("are too large"), "{dims:?}");
    }
    let typed = TensorProto { float_data: vec![1.0], ..empty("w", t::FLOAT, &[2]) };
    assert_eq!(refusal(&typed), "tensor `w`: 2 values expected, found 1");
}

#[test]
fn data_in_the_wrong_place_is_refused() {
    let field = TensorProto { float_data: vec![1.0], ..empty("w", t::INT64, &[1]) };
    assert_eq!(refusal(&field), "tensor `w`: i64 elements belong in `int64_data` or `raw_data`, found `float_data`");
    let both = TensorProto { float_data: vec![1.0], ..raw("w", t::FLOAT, &[1], &[0; 4]) };
    assert_eq!(refusal(&both), "tensor `w`: has both `raw_data` and `float_data`");
    let two = TensorProto { float_data: vec![1.0], int32_data: vec![1], ..empty("w", t::FLOAT, &[1]) };
    assert_eq!(refusal(&two), "tensor `w`: has both `float_data` and `int32_data`");
    let range = TensorProto { int32_data: vec![256], ..empty("w", t::UINT8, &[1]) };
    assert_eq!(refusal(&range), "tensor `w`: value 0 is 256, which is out of range");
    assert!(refusal(&raw("w", t::BOOL, &[1], &[2])).contains("no value of type bool"));
}

#[test]
fn types_without_counterpart_are_unsupported_by_name() {
    for (number, name) in
        [(t::FLOAT8E4M3FN, "float8e4m3fn"), (t::STRING, "string"), (t::COMPLEX64, "complex64"), (99, "99")]
    {
        let cause = read(&raw("w", number, &[1], &[0; 16])).unwrap_err();
        assert!(cause.is_unsupported() && cause.to_string().contains(name), "{cause}");
    }
    let segment = TensorProto { segment: Some(Segment { begin: 0, end: 1 }), ..raw("w", t::FLOAT, &[1], &[0; 4]) };
    assert!(read(&segment).unwrap_err().is_unsupported());
    assert!(!read(&raw("w", t::UNDEFINED, &[1], &[0; 4])).unwrap_err().is_unsupported());
}

#[test]
fn expanding_is_charged_before_it_happens() {
    let proto = raw("w", t::INT2, &[4096], &[0; 1024]);
    let cause = dense(&proto, &mut NoFiles, &mut Budget::new(4000)).unwrap_err();
    assert!(matches!(cause, Cause::OverBudget { needed: 4096, .. }), "{cause}");
}

fn sparse_of(values: &[f32], indices: &[i64], index_dims: &[i64], dims: &[i64]) -> Result<Tensor, String> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let places: Vec<u8> = indices.iter().flat_map(|v| v.to_le_bytes()).collect();
    let proto = SparseTensorProto {
        values: Some(raw("s", t::FLOAT, &[values.len() as i64], &bytes)),
        indices: Some(raw("", t::INT64, index_dims, &places)),
        dims: dims.into(),
    };
    sparse(&proto, &mut NoFiles, &mut Budget::new(1 << 20)).map_err(|e| e.to_string())
}

#[test]
fn sparse_constants_become_dense() {
    let expect = Tensor::new(&[2, 3], &[0.0f32, 5.0, 0.0, 0.0, 0.0, 7.0]);
    assert_eq!(sparse_of(&[5.0, 7.0], &[1, 5], &[2], &[2, 3]).unwrap(), expect);
    assert_eq!(sparse_of(&[5.0, 7.0], &[0, 1, 1, 2], &[2, 2], &[2, 3]).unwrap(), expect);
}

#[test]
fn sparse_indices_are_checked() {
    let fault = |indices: &[i64], index_dims: &[i64], dims: &[i64]| {
        sparse_of(&[5.0, 7.0], indices, index_dims, dims).unwrap_err()
    };
    assert!(fault(&[1, 6], &[2], &[2, 3]).contains("lies outside"));
    assert!(fault(&[0, -1], &[2], &[2, 3]).contains("lies outside"));
    assert!(fault(&[0, 3, 1, 0], &[2, 2], &[2, 3]).contains("lies outside"));
    assert!(fault(&[1, 1], &[2], &[2, 3]).contains("must ascend"));
    assert!(fault(&[1, 2, 3], &[3], &[2, 3]).contains("do not fit"));
    assert!(fault(&[1, 2], &[2], &[1 << 40, 1 << 10]).contains("memory limit"));
    let nothing = sparse(&SparseTensorProto::default(), &mut NoFiles, &mut Budget::new(0)).unwrap_err();
    assert_eq!(nothing.to_string(), "tensor ``: is sparse and has no values");
}

#[test]
fn external_data_is_a_range_of_a_file() {
    let mut files = Files(vec![("w.data", (0..16).collect())]);
    let mut read = |proto: &TensorProto| dense(proto, &mut files, &mut Budget::new(0));
    let keys = [("location", "w.data"), ("offset", "4"), ("length", "8")];
    assert_eq!(read(&external("w", t::INT8, &[8], &keys)).unwrap().to_f64(), [4., 5., 6., 7., 8., 9., 10., 11.]);
    assert_eq!(read(&external("w", t::INT8, &[3], &keys[..1])).unwrap().to_f64(), [0.0, 1.0, 2.0]);
    let mut fault =
        |dims: &[i64], keys: &[(&str, &str)]| read(&external("w", t::INT8, dims, keys)).unwrap_err().to_string();
    assert!(fault(&[7], &keys).ends_with("its type takes 7 bytes, found `length` 8"));
    assert!(fault(&[8], &[("location", "w.data"), ("offset", "9")]).contains("which has 16 bytes"));
    assert!(fault(&[8], &[("location", "w.data"), ("offset", "17")]).contains("beyond the end"));
    assert!(fault(&[1], &[("location", "w.data"), ("offset", "18446744073709551615")]).contains("beyond the end"));
    assert!(fault(&[8], &[("location", "v.data")]).contains("no such file"));
    assert!(fault(&[8], &[("location", "../w.data")]).contains("leaves the folder"));
}

#[test]
fn external_data_excludes_data_in_the_file() {
    let keys = [("location", "w.data")];
    let both = TensorProto { raw_data: Some(vec![0].into()), ..external("w", t::INT8, &[1], &keys) };
    assert_eq!(refusal(&both), "tensor `w`: has external data and data in the file");
    let unmarked = TensorProto { data_location: 0, ..external("w", t::INT8, &[1], &keys) };
    assert_eq!(refusal(&unmarked), "tensor `w`: `data_location` is 0, but there is external data");
    assert!(refusal(&external("w", t::INT8, &[1], &keys)).contains("not available here"));
}
