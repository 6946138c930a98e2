//! Runs one graph both ways and compares.

use std::collections::BTreeMap;

use bitc::backend::artifact;
use bitc::lower::{Lowered, Target, lower};
use bitc_format::{BufferId, DType, Inst};
use bitc_ir::ops::Op;
use bitc_ir::ops::bit_linear::accumulate;
use bitc_ir::text::{NoReferences, parse};
use bitc_ir::{Graph, NodeId, Tensor, eval, random};
use bitc_runtime::{Executed, Kernels, Limits, Program, Session, Trace, View, ViewMut, kernels};

/// How close floats must be to the evaluator: `|run - eval| <= bound * max(1, |eval|)`.
pub(crate) type Bound = f64;
/// Floats must be those of the evaluator; zeros of either sign are equal, and NaNs of any bits.
pub(crate) const EXACT: Bound = 0.0;
/// Elementwise functions: a few units in the last place of each step.
pub(crate) const FUNCTION: Bound = 2e-6;
/// Sums of products: the evaluator adds in double precision.
pub(crate) const PRODUCT: Bound = 1e-5;

/// The graph of a text; frozen if it does not say so itself.
pub(crate) fn graph(text: &str) -> Graph {
    let mut graph = match parse(text, &NoReferences) {
        Ok(graph) => graph,
        Err(faults) => panic!("{faults:?}\n{text}"),
    };
    graph.frozen = true;
    graph
}

