//! Damaged files: nothing panics, whatever is cut or flipped.

use bitc_ir::Blob;
use bitc_onnx::external::NoFiles;
use bitc_onnx::import::{Options, import};
use bitc_onnx::limits::Limits;
use bitc_onnx::proto::ModelProto;
use prost::Message as _;

use crate::builder::{
    attr_f, attr_g, attr_i, attr_ints, attr_t, floats, function, graph, ints, model, node, raw, with_constants,
};

/// A model with a bit of everything.
fn sample() -> Vec<u8> {
    let then = graph(&[], vec![node("t = Relu(h)", vec![])], &["t: f32[N, 2]"]);
    let other = graph(&[], vec![node("e = Neg(h)", vec![])], &["e: f32[N, 2]"]);
    let nodes = vec![
        node("s = Shape(x)", vec![]),
        node("n = Gather(s, zero)", vec![attr_i("axis", 0)]),
        node("d = Concat(n, minus)", vec![attr_i("axis", 0)]),
        node("r = Reshape(x, d)", vec![]),
        node("g = Gemm(r, w, b)", vec![attr_i("transB", 1), attr_f("alpha", 1.0)]),
        node("h = my::Act(g)", vec![attr_f("slope", 0.5)]),
        node("i = If(c)", vec![attr_g("then_branch", then), attr_g("else_branch", other)]),
        node("k = Constant()", vec![attr_t("value", floats("", &[2], &[1.0, 2.0]))]),
        node("p = Pad(i, pads)", vec![]),
        node("q = Slice(p, zero, minus, one)", vec![]),
        node("y = Transpose(q)", vec![attr_ints("perm", &[1, 0])]),
    ];
    let constants = vec![
        ints("zero", &[0]),
        ints("one", &[1]),
        ints("minus", &[-1]),
        ints("pads", &[0, 1, 0, 1]),
        floats("w", &[2, 4], &[0.5; 8]),
        floats("b", &[2], &[0.25; 2]),
        raw("c", 9, &[], &[1]),
        raw("u", 26, &[5], &[0x1b, 0x01]),
    ];
    let body = vec![node("n = LeakyRelu(a)", vec![crate::builder::attr_ref("alpha", "slope", 1)])];
    let mut f = function("my::Act", &["a"], &["n"], body);
    f.attribute.push("slope".into());
    let graph = with_constants(graph(&["x: f32[N, 2, 2]"], nodes, &["y: f32[4, N]"]), constants);
    ModelProto { functions: vec![f], ..model(graph) }.encode_to_vec()
}

fn try_import(bytes: Vec<u8>) -> bool {
    let limits = Limits { memory_bytes: Some(16 << 20), ..Limits::default() };
    import(&Blob::new(bytes), &mut NoFiles, &Options { limits, ..Options::default() }).is_ok()
}

#[test]
fn the_sample_is_fine() {
    assert!(try_import(sample()));
}

#[test]
fn every_cut_is_survived() {
    let bytes = sample();
    let fine = (0..bytes.len()).filter(|&len| try_import(bytes[..len].to_vec())).count();
    // Cuts between the last fields of the model leave a shorter model.
    assert!(fine < 8, "{fine}");
}

#[test]
fn every_flipped_byte_is_survived() {
    let bytes = sample();
    let mut refused = 0;
    for (i, mask) in (0..bytes.len()).flat_map(|i| [0x01u8, 0x10, 0x80, 0xff].map(|m| (i, m))) {
        let mut damaged = bytes.clone();
        damaged[i] ^= mask;
        refused += usize::from(!try_import(damaged));
    }
    assert!(refused > bytes.len(), "{refused} of {}", 4 * bytes.len());
}

#[test]
fn random_bytes_are_no_model() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    for len in 0..300 {
        assert!(!try_import((0..len).map(|_| next()).collect()));
    }
}
