//! Compares an artifact with its model: outputs within a bound, the integer sums inside bit for bit.
//!
//! Two references take part. The model itself, on the evaluator, says what the outputs must be. The frozen graph that the
//! artifact carries, on the evaluator too, says what every instruction must have computed; lowering it again tells which
//! instruction stands for which node. Where an activation lies on the border between two 8-bit integers, two correct
//! computations may round it to either side: such a step is reported as what it is, a rounding flip.

use std::collections::{BTreeMap, BTreeSet};

use bitc_format::{BufferId, Inst, Operand, SlotId};
use bitc_ir::eval::eval_with;
use bitc_ir::ops::bit_linear::accumulate;
use bitc_ir::{Graph, NodeId, Op, Tensor, ValueId};
use bitc_runtime::kernels::Kernels;
use bitc_runtime::{Executed, Program, Session, Trace, View};

use crate::backend::artifact;
use crate::error::{Diagnostic, Failure};
use crate::lower::{self, Lowered, Target};
use crate::runnable::{self, Runnable};

/// How far outputs may be apart: `|a - b| <= absolute + relative * |a|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative to the value of the model.
    pub relative: f64,
    /// Absolute; `None` is 1e-5 of the largest value of the model.
    pub absolute: Option<f64>,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { relative: 1e-4, absolute: None }
    }
}

/// The largest part of the rows that may differ by rounding flips, and by how much of the largest value.
const FLIPPED_ROWS: usize = 8;
const FLIP_BOUND: f64 = 0.05;

/// An artifact ready to be compared.
#[derive(Debug)]
pub struct Subject {
    program: Program,
    /// The frozen graph lowered again, if the artifact carries it and it gives the same instructions.
    inside: Option<Lowered>,
}

/// What one comparison found.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The outputs, in order.
    pub outputs: Vec<OutputDifference>,
    /// The integer layers, in order; empty where the artifact does not carry its graph.
    pub layers: Vec<LayerDifference>,
    /// The first instruction whose result is not that of its node.
    pub first_diverging: Option<String>,
    /// Rows in which an activation was rounded to the other side.
    pub flipped_rows: Vec<usize>,
}

/// The difference of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputDifference {
    /// Its name.
    pub name: String,
    /// The largest difference.
    pub max_abs: f64,
    /// The largest difference relative to the largest value.
    pub max_relative: f64,
    /// The rows outside the tolerance: the leading dimension, or row 0.
    pub rows: Vec<usize>,
    /// Of how many.
    pub n_rows: usize,
    /// In how many rows the largest element is at the same place; `None` where there is nothing to choose.
    pub argmax_agree: Option<usize>,
    /// Why the outputs cannot be compared at all.
    pub mismatch: Option<String>,
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

    /// Whether the differences of an output are rounding flips: few rows, small, and each with a flip inside.
    fn is_flips(&self, output: &OutputDifference) -> bool {
        output.mismatch.is_none()
            && output.max_relative <= FLIP_BOUND
            && output.rows.len() <= output.n_rows.div_ceil(FLIPPED_ROWS)
            && output.rows.iter().all(|r| self.flipped_rows.contains(r))
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

    /// Compares outputs with those of the model, and the inside with the frozen graph.
    ///
    /// # Errors
    /// If either cannot be run on these inputs.
    pub fn compare(
        &self,
        expected: &[Tensor],
        inputs: &[Tensor],
        kernels: &'static dyn Kernels,
        tolerance: Tolerance,
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
        let differences = names.iter().zip(expected.iter().zip(&outputs));
        let outputs = differences.map(|(name, (a, b))| difference(name, a, b, tolerance)).collect();
        let (layers, first_diverging, flipped) = match check {
            Some(check) => {
                if let Some(fault) = check.fault {
                    return Err(fault);
                }
                (check.layers, check.first_diverging, check.flipped)
            }
            None => (Vec::new(), None, BTreeSet::new()),
        };
        Ok(Comparison { outputs, layers, first_diverging, flipped_rows: flipped.into_iter().collect() })
    }
}

/// The outputs of the model for these inputs: what an artifact is compared with.
///
/// # Errors
/// If it cannot be run on them.
pub fn reference(model: &Runnable, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    let portable = runnable::kernels_for(Some("portable"))?;
    model.run(inputs, portable)
}

