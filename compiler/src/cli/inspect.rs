//! `bitc inspect`: what a model or an artifact holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bitc_ir::text::print;
use bitc_ir::{Graph, analysis};
use clap::Args;

use super::console::Console;
use super::model::{ModelArgs, PipelineArgs};
use crate::backend::artifact;
use crate::compile;
use crate::error::{Diagnostic, Failure, escape};
use crate::frontend::Source;
use crate::output;
use crate::runnable::{self, Port, Runnable, is_artifact};
use crate::summary::{Scales, Summary, reduction_text};

/// Show what a model or an artifact holds: layers, bytes, bits per weight
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc inspect model.bit
  bitc inspect model.yaml --json                 what its artifact would hold
  bitc inspect model.bit --ir                    the frozen graph inside
  bitc inspect model.yaml --dot graph.dot        for graphviz")]
pub(super) struct Inspect {
    /// An artifact (.bit) or a model; a model is compiled in memory to tell what it becomes; `-` is standard input.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the graph instead: of a model as it was read, of an artifact the frozen one inside.
    #[arg(long, conflicts_with = "json")]
    ir: bool,
    /// Write the graph in the dot language.
    #[arg(long, value_name = "F")]
    dot: Option<PathBuf>,
    /// Write the summary as a page for a browser.
    #[arg(long, value_name = "F", conflicts_with = "ir")]
    html: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// A file that was looked into.
struct Seen {
    ports: Vec<Port>,
    outputs: Vec<String>,
    graph: Option<Graph>,
    summary: Summary,
    is_artifact: bool,
}

fn is_stdout(path: &Option<PathBuf>) -> bool {
    path.as_deref() == Some(Path::new("-"))
}

impl Inspect {
    pub(super) fn run(&self, console: &Console) -> Result<(), Failure> {
        self.expect_one_result()?;
        console.step("reading");
        let file = self.model.find(&self.file)?;
        self.dot.iter().chain(&self.html).try_for_each(|output| output::not_over(&file, output))?;
        let source = Source::read(&file)?;
        if is_artifact(source.bytes.bytes()) {
            self.model.expect_artifact(&self.file)?;
        }
        if self.ir || (self.dot.is_some() && !self.json && self.html.is_none()) {
            // The graph alone needs no compilation, which may not even be possible.
            let graph = self.graph(&source, console)?;
            self.write_dot(&graph)?;
            if self.ir {
                console.print(&format!("{}\n", print(&graph).trim_end()))?;
            }
            return Ok(());
        }
        let seen = self.look(&source, console)?;
        if let Some(graph) = &seen.graph {
            self.write_dot(graph)?;
        }
        if let Some(path) = &self.html {
            output::write(path, html(&source.name(), &seen).as_bytes())?;
        }
        console.finish();
        if self.json {
            return Ok(console.print_json(&seen.summary)?);
        }
        if [&self.dot, &self.html].into_iter().any(is_stdout) {
            return Ok(());
        }
        Ok(console.print(&text(&source.name(), &seen))?)
    }

    /// Standard output takes one result.
    fn expect_one_result(&self) -> Result<(), Diagnostic> {
        let results = [
            ("--dot", is_stdout(&self.dot)),
            ("--html", is_stdout(&self.html)),
            ("--json", self.json),
            ("--ir", self.ir),
        ];
        let given: Vec<&str> = results.iter().filter(|(_, given)| *given).map(|(option, _)| *option).collect();
        match given[..] {
            [first, second, ..] => {
                Err(Diagnostic::usage(format!("`{first}` and `{second}` cannot both go to standard output")))
            }
            _ => Ok(()),
        }
    }

    fn graph(&self, source: &Source, console: &Console) -> Result<Graph, Failure> {
        if !is_artifact(source.bytes.bytes()) {
            let imported = compile::import(source, &self.model.options())?;
            imported.warnings.iter().for_each(|w| console.warn(w));
            return Ok(imported.graph);
        }
        let graph = artifact::read_graph(source.bytes.bytes()).map_err(|f| f.file(&source.name()))?;
        let stripped = || {
            Diagnostic::wrong_input("the artifact does not carry its graph")
                .file(source.name())
                .hint("it was compiled with --strip")
        };
        Ok(graph.ok_or_else(stripped)?)
    }

    fn look(&self, source: &Source, console: &Console) -> Result<Seen, Failure> {
        let mut bytes = source.bytes.bytes().to_vec();
        let mut graph = None;
        let is_artifact = is_artifact(&bytes);
        if is_artifact {
            if self.dot.is_some() {
                graph = Some(self.graph(source, console)?);
            }
        } else {
            let options = compile::Options {
                import: self.model.options(),
                pipeline: self.pipeline.pipeline(&self.model)?,
                ..compile::Options::default()
            };
            console.step("compiling");
            let compiled = compile::compile(source, &options)?;
            compiled.warnings.iter().for_each(|w| console.warn(w));
            graph = Some(compiled.source);
            bytes = compiled.artifact;
        }
        let program = runnable::load(&bytes).map_err(|d| d.file(source.name()))?;
        let summary = Summary::of(program.contents(), &bytes);
        let runnable = Runnable::Program(Box::new(program));
        let (ports, outputs) = (runnable.inputs()?, runnable.output_names());
        Ok(Seen { ports, outputs, graph, summary, is_artifact })
    }

