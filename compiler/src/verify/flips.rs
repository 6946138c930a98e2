//! Rounding flips between a model and the frozen graph made from it.
//!
//! A model in floats and its frozen graph add in different orders, so a value may reach a quantiser a hair to the other
//! side of the border between two integers. That is claimed of a row only where it can be shown: the frozen graph is run
//! again with the elements that lie next to a border rounded to the other side, one after the other, the nearest first.
//! If the row then has the outputs of the model, those elements explain it. A row that no such run explains stays different.

use std::collections::{BTreeMap, BTreeSet};

use bitc_ir::eval::eval_with;
use bitc_ir::{Blob, Graph, NodeId, Op, Tensor, ValueDef, ValueId};

use super::difference::{Tolerance, difference};
use crate::error::Diagnostic;
use crate::runnable;

/// How near to a border an element must be, in steps between integers.
const NEAR: f64 = 1e-3;
/// How often the graph is run again.
const RUNS: usize = 32;

/// An element that is rounded to the other side in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Flip {
    /// The row of the outputs.
    pub row: usize,
    /// The quantiser: the layer that reads it, by name.
    pub layer: String,
    /// What the frozen graph has.
    pub frozen: i8,
    /// What the model has.
    pub model: i8,
    /// How far from the border the frozen graph is, in steps.
    pub distance: f64,
    node: NodeId,
    element: usize,
}

/// What is known of one row.
struct Row {
    accepted: Vec<Flip>,
    candidates: Vec<Flip>,
    next: usize,
    gap: f64,
}

/// The flips that give `rows` of the frozen graph the outputs of the model; nothing for a row that flips do not explain.
pub(super) fn explain(
    graph: &Graph,
    inputs: &[Tensor],
    expected: &[Tensor],
    rows: &BTreeSet<usize>,
    tolerance: Tolerance,
) -> Result<Vec<Flip>, Diagnostic> {
    let replay = Replay { graph, inputs, expected, tolerance, read: quantized_values(graph) };
    let mut run = replay.run(rows, &[])?;
    let mut pending: BTreeMap<usize, Row> = BTreeMap::new();
    for &row in rows {
        let candidates = run.candidates.remove(&row).unwrap_or_default();
        pending.insert(row, Row { accepted: Vec::new(), candidates, next: 0, gap: run.gaps[&row] });
    }
    let mut found = Vec::new();
    for _ in 0..RUNS {
        pending.retain(|_, row| row.next < row.candidates.len());
        if pending.is_empty() {
            break;
        }
        let trial = |row: &Row| row.accepted.iter().chain(&row.candidates[row.next..=row.next]).cloned().collect();
        let forced: Vec<Flip> = pending.values().flat_map(|row| -> Vec<Flip> { trial(row) }).collect();
        let mut run = replay.run(rows, &forced)?;
        pending.retain(|number, row| {
            if !run.outside.contains(number) {
                found.extend(trial(row));
                return false;
            }
            let gap = run.gaps[number];
            if gap < 0.75 * row.gap {
                row.accepted = trial(row);
                row.candidates = run.candidates.remove(number).unwrap_or_default();
                (row.next, row.gap) = (0, gap);
            } else {
                row.next += 1;
            }
            true
        });
    }
    found.sort_by_key(|flip: &Flip| (flip.row, flip.node.index(), flip.element));
    Ok(found)
}

/// The values that quantisers read.
fn quantized_values(graph: &Graph) -> BTreeSet<ValueId> {
    let nodes = graph.nodes().filter(|(_, n)| matches!(n.op, Op::QuantizeAct(_)));
    nodes.filter_map(|(_, n)| n.inputs.first().copied().flatten()).collect()
}

/// Everything that stays the same from run to run.
struct Replay<'a> {
    graph: &'a Graph,
    inputs: &'a [Tensor],
    expected: &'a [Tensor],
    tolerance: Tolerance,
    read: BTreeSet<ValueId>,
}

/// What one run gave.
struct Outcome {
    /// The largest difference of each row that is looked at.
    gaps: BTreeMap<usize, f64>,
    /// The rows outside the tolerance.
    outside: BTreeSet<usize>,
    /// The elements of each row that are next to a border, the nearest first.
    candidates: BTreeMap<usize, Vec<Flip>>,
}