/// How far two outputs are apart. `a` is what it should be.
pub fn difference(name: &str, a: &Tensor, b: &Tensor, tolerance: Tolerance) -> OutputDifference {
    let mut result = OutputDifference {
        name: name.to_owned(),
        max_abs: 0.0,
        max_relative: 0.0,
        rows: Vec::new(),
        n_rows: a.dims().first().copied().unwrap_or(1),
        argmax_agree: None,
        mismatch: None,
    };
    if a.ty() != b.ty() {
        result.mismatch = Some(format!("expected {}, found {}", a.ty(), b.ty()));
        result.rows = (0..result.n_rows.max(1)).collect();
        result.max_abs = f64::INFINITY;
        result.max_relative = f64::INFINITY;
        return result;
    }
    let (x, y) = (a.to_f64(), b.to_f64());
    let largest = x.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let absolute = tolerance.absolute.unwrap_or(if a.dtype().is_float() { 1e-5 * largest } else { 0.0 });
    let width = x.len().checked_div(result.n_rows).unwrap_or(0);
    let mut agree = 0;
    for row in 0..if width == 0 { 0 } else { result.n_rows } {
        let (x, y) = (&x[row * width..][..width], &y[row * width..][..width]);
        let mut outside = false;
        for (&x, &y) in x.iter().zip(y) {
            let gap = gap(x, y);
            result.max_abs = result.max_abs.max(gap);
            outside |= gap > absolute + tolerance.relative * if x.is_finite() { x.abs() } else { 0.0 };
        }
        if outside {
            result.rows.push(row);
        }
        agree += usize::from(argmax(x) == argmax(y));
    }
    result.argmax_agree = (width > 1).then_some(agree);
    result.max_relative = if largest > 0.0 { result.max_abs / largest } else { result.max_abs };
    result
}

/// The distance of two numbers; none between equal ones and between two NaN.
fn gap(x: f64, y: f64) -> f64 {
    if x == y || (x.is_nan() && y.is_nan()) {
        return 0.0;
    }
    let gap = (x - y).abs();
    if gap.is_nan() { f64::INFINITY } else { gap }
}

/// The position of the first largest element.
pub fn argmax(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] || (v.is_nan() && !values[best].is_nan()) {
            best = i;
        }
    }
    best
}

/// What the evaluator has for every node, compared with what the runtime made as it goes.
struct Check<'a> {
    program: &'a Program,
    lowered: &'a Lowered,
    inputs: &'a [Tensor],
    values: BTreeMap<NodeId, Vec<Tensor>>,
    /// The last instruction of each node: the one that completes its value.
    last: BTreeMap<NodeId, usize>,
    /// The 8-bit integers that the runtime last wrote to each slot, without padding.
    integers: BTreeMap<SlotId, Tensor>,
    batch: usize,
    layers: Vec<LayerDifference>,
    first_diverging: Option<String>,
    flipped: BTreeSet<usize>,
    fault: Option<Diagnostic>,
}

/// How far the value of a float instruction may be from its node, relative to the largest value.
const LAYER_BOUND: f64 = 1e-4;

impl<'a> Check<'a> {
    fn new(program: &'a Program, lowered: &'a Lowered, inputs: &'a [Tensor]) -> Result<Self, Diagnostic> {
        let mut values = BTreeMap::new();
        eval_with(&lowered.graph, inputs, &mut |node, outputs| {
            values.insert(node, outputs.to_vec());
        })
        .map_err(|e| runnable::eval_error(&e))?;
        let code = lowered.program.code.iter().enumerate();
        let last = code.filter_map(|(i, inst)| Some((inst.node?, i))).collect();
        let batch = inputs.first().and_then(|t| t.dims().first().copied()).unwrap_or(1);
        Ok(Self {
            program,
            lowered,
            inputs,
            values,
            last,
            integers: BTreeMap::new(),
            batch,
            layers: Vec::new(),
            first_diverging: None,
            flipped: BTreeSet::new(),
            fault: None,
        })
    }

