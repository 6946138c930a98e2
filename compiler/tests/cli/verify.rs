//! `bitc verify`, `bitc compare` and `bitc bisect`.

use bitc_ir::{DType, Tensor, random};

use crate::harness::Bench;

#[test]
fn an_artifact_agrees_with_its_model() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let done = bench.ok("verify mlp.yaml mlp.bit --batch 0,1,2,7 --isa all");
    assert!(done.stdout.contains("all equal bit for bit") && done.stdout.ends_with("equal\n"), "{}", done.stdout);
    let json = bench.ok("verify mlp.yaml mlp.bit --samples 9 --rtol 1e-6 --json").json();
    assert_eq!((&json["equal"], &json["argmax_agreement"]), (&true.into(), &1.0.into()));
    assert_eq!(json["first_diverging_layer"], serde_json::Value::Null);
    let layers = json["runs"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    assert_eq!(layers.iter().map(|l| l["accumulators"].as_u64().unwrap()).sum::<u64>(), 9 * (24 + 24 + 5));
    assert!(layers.iter().all(|l| l["differing"] == 0));
}

#[test]
fn another_model_is_told_apart() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let other = crate::harness::MLP.replace("random: 3", "random: 4");
    bench.write("other.yaml", other.as_bytes());
    let done = bench.fails("verify other.yaml mlp.bit", 1, &["does not compute what the model does"]);
    assert!(done.stdout.ends_with("different\n"), "{}", done.stdout);
    let json = bench.bitc("verify other.yaml mlp.bit --json");
    assert_eq!((json.code, &json.json()["equal"]), (1, &false.into()));
    bench.fails("verify mlp.yaml other.yaml", 1, &["no artifact", "bitc compile"]);
    bench.fails("verify mlp.yaml mlp.bit --reference tract", 3, &["tract"]);
}

#[test]
fn a_bound_that_bounds_nothing_is_refused() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    for option in ["--rtol nan", "--rtol -1", "--atol inf", "--agreement 1.5", "--agreement -1"] {
        let value = option.split(' ').next_back().unwrap();
        bench.fails(&format!("verify mlp.yaml mlp.bit {option}"), 2, &[&format!("`{value}` is no number")]);
    }
    bench.fails("bisect mlp.yaml --tolerance nan", 2, &["`nan` is no number"]);
    bench.fails("compare mlp.bit mlp.bit --seconds -1", 2, &["`-1` is no time"]);
    // Nor do no rows agree in anything.
    for none in ["--samples 0", "--batch 0"] {
        let done = bench.ok(&format!("verify mlp.yaml mlp.bit {none}"));
        assert!(done.stderr.contains("warning: mlp.bit: nothing was compared"), "{done:?}");
    }
    assert_eq!(bench.ok("verify mlp.yaml mlp.bit --batch 0,2").stderr, "");
}

#[test]
fn a_stripped_artifact_is_compared_by_its_outputs() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml --strip");
    let done = bench.ok("verify mlp.yaml mlp.bit");
    assert!(done.stdout.contains("only outputs were compared"), "{}", done.stdout);
}

#[test]
fn convolutions_are_compared_inside() {
    let bench = Bench::new();
    let text = "model: sequential\ninput: {name: x, shape: [N, 4, 6, 5]}\nlayers:\n- bit_conv2d: {name: c, out: 6, \
        kernel: 3, padding: 1, groups: 2, quant: {semantics: bitlab}}\n- relu: {}\nweights: {random: 2}\n";
    bench.write("conv.yaml", text.as_bytes());
    bench.ok("compile conv.yaml");
    let json = bench.ok("verify conv.yaml conv.bit --samples 3 --json").json();
    let layer = &json["runs"][0]["layers"][0];
    assert_eq!((&layer["op"], &layer["differing"]), (&"bit_conv2d".into(), &0.into()), "{json}");
    assert_eq!(layer["accumulators"], 3 * 6 * 6 * 5);
}

/// A layer of 300 inputs that are rounded after a factor.
fn rounding(factor: &str) -> String {
    format!(
        "graph @g(%x: f32[N, 300]) {{\n const %c: f32 = dense [{factor}]\n const %low: f32 = dense [-128]\n \
         const %high: f32 = dense [127]\n const %w: t2[2, 300] = splat(1)\n const %s: f32 = dense [0.5]\n \
         %m = mul(%x, %c)\n %r = round(%m)\n %q = clip(%r, %low, %high)\n %d = dequantize(%w, %s)\n \
         %y = linear(%q, %d)\n return %y\n}}\n"
    )
}

