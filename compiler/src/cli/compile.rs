//! `bitc compile`: a model to an artifact, or to another form of its graph.

use std::io::stderr;
use std::path::{Path, PathBuf};

use bitc_ir::eval::eval;
use bitc_ir::{Graph, Tensor};
use bitc_passes::CheckValues;
use bitc_runtime::kernels;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::console::Console;
use super::dont_cares::{self, DontCareArgs};
use super::inputs::InputArgs;
use super::model::{ModelArgs, PipelineArgs};
use crate::backend::{self, EXPORTERS};
use crate::compile;
use crate::error::{Diagnostic, Failure, escape, quoted};
use crate::explain::SourceNodes;
use crate::frontend::Reals;
use crate::input::is_standard_input;
use crate::lower::Target;
use crate::notes::{Approximation, Notes};
use crate::observe::{self, PrintAfter, Seen, Watch};
use crate::output;
use crate::pipeline::Pipeline;
use crate::runnable::{self, Runnable};
use crate::verify::{Tolerance, difference};

/// Compile a model into an artifact for the runtime
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc compile model.yaml                        writes model.bit here
  bitc compile model.yaml --weights w.safetensors -o net.bit
  bitc compile model.bir -o model.dot            the optimized graph for graphviz
  bitc compile model.yaml -o m.bit --explain     what became of each layer, and why not
  bitc compile model.yaml -o m.bit --verify=each compare values after every pass
  bitc compile network.yaml -o network.v         a logic network as Verilog; .c and .blif likewise
  bitc compile model.yaml --stop-after simplify --emit bir -o -
  bitc compile - -o model.bit < model.onnx       any input file may be standard input")]
pub(super) struct Compile {
    /// The model: .yaml, .bir or .onnx, told apart by content; `-` is standard input.
    model: PathBuf,
    /// Where the result goes; `-` is standard output. Default: the model's name with a new extension, in this folder.
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What is written: bit, bir, onnx, dot, json, or of a logic network c, verilog, blif. Default: by the extension of
    /// OUT, else bit.
    #[arg(long, value_name = "FORMAT")]
    emit: Option<String>,
    /// The machines that weight layouts are chosen for: any, native, avx512, avx2 or neon.
    #[arg(long, value_name = "TARGET", default_value = "any")]
    target: String,
    /// Leave the frozen graph out of the artifact.
    #[arg(long)]
    strip: bool,
    #[command(flatten)]
    model_args: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    rewrite: RewriteArgs,
    #[command(flatten)]
    dont_cares: DontCareArgs,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Say what became of each node of the source, and what was not done to it and why.
    #[arg(long)]
    explain: bool,
    /// Print a report as JSON: the file, warnings, what became of logic networks, and how far an approximation agrees.
    #[arg(long)]
    json: bool,
}

/// What was written, for programs.
#[derive(Serialize)]
struct Report {
    schema: u32,
    output: String,
    format: &'static str,
    bytes: u64,
    warnings: Vec<String>,
    #[serde(flatten)]
    notes: Notes,
}

/// How float layers become ternary, if they shall.
#[derive(Debug, Clone, Args)]
struct RewriteArgs {
    /// Make the float layers of a float model ternary, linear ones and convolutions: off, optimal, absmean, twn or gptq.
    /// Trained ternary weights are always recognised.
    #[arg(long, value_name = "METHOD", default_value = "off", help_heading = "Rewriting a float model")]
    ternary: String,
    /// Which weights of a layer share a scale: all (tensor), those of an output (row), or G neighbouring inputs of one,
    /// which convolutions have not.
    #[arg(long, value_name = "tensor|row|group:G", help_heading = "Rewriting a float model")]
    scale: Option<String>,
    /// Ternary planes whose sum stands for a weight: 1 or 2.
    #[arg(long, value_name = "1|2", help_heading = "Rewriting a float model")]
    planes: Option<String>,
    /// Layers to leave: glob on names, `first`, `last`, `convolutions`, `depthwise`; `=int8` keeps 8 bits, `=f32` (default)
    /// keeps floats, `=ternary` keeps nothing. Depthwise convolutions keep floats unless told otherwise.
    #[arg(long, value_name = "PATTERN[,PATTERN][=f32|int8|ternary]", help_heading = "Rewriting a float model")]
    keep: Vec<String>,
    /// Calibration inputs: a scale and a bias per output are refit on them; with `--dont-cares` what a logic network sees.
    #[arg(long, value_name = "[NAME=]X.npy", help_heading = "Rewriting a float model")]
    calib: Vec<String>,
}