    fn graph(&self) -> &'a Graph {
        &self.lowered.graph
    }

    fn tensor(&self, value: ValueId) -> Option<Tensor> {
        let graph = self.graph();
        if let Some(i) = graph.inputs().iter().position(|&v| v == value) {
            return self.inputs.get(i).cloned();
        }
        let computed = graph.producer_id(value).and_then(|node| {
            let at = graph.node(node).outputs.iter().position(|&v| v == value)?;
            self.values.get(&node)?.get(at).cloned()
        });
        graph.constant(value).cloned().or(computed)
    }

    fn input(&self, node: NodeId, i: usize) -> Option<Tensor> {
        self.graph().input(node, i).and_then(|v| self.tensor(v))
    }

    /// What a quantiser made, against the evaluator: rows where an element moved by one step are flips.
    fn quantizer(&mut self, node: NodeId, view: &View<'_>) {
        let Some(found) = unpadded(view) else { return };
        if let Some(expected) = self.values.get(&node).and_then(|v| v.first()) {
            let (a, b) = (expected.bytes(), found.bytes());
            let width = a.len().checked_div(self.batch).unwrap_or(0).max(1);
            for (i, _) in
                a.iter().zip(b).enumerate().filter(|(_, (a, b))| a.cast_signed().abs_diff(b.cast_signed()) == 1)
            {
                self.flipped.insert(i / width);
            }
        }
    }

    /// Keeps what was written to a buffer of 8-bit integers, for the layers that read it.
    fn keep(&mut self, id: BufferId, view: &View<'_>) {
        if view.dtype == bitc_format::DType::I8
            && let (Some(slot), Some(integers)) = (self.slot(id), unpadded(view))
        {
            self.integers.insert(slot, integers);
        }
    }

    fn slot(&self, id: BufferId) -> Option<SlotId> {
        Some(self.program.contents().buffers().get(id.index())?.slot)
    }

    /// The sums of a layer against the evaluator's, and against those of the integers that went in.
    fn sums(&mut self, node: NodeId, step: &Executed<'_>, q: Operand) -> Option<()> {
        let found = step.accumulators.as_deref()?;
        let (q_expected, w) = (self.input(node, 0)?, self.input(node, 2)?);
        let expected = sums_of(&self.graph().node(node).op, &q_expected, &w)?;
        let count = |expected: &[i32]| {
            let pairs = expected.iter().zip(found).filter(|(a, b)| a != b).count();
            pairs + expected.len().abs_diff(found.len())
        };
        let differing = count(&expected);
        let seen = match q {
            Operand::Buffer(id) => self.slot(id).and_then(|slot| self.integers.get(&slot)),
            Operand::Const(_) => None,
        };
        let wrong = match seen.filter(|_| differing > 0) {
            Some(q) => {
                let q = q.reshaped(q_expected.dims())?;
                count(&sums_of(&self.graph().node(node).op, &q, &w)?)
            }
            None => differing,
        };
        let name = self.name(node, step);
        self.layers.push(LayerDifference {
            name: name.clone(),
            op: step.inst.name(),
            accumulators: expected.len(),
            differing,
            wrong,
        });
        if differing > 0 {
            self.first_diverging.get_or_insert(name);
        }
        Some(())
    }

    /// A float value against that of its node.
    fn value(&mut self, node: NodeId, step: &Executed<'_>) -> Option<()> {
        if self.first_diverging.is_some() || self.last.get(&node) != Some(&step.index) {
            return None;
        }
        let [(_, view)] = &step.outputs[..] else { return None };
        let expected = self.values.get(&node)?.first()?;
        if view.shape != expected.dims() || view.dtype.name() != "f32" || expected.dtype().name() != "f32" {
            return None;
        }
        let found =
            Tensor::from_blob(expected.dtype(), expected.dims(), bitc_ir::Blob::new(view.bytes.to_vec())).ok()?;
        if bitc_passes::manager::relative_difference(expected, &found) > LAYER_BOUND {
            self.first_diverging = Some(self.name(node, step));
        }
        Some(())
    }

    fn name(&self, node: NodeId, step: &Executed<'_>) -> String {
        let value = self.graph().node(node).outputs.first().map(|&v| self.graph().value(v).name.clone());
        let origin = step.origins.join(", ");
        if origin.is_empty() { value.unwrap_or_default() } else { origin }
    }
}

