//! Makes a float network ternary in three ways and says what each one costs.
//!
//! `cargo run -p bitc-examples --bin quantize_mlp`

use std::error::Error;
use std::io::Write;

use bitc::frontend::Source;
use bitc::pipeline::Pipeline;
use bitc::runnable::Runnable;
use bitc::summary::Summary;
use bitc::{Options, compile, runnable};
use bitc_ir::{Blob, DType, Tensor, random};
use bitc_runtime::kernels;

/// A float network as a YAML model. Its weights are random; a real one names a file: `weights: net.safetensors`.
const MODEL: &str = "
model: sequential
input: {name: x, shape: [N, 64]}
layers:
  - linear: {name: up, out: 256}
  - relu: {}
  - linear: {name: middle, out: 128}
  - relu: {}
  - linear: {name: head, out: 10}
weights: {random: 7}
";

fn main() -> Result<(), Box<dyn Error>> {
    let source = Source { path: "float.yaml".into(), bytes: Blob::new(MODEL.as_bytes().to_vec()) };
    let calibration = random::tensor(DType::F32, &[256, 64], 1);
    let held_out = random::tensor(DType::F32, &[64, 64], 2);

    let float = compile(&source, &Options::default())?;
    let expected = answers(&float.artifact, &held_out)?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<22} {:>8} {:>16} {:>9}", "", "bytes", "bits per weight", "error")?;
    report(&mut out, "float", &float.artifact, &expected, &held_out)?;
    for (name, method, calibrated) in [
        ("absmean, data-free", "absmean", false),
        ("optimal, data-free", "optimal", false),
        ("gptq, calibrated", "gptq", true),
    ] {
        let mut pipeline = Pipeline::load("default")?;
        pipeline.insert_before("rewrite-to-ternary", &["ternarize-weights"])?;
        pipeline.set("rewrite-to-ternary.method", method)?;
        let mut options = Options { pipeline, ..Options::default() };
        if calibrated {
            options.passes.calibration = vec![vec![calibration.clone()]];
        }
        let compiled = compile(&source, &options)?;
        report(&mut out, name, &compiled.artifact, &expected, &held_out)?;
    }
    Ok(())
}

/// What an artifact answers.
fn answers(artifact: &[u8], inputs: &Tensor) -> Result<Vec<f64>, Box<dyn Error>> {
    let program = Runnable::Program(Box::new(runnable::load(artifact)?));
    Ok(program.run(std::slice::from_ref(inputs), kernels::best())?[0].to_f64())
}

fn report(
    out: &mut impl Write,
    name: &str,
    artifact: &[u8],
    expected: &[f64],
    inputs: &Tensor,
) -> Result<(), Box<dyn Error>> {
    let found = answers(artifact, inputs)?;
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut expected.iter().zip(&found).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
    let program = runnable::load(artifact)?;
    let summary = Summary::of(program.contents(), artifact);
    let bits = 8.0 * summary.bytes.packed as f64 / summary.total_params as f64;
    writeln!(out, "{name:<22} {:>8} {bits:>16.2} {:>7.1} %", artifact.len(), 100.0 * error)?;
    Ok(())
}