impl RewriteArgs {
    /// Puts the rewrite behind what recognises ternary weights.
    fn add_to(&self, pipeline: &mut Pipeline, calibrates: bool) -> Result<(), Diagnostic> {
        if self.ternary == "off" {
            let lonely = [
                ("--scale", self.scale.is_some()),
                ("--planes", self.planes.is_some()),
                ("--keep", !self.keep.is_empty()),
                ("--calib", !self.calib.is_empty() && !calibrates),
            ];
            return match lonely.iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(Diagnostic::usage(format!(
                    "`{flag}` says how float layers become ternary, but they stay float"
                ))
                .hint(if *flag == "--calib" {
                    "add `--ternary METHOD`, or `--dont-cares`"
                } else {
                    "add `--ternary METHOD`"
                })),
                None => Ok(()),
            };
        }
        // What was trained in few bits has been found by then, and stays as it was trained.
        pipeline.insert_before("rewrite-to-ternary", &["linear-to-bit-linear", "freeze"])?;
        let mut set = |option: &str, name: &str, value: &str| {
            pipeline.set_by(&format!("--{option}"), &format!("rewrite-to-ternary.{name}"), value)
        };
        set("ternary", "method", &self.ternary).map_err(|d| d.hint("`off` leaves float layers as they are"))?;
        if let Some(scale) = &self.scale {
            set("scale", "scale", scale)?;
        }
        if let Some(planes) = &self.planes {
            set("planes", "planes", planes)?;
        }
        if !self.keep.is_empty() {
            set("keep", "keep", &kept(&self.keep))?;
        }
        Ok(())
    }

    /// The calibration inputs in the order of the graph's inputs.
    fn calibration(&self, source: &Graph) -> Result<Vec<Vec<Tensor>>, Failure> {
        if self.calib.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![super::inputs::read(&self.calib, &Runnable::Graph(Box::new(source.clone())))?])
    }
}

/// What `--keep` says, one pattern after the other with what it keeps: `a,b=int8` keeps both in 8 bits.
fn kept(rules: &[String]) -> String {
    let mut patterns = Vec::new();
    for rule in rules {
        let (list, kept) = rule.rsplit_once('=').unwrap_or((rule, "f32"));
        patterns.extend(list.split(',').filter(|p| !p.is_empty()).map(|p| format!("{p}={kept}")));
    }
    patterns.join(",")
}

/// How passes are watched and stopped.
#[derive(Debug, Clone, Args)]
pub(super) struct WatchArgs {
    /// Print the graph to standard error after a pass.
    #[arg(long, value_name = "PASS|all|changed")]
    print_after: Option<String>,
    /// Write one numbered .bir file per pass into a folder; after a failure also its graph and the sample inputs.
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Stop after the first pass of this name.
    #[arg(long, value_name = "PASS")]
    stop_after: Option<String>,
    /// Stop after this many rewrites.
    #[arg(long, value_name = "N")]
    rewrite_limit: Option<u64>,
    /// Compare values before and after all passes (end), or each of them, on the inputs or on random ones.
    #[arg(long, value_name = "end|each", num_args = 0..=1, require_equals = true, default_missing_value = "end")]
    verify: Option<Check>,
    /// Print how long each pass took.
    #[arg(long)]
    timings: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Check {
    /// Once, after the last pass.
    End,
    /// After every pass.
    Each,
}

/// How many random samples values are compared on.
const SAMPLES: u64 = 2;

impl Compile {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        let format = self.format()?;
        let target = self.target()?;
        if self.json && self.output.as_deref() == Some(Path::new("-")) {
            return Err(Diagnostic::usage("`--json` and the result cannot both go to standard output").into());
        }
        if self.output.is_none() && is_standard_input(&self.model) {
            let nameless = Diagnostic::usage("a model from standard input has no name to call the result after");
            return Err(nameless.hint("`-o OUT` says where it goes").into());
        }
        if self.model_args.discretizes() && !self.inputs.given() {
            let d =
                Diagnostic::usage("`--discretize` changes what the network computes, so it needs data to say how much");
            return Err(d.hint("add `--input X.npy` with rows that the network shall answer for").into());
        }
        let mut pipeline = self.pipeline.pipeline(&self.model_args)?;
        self.rewrite.add_to(&mut pipeline, self.dont_cares.asked())?;
        self.dont_cares.add_to(&mut pipeline)?;
        let mut imported = self.model_args.import(&self.model, console)?;
        output::not_over(&self.model_args.find(&self.model)?, &self.output_path(format))?;
        output::expect_place(&self.output_path(format))?;
        compile::name_origins(&mut imported.graph);
        let mut graph = imported.graph;
        let file = self.model.display().to_string();
        let n_shown = imported.warnings.len();

