//! DiffLUT's convolutional configurations: the models of `tests/data/difflut`, and what is wrong with others.

use std::path::Path;

use bitc_ir::Tensor;
use bitc_runtime::kernels;

use crate::harness::Bench;

const MODELS: [&str; 4] = ["trees", "padded", "chunks", "learned"];

/// A folder with the models.
fn bench() -> Bench {
    let bench = Bench::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/difflut");
    for model in MODELS {
        for end in [".yaml", ".safetensors", ".input.npy", ".expected.npy"] {
            let name = format!("{model}{end}");
            std::fs::copy(data.join(&name), bench.path(&name)).unwrap();
        }
    }
    bench
}

fn edit(bench: &Bench, model: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(bench.path(model)).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    bench.write(model, text.replace(from, to).as_bytes());
}

#[test]
fn convolutions_give_the_scores_of_the_library_written_out_and_shared() {
    let bench = bench();
    for model in MODELS {
        let want = bench.read(&format!("{model}.expected.npy")).to_vec::<f32>().unwrap();
        // Means are added up in another order than torch does.
        let bound = if model == "chunks" { 1e-6 } else { 0.0 };
        for unroll in [true, false] {
            bench.ok(&format!("compile {model}.yaml --set unroll={unroll} -o m.bit"));
            for isa in kernels::available() {
                bench.ok(&format!("run m.bit --input {model}.input.npy --isa {} --output y.npy", isa.name()));
                let y = bench.read("y.npy").to_vec::<f32>().unwrap();
                let close = y.iter().zip(&want).all(|(y, want)| (y - want).abs() <= bound);
                assert!(close && y.len() == want.len(), "{model} on {}, unroll={unroll}: {y:?}", isa.name());
            }
        }
    }
}

#[test]
fn images_may_be_given_as_rows() {
    let bench = bench();
    let x = bench.read("padded.input.npy");
    bench.array("rows.npy", &x.reshaped(&[24, 32]).unwrap());
    bench.ok("compile padded.yaml -o m.bit");
    bench.ok("run m.bit --input rows.npy --output y.npy");
    assert_eq!(bench.read("y.npy").bytes(), bench.read("padded.expected.npy").bytes());
    // Elements in other axes are another image.
    bench.array("turned.npy", &x.reshaped(&[24, 4, 4, 2]).unwrap());
    bench.fails("run m.bit --input turned.npy", 1, &["does not fit input `x`"]);
}

#[test]
fn a_written_out_network_is_logic_to_emit() {
    let bench = bench();
    bench.ok("compile trees.yaml -o m.v");
    assert!(std::fs::read_to_string(bench.path("m.v")).unwrap().contains("module"));
    bench.fails("compile trees.yaml --set unroll=false -o n.v", 3, &["graphs of one logic network"]);
}

#[test]
fn what_is_too_large_to_write_out_is_shared() {
    let bench = bench();
    bench.fails("compile trees.yaml --set unroll=true --max-memory 1000 -o m.bit", 3, &["too many or too large"]);
    bench.ok("compile trees.yaml --max-memory 1000 -o m.bit");
    bench.ok("compile trees.yaml --set unroll=false -o shared.bit");
    assert_eq!(std::fs::read(bench.path("m.bit")).unwrap(), std::fs::read(bench.path("shared.bit")).unwrap());
}

#[test]
fn channels_that_nobody_says_are_counted_or_taken_to_be_one() {
    let bench = bench();
    // All bits of a window are read, which tells how many channels there are.
    edit(&bench, "chunks.yaml", "input_size: [3, 4, 5]", "input_size: 60");
    bench.ok("compile chunks.yaml -o m.bit");
    bench.ok("run m.bit --input chunks.input.npy --output y.npy");
    let (y, want) = (bench.read("y.npy"), bench.read("chunks.expected.npy"));
    let pairs = y.to_vec::<f32>().unwrap().into_iter().zip(want.to_vec::<f32>().unwrap());
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-6));
    // Here some are not read.
    edit(&bench, "padded.yaml", "input_size: [2, 4, 4]", "input_size: 32");
    bench.fails("compile padded.yaml -o m.bit", 1, &["the number of channels", "at least 2", "in_channels"]);
    bench.ok("compile padded.yaml --set in_channels=2 -o m.bit");
    bench.ok("run m.bit --input padded.input.npy --output y.npy");
    assert_eq!(bench.read("y.npy").bytes(), bench.read("padded.expected.npy").bytes());
}

#[test]
fn pooling_follows_the_generation_unless_it_is_said() {
    let bench = bench();
    let done = bench.ok("compile chunks.yaml -o m.bit");
    assert!(done.stderr.contains("mean of every channel"), "{done:?}");
    let done = bench.ok("compile chunks.yaml --set pooling=none -o n.bit");
    assert!(!done.stderr.contains("mean of every channel"), "{done:?}");
    bench.ok("run m.bit --input chunks.input.npy --output m.npy");
    bench.ok("run n.bit --input chunks.input.npy --output n.npy");
    assert_ne!(bench.read("m.npy").bytes(), bench.read("n.npy").bytes());
}

