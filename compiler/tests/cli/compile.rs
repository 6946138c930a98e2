//! `bitc compile`.

use bitc_ir::{DType, Tensor, random};

use crate::harness::Bench;

#[test]
fn the_artifact_takes_the_name_of_the_model() {
    let bench = Bench::new();
    let done = bench.ok("compile mlp.yaml");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert!(std::fs::read(bench.path("mlp.bit")).unwrap().starts_with(b"BITC"));
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml -o one.bit");
    bench.ok("compile mlp.yaml -o two.bit --quiet");
    let read = |name| std::fs::read(bench.path(name)).unwrap();
    assert_eq!(read("one.bit"), read("two.bit"));
    bench.ok("compile mlp.yaml -o small.bit --strip");
    assert!(read("small.bit").len() < read("one.bit").len());
}

#[test]
fn the_extension_or_emit_choose_the_form() {
    let bench = Bench::new();
    bench.ok("compile float.yaml -o float.dot");
    assert!(std::fs::read_to_string(bench.path("float.dot")).unwrap().starts_with("digraph"));
    bench.ok("compile float.yaml -o float.bir");
    let text = std::fs::read_to_string(bench.path("float.bir")).unwrap();
    assert!(text.contains("graph @") && !text.contains("batch_norm"), "{text}");
    // What was written is read again, and means the same.
    bench.ok("compile float.bir -o again.bir");
    assert_eq!(std::fs::read_to_string(bench.path("again.bir")).unwrap(), text);
    let done = bench.ok("compile float.yaml --emit bir -o -");
    assert_eq!(done.stdout, text);
    let json = bench.ok("compile float.yaml --emit json -o -").json();
    assert!(json["nodes"].as_array().unwrap().iter().any(|n| n["op"] == "linear"));
    bench.fails("compile float.yaml -o float.exe", 2, &["extension `exe`", "--emit"]);
    bench.fails("compile float.yaml --emit bri", 2, &["`bri` is no format", "did you mean `bir`?"]);
}

#[test]
fn passes_can_be_stopped_and_watched() {
    let bench = Bench::new();
    let done = bench.ok("compile float.yaml --stop-after simplify --emit bir -o -");
    assert!(done.stdout.contains("batch_norm"), "{}", done.stdout);
    let done = bench.ok("compile float.yaml --print-after fold-batch-norm");
    assert!(done.stderr.contains(", fold-batch-norm") && done.stderr.contains("graph @"), "{}", done.stderr);
    let all = bench.ok("compile float.yaml --print-after all").stderr.matches("graph @").count();
    let changed = bench.ok("compile float.yaml --print-after changed").stderr.matches("graph @").count();
    assert!(0 < changed && changed < all, "{changed} {all}");
    bench.fails("compile float.yaml --print-after freze", 2, &["no pass `freze`", "did you mean `freeze`?"]);
    bench.fails("compile float.yaml --stop-after freze", 2, &["freeze"]);
    let done = bench.ok("compile float.yaml --timings");
    assert!(done.stderr.contains("fold-batch-norm") && done.stderr.contains("all passes"), "{}", done.stderr);
    let none = bench.ok("compile float.yaml --rewrite-limit 0 --emit bir -o -");
    assert!(none.stdout.contains("batch_norm"));
}

#[test]
fn a_dump_folder_holds_one_numbered_file_per_pass() {
    let bench = Bench::new();
    bench.ok("compile float.yaml --dump-dir dump/inner");
    let names = bench.names("dump/inner");
    assert_eq!(names[0], "00-input.bir");
    assert!(names.iter().any(|n| n.ends_with("-freeze.bir")), "{names:?}");
    // Each file can be compiled by itself.
    bench.ok(&format!("compile dump/inner/{} -o x.bit", names[names.len() - 1]));
}

#[test]
fn explain_says_what_became_of_each_layer() {
    let bench = Bench::new();
    let text = bench.ok("compile mlp.yaml --explain").stderr;
    assert!(text.contains("-> ") && text.contains("bit_linear"), "{text}");
    let text = bench.ok("compile float.yaml --explain").stderr;
    assert!(text.contains("not ternarize-weights") && text.contains("its weights are not ternary"), "{text}");
}

