//! Rounding flips between a model and the frozen graph made from it.
//!
//! A model in floats and its frozen graph add in different orders, so a value may reach a quantiser a hair to the other
//! side of the border between two integers. That is claimed of a row only where it can be shown: the frozen graph is run
//! again with elements that lie next to a border rounded to the other side, and the row then has to have the outputs of
//! the model. A row that no such run explains stays different.
//!
//! Which elements those are, the model's own graph says where there is one: it is run too, and where it has the
//! neighbouring integer its side is taken, quantiser by quantiser from the inputs on, so any number of flips is found in
//! one run (`follow`). Without it they are searched for, the nearest first (`search`).

mod follow;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use bitc_ir::eval::eval_with;
use bitc_ir::ops::{Unary, UnaryKind};
use bitc_ir::{Blob, DType, Graph, NodeId, Op, Tensor, ValueDef, ValueId};

use super::difference::{Tolerance, difference};
use crate::error::Diagnostic;
use crate::runnable;

/// How near to a border an element must be, in steps between integers.
const NEAR: f64 = 1e-3;

/// How far sums of floats in different orders are usually apart at most, in units of the last place.
const ULPS: f64 = 4.0;

/// The largest part of all elements that may be flips that were replayed, however many rows they are in. Of evenly spread
/// values two in a thousand lie as near to a border as a flip has to; values that often lie on it do not come from
/// rounding.
const RARE: usize = 200;

/// An element that is rounded to the other side in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Flip {
    /// The row of the outputs.
    pub row: usize,
    /// The quantiser: the layer that reads it, by name.
    pub layer: String,
    /// What the frozen graph has.
    pub frozen: i32,
    /// What the model has.
    pub model: i32,
    /// How far from the border the frozen graph is, in steps.
    pub distance: f64,
    node: NodeId,
    element: usize,
}

impl Flip {
    fn is_at(&self, other: &Flip) -> bool {
        (self.node, self.element) == (other.node, other.element)
    }
}

/// The flips that give rows the outputs of the model.
#[derive(Default)]
pub(super) struct Explanation {
    /// By row; none for a row that flips do not explain.
    pub(super) flips: Vec<Flip>,
    /// How many elements the quantisers have in the rows where the model's own graph showed flips.
    pub(super) elements: usize,
}

impl Explanation {
    /// Whether the flips are so few among all elements that rounding alone may be the reason.
    pub(super) fn are_rare(&self) -> bool {
        self.flips.len().saturating_mul(RARE) <= self.elements
    }
}

/// The flips that give `rows` of the frozen graph the outputs of the model. They are searched for only if `search` is set,
/// which takes many runs.
pub(super) fn explain(
    graph: &Graph,
    inputs: &[Tensor],
    expected: &[Tensor],
    rows: &BTreeSet<usize>,
    tolerance: Tolerance,
    model: Option<&Graph>,
    search: bool,
) -> Result<Explanation, Diagnostic> {
    let replay = Replay { graph, inputs, expected, rows, tolerance, read: quantized_values(graph) };
    let (mut flips, mut width) = (Vec::new(), 0);
    if let Some(model) = model {
        (flips, width) = follow::follow(&replay, model)?;
    }
    let elements = width * rows_of(&flips).len();
    let left: BTreeSet<usize> = rows.difference(&rows_of(&flips)).copied().collect();
    if search && !left.is_empty() {
        flips.extend(search::search(&Replay { rows: &left, ..replay })?);
    }
    flips.sort_by_key(|flip: &Flip| (flip.row, flip.node.index(), flip.element));
    Ok(Explanation { flips, elements })
}

fn rows_of(flips: &[Flip]) -> BTreeSet<usize> {
    flips.iter().map(|f| f.row).collect()
}

/// Whether an operation makes integers of what it reads, and between which bounds.
fn bounds(op: &Op) -> Option<(f64, f64)> {
    match op {
        Op::QuantizeAct(op) => Some((f64::from(op.low), f64::from(op.high))),
        Op::Unary(Unary(UnaryKind::Round)) => Some((f64::NEG_INFINITY, f64::INFINITY)),
        _ => None,
    }
}

/// The values that quantisers read.
fn quantized_values(graph: &Graph) -> BTreeSet<ValueId> {
    let nodes = graph.nodes().filter(|(_, n)| bounds(&n.op).is_some());
    nodes.filter_map(|(_, n)| n.inputs.first().copied().flatten()).collect()
}

/// Everything that stays the same from run to run.
struct Replay<'a> {
    graph: &'a Graph,
    inputs: &'a [Tensor],
    expected: &'a [Tensor],
    rows: &'a BTreeSet<usize>,
    tolerance: Tolerance,
    read: BTreeSet<ValueId>,
}

