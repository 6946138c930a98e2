//! `bitc list`: what there is: operations, passes, pipelines, models, instruction sets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bitc_ir::Op;
use bitc_passes::PASSES;
use bitc_runtime::kernels;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::console::Console;
use super::model::{models_folder, named_models};
use crate::error::{Diagnostic, Failure, escape};
use crate::lower;
use crate::pipeline::{BUILT_IN, Pipeline};
use crate::runnable::ISAS;

/// List what bitc knows
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc list ops                                  with what the evaluator and the runtime support
  bitc list passes
  bitc list pipelines
  bitc list models --models configs/models
  bitc list isas --json")]
pub(super) struct List {
    /// What to list.
    what: What,
    /// Where models live, for `list models`; default: the variable BITC_MODELS.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Operations of the IR.
    Ops,
    /// Passes and what they do.
    Passes,
    /// Built-in pipelines and their passes.
    Pipelines,
    /// YAML models in the folder of models.
    Models,
    /// Instruction sets, and which ones this machine runs.
    Isas,
}

impl List {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        let (key, rows, text) = match self.what {
            What::Ops => ops(),
            What::Passes => passes(),
            What::Pipelines => pipelines()?,
            What::Models => models(self.models.as_deref())?,
            What::Isas => isas(),
        };
        if self.json {
            return Ok(console.print_json(&json!({"schema": 1, key: rows}))?);
        }
        Ok(console.print(&text)?)
    }
}

type Listing = (&'static str, Vec<Value>, String);

fn ops() -> Listing {
    let width = Op::all().map(|i| i.name.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$}  evaluator  runtime  inputs\n", "operation");
    let mut rows = Vec::new();
    for info in Op::all() {
        let evaluated = info.name != "custom";
        let lowered = lower::has_instruction(info.name);
        let mark = |yes| if yes { "yes" } else { "-" };
        let inputs = info.inputs.join(", ");
        let _ = writeln!(text, "{:<width$}  {:<9}  {:<7}  {inputs}", info.name, mark(evaluated), mark(lowered));
        rows.push(json!({
            "name": info.name, "inputs": info.inputs, "outputs": info.outputs, "doc": info.doc,
            "evaluator": evaluated, "runtime": lowered,
        }));
    }
    ("ops", rows, text)
}

fn passes() -> Listing {
    let width = PASSES.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let text = PASSES.iter().map(|p| format!("{:<width$}  {}\n", p.name, p.doc)).collect();
    ("passes", PASSES.iter().map(|p| json!({"name": p.name, "doc": p.doc})).collect(), text)
}

fn pipelines() -> Result<Listing, Failure> {
    let mut rows = Vec::new();
    let mut text = String::new();
    for (name, yaml) in BUILT_IN {
        let pipeline = Pipeline::load(name)?;
        let comment = yaml.lines().take_while(|l| l.starts_with('#'));
        let doc = comment.map(|l| l.trim_start_matches(['#', ' '])).collect::<Vec<_>>().join(" ");
        let steps: Vec<&str> = pipeline.steps.iter().map(|s| s.pass).collect();
        let _ = writeln!(text, "{name}: {doc}\n    {}", steps.join(", "));
        rows.push(json!({"name": name, "doc": doc, "goal": pipeline.goal.to_string(), "passes": steps}));
    }
    Ok(("pipelines", rows, text))
}

fn models(folder: Option<&Path>) -> Result<Listing, Failure> {
    let folder = models_folder(folder).ok_or_else(|| {
        Diagnostic::usage("nothing says where models live").hint("give --models DIR or set BITC_MODELS")
    })?;
    let (mut rows, mut text) = (Vec::new(), String::new());
    for (name, path) in named_models(&folder)? {
        let (name, path) = (escape(&name), escape(&path.display().to_string()));
        let _ = writeln!(text, "{name:<24} {path}");
        rows.push(json!({"name": name, "path": path}));
    }
    Ok(("models", rows, text))
}

fn isas() -> Listing {
    let best = kernels::best().name();
    let here: Vec<&str> = kernels::available().map(|k| k.name()).collect();
    let mut text = String::new();
    let mut rows = Vec::new();
    for name in ISAS {
        let available = here.contains(&name);
        let note = match (available, name == best) {
            (true, true) => "runs here, default",
            (true, false) => "runs here",
            (false, _) => "-",
        };
        let _ = writeln!(text, "{name:<10} {note}");
        rows.push(json!({"name": name, "available": available, "default": name == best}));
    }
    ("isas", rows, text)
}
