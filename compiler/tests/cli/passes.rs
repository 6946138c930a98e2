//! `bitc opt`, `bitc list` and `bitc completions`.

use crate::harness::{Bench, TWO};

#[test]
fn chosen_passes_run_over_text() {
    let bench = Bench::new();
    let text = "graph @g(%x: f32[N, 2]) {\n  %a = relu(%x)\n  %b = relu(%x)\n  %y = add(%a, %b)\n  return %y\n}\n";
    bench.write("g.bir", text.as_bytes());
    let done = bench.ok("opt g.bir --passes cse");
    assert_eq!(done.stdout.matches("relu").count(), 1, "{}", done.stdout);
    bench.ok("opt g.bir --passes simplify,cse -o h.bir --verify=each");
    assert_eq!(std::fs::read_to_string(bench.path("h.bir")).unwrap().matches("relu").count(), 1);
    bench.fails("opt g.bir --passes cze", 2, &["no pass is called `cze`", "did you mean `cse`?"]);
    bench.fails("opt g.bir", 2, &["--passes"]);
    bench.fails("opt g.bir --passes cse -o ./g.bir", 2, &["written over"]);
    let done = bench.ok("opt two.bir --passes eliminate-dead-code");
    assert_eq!(done.stdout, TWO);
}

#[test]
fn pipelines_can_be_files() {
    let bench = Bench::new();
    bench.write("p.yaml", b"goal: [frozen, lowerable]\npasses:\n  - fold-constants\n  - freeze\n  - fold-constants\n");
    bench.ok("compile mlp.yaml --pipeline p.yaml");
    bench.ok("compile mlp.yaml --pipeline debug");
    bench.ok("verify mlp.yaml mlp.bit");
    bench.write("bad.yaml", b"goal: [frozen]\npasses:\n  - simplify\n  - freez\n");
    bench.fails("compile mlp.yaml --pipeline bad.yaml", 1, &["bad.yaml:4:5", "`freez`", "did you mean `freeze`?"]);
    bench.fails("compile mlp.yaml --pipeline defualt", 2, &["did you mean `default`?"]);
    bench.ok("compile mlp.yaml --set ternarize-weights.tolerance=1e-5");
    bench.fails("compile mlp.yaml --set tolerence=1", 2, &["tolerence"]);
    bench.fails("compile mlp.yaml --set tolerance=5", 2, &["from 0 to 0.1"]);
}

#[test]
fn everything_there_is_can_be_listed() {
    let bench = Bench::new();
    for (what, name) in [("ops", "bit_linear"), ("passes", "freeze"), ("pipelines", "default"), ("isas", "portable")] {
        assert!(bench.ok(&format!("list {what}")).stdout.contains(name), "{what}");
        let json = bench.ok(&format!("list {what} --json")).json();
        assert!(json[what].as_array().unwrap().iter().any(|e| e["name"] == name), "{json}");
    }
    let json = bench.ok("list ops --json").json();
    let op = |name: &str| json["ops"].as_array().unwrap().iter().find(|o| o["name"] == name).unwrap().clone();
    assert_eq!((&op("relu")["runtime"], &op("custom")["evaluator"]), (&true.into(), &false.into()));
    bench.fails("list models", 2, &["--models DIR", "BITC_MODELS"]);
    bench.fails("list colours", 2, &["colours"]);
}

#[test]
fn shells_get_completions() {
    let bench = Bench::new();
    assert!(bench.ok("completions bash").stdout.contains("_bitc()"));
    assert!(bench.ok("completions fish").stdout.contains("complete -c bitc"));
    bench.fails("completions tcsh", 2, &["tcsh"]);
}
