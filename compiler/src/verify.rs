//! Compares an artifact with its model: outputs within a bound, the integer sums inside bit for bit.
//!
//! Two references take part. The model itself, on the evaluator, says what the outputs must be. The frozen graph that the
//! artifact carries, on the evaluator too, says what every instruction must have computed; lowering it again tells which
//! instruction stands for which node. Where an activation lies on the border between two 8-bit integers, two correct
//! computations may round it to either side: such a step is reported as what it is, a rounding flip. Flips between model
//! and frozen graph are shown by replaying them (`flips`), those between frozen graph and runtime are seen (`inside`).

mod difference;
mod flips;
mod inside;

use std::collections::BTreeSet;

use bitc_format::Inst;
use bitc_ir::{Graph, Tensor};
use bitc_runtime::kernels::Kernels;
use bitc_runtime::{Program, Session, Trace};

pub use self::difference::{Absolute, OutputDifference, Tolerance, argmax, classes, difference};
use self::flips::Explanation;
pub use self::flips::Flip;
use self::inside::Check;

use crate::backend::artifact;
use crate::error::{Diagnostic, Failure};
use crate::lower::{self, Lowered, Target};
use crate::runnable::{self, Runnable};

/// The largest part of the rows that may differ by rounding flips, and by how much of the largest value.
const FLIPPED_ROWS: usize = 8;
const FLIP_BOUND: f64 = 0.05;

/// What a float computation in another order stays well within, and a rounding flip hardly ever.
const FINE: Tolerance = Tolerance { relative: 0.0, absolute: Absolute::OfLargest(1e-5) };

/// An artifact ready to be compared.
#[derive(Debug)]
pub struct Subject {
    program: Program,
    /// The frozen graph lowered again, if the artifact carries it and it gives the same instructions.
    inside: Option<Lowered>,
}

/// What one comparison found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// The outputs, in order.
    pub outputs: Vec<OutputDifference>,
    /// The integer layers, in order; empty where the artifact does not carry its graph.
    pub layers: Vec<LayerDifference>,
    /// The first instruction whose result is not that of its node.
    pub first_diverging: Option<String>,
    /// How far the outputs are from those of the frozen graph on the evaluator, relative to the largest value; `None`
    /// where the artifact does not carry it.
    pub from_frozen: Option<f64>,
    /// Rows in which an activation was rounded to the other side.
    pub flipped_rows: Vec<usize>,
    /// Those of them that lie between the model and the frozen graph.
    pub flips: Vec<Flip>,
    /// Whether those are so few among all elements that rounding alone may be the reason.
    pub flips_are_rare: bool,
    /// Rows that have an activation on the border between two integers as far as a float tells: another engine may take
    /// the other one.
    pub on_border: Vec<usize>,
}

/// The integer sums of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerDifference {
    /// The name of the source node.
    pub name: String,
    /// The instruction.
    pub op: &'static str,
    /// How many sums were compared.
    pub accumulators: usize,
    /// How many differ from the evaluator's.
    pub differing: usize,
    /// How many differ from the sums of the very integers that went in; these are faults, whatever came before.
    pub wrong: usize,
}

impl Comparison {
    /// Whether the artifact computes what the model does: everything equal or within bounds, or explained by flips.
    pub fn agrees(&self) -> bool {
        let explained = |l: &LayerDifference| l.differing == 0 || !self.flipped_rows.is_empty();
        let sums_right = self.layers.iter().all(|l| l.wrong == 0 && explained(l));
        sums_right && self.outputs.iter().all(|o| o.rows.is_empty() || self.is_flips(o))
    }

    /// Whether the artifact computes what its own graph does up to a relative difference, as far as it carries one.
    pub fn follows_its_graph(&self, relative: f64) -> bool {
        self.layers.iter().all(|l| l.wrong == 0) && self.from_frozen.is_none_or(|difference| difference <= relative)
    }

    /// Whether the differences of an output are rounding flips: small, each with a flip inside, and few rows, where not each
    /// flip was replayed.
    fn is_flips(&self, output: &OutputDifference) -> bool {
        let replayed = |row: &usize| self.flips_are_rare && self.flips.iter().any(|f| f.row == *row);
        let other_rows = output.rows.iter().filter(|r| !replayed(r)).count();
        output.is_small() && output.are_few(other_rows) && output.rows.iter().all(|r| self.flipped_rows.contains(r))
    }
}

impl OutputDifference {
    /// Whether it differs by so little that rounding flips may be the reason.
    fn is_small(&self) -> bool {
        self.mismatch.is_none() && self.max_relative <= FLIP_BOUND
    }

    /// Whether so many rows are few.
    fn are_few(&self, rows: usize) -> bool {
        rows <= self.n_rows.div_ceil(FLIPPED_ROWS)
    }
}

