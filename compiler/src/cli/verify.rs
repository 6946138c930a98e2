//! `bitc verify`: whether an artifact computes what its model does.

mod oracle;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use bitc_ir::{DType, Tensor, random};
use bitc_runtime::kernels::{self, Kernels};
use clap::Args;
use serde_json::{Value, json};

use self::oracle::{Oracle, Reference};
use super::console::Console;
use super::inputs::InputArgs;
use super::model::{ModelArgs, Sizes, not_negative, part, sizes};
use crate::error::{Diagnostic, Failure};
use crate::frontend::Source;
use crate::notes::{Approximation, Notes};
use crate::npy;
use crate::runnable::{Runnable, is_artifact, kernels_on};
use crate::verify::{Absolute, Comparison, Flip, Subject, Tolerance};

/// Compare an artifact with its model: outputs, and the integer sums of every layer bit for bit
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc verify model.yaml model.bit --input x.npy
  bitc verify model.yaml model.bit --samples 100
  bitc verify model.yaml model.bit --batch 0,1,2,7,64,1000 --isa all
  bitc verify model.yaml model.bit --rtol 1e-6 --atol 0 --json
  bitc verify model.onnx model.bit --input x.npy --expected onnxruntime.npy   against what another engine gave

The exit code is 1 where they differ. An artifact that was compiled with --dont-cares needs data: it must follow the
graph that it carries, if any, and agree with the model on as many rows as --agreement says. Rows in which an 8-bit activation was rounded to the other side of
a tie are named and accepted while they are few and small, or each such activation is shown to lie next to
the border and to make the whole difference.")]
pub(super) struct Verify {
    /// The model.
    model: PathBuf,
    /// The artifact.
    artifact: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// How many random samples, where no inputs are given.
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with_all = ["inputs", "batch"])]
    samples: usize,
    /// Batches of these many random samples.
    #[arg(long, value_name = "N,N", value_parser = sizes, conflicts_with = "inputs")]
    batch: Option<Sizes>,
    /// What the model is run on.
    #[arg(long, value_name = "eval|tract", default_value = "eval")]
    reference: Reference,
    /// What an output should be for the inputs, by another engine; without NAME in the order of the outputs.
    #[arg(long, value_name = "[NAME=]Y.npy", requires = "inputs", conflicts_with = "reference")]
    expected: Vec<String>,
    /// The instruction set; `all` for every one of this machine. Default: the best.
    #[arg(long, value_name = "NAME|all")]
    isa: Option<String>,
    /// Threads to compute on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// How many rows of an approximate artifact, one compiled with --dont-cares, must have the model's class (or output,
    /// where it has one number per row).
    #[arg(long, value_name = "PART", default_value_t = 0.99, value_parser = part, allow_negative_numbers = true)]
    agreement: f64,
    /// Allowed difference relative to the model's value; default: 1e-4, or the precision of 16-bit floats where the model
    /// computes in them.
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    rtol: Option<f64>,
    /// Allowed absolute difference; default: 1e-5 of the model's largest value, or again that precision.
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    atol: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model_args: ModelArgs,
}

/// A comparison with what it was made on.
struct Run {
    batch: usize,
    isa: &'static str,
    comparison: Comparison,
}