        let source = if self.explain { SourceNodes::of(&graph) } else { SourceNodes::default() };
        let mut calibration = self.rewrite.calibration(&graph)?;
        let held_out = self.dont_cares.hold_out(&graph, &mut calibration, self.inputs.seed())?;
        let seen = self.watch.run(&mut graph, &pipeline, &self.inputs, calibration, console);
        let seen = seen.map_err(|f| f.file(&file))?;
        if let Some(held_out) = held_out {
            console.step("comparing with the trained function");
            held_out.measure(seen.before.as_ref(), &mut graph).map_err(|d| d.file(file.as_str()))?;
        }
        let mut warnings = imported.warnings;
        warnings.extend(seen.warnings().map(|warning| Diagnostic::wrong_input(warning).file(file.as_str())));
        warnings[n_shown..].iter().for_each(|w| console.warn(w));
        if self.explain {
            console.asked(&source.explain(&graph, &seen.remarks));
        } else {
            // A rewrite by choice says what it costs.
            seen.notes("rewrite-to-ternary").iter().for_each(|line| console.note(line));
            Notes::of_graph(&graph).approximations.iter().for_each(|a| console.note(&a.text()));
        }
        if self.model_args.discretizes() {
            let doubt = self.compare_with_reals(&mut graph, console).map_err(|f| f.file(&file))?;
            doubt.iter().for_each(|w| console.warn(w));
            warnings.extend(doubt);
        }
        console.step("writing the result");
        let settings = backend::Options { target, strip: self.strip, full: true };
        let content = compile::export(&graph, format, &settings).map_err(|f| f.file(&file))?;
        let path = self.output_path(format);
        output::write_pieces(&path, &mut content.pieces())?;
        console.finish();
        if self.json {
            let report = Report {
                schema: 1,
                output: path.display().to_string(),
                format,
                bytes: content.len_bytes(),
                warnings: warnings.iter().map(|w| crate::error::escape(&w.message)).collect(),
                notes: Notes::of_graph(&graph),
            };
            return Ok(console.print_json(&report)?);
        }
        if path != Path::new("-") {
            console.detail(&format!("{}: {} bytes", path.display(), content.len_bytes()));
        }
        Ok(())
    }

    /// Says on the user's data how far a network of bits agrees with the real numbers that it stands for. Returns a
    /// warning where there are none.
    fn compare_with_reals(&self, graph: &mut Graph, console: &Console) -> Result<Option<Diagnostic>, Failure> {
        if self.model_args.import_as(&self.model, Reals::Refused).is_ok() {
            let none = "`--discretize` changed nothing: the model has no real-valued nodes of a logic network";
            return Ok(Some(Diagnostic::wrong_input(none).file(self.model.display().to_string())));
        }
        let source = self.model_args.import_as(&self.model, Reals::Numbers)?.graph;
        let inputs = self.inputs.read(&Runnable::Graph(Box::new(source.clone())))?;
        let expected = eval(&source, &inputs).map_err(|e| runnable::eval_error(&e))?;
        let found = eval(graph, &inputs).map_err(|e| runnable::eval_error(&e))?;
        let pairs = expected.iter().zip(&found).zip(source.outputs());
        let differences = pairs.map(|((a, b), output)| difference(&output.name, a, b, Tolerance::default()));
        for (i, d) in differences.enumerate() {
            let part = d.argmax_agree.map(|same| same as f64 / d.n_rows.max(1) as f64);
            // The classes of a network are those of its first output.
            if i == 0 {
                let figures = [("input_rows", Some(d.n_rows as f64)), ("argmax_agreement", part)];
                let figures = figures.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
                Approximation { method: Approximation::DISCRETIZE.to_owned(), figures }.note(graph);
            }
            let largest = d.argmax_agree.zip(part).map(|(same, part)| {
                format!("the largest is the same in {same} of {} rows ({:.2} %), ", d.n_rows, 100.0 * part)
            });
            console.note(&format!(
                "discretized `{}`: {}values differ by up to {}",
                escape(&d.name),
                largest.unwrap_or_default(),
                d.max_abs
            ));
        }
        Ok(None)
    }

