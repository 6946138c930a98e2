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