#[test]
fn rounding_flips_are_shown_in_any_number_of_rows_while_they_are_rare() {
    let bench = Bench::new();
    bench.write("model.bir", rounding("1.000001").as_bytes());
    bench.write("other.bir", rounding("1").as_bytes());
    bench.ok("compile other.bir");
    // One of 300 lies next to a border, in every row.
    let inputs = |borders: usize| {
        let row = |r: usize| (0..300).map(move |i| if i < borders { 40.499_99 } else { (i % 50 + r % 40) as f32 });
        Tensor::new(&[20, 300], &(0..20).flat_map(row).collect::<Vec<_>>())
    };
    bench.array("rare.npy", &inputs(1));
    let done = bench.ok("verify model.bir other.bit --input rare.npy --rtol 1e-6 --atol 0");
    assert!(done.stdout.contains("is 41 in the model and 40 in its frozen graph"), "{}", done.stdout);
    assert!(done.stdout.contains("rows 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"), "{}", done.stdout);
    // Values that often lie on a border do not come from rounding.
    bench.array("often.npy", &inputs(20));
    bench.fails("verify model.bir other.bit --input often.npy --rtol 1e-6 --atol 0", 1, &["does not compute"]);
    // A model that rounds elsewhere is another model.
    bench.write("wrong.bir", rounding("1.02").as_bytes());
    bench.fails("verify wrong.bir other.bit --input rare.npy --rtol 1e-6 --atol 0", 1, &["does not compute"]);
}

#[test]
fn what_another_engine_gave_is_compared_and_its_flips_are_named() {
    let bench = Bench::new();
    bench.write("engine.bir", rounding("1.000001").as_bytes());
    bench.write("model.bir", rounding("1").as_bytes());
    bench.ok("compile model.bir");
    let value = |r: usize, i: usize| if (r, i) == (3, 7) { 40.499_99 } else { (i % 50 + r % 40) as f32 };
    let rows = (0..20).flat_map(|r| (0..300).map(move |i| value(r, i)));
    bench.array("x.npy", &Tensor::new(&[20, 300], &rows.collect::<Vec<_>>()));
    bench.ok("run engine.bir --input x.npy --output y.npy");
    // The flip is half a unit of sums of thousands: within the tolerance, but named.
    let done = bench.ok("verify model.bir model.bit --input x.npy --expected y.npy");
    assert!(done.stdout.contains("row 3: ") && done.stdout.contains("is 41 in the model and 40"), "{}", done.stdout);
    let tight = "verify model.bir model.bit --input x.npy --expected y=y.npy --rtol 1e-6 --atol 0";
    let json = bench.ok(&format!("{tight} --json")).json();
    let run = &json["runs"][0];
    assert_eq!((&run["flipped_rows"], &run["rows_on_border"]), (&vec![3].into(), &vec![3].into()), "{json}");
    // Without another engine it is still known which row may differ.
    let alone = bench.ok("verify model.bir model.bit --input x.npy");
    assert!(alone.stdout.contains("where engines may differ: row 3\n"), "{}", alone.stdout);

    let wrong = bench.read("y.npy").to_f64().iter().map(|v| *v as f32 * 1.01).collect::<Vec<_>>();
    bench.array("wrong.npy", &Tensor::new(&[20, 2], &wrong));
    bench.fails("verify model.bir model.bit --input x.npy --expected wrong.npy", 1, &["does not compute"]);
    bench.array("few.npy", &Tensor::new(&[19, 2], &wrong[2..]));
    bench.fails("verify model.bir model.bit --input x.npy --expected few.npy", 1, &["does not compute"]);
    bench.array("wide.npy", &Tensor::new(&[20, 3], &[0f32; 60]));
    bench.fails("verify model.bir model.bit --input x.npy --expected wide.npy", 1, &["does not fit output `y`"]);
    bench.fails("verify model.bir model.bit --input x.npy --expected z=y.npy", 2, &["no output `z`"]);
    bench.fails("verify model.bir model.bit --expected y.npy", 2, &["--input"]);
}

