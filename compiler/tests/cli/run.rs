//! `bitc run` and `bitc bench`.

use bitc_ir::{DType, Tensor, random};

use crate::harness::Bench;

#[test]
fn an_artifact_answers_as_its_model_does() {
    let bench = Bench::new();
    bench.array("x.npy", &random::tensor(DType::F32, &[7, 20], 1));
    bench.ok("compile mlp.yaml");
    bench.ok("run mlp.yaml --input x.npy --output expected.npy");
    let expected = bench.read("expected.npy");
    for isa in ["portable", "avx2", "avx512"] {
        let done = bench.bitc(&format!("run mlp.bit --input x.npy --output y.npy --isa {isa}"));
        if done.code == 3 {
            assert!(done.stderr.contains("no kernels for"), "{done:?}");
            continue;
        }
        let found = bench.read("y.npy");
        assert_eq!(found.dims(), [7, 5]);
        let close = expected.to_f64().iter().zip(found.to_f64()).all(|(a, b)| (a - b).abs() < 1e-5 * a.abs().max(1.0));
        assert!(close, "{isa}: {expected:?} {found:?}");
    }
}

#[test]
fn outputs_go_nowhere_else() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml -o mlp.BIT");
    bench.fails("run mlp.BIT --output mlp.BIT", 1, &["mlp.BIT", "outputs go to a folder", ".npy"]);
    bench.ok("run mlp.BIT --output y.NPY");
    assert_eq!(bench.read("y.NPY").dims(), [1, 5]);
    if cfg!(unix) {
        bench.ok("run mlp.BIT --output /dev/null");
    }
    bench.fails("run mlp.BIT --seed -1", 2, &["invalid value '-1' for '--seed"]);
    for command in ["run", "inspect", "bench --seconds 0", "export -o x.onnx", "verify mlp.BIT"] {
        bench.fails(&format!("{command} mlp.BIT --weights w.pt"), 2, &["`--weights` is for models"]);
    }
}

#[test]
fn threads_change_nothing() {
    let bench = Bench::new();
    bench.array("x.npy", &random::tensor(DType::F32, &[33, 20], 1));
    bench.ok("compile mlp.yaml");
    bench.ok("run mlp.bit --input x.npy --output one.npy");
    bench.ok("run mlp.bit --input x.npy --output three.npy --threads 3");
    assert_eq!(bench.read("one.npy"), bench.read("three.npy"));
    bench.ok("verify mlp.yaml mlp.bit --threads 2");
    assert_eq!(bench.ok("bench mlp.bit --threads 2 --seconds 0.01 --json").json()["runs"][0]["threads"], 2);
}

#[test]
fn several_outputs_go_to_a_folder_with_their_names() {
    let bench = Bench::new();
    bench.array("a.npy", &Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]));
    bench.array("b.npy", &Tensor::new(&[2, 2], &[5.0f32, 6.0, 7.0, 8.0]));
    bench.ok("compile two.bir");
    bench.ok("run two.bit --input a.npy --input b.npy --output out");
    assert_eq!(bench.names("out"), ["out0.npy", "out1.npy", "outputs.json"]);
    assert_eq!(std::fs::read_to_string(bench.path("out/outputs.json")).unwrap().trim(), r#"["sum","product"]"#);
    assert_eq!(bench.read("out/out1.npy").to_f64(), [5.0, 12.0, 21.0, 32.0]);
    // By name, in any order.
    bench.ok("run two.bit --input b=a.npy --input a=b.npy --output swapped");
    assert_eq!(bench.read("swapped/out0.npy").to_f64(), [6.0, 8.0, 10.0, 12.0]);
    bench.fails("run two.bit --input a.npy --input b.npy --output y.npy", 2, &["one file", "--output DIR"]);
    bench.fails("run two.bit --input a.npy", 2, &["`b` is missing"]);
    bench.fails("run two.bit --input a.npy --input c=b.npy", 2, &["no input `c`"]);
}