impl Verify {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        self.model_args.settings_of_the_model()?;
        console.step("reading");
        let path = self.model_args.find(&self.model)?;
        let engine = Oracle::engine(self.reference, &path)?;
        let (model, warnings) = Runnable::read(&path, &self.model_args.unbound())?;
        warnings.iter().for_each(|w| console.warn(w));
        if let Runnable::Program(_) = model {
            self.model_args.expect_artifact(&self.model)?;
        }
        let oracle = if self.expected.is_empty() { engine } else { Oracle::given(&self.expected, &model)? };
        let artifact = Source::read(&self.artifact)?;
        let name = artifact.name();
        if !is_artifact(artifact.bytes.bytes()) {
            return Err(Diagnostic::wrong_input("this is no artifact")
                .file(name)
                .hint("`bitc compile` makes one")
                .into());
        }
        let subject = Subject::load(artifact.bytes.bytes()).map_err(|f| f.file(&name))?;
        let Notes { mut approximations, binary_inputs, .. } = Notes::of_artifact(subject.program().contents().notes());
        // With this option the model is read the way the artifact was made.
        approximations.retain(|a| a.method != Approximation::DISCRETIZE || !self.model_args.discretizes());
        if !approximations.is_empty() && !self.inputs.given() {
            let needs =
                Diagnostic::usage("the artifact is approximate: it was made to answer for rows like those it saw");
            return Err(needs.file(name).hint("add `--input X.npy` with rows that it shall answer for").into());
        }
        let tolerance = self.tolerance(&model);
        let isas = self.kernels()?;
        let mut runs = Vec::new();
        for inputs in self.batches(&model, binary_inputs)? {
            let batch = inputs.first().and_then(|t| t.dims().first().copied()).unwrap_or(1);
            console.step(&format!("{}, batch {batch}", oracle.name()));
            let expected = oracle.run(&model, &inputs).map_err(|d| d.file(self.model.display().to_string()))?;
            for &kernels in &isas {
                console.step(&format!("{}, batch {batch}", kernels.name()));
                let comparison = subject.compare(&expected, &inputs, kernels, tolerance, oracle.graph(&model));
                let comparison = comparison.map_err(|d| d.file(name.as_str()))?;
                runs.push(Run { batch, isa: kernels.name(), comparison });
            }
        }
        console.finish();
        if runs.iter().flat_map(|r| &r.comparison.outputs).all(|o| o.n_rows == 0) {
            console.warn(&Diagnostic::wrong_input("nothing was compared: there are no rows").file(name.as_str()));
        }
        let follows = runs.iter().all(|r| r.comparison.follows_its_graph(tolerance.relative));
        let agree = if approximations.is_empty() {
            runs.iter().all(|r| r.comparison.agrees())
        } else {
            follows && runs.iter().all(|r| self.agrees_enough(&r.comparison))
        };
        if self.json {
            let mut report = self.report_json(&runs, agree);
            if !approximations.is_empty() {
                report["equal"] = json!(runs.iter().all(|r| r.comparison.agrees()));
                report["agrees"] = json!(agree);
                report["approximations"] = json!(approximations);
            }
            console.print_json(&report)?;
        } else {
            let lines: String = approximations.iter().map(|a| a.text() + "\n").collect();
            console.print(&(lines + &report(&runs, &subject, agree, approximations.is_empty())))?;
        }
        if agree {
            return Ok(());
        }
        let first = runs.iter().find(|r| !r.comparison.agrees()).and_then(|r| r.comparison.first_diverging.clone());
        let differ = Diagnostic::values_differ("the artifact does not compute what the model does").file(name);
        let differ = match first {
            Some(layer) => differ.node(layer),
            None => differ,
        };
        if !approximations.is_empty() && !follows {
            return Err(differ.hint("it does not even follow the graph that it carries").into());
        }
        if !approximations.is_empty() {
            let least = format!("the model's class in at least {} of the rows (--agreement)", self.agreement);
            return Err(differ.expected(least).into());
        }
        Err(differ.hint("`bitc bisect MODEL` finds the pass or rewrite that changed values").into())
    }

    /// Whether enough rows of the first output have the class that the model gives, or its value where that is the class.
    fn agrees_enough(&self, c: &Comparison) -> bool {
        let Some(o) = c.outputs.first().filter(|o| o.mismatch.is_none()) else { return false };
        let same = o.argmax_agree.unwrap_or(o.n_rows - o.rows.len());
        same as f64 >= self.agreement * o.n_rows as f64
    }

    /// The inputs of each comparison; random ones are 0 or 1 where the artifact takes them to be.
    fn batches(&self, model: &Runnable, binary_inputs: bool) -> Result<Vec<Vec<Tensor>>, Failure> {
        if self.inputs.given() {
            return Ok(vec![self.inputs.read(model)?]);
        }
        let mut sizes = self.model_args.dims();
        let random_inputs = |sizes: &BTreeMap<String, usize>, seed| {
            let inputs = model.random_inputs(sizes, seed)?;
            let bits = |(i, t): (u64, Tensor)| {
                npy::convert_exact(&random::tensor(DType::Bool, t.dims(), seed.wrapping_add(i)), t.dtype())
            };
            if binary_inputs { (0..).zip(inputs).map(bits).collect() } else { Ok(inputs) }
        };
        let counts = self.batch.as_ref().map_or_else(|| vec![self.samples], |s| s.0.clone());
        let Some(symbol) = model.batch_symbol() else {
            // Without a dimension for samples each one is a run of its own.
            let runs = counts.iter().copied().max().unwrap_or(1) as u64;
            let seeds = (0..runs).map(|i| self.inputs.seed().wrapping_add(1000 * i));
            return Ok(seeds.map(|seed| random_inputs(&sizes, seed)).collect::<Result<_, _>>()?);
        };
        let mut batches = Vec::new();
        for n in counts {
            sizes.insert(symbol.clone(), n);
            batches.push(random_inputs(&sizes, self.inputs.seed())?);
        }
        Ok(batches)
    }

    /// What the user allows, else what the precision of the model does.
    fn tolerance(&self, model: &Runnable) -> Tolerance {
        let default = match model {
            Runnable::Graph(graph) => Tolerance::of(graph),
            Runnable::Program(_) => Tolerance::default(),
        };
        Tolerance {
            relative: self.rtol.unwrap_or(default.relative),
            absolute: self.atol.map_or(default.absolute, Absolute::Value),
        }
    }

    fn kernels(&self) -> Result<Vec<&'static dyn Kernels>, Diagnostic> {
        match self.isa.as_deref() {
            Some("all") => kernels::available().map(|k| kernels_on(Some(k.name()), self.threads)).collect(),
            name => Ok(vec![kernels_on(name, self.threads)?]),
        }
    }

    fn report_json(&self, runs: &[Run], agree: bool) -> Value {
        let finite = |v: f64| if v.is_finite() { json!(v) } else { json!(v.to_string()) };
        let worst = |f: fn(&crate::verify::OutputDifference) -> f64| {
            finite(runs.iter().flat_map(|r| &r.comparison.outputs).map(f).fold(0.0, f64::max))
        };
        let all = || runs.iter().flat_map(|r| &r.comparison.outputs).filter(|o| o.argmax_agree.is_some());
        let rows: usize = all().map(|o| o.n_rows).sum();
        let agreeing: usize = all().filter_map(|o| o.argmax_agree).sum();
        let list: Vec<Value> = runs.iter().map(|r| run_json(r, &finite)).collect();
        json!({
            "schema": 1,
            "equal": agree,
            "max_abs_difference": worst(|o| o.max_abs),
            "max_relative_difference": worst(|o| o.max_relative),
            "argmax_agreement": if rows > 0 { json!(agreeing as f64 / rows as f64) } else { Value::Null },
            "first_diverging_layer": runs.iter().find_map(|r| r.comparison.first_diverging.clone()),
            "runs": list,
        })
    }
}