impl Trace for Check<'_> {
    fn wants_accumulators(&self) -> bool {
        true
    }

    fn executed(&mut self, step: &Executed<'_>) {
        let Some(instruction) = self.lowered.program.code.get(step.index) else {
            self.fault = Some(Diagnostic::bug("the program has more instructions than its graph gives"));
            return;
        };
        for (id, view) in &step.outputs {
            self.keep(*id, view);
        }
        let Some(node) = instruction.node else { return };
        match step.inst {
            Inst::Quantize(inst) => {
                if let Some((_, view)) = step.outputs.iter().find(|(id, _)| *id == inst.q) {
                    self.quantizer(node, view);
                }
            }
            Inst::BitLinear(inst) => {
                self.sums(node, step, inst.q);
                self.value(node, step);
            }
            Inst::BitConv2d(inst) => {
                self.sums(node, step, inst.q);
                self.value(node, step);
            }
            _ => {
                self.value(node, step);
            }
        }
    }
}

/// The bytes of an 8-bit buffer without the padding of its rows.
fn unpadded(view: &View<'_>) -> Option<Tensor> {
    let row = view.shape.last().copied().unwrap_or(1);
    let rows: usize = view.shape.iter().rev().skip(1).product();
    let pitch = view.bytes.len().checked_div(rows).unwrap_or(0);
    let plain: Option<Vec<&[u8]>> = (0..rows).map(|r| view.bytes.get(r * pitch..)?.get(..row)).collect();
    Tensor::from_blob(bitc_ir::DType::I8, view.shape, bitc_ir::Blob::new(plain?.concat())).ok()
}

/// The integer sums of a layer in the order in which the runtime shows them.
fn sums_of(op: &Op, q: &Tensor, w: &Tensor) -> Option<Vec<i32>> {
    match op {
        Op::BitLinear(_) => accumulate(q, w).ok(),
        Op::BitConv2d(op) => {
            let (dims, sums) = op.accumulate(q, w).ok()?;
            let &[images, outputs, height, width] = &dims[..] else { return None };
            let (pixels, per_group) = (height * width, outputs.checked_div(op.groups)?);
            let mut shown = Vec::with_capacity(sums.len());
            for image in 0..images {
                for group in 0..op.groups {
                    for pixel in 0..pixels {
                        let at = |o: usize| (image * outputs + group * per_group + o) * pixels + pixel;
                        shown.extend((0..per_group).map(|o| sums[at(o)]));
                    }
                }
            }
            Some(shown)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_row() {
        let a = Tensor::new(&[3, 2], &[1.0f32, 2.0, -4.0, 3.0, 0.0, 0.5]);
        let b = Tensor::new(&[3, 2], &[1.0f32, 2.0, -4.0, 3.25, 0.0, 0.5]);
        let d = difference("y", &a, &b, Tolerance::default());
        assert_eq!((d.rows.as_slice(), d.max_abs, d.argmax_agree), (&[1][..], 0.25, Some(3)));
        let loose = Tolerance { relative: 0.0, absolute: Some(0.25) };
        assert!(difference("y", &a, &b, loose).rows.is_empty());
        assert!(difference("y", &a, &a.reshaped(&[6]).unwrap(), loose).mismatch.is_some());
    }

    #[test]
    fn special_numbers_and_empty_outputs_are_compared() {
        let t = |v: &[f32]| Tensor::new(&[v.len()], v);
        let tolerance = Tolerance::default();
        let special = t(&[f32::NAN, f32::INFINITY]);
        assert!(difference("y", &special, &special, tolerance).rows.is_empty());
        assert_eq!(difference("y", &special, &t(&[1.0, f32::INFINITY]), tolerance).rows, [0]);
        assert_eq!(difference("y", &t(&[1.0]), &t(&[f32::NEG_INFINITY]), tolerance).max_abs, f64::INFINITY);
        let empty = Tensor::splat(&[0, 3], 0f32);
        let d = difference("y", &empty, &empty, tolerance);
        assert_eq!((d.n_rows, d.rows.len(), d.argmax_agree), (0, 0, None));
    }

    #[test]
    fn convolution_sums_are_ordered_by_image_group_and_pixel() {
        let op = "bit_conv2d";
        let attrs = bitc_ir::Attrs::from([("groups".to_owned(), bitc_ir::Attr::Int(2))]);
        let op = Op::from_attrs(op, attrs).unwrap();
        let q = Tensor::new(&[2, 2, 1, 2], &[1i8, 2, 10, 20, 3, 4, 30, 40]);
        let w = Tensor::with_dtype(bitc_ir::DType::T2, &[2, 1, 1, 1], &[1i8, -1]);
        assert_eq!(sums_of(&op, &q, &w).unwrap(), [1, 2, -10, -20, 3, 4, -30, -40]);
    }
}
