//! `bitc opt`: chosen passes over text IR, to see what they do.

use std::path::PathBuf;

use bitc_ir::text::{PrintOptions, print_with};
use clap::Args;

use super::compile::WatchArgs;
use super::console::Console;
use super::inputs::InputArgs;
use super::model::ModelArgs;
use crate::error::Failure;
use crate::output;
use crate::pipeline::Pipeline;

/// Run chosen passes over a graph and print it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc opt net.bir --passes simplify,cse         prints the graph after both
  bitc opt net.bir --passes simplify -o out.bir
  bitc opt net.bir --passes fold-scales --verify --rewrite-limit 1
  bitc list passes                               the names")]
pub(super) struct Opt {
    /// The graph: .bir, or any model that bitc reads; `-` is standard input.
    file: PathBuf,
    /// Passes in order, separated by commas.
    #[arg(long, value_name = "A,B,C", required = true)]
    passes: String,
    /// Where the graph goes; default: standard output.
    #[arg(long, short, value_name = "FILE.bir", default_value = "-")]
    output: PathBuf,
    /// Print large constants as `elided(..)`: easier to read, but it cannot be read back.
    #[arg(long)]
    brief: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    inputs: InputArgs,
}

impl Opt {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        output::not_over(&self.model.find(&self.file)?, &self.output)?;
        let mut pipeline = Pipeline::of_passes(&self.passes)?;
        self.model.set_parameters(&mut pipeline)?;
        let mut graph = self.model.import(&self.file, console)?.graph;
        let seen = self.watch.run(&mut graph, &pipeline, &self.inputs, Vec::new(), console);
        let seen = seen.map_err(|f| f.file(&self.file.display().to_string()))?;
        for remark in &seen.remarks {
            console.detail(&remark.to_string());
        }
        let options = if self.brief { PrintOptions::brief() } else { PrintOptions::full() };
        let text = print_with(&graph, &options);
        console.finish();
        Ok(output::write(&self.output, format!("{}\n", text.trim_end()).as_bytes())?)
    }
}