/// Lowers a graph that can be.
pub(crate) fn lowered(graph: &Graph) -> Lowered {
    lower(graph, Target::Any).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The artifact of a lowered graph.
pub(crate) fn bytes_of(lowered: &Lowered) -> Vec<u8> {
    artifact::write(lowered, Target::Any, false).unwrap_or_else(|fault| panic!("{fault}")).to_bytes()
}

/// Compares a graph with its artifact for each size of its symbols, on seeded inputs.
pub(crate) fn check(text: &str, sizes: &[usize], bound: Bound) {
    let graph = graph(text);
    let lowered = lowered(&graph);
    let bytes = bytes_of(&lowered);
    let program = Program::from_bytes(&bytes, &Limits::default()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for &n in sizes {
        let inputs: Vec<Tensor> = graph
            .inputs()
            .iter()
            .zip(1..)
            .map(|(&v, seed)| {
                let ty = graph.ty(v);
                let dims = ty.shape.0.iter().map(|d| d.eval(&|_| Some(n)).expect("every symbol has a value"));
                random::tensor(ty.dtype, &dims.collect::<Vec<_>>(), seed * 77 + n as u64)
            })
            .collect();
        compare(&lowered, &program, &inputs, bound, &format!("n = {n}\n{text}"));
    }
}

/// Compares a graph of one `f32` input with its artifact on the numbers that arithmetic treats specially.
pub(crate) fn check_special(text: &str, bound: Bound) {
    let graph = graph(text);
    let lowered = lowered(&graph);
    let program =
        Program::from_bytes(&bytes_of(&lowered), &Limits::default()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let width = graph.ty(graph.inputs()[0]).shape.0[1].as_const().expect("rows have a fixed width");
    for row in SPECIAL {
        let values: Vec<f32> = (0..2 * width).map(|i| row[i % row.len()]).collect();
        let input = Tensor::new(&[2, width], &values);
        compare(&lowered, &program, &[input], bound, &format!("row {row:?}\n{text}"));
    }
}

/// Rows of numbers with which a formula may go wrong.
const SPECIAL: &[&[f32]] = &[
    &[0.0, -0.0],
    &[f32::NAN, 1.0, -2.0],
    &[f32::INFINITY, 1.0, -0.0],
    &[f32::NEG_INFINITY, f32::INFINITY, 3.5, -0.5],
    &[f32::MIN_POSITIVE, -1e-40, 1e-38],
    &[f32::MAX, f32::MIN, 1.0],
    &[0.5, 1.5, 2.5, -0.5, -1.5, 127.5, -128.5],
    &[88.7, -87.3, 104.0, -150.0, 20.0],
];

/// Compares outputs, accumulators and what quantisers made for one set of inputs, on every set of kernels.
pub(crate) fn compare(lowered: &Lowered, program: &Program, inputs: &[Tensor], bound: Bound, context: &str) {
    let mut values: BTreeMap<NodeId, Vec<Tensor>> = BTreeMap::new();
    let expected = eval::eval_with(&lowered.graph, inputs, &mut |node, outputs| {
        values.insert(node, outputs.to_vec());
    });
    let expected = expected.unwrap_or_else(|e| panic!("{e}: {context}"));
    let reference = Reference { lowered, inputs, values: &values };
    let mut first: Option<Vec<Vec<u8>>> = None;
    for kernels in kernels::available() {
        let context = format!("{} kernels, {context}", kernels.name());
        let mut check = Check { reference: &reference, exact: bound == EXACT, seen: 0, context: &context };
        let outputs = run(program, kernels, inputs, &mut check).unwrap_or_else(|e| panic!("{e}: {context}"));
        for (i, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
            assert_close(found, expected, bound, &format!("output {i}, {context}"));
        }
        let bits: Vec<Vec<u8>> = outputs.into_iter().map(|(_, bytes)| bytes).collect();
        let same = first.get_or_insert_with(|| bits.clone());
        if lowered.program.code.iter().all(|i| is_exact(&i.inst)) {
            assert_eq!(*same, bits, "kernels differ: {context}");
        }
    }
}

/// Whether an instruction has the same bits on every machine.
fn is_exact(inst: &Inst) -> bool {
    !matches!(
        inst,
        Inst::Matmul(_)
            | Inst::Conv2d(_)
            | Inst::Pool2d(_)
            | Inst::Reduce(_)
            | Inst::Softmax(_)
            | Inst::LayerNorm(_)
            | Inst::RmsNorm(_)
    )
}

/// The type and bytes of every output.
pub(crate) fn run(
    program: &Program,
    kernels: &'static dyn Kernels,
    inputs: &[Tensor],
    trace: &mut dyn Trace,
) -> Result<Vec<(DType, Vec<u8>)>, bitc_runtime::RunError> {
    let mut session = Session::with_kernels(program, kernels);
    let views: Vec<View<'_>> =
        inputs.iter().zip(program.inputs()).map(|(t, port)| View::new(port.dtype, t.dims(), t.bytes())).collect();
    let shapes = session.output_shapes(&views)?;
    let len = |dtype, shape: &[usize]| bitc_runtime::len_bytes(dtype, shape).expect("outputs of tests are small");
    let mut outputs: Vec<Vec<u8>> =
        program.outputs().iter().zip(&shapes).map(|(port, s)| vec![0xee; len(port.dtype, s)]).collect();
    let mut views_out: Vec<ViewMut<'_>> = program
        .outputs()
        .iter()
        .zip(&shapes)
        .zip(&mut outputs)
        .map(|((port, shape), bytes)| ViewMut::new(port.dtype, shape, bytes))
        .collect();
    session.run_traced(&views, &mut views_out, trace)?;
    Ok(program.outputs().iter().map(|p| p.dtype).zip(outputs).collect())
}

fn assert_close(found: &(DType, Vec<u8>), expected: &Tensor, bound: Bound, context: &str) {
    let (dtype, bytes) = found;
    assert_eq!(dtype.name(), expected.dtype().name(), "{context}");
    assert_eq!(bytes.len(), expected.bytes().len(), "{context}");
    if !expected.dtype().is_float() {
        assert_eq!(bytes, expected.bytes(), "{context}");
        return;
    }
    let found = Tensor::from_blob(expected.dtype(), expected.dims(), bitc_ir::Blob::new(bytes.clone()));
    let found = found.expect("the lengths are equal").to_f64();
    // A narrow float is rounded to, so it may fall on the neighbour.
    let bound = match expected.dtype() {
        _ if bound == EXACT => EXACT,
        bitc_ir::DType::F16 => bound + 1e-3,
        bitc_ir::DType::BF16 => bound + 1e-2,
        _ => bound,
    };
    for (i, (found, expected)) in found.into_iter().zip(expected.to_f64()).enumerate() {
        let close = found == expected
            || (found.is_nan() && expected.is_nan())
            || (found - expected).abs() <= bound * expected.abs().max(1.0);
        assert!(close, "element {i}: {found} is not {expected}: {context}");
    }
}

/// What the evaluator says about the inside of a run.
struct Reference<'a> {
    lowered: &'a Lowered,
    inputs: &'a [Tensor],
    values: &'a BTreeMap<NodeId, Vec<Tensor>>,
}

impl Reference<'_> {
    fn tensor(&self, value: bitc_ir::ValueId) -> Option<Tensor> {
        let graph = &self.lowered.graph;
        if let Some(i) = graph.inputs().iter().position(|&v| v == value) {
            return Some(self.inputs[i].clone());
        }
        let computed = graph.producer_id(value).and_then(|node| {
            let at = graph.node(node).outputs.iter().position(|&v| v == value)?;
            self.values.get(&node)?.get(at).cloned()
        });
        graph.constant(value).cloned().or(computed)
    }
}

/// Compares accumulators, and where the floats before them are exact also what quantisers made.
struct Check<'a> {
    reference: &'a Reference<'a>,
    exact: bool,
    seen: usize,
    context: &'a str,
}

