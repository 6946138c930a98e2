//! Runs the example.

use std::process::Command;

#[test]
fn embed_runtime_prints_the_outputs_of_an_artifact() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/mlp.bit");
    let output = Command::new(env!("CARGO_BIN_EXE_embed_runtime")).arg(model).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("load to first output"), "{stderr}");
    let values: Vec<f32> =
        stdout.trim().trim_start_matches("output: ").split(' ').map(|v| v.parse().unwrap()).collect();
    assert_eq!(values.len(), 5, "{stdout}");
    assert!(values.iter().all(|v| v.is_finite()) && values.iter().any(|&v| v != values[0]), "{stdout}");

    let missing = Command::new(env!("CARGO_BIN_EXE_embed_runtime")).arg("no-such-file.bit").output().unwrap();
    assert!(!missing.status.success());
}

/// As built by `cargo test -p embed_runtime --profile size --features minimal`: the instructions of embedding for every
/// instruction set, without the standard library.
#[cfg(all(feature = "minimal", not(debug_assertions), target_os = "linux"))]
#[test]
fn a_minimal_program_is_small() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_embed_runtime")).unwrap();
    assert!(program.len() <= 450_000, "{} bytes", program.len());
}