impl Replay<'_> {
    fn run(&self, rows: &BTreeSet<usize>, forced: &[Flip]) -> Result<Outcome, Diagnostic> {
        let graph = self.graph;
        let mut read: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        let mut candidates: BTreeMap<usize, Vec<Flip>> = BTreeMap::new();
        let found = eval_with(graph, self.inputs, &mut |node, outputs| {
            if let Some(near) = self.near(node, &read, &outputs[0], rows) {
                let new =
                    near.into_iter().filter(|c| !forced.iter().any(|f| (f.node, f.element) == (c.node, c.element)));
                new.for_each(|c| candidates.entry(c.row).or_default().push(c));
                force(&mut outputs[0], forced.iter().filter(|f| f.node == node));
            }
            for (value, tensor) in graph.node(node).outputs.iter().zip(outputs.iter()) {
                if self.read.contains(value) {
                    read.insert(*value, tensor.clone());
                }
            }
        });
        let found = found.map_err(|e| runnable::eval_error(&e))?;
        candidates.values_mut().for_each(|c| c.sort_by(|a, b| a.distance.total_cmp(&b.distance)));
        let (mut gaps, mut outside) = (BTreeMap::new(), BTreeSet::new());
        for (expected, found) in self.expected.iter().zip(&found) {
            let d = difference("", expected, found, self.tolerance);
            outside.extend(d.rows);
            for &row in rows {
                let gap: &mut f64 = gaps.entry(row).or_default();
                *gap = gap.max(d.row_gaps.get(row).copied().unwrap_or(f64::INFINITY));
            }
        }
        Ok(Outcome { gaps, outside, candidates })
    }

    /// The elements of a quantiser next to a border, if the node is one.
    fn near(
        &self,
        node: NodeId,
        read: &BTreeMap<ValueId, Tensor>,
        q: &Tensor,
        rows: &BTreeSet<usize>,
    ) -> Option<Vec<Flip>> {
        let Op::QuantizeAct(op) = &self.graph.node(node).op else { return None };
        let x = self.value(self.graph.input(node, 0)?, read)?;
        let n_rows = self.expected.first()?.dims().first().copied().unwrap_or(1).max(1);
        let (steps, q) = (op.steps(x).ok()?, q.iter::<i8>()?);
        let width = steps.len().div_ceil(n_rows).max(1);
        let near = steps.iter().zip(q).enumerate().filter_map(|(element, (&step, frozen))| {
            let (row, step) = (element / width, f64::from(step));
            let distance = (step - step.floor() - 0.5).abs();
            let (below, above) = (step.floor(), step.floor() + 1.0);
            let inside = below >= f64::from(op.low) && above <= f64::from(op.high);
            if !(rows.contains(&row) && distance < NEAR && inside) {
                return None;
            }
            let model = if f64::from(frozen) == below { above as i8 } else { below as i8 };
            Some(Flip { row, layer: self.layer(node), frozen, model, distance, node, element })
        });
        Some(near.collect())
    }

    fn value<'v>(&'v self, value: ValueId, read: &'v BTreeMap<ValueId, Tensor>) -> Option<&'v Tensor> {
        let input = || self.inputs.get(self.graph.inputs().iter().position(|&v| v == value)?);
        match &self.graph.value(value).def {
            ValueDef::Const(t) | ValueDef::Param(t) => Some(t),
            ValueDef::Input => input(),
            ValueDef::Node(..) => read.get(&value),
        }
    }

    /// The layer that reads a quantiser: where it came from, or what it is called.
    fn layer(&self, node: NodeId) -> String {
        let q = self.graph.node(node).outputs[0];
        let reader = self.graph.nodes().map(|(_, n)| n).find(|n| n.inputs.contains(&Some(q)));
        let reader = reader.unwrap_or_else(|| self.graph.node(node));
        let origin = reader.origin.to_string();
        if origin.is_empty() { self.graph.value(reader.outputs[0]).name.clone() } else { origin }
    }
}

/// Puts chosen integers in place of others.
fn force<'f>(q: &mut Tensor, flips: impl Iterator<Item = &'f Flip>) {
    let mut bytes = q.bytes().to_vec();
    flips.for_each(|f| bytes[f.element] = f.model.cast_unsigned());
    *q = Tensor::from_blob(q.dtype(), q.dims(), Blob::new(bytes)).expect("as many bytes as before");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows whose third element is on either side of 1.5 steps by less than a float resolves in the model.
    const TEXT: &str = "graph @g(%x: f32[N, 3]) {
        const %w: t2[1, 3] = dense [1, 1, 1]
        const %s: f32[1] = dense [1.0]
        %q, %qs = quantize_act(%x) {form = \"integer\"}
        %y = bit_linear(%q, %qs, %w, %s)
        return %y
    }";

    fn explained(x: &[f32], expected: &[f32]) -> Vec<(usize, i8, i8)> {
        let graph = bitc_ir::text::parse(TEXT, &bitc_ir::text::NoReferences).unwrap();
        let n = expected.len();
        let (x, expected) = (Tensor::new(&[n, 3], x), Tensor::new(&[n, 1], expected));
        let rows = difference(
            "",
            &expected,
            &bitc_ir::eval::eval(&graph, std::slice::from_ref(&x)).unwrap()[0],
            Tolerance::default(),
        );
        let rows = rows.rows.into_iter().collect();
        let flips = explain(&graph, &[x], &[expected], &rows, Tolerance::default()).unwrap();
        flips.iter().map(|f| (f.row, f.frozen, f.model)).collect()
    }

    #[test]
    fn a_row_is_explained_by_the_elements_next_to_a_border() {
        let x = [2.0, 4.0, 1.4999, 2.0, 4.0, 1.4999];
        assert_eq!(explained(&x, &[7.0, 8.0]), [(1, 1, 2)]);
        // Two at once, found one after the other.
        assert_eq!(explained(&[10.4999, 20.4999, 5.0], &[37.0]), [(0, 10, 11), (0, 20, 21)]);
    }

    #[test]
    fn what_no_border_explains_stays_different() {
        assert_eq!(explained(&[2.0, 4.0, 1.4, 2.0, 4.0, 1.3], &[8.0, 9.0]), []);
        assert_eq!(explained(&[2.0, 4.0, 1.4999], &[70.0]), []);
        // The border at the end of the range is none.
        assert_eq!(explained(&[127.4999, 0.0, 0.0], &[128.0]), []);
    }
}
