//! Tests of the torch reader; the files under `tests/data/torch` come from `make.py` beside them.

use bitc_ir::{DType, Tensor};
use half::{bf16, f16};

use super::*;
use crate::error::Kind;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/torch");

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(format!("{DATA}/{name}")).unwrap()
}

fn read(name: &str) -> Result<StateDict, Diagnostic> {
    parse(&Blob::new(bytes(name)))
}

/// An archive of stored entries in the plainest layout.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let le = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    for (name, data) in entries {
        let sizes = [&[0; 4][..], &le(data.len()), &le(data.len()), &le(name.len())[..2]].concat();
        directory.extend([b"PK\x01\x02\0\0", &[0; 10][..], &sizes, &[0; 12], &le(out.len()), name.as_bytes()].concat());
        out.extend([b"PK\x03\x04", &[0; 10][..], &sizes, &[0; 2], name.as_bytes(), data].concat());
    }
    let count = &le(entries.len())[..2];
    let end = [b"PK\x05\x06\0\0\0\0", count, count, &le(directory.len()), &le(out.len()), &[0; 2]].concat();
    [out, directory, end].concat()
}

/// What comes of a pickle beside a storage `0` of eight bytes.
fn unpickle(pickle: &[u8]) -> Result<StateDict, Diagnostic> {
    parse(&Blob::new(zip(&[("a/data.pkl", pickle), ("a/data/0", &[0, 0, 128, 63, 0, 0, 0, 64])])))
}

/// A dictionary with one tensor `w` of the storage `0`; the arguments are pickled.
fn tensor_pickle(count: u8, offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    [
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000N",
        &[b'K', count, b't', b'Q'][..],
        offset,
        size,
        stride,
        b"\x89}tRs.",
    ]
    .concat()
}

fn check_state(dict: &StateDict) {
    let f = |values: &[f32]| values.iter().map(|v| v / 2.0).collect::<Vec<_>>();
    let get = |name: &str| dict.get(name).unwrap().clone();
    let all: Vec<f32> = (0..12u8).map(f32::from).collect();
    assert_eq!(get("network.0.weight"), Tensor::new(&[3, 4], &f(&all)));
    assert_eq!(get("network.0.bias"), Tensor::new(&[3], &[1f32, -2.0, 3.0]));
    assert_eq!(get("transposed"), Tensor::new(&[4, 3], &f(&[0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.])));
    assert_eq!(get("row"), Tensor::new(&[4], &f(&[8., 9., 10., 11.])));
    assert_eq!(get("column"), Tensor::new(&[3], &f(&[1., 5., 9.])));
    assert_eq!(get("count"), Tensor::scalar(-7i64));
    assert_eq!(get("half"), Tensor::new(&[2], &[f16::from_f32(0.5), f16::MAX]));
    assert_eq!(get("bfloat16"), Tensor::new(&[1, 2], &[bf16::from_f32(1.5), bf16::from_f32(-2.0)]));
    assert_eq!(get("char"), Tensor::new(&[3], &[-1i8, 0, 1]));
    assert_eq!((get("empty").dtype(), get("empty").dims().to_vec()), (DType::F32, vec![0, 3]));
    assert_eq!(get("uint16"), Tensor::new(&[2], &[65535u16, 2]));
    assert_eq!(dict.len(), 11);
    assert_eq!(dict.iter().next().unwrap().0, "network.0.weight");
}

#[test]
fn state_dicts_are_read_plain_nested_and_in_every_protocol() {
    for name in ["state_dict.pt", "protocol4.pt", "checkpoint.pt"] {
        check_state(&read(name).unwrap_or_else(|d| panic!("{name}: {d}")));
    }
}

#[test]
fn what_torch_itself_wrote_is_read() {
    let dict = read("torch_views.pth").unwrap();
    let get = |name: &str| dict.get(name).unwrap().clone();
    let all: Vec<f64> = (0..24).map(f64::from).collect();
    let types = [
        ("half", DType::F16),
        ("bfloat16", DType::BF16),
        ("double", DType::F64),
        ("uint8", DType::U8),
        ("int8", DType::I8),
        ("int16", DType::I16),
        ("int32", DType::I32),
        ("int64", DType::I64),
        ("uint16", DType::U16),
        ("uint32", DType::U32),
        ("uint64", DType::U64),
        ("whole", DType::F32),
        ("parameter", DType::F32),
    ];
    for (name, dtype) in types {
        assert_eq!((get(name).dtype(), get(name).dims(), get(name).to_f64()), (dtype, &[2, 3, 4][..], all.clone()));
    }
    assert_eq!(get("bool").bytes().iter().filter(|b| **b == 1).count(), 23);
    assert_eq!(get("transposed").dims(), [4, 3, 2]);
    assert_eq!(get("transposed").to_f64()[..4], [0., 12., 4., 16.]);
    assert_eq!(get("part").to_f64(), all[12..]);
    assert_eq!(get("rows").to_f64(), [4., 5., 6., 7., 16., 17., 18., 19.]);
    assert_eq!(get("columns").to_f64()[..4], [0., 2., 4., 6.]);
    assert_eq!(get("expanded").to_f64(), [0., 1., 2., 3., 0., 1., 2., 3.]);
    assert_eq!((get("scalar"), get("empty").dims().to_vec()), (Tensor::scalar(3i64), vec![0, 3]));

    let dict = read("torch_checkpoint.pt").unwrap();
    let names: Vec<_> = dict.iter().map(|(n, _)| n).collect();
    assert_eq!(names.len(), 9);
    assert_eq!(names[..4], ["0.weight", "0.bias", "1.weight", "1.bias"]);
    assert_eq!(dict.get("3.weight").unwrap(), &Tensor::new(&[2, 3], &[0f32, 1., 2., 3., 4., 5.]));
}

