//! `bitc run`: an artifact on the runtime, or a model on the reference evaluator.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bitc_ir::Tensor;
use bitc_runtime::kernels::Kernels;
use bitc_runtime::{Executed, Program, Session, Trace};
use clap::Args;
use serde_json::json;

use super::console::Console;
use super::inputs::{InputArgs, OutputArgs};
use super::model::ModelArgs;
use crate::error::{Diagnostic, Failure};
use crate::output;
use crate::runnable::{self, Runnable, kernels_on};

/// Run an artifact, or a model on the reference evaluator
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc run model.bit --input x.npy --output y.npy
  bitc run model.bit --input x.npy --output out/ out0.npy, out1.npy .. and outputs.json
  bitc run model.bit --input ids=i.npy --input mask=m.npy
  bitc run model.bit --dim N=4 --seed 7          random inputs, the head of each output
  bitc run model.yaml --input x.npy              the reference evaluator
  bitc run model.bit --profile                   the time each instruction takes")]
pub(super) struct Run {
    /// An artifact (.bit) or a model; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// The instruction set; default: the best of this machine.
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Threads to compute on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Print the time of each instruction, or write it as a trace for chrome://tracing.
    #[arg(long, value_name = "TRACE.json", num_args = 0..=1, require_equals = true)]
    profile: Option<Option<PathBuf>>,
}

impl Run {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        self.model.settings_of_the_model()?;
        let kernels = kernels_on(self.isa.as_deref(), self.threads)?;
        console.step("reading");
        // With arrays the sizes come from them, without they come from `--dim`.
        let options = if self.inputs.given() { self.model.options() } else { self.model.unbound() };
        let (runnable, warnings) = Runnable::read(&self.model.find(&self.file)?, &options)?;
        warnings.iter().for_each(|w| console.warn(w));
        if let Runnable::Program(_) = runnable {
            self.model.expect_artifact(&self.file)?;
        }
        let names = runnable.output_names();
        self.output.check(&names)?;
        let sizes = if self.inputs.given() { Default::default() } else { self.model.dims() };
        let inputs = self.inputs.read_or_random(&runnable, &sizes)?;
        console.step("running");
        let outputs = match (&self.profile, &runnable) {
            (None, _) => runnable.run(&inputs, kernels),
            (Some(target), Runnable::Program(program)) => self.profiled(program, kernels, &inputs, target, console),
            (Some(_), Runnable::Graph(_)) => {
                Err(Diagnostic::usage("only an artifact can be profiled").hint("compile the model first"))
            }
        };
        let outputs = outputs.map_err(|d| d.file(self.file.display().to_string()))?;
        console.finish();
        Ok(self.output.write(&names, &outputs, console)?)
    }

    fn profiled(
        &self,
        program: &Program,
        kernels: &'static dyn Kernels,
        inputs: &[Tensor],
        target: &Option<PathBuf>,
        console: &Console,
    ) -> Result<Vec<Tensor>, Diagnostic> {
        let mut session = Session::with_kernels(program, kernels);
        // The first run sizes buffers and warms caches; the second one is what a profile is about.
        runnable::run(&mut session, inputs, None)?;
        let mut profile = Profile::default();
        let outputs = runnable::run(&mut session, inputs, Some(&mut profile))?;
        match target {
            Some(path) => output::write(path, profile.trace(session.kernels()).as_bytes())?,
            None => console.note(&profile.table(session.kernels())),
        }
        Ok(outputs)
    }
}

/// The time of every instruction of a run.
#[derive(Default)]
struct Profile {
    steps: Vec<Step>,
}

struct Step {
    inst: &'static str,
    origin: String,
    shape: String,
    elapsed: Duration,
}

impl Trace for Profile {
    fn executed(&mut self, step: &Executed<'_>) {
        let shape = step.outputs.first().map(|(_, view)| format!("{}{:?}", view.dtype, view.shape)).unwrap_or_default();
        self.steps.push(Step {
            inst: step.inst.name(),
            origin: crate::error::escape(&step.origins.join(", ")),
            shape,
            elapsed: step.elapsed,
        });
    }
}

impl Profile {
    fn table(&self, isa: &str) -> String {
        let total: Duration = self.steps.iter().map(|s| s.elapsed).sum();
        let share = |d: Duration| 100.0 * d.as_secs_f64() / total.as_secs_f64().max(1e-12);
        let mut text =
            format!("{:>4}  {:>10}  {:>5}  {:<12}  {:<20}  origin\n", "", "us", "%", "instruction", "writes");
        for (i, step) in self.steps.iter().enumerate() {
            let us = step.elapsed.as_secs_f64() * 1e6;
            let line = format!(
                "{i:>4}  {us:>10.2}  {:>5.1}  {:<12}  {:<20}  {}",
                share(step.elapsed),
                step.inst,
                step.shape,
                step.origin
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(text, "{:>4}  {:>10.2}  {:>5}  in all, on {isa}", "", total.as_secs_f64() * 1e6, "");
        text
    }

    /// The trace event format of Chrome and Perfetto.
    fn trace(&self, isa: &str) -> String {
        let mut begin = 0.0;
        let mut events = Vec::new();
        for step in &self.steps {
            let us = step.elapsed.as_secs_f64() * 1e6;
            let args = json!({"origin": step.origin, "writes": step.shape, "isa": isa});
            let name = format!("{isa}/{}", step.inst);
            events.push(json!({"name": name, "ph": "X", "ts": begin, "dur": us, "pid": 1, "tid": 1, "args": args}));
            begin += us;
        }
        json!({"traceEvents": events, "displayTimeUnit": "ns"}).to_string() + "\n"
    }
}