fn run_json(run: &Run, finite: &dyn Fn(f64) -> Value) -> Value {
    let c = &run.comparison;
    let outputs = c.outputs.iter().map(|o| {
        let argmax = o.argmax_agree.map(|n| n as f64 / o.n_rows.max(1) as f64);
        json!({
            "name": o.name, "max_abs_difference": finite(o.max_abs), "max_relative_difference": finite(o.max_relative),
            "rows": o.n_rows, "differing_rows": o.rows, "argmax_agreement": argmax,
        })
    });
    let flip = |f: &Flip| json!({"row": f.row, "layer": f.layer, "frozen": f.frozen, "model": f.model, "steps_from_border": f.distance});
    let layers = c.layers.iter().map(|l| {
        json!({"name": l.name, "op": l.op, "accumulators": l.accumulators, "differing": l.differing, "wrong": l.wrong})
    });
    json!({
        "batch": run.batch, "isa": run.isa, "equal": c.agrees(),
        "outputs": outputs.collect::<Vec<_>>(), "layers": layers.collect::<Vec<_>>(),
        "first_diverging_layer": c.first_diverging, "max_relative_difference_from_frozen": c.from_frozen.map(finite),
        "rows_on_border": c.on_border, "flipped_rows": c.flipped_rows, "flips": c.flips.iter().map(flip).collect::<Vec<_>>(),
    })
}