/// What one run gave.
struct Outcome {
    /// How far each row is from the model: the sum of squares.
    gaps: BTreeMap<usize, f64>,
    /// The rows outside the tolerance.
    outside: BTreeSet<usize>,
    /// How many elements of a row the quantisers have.
    width: usize,
}

/// A quantiser in a run: what it made, and which elements of it could as well have been rounded the other way.
struct Quantized<'a> {
    op: &'a Op,
    values: &'a Tensor,
    near: Vec<Flip>,
}

impl Replay<'_> {
    /// Runs the frozen graph with the flips that `choose` takes at each quantiser.
    fn run(&self, choose: &mut dyn FnMut(Quantized<'_>) -> Vec<Flip>) -> Result<Outcome, Diagnostic> {
        let graph = self.graph;
        let mut read: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        let mut width = 0;
        let found = eval_with(graph, self.inputs, &mut |node, outputs| {
            if let Some(near) = self.near(node, &read, &outputs[0]) {
                width += outputs[0].numel().div_ceil(self.count());
                let flips = choose(Quantized { op: &graph.node(node).op, values: &outputs[0], near });
                force(&mut outputs[0], &flips);
            }
            for (value, tensor) in graph.node(node).outputs.iter().zip(outputs.iter()) {
                if self.read.contains(value) {
                    read.insert(*value, tensor.clone());
                }
            }
        });
        let found = found.map_err(|e| runnable::eval_error(&e))?;
        let (mut gaps, mut outside) = (BTreeMap::new(), BTreeSet::new());
        for (expected, found) in self.expected.iter().zip(&found) {
            outside.extend(difference("", expected, found, self.tolerance).rows);
            let distances = squares(expected, found);
            for &row in self.rows {
                *gaps.entry(row).or_default() += distances.get(row).copied().unwrap_or(f64::INFINITY);
            }
        }
        Ok(Outcome { gaps, outside, width })
    }

    /// How many rows the outputs have.
    fn count(&self) -> usize {
        self.expected.first().and_then(|t| t.dims().first().copied()).unwrap_or(1).max(1)
    }

    /// The elements of a quantiser next to a border, if the node is one.
    fn near(&self, node: NodeId, read: &BTreeMap<ValueId, Tensor>, made: &Tensor) -> Option<Vec<Flip>> {
        let x = self.value(self.graph.input(node, 0)?, read)?;
        let mut near = next_to_border(self.graph, node, x, made, self.count(), |_| NEAR)?;
        near.retain(|flip| self.rows.contains(&flip.row));
        Some(near)
    }

    fn value<'v>(&'v self, value: ValueId, read: &'v BTreeMap<ValueId, Tensor>) -> Option<&'v Tensor> {
        let input = || self.inputs.get(self.graph.inputs().iter().position(|&v| v == value)?);
        match &self.graph.value(value).def {
            ValueDef::Const(t) | ValueDef::Param(t) => Some(t),
            ValueDef::Input => input(),
            ValueDef::Node(..) => read.get(&value),
        }
    }
}

/// The elements that a quantiser of `x` has nearer to a border between two integers than `distance` allows for a value in
/// steps; `None` if the node is no quantiser.
fn next_to_border(
    graph: &Graph,
    node: NodeId,
    x: &Tensor,
    made: &Tensor,
    rows: usize,
    allowed: impl Fn(f64) -> f64,
) -> Option<Vec<Flip>> {
    let op = &graph.node(node).op;
    let (low, high) = bounds(op)?;
    let steps = match op {
        Op::QuantizeAct(op) => op.steps(x).ok()?,
        _ => x.to_vec::<f32>()?,
    };
    let width = steps.len().div_ceil(rows).max(1);
    let layer = reader(graph, node);
    let near = steps.iter().zip(made.to_f64()).enumerate().filter_map(|(element, (&step, frozen))| {
        let (row, step) = (element / width, f64::from(step));
        let distance = (step - step.floor() - 0.5).abs();
        let (below, above) = (step.floor(), step.floor() + 1.0);
        if !(distance < allowed(step) && below >= low && above <= high) {
            return None;
        }
        let model = if frozen == below { above } else { below };
        let layer = layer.clone();
        Some(Flip { row, layer, frozen: frozen as i32, model: model as i32, distance, node, element })
    });
    Some(near.collect())
}

/// The rows in which a quantiser of `x` has an element so near to a border that a computation in another order may come
/// out on its other side, though each is as right as the other.
pub(super) fn rows_on_border(graph: &Graph, node: NodeId, x: &Tensor, made: &Tensor, rows: usize) -> BTreeSet<usize> {
    let near = next_to_border(graph, node, x, made, rows, |step| ULPS * f64::from(f32::EPSILON) * step.abs());
    rows_of(&near.unwrap_or_default())
}