#[test]
fn contiguous_tensors_are_not_copied() {
    let file = Blob::new(bytes("state_dict.pt"));
    let dict = parse(&file).unwrap();
    let inside = |name| file.bytes().as_ptr_range().contains(&dict.get(name).unwrap().bytes().as_ptr());
    assert!(inside("network.0.weight") && inside("row") && !inside("transposed"));
}

#[test]
fn other_torch_files_are_unsupported_by_name() {
    let cases = [
        ("big_endian.pt", "not little-endian"),
        ("compressed.pt", "is compressed"),
        ("scripted.pt", "TorchScript"),
        ("whole_module.pt", "`__main__.Net`, which is not allowed"),
        ("arrays.npz", ".npz archive"),
    ];
    for (name, text) in cases {
        let d = read(name).unwrap_err();
        assert!(d.kind == Kind::Unsupported && d.message.contains(text), "{name}: {d}");
    }
}

#[test]
fn nothing_is_called_but_what_is_allowed() {
    let refused = |pickle: &[u8], text: &str| {
        let d = unpickle(pickle).unwrap_err();
        assert!(d.kind == Kind::Unsupported && d.message.contains(text), "{d}");
        assert!(d.offset.is_some() && d.origin.is_some());
    };
    refused(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.", "`posix.system`, which is not allowed");
    refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "`builtins.eval`");
    refused(b"\x80\x02ctorch\nload\n.", "`torch.load`");
    refused(b"\x80\x02ctorch\nComplexFloatStorage\n.", "`torch.ComplexFloatStorage`, an element type that is not read");
    refused(b"\x80\x02ctorch\nfloat8_e4m3fn\n.", "an element type that is not read");
    refused(b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ");
    refused(b"(iposix\nsystem\n.", "INST");
    refused(b"\x80\x02X\x01\0\0\0aK\x01b.", "sets the attributes");
    refused(b"I1\n.", "opcode INT");
    refused(b"\x80\x09N.", "protocol 9");
}

#[test]
fn wrong_pickles_are_refused() {
    let wrong = |pickle: &[u8], text: &str| {
        let d = unpickle(pickle).unwrap_err();
        assert!(d.kind == Kind::WrongInput && d.to_string().contains(text), "{d}");
    };
    wrong(b"", "before its last opcode");
    wrong(b".", "the stack is empty");
    wrong(b"(.", "the stack is empty");
    wrong(b"N(0", "more values than there are since the mark");
    wrong(b"t", "no mark");
    wrong(b"NK\x01a.", "no container");
    wrong(b"}K\x01a.", "no list");
    wrong(b"](K\x01u.", "no dictionary");
    wrong(b"}(K\x01u.", "a key without a value");
    wrong(b"h\x05.", "never stored");
    wrong(b"X\xff\xff\xff\xffabc", "inside a value");
    wrong(b"X\x01\0\0\0\xff.", "not UTF-8");
    wrong(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "inside a value");
    wrong(b"cabc", "inside a name");
    wrong(b"NNR.", "no function");
    wrong(b"ccollections\nOrderedDict\nNR.", "no tuple");
    wrong(b"ccollections\nOrderedDict\nN\x85R.", "OrderedDict with 1 arguments");
    wrong(b"NQ.", "describes no storage");
    wrong(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x007NK\x02tQ.", "lacks the storage `a/data/7`");
    wrong(b"\xff", "no opcode 0xff");
    wrong(&vec![b'N'; 3 << 20], "too many values");
}

#[test]
fn a_tensor_must_lie_in_its_storage() {
    let dict = unpickle(&tensor_pickle(2, b"K\0", b"K\x02\x85", b"K\x01\x85")).unwrap();
    assert_eq!(dict.get("w").unwrap(), &Tensor::new(&[2], &[1f32, 2.0]));
    let wrong = |pickle: Vec<u8>, text: &str| {
        let d = unpickle(&pickle).unwrap_err();
        assert!(d.kind == Kind::WrongInput && d.to_string().contains(text), "{d}");
    };
    wrong(tensor_pickle(3, b"K\0", b"K\x02\x85", b"K\x01\x85"), "wrong length");
    wrong(tensor_pickle(2, b"K\x01", b"K\x02\x85", b"K\x01\x85"), "reaches beyond it");
    wrong(tensor_pickle(2, b"K\0", b"K\x02\x85", b"K\x02\x85"), "reaches beyond it");
    wrong(tensor_pickle(2, b"K\0", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"), "negative");
    wrong(tensor_pickle(2, b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85"), "negative");
    wrong(tensor_pickle(2, b"K\0", b"K\x02\x85", b")"), "do not go with its strides");
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let pair = |a: &[u8], b: &[u8]| [a, b, b"\x86"].concat();
    wrong(tensor_pickle(2, b"K\0", &pair(huge, huge), &pair(huge, huge)), "reaches beyond it");
    wrong(tensor_pickle(2, huge, b"K\x01\x85", b"K\x01\x85"), "reaches beyond it");
    wrong(tensor_pickle(2, b"K\0", &pair(huge, huge), &pair(b"K\0", b"K\0")), "is too large");
    let expanded = tensor_pickle(2, b"K\0", &pair(b"J\0\0\x01\0", b"J\0\0\x01\0"), &pair(b"K\0", b"K\0"));
    assert_eq!(unpickle(&expanded).unwrap_err().kind, Kind::Unsupported);
    let empty = tensor_pickle(2, huge, &[huge, huge, &b"K\0\x87"[..]].concat(), b"K\0K\0K\0\x87");
    assert!(unpickle(&empty).is_err());
    let empty = tensor_pickle(2, b"K\x02", &pair(b"K\0", b"K\x05"), &pair(b"K\x05", b"K\x01"));
    assert_eq!(unpickle(&empty).unwrap().get("w").unwrap().dims(), [0, 5]);
}

#[test]
fn cyclic_and_deep_data_is_harmless() {
    let d = unpickle(b"\x80\x02}q\0X\x01\0\0\0ah\0s.").unwrap_err();
    assert!(d.message.contains("holds no tensors"), "{d}");
    let deep = [&b"\x80\x02}X\x05\0\0\0modelN"[..], &vec![0x85; 300_000], b"s."].concat();
    assert!(unpickle(&deep).unwrap_err().message.contains("holds no tensors"));
    assert!(unpickle(b"K\x01.").unwrap_err().message.contains("no dictionary"));
}

#[test]
fn wrong_archives_are_refused() {
    let wrong = |bytes: &[u8], text: &str| {
        let d = parse(&Blob::new(bytes.to_vec())).unwrap_err();
        assert!(d.to_string().contains(text), "{d}");
    };
    wrong(b"PK\x03\x04", "no whole zip archive");
    wrong(&zip(&[]), "no torch file");
    wrong(&zip(&[("x", b""), ("y/z/data.pkl", b"")]), "no torch file");
    wrong(&zip(&[("a/data.pkl", b"}."), ("a/data.pkl", b"}.")]), "occurs twice");
    wrong(&zip(&[("a/data.pkl", b"}."), ("b/data.pkl", b"}.")]), "several pickles");
    let good = zip(&[("a/data.pkl", b"}.")]);
    wrong(&good, "holds no tensors");
    let central = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    wrong(&changed(central + 8, 1), "is encrypted");
    wrong(&changed(central + 10, 8), "is compressed");
    wrong(&changed(central + 20, 9), "two different sizes");
    wrong(&changed(central + 42, 9), "not where it should be");
    wrong(&changed(good.len() - 6, 9), "not where it should be");
    wrong(&changed(good.len() - 18, 1), "several parts");
    wrong(&changed(good.len() - 7, 255), "after the file");
}

#[test]
fn numbers_of_64_bits_stand_in_the_extra_field() {
    let plain = zip(&[("a/data.pkl", b"}.")]);
    let central = plain.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let mut wide = plain.clone();
    wide[central + 20..central + 28].fill(0xff);
    wide[central + 30] = 20;
    let extra = [&[1, 0, 16, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2][..], &[0; 7]].concat();
    wide.splice(central + 56..central + 56, extra);
    let len_at = wide.len() - 10;
    wide[len_at] += 20;
    assert!(parse(&Blob::new(wide.clone())).unwrap_err().message.contains("holds no tensors"));
    wide[central + 58] = 8;
    wide[central + 30] = 12;
    assert!(parse(&Blob::new(wide)).is_err());
}

#[test]
fn every_cut_and_every_changed_byte_is_read_or_refused() {
    let whole = bytes("state_dict.pt");
    for end in 0..whole.len() {
        assert!(parse(&Blob::new(whole[..end].to_vec())).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            // Weights may change unseen, since checksums are not compared; what counts is that there is an outcome.
            let _ = parse(&Blob::new(bytes));
        }
    }
}