fn report(runs: &[Run], subject: &Subject, agree: bool, is_exact: bool) -> String {
    let mut text = String::new();
    for run in runs {
        let c = &run.comparison;
        let _ = writeln!(text, "batch {}, {}:", run.batch, run.isa);
        for o in &c.outputs {
            let _ = write!(text, "  output {}: ", crate::error::escape(&o.name));
            if let Some(mismatch) = &o.mismatch {
                let _ = writeln!(text, "{mismatch}");
                continue;
            }
            let _ = write!(text, "max |difference| {:.3e} ({:.1e} of the largest value)", o.max_abs, o.max_relative);
            if let Some(agreeing) = o.argmax_agree {
                let _ = write!(text, ", argmax agrees on {agreeing} of {} rows", o.n_rows);
            }
            if !o.rows.is_empty() {
                let _ = write!(text, ", outside the tolerance: {}", rows(&o.rows));
            }
            text.push('\n');
        }
        if !c.layers.is_empty() {
            let _ = writeln!(text, "  integer sums: {}", sums(c));
        }
        if let Some(frozen) = c.from_frozen {
            let _ = writeln!(text, "  outputs of the frozen graph: max |difference| {frozen:.1e} of the largest value");
        }
        if !c.flipped_rows.is_empty() {
            let _ = writeln!(text, "  rounding flips: {}", rows(&c.flipped_rows));
        }
        for f in &c.flips {
            let layer = crate::error::escape(f.layer.split(", ").next().unwrap_or_default());
            let _ = writeln!(
                text,
                "    row {}: {:.1e} steps from the border, an input of {layer} is {} in the model and {} in its frozen graph",
                f.row, f.distance, f.model, f.frozen
            );
        }
        if !c.on_border.is_empty() {
            let _ = writeln!(
                text,
                "  on the border between two integers, where engines may differ: {}",
                rows(&c.on_border)
            );
        }
        if let Some(layer) = &c.first_diverging {
            let _ = writeln!(text, "  first layer that diverges: {}", crate::error::escape(layer));
        }
    }
    if !subject.shows_inside() {
        let _ = writeln!(text, "the artifact does not carry its graph, so only outputs were compared");
    }
    let verdict = match (agree, is_exact) {
        (true, true) => "equal",
        (true, false) => "agrees",
        (false, _) => "different",
    };
    let _ = writeln!(text, "{verdict}");
    text
}

/// What was found about the integer layers, in one line or one line per differing layer.
fn sums(c: &Comparison) -> String {
    let total: usize = c.layers.iter().map(|l| l.accumulators).sum();
    let mut text = format!("{total} in {} layers", c.layers.len());
    let differing: Vec<_> = c.layers.iter().filter(|l| l.differing > 0).collect();
    if differing.is_empty() {
        return text + ", all equal bit for bit";
    }
    for l in differing {
        let _ = write!(
            text,
            "\n    {} ({}): {} differ, {} of them although the same integers went in",
            crate::error::escape(&l.name),
            l.op,
            l.differing,
            l.wrong
        );
    }
    text
}

/// Row numbers, the first few of them.
fn rows(rows: &[usize]) -> String {
    const SHOWN: usize = 8;
    let list: Vec<String> = rows.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if rows.len() > SHOWN { format!(" and {} more", rows.len() - SHOWN) } else { String::new() };
    format!("row{} {}{more}", if rows.len() == 1 { "" } else { "s" }, list.join(", "))
}
