//! Wrong usage, wrong files, and the forms of errors.

use serde_json::Value;

use crate::harness::Bench;

#[test]
fn help_and_version_are_results() {
    let bench = Bench::new();
    let done = bench.ok("--help");
    assert!(done.stdout.contains("Examples:") && done.stderr.is_empty());
    assert!(bench.ok("--version").stdout.starts_with("bitc "));
    assert!(bench.ok("compile --help").stdout.contains("bitc compile model.yaml"));
}

#[test]
fn wrong_usage_is_explained() {
    let bench = Bench::new();
    bench.fails("", 2, &["no command", "bitc --help"]);
    bench.fails("compil x", 2, &["compil", "compile"]);
    bench.fails("compile", 2, &["MODEL"]);
    bench.fails("compile mlp.yaml --sripts", 2, &["--sripts"]);
    bench.fails("run mlp.yaml --threads 0", 2, &["1 to 256"]);
    bench.fails("run mlp.yaml --isa avx521", 2, &["did you mean `avx512`?"]);
}

#[test]
fn the_three_forms_of_an_error() {
    let bench = Bench::new();
    bench.write("bad.yaml", b"model: bit_mlp\nn_layers: 2\nhiden_dim: 3\n");
    let text =
        bench.fails("compile bad.yaml", 1, &["bad.yaml:3:1", "`hiden_dim`", "\n  hint: did you mean `hidden_dim`?"]);
    assert!(text.stderr.starts_with("error: bad.yaml:3:1: "), "{}", text.stderr);
    let short = bench.fails("compile bad.yaml --error-format short", 1, &["bad.yaml:3:1"]);
    assert_eq!(short.stderr.lines().count(), 1);
    assert!(short.stderr.len() <= 501);
    let json = bench.bitc("compile bad.yaml --error-format json");
    let value: Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!((&value["schema"], &value["kind"], &value["line"]), (&1.into(), &"wrong_input".into(), &3.into()));
    for key in ["file", "offset", "node", "origin", "expected", "found", "hint", "message"] {
        assert!(value.get(key).is_some(), "{key}: {value}");
    }
    let usage = bench.bitc("compile --error-format json --sripts");
    let value: Value = serde_json::from_str(&usage.stderr).unwrap();
    assert_eq!((usage.code, &value["kind"]), (2, &"usage".into()));
}

#[test]
fn everything_unsupported_is_listed() {
    let bench = Bench::new();
    let text = "graph @g(%x: f32[N, 2]) {\n  %a = custom(%x) {domain = \"my\", op = \"First\"} : f32[N, 2]\n  \
        %y = custom(%a) {domain = \"my\", op = \"Second\"} : f32[N, 2]\n  return %y\n}\n";
    bench.write("custom.bir", text.as_bytes());
    bench.ok("opt custom.bir --passes simplify");
    bench.fails("compile custom.bir", 3, &["First", "Second", "bitc list ops"]);
    bench.fails("run custom.bir", 3, &["First"]);
}

#[test]
fn wrong_files_are_named() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    bench.write("empty.bit", b"");
    bench.write("empty.yaml", b"");
    bench.write("magic.bit", b"BITC");
    let whole = std::fs::read(bench.path("mlp.bit")).unwrap();
    bench.write("cut.bit", &whole[..whole.len() / 2]);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0x40;
    bench.write("damaged.bit", &damaged);
    let mut newer = whole;
    newer[4] = 9;
    bench.write("newer.bit", &newer);
    for command in ["run", "inspect", "bench --seconds 0.01"] {
        bench.fails(&format!("{command} empty.bit"), 1, &["empty.bit"]);
        bench.fails(&format!("{command} empty.yaml"), 1, &["empty.yaml"]);
        bench.fails(&format!("{command} magic.bit"), 1, &["magic.bit", "damaged"]);
        bench.fails(&format!("{command} cut.bit"), 1, &["cut.bit", "damaged"]);
        bench.fails(&format!("{command} damaged.bit"), 1, &["damaged.bit"]);
        bench.fails(&format!("{command} newer.bit"), 3, &["newer.bit", "newer bitc"]);
        bench.fails(&format!("{command} missing.bit"), 1, &["missing.bit", "cannot read"]);
        bench.fails(&format!("{command} ."), 1, &["folder"]);
    }
    bench.fails("compile mlp.bit", 1, &["compiled artifact"]);
    bench.fails("compile mlp.yaml --weights missing.safetensors", 1, &["missing.safetensors"]);
}

#[test]
fn wrong_arrays_are_named() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    bench.write("empty.npy", b"");
    bench.write("text.npy", b"1, 2, 3");
    // A header that claims far more than the file has.
    let mut huge = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }";
    huge.extend(format!("{header:<117}\n").bytes());
    bench.write("huge.npy", &huge);
    let mut complex = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    complex.extend(format!("{:<117}\n", "{'descr': '<c8', 'fortran_order': False, 'shape': (1, 20), }").bytes());
    complex.extend([0; 160]);
    bench.write("complex.npy", &complex);
    for name in ["empty.npy", "text.npy", "huge.npy", "missing.npy"] {
        bench.fails(&format!("run mlp.bit --input {name}"), 1, &[name]);
    }
    bench.fails("run mlp.bit --input complex.npy", 3, &["complex.npy", "element type"]);
}

#[test]
fn names_from_files_cannot_write_to_the_terminal() {
    let bench = Bench::new();
    bench.write("g.bir", b"graph @g(%\"a\\u{1b}[31m\": f32[N]) { return %\"a\\u{1b}[31m\" }");
    // Whatever bitc thinks of such a name, the harness checks that no control character comes out.
    let done = bench.bitc("run g.bir");
    assert!(!done.stdout.contains('\u{1b}'), "{done:?}");
    bench.write("e.yaml", b"model: \"bit\\x1b[31mmlp\"\n");
    bench.fails("compile e.yaml", 1, &["e.yaml:1"]);
}
