//! `bitc verify --reference tract`: what it says with the feature, and without.

use crate::harness::Bench;

#[cfg(not(feature = "tract"))]
#[test]
fn a_build_without_tract_says_so() {
    let bench = Bench::new();
    bench.ok("export float.yaml -o m.onnx --form float");
    bench.ok("compile m.onnx -o m.bit");
    bench.fails("verify m.onnx m.bit --reference tract", 3, &["this build has no tract", "--features tract"]);
}

#[cfg(feature = "tract")]
#[test]
fn artifacts_agree_with_the_original_file() {
    let bench = Bench::new();
    bench.ok("export float.yaml -o m.onnx --form float");
    bench.ok("compile m.onnx -o m.bit");
    let found = bench.ok("verify m.onnx m.bit --reference tract --batch 1,3 --json").json();
    assert_eq!(found["equal"], true);
    assert!(found["max_relative_difference"].as_f64().unwrap() < 1e-5, "{found}");
    // Another model of the same inputs is another function.
    let other = crate::harness::FLOAT.replace("random: 4", "random: 5");
    bench.write("other.yaml", other.as_bytes());
    bench.ok("compile other.yaml -o other.bit");
    bench.fails("verify m.onnx other.bit --reference tract", 1, &["does not compute what the model does"]);
}

#[cfg(feature = "tract")]
#[test]
fn what_tract_does_not_read_is_refused_by_name() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml -o m.bit");
    let verify = "verify m.onnx m.bit --reference tract";
    bench.ok("export mlp.yaml -o m.onnx --form functions");
    bench.fails(verify, 3, &["tract does not read model-local functions", "BitLinear", "--form inline"]);
    bench.ok("export mlp.yaml -o m.onnx --form ort");
    bench.fails(verify, 3, &["without their domain", "com.microsoft::MatMulNBits"]);
    bench.ok("export mlp.yaml -o m.onnx --form qdq");
    bench.fails(verify, 3, &["no integers of two bits"]);
    bench.fails("verify mlp.yaml m.bit --reference tract", 2, &["tract runs ONNX files only"]);
}
