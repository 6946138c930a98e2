//! Runs passes in order: checks facts, verifies after each, compares values on demand, and tells an observer.
//!
//! The manager does no I/O. What `--print-after`, `--dump-dir`, `--timings` and `--explain` show comes from observers.

use std::time::{Duration, Instant};

use bitc_ir::eval::eval;
use bitc_ir::{Facts, Fault, Graph, Tensor, verify};

use crate::pass::{Changed, Pass, PassCx, PassError, Remark, Values};

/// When values before and after are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckValues {
    /// Never.
    #[default]
    Off,
    /// Once, after the last pass.
    End,
    /// After every pass.
    Each,
}

/// How passes are run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop after this many rewrites, to find the one that does harm.
    pub rewrite_limit: Option<u64>,
    /// Stop after the first pass of this name.
    pub stop_after: Option<String>,
    /// When values are compared.
    pub check_values: CheckValues,
    /// Sets of inputs to compare values on.
    pub samples: Vec<Vec<Tensor>>,
    /// Sets of calibration inputs for the passes that use them.
    pub calibration: Vec<Vec<Tensor>>,
    /// What differences of rounding may come to, relative to the largest output value.
    pub tolerance: Option<f64>,
}

/// Differences of rounding that pass by default. One step of an 8-bit quantiser is larger, so a value that rounds the
/// other way shows.
const DEFAULT_TOLERANCE: f64 = 1e-4;

/// One pass that has run.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The pass.
    pub pass: &'static str,
    /// Its position in the pipeline.
    pub index: usize,
    /// Whether it changed the graph.
    pub changed: Changed,
    /// Rewrites it made.
    pub rewrites: u64,
    /// How long it took, verification left out.
    pub took: Duration,
    /// The largest relative difference of outputs, where values were compared.
    pub difference: Option<f64>,
}

/// Watches passes.
pub trait Observer {
    /// Called before the first pass.
    fn begin(&mut self, _graph: &Graph) {}
    /// Called after each pass.
    fn after_pass(&mut self, _report: &PassReport, _graph: &Graph) {}
    /// Called for each remark.
    fn remark(&mut self, _remark: &Remark) {}
    /// Called when a pass failed, with the graph it left.
    fn failed(&mut self, _pass: &str, _graph: &Graph) {}
}

/// An observer that looks away.
pub struct Quiet;

impl Observer for Quiet {}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The passes that ran, in order.
    pub passes: Vec<PassReport>,
    /// Whether it stopped early because it was told to.
    pub stopped: bool,
}

/// Why passes do not make a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PipelineError {
    /// A pass requires what no earlier pass establishes.
    #[error("pass `{pass}` requires {missing}, which no pass before it establishes")]
    Requirement {
        /// The pass.
        pass: &'static str,
        /// What is missing.
        missing: Facts,
    },
    /// The goal is established by no pass.
    #[error("no pass of this pipeline establishes {missing}")]
    Goal {
        /// What is missing.
        missing: Facts,
    },
    /// The pass to stop after is not in the pipeline.
    #[error("the pipeline has no pass `{pass}` to stop after{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    StopAfter {
        /// The name asked for.
        pass: String,
        /// The closest pass in the pipeline.
        nearest: Option<String>,
    },
}

/// An ordered list of passes with what they must reach.
#[derive(Debug)]
pub struct PassManager {
    passes: Vec<Box<dyn Pass>>,
    goal: Facts,
    options: Options,
}

impl PassManager {
    /// Checks that every pass finds the facts it requires and that the goal is reached.
    ///
    /// `LOWERABLE` is a matter of the model as much as of the passes and is checked at the end of a run only.
    ///
    /// # Errors
    /// If the passes do not fit together.
    pub fn new(passes: Vec<Box<dyn Pass>>, goal: Facts, options: Options) -> Result<Self, PipelineError> {
        let mut facts = Facts::CANONICAL;
        for pass in &passes {
            let missing = pass.requires().without(facts);
            if !missing.is_empty() {
                return Err(PipelineError::Requirement { pass: pass.name(), missing });
            }
            facts |= pass.establishes();
        }
        if let Some(name) = &options.stop_after {
            if !passes.iter().any(|p| p.name() == name) {
                let nearest = bitc_ir::ops::nearest_name(name, passes.iter().map(|p| p.name()));
                return Err(PipelineError::StopAfter { pass: name.clone(), nearest });
            }
        } else {
            let missing = goal.without(facts | Facts::LOWERABLE);
            if !missing.is_empty() {
                return Err(PipelineError::Goal { missing });
            }
        }
        Ok(Self { passes, goal, options })
    }

    /// The passes, in order.
    pub fn passes(&self) -> impl Iterator<Item = &dyn Pass> {
        self.passes.iter().map(AsRef::as_ref)
    }