#[test]
fn explain_has_one_line_for_each_layer_of_the_source() {
    let bench = Bench::new();
    // A quantiser of many nodes, a product, its bias and an activation: one layer. A float layer follows.
    let model = "graph @g(%x: f32[N, 4]) {
        const %l: f32 = dense [127]
        const %low: f32 = dense [-128]
        const %w: f32[2, 4] = dense [0.5, 0, -0.5, 0.5, 0.5, 0.5, 0, -0.5]
        const %v: f32[2, 2] = dense [0.1, 0.2, 0.3, 0.7]
        const %b: f32[2] = dense [1, 2]
        %a = abs(%x) from \"fc1/abs\"
        %m = reduce_max(%a) {axes = [-1]} from \"fc1/max\"
        %s = div(%m, %l) from \"fc1/div\"
        %d = div(%x, %s) from \"fc1/scaled\"
        %r = round(%d) from \"fc1/round\"
        %c = clip(%r, %low, %l) from \"fc1/clip\"
        %q = mul(%c, %s) from \"fc1/mul\"
        %p = linear(%q, %w) from \"fc1/linear\"
        %z = add(%p, %b) from \"fc1/bias\"
        %h = relu(%z) from \"relu\"
        %y = linear(%h, %v) from \"fc2/linear\"
        return %y\n}\n";
    bench.write("m.bir", model.as_bytes());
    let text = bench.ok("compile m.bir --explain --quiet").stderr;
    let layers: Vec<&str> = text.lines().skip(1).take_while(|line| *line != "nodes:").collect();
    let expected = [
        "  fc1/linear  linear -> bit_linear, ternary weights, one scale, 8-bit activations scaled per row",
        "  fc2/linear  linear stays float: its weights are not ternary",
    ];
    assert_eq!(layers, expected, "{text}");
    // The nodes of the quantiser are one entry.
    assert_eq!(text.matches("recognize-quantizers/quantizer").count(), 1, "{text}");
    assert!(text.contains("  fc1/abs .. fc1/clip  abs, reduce_max, div, div, round, clip -> quantize_act"), "{text}");
    let names: Vec<String> = bench.ok("inspect m.bit --json").json()["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["fc1/linear", "fc2/linear"]);
    let rewritten = bench.ok("compile m.bir --explain --ternary optimal --keep fc2*=int8").stderr;
    assert!(rewritten.contains("fc2/linear  linear -> bit_linear, 8-bit weights, a scale per output"), "{rewritten}");
}

#[test]
fn explain_says_why_a_layer_stays_float() {
    let bench = Bench::new();
    let reason = |text: &str| {
        bench.write("m.bir", text.as_bytes());
        let text = bench.ok("compile m.bir --explain").stderr;
        text.lines().nth(1).map(|line| line.split_once("float: ").map_or(line, |(_, why)| why).to_owned()).unwrap()
    };
    let product = "graph @g(%x: f32[N, 4], %v: f32[4, N]) {
        %y = matmul(%x, %v) from \"p\"
        return %y\n}\n";
    assert_eq!(reason(product), "neither of what it multiplies is a weight in few bits");
    let half = "graph @g(%x: f16[N, 4]) {
        const %w: f16[4, 2] = dense [1, 0, 0, 1, 1, 1, -1, 0]
        %y = matmul(%x, %w) from \"p\"
        return %y\n}\n";
    assert_eq!(reason(half), "it is computed in f16, which does not hold sums of integers exactly");
    let exchanged = "graph @g(%x: f32[N, 4]) {
        const %w: f32[2, 4] = dense [1, 0, 0, 1, 1, 1, -1, 0]
        %q, %s = quantize_act(%x)
        %d = dequantize(%q, %s)
        %y = linear(%w, %d) from \"p\"
        return %y\n}\n";
    assert!(reason(exchanged).starts_with("its operands are exchanged"), "{}", reason(exchanged));
    // Ternary, but a scale per input cannot stand in front of a sum of integers.
    let columns = "graph @g(%x: f32[N, 3]) {
        const %w: f32[3, 3] = dense [0.5, -2, 0, 0, 2, 3, -0.5, 2, -3]
        %q, %s = quantize_act(%x)
        %d = dequantize(%q, %s)
        %y = linear(%d, %w) from \"p\"
        return %y\n}\n";
    let expected = "  p  linear -> linear, ternary weights, a scale per input, float activations, since the scale of its weights is \
                    neither one in all nor one per output";
    assert_eq!(reason(columns), expected);
}