#[test]
fn random_inputs_are_seeded_and_outputs_shown() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let one = bench.ok("run mlp.bit --seed 1").stdout;
    assert!(one.contains("f32[1, 5] ["), "{one}");
    assert_eq!(bench.ok("run mlp.bit --seed 1").stdout, one);
    assert_ne!(bench.ok("run mlp.bit --seed 2").stdout, one);
    assert!(bench.ok("run mlp.bit --dim N=3").stdout.contains("f32[3, 5]"));
    assert!(bench.ok("run mlp.yaml --dim N=3").stdout.contains("f32[3, 5]"));
}

#[test]
fn an_empty_batch_runs() {
    let bench = Bench::new();
    bench.array("none.npy", &Tensor::splat(&[0, 20], 0f32));
    bench.ok("compile mlp.yaml");
    for file in ["mlp.bit", "mlp.yaml"] {
        bench.ok(&format!("run {file} --input none.npy --output y.npy"));
        assert_eq!(bench.read("y.npy").dims(), [0, 5], "{file}");
    }
}

#[test]
fn arrays_are_converted_only_without_loss() {
    let bench = Bench::new();
    bench.ok("compile two.bir");
    bench.array("b.npy", &Tensor::splat(&[1, 2], 1f32));
    bench.array("i.npy", &Tensor::new(&[1, 2], &[3i64, -4]));
    bench.ok("run two.bit --input i.npy --input b.npy --output out");
    assert_eq!(bench.read("out/out0.npy").to_f64(), [4.0, -3.0]);
    bench.array("d.npy", &Tensor::new(&[1, 2], &[0.1f64, 0.5]));
    bench.fails("run two.bit --input d.npy --input b.npy", 1, &["d.npy", "element 0", "f64", "f32", "hint"]);
    bench.array("s.npy", &Tensor::splat(&[1, 3], 1f32));
    bench.fails("run two.bit --input s.npy --input b.npy", 1, &["s.npy", "expected: f32[N, 2]", "found: f32[1, 3]"]);
    bench.array("t.npy", &Tensor::splat(&[2, 2], 1f32));
    bench.fails("run two.bit --input t.npy --input b.npy", 1, &["two.bit"]);
    bench.fails("run two.bir --input t.npy --input b.npy", 1, &["two.bir"]);
}

#[test]
fn a_profile_names_instructions() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let done = bench.ok("run mlp.bit --profile");
    assert!(done.stderr.contains("bit_linear") && done.stdout.contains("f32[1, 5]"), "{done:?}");
    bench.ok("run mlp.bit --profile=trace.json");
    let trace = std::fs::read_to_string(bench.path("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().any(|e| e["name"].as_str().unwrap().ends_with("/bit_linear")), "{events:?}");
    bench.fails("run mlp.yaml --profile", 2, &["only an artifact"]);
}

#[test]
fn a_benchmark_has_the_keys_that_scripts_read() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let json = bench.ok("bench mlp.bit --batch 1,3 --seconds 0.01 --isa portable --json").json();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["batch"], &runs[1]["batch"]), (2, &1.into(), &3.into()));
    for run in runs {
        assert_eq!((&run["threads"], &run["isa"]), (&1.into(), &"portable".into()));
        for clock in ["wall_ns", "cpu_ns"] {
            let at = |key: &str| run[clock][key].as_f64().unwrap();
            assert!(at("min") <= at("p10") && at("p10") <= at("median") && at("median") <= at("p90"), "{run}");
        }
        assert!(run["wall_ns"]["min"].as_f64().unwrap() > 0.0 && run["iterations"].as_u64().unwrap() >= 5);
    }
    let text = bench.ok("bench mlp.yaml --seconds 0.01 --rotate 20k").stdout;
    assert!(text.contains("median us") && text.contains("copies in turn"), "{text}");
    bench.fails("bench mlp.bit --batch 1,x", 2, &["`x` is not a size"]);
    bench.fails("bench mlp.bit --seconds -1", 2, &[]);
    bench.ok("compile mlp.yaml -o fixed.bit --dim N=2");
    bench.ok("bench fixed.bit --seconds 0.01");
    bench.fails("bench fixed.bit --batch 4", 2, &["fixed"]);
}