#[test]
fn configurations_that_do_not_fit_their_weights_are_refused() {
    let bench = bench();
    let fails = |model: &str, from: &str, to: &str, texts: &[&str]| {
        let path = format!("{model}.yaml");
        let whole = std::fs::read(bench.path(&path)).unwrap();
        edit(&bench, &path, from, to);
        bench.fails(&format!("compile {path} -o bad.bit"), 1, texts);
        assert!(!bench.path("bad.bit").exists());
        bench.write(&path, &whole);
    };
    fails(
        "trees",
        "conv_layer_widths: [3, 2]",
        "conv_layer_widths: [3, 5]",
        &["`conv_layer_widths` does not fit", "2 channels"],
    );
    fails(
        "trees",
        "conv_layer_widths: [3, 2]",
        "conv_layer_widths: [3]",
        &["`conv_layer_widths` does not fit", "2 layers"],
    );
    fails("trees", "conv_layer_widths: [3, 2]", "conv_layer_widths: many", &["is a list of sizes"]);
    fails("trees", "conv_kernel_size: 3", "conv_kernel_size: 2", &["reads bit", "conv_kernel_size"]);
    fails("trees", "conv_stride: 1", "conv_stride: 0", &["`conv_stride`"]);
    fails("trees", "conv_stride: 1", "conv_stride: 9", &["the windows are larger than the image", "conv_layers.1"]);
    fails("trees", "node_type: probabilistic", "node_type: dwn", &["no tensor `luts`", "conv_layers.0.trees.0.0"]);
    fails("trees", "model_type: convolutional", "model_type: feedforward", &["the layers in the weights"]);
    let huge = "conv_padding: 2000000000";
    let path = "trees.yaml";
    edit(&bench, path, "conv_padding: 0", huge);
    bench.fails("compile trees.yaml -o bad.bit", 3, &["too many or too large"]);
}

#[test]
fn settings_of_windows_are_for_models_that_have_them() {
    let bench = bench();
    let done = bench.ok("compile trees.yaml --set patch_chunk_size=7 --set init_fn=normal -o m.bit");
    assert!(done.stderr.contains("`patch_chunk_size` does not change inference"), "{done:?}");
    assert!(done.stderr.contains("`init_fn` does not change inference"), "{done:?}");
    bench.fails("compile trees.yaml --set conv_stride=x -o m.bit", 2, &["no value of that setting"]);
    bench.write("broken.yaml", b"model_type: convolutional\nnum_classes: {a: 3\n");
    let done = bench.bitc("compile broken.yaml --set unroll=true -o m.bit");
    assert!(done.code == 1 && done.stderr.contains("broken.yaml:"), "{done:?}");
    bench.array("x.npy", &Tensor::new(&[1, 3], &[0.0f32; 3]));
    bench.fails("run m.bit --input x.npy", 1, &["does not fit input `x`"]);
}

#[test]
fn what_the_last_bit_of_a_float_decides_is_shown() {
    let bench = bench();
    edit(&bench, "padded.yaml", "name: gray", "name: logarithmic");
    let names = ["min_value", "max_value"].map(|n| format!("encoder.{n}"));
    let mut weights = bitc::weights::read(&bench.path("padded.safetensors")).unwrap();
    for (from, to) in names.iter().zip(["encoder.min_log", "encoder.max_log"]) {
        weights.insert(to, weights.get(from).unwrap().clone()).unwrap();
    }
    weights.insert("encoder.offset", Tensor::new(&[32], &[1.0f32; 32])).unwrap();
    let tensors: Vec<_> = weights.iter().map(|(name, t)| (name.to_owned(), t.clone())).collect();
    bench.write("log.safetensors", &crate::logic::safetensors(&tensors));
    let done = bench.ok("compile padded.yaml --weights log.safetensors -o m.bit --explain");
    assert!(done.stderr.contains("the last bit of a logarithm"), "{done:?}");
    assert!((done.stdout + &done.stderr).contains("ties: "));
    assert!(bench.ok("inspect m.bit").stdout.contains("encoder floats, decided by the last bit"));
    assert!(bench.ok("inspect m.bit --json").json()["ties"]["encoder_floats"].as_u64().unwrap() > 0);
    bench.ok("compile trees.yaml -o m.bit");
    assert_eq!(bench.ok("inspect m.bit --json").json()["ties"], serde_json::json!({}));
}

#[test]
fn an_encoder_has_as_many_bits_as_its_state() {
    let bench = bench();
    edit(&bench, "trees.yaml", "num_bits: 2", "num_bits: 3");
    bench.fails("compile trees.yaml -o m.bit", 1, &["trees.yaml:", "`num_bits` does not fit", "2 bits"]);
    edit(&bench, "trees.yaml", ", num_bits: 3", "");
    bench.ok("compile trees.yaml -o m.bit");
}

#[test]
fn models_are_found_by_name_in_folders_of_a_collection() {
    let bench = bench();
    let folder = bench.path("zoo/convolutional/trees/v1");
    std::fs::create_dir_all(&folder).unwrap();
    for end in ["yaml", "safetensors"] {
        std::fs::copy(bench.path(&format!("trees.{end}")), folder.join(format!("trees.{end}"))).unwrap();
        std::fs::remove_file(bench.path(&format!("trees.{end}"))).unwrap();
    }
    assert!(bench.ok("list models --models zoo").stdout.contains("zoo/convolutional/trees/v1/trees.yaml"));
    bench.ok("compile trees --models zoo -o m.bit");
    bench.fails("compile tree --models zoo -o m.bit", 1, &["no model `tree`", "did you mean `trees`"]);
    std::fs::write(bench.path("zoo/trees.bir"), "x").unwrap();
    bench.fails("compile trees --models zoo -o m.bit", 2, &["several models `trees`", "zoo/trees.bir"]);
    bench.fails("compile padded.yaml --set outputtau=2 -o m.bit", 2, &["did you mean `output_tau`"]);
}
