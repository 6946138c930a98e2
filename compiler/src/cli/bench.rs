//! `bitc bench`: how long an artifact takes.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::console::Console;
use super::model::{ModelArgs, PipelineArgs, Sizes, bytes, seconds, sizes};
use crate::bench::{Copies, Form, Quantiles, Times, words_of};
use crate::compile;
use crate::error::{Diagnostic, Failure};
use crate::frontend::Source;
use crate::runnable::{self, Runnable, is_artifact, kernels_on};

/// Time an artifact, or a model compiled in memory
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc bench model.bit
  bitc bench model.bit --batch 1,8,64 --seconds 2
  bitc bench model.bit --isa avx2 --json
  bitc bench model.bit --rotate 160000000        weights come from memory, not from cache
  bitc bench network.bit --packed --batch 8192   bits of a logic network already in words

Runs are warm and in this process; inputs are seeded random. Times are per run.")]
pub(super) struct Bench {
    /// An artifact (.bit) or a model; `-` is standard input.
    file: PathBuf,
    /// Batch sizes.
    #[arg(long, value_name = "N,N", default_value = "1", value_parser = sizes)]
    batch: Sizes,
    /// Threads to compute on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// The instruction set; default: the best of this machine.
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// How long to measure each batch size.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// Give the bits of a logic network in words: 512 rows in eight words of 64 for each element of a row.
    #[arg(long)]
    packed: bool,
    /// Run as many copies of the program in turn as fill these bytes, such as 160000000 or 256M.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0")]
    rotate: u64,
    /// Seed of the inputs.
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// The most memory for copies of the program.
const ROTATE_LIMIT: u64 = 16 << 30;

impl Bench {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        if self.rotate > ROTATE_LIMIT {
            let much = Diagnostic::usage("`--rotate` is out of range").expected(format!("at most {ROTATE_LIMIT}"));
            return Err(much.found(self.rotate).into());
        }
        let kernels = kernels_on(self.isa.as_deref(), self.threads)?;
        console.step("loading");
        let (artifact, compiled) = artifact(&self.file, &self.model, &self.pipeline, console)?;
        if !compiled {
            self.model.expect_artifact(&self.file)?;
        }
        let named = |d: Diagnostic| d.file(self.file.display().to_string());
        let copies = Copies::new(&artifact, self.rotate).map_err(named)?;
        let model = Runnable::Program(Box::new(runnable::load(&artifact).map_err(named)?));
        let mut results = Vec::new();
        for &batch in &self.batch.0 {
            console.step(&format!("batch {batch}"));
            // Dimensions that were bound when a model was compiled are no symbols any more.
            let mut sizes = self.model.dims();
            sizes.retain(|name, _| !compiled || model.symbols().contains(name));
            match model.batch_symbol() {
                Some(symbol) => {
                    sizes.insert(symbol, batch);
                }
                None if batch != 1 => {
                    let fixed = Diagnostic::usage("the batch size of this artifact is fixed");
                    return Err(named(fixed.found(format!("--batch {batch}"))).into());
                }
                None => {}
            }
            let inputs = model.random_inputs(&sizes, self.seed).map_err(named)?;
            let expected = model.run(&inputs, kernels).map_err(named)?;
            let time = Duration::from_secs_f64(self.seconds);
            if self.packed && inputs.iter().all(|t| words_of(t).is_none()) {
                return Err(named(Diagnostic::usage("`--packed` needs an input of bits")).into());
            }
            let form = if self.packed { Form::Words } else { Form::Rows };
            let times = copies.time(&inputs, form, &expected, kernels, time).map_err(named)?;
            results.push((batch, times));
        }
        console.finish();
        if self.json {
            let runs: Vec<Value> = results.iter().map(|(batch, t)| self.json(*batch, t, kernels.name())).collect();
            return Ok(console.print_json(&json!({"schema": 1, "runs": runs}))?);
        }
        let mut text = format!(
            "{:>8}  {:>11} {:>11} {:>11} {:>11}  {:>11}  {:>12}\n",
            "batch", "median us", "p10", "p90", "min", "cpu us", "samples/s"
        );
        for (batch, times) in &results {
            let us = |ns: f64| format!("{:.2}", ns / 1e3);
            let w = &times.wall;
            let rate = *batch as f64 / (w.median / 1e9);
            let _ = writeln!(
                text,
                "{batch:>8}  {:>11} {:>11} {:>11} {:>11}  {:>11}  {rate:>12.0}",
                us(w.median),
                us(w.p10),
                us(w.p90),
                us(w.min),
                us(times.cpu.median)
            );
        }
        let copies = if copies.count() > 1 { format!(", {} copies in turn", copies.count()) } else { String::new() };
        let threads = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let _ = writeln!(text, "on {}, {}{copies}", kernels.name(), threads);
        Ok(console.print(&text)?)
    }

    fn json(&self, batch: usize, times: &Times, isa: &str) -> Value {
        let quantiles = |q: &Quantiles| json!({"median": q.median, "p10": q.p10, "p90": q.p90, "min": q.min});
        json!({
            "batch": batch, "threads": self.threads, "isa": isa,
            "wall_ns": quantiles(&times.wall), "cpu_ns": quantiles(&times.cpu), "iterations": times.iterations,
        })
    }
}

/// The bytes of an artifact file, or of the artifact that a model file becomes; and whether it had to be compiled.
pub(super) fn artifact(
    path: &std::path::Path,
    model: &ModelArgs,
    pipeline: &PipelineArgs,
    console: &Console,
) -> Result<(Vec<u8>, bool), Failure> {
    let source = Source::read(&model.find(path)?)?;
    if is_artifact(source.bytes.bytes()) {
        return Ok((source.bytes.bytes().to_vec(), false));
    }
    console.step("compiling");
    let options = compile::Options {
        import: model.options(),
        pipeline: pipeline.pipeline(model)?,
        ..compile::Options::default()
    };
    let compiled = compile::compile(&source, &options)?;
    compiled.warnings.iter().for_each(|w| console.warn(w));
    Ok((compiled.artifact, true))
}
