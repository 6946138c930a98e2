//! Finds the first pass, then the first rewrite, after which a graph no longer computes what its source does.

use bitc_ir::eval::eval;
use bitc_ir::{Graph, Tensor};
use bitc_passes::manager::relative_difference;
use bitc_passes::{Observer, Options, PassReport, Remark, RemarkKind};

use crate::error::{Diagnostic, Failure};
use crate::pipeline::Pipeline;
use crate::runnable;
use crate::verify::{self, Absolute, Flip, Tolerance};

/// Where values diverge.
#[derive(Clone, Debug, PartialEq)]
pub struct Culprit {
    /// The pass.
    pub pass: &'static str,
    /// Its position in the pipeline, from 0.
    pub index: usize,
    /// The number of the rewrite, counted from 1 over the whole pipeline: what `--rewrite-limit` takes. `None` where the
    /// pass changes graphs without single rewrites.
    pub rewrite: Option<u64>,
    /// What was rewritten, as the pass said it.
    pub remark: Option<Remark>,
    /// The largest difference after it, relative to the largest value.
    pub difference: f64,
}

/// Values of the source on some inputs, and how far a graph may be from them.
#[derive(Debug)]
pub struct Search<'a> {
    source: &'a Graph,
    pipeline: &'a Pipeline,
    inputs: &'a [Tensor],
    expected: Vec<Tensor>,
    tolerance: f64,
}

/// Activations that a pass rounds to the other side of a border between integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Flips {
    /// The pass after which they are there.
    pub pass: &'static str,
    /// Each of them; `frozen` is what the graph after the pass has, `model` what the source has.
    pub flips: Vec<Flip>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Where values diverge, if they do.
    pub culprit: Option<Culprit>,
    /// The rounding flips that came before it: differences, but no fault of any pass.
    pub flips: Option<Flips>,
}

impl<'a> Search<'a> {
    /// A search over the passes of a pipeline.
    ///
    /// # Errors
    /// If the source cannot be evaluated on the inputs.
    pub fn new(
        source: &'a Graph,
        pipeline: &'a Pipeline,
        inputs: &'a [Tensor],
        tolerance: f64,
    ) -> Result<Self, Diagnostic> {
        let expected = eval(source, inputs).map_err(|e| runnable::eval_error(&e))?;
        Ok(Self { source, pipeline, inputs, expected, tolerance })
    }

    /// The outputs of the source.
    pub fn expected(&self) -> &[Tensor] {
        &self.expected
    }

    /// The first pass and rewrite after which values differ, if there is one.
    ///
    /// # Errors
    /// If the pipeline cannot be run.
    pub fn run(&self) -> Result<Outcome, Failure> {
        let whole = self.attempt(None)?;
        let flips = whole.flips.clone();
        let Some(at) = whole.differences.iter().position(|(_, d)| self.differs(*d)) else {
            return Ok(Outcome { culprit: None, flips });
        };
        let (report, difference) = &whole.differences[at];
        let before: u64 = whole.differences[..at].iter().map(|(r, _)| r.rewrites).sum();
        let mut culprit =
            Culprit { pass: report.pass, index: report.index, rewrite: None, remark: None, difference: *difference };
        // The fewest rewrites that show the difference: more than `good`, at most `bad`.
        let (mut good, mut bad) = (before, before + report.rewrites);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.last_differs(middle)? { bad = middle } else { good = middle }
        }
        if bad > before && self.last_differs(bad)? {
            let attempt = self.attempt(Some(bad))?;
            culprit.rewrite = Some(bad);
            culprit.difference = attempt.differences.last().map_or(*difference, |(_, d)| *d);
            culprit.remark = attempt.last_applied;
        }
        Ok(Outcome { culprit: Some(culprit), flips })
    }

    /// How far outputs are from those of the source; what rounding flips explain is set apart.
    fn difference(&self, graph: &Graph) -> Result<(f64, Vec<Flip>), Diagnostic> {
        let found = eval(graph, self.inputs).map_err(|e| runnable::eval_error(&e))?;
        let pairs = self.expected.iter().zip(&found);
        let difference = pairs.map(|(a, b)| relative_difference(a, b)).fold(0.0, f64::max);
        if !self.differs(difference) {
            return Ok((difference, Vec::new()));
        }
        let tolerance = Tolerance { relative: 0.0, absolute: Absolute::OfLargest(self.tolerance) };
        let (source, graph) = ((self.source, &self.expected[..]), (graph, &found[..]));
        Ok(match verify::flips_between(source, graph, self.inputs, tolerance)? {
            Some(flips) => (0.0, flips),
            None => (difference, Vec::new()),
        })
    }

    fn differs(&self, difference: f64) -> bool {
        difference > self.tolerance
    }

    fn last_differs(&self, limit: u64) -> Result<bool, Failure> {
        Ok(self.attempt(Some(limit))?.differences.last().is_some_and(|(_, d)| self.differs(*d)))
    }

    /// Runs the pipeline up to so many rewrites, and measures the graph after each pass.
    fn attempt(&self, rewrite_limit: Option<u64>) -> Result<Attempt<'_>, Failure> {
        let mut attempt =
            Attempt { search: self, differences: Vec::new(), flips: None, last_applied: None, fault: None };
        let mut graph = self.source.clone();
        let mut pipeline = self.pipeline.clone();
        // Where the search stops early the goal of the pipeline is not reached, and need not be.
        pipeline.goal = bitc_ir::Facts::NONE;
        let manager = pipeline.manager(Options { rewrite_limit, ..Options::default() })?;
        manager.run(&mut graph, &mut attempt).map_err(|e| crate::compile::describe(&e))?;
        match attempt.fault.take() {
            Some(fault) => Err(fault.into()),
            None => Ok(attempt),
        }
    }
}