#[test]
fn values_are_compared_on_demand() {
    let bench = Bench::new();
    bench.ok("compile float.yaml --verify");
    let done = bench.ok("compile mlp.yaml --verify=each --timings");
    assert!(done.stderr.contains("moved by"), "{}", done.stderr);
    bench.fails("compile mlp.yaml --verify=often", 2, &["often"]);
}

#[test]
fn float_layers_become_ternary_by_choice_only() {
    let bench = Bench::new();
    bench.ok("compile float.yaml -o plain.bit");
    assert_eq!(bench.ok("inspect plain.bit --json").json()["quantized_params"], 0);
    for method in ["optimal", "absmean", "twn"] {
        bench.ok(&format!("compile float.yaml -o t.bit --ternary {method}"));
        let json = bench.ok("inspect t.bit --json").json();
        assert_eq!(json["quantized_params"], 8 * 6 + 3 * 8, "{method}");
    }
    let x = bitc_ir::random::tensor(bitc_ir::DType::F32, &[32, 6], 5);
    bench.array("x.npy", &x);
    bench.ok("compile float.yaml -o g.bit --ternary gptq --calib x.npy --keep last=f32");
    let json = bench.ok("inspect g.bit --json").json();
    assert_eq!(json["quantized_params"], 8 * 6);
    bench.ok("compile float.yaml -o k.bit --ternary optimal --keep first=int8");
    let json = bench.ok("inspect k.bit --json").json();
    assert_eq!((&json["layers"][0]["layout"], &json["layers"][1]["layout"]), (&"int8".into(), &"trit2".into()));
    bench.fails("compile float.yaml --ternary optimal --keep fc9", 1, &["no layer fits `fc9`", "the layers are"]);
    bench.fails("compile float.yaml --ternary gptq --planes 2 --calib x.npy", 2, &["planes", "gptq"]);
    bench.fails("compile float.yaml --ternary gptq", 1, &["--calib"]);
    bench.fails("compile float.yaml --ternary best", 2, &["optimal"]);
    bench.fails("compile float.yaml --planes 2", 2, &["`--planes`", "--ternary METHOD"]);
}

#[test]
fn a_rewrite_says_what_it_costs_and_warns() {
    let bench = Bench::new();
    let done = bench.ok("compile float.yaml -o t.bit --ternary optimal --keep last=int8");
    assert!(done.stderr.contains("by optimal, weight error 0.") && done.stderr.contains("int8 by"), "{}", done.stderr);
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
    let residual = "graph @g(%x: f32[N, 4]) { const %w: f32[4, 4] = random(seed = 1)
      %h = linear(%x, %w) %y = add(%h, %x) return %y }";
    std::fs::write(bench.path("r.bir"), residual).unwrap();
    let done = bench.ok("compile r.bir -o r.bit --ternary absmean");
    assert!(done.stderr.starts_with("warning: r.bir: rewritten without calibration"), "{}", done.stderr);
    assert_eq!(bench.ok("compile r.bir -o r.bit --ternary absmean --quiet").stderr, "");
}

#[test]
fn a_rewrite_leaves_what_was_trained() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml -o trained.bir");
    let done = bench.ok("compile mlp.yaml -o asked.bir --ternary twn");
    assert!(done.stderr.contains("nothing was rewritten"), "{}", done.stderr);
    let read = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert!(read("trained.bir") == read("asked.bir"));
}

/// A small network of convolutions, one of them depthwise.
const CONVOLUTIONS: &str = "model: sequential
input: {name: x, shape: [N, 2, 6, 6]}
layers:
- conv2d: {name: c1, out: 4, kernel: 3, padding: 1}
- relu: {}
- conv2d: {name: dw, out: 4, kernel: 3, groups: 4}
- conv2d: {name: c2, out: 6, kernel: 1}
- flatten: {}
- linear: {name: f, out: 2}
weights: {random: 1}
";