    fn write_dot(&self, graph: &Graph) -> Result<(), Diagnostic> {
        match &self.dot {
            Some(path) => output::write(path, analysis::dot(graph).as_bytes()),
            None => Ok(()),
        }
    }
}

fn text(name: &str, seen: &Seen) -> String {
    let s = &seen.summary;
    let mut text = format!("{}\n", escape(name));
    for port in &seen.ports {
        let _ = writeln!(text, "  input   {}: {port}", escape(&port.name));
    }
    for output in &seen.outputs {
        let _ = writeln!(text, "  output  {}", escape(output));
    }
    if let Some(graph) = seen.graph.as_ref().filter(|_| !seen.is_artifact) {
        let _ = writeln!(text, "  source  {} nodes: {}", graph.nodes().len(), counts(graph));
    }
    let _ = writeln!(text, "\n{}", table(s));
    let notes = s.notes.text();
    if !notes.is_empty() {
        let _ = writeln!(text, "{notes}");
    }
    let _ = writeln!(
        text,
        "weights {} ({} in few bits), {} -> {}, {}",
        s.total_params,
        s.quantized_params,
        size(s.bytes.original),
        size(s.bytes.packed),
        reduction_text(s.memory_reduction)
    );
    let a = &s.artifact;
    let _ = writeln!(
        text,
        "{} {}, by {} for target {}",
        if seen.is_artifact { "artifact" } else { "its artifact" },
        size(a.bytes),
        if a.producer.is_empty() { "an unknown program" } else { &a.producer },
        if a.target.is_empty() { "any" } else { &a.target }
    );
    let list = |items: Vec<String>| items.join(", ");
    let _ = writeln!(text, "  sections      {}", list(a.sections.iter().map(|(n, b)| format!("{n} {b}")).collect()));
    let _ =
        writeln!(text, "  instructions  {}", list(a.instructions.iter().map(|(n, c)| format!("{c} {n}")).collect()));
    let _ = writeln!(text, "  constants     {}", list(a.layouts.iter().map(|(n, c)| format!("{c} {n}")).collect()));
    if let Some(bytes) = a.arena_bytes {
        let _ = writeln!(text, "  arena         {} for one sample", size(bytes));
    }
    text
}

fn table(s: &Summary) -> String {
    let rows: Vec<[String; 9]> = s
        .layers
        .iter()
        .map(|l| {
            [
                l.name.clone(),
                l.op.clone(),
                l.method.clone(),
                l.layout.clone(),
                l.params.to_string(),
                format!("{:.3}", l.bits_per_weight),
                format!("{:.3}", l.sparsity),
                l.scale.map_or_else(|| "-".to_owned(), scales),
                if l.macs > 0 { l.macs.to_string() } else { "-".to_owned() },
            ]
        })
        .collect();
    let head =
        ["layer", "op", "method", "layout", "weights", "bits/weight", "zeros", "scales", "macs"].map(str::to_owned);
    let width = |i: usize| rows.iter().chain([&head]).map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = if i < 4 { write!(text, "{cell:<width$}  ") } else { write!(text, "{cell:>width$}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The scales of a layer: the only one, or from the smallest to the largest.
fn scales(s: Scales) -> String {
    if s.min == s.max { format!("{:.3e}", s.min) } else { format!("{:.2e} to {:.2e}", s.min, s.max) }
}

/// How many nodes of each operation, most frequent first.
fn counts(graph: &Graph) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        *counts.entry(node.op.name()).or_insert(0) += 1;
    }
    let mut list: Vec<_> = counts.into_iter().collect();
    list.sort_by_key(|&(name, n)| (std::cmp::Reverse(n), name));
    list.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// The text as a page, the table of layers as a table.
fn html(name: &str, seen: &Seen) -> String {
    let safe = |t: &str| t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = safe(&escape(name));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>body \
         {{ font: 15px sans-serif; margin: 2em }} td, th {{ padding: 0 1em; text-align: right }} td:first-child, \
         th:first-child {{ text-align: left }}</style></head>\n<body><h1>{title}</h1>\n<table>\n<tr>"
    );
    let heads = [
        "layer",
        "op",
        "method",
        "layout",
        "weights",
        "bits per weight",
        "zeros",
        "scales",
        "bytes before",
        "bytes",
        "macs",
    ];
    for head in heads {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr>\n");
    for l in &seen.summary.layers {
        let cells = [
            safe(&l.name),
            safe(&l.op),
            safe(&l.method),
            safe(&l.layout),
            l.params.to_string(),
            format!("{:.3}", l.bits_per_weight),
            format!("{:.3}", l.sparsity),
            l.scale.map_or_else(|| "-".to_owned(), scales),
            l.original_bytes.to_string(),
            l.bytes.to_string(),
            l.macs.to_string(),
        ];
        let _ = writeln!(page, "<tr>{}</tr>", cells.map(|c| format!("<td>{c}</td>")).concat());
    }
    let _ = write!(page, "</table>\n<pre>{}</pre>\n</body></html>\n", safe(&text(name, seen)));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(9), size(28942), size(12_345_678)], ["9 bytes", "28.9 kB", "12.3 MB"]);
    }
}