/// One run of the pipeline.
struct Attempt<'a> {
    search: &'a Search<'a>,
    differences: Vec<(PassReport, f64)>,
    flips: Option<Flips>,
    last_applied: Option<Remark>,
    fault: Option<Diagnostic>,
}

impl Observer for Attempt<'_> {
    fn after_pass(&mut self, report: &PassReport, graph: &Graph) {
        // A pass that did nothing leaves values as they were.
        let same = self.differences.last().map_or(0.0, |(_, d)| *d);
        let difference = match report.changed {
            bitc_passes::Changed::No => same,
            bitc_passes::Changed::Yes => match self.search.difference(graph) {
                Ok((difference, flips)) => {
                    if self.flips.is_none() && !flips.is_empty() {
                        self.flips = Some(Flips { pass: report.pass, flips });
                    }
                    difference
                }
                Err(fault) => {
                    self.fault.get_or_insert(fault);
                    f64::INFINITY
                }
            },
        };
        self.differences.push((report.clone(), difference));
    }

    fn remark(&mut self, remark: &Remark) {
        if remark.kind == RemarkKind::Applied {
            self.last_applied = Some(remark.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "graph @g(%x: f32[N, 2]) {
        const %w: f32[2, 2] = dense [0.1, 0.7, -0.3, 0.9]
        const %m: f32[2] = dense [0.3, 0.2]
        const %v: f32[2] = dense [0.9, 1.7]
        const %g: f32[2] = dense [1.1, 0.7]
        const %b: f32[2] = dense [0.1, 0.2]
        %h = linear(%x, %w)
        %n = batch_norm(%h, %g, %b, %m, %v)
        %y = relu(%n)
        return %y
    }";

    #[test]
    fn the_pass_and_the_rewrite_that_move_values_are_named() {
        let graph = bitc_ir::text::parse(TEXT, &bitc_ir::text::NoReferences).unwrap();
        let pipeline = Pipeline::of_passes("simplify,cse,fold-batch-norm,fold-constants").unwrap();
        let inputs = [bitc_ir::random::tensor(bitc_ir::DType::F32, &[9, 2], 3)];
        let lenient = Search::new(&graph, &pipeline, &inputs, 1e-4).unwrap();
        assert_eq!(lenient.run().unwrap(), Outcome { culprit: None, flips: None });
        let strict = Search::new(&graph, &pipeline, &inputs, 0.0).unwrap();
        let culprit = strict.run().unwrap().culprit.unwrap();
        assert_eq!((culprit.pass, culprit.index, culprit.rewrite), ("fold-batch-norm", 2, Some(1)));
        assert_eq!(culprit.remark.unwrap().op, "batch_norm");
        assert!(culprit.difference > 0.0);
    }
}
