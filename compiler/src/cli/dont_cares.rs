//! `--dont-cares`: a logic network that keeps its answers on calibration rows only, measured on rows that it has not seen.

use std::path::PathBuf;

use bitc_ir::random::Random;
use bitc_ir::{Graph, Tensor};
use bitc_passes::samples;
use clap::Args;

use super::compare::read_labels;
use crate::agreement::Agreement;
use crate::error::{Diagnostic, Failure, quoted};
use crate::notes::{Approximation, Notes};
use crate::pipeline::Pipeline;
use crate::runnable::Runnable;

/// The pass that does it.
pub(super) const PASS: &str = "logic-dont-cares";

/// Whether entries of tables that data never addresses are free.
#[derive(Debug, Clone, Args)]
pub(super) struct DontCareArgs {
    /// Free the table entries of a logic network that no row of `--calib` addresses. Its answers on those rows stay, those
    /// on others may change: how many do is measured on rows held out.
    #[arg(long, help_heading = "Approximating a logic network", requires = "calib")]
    dont_cares: bool,
    /// The rows held out: a part of those of `--calib`, drawn by `--seed` and kept from `--ternary` too, or files of their
    /// own.
    #[arg(
        long,
        value_name = "PART|[NAME=]X.npy",
        help_heading = "Approximating a logic network",
        requires = "dont_cares",
        default_value = "0.2"
    )]
    held_out: Vec<String>,
    /// The class of each row of `--calib`, or of the files of `--held-out`: tells the accuracy as well.
    #[arg(long, value_name = "Y.npy", help_heading = "Approximating a logic network", requires = "dont_cares")]
    labels: Option<PathBuf>,
}

/// Rows that the network does not see.
pub(super) struct HeldOut {
    inputs: Vec<Tensor>,
    labels: Option<Vec<i64>>,
}

impl DontCareArgs {
    /// Whether the user asked for it.
    pub(super) fn asked(&self) -> bool {
        self.dont_cares
    }

    /// Puts the pass in front of what optimises networks.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline) -> Result<(), Diagnostic> {
        if self.dont_cares { pipeline.insert_before(PASS, &["optimize-logic"]) } else { Ok(()) }
    }

    /// Takes the rows that are held out from the calibration inputs.
    pub(super) fn hold_out(
        &self,
        source: &Graph,
        calibration: &mut [Vec<Tensor>],
        seed: u64,
    ) -> Result<Option<HeldOut>, Failure> {
        let Some(inputs) = calibration.first_mut().filter(|_| self.dont_cares) else { return Ok(None) };
        let labels = self.labels.as_deref().map(read_labels).transpose()?;
        let rows_of = |inputs: &[Tensor]| samples::n_rows(source, inputs);
        let check = |rows: Option<usize>| match (&labels, rows) {
            (Some(labels), Some(rows)) if labels.len() != rows => {
                let wrong = Diagnostic::wrong_input("there must be one label per row");
                Err(wrong.expected(format!("{rows} labels")).found(labels.len()))
            }
            _ => Ok(()),
        };
        let part = match &self.held_out[..] {
            [text] => text.parse::<f64>().ok(),
            _ => None,
        };
        let Some(part) = part else {
            let held = super::inputs::read(&self.held_out, &Runnable::Graph(Box::new(source.clone())))?;
            check(rows_of(&held))?;
            return Ok(Some(HeldOut { inputs: held, labels }));
        };
        if !(part > 0.0 && part < 1.0) {
            let wrong = Diagnostic::usage("`--held-out` is a part of the rows, or a file");
            return Err(wrong.expected("a number between 0 and 1").found(quoted(&self.held_out[0])).into());
        }
        let Some(n) = rows_of(inputs) else {
            let fixed = Diagnostic::usage("the model has no dimension that counts rows, so none can be held out");
            return Err(fixed.hint("`--held-out FILE.npy` gives rows of their own").into());
        };
        check(Some(n))?;
        if n < 2 {
            let few = Diagnostic::wrong_input("`--dont-cares` needs rows to calibrate on and rows to hold out");
            return Err(few.expected("at least 2 rows").found(n).into());
        }
        let (seen, held) = split(n, part, seed);
        let all = std::mem::take(inputs);
        *inputs = samples::pick(source, &all, &seen);
        let labels = labels.map(|labels| held.iter().map(|&r| labels[r]).collect());
        Ok(Some(HeldOut { inputs: samples::pick(source, &all, &held), labels }))
    }
}

impl HeldOut {
    /// Measures how far a network that was approximated agrees with the one before, and notes it in the graph.
    pub(super) fn measure(&self, before: Option<&Graph>, graph: &mut Graph) -> Result<(), Diagnostic> {
        let mut notes = Notes::of_graph(graph);
        let found = notes.approximations.iter_mut().find(|a| a.method == Approximation::DONT_CARES);
        let (Some(before), Some(approximation)) = (before, found) else {
            return Err(Diagnostic::wrong_input("`--dont-cares` found no logic network in the model"));
        };
        let agreement = Agreement::measure(before, graph, &self.inputs, self.labels.as_deref())?;
        approximation.figures.extend(agreement.figures());
        approximation.note(graph);
        Ok(())
    }
}

/// A seeded draw of the rows, both parts in order: those to see, and the part held out, which is neither none nor all.
fn split(n: usize, part: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut rows: Vec<usize> = (0..n).collect();
    let mut random = Random::new(seed);
    for i in (1..n).rev() {
        rows.swap(i, random.below(i as u64 + 1) as usize);
    }
    let n_held = ((n as f64 * part).round() as usize).clamp(1, n - 1);
    let mut seen = rows.split_off(n_held);
    seen.sort_unstable();
    rows.sort_unstable();
    (seen, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_seeded_and_leaves_no_row_out() {
        for (n, part, held) in [(2, 0.01, 1), (2, 0.99, 1), (10, 0.2, 2), (1000, 0.25, 250)] {
            let (seen, rows) = split(n, part, 5);
            assert_eq!(rows.len(), held);
            let mut all = [seen.clone(), rows.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
            assert_eq!(split(n, part, 5), (seen, rows));
        }
        assert_ne!(split(1000, 0.2, 1), split(1000, 0.2, 2));
    }
}
