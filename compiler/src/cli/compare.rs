//! `bitc compare`: two artifacts or models side by side: accuracy, memory, speed, outputs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitc_ir::Tensor;
use bitc_runtime::kernels::{self, Kernels};
use clap::Args;
use serde_json::{Value, json};

use super::bench;
use super::console::Console;
use super::inputs::InputArgs;
use super::model::{ModelArgs, PipelineArgs, Sizes, seconds, sizes};
use crate::bench::{Copies, Form};
use crate::error::{Diagnostic, Failure};
use crate::npy;
use crate::runnable::{self, Runnable};
use crate::summary::{Summary, reduction_text};
use crate::verify::{Tolerance, classes, difference};

/// Compare two artifacts or models: accuracy, memory, speed and outputs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc compare float.yaml ternary.bit --input x.npy --labels y.npy
  bitc compare a.bit b.bit --input x.npy --json
  bitc compare a.bit b.bit --batch 64            on random inputs

A is what B is measured against: accuracy_diff is B's accuracy less A's, memory_reduction the fraction of A's
bytes of weights that B saves, speedup A's time over B's. A model counts with the weights of its source, answers
by the reference evaluator, and is timed compiled.")]
pub(super) struct Compare {
    /// An artifact or a model.
    a: PathBuf,
    /// An artifact or a model.
    b: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// Random samples, where no inputs are given.
    #[arg(long, value_name = "N", default_value = "16", value_parser = sizes, conflicts_with = "inputs")]
    batch: Sizes,
    /// The right class of each sample.
    #[arg(long, value_name = "Y.npy", requires = "inputs")]
    labels: Option<PathBuf>,
    /// How long to time each.
    #[arg(long, value_name = "S", default_value_t = 0.2, value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// One of the two.
struct Side {
    outputs: Vec<Tensor>,
    names: Vec<String>,
    /// Bytes of the weights: of a model in its source, of an artifact as it is.
    bytes: u64,
    /// Nanoseconds of a run of the artifact; `None` where the model cannot be compiled.
    time: Option<f64>,
    accuracy: Option<f64>,
}

impl Compare {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        self.model.settings_of_the_model()?;
        let labels = self.labels.as_deref().map(read_labels).transpose()?;
        let (first, _) = Runnable::read(&self.model.find(&self.a)?, &self.model.unbound())?;
        let mut sizes = self.model.dims();
        if let (Some(symbol), Some(&n)) = (first.batch_symbol(), self.batch.0.first()) {
            sizes.insert(symbol, n);
        }
        let inputs = self.inputs.read_or_random(&first, &sizes)?;
        let a = self.side(&self.a, &inputs, labels.as_deref(), console)?;
        let b = self.side(&self.b, &inputs, labels.as_deref(), console)?;
        console.finish();
        if a.outputs.len() != b.outputs.len() {
            let differ = Diagnostic::values_differ("the two have different numbers of outputs");
            return Err(differ.expected(a.outputs.len()).found(b.outputs.len()).into());
        }
        let pairs = a.outputs.iter().zip(&b.outputs).zip(&a.names);
        let tolerance = Tolerance::default();
        let differences: Vec<_> = pairs.map(|((x, y), name)| difference(name, x, y, tolerance)).collect();
        let reduction = if a.bytes > 0 { 1.0 - b.bytes as f64 / a.bytes as f64 } else { 0.0 };
        let speedup = a.time.zip(b.time).map(|(a, b)| a / b);
        let accuracy_diff = a.accuracy.zip(b.accuracy).map(|(a, b)| b - a);
        if self.json {
            let finite = |v: f64| if v.is_finite() { json!(v) } else { json!(v.to_string()) };
            let outputs: Vec<Value> = differences
                .iter()
                .map(|d| {
                    let argmax = d.argmax_agree.map(|n| n as f64 / d.n_rows.max(1) as f64);
                    json!({
                        "name": d.name, "max_abs_difference": finite(d.max_abs),
                        "max_relative_difference": finite(d.max_relative), "argmax_agreement": argmax,
                    })
                })
                .collect();
            let side = |s: &Side| json!({"accuracy": s.accuracy, "bytes": s.bytes, "run_ns": s.time});
            return Ok(console.print_json(&json!({
                "schema": 1, "accuracy_diff": accuracy_diff, "memory_reduction": reduction, "speedup": speedup,
                "outputs": outputs, "a": side(&a), "b": side(&b),
            }))?);
        }
        let mut text = String::new();
        if let (Some(x), Some(y), Some(d)) = (a.accuracy, b.accuracy, accuracy_diff) {
            let _ = writeln!(text, "accuracy          {:.4} -> {:.4} ({d:+.4})", x, y);
        }
        let _ = writeln!(text, "weights           {} -> {} bytes, {}", a.bytes, b.bytes, reduction_text(reduction));
        match (a.time, b.time, speedup) {
            (Some(x), Some(y), Some(s)) => {
                let _ = writeln!(text, "time of a run     {:.2} -> {:.2} us, {s:.2} times as fast", x / 1e3, y / 1e3);
            }
            _ => text.push_str("time of a run     unknown: one of the two cannot be compiled\n"),
        }
        for d in &differences {
            let _ = write!(text, "output {}  max |difference| {:.3e}", crate::error::escape(&d.name), d.max_abs);
            let _ = match (&d.mismatch, d.argmax_agree) {
                (Some(mismatch), _) => writeln!(text, ": {mismatch}"),
                (None, Some(n)) => writeln!(text, ", argmax agrees on {n} of {} rows", d.n_rows),
                (None, None) => writeln!(text),
            };
        }
        Ok(console.print(&text)?)
    }