/// The layer that reads a quantiser: where it came from, or what it is called.
fn reader(graph: &Graph, node: NodeId) -> String {
    let q = graph.node(node).outputs[0];
    let reader = graph.nodes().map(|(_, n)| n).find(|n| n.inputs.contains(&Some(q)));
    let reader = reader.unwrap_or_else(|| graph.node(node));
    let origin = reader.origin.to_string();
    if origin.is_empty() { graph.value(reader.outputs[0]).name.clone() } else { origin }
}

/// The sum of squared differences of each row.
fn squares(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (x, y) = (a.to_f64(), b.to_f64());
    let width = x.len().checked_div(a.dims().first().copied().unwrap_or(1)).unwrap_or(0);
    if a.ty() != b.ty() || width == 0 {
        return Vec::new();
    }
    let square = |(x, y): (&f64, &f64)| if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y) * (x - y) };
    let rows = x.chunks(width).zip(y.chunks(width));
    rows.map(|(x, y)| x.iter().zip(y).map(square).sum::<f64>())
        .map(|s| if s.is_nan() { f64::INFINITY } else { s })
        .collect()
}

/// Puts chosen integers in place of others.
fn force(values: &mut Tensor, flips: &[Flip]) {
    if flips.is_empty() {
        return;
    }
    let mut bytes = values.bytes().to_vec();
    for f in flips {
        match values.dtype() {
            DType::I8 => bytes[f.element] = (f.model as i8).cast_unsigned(),
            _ => bytes[4 * f.element..][..4].copy_from_slice(&(f.model as f32).to_ne_bytes()),
        }
    }
    *values = Tensor::from_blob(values.dtype(), values.dims(), Blob::new(bytes)).expect("as many bytes as before");
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

    fn explained(x: &[f32], expected: &[f32]) -> Vec<(usize, i32, i32)> {
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
        let found = explain(&graph, &[x], &[expected], &rows, Tolerance::default(), None, true).unwrap();
        found.flips.iter().map(|f| (f.row, f.frozen, f.model)).collect()
    }

    #[test]
    fn a_row_is_explained_by_the_elements_next_to_a_border() {
        let x = [2.0, 4.0, 1.4999, 2.0, 4.0, 1.4999];
        assert_eq!(explained(&x, &[7.0, 8.0]), [(1, 1, 2)]);
        // Two at once, found one after the other.
        assert_eq!(explained(&[10.4999, 20.4999, 5.0], &[37.0]), [(0, 10, 11), (0, 20, 21)]);
    }

    /// The flips that a model shows which computes the frozen graph of `x` times a factor.
    fn followed(x: &[f32], factor: f32) -> Vec<(usize, i32, i32)> {
        let parse = |text: &str| bitc_ir::text::parse(text, &bitc_ir::text::NoReferences).unwrap();
        let scaled = format!("const %c: f32 = dense [{factor}]\n %m = mul(%x, %c)\n %q, %qs = quantize_act(%m)");
        let (frozen, model) = (parse(TEXT), parse(&TEXT.replace("%q, %qs = quantize_act(%x)", &scaled)));
        let x = [Tensor::new(&[x.len() / 3, 3], x)];
        let expected = bitc_ir::eval::eval(&model, &x).unwrap();
        let rows = (0..x[0].dims()[0]).collect();
        let found = explain(&frozen, &x, &expected, &rows, Tolerance::default(), Some(&model), false).unwrap();
        assert!(found.flips.is_empty() || found.elements.is_multiple_of(3));
        found.flips.iter().map(|f| (f.row, f.frozen, f.model)).collect()
    }

    #[test]
    fn the_model_shows_flips_that_no_search_would_find() {
        // Each alone leads away from the sum of the model, or hides another.
        let x = [10.4999, 20.4999, -30.4999, 1.0, 2.0, 3.0];
        assert_eq!(followed(&x, 1.0001), [(0, 10, 11), (0, 20, 21), (0, -30, -31)]);
    }

    #[test]
    fn a_model_that_is_far_from_the_border_is_not_followed() {
        assert_eq!(followed(&[10.4, 20.0, 30.0], 1.02), []);
        // One element next to a border and one that is not: the row is not explained.
        assert_eq!(followed(&[10.4999, 20.4, 1.0], 1.01), []);
    }

    #[test]
    fn what_no_border_explains_stays_different() {
        assert_eq!(explained(&[2.0, 4.0, 1.4, 2.0, 4.0, 1.3], &[8.0, 9.0]), []);
        assert_eq!(explained(&[2.0, 4.0, 1.4999], &[70.0]), []);
        // The border at the end of the range is none.
        assert_eq!(explained(&[127.4999, 0.0, 0.0], &[128.0]), []);
    }
}
