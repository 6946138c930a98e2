//! Runs every example.

use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, args: &[&Path]) -> (String, Output) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout.clone()).unwrap(), output)
}

#[test]
fn quantize_mlp_lists_what_each_way_costs() {
    let (text, _) = run(env!("CARGO_BIN_EXE_quantize_mlp"), &[]);
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{text}");
    let bytes = |row: &[&str]| row[row.len() - 4].parse::<u64>().unwrap();
    let error = |row: &[&str]| row[row.len() - 2].parse::<f64>().unwrap();
    assert_eq!(error(&rows[0]), 0.0, "{text}");
    for row in &rows[1..] {
        assert!(bytes(row) * 4 < bytes(&rows[0]) && error(row) > 0.0, "{text}");
    }
    assert!(error(&rows[3]) < error(&rows[1]), "calibration should help: {text}");
}

#[test]
fn custom_pass_rewrites_the_graph() {
    let (text, _) = run(env!("CARGO_BIN_EXE_custom_pass"), &[]);
    assert!(text.contains("relu(%x)") && !text.contains("neg("), "{text}");
}

#[test]
fn embed_runtime_answers_as_the_evaluator_does() {
    let model = "graph @m(%x: f32[N, 4]) { const %w: f32[2, 4] = dense [1, 0, 0, 0, 0, 0, 0, 1]  \
                 %y = linear(%x, %w) : f32[N, 2]  return %y }";
    let source = bitc::frontend::Source { path: "m.bir".into(), bytes: bitc_ir::Blob::new(model.as_bytes().to_vec()) };
    let compiled = bitc::compile(&source, &bitc::Options::default()).unwrap();
    let dir = std::env::temp_dir().join(format!("bitc-embed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("m.bit");
    std::fs::write(&path, &compiled.artifact).unwrap();
    let (text, output) = run(env!("CARGO_BIN_EXE_embed_runtime"), &[&path]);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(text.trim(), "y: 0.0000 0.7500");
    assert!(String::from_utf8_lossy(&output.stderr).contains("load to first output"));
}