    fn side(&self, path: &Path, inputs: &[Tensor], labels: Option<&[i64]>, console: &Console) -> Result<Side, Failure> {
        let named = |d: Diagnostic| d.file(path.display().to_string());
        console.step(&format!("running {}", path.display()));
        let kernels: &'static dyn Kernels = kernels::best();
        let (runnable, warnings) = Runnable::read(&self.model.find(path)?, &self.model.unbound())?;
        warnings.iter().for_each(|w| console.warn(w));
        let outputs = runnable.run(inputs, kernels).map_err(named)?;
        let compiled = bench::artifact(path, &self.model, &self.pipeline, console);
        let (bytes, time) = match (compiled, &runnable) {
            (Ok((artifact, was_model)), _) => {
                let summary = Summary::of(runnable::load(&artifact).map_err(named)?.contents(), &artifact);
                let copies = Copies::new(&artifact, 0).map_err(named)?;
                let program = Runnable::Program(Box::new(runnable::load(&artifact).map_err(named)?));
                let expected = program.run(inputs, kernels).map_err(named)?;
                let time = Duration::from_secs_f64(self.seconds);
                let times = copies.time(inputs, Form::Rows, &expected, kernels, time).map_err(named)?;
                let bytes = if was_model { summary.bytes.original } else { summary.bytes.packed };
                (bytes, Some(times.wall.median))
            }
            // A model that no instruction takes is still compared by its values and its constants.
            (Err(failure), Runnable::Graph(graph)) => {
                failure.diagnostics().iter().for_each(|d| console.warn(d));
                let tensors = graph.values().filter_map(|(id, _)| graph.constant(id));
                (tensors.map(|t| (t.numel() * t.dtype().size_bytes()) as u64).sum(), None)
            }
            (Err(failure), Runnable::Program(_)) => return Err(failure),
        };
        let accuracy = labels.map(|labels| accuracy(&outputs, labels).map_err(named)).transpose()?;
        Ok(Side { outputs, names: runnable.output_names(), bytes, time, accuracy })
    }
}

/// The class numbers of a file.
pub(super) fn read_labels(path: &Path) -> Result<Vec<i64>, Diagnostic> {
    let file = path.display().to_string();
    let labels = npy::convert_exact(&npy::read(path)?, bitc_ir::DType::I64).map_err(|d| d.file(file.as_str()))?;
    if labels.rank() != 1 {
        let wrong = Diagnostic::wrong_input("labels are one number per sample").file(file);
        return Err(wrong.expected("i64[N]").found(labels.ty()));
    }
    labels.to_vec::<i64>().ok_or_else(|| Diagnostic::bug("labels were not converted"))
}

/// The fraction of rows of the first output whose largest element is at the place of the label.
fn accuracy(outputs: &[Tensor], labels: &[i64]) -> Result<f64, Diagnostic> {
    let scores = outputs.first().ok_or_else(|| Diagnostic::wrong_input("there is no output to take a class from"))?;
    let rows = scores.dims().first().copied().unwrap_or(0);
    if rows != labels.len() || scores.rank() < 1 || rows == 0 {
        let wrong = Diagnostic::wrong_input("there must be one label per row of the first output");
        return Err(wrong.expected(format!("{rows} labels")).found(labels.len()));
    }
    let width = scores.numel() / rows;
    if let Some(label) = labels.iter().find(|&&label| width > 1 && usize::try_from(label).map_or(true, |l| l >= width))
    {
        let wrong = Diagnostic::wrong_input("a label is no class of the first output");
        return Err(wrong.expected(format!("0 to {}", width - 1)).found(label));
    }
    let found = classes(scores).unwrap_or_default();
    let right = found.iter().zip(labels).filter(|&(&class, &label)| class == label as f64).count();
    Ok(right as f64 / rows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_classes_or_largest_scores() {
        let scores = Tensor::new(&[2, 3], &[0.0f32, 1.0, 0.5, 2.0, 1.0, 0.0]);
        assert_eq!(accuracy(std::slice::from_ref(&scores), &[1, 2]), Ok(0.5));
        assert_eq!(accuracy(&[Tensor::new(&[2], &[1i64, 2])], &[1, 2]), Ok(1.0));
        assert!(accuracy(std::slice::from_ref(&scores), &[1]).is_err());
        assert!(accuracy(std::slice::from_ref(&scores), &[1, 3]).is_err());
        assert!(accuracy(std::slice::from_ref(&scores), &[-1, 1]).is_err());
        assert!(accuracy(&[], &[1]).is_err());
    }
}
