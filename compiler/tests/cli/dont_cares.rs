//! `--dont-cares`: what was seen stays, what is said of the rest is true, and the artifact says what it is.

use bitc_ir::Tensor;
use bitc_runtime::kernels;

use crate::harness::Bench;
use crate::logic::{Network, Random, scores};

/// Rows like a few patterns but for some bits.
fn clustered(n_rows: usize, width: usize, noise: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut patterns = Random(99);
    let patterns: Vec<Vec<u8>> = (0..12).map(|_| (0..width).map(|_| (patterns.bits() & 1) as u8).collect()).collect();
    let row = |_| {
        let mut row = patterns[random.below(patterns.len())].clone();
        (0..noise).for_each(|_| row[random.below(width)] ^= 1);
        row
    };
    (0..n_rows).flat_map(row).collect()
}

#[test]
fn dont_cares_keep_what_was_seen_and_say_how_the_rest_agrees() {
    let bench = Bench::new();
    let net = Network::random(40, &[(80, 6), (60, 4), (50, 6)], 5);
    net.write(&bench, "40", "{group_sum: {groups: 5, tau: 2.0}}", &[]);
    let (seen, other) = (clustered(513, 40, 1, 1), clustered(400, 40, 2, 2));
    bench.array("seen.npy", &Tensor::new(&[513, 40], &seen));
    bench.array("other.npy", &Tensor::new(&[400, 40], &other));
    let labels: Vec<i64> = (0..400).map(|i| i % 5).collect();
    bench.array("labels.npy", &Tensor::new(&[400], &labels));
    bench.ok("compile net.yaml -o exact.bit");
    let done =
        bench.ok("compile net.yaml -o net.bit --calib seen.npy --dont-cares --held-out other.npy --labels labels.npy");
    assert!(done.stderr.contains("no longer the trained function"), "{}", done.stderr);
    assert!(done.stderr.contains("calibration rows 513, held out rows 400"), "{}", done.stderr);

    // Rows that were seen keep their answers bit by bit, on every machine.
    let expected: Vec<f32> = seen.chunks(40).flat_map(|row| scores(&net.outputs(row), 5, 2.0, 0.0)).collect();
    for set in kernels::available() {
        bench.ok(&format!("run net.bit --input seen.npy --output y.npy --isa {}", set.name()));
        assert_eq!(bench.read("y.npy").to_vec::<f32>().unwrap(), expected, "{}", set.name());
    }

    // What is said of the others is true.
    let summary = bench.ok("inspect net.bit --json").json();
    let table_bits = |summary: &serde_json::Value| summary["total_params"].as_u64().unwrap();
    assert!(table_bits(&summary) < table_bits(&bench.ok("inspect exact.bit --json").json()));
    let said = &summary["approximations"][0];
    bench.ok("run net.bit --input other.npy --output found.npy");
    let found = bench.read("found.npy").to_vec::<f32>().unwrap();
    let expected: Vec<f32> = other.chunks(40).flat_map(|row| scores(&net.outputs(row), 5, 2.0, 0.0)).collect();
    let class = |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let part = |n: usize| n as f64 / 400.0;
    let rows = || found.chunks(5).zip(expected.chunks(5));
    assert_eq!(said["row_agreement"], part(rows().filter(|(a, b)| a == b).count()));
    assert_eq!(said["argmax_agreement"], part(rows().filter(|(a, b)| class(a) == class(b)).count()));
    assert_eq!(said["accuracy"], part(found.chunks(5).zip(&labels).filter(|(a, l)| class(a) as i64 == **l).count()));
    assert!(said["argmax_agreement"].as_f64().unwrap() < 1.0, "rows that tell nothing");
    let steps: Vec<&str> =
        summary["networks"][0]["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["start", "fold", "dont-cares", "fold", "decompose", "map"]);

    // It is compared with its model on data only, and as what it is.
    bench.fails("verify net.yaml net.bit", 2, &["approximate", "--input"]);
    let text = bench.ok("verify net.yaml net.bit --input seen.npy").stdout;
    assert!(text.contains("agrees") && text.contains("argmax agrees on 513 of 513 rows"), "{text}");
    bench.fails("verify net.yaml net.bit --input other.npy --agreement 1", 1, &["--agreement"]);
    let half = "verify net.yaml net.bit --input other.npy --agreement 0.3 --json";
    let report = bench.ok(half).json();
    assert_eq!((&report["agrees"], &report["equal"]), (&true.into(), &false.into()));
    // Without its graph it still says what it is.
    let strip = "compile net.yaml -o net.bit --calib seen.npy --dont-cares --strip --json";
    let report = bench.ok(strip).json();
    assert_eq!(report["approximations"][0]["calibration_rows"], 410.0, "a fifth of 513 is held out");
    assert!(bench.ok("inspect net.bit").stdout.contains("not the trained function"));
    bench.fails("verify net.yaml net.bit", 2, &["approximate"]);
}

#[test]
fn dont_cares_are_refused_where_they_make_no_sense() {
    let bench = Bench::new();
    let net = Network::random(8, &[(10, 3)], 6);
    net.write(&bench, "8", "bits", &[]);
    bench.array("x.npy", &Tensor::new(&[6, 8], &[1u8; 48]));
    bench.array("one.npy", &Tensor::new(&[1, 8], &[1u8; 8]));
    bench.array("none.npy", &Tensor::new::<u8>(&[0, 8], &[]));
    bench.array("labels.npy", &Tensor::new(&[5], &[0i64; 5]));
    bench.fails("compile net.yaml --dont-cares", 2, &["--calib"]);
    bench.fails("compile net.yaml --calib x.npy", 2, &["--dont-cares"]);
    bench.fails("compile net.yaml --calib x.npy --held-out 0.1", 2, &["--dont-cares"]);
    bench.fails("compile net.yaml --calib x.npy --dont-cares --held-out 1.5", 2, &["between 0 and 1"]);
    bench.fails("compile net.yaml --calib one.npy --dont-cares", 1, &["at least 2 rows"]);
    bench.fails(
        "compile net.yaml --calib none.npy --dont-cares --held-out x.npy",
        1,
        &["calibration inputs with rows"],
    );
    bench.fails("compile net.yaml --calib x.npy --dont-cares --labels labels.npy", 1, &["6 labels"]);
    bench.fails("compile mlp.yaml --calib x.npy --dont-cares", 1, &[]);
    // One row is enough where others are held out; all but constants goes.
    bench.ok("compile net.yaml -o net.bit --calib one.npy --dont-cares --held-out x.npy");
    bench.ok("run net.bit --input x.npy --output y.npy");
    let expected: Vec<u8> = (0..6).flat_map(|_| net.outputs(&[1; 8])).collect();
    assert_eq!(bench.read("y.npy").bytes(), expected);
}
