//! A graph out to ONNX, and the proof that the file means what the source means.
//!
//! The written bytes are read back as any file is and evaluated on random inputs beside the source. Where the file has
//! operators of `ai.bitc`, or definitions in their place, it is read twice: once by the operators, once by their bodies,
//! as an engine does that does not know them.

use bitc_ir::{Blob, Facts, Graph, Op, Tensor};
use bitc_onnx::export::{self as onnx, DataFile, Form};
use bitc_onnx::import::{Options as ImportOptions, import};

use crate::compile;
use crate::error::{Diagnostic, Failure, quoted};
use crate::frontend::onnx::failure as import_failure;
use crate::pipeline::Pipeline;
use crate::runnable;
use crate::verify::{self, OutputDifference, Tolerance};

/// What an export may be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the model is made of.
    pub form: Form,
    /// The opset; by the form if absent.
    pub opset: Option<i64>,
    /// The name of the file beside the model for its weights, if they shall or must go there.
    pub data_name: Option<String>,
    /// Move weights there even where the model is small.
    pub external_data: bool,
}

/// An exported model.
#[derive(Debug)]
pub struct Exported {
    /// The bytes of the model.
    pub model: Vec<u8>,
    /// Its weights, where they live beside it.
    pub data: Option<DataFile>,
}

/// A model of more bytes of weights keeps them beside itself: a protobuf message ends at 2 GiB.
const INSIDE_LIMIT: u64 = 1 << 30;

/// The passes that come before an export: those of an artifact, but layers of tables stay layers, and operations that
/// the runtime does not have may stay.
pub fn pipeline(mut pipeline: Pipeline) -> Pipeline {
    if pipeline.name == "default" {
        pipeline.steps.retain(|s| !matches!(s.pass, "lut-to-logic" | "optimize-logic"));
    }
    pipeline.goal = Facts::NO_TRAINABLE | Facts::FROZEN;
    pipeline
}

/// Writes a graph as ONNX.
///
/// # Errors
/// Every node that the form cannot say; or an opset that the form does not have.
pub fn export(graph: &Graph, options: &Options) -> Result<Exported, Failure> {
    let form = options.form;
    let range = form.oldest_opset()..=onnx::NEWEST_OPSET;
    if let Some(opset) = options.opset.filter(|o| !range.contains(o)) {
        let wrong = Diagnostic::usage(format!("form `{}` is not written in opset {opset}", form.name()));
        return Err(wrong.expected(format!("{} to {}", range.start(), range.end())).into());
    }
    let settings = onnx::Options { form, opset: options.opset, version: env!("CARGO_PKG_VERSION").to_owned() };
    let mut model = onnx::export(graph, &settings).map_err(|refusals| {
        let faults = refusals.iter().map(|r| refused(r, form)).collect();
        Failure::check(faults).err().unwrap_or_else(|| Diagnostic::bug("an export failed without a fault").into())
    })?;
    let weights = onnx::weight_bytes(&model);
    let mut data = None;
    if options.external_data || weights > INSIDE_LIMIT {
        let Some(name) = &options.data_name else {
            return Err(Diagnostic::usage("these weights need a file beside the model")
                .found(format!("{weights} bytes of weights"))
                .hint("`-o FILE.onnx` says where")
                .into());
        };
        data = Some(DataFile::take_from(&mut model, name)).filter(|d| !d.is_empty());
    }
    Ok(Exported { model: onnx::encode(&model), data })
}

fn refused(refusal: &onnx::Refusal, form: Form) -> Diagnostic {
    let what = if refusal.op.is_empty() { String::new() } else { format!("`{}`: ", refusal.op) };
    let mut d = Diagnostic::unsupported(format!("form `{}` cannot say {what}{}", form.name(), refusal.reason));
    if !refusal.node.is_empty() {
        d = d.node(refusal.node.as_str());
    }
    if !refusal.origin.is_empty() {
        d = d.origin(refusal.origin.as_str());
    }
    d
}

/// How a written model compares with its source.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// It was read back and evaluated; these are the outputs of the worst reading.
    Compared(Vec<OutputDifference>),
    /// It holds an operation that has no meaning here.
    Unknown(String),
}

/// The largest part of the rows that may differ by activations rounded to the other side, and by how much.
const FLIPPED_ROWS: usize = 8;
const FLIP_BOUND: f64 = 0.05;
/// How many samples are compared.
const SAMPLES: u64 = 2;

