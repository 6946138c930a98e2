//! What the options `--print-after`, `--dump-dir` and `--timings` show: an observer of the pass manager.
//!
//! The observer writes as it goes to the stream it was given and into the dump folder. A fault of writing does not stop
//! the passes; [`Watch::finish`] reports it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use bitc_ir::text::{PrintOptions, print, print_with};
use bitc_ir::{Graph, Tensor};
use bitc_passes::{Changed, Observer, PassReport, Remark, RemarkKind};

use crate::error::{Diagnostic, Failure};
use crate::{npy, output};

/// After which passes the graph is printed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum PrintAfter {
    /// None.
    #[default]
    Never,
    /// Every pass.
    All,
    /// Those that changed the graph.
    Changed,
    /// The pass of that name.
    Pass(String),
}

/// What is to be watched.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// After which passes the graph is printed.
    pub print_after: PrintAfter,
    /// Where one numbered `.bir` file per pass goes.
    pub dump_dir: Option<PathBuf>,
    /// The inputs that go beside the graph of a failing pass.
    pub samples: Vec<Vec<Tensor>>,
    /// The pass whose graph is kept as it was before it.
    pub keep_before: Option<&'static str>,
}

/// Called with the name of each pass that has ended.
pub type Progress<'a> = &'a dyn Fn(&str);

/// The observer.
pub struct Watch<'a> {
    options: &'a Options,
    stream: &'a mut dyn Write,
    progress: Progress<'a>,
    /// Passes that have run, with the number of nodes each left.
    pub passes: Vec<(PassReport, usize)>,
    /// What passes said.
    pub remarks: Vec<Remark>,
    faults: Vec<Diagnostic>,
    before: Option<Graph>,
    /// Whether `before` is what is to be kept.
    is_kept: bool,
}

impl<'a> Watch<'a> {
    /// An observer that prints to `stream`.
    pub fn new(options: &'a Options, stream: &'a mut dyn Write, progress: Progress<'a>) -> Self {
        Self {
            options,
            stream,
            progress,
            passes: Vec::new(),
            remarks: Vec::new(),
            faults: Vec::new(),
            before: None,
            is_kept: false,
        }
    }

    /// What was seen, if everything could be written.
    ///
    /// # Errors
    /// Every fault of writing.
    pub fn finish(self) -> Result<Seen, Failure> {
        Failure::check(self.faults)?;
        Ok(Seen { passes: self.passes, remarks: self.remarks, before: self.before.filter(|_| self.is_kept) })
    }

    fn dump(&mut self, name: &str, graph: &Graph) {
        let Some(folder) = &self.options.dump_dir else { return };
        let text = print_with(graph, &PrintOptions::full());
        let made = std::fs::create_dir_all(folder).map_err(|e| {
            Diagnostic::wrong_input(format!("cannot make the folder: {e}")).file(folder.display().to_string())
        });
        let written = made.and_then(|()| output::write(&folder.join(name), text.as_bytes()));
        self.note(written);
    }

    fn dump_samples(&mut self) {
        let Some(folder) = &self.options.dump_dir else { return };
        for (s, sample) in self.options.samples.iter().enumerate() {
            for (i, tensor) in sample.iter().enumerate() {
                let written = output::write(&folder.join(format!("failed-sample{s}-in{i}.npy")), &npy::encode(tensor));
                if let Err(d) = written {
                    self.faults.push(d);
                }
            }
        }
    }

    /// One fault of writing is enough; the others have the same cause.
    fn note(&mut self, result: Result<(), Diagnostic>) {
        if let Err(d) = result
            && self.faults.is_empty()
        {
            self.faults.push(d);
        }
    }

    /// Keeps the graph while the pass that it is wanted for may be the next one.
    fn keep(&mut self, pass: Option<&str>, graph: &Graph) {
        self.is_kept |= self.options.keep_before.is_some() && self.options.keep_before == pass;
        if self.options.keep_before.is_some() && !self.is_kept {
            self.before = Some(graph.clone());
        }
    }

    fn print(&mut self, title: &str, graph: &Graph) {
        let text = format!("// {title}\n{}\n", print(graph));
        let result = self.stream.write_all(text.as_bytes());
        self.note(result.map_err(|e| Diagnostic::wrong_input(format!("cannot print the graph: {e}"))));
    }
}

impl Observer for Watch<'_> {
    fn begin(&mut self, graph: &Graph) {
        self.keep(None, graph);
        self.dump("00-input.bir", graph);
        if self.options.print_after == PrintAfter::All {
            self.print("before the first pass", graph);
        }
    }

    fn after_pass(&mut self, report: &PassReport, graph: &Graph) {
        (self.progress)(report.pass);
        self.keep(Some(report.pass), graph);
        let number = report.index + 1;
        self.dump(&format!("{number:02}-{}.bir", report.pass), graph);
        let wanted = match &self.options.print_after {
            PrintAfter::Never => false,
            PrintAfter::All => true,
            PrintAfter::Changed => report.changed == Changed::Yes,
            PrintAfter::Pass(name) => name == report.pass,
        };
        if wanted {
            let unchanged = if report.changed == Changed::Yes { "" } else { ", unchanged" };
            self.print(&format!("after pass {number}, {}{unchanged}", report.pass), graph);
        }
        self.passes.push((report.clone(), graph.nodes().len()));
    }

    fn remark(&mut self, remark: &Remark) {
        self.remarks.push(remark.clone());
    }

    fn failed(&mut self, pass: &str, graph: &Graph) {
        self.dump(&format!("failed-{pass}.bir"), graph);
        self.dump_samples();
    }
}

/// What passes did.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Passes that have run, with the number of nodes each left.
    pub passes: Vec<(PassReport, usize)>,
    /// What passes said.
    pub remarks: Vec<Remark>,
    /// The graph before the pass of [`Options::keep_before`], if that ran.
    pub before: Option<Graph>,
}

impl Seen {
    /// What passes warn of.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.remarks.iter().filter_map(|r| match &r.kind {
            RemarkKind::Warning(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// What a pass noted about layers, a line for each: what it made of them and what that cost.
    pub fn notes(&self, pass: &str) -> Vec<String> {
        let of_pass = self.remarks.iter().filter(|r| r.pass == pass);
        let line = |r: &Remark| {
            let text = match &r.kind {
                RemarkKind::Note(text) => text.as_str(),
                RemarkKind::Blocked(reason) => reason,
                RemarkKind::Applied | RemarkKind::Warning(_) => return None,
            };
            let name = r.origin.names().first().map_or("?", String::as_str);
            Some(format!("{}: {text}", crate::error::escape(name)))
        };
        of_pass.filter_map(line).collect()
    }

    /// A table of the time each pass took.
    pub fn timings(&self) -> String {
        let mut text =
            format!("{:>4}  {:<28} {:>10} {:>9} {:>7}  {}\n", "", "pass", "ms", "rewrites", "nodes", "values");
        for (report, nodes) in &self.passes {
            let difference = report.difference.map_or(String::new(), |d| format!("moved by {d:.1e}"));
            let line = format!(
                "{:>4}  {:<28} {:>10.3} {:>9} {:>7}  {difference}",
                report.index + 1,
                report.pass,
                report.took.as_secs_f64() * 1e3,
                report.rewrites,
                nodes
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let total: f64 = self.passes.iter().map(|(r, _)| r.took.as_secs_f64() * 1e3).sum();
        let _ = writeln!(text, "{:>4}  {:<28} {total:>10.3}", "", "all passes");
        text
    }
}