#[test]
fn convolutions_become_ternary_as_well() {
    let bench = Bench::new();
    bench.write("conv.yaml", CONVOLUTIONS.as_bytes());
    bench.array("x.npy", &random::tensor(DType::F32, &[40, 2, 6, 6], 3));
    let lines = |options: &str| {
        let done = bench.ok(&format!("compile conv.yaml -o c.bit --explain {options}"));
        bench.ok(&format!("compile conv.yaml -o c.bir {options}"));
        bench.ok("verify c.bir c.bit");
        bench.ok("compare conv.yaml c.bit --input x.npy --seconds 0.01");
        done.stderr
    };
    let layouts = || {
        let json = bench.ok("inspect c.bit --json").json();
        let layers = json["layers"].as_array().unwrap().clone();
        layers.iter().map(|l| l["layout"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let text = lines("--ternary optimal --keep first,last=int8");
    assert!(text.contains("c2  conv2d -> bit_conv2d, ternary weights, a scale per output, 8-bit activations scaled per sample; ternary by optimal"), "{text}");
    assert!(text.contains("dw  conv2d stays float: a depthwise convolution keeps its floats"), "{text}");
    assert_eq!(layouts(), ["int8", "dense", "trit2", "int8"]);
    let text = lines("--ternary gptq --calib x.npy --keep depthwise=ternary --scale tensor");
    assert!(text.contains("dw  conv2d -> bit_conv2d, ternary weights") && text.contains("after the refit"), "{text}");
    assert_eq!(layouts(), ["trit2"; 4]);
    let text = lines("--ternary twn --keep convolutions");
    assert!(text.contains("c1  conv2d stays float: kept in float as asked"), "{text}");
    let text = lines("--ternary optimal --planes 2 --calib x.npy");
    assert!(text.contains("two ternary planes by optimal"), "{text}");
    let refused = "compile conv.yaml -o no.bit --ternary optimal --scale group:8";
    bench.fails(refused, 1, &["--scale group:8 does not suit `c1", "--keep convolutions=int8"]);
    assert!(!bench.path("no.bit").exists());
    bench.ok(&format!("{refused} --keep convolutions=int8"));
}

#[test]
fn quantisers_are_named_through_what_moves_integers() {
    let bench = Bench::new();
    // Zeros between columns, as a transposed convolution has them, and a pool.
    let model = "graph @g(%x: f32[N, 1, 4, 4]) {
      const %t: f32[2, 1, 2, 2] = dense [0.5, 0, -0.5, 0.5, 0.5, 0.5, 0, -0.5] const %c: f32 = dense [0.25]
      const %u: f32[1, 2, 1, 2] = dense [0.5, -0.5, 0, 0.5]
      %q, %s = quantize_act(%x) {over = \"sample\"} %d = dequantize(%q, %s)
      %wide = reshape(%d) {shape = [N, 1, 4, 4, 1]} %zeros = pad(%wide) {pads = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]}
      %rows = reshape(%zeros) {shape = [N, 1, 4, 8]}
      %y = conv2d(%rows, %t) : f32[N, 2, 3, 7] from \"up\"
      %r = relu(%y) %m = max_pool2d(%r) {kernel = [2, 2]} %v = div(%m, %c) %n = round(%v)
      const %low: f32 = dense [0] const %high: f32 = dense [100]
      %k = clip(%n, %low, %high) %z = mul(%k, %c)
      %o = conv2d(%z, %u) : f32[N, 1, 2, 5] from \"head\"
      return %o }";
    bench.write("m.bir", model.as_bytes());
    let text = bench.ok("compile m.bir -o m.bit --explain").stderr;
    let up = "up    conv2d -> bit_conv2d, ternary weights, one scale, 8-bit activations scaled per sample";
    let head = "head  conv2d -> bit_conv2d, ternary weights, one scale, 8-bit activations rounded as they are";
    assert!(text.contains(up) && text.contains(head), "{text}");
    bench.ok("verify m.bir m.bit");
    // Where integers go through the pool, the artifact takes less memory.
    let model = model.replace("%y = conv2d(%rows, %t) : f32[N, 2, 3, 7]", "%y = conv2d(%d, %t) : f32[N, 2, 3, 3]");
    let model = model.replace("f32[N, 1, 2, 5]", "f32[N, 1, 2, 1]");
    bench.write("m.bir", model.as_bytes());
    let text = bench.ok("compile m.bir -o small.bit --pipeline small-memory --explain").stderr;
    assert!(text.contains(up) && text.contains(head), "{text}");
    bench.ok("verify m.bir small.bit");
    let graph = bench.ok("inspect small.bit --ir").stdout;
    let (quantiser, pool) = (graph.rfind("quantize_act").unwrap(), graph.rfind("max_pool2d").unwrap());
    assert!(quantiser < pool, "{graph}");
}

#[test]
fn calibration_needs_rows() {
    let bench = Bench::new();
    for (name, rows) in [("none.npy", 0), ("one.npy", 1), ("many.npy", 40)] {
        bench.array(name, &random::tensor(DType::F32, &[rows, 6], 7));
    }
    for method in ["optimal", "gptq"] {
        let line = |calib: &str| format!("compile float.yaml -o c.bit --ternary {method} --calib {calib}");
        bench.fails(&line("none.npy"), 1, &["no rows"]);
        assert!(!bench.path("c.bit").exists());
        let done = bench.ok(&line("one.npy"));
        assert!(done.stderr.contains("warning: float.yaml: 1 calibration rows are few"), "{}", done.stderr);
        assert!(done.stderr.contains("the same for every calibration row"), "{}", done.stderr);
        let done = bench.ok(&line("many.npy"));
        assert!(!done.stderr.contains("warning") && done.stderr.contains("after the refit"), "{}", done.stderr);
        std::fs::remove_file(bench.path("c.bit")).unwrap();
    }
}

#[test]
fn wrong_wishes_for_a_rewrite_are_named_as_they_were_given() {
    let bench = Bench::new();
    let fails = |options: &str, texts: &[&str]| {
        bench.fails(&format!("compile float.yaml {options}"), 2, texts);
    };
    fails("--ternary foo", &["`--ternary` cannot be `foo`", "`optimal`, `absmean`, `twn`, `gptq`"]);
    fails("--ternary optimal --scale group:0", &["`--scale` cannot be group:0", "N of 4 or more"]);
    fails("--ternary optimal --planes 3", &["`--planes` cannot be 3"]);
    fails("--ternary optimal --keep first=int4", &["`--keep` cannot be `int4`"]);
    fails("--ternary gptq --planes 2", &["`--planes` cannot be 2", "1 with method `gptq`"]);
    fails("--scale row", &["`--scale` says how float layers become ternary"]);
}

#[test]
fn dimensions_are_bound() {
    let bench = Bench::new();
    bench.ok("compile float.yaml -o four.bit --dim N=4");
    let done = bench.ok("run four.bit");
    assert!(done.stdout.contains("f32[4, 3]"), "{}", done.stdout);
    bench.fails("compile float.yaml --dim M=4", 2, &["no dimension `M`", "expected: N"]);
    bench.fails("compile float.yaml --dim N", 2, &["NAME=SIZE"]);
}

#[test]
fn models_are_found_by_name() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("zoo")).unwrap();
    std::fs::rename(bench.path("mlp.yaml"), bench.path("zoo/mlp.yaml")).unwrap();
    bench.ok("compile mlp --models zoo");
    assert!(bench.path("mlp.bit").exists());
    let listed = bench.ok("list models --models zoo --json").json();
    assert_eq!(listed["models"][0]["name"], "mlp");
    bench.fails("compile mpl --models zoo", 1, &["mpl", "did you mean `mlp`?"]);
}

