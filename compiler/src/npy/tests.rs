//! Tests of the reader and the writer; the files under `tests/data/npy` come from numpy, see `make.py` beside them.

use super::*;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/npy");

fn file(version: u8, header: &str, data: &[u8]) -> Blob {
    let mut bytes = [MAGIC, &[version, 0]].concat();
    match version {
        1 => bytes.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes()),
        _ => bytes.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes()),
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    Blob::new(bytes)
}

fn header(descr: &str, order: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
}

#[test]
fn what_numpy_wrote_is_read() {
    let dtypes = [
        ("b1", DType::Bool),
        ("i1", DType::I8),
        ("i2", DType::I16),
        ("i4", DType::I32),
        ("i8", DType::I64),
        ("u1", DType::U8),
        ("u2", DType::U16),
        ("u4", DType::U32),
        ("u8", DType::U64),
        ("f2", DType::F16),
        ("f4", DType::F32),
        ("f8", DType::F64),
    ];
    for (name, dtype) in dtypes {
        for form in ["c_little", "fortran_little", "c_big", "fortran_big"] {
            let t = read(Path::new(&format!("{DATA}/{name}_{form}.npy"))).unwrap();
            let expected: Vec<f64> =
                (0..12).map(|i| if dtype == DType::Bool { f64::from(i % 2) } else { f64::from(i) }).collect();
            assert_eq!((t.dtype(), t.dims()), (dtype, &[2, 2, 3][..]), "{name} {form}");
            assert_eq!(t.to_f64(), expected, "{name} {form}");
        }
    }
    for version in [2, 3] {
        let t = read(Path::new(&format!("{DATA}/version{version}.npy"))).unwrap();
        assert_eq!(t, Tensor::new(&[3], &[1.5f32, -2.0, 0.0]));
    }
    assert_eq!(read(Path::new(&format!("{DATA}/scalar.npy"))).unwrap(), Tensor::scalar(7i64));
    let empty = read(Path::new(&format!("{DATA}/empty.npy"))).unwrap();
    assert_eq!((empty.dims(), empty.numel()), (&[0, 5][..], 0));
}

#[test]
fn the_writer_makes_the_bytes_that_numpy_makes() {
    for name in ["scalar.npy", "empty.npy", "f4_c_little.npy", "b1_c_little.npy", "vector.npy"] {
        let bytes = std::fs::read(format!("{DATA}/{name}")).unwrap();
        assert_eq!(encode(&parse(&Blob::new(bytes.clone())).unwrap()), bytes, "{name}");
    }
}

#[test]
fn types_that_numpy_lacks_are_written_widened() {
    let t = Tensor::with_dtype(DType::T2, &[3], &[-1i8, 0, 1]);
    assert_eq!(parse(&Blob::new(encode(&t))).unwrap(), Tensor::new(&[3], &[-1i8, 0, 1]));
    let b = Tensor::new(&[2], &[half::bf16::from_f32(1.5), half::bf16::NEG_INFINITY]);
    assert_eq!(parse(&Blob::new(encode(&b))).unwrap(), Tensor::new(&[2], &[1.5f32, f32::NEG_INFINITY]));
}

#[test]
fn an_array_in_c_order_is_not_copied() {
    let file = file(1, &header("<f4", "False", "(2,)"), &[0; 8]);
    let t = parse(&file).unwrap();
    assert!(file.bytes().as_ptr_range().contains(&t.bytes().as_ptr()));
}

#[test]
fn lies_about_lengths_are_refused() {
    let wrong = |bytes: Blob| {
        let d = parse(&bytes).unwrap_err();
        assert_eq!(d.kind, crate::error::Kind::WrongInput, "{d}");
        d.to_string()
    };
    assert!(wrong(file(1, &header("<f4", "False", "(3,)"), &[0; 8])).contains("f32[3] takes 12 bytes, found 8"));
    assert!(wrong(file(1, &header("<f4", "True", "(1,)"), &[0; 8])).contains("takes 4 bytes, found 8"));
    assert!(wrong(file(1, &header("<f4", "False", "(4294967296, 4294967296)"), &[])).contains("too large"));
    assert!(wrong(file(1, &header("<f4", "True", "(18446744073709551615, 2, 2)"), &[])).contains("too large"));
    assert!(wrong(file(1, &header("|b1", "False", "(1,)"), &[2])).contains("no value of type bool"));
    let deep = format!("({})", "1,".repeat(65));
    assert!(wrong(file(1, &header("|u1", "False", &deep), &[0])).contains("too many dimensions"));
    let mut long = [MAGIC, &[2, 0]].concat();
    long.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(wrong(Blob::new(long.clone())).contains("the header is too long"));
    long[8..12].copy_from_slice(&100u32.to_le_bytes());
    assert!(wrong(Blob::new(long)).contains("longer than the file"));
    assert!(wrong(file(1, "{'descr': '\u{e9}'}", &[])).contains("not ASCII"));
    assert!(wrong(Blob::new(b"PK\x03\x04".to_vec())).contains("numpy.save"));
}

#[test]
fn other_element_types_are_unsupported_not_wrong() {
    let kind = |descr: &str| parse(&file(1, &header(descr, "False", "(1,)"), &[0; 16])).unwrap_err();
    for descr in ["|O", "<c8", "<U4", "|S4", "<M8[s]", "|V2", "<f16", ""] {
        let d = kind(descr);
        assert_eq!(d.kind, crate::error::Kind::Unsupported, "{d}");
    }
    assert!(kind("|O").to_string().contains("Python objects"));
    let fields = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }";
    assert_eq!(parse(&file(1, fields, &[0; 4])).unwrap_err().kind, crate::error::Kind::Unsupported);
    assert_eq!(parse(&Blob::new([MAGIC, &[9, 9, 0, 0]].concat())).unwrap_err().kind, crate::error::Kind::Unsupported);
}

#[test]
fn every_cut_and_every_changed_byte_is_read_or_refused() {
    let whole = std::fs::read(format!("{DATA}/i2_fortran_big.npy")).unwrap();
    for end in 0..whole.len() {
        assert!(parse(&Blob::new(whole[..end].to_vec())).is_err());
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            // The outcome depends on the byte; what counts is that there is one.
            let _ = parse(&Blob::new(bytes));
        }
    }
}
