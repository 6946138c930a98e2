//! `bitc export`: a model or an artifact as ONNX.

use std::path::{Path, PathBuf};

use bitc_ir::Graph;
use clap::Args;

use super::console::Console;
use super::model::{ModelArgs, PipelineArgs};
use crate::backend::artifact;
use crate::compile;
use crate::error::{Diagnostic, Failure};
use crate::export::{self, Check, Options};
use crate::frontend::{self, Source};
use crate::observe::{self, Watch};
use crate::output;
use crate::runnable::is_artifact;

/// Write a model or an artifact as ONNX
#[derive(Debug, Args)]
#[command(after_help = "Forms:
  functions  operators of ai.bitc on packed weights, each with a body of standard operators: runs in
             any engine that knows model-local functions (opset 21)
  qdq        DequantizeLinear of 2-bit weights (opset 25), or of 4-bit weights with --opset 21
  ort        com.microsoft MatMulNBits of 2-bit weights, for onnxruntime (opset 21)
  inline     standard operators of opset 13 on packed weights, for tract, rten and TensorRT
  float      standard operators, every weight a float (opset 21)

Examples:
  bitc export model.yaml -o model.onnx
  bitc export model.bit -o model.onnx --form qdq
  bitc export source.onnx -o plain.onnx --form inline
  bitc export large.yaml -o large.onnx --external-data   weights in large.onnx.data

The file is read back and evaluated beside the source before the command succeeds. How far the values of
each form may be from the source is printed with it.")]
pub(super) struct Export {
    /// A model (.onnx, .yaml, .bir) or an artifact (.bit); `-` is standard input.
    file: PathBuf,
    /// Where the model goes; `-` is standard output.
    #[arg(long, short, value_name = "OUT.onnx")]
    output: PathBuf,
    /// What the model is made of: functions, qdq, ort, inline or float.
    #[arg(long, value_name = "FORM", default_value = "functions")]
    form: String,
    /// The version of the standard operators; default by the form.
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// Write weights to a file beside the model; those of a model of more than 1 GiB always go there.
    #[arg(long)]
    external_data: bool,
    /// Do not read the file back and compare values.
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

impl Export {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        let form = export::form(&self.form)?;
        output::not_over(&self.model.find(&self.file)?, &self.output)?;
        output::expect_place(&self.output)?;
        let name = self.file.display().to_string();
        let (source, graph) = self.graphs(console)?;
        console.step("writing the operators");
        let options =
            Options { form, opset: self.opset, data_name: self.data_name()?, external_data: self.external_data };
        let exported = export::export(&graph, &options).map_err(|f| f.file(&name))?;
        if !self.no_check {
            console.step("comparing values with the source");
            let checked = export::check(&exported, &source, form).map_err(|f| f.file(&name))?;
            self.report(&checked, console);
        }
        let mut bytes = exported.model.len();
        if let (Some(data), Some(file)) = (&exported.data, &options.data_name) {
            let content = data.bytes();
            bytes += content.len();
            output::write(&self.output.with_file_name(file), &content)?;
        }
        output::write(&self.output, &exported.model)?;
        console.finish();
        if self.output != Path::new("-") {
            console.note(&format!("{}: {bytes} bytes, form {}", self.output.display(), form.name()));
        }
        console.note(&format!("difference: {}", form.difference()));
        Ok(())
    }

    /// The graph that values are compared with, and the graph to write.
    fn graphs(&self, console: &Console) -> Result<(Graph, Graph), Failure> {
        let name = self.file.display().to_string();
        console.step("reading");
        let file = Source::read(&self.model.find(&self.file)?)?;
        if is_artifact(file.bytes.bytes()) {
            self.model.expect_artifact(&self.file)?;
            if !self.model.dims().is_empty() {
                let bound = Diagnostic::usage("the dimensions of an artifact are settled; `--dim` is for models");
                return Err(bound.file(name).hint("compile the model with `--dim`, then export").into());
            }
            let graph = artifact::read_graph(file.bytes.bytes()).map_err(|f| f.file(&name))?;
            let Some(graph) = graph else {
                let stripped = Diagnostic::wrong_input("the artifact does not carry its graph").file(name);
                return Err(stripped
                    .hint("compile without `--strip`, or export the model it was compiled from")
                    .into());
            };
            return Ok((graph.clone(), graph));
        }
        let options = frontend::Options { keep_unknown: true, ..self.model.options() };
        let mut imported = compile::import(&file, &options)?;
        imported.warnings.iter().for_each(|w| console.warn(w));
        compile::name_origins(&mut imported.graph);
        let source = imported.graph;
        let mut graph = source.clone();
        if !graph.frozen {
            console.step("running passes");
            let quiet = observe::Options::default();
            let mut nowhere = std::io::sink();
            let mut watch = Watch::new(&quiet, &mut nowhere, &|_| {});
            let pipeline = export::pipeline(self.pipeline.pipeline(&self.model)?);
            let options = bitc_passes::Options::default();
            compile::run_passes(&mut graph, &pipeline, options, &mut watch).map_err(|f| f.file(&name))?;
            watch.finish()?;
        }
        Ok((source, graph))
    }

    /// The name of the file for weights beside the model.
    fn data_name(&self) -> Result<Option<String>, Diagnostic> {
        if self.output == Path::new("-") {
            return Ok(None);
        }
        let name = self.output.file_name().and_then(|n| n.to_str());
        let unfit =
            || Diagnostic::usage("the output needs a name that is text").file(self.output.display().to_string());
        Ok(Some(format!("{}.data", name.ok_or_else(unfit)?)))
    }

    fn report(&self, checked: &Check, console: &Console) {
        match checked {
            Check::Unknown(op) => {
                console.note(&format!("not compared with the source: bitc does not know what {op} computes"));
            }
            Check::Compared(outputs) => {
                for o in outputs {
                    let (name, max) = (crate::error::escape(&o.name), o.max_abs);
                    console.detail(&format!("output {name}: max |difference| from the source {max:.3e}"));
                }
            }
        }
    }
}

/// Kept beside the command, so that its help and the table of forms cannot part.
#[cfg(test)]
mod tests {
    use bitc_onnx::export::Form;
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        export: Export,
    }

    #[test]
    fn the_help_names_every_form() {
        let help = Alone::command().get_after_help().map(ToString::to_string).unwrap_or_default();
        for form in Form::ALL {
            assert!(help.contains(&format!("  {}", form.name())), "{}", form.name());
        }
    }
}