impl Subject {
    /// Loads an artifact and what it carries about its inside.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn load(bytes: &[u8]) -> Result<Self, Failure> {
        let program = runnable::load(bytes)?;
        let Some(mut graph) = artifact::read_graph(bytes)? else { return Ok(Self { program, inside: None }) };
        graph.frozen = true;
        let target = program.contents().meta().and_then(|m| Target::from_name(&m.target, "any")).unwrap_or_default();
        let inside = lower::lower(&graph, target).ok().filter(|lowered| {
            let names = |code: &[Inst]| code.iter().map(Inst::name).collect::<Vec<_>>();
            let again: Vec<_> = lowered.program.code.iter().map(|i| i.inst.name()).collect();
            again == names(program.contents().code())
        });
        Ok(Self { program, inside })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Whether layers can be compared one by one.
    pub fn shows_inside(&self) -> bool {
        self.inside.is_some()
    }

    /// Compares outputs with those of the model, and the inside with the frozen graph. `model` is what made `expected`, if
    /// that was the evaluator.
    ///
    /// # Errors
    /// If either cannot be run on these inputs.
    pub fn compare(
        &self,
        expected: &[Tensor],
        inputs: &[Tensor],
        kernels: &'static dyn Kernels,
        tolerance: Tolerance,
        model: Option<&Graph>,
    ) -> Result<Comparison, Diagnostic> {
        let mut session = Session::with_kernels(&self.program, kernels);
        let mut check = None;
        if let Some(lowered) = &self.inside {
            check = Some(Check::new(&self.program, lowered, inputs)?);
        }
        let outputs = runnable::run(&mut session, inputs, check.as_mut().map(|c| c as &mut dyn Trace))?;
        let names: Vec<String> = self.program.outputs().iter().map(|p| p.name.clone()).collect();
        if outputs.len() != expected.len() {
            return Err(Diagnostic::values_differ("the numbers of outputs differ")
                .expected(expected.len())
                .found(outputs.len()));
        }
        let differences = |expected: &[Tensor], tolerance| -> Vec<OutputDifference> {
            let pairs = names.iter().zip(expected.iter().zip(&outputs));
            pairs.map(|(name, (a, b))| difference(name, a, b, tolerance)).collect()
        };
        let mut result = Comparison { outputs: differences(expected, tolerance), ..Comparison::default() };
        if let (Some(check), Some(lowered)) = (check, &self.inside) {
            if let Some(fault) = check.fault {
                return Err(fault);
            }
            result.on_border = check.on_border().into_iter().collect();
            let frozen = differences(&check.outputs, tolerance);
            result.from_frozen = Some(frozen.iter().map(|o| o.max_relative).fold(0.0, f64::max));
            (result.layers, result.first_diverging) = (check.layers, check.first_diverging);
            let mut flipped = check.flipped;
            let rows = rows_of(&result.outputs);
            let few = result.outputs.iter().all(|o| o.are_few(o.rows.len()));
            let mut explain = |rows: BTreeSet<usize>, tolerance, search| {
                let rows: BTreeSet<usize> = rows.difference(&flipped).copied().collect();
                if rows.is_empty() || !result.outputs.iter().all(OutputDifference::is_small) {
                    return Ok(Explanation::default());
                }
                let found = flips::explain(&lowered.graph, inputs, expected, &rows, tolerance, model, search)?;
                flipped.extend(found.flips.iter().map(|f| f.row));
                Ok(found)
            };
            let found = explain(rows.clone(), tolerance, few)?;
            result.flips_are_rare = found.are_rare();
            result.flips = found.flips;
            // A flip within the tolerance is nothing wrong, but it has a name too.
            let within = rows_of(&differences(expected, FINE)).difference(&rows).copied().collect();
            result.flips.extend(explain(within, FINE, few && model.is_none())?.flips);
            result.flips.sort_by_key(|f| f.row);
            result.flipped_rows = flipped.into_iter().collect();
        }
        Ok(result)
    }
}

/// The rounding flips that make the whole difference between what a graph gave and what its source did; `None` where the
/// difference is none, or another one.
///
/// # Errors
/// If a graph cannot be evaluated.
pub fn flips_between(
    (source, expected): (&Graph, &[Tensor]),
    (graph, found): (&Graph, &[Tensor]),
    inputs: &[Tensor],
    tolerance: Tolerance,
) -> Result<Option<Vec<Flip>>, Diagnostic> {
    let pairs = expected.iter().zip(found);
    let outputs: Vec<OutputDifference> = pairs.map(|(a, b)| difference("", a, b, tolerance)).collect();
    let rows = rows_of(&outputs);
    if rows.is_empty() || !outputs.iter().all(OutputDifference::is_small) {
        return Ok(None);
    }
    let few = outputs.iter().all(|o| o.are_few(o.rows.len()));
    let explained = flips::explain(graph, inputs, expected, &rows, tolerance, Some(source), few)?;
    let all = rows.iter().all(|row| explained.flips.iter().any(|f| f.row == *row));
    Ok((all && (few || explained.are_rare())).then_some(explained.flips))
}

/// The rows that are outside the tolerance in any output.
fn rows_of(outputs: &[OutputDifference]) -> BTreeSet<usize> {
    outputs.iter().flat_map(|o| &o.rows).copied().collect()
}

/// The outputs of the model for these inputs: what an artifact is compared with.
///
/// # Errors
/// If it cannot be run on them.
pub fn reference(model: &Runnable, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    let portable = runnable::kernels_for(Some("portable"))?;
    model.run(inputs, portable)
}