    /// Runs the passes.
    ///
    /// # Errors
    /// If the graph is invalid, cannot be compiled, or a pass misbehaves. The graph is then as the failing pass left it.
    pub fn run(&self, graph: &mut Graph, observer: &mut dyn Observer) -> Result<Report, PassError> {
        verify::verify(graph, Facts::NONE).map_err(PassError::InvalidInput)?;
        graph.compact();
        observer.begin(graph);
        let interface = interface(graph);
        let mut report = Report::default();
        let mut values = match self.options.check_values {
            CheckValues::Off => None,
            CheckValues::End | CheckValues::Each => Some(self.evaluate("input", graph)?),
        };
        let mut left = self.options.rewrite_limit;
        let mut promised = Facts::CANONICAL;
        let mut allowed = Values::Exact;
        for (index, pass) in self.passes.iter().enumerate() {
            let name = pass.name();
            let required = pass.requires();
            verify::verify(graph, required).map_err(|faults| PassError::Requirement {
                pass: name,
                required,
                faults,
            })?;

            let begun = Instant::now();
            let mut remarks = |r: Remark| observer.remark(&r);
            let mut cx = PassCx::new(name, left, &mut remarks).with_calibration(&self.options.calibration);
            let result = pass.run(graph, &mut cx);
            let rewrites = cx.rewrites;
            let changed = match result {
                Ok(changed) => changed,
                Err(error) => {
                    observer.failed(name, graph);
                    return Err(error);
                }
            };
            graph.compact();
            let took = begun.elapsed();
            left = left.map(|n| n.saturating_sub(rewrites));

            let stop = left == Some(0) || self.options.stop_after.as_deref() == Some(name);
            // A pass that was cut short may not have kept its promise.
            if left != Some(0) {
                promised |= pass.establishes();
            }
            let verified = verify::verify(graph, promised).and_then(|()| same_interface(&interface, graph));
            if let Err(faults) = verified {
                observer.failed(name, graph);
                return Err(PassError::Broken { pass: name, faults });
            }
            allowed = loosest(allowed, pass.values());
            let mut difference = None;
            let each = self.options.check_values == CheckValues::Each && changed == Changed::Yes;
            let last = (stop || index + 1 == self.passes.len()) && self.options.check_values == CheckValues::End;
            if let Some(before) = values.as_mut().filter(|_| each || last) {
                let after = self.evaluate(name, graph)?;
                let bound = if each { pass.values() } else { allowed };
                difference = Some(
                    self.compare(name, graph, bound, before, &after).inspect_err(|_| observer.failed(name, graph))?,
                );
                *before = after;
            }
            let pass_report = PassReport { pass: name, index, changed, rewrites, took, difference };
            observer.after_pass(&pass_report, graph);
            report.passes.push(pass_report);
            if stop {
                report.stopped = true;
                return Ok(report);
            }
        }
        verify::verify(graph, self.goal).map_err(|faults| PassError::Goal { goal: self.goal, faults })?;
        Ok(report)
    }

    fn evaluate(&self, pass: &'static str, graph: &Graph) -> Result<Vec<Vec<Tensor>>, PassError> {
        let failed = |e: bitc_ir::eval::EvalError| PassError::NotEvaluated { pass, message: e.to_string() };
        self.options.samples.iter().map(|inputs| eval(graph, inputs).map_err(failed)).collect()
    }

    fn compare(
        &self,
        pass: &'static str,
        graph: &Graph,
        bound: Values,
        before: &[Vec<Tensor>],
        after: &[Vec<Tensor>],
    ) -> Result<f64, PassError> {
        let allowed = match bound {
            Values::Exact => 0.0,
            Values::Rounding => self.options.tolerance.unwrap_or(DEFAULT_TOLERANCE),
            Values::Free => f64::INFINITY,
        };
        let mut largest = 0f64;
        for (before, after) in before.iter().zip(after) {
            for ((a, b), output) in before.iter().zip(after).zip(graph.outputs()) {
                let difference = relative_difference(a, b);
                if difference > allowed {
                    return Err(PassError::Values { pass, output: output.name.clone(), difference, allowed });
                }
                largest = largest.max(difference);
            }
        }
        Ok(largest)
    }
}

/// Inputs and outputs as callers know them: names and types, in order.
fn interface(graph: &Graph) -> Vec<String> {
    let inputs = graph.inputs().iter().map(|&v| format!("input `{}` of type {}", graph.value(v).name, graph.ty(v)));
    let outputs = graph.outputs().iter().map(|o| format!("output `{}` of type {}", o.name, graph.ty(o.value)));
    inputs.chain(outputs).collect()
}

fn same_interface(before: &[String], graph: &Graph) -> Result<(), Vec<Fault>> {
    let after = interface(graph);
    if before == after {
        return Ok(());
    }
    let message = format!("the interface was {}, is {}", before.join(", "), after.join(", "));
    Err(vec![Fault { node: None, message }])
}

fn loosest(a: Values, b: Values) -> Values {
    match (a, b) {
        (Values::Free, _) | (_, Values::Free) => Values::Free,
        (Values::Rounding, _) | (_, Values::Rounding) => Values::Rounding,
        (Values::Exact, Values::Exact) => Values::Exact,
    }
}

/// The largest difference of two tensors relative to the largest magnitude of the first; infinite where types differ or
/// only one of two elements is NaN.
pub fn relative_difference(a: &Tensor, b: &Tensor) -> f64 {
    if a.ty() != b.ty() {
        return f64::INFINITY;
    }
    let (a, b) = (a.to_f64(), b.to_f64());
    let scale = a.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let difference = |(a, b): (&f64, &f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (true, false) | (false, true) => f64::INFINITY,
        (false, false) if a == b => 0.0,
        (false, false) => (a - b).abs() / if scale > 0.0 { scale } else { 1.0 },
    };
    a.iter().zip(&b).map(difference).fold(0.0, f64::max)
}