#[test]
fn ternary_weights_without_a_quantiser_are_taken_on_demand() {
    let bench = Bench::new();
    let model = "graph @g(%x: f32[N, 4]) {\n const %w: f32[2, 4] = dense [0.5, 0, -0.5, 0.5, 0.25, 0.25, 0, -0.25]\n \
        %y = linear(%x, %w) : f32[N, 2] from \"fc1\"\n return %y\n}\n";
    bench.write("m.bir", model.as_bytes());
    bench.array("x.npy", &Tensor::new(&[1, 4], &[1f32, 10.0, 100.0, 1000.0]));
    let quantized = |bench: &Bench| bench.ok("inspect m.bit --json").json()["quantized_params"].clone();

    let done = bench.ok("compile m.bir --explain");
    assert!(format!("{}{}", done.stdout, done.stderr).contains("see --weight-only"), "{} {}", done.stdout, done.stderr);
    assert_eq!(quantized(&bench), 0);
    bench.ok("compile m.bir --weight-only");
    assert_eq!(quantized(&bench), 8);
    // The activations stay floats: nothing is rounded.
    bench.ok("run m.bit --input x.npy --output y.npy");
    assert_eq!(bench.read("y.npy").to_f64(), [450.5, -247.25]);
    bench.ok("verify m.bir m.bit --input x.npy --rtol 1e-7 --atol 0");
}
