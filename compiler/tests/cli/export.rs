//! `bitc export`: every form, from every stage, and what it refuses.

use bitc_ir::Tensor;
use bitc_onnx::proto::ModelProto;

use crate::harness::Bench;

/// A model that was written.
fn model(bench: &Bench, name: &str) -> ModelProto {
    let bytes = bitc_ir::Blob::new(std::fs::read(bench.path(name)).unwrap());
    let limits = bitc_onnx::limits::Limits::default();
    let mut budget = limits.budget(bytes.bytes().len() as u64);
    bitc_onnx::import::decode(&bytes, &limits, &mut budget).unwrap()
}

fn op_types(model: &ModelProto) -> Vec<&str> {
    let mut all: Vec<_> = model.graph.iter().flat_map(|g| &g.node).map(|n| n.op_type.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn opset(model: &ModelProto) -> i64 {
    model.opset_import.iter().find(|o| o.domain.is_empty()).unwrap().version
}

#[test]
fn every_form_is_written_with_its_operators_and_its_difference() {
    let bench = Bench::new();
    let forms = [
        ("functions", 21, "BitLinear", "exact"),
        ("inline", 13, "MatMulInteger", "exact"),
        ("float", 21, "MatMul", "2^24"),
        ("qdq", 25, "DequantizeLinear", "1e-2"),
        ("ort", 21, "MatMulNBits", "1e-2"),
    ];
    for (form, version, op, difference) in forms {
        let done = bench.ok(&format!("export mlp.yaml -o m.onnx --form {form}"));
        assert!(done.stdout.is_empty() && done.stderr.contains(difference), "{done:?}");
        let model = model(&bench, "m.onnx");
        assert!(op_types(&model).contains(&op), "{form}: {:?}", op_types(&model));
        assert_eq!((opset(&model), model.functions.is_empty()), (version, form != "functions"), "{form}");
        assert_eq!(model.producer_name, "bitc");
    }
    bench.ok("export mlp.yaml -o m.onnx --form qdq --opset 21");
    assert_eq!(opset(&model(&bench, "m.onnx")), 21);
}

#[test]
fn an_export_runs_like_its_source_from_every_stage() {
    let bench = Bench::new();
    bench.array("x.npy", &bitc_ir::random::tensor(bitc_ir::DType::F32, &[3, 20], 7));
    bench.ok("run mlp.yaml --input x.npy -o want.npy");
    bench.ok("compile mlp.yaml -o m.bit");
    bench.ok("compile mlp.yaml -o m.bir");
    bench.ok("compile mlp.yaml -o source.onnx");
    let want = bench.read("want.npy").to_f64();
    for source in ["mlp.yaml", "m.bit", "m.bir", "source.onnx"] {
        bench.ok(&format!("export {source} -o out.onnx"));
        bench.ok("run out.onnx --input x.npy -o found.npy");
        let found = bench.read("found.npy").to_f64();
        let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        let apart = want.iter().zip(&found).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(apart <= 1e-5 * largest, "{source}: {apart}");
    }
}

/// The lines of a graph that was compiled from a file, in an order that does not depend on how it was read.
fn frozen(bench: &Bench, name: &str) -> Vec<String> {
    bench.ok(&format!("compile {name} -o back.bir"));
    let text = std::fs::read_to_string(bench.path("back.bir")).unwrap();
    // An output that had a name of its own inside has only one after the trip.
    let text = text.replace("%network.4 as \"output\"", "%output").replace("%network.4 =", "%output =");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_comes_back_is_the_graph_that_was_written() {
    let bench = Bench::new();
    let want = frozen(&bench, "mlp.yaml");
    assert!(want.iter().any(|l| l.contains("bit_linear")), "{want:?}");
    for form in ["functions", "inline"] {
        bench.ok(&format!("export mlp.yaml -o m.onnx --form {form}"));
        assert_eq!(frozen(&bench, "m.onnx"), want, "{form}");
    }
}

#[test]
fn weights_go_beside_the_model_when_asked() {
    let bench = Bench::new();
    bench.array("x.npy", &Tensor::splat(&[2, 6], 0.5f32));
    bench.write("wide.yaml", b"model: sequential\ninput: {name: x, shape: [N, 6]}\nlayers:\n- linear: {name: a, out: 80}\nweights: {random: 4}\n");
    bench.ok("export wide.yaml -o big.onnx --external-data");
    assert!(std::fs::metadata(bench.path("big.onnx.data")).unwrap().len() >= 4 * 6 * 80);
    bench.ok("run wide.yaml --input x.npy -o a.npy");
    bench.ok("run big.onnx --input x.npy -o b.npy");
    assert_eq!(bench.read("a.npy"), bench.read("b.npy"));
    bench.fails("export wide.yaml -o - --external-data", 2, &["a file beside the model"]);
}

#[test]
fn wrong_wishes_are_refused_by_name() {
    let bench = Bench::new();
    bench.fails("export mlp.yaml -o m.onnx --form function", 2, &["no form `function`", "did you mean `functions`?"]);
    bench.fails("export mlp.yaml -o m.onnx --form qdq --opset 17", 2, &["opset 17", "21 to 26"]);
    bench.fails("export missing.yaml -o m.onnx", 1, &["missing.yaml"]);
    bench.write("bits.bir", b"graph @g(%a: u8[4], %b: u8[4]) { %x = xor(%a, %b)  %y = shift_left(%x, %b)  return %y }");
    bench.fails("export bits.bir -o m.onnx --form inline", 3, &["`xor`", "opset 18"]);
    assert!(!bench.path("m.onnx").exists());
    bench.ok("export bits.bir -o m.onnx");
    bench.write("products.bir", b"graph @g(%x: f32[N, 4]) { %y = cumprod(%x) {axis = 1}  return %y }");
    bench.fails("export products.bir -o p.onnx", 3, &["`cumprod`", "since opset 26, this is opset 21"]);
    bench.ok("export products.bir -o p.onnx --opset 26");
    assert_eq!(op_types(&model(&bench, "p.onnx")), ["CumProd"]);
    bench.fails("export products.bir -o p.onnx --opset 27", 2, &["opset 27", "13 to 26"]);
    bench.ok("compile mlp.yaml --strip -o bare.bit");
    bench.fails("export bare.bit -o m2.onnx --dim N=2", 2, &["`--dim` is for models"]);
    bench.fails("export bare.bit -o m2.onnx", 1, &["does not carry its graph", "--strip"]);
}

#[test]
fn values_are_compared_on_inputs_that_the_source_takes() {
    let bench = Bench::new();
    let table = |n: usize| {
        format!(
            "graph @g(%t: i64[N, 3]) {{ const %e: f32[{n}, 2] = random(seed = 1)  %y = gather(%e, %t) {{axis = 0}} return %y }}"
        )
    };
    bench.write("embedding.bir", table(4).as_bytes());
    let done = bench.ok("export embedding.bir -o e.onnx -v");
    assert!(done.stderr.contains("max |difference| from the source 0"), "{}", done.stderr);
    bench.write("empty.bir", table(0).as_bytes());
    bench.fails("export empty.bir -o n.onnx", 1, &["index", "--no-check"]);
    bench.ok("export empty.bir -o n.onnx --no-check");
}
