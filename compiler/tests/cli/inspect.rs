//! `bitc inspect`.

use crate::harness::Bench;

#[test]
fn the_summary_has_the_keys_that_scripts_read() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let json = bench.ok("inspect mlp.bit --json").json();
    let weights = 20 * 24 + 24 * 24 + 24 * 5;
    assert_eq!((&json["total_params"], &json["quantized_params"]), (&weights.into(), &weights.into()));
    assert_eq!(json["bytes"]["original"], 4 * weights);
    let packed = json["bytes"]["packed"].as_u64().unwrap();
    let reduction = json["memory_reduction"].as_f64().unwrap();
    assert!((reduction - (1.0 - packed as f64 / (4.0 * f64::from(weights)))).abs() < 1e-12);
    let layers = json["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    for layer in layers {
        assert_eq!(layer["op"], "bit_linear");
        let bits = layer["bits_per_weight"].as_f64().unwrap();
        assert!((2.0..16.0).contains(&bits), "{layer}");
        assert_eq!(layer["scale"]["count"], 1);
        assert!(layer["scale"]["min"].as_f64() > Some(0.0) && layer["scale"]["min"] == layer["scale"]["max"]);
        assert!((0.0..1.0).contains(&layer["sparsity"].as_f64().unwrap()) && layer["bytes"].is_u64());
    }
    assert_eq!(layers[0]["macs"], 20 * 24);
    // Of a model: what its artifact would hold.
    assert_eq!(bench.ok("inspect mlp.yaml --json").json()["layers"], json["layers"]);
}

#[test]
fn the_text_names_layers_and_sections() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let text = bench.ok("inspect mlp.bit").stdout;
    for part in ["bits/weight", "scales", "bit_linear", "sections", "arena", "trit2", "input"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(bench.ok("inspect float.yaml").stdout.contains("source "));
}

#[test]
fn graphs_are_shown_as_text_dot_and_page() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let source = bench.ok("inspect mlp.yaml --ir").stdout;
    let frozen = bench.ok("inspect mlp.bit --ir").stdout;
    assert!(
        source.contains("graph @") && frozen.contains("frozen graph @") && frozen.contains("bit_linear"),
        "{frozen}"
    );
    bench.ok("inspect mlp.bit --dot g.dot --html g.html");
    assert!(std::fs::read_to_string(bench.path("g.dot")).unwrap().starts_with("digraph"));
    let page = std::fs::read_to_string(bench.path("g.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("bit_linear"));
    bench.ok("compile mlp.yaml --strip");
    bench.fails("inspect mlp.bit --ir", 1, &["does not carry its graph", "--strip"]);
}

#[test]
fn weights_of_the_source_are_counted_once() {
    let bench = Bench::new();
    // Two planes stand for one weight of the source.
    bench.ok("compile float.yaml -o one.bit --ternary optimal");
    bench.ok("compile float.yaml -o two.bit --ternary optimal --planes 2");
    let (one, two) = (bench.ok("inspect one.bit --json").json(), bench.ok("inspect two.bit --json").json());
    assert_eq!(two["layers"].as_array().unwrap().len(), 4);
    for key in ["total_params", "quantized_params"] {
        assert_eq!(two[key], 6 * 8 + 8 * 3, "{two}");
    }
    assert_eq!(two["bytes"]["original"], one["bytes"]["original"]);
    assert_eq!(two["bytes"]["packed"].as_u64().unwrap(), 2 * one["bytes"]["packed"].as_u64().unwrap());
    // A weight that two layers share is stored once.
    let shared = "graph @g(%x: f32[N, 4]) {
        const %w: t2[4, 4] = dense [1, 0, 1, -1, 0, 1, 1, 0, -1, -1, 0, 1, 1, 1, 0, 0]
        const %s: f32 = dense [0.5]
        %p, %ps = quantize_act(%x)
        %h = bit_linear(%p, %ps, %w, %s)
        %q, %qs = quantize_act(%h)
        %y = bit_linear(%q, %qs, %w, %s)
        return %y\n}\n";
    bench.write("shared.bir", shared.as_bytes());
    let json = bench.ok("inspect shared.bir --json").json();
    assert_eq!((&json["total_params"], &json["bytes"]["original"]), (&16.into(), &64.into()), "{json}");
    assert_eq!(json["layers"][1]["bytes"], 0);
}

#[test]
fn standard_output_takes_one_result() {
    let bench = Bench::new();
    bench.fails("inspect mlp.yaml --dot - --json", 2, &["`--dot` and `--json` cannot both go to standard output"]);
    bench.fails("inspect mlp.yaml --dot - --html -", 2, &["`--dot` and `--html`"]);
    bench.fails("inspect mlp.yaml --dot - --ir", 2, &["`--dot` and `--ir`"]);
    let page = bench.ok("inspect mlp.yaml --html -").stdout;
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    bench.ok("inspect mlp.yaml --html page.html --json").json();
    let graph = bench.ok("inspect mlp.yaml --dot - --html page.html").stdout;
    assert!(graph.starts_with("digraph") && graph.trim_end().ends_with('}'), "{graph}");
    bench.fails("inspect mlp.yaml --ir --html page.html", 2, &["--html", "--ir"]);
    bench.fails("inspect mlp.yaml --dot ./mlp.yaml", 2, &["written over"]);
}