impl Trace for Check<'_> {
    fn wants_accumulators(&self) -> bool {
        true
    }

    fn executed(&mut self, step: &Executed<'_>) {
        assert_eq!(step.index, self.seen, "{}", self.context);
        self.seen += 1;
        let (graph, program) = (&self.reference.lowered.graph, &self.reference.lowered.program);
        let Some(id) = program.code[step.index].node else { return };
        let node = graph.node(id);
        // An instruction may complete a quantiser and have the sums of the layer before it.
        let layer_of = |id| program.layer_of.get(&id).copied();
        let (layer, product) = match step.inst {
            Inst::BitLinearQuantize(inst) => (layer_of(id), Inst::BitLinear(inst.layer.clone())),
            Inst::BitConv2dQuantize(inst) => (layer_of(id), Inst::BitConv2d(inst.layer.clone())),
            inst => (Some(id), inst.clone()),
        };
        self.sums(layer.expect("a layer stands before its quantiser"), &product, step);
        match (&node.op, step.inst) {
            (Op::QuantizeAct(_), Inst::Quantize(inst)) if self.exact => {
                self.integers(id, inst.q, step);
                for (_, view) in step.outputs.iter().filter(|(buffer, _)| *buffer == inst.scale) {
                    assert_eq!(view.bytes, self.reference.values[&id][1].bytes(), "scales, {}", self.context);
                }
            }
            (Op::QuantizeAct(_), Inst::BitLinearQuantize(inst)) if self.exact => self.integers(id, inst.layer.y, step),
            (Op::QuantizeAct(_), Inst::BitConv2dQuantize(inst)) if self.exact => self.integers(id, inst.layer.y, step),
            _ => {}
        }
    }
}

impl Check<'_> {
    fn input(&self, id: NodeId, i: usize) -> Option<Tensor> {
        self.reference.lowered.graph.input(id, i).and_then(|v| self.reference.tensor(v))
    }

    /// Compares the integers that a quantiser made, and that what pads their rows is zero.
    fn integers(&self, id: NodeId, q: BufferId, step: &Executed<'_>) {
        let expected = &self.reference.values[&id][0];
        for (_, view) in step.outputs.iter().filter(|(buffer, _)| *buffer == q) {
            let row = view.shape.last().copied().unwrap_or(1);
            let rows: usize = view.shape.iter().rev().skip(1).product();
            let pitch = view.bytes.len().checked_div(rows).unwrap_or(0);
            let plain: Vec<u8> = (0..rows).flat_map(|r| view.bytes[r * pitch..][..row].to_vec()).collect();
            assert_eq!(plain, expected.bytes(), "quantised values, {}", self.context);
            assert!((0..rows).all(|r| view.bytes[r * pitch..][row..pitch].iter().all(|&b| b == 0)));
        }
    }

    /// Compares the sums of a layer.
    fn sums(&self, id: NodeId, product: &Inst, step: &Executed<'_>) {
        let input = |i: usize| self.input(id, i);
        match (&self.reference.lowered.graph.node(id).op, product) {
            // Sums of groups are scaled one by one.
            (Op::BitLinear(op), Inst::BitLinear(_)) if op.group > 0 => assert_eq!(step.accumulators, None),
            (Op::BitLinear(_), Inst::BitLinear(_)) if self.exact => {
                let (q, w) = (input(0).expect("q has a value"), input(2).expect("w is constant"));
                let acc = accumulate(&q, &w).expect("the types were checked");
                assert_eq!(step.accumulators.as_deref(), Some(&acc[..]), "accumulators, {}", self.context);
            }
            (Op::BitConv2d(op), Inst::BitConv2d(_)) if self.exact && op.groups == 1 => {
                if matches!(input(1).expect("q_scale has a value").dims(), [_, _, h, w] if h * w > 1) {
                    // With scales of pixels there are no integer sums of whole windows.
                    assert!(step.accumulators.as_ref().is_none_or(Vec::is_empty), "accumulators, {}", self.context);
                    return;
                }
                let (q, w) = (input(0).expect("q has a value"), input(2).expect("w is constant"));
                let (dims, acc) = op.accumulate(&q, &w).expect("the types were checked");
                let (outputs, pixels) = (dims[1], dims[2] * dims[3]);
                // Outputs are innermost in the sums of a run and outside the pixels in the evaluator's.
                let at = |i: usize| (i / (pixels * outputs) * outputs + i % outputs) * pixels + i / outputs % pixels;
                let acc: Vec<i32> = (0..acc.len()).map(|i| acc[at(i)]).collect();
                assert_eq!(step.accumulators.as_deref(), Some(&acc[..]), "accumulators, {}", self.context);
            }
            _ => {}
        }
    }
}
