//! `bitc bisect`: the first pass, rewrite and layer after which values diverge.

use std::fmt::Write as _;
use std::path::PathBuf;

use bitc_runtime::kernels;
use clap::Args;
use serde_json::json;

use super::console::Console;
use super::inputs::InputArgs;
use super::model::{ModelArgs, PipelineArgs, not_negative};
use crate::backend;
use crate::bisect::{Culprit, Flips, Search};
use crate::compile;
use crate::error::{Diagnostic, Failure, escape};
use crate::observe::{self, Watch};
use crate::runnable::Runnable;
use crate::verify::{Subject, Tolerance};

/// Find the first pass, rewrite and layer after which values diverge
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc bisect model.yaml --input x.npy
  bitc bisect model.yaml --tolerance 0           the first rewrite that moves a single bit
  bitc bisect model.yaml --pipeline my.yaml --json

Passes are compared on the reference evaluator; after them the artifact is compared layer by layer.
Activations that only a rounding of floats moves to the next integer are named, and are no divergence.
The exit code is 1 where something diverges.")]
pub(super) struct Bisect {
    /// The model.
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// How far outputs may move, relative to the largest value.
    #[arg(long, value_name = "X", default_value_t = 1e-4, value_parser = not_negative, allow_negative_numbers = true)]
    tolerance: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model_args: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// How many rounding flips are shown.
const SHOWN: usize = 8;

/// What was found.
enum Found {
    Nothing { flips: Option<Flips> },
    InPass(Culprit),
    InArtifact { layer: Option<String>, difference: f64 },
}

impl Bisect {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        let file = self.model.display().to_string();
        let mut imported = self.model_args.import(&self.model, console)?;
        compile::name_origins(&mut imported.graph);
        let source = imported.graph;
        let inputs = match self.inputs.given() {
            true => self.inputs.read(&Runnable::Graph(Box::new(source.clone())))?,
            false => compile::sample(&source, self.inputs.seed())?,
        };
        let pipeline = self.pipeline.pipeline(&self.model_args)?;
        console.step("comparing after each pass");
        let search = Search::new(&source, &pipeline, &inputs, self.tolerance).map_err(|d| d.file(file.as_str()))?;
        let outcome = search.run().map_err(|f| f.file(&file))?;
        let found = match outcome.culprit {
            Some(culprit) => Found::InPass(culprit),
            None => {
                console.step("comparing the artifact");
                let mut graph = source.clone();
                let quiet = observe::Options::default();
                let mut nowhere = std::io::sink();
                let mut watch = Watch::new(&quiet, &mut nowhere, &|_| {});
                compile::run_passes(&mut graph, &pipeline, Default::default(), &mut watch)
                    .map_err(|f| f.file(&file))?;
                let content =
                    compile::export(&graph, "bit", &backend::Options::default()).map_err(|f| f.file(&file))?;
                let tolerance = Tolerance { relative: self.tolerance, ..Tolerance::default() };
                let subject = Subject::load(&content.into_bytes())?;
                let comparison =
                    subject.compare(search.expected(), &inputs, kernels::best(), tolerance, Some(&source))?;
                let difference = comparison.outputs.iter().map(|o| o.max_relative).fold(0.0, f64::max);
                match comparison.agrees() {
                    true => Found::Nothing { flips: outcome.flips },
                    false => Found::InArtifact { layer: comparison.first_diverging, difference },
                }
            }
        };
        console.finish();
        console.print(&if self.json { found.json() } else { found.text() })?;
        match found {
            Found::Nothing { .. } => Ok(()),
            _ => Err(Diagnostic::values_differ("values diverge").file(file).into()),
        }
    }
}

impl Found {
    fn text(&self) -> String {
        let mut text = String::new();
        match self {
            Found::Nothing { flips } => {
                text.push_str("nothing diverges: neither a pass nor the artifact\n");
                if let Some(Flips { pass, flips }) = flips {
                    let _ = writeln!(text, "rounding flips after {pass}, no fault of it:");
                    for f in flips.iter().take(SHOWN) {
                        let _ = writeln!(
                            text,
                            "  row {}: {:.1e} steps from the border, an input of {} is {} in the model and {} after the pass",
                            f.row,
                            f.distance,
                            escape(f.layer.split(", ").next().unwrap_or_default()),
                            f.model,
                            f.frozen
                        );
                    }
                    if flips.len() > SHOWN {
                        let _ = writeln!(text, "  and {} more", flips.len() - SHOWN);
                    }
                }
            }
            Found::InPass(c) => {
                let _ = writeln!(text, "pass      {} (number {} of the pipeline)", c.pass, c.index + 1);
                if let Some(rewrite) = c.rewrite {
                    let _ = writeln!(
                        text,
                        "rewrite   {rewrite} (--rewrite-limit {rewrite} shows it, {} does not)",
                        rewrite - 1
                    );
                }
                if let Some(remark) = &c.remark {
                    let _ = writeln!(text, "rule      {}", remark.rule);
                    let _ = writeln!(text, "layer     {}", escape(&remark.origin.to_string()));
                }
                let _ = writeln!(text, "moved by  {:.3e} of the largest value", c.difference);
            }
            Found::InArtifact { layer, difference } => {
                text.push_str("no pass diverges, but the artifact does\n");
                if let Some(layer) = layer {
                    let _ = writeln!(text, "layer     {}", escape(layer));
                }
                let _ = writeln!(text, "moved by  {difference:.3e} of the largest value");
            }
        }
        text
    }

    fn json(&self) -> String {
        let finite = |v: f64| if v.is_finite() { json!(v) } else { json!(v.to_string()) };
        let value = match self {
            Found::Nothing { flips } => {
                let rows = |f: &Flips| f.flips.iter().map(|f| f.row).collect::<std::collections::BTreeSet<_>>();
                json!({
                    "schema": 1, "diverges": false, "flipped_rows": flips.as_ref().map(rows).unwrap_or_default(),
                })
            }
            Found::InPass(c) => json!({
                "schema": 1, "diverges": true, "in": "pass", "pass": c.pass, "index": c.index, "rewrite": c.rewrite,
                "rule": c.remark.as_ref().map(|r| r.rule),
                "layer": c.remark.as_ref().map(|r| r.origin.to_string()), "difference": finite(c.difference),
            }),
            Found::InArtifact { layer, difference } => json!({
                "schema": 1, "diverges": true, "in": "artifact", "layer": layer, "difference": finite(*difference),
            }),
        };
        value.to_string() + "\n"
    }
}