#[test]
fn two_artifacts_are_compared() {
    let bench = Bench::new();
    let x = random::tensor(DType::F32, &[40, 6], 5);
    bench.array("x.npy", &x);
    bench.ok("compile float.yaml -o a.bit");
    bench.ok("compile float.yaml -o b.bit --ternary optimal");
    bench.ok("run a.bit --input x.npy --output y.npy");
    let scores = bench.read("y.npy").to_f64();
    let classes: Vec<i64> = scores.chunks(3).map(|row| bitc::verify::argmax(row) as i64).collect();
    bench.array("labels.npy", &Tensor::new(&[40], &classes));
    let line = "compare a.bit b.bit --input x.npy --labels labels.npy --seconds 0.01";
    let json = bench.ok(&format!("{line} --json")).json();
    assert_eq!(json["a"]["accuracy"], 1.0);
    assert!(json["accuracy_diff"].as_f64().unwrap() <= 0.0, "{json}");
    assert!(json["speedup"].as_f64().unwrap() > 0.0 && json["memory_reduction"].is_f64(), "{json}");
    assert!(json["outputs"][0]["max_abs_difference"].as_f64().unwrap() > 0.0, "{json}");
    let text = bench.ok(line).stdout;
    assert!(text.contains("accuracy") && text.contains("times as fast"), "{text}");
    bench.array("few.npy", &Tensor::new(&[2], &[0i64, 1]));
    bench.fails("compare a.bit b.bit --input x.npy --labels few.npy", 1, &["one label per row", "found: 2"]);
    bench.ok("compare float.yaml b.bit --seconds 0.01");
}

#[test]
fn bisection_names_the_pass_that_moves_values() {
    let bench = Bench::new();
    let done = bench.ok("bisect float.yaml");
    assert!(done.stdout.contains("nothing diverges"), "{}", done.stdout);
    let done = bench.fails("bisect float.yaml --tolerance 0 --json", 1, &["values diverge"]);
    let json = done.json();
    assert_eq!((&json["in"], &json["pass"]), (&"pass".into(), &"fold-batch-norm".into()), "{json}");
    let limit = json["rewrite"].as_u64().unwrap();
    let before = format!("compile float.yaml --emit bir -o - --rewrite-limit {}", limit - 1);
    let after = format!("compile float.yaml --emit bir -o - --rewrite-limit {limit}");
    assert!(bench.ok(&before).stdout.contains("batch_norm") && !bench.ok(&after).stdout.contains("batch_norm"));
}

/// A layer whose batch norm is folded: that moves what is quantised by a unit of the last place.
const FOLDED: &str = "graph @g(%x: f32[N, 4]) {
    const %v: f32[6, 4] = dense [0.1, 0.7, -0.3, 0.9, 0.2, -0.4, 0.6, 0.35, 0.15, -0.9, 0.8, 0.45,
        0.33, 0.71, -0.2, 0.1, 0.9, -0.6, 0.3, 0.21, -0.5, 0.3, 0.77, 0.4]
    const %m: f32[6] = dense [0.3, 0.2, 0.1, -0.2, 0.4, 0.05]
    const %r: f32[6] = dense [0.9, 1.7, 0.6, 1.3, 0.8, 1.1]
    const %g: f32[6] = dense [1.1, 0.7, 0.9, 1.3, 1.2, 0.8]
    const %b: f32[6] = dense [0.1, 0.2, -0.3, 0.05, 0.0, 0.7]
    const %w: t2[3, 6] = dense [1, 0, -1, 1, 1, 0, -1, -1, 1, 1, 0, 1, 0, 1, 1, -1, 1, 0]
    const %s: f32 = dense [0.5]
    %h = linear(%x, %v) from \"fc1\"
    %n = batch_norm(%h, %g, %b, %m, %r) from \"bn\"
    %q, %qs = quantize_act(%n)
    %y = bit_linear(%q, %qs, %w, %s) from \"fc2\"
    return %y
}
";

#[test]
fn bisection_tells_rounding_flips_from_faults() {
    let bench = Bench::new();
    bench.write("m.bir", FOLDED.as_bytes());
    // The fold takes an activation of row 5 over the border between -38 and -37.
    let flipped = [0.7511381f32, -0.8103221, -1.2763228, 0.7821448];
    let row = |r: usize| if r == 5 { flipped } else { [r as f32, 0.5, -1.25, 0.75] };
    bench.array("x.npy", &Tensor::new(&[16, 4], &(0..16).flat_map(row).collect::<Vec<_>>()));
    let done = bench.ok("bisect m.bir --input x.npy");
    assert!(done.stdout.starts_with("nothing diverges"), "{}", done.stdout);
    assert!(
        done.stdout.contains("rounding flips after fold-batch-norm, no fault of it:\n  row 5: "),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("an input of fc2 is -38 in the model and -37 after the pass"), "{}", done.stdout);
    let json = bench.ok("bisect m.bir --input x.npy --json").json();
    assert_eq!((&json["diverges"], &json["flipped_rows"]), (&false.into(), &vec![5].into()), "{json}");
    // To the last bit it is a difference of its own.
    bench.fails("bisect m.bir --input x.npy --tolerance 0", 1, &["values diverge"]);
}