/// Reads a written model back and compares its values with those of `source`.
///
/// # Errors
/// If it cannot be read, or its values differ by more than rounding.
pub fn check(exported: &Exported, source: &Graph, form: Form) -> Result<Check, Failure> {
    let custom = |g: &Graph| {
        g.nodes().find_map(|(_, n)| if let Op::Custom(c) = &n.op { Some(c.qualified_name()) } else { None })
    };
    if let Some(name) = custom(source) {
        return Ok(Check::Unknown(name));
    }
    let samples = (0..SAMPLES).map(|seed| sample(source, seed)).collect::<Result<Vec<_>, _>>()?;
    let mut worst: Vec<OutputDifference> = Vec::new();
    let readings: &[bool] = if matches!(form, Form::Functions | Form::Inline) { &[false, true] } else { &[false] };
    for &bodies in readings {
        let written = read_back(exported, bodies)?;
        for (inputs, expected) in &samples {
            let found = eval(&written, inputs)?;
            let names = source.outputs().iter().map(|o| o.name.as_str());
            for (i, (name, (a, b))) in names.zip(expected.iter().zip(&found)).enumerate() {
                let difference = verify::difference(name, a, b, Tolerance::default());
                if !agrees(&difference, source) {
                    let what =
                        if bodies { "the bodies of the exported model compute" } else { "the exported model computes" };
                    let differ = Diagnostic::bug(format!("{what} other values than the source"));
                    return Err(differ.node(name).found(format!("{:e}", difference.max_abs)).into());
                }
                match worst.get_mut(i) {
                    Some(known) if known.max_abs >= difference.max_abs => {}
                    Some(known) => *known = difference,
                    None => worst.push(difference),
                }
            }
        }
    }
    Ok(Check::Compared(worst))
}

/// Random inputs and what the source makes of them. Integers may be indices into something small: where the source cannot
/// take the random ones, they are made 0 and 1, then 0.
fn sample(source: &Graph, seed: u64) -> Result<(Vec<Tensor>, Vec<Tensor>), Failure> {
    let inputs = compile::sample(source, seed)?;
    let first = match bitc_ir::eval::eval(source, &inputs) {
        Ok(outputs) => return Ok((inputs, outputs)),
        Err(fault) => runnable::eval_error(&fault),
    };
    for below in [2, 1] {
        let inputs: Vec<Tensor> = inputs.iter().map(|t| narrowed(t, below)).collect();
        if let Ok(outputs) = bitc_ir::eval::eval(source, &inputs) {
            return Ok((inputs, outputs));
        }
    }
    Err(first.hint("`--no-check` writes the file without comparing values").into())
}

/// The same tensor with indices from 0 up to a bound.
fn narrowed(tensor: &Tensor, below: i64) -> Tensor {
    let wide = tensor.to_vec::<i64>().map(|v| v.into_iter().map(|i| i.rem_euclid(below)).collect::<Vec<_>>());
    if let Some(values) = wide {
        return Tensor::new(tensor.dims(), &values);
    }
    let narrow = tensor.to_vec::<i32>().map(|v| v.into_iter().map(|i| i.rem_euclid(below as i32)).collect::<Vec<_>>());
    narrow.map_or_else(|| tensor.clone(), |values| Tensor::new(tensor.dims(), &values))
}

/// Whether a difference is rounding, or rounding flips where activations are quantised.
fn agrees(d: &OutputDifference, source: &Graph) -> bool {
    let rounds = |g: &Graph| {
        g.nodes().any(|(_, n)| matches!(&n.op, Op::QuantizeAct(_)) || matches!(n.op.name(), "round" | "floor" | "cast"))
    };
    let flips = d.mismatch.is_none() && d.max_relative <= FLIP_BOUND && d.rows.len() <= d.n_rows.div_ceil(FLIPPED_ROWS);
    d.rows.is_empty() || (flips && rounds(source))
}

/// The graph of a written model.
///
/// # Errors
/// If it cannot be read, which is a fault of bitc.
pub fn read_back(exported: &Exported, bodies: bool) -> Result<Graph, Failure> {
    let mut data = exported.data.clone().unwrap_or_default();
    let options = ImportOptions { bodies, ..ImportOptions::default() };
    let imported = import(&Blob::new(exported.model.clone()), &mut data, &options);
    let imported = imported.map_err(|e| {
        let failure = import_failure(&e);
        let first = failure.diagnostics().first().map(|d| d.message.clone()).unwrap_or_default();
        let node = failure.diagnostics().first().and_then(|d| d.node.clone()).unwrap_or_default();
        Failure::from(Diagnostic::bug(format!("the exported model cannot be read back: {first}")).node(node))
    })?;
    Ok(imported.graph)
}

fn eval(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
    Ok(bitc_ir::eval::eval(graph, inputs).map_err(|e| runnable::eval_error(&e))?)
}

/// The form of a name.
///
/// # Errors
/// If there is none.
pub fn form(name: &str) -> Result<Form, Diagnostic> {
    let names = || Form::ALL.iter().map(|f| f.name());
    Form::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
        let unknown = Diagnostic::usage(format!("there is no form {}", quoted(name)));
        unknown.expected(names().collect::<Vec<_>>().join(", ")).suggest(name, names())
    })
}