    fn format(&self) -> Result<&'static str, Diagnostic> {
        let names = || EXPORTERS.iter().map(|e| e.name());
        if let Some(name) = &self.emit {
            let unknown = || {
                let unknown = Diagnostic::usage(format!("{} is no format that bitc writes", quoted(name)));
                unknown.expected(names().collect::<Vec<_>>().join(", ")).suggest(name, names())
            };
            return names().find(|n| n == name).ok_or_else(unknown);
        }
        let extension = self.output.as_deref().and_then(Path::extension).and_then(|e| e.to_str());
        match extension {
            None => Ok("bit"),
            Some(extension) => backend::by_extension(extension).map(|e| e.name()).ok_or_else(|| {
                let known: Vec<_> = EXPORTERS.iter().flat_map(|e| e.extensions()).map(|e| format!(".{e}")).collect();
                let path = self.output.as_deref().map(|p| p.display().to_string()).unwrap_or_default();
                Diagnostic::usage(format!("the extension {} names no format", quoted(extension)))
                    .file(path)
                    .expected(known.join(", "))
                    .hint("`--emit FORMAT` says what is to be written")
            }),
        }
    }

    fn target(&self) -> Result<Target, Diagnostic> {
        Target::from_name(&self.target, kernels::best().name()).ok_or_else(|| {
            let names = Target::ALL.iter().map(|t| t.name()).chain(["native"]);
            Diagnostic::usage(format!("there is no target {}", quoted(&self.target)))
                .expected(names.clone().collect::<Vec<_>>().join(", "))
                .suggest(&self.target, names)
        })
    }

    /// Where the result goes: the model's stem in this folder, if nothing was said.
    fn output_path(&self, format: &str) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let stem = self.model.file_stem().unwrap_or_default();
            let mut name = stem.to_os_string();
            name.push(".");
            name.push(format);
            PathBuf::from(name)
        })
    }
}

impl WatchArgs {
    /// Runs the passes with everything the user wants to see of them.
    pub(super) fn run(
        &self,
        graph: &mut Graph,
        pipeline: &Pipeline,
        inputs: &InputArgs,
        calibration: Vec<Vec<Tensor>>,
        console: &Console,
    ) -> Result<Seen, Failure> {
        let check_values = match self.verify {
            None => CheckValues::Off,
            Some(Check::End) => CheckValues::End,
            Some(Check::Each) => CheckValues::Each,
        };
        let samples = if check_values == CheckValues::Off && !inputs.given() {
            Vec::new()
        } else if inputs.given() {
            vec![inputs.read(&Runnable::Graph(Box::new(graph.clone())))?]
        } else {
            (0..SAMPLES).map(|i| compile::sample(graph, inputs.seed().wrapping_add(i))).collect::<Result<_, _>>()?
        };
        let options = bitc_passes::Options {
            rewrite_limit: self.rewrite_limit,
            stop_after: self.stop_after.clone(),
            check_values,
            samples: samples.clone(),
            calibration,
            tolerance: None,
        };
        let print_after = self.print_after(pipeline)?;
        let keep_before = pipeline.steps.iter().any(|s| s.pass == dont_cares::PASS).then_some(dont_cares::PASS);
        let watched = observe::Options { print_after, dump_dir: self.dump_dir.clone(), samples, keep_before };
        let mut stream = stderr();
        let progress = |pass: &str| console.step(&format!("pass {pass} is done"));
        console.step("running passes");
        let mut watch = Watch::new(&watched, &mut stream, &progress);
        compile::run_passes(graph, pipeline, options, &mut watch)?;
        let seen = watch.finish()?;
        if self.timings {
            console.asked(&seen.timings());
        }
        Ok(seen)
    }

    fn print_after(&self, pipeline: &Pipeline) -> Result<PrintAfter, Diagnostic> {
        Ok(match self.print_after.as_deref() {
            None => PrintAfter::Never,
            Some("all") => PrintAfter::All,
            Some("changed") => PrintAfter::Changed,
            Some(name) if pipeline.steps.iter().any(|s| s.pass == name) => PrintAfter::Pass(name.to_owned()),
            Some(name) => {
                let unknown = Diagnostic::usage(format!("pipeline `{}` has no pass {}", pipeline.name, quoted(name)));
                return Err(unknown.suggest(name, pipeline.steps.iter().map(|s| s.pass)));
            }
        })
    }
}
