//! What the runtime makes instruction by instruction, against the evaluator's values of the frozen graph.

use std::collections::{BTreeMap, BTreeSet};

use bitc_format::inst::{BitConv2d, BitConv2dQuantize, BitLinear, BitLinearQuantize};
use bitc_format::{BufferId, Inst, Operand, SlotId};
use bitc_ir::eval::eval_with;
use bitc_ir::ops::bit_linear::accumulate;
use bitc_ir::{Graph, NodeId, Op, Tensor, ValueId};
use bitc_runtime::{Executed, Program, Trace, View};

use super::LayerDifference;
use super::flips::rows_on_border;
use crate::error::Diagnostic;
use crate::lower::Lowered;
use crate::runnable;

/// What the evaluator has for every node, compared with what the runtime made as it goes.
pub(super) struct Check<'a> {
    program: &'a Program,
    lowered: &'a Lowered,
    inputs: &'a [Tensor],
    /// The outputs of the frozen graph.
    pub(super) outputs: Vec<Tensor>,
    values: BTreeMap<NodeId, Vec<Tensor>>,
    /// The last instruction of each node: the one that completes its value.
    last: BTreeMap<NodeId, usize>,
    /// The 8-bit integers that the runtime last wrote to each slot, without padding.
    integers: BTreeMap<SlotId, Tensor>,
    batch: usize,
    pub(super) layers: Vec<LayerDifference>,
    pub(super) first_diverging: Option<String>,
    pub(super) flipped: BTreeSet<usize>,
    pub(super) fault: Option<Diagnostic>,
}

/// How far the value of a float instruction may be from its node, relative to the largest value.
const LAYER_BOUND: f64 = 1e-4;

impl<'a> Check<'a> {
    pub(super) fn new(program: &'a Program, lowered: &'a Lowered, inputs: &'a [Tensor]) -> Result<Self, Diagnostic> {
        let mut values = BTreeMap::new();
        let outputs = eval_with(&lowered.graph, inputs, &mut |node, outputs| {
            values.insert(node, outputs.to_vec());
        })
        .map_err(|e| runnable::eval_error(&e))?;
        let batch = inputs.first().and_then(|t| t.dims().first().copied()).unwrap_or(1);
        let code = lowered.program.code.iter().enumerate();
        let last = code.filter_map(|(i, inst)| Some((inst.node?, i))).collect();
        Ok(Self {
            program,
            lowered,
            inputs,
            outputs,
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

    /// The rows that may come out a step apart in another engine.
    pub(super) fn on_border(&self) -> BTreeSet<usize> {
        let rows = self.values.iter().filter_map(|(&node, made)| {
            let x = self.input(node, 0)?;
            Some(rows_on_border(self.graph(), node, &x, made.first()?, self.batch.max(1)))
        });
        rows.flatten().collect()
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
            Inst::BitLinearQuantize(BitLinearQuantize { layer: BitLinear { q, y, .. }, .. })
            | Inst::BitConv2dQuantize(BitConv2dQuantize { layer: BitConv2d { q, y, .. }, .. }) => {
                if let Some(&layer) = self.lowered.program.layer_of.get(&node) {
                    self.sums(layer, step, *q);
                }
                if let Some((_, view)) = step.outputs.iter().find(|(id, _)| id == y) {
                    self.quantizer(node, view);
                }
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
    fn convolution_sums_are_ordered_by_image_group_and_pixel() {
        let op = "bit_conv2d";
        let attrs = bitc_ir::Attrs::from([("groups".to_owned(), bitc_ir::Attr::Int(2))]);
        let op = Op::from_attrs(op, attrs).unwrap();
        let q = Tensor::new(&[2, 2, 1, 2], &[1i8, 2, 10, 20, 3, 4, 30, 40]);
        let w = Tensor::with_dtype(bitc_ir::DType::T2, &[2, 1, 1, 1], &[1i8, -1]);
        assert_eq!(sums_of(&op, &q, &w).unwrap(), [1, 2, -10, -20, 3, 4, -30, -40]);
    }
}
