//! `rewrite-to-ternary`: makes the float layers of a float model ternary, by choice.
//!
//! `linear(x, w, b) ~ linear(dequantize(quantize_act(x)), dequantize(t, s), b)`: another model, close to the first. The
//! method chooses t and s from the weights alone, or from calibration inputs as well; then a scale and a bias per output
//! are refit so that each layer answers the rewritten inputs as the float layer answered the float ones. Models that were
//! trained with quantisation are not for this pass: `ternarize-weights` imports those as they are.
//!
//! Layers are rewritten in the order of the graph, each on what the layers before it have become.

mod calibrate;
mod gptq;
mod methods;

use bitc_ir::ops::quantize_act::QuantizeAct;
use bitc_ir::ops::{Activation, Binary, BinaryKind, Dequantize, Linear};
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op, Origin, Tensor, ValueId};

use crate::pass::{Changed, Pass, PassCx, PassError, RemarkKind, Values};
use calibrate::{Calibration, Refit};
use methods::{Matrix, Plane};

pub use methods::Method;

/// Below this a refit follows its calibration rows rather than what they stand for.
const FEW_ROWS: usize = 32;

/// Which weights of a layer share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scale {
    /// All of them.
    Tensor,
    /// Those of one output.
    Row,
    /// So many neighbouring inputs of one output.
    Group(usize),
}

impl Scale {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "tensor" => Some(Scale::Tensor),
            None if text == "row" => Some(Scale::Row),
            Some(("group", size)) => size.parse().ok().filter(|n| (4..=1 << 20).contains(n)).map(Scale::Group),
            _ => None,
        }
    }
}

/// What becomes of a layer that is not made ternary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    Float,
    Int8,
}

/// See the module.
#[derive(Debug)]
pub struct RewriteToTernary {
    method: Method,
    scale: Scale,
    planes: usize,
    /// Patterns over layer names and what they keep; `first` and `last` are by position.
    keep: Vec<(String, Kept)>,
}

impl RewriteToTernary {
    pub(crate) const NAME: &'static str = "rewrite-to-ternary";
    pub(crate) const DOC: &'static str = "Makes the float layers of a float model ternary, by choice; values change.";

    pub(crate) fn from_params(params: &mut AttrReader) -> Result<Self, AttrError> {
        let planes = params.int("planes")?.unwrap_or(1);
        if !(1..=2).contains(&planes) {
            return Err(params.invalid("planes", "1 or 2", planes));
        }
        let text = params.str("scale")?.unwrap_or_else(|| "row".to_owned());
        let wrong =
            |params: &AttrReader| params.invalid("scale", "`tensor`, `row` or `group:N` with N of 4 or more", &text);
        let scale = Scale::parse(&text).ok_or_else(|| wrong(params))?;
        let method = params.choice("method")?.unwrap_or(Method::Optimal);
        if method == Method::Gptq && planes > 1 {
            return Err(params.invalid("planes", "1 with method `gptq`", planes));
        }
        let mut keep = Vec::new();
        for rule in params.str("keep")?.unwrap_or_default().split(',').filter(|s| !s.is_empty()) {
            let (pattern, kept) = match rule.split_once('=') {
                None | Some((_, "f32")) => (rule.split('=').next().unwrap_or(rule), Kept::Float),
                Some((pattern, "int8")) => (pattern, Kept::Int8),
                Some((_, other)) => {
                    return Err(params.invalid("keep", "`=f32` or `=int8` after a pattern", format!("`{other}`")));
                }
            };
            keep.push((pattern.to_owned(), kept));
        }
        Ok(Self { method, scale, planes: planes as usize, keep })
    }

    fn kept(&self, name: &str, position: usize, count: usize) -> Option<Kept> {
        self.keep.iter().find(|(pattern, _)| fits(pattern, name, position, count)).map(|&(_, kept)| kept)
    }

    /// Fails if a pattern names no layer: what it should have kept would be rewritten without a word.
    fn check_patterns(&self, names: &[String]) -> Result<(), PassError> {
        let used = |pattern: &str| names.iter().enumerate().any(|(i, name)| fits(pattern, name, i, names.len()));
        match self.keep.iter().find(|(pattern, _)| !used(pattern)) {
            None => Ok(()),
            Some((pattern, _)) => {
                let message = format!("`keep`: no layer fits `{pattern}`; the layers are {}", names.join(", "));
                Err(PassError::Input { message, origin: Origin::default() })
            }
        }
    }
}

impl Pass for RewriteToTernary {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Free
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let layers: Vec<NodeId> = graph.nodes().filter(|(id, _)| is_target(graph, *id)).map(|(id, _)| id).collect();
        for conv in convolutions(graph) {
            let reason = "only linear layers are rewritten; a convolution keeps its floats";
            cx.remark(graph, conv, "rewrite", RemarkKind::Blocked(reason.into()));
        }
        if layers.is_empty() {
            if let Some(node) = graph.nodes().map(|(id, _)| id).next_back() {
                let warning = "nothing was rewritten: the model has no linear layer of constant float weights";
                cx.remark(graph, node, "nothing", RemarkKind::Warning(warning.to_owned()));
            }
            return Ok(Changed::No);
        }
        let names: Vec<String> = layers.iter().map(|&n| layer_name(graph, n)).collect();
        self.check_patterns(&names)?;
        if self.method == Method::Gptq && cx.calibration().is_empty() {
            let message = "method `gptq` needs calibration inputs (--calib)".to_owned();
            return Err(PassError::Input { message, origin: Origin::default() });
        }
        let float = Calibration::of_float_layers(graph, &layers, cx.calibration())?;
        if let Some(rows) = float.rows() {
            if rows == 0 {
                let message = "the calibration inputs have no rows".to_owned();
                return Err(PassError::Input { message, origin: Origin::default() });
            }
            if rows < FEW_ROWS {
                let warning = format!(
                    "{rows} calibration rows are few: layers are fit to them rather than to the task; some hundred are usual"
                );
                cx.remark(graph, layers[0], "few-rows", RemarkKind::Warning(warning));
            }
        }
        if cx.calibration().is_empty() && has_attention_or_residuals(graph) {
            let warning = "rewritten without calibration, but the model has attention or residual blocks: expect to lose \
                           much accuracy; give calibration inputs (--calib) or --planes 2";
            cx.remark(graph, layers[0], "data-free", RemarkKind::Warning(warning.to_owned()));
        }
        let mut changed = Changed::No;
        for (position, &node) in layers.iter().enumerate() {
            let name = layer_name(graph, node);
            let kept = self.kept(&name, position, layers.len());
            if kept == Some(Kept::Float) || !cx.take_rewrite() {
                cx.remark(graph, node, "rewrite", RemarkKind::Blocked("kept in float as asked".into()));
                continue;
            }
            let inputs = float.inputs_now(graph, node, cx.calibration())?;
            let note = self.rewrite_layer(graph, node, kept, inputs.as_ref(), float.outputs_of(position))?;
            cx.remark(graph, node, "rewrite", RemarkKind::Note(note));
            changed = Changed::Yes;
        }
        Ok(changed)
    }
}

impl RewriteToTernary {
    /// Replaces one layer; returns what to say about it.
    fn rewrite_layer(
        &self,
        graph: &mut Graph,
        node: NodeId,
        kept: Option<Kept>,
        inputs: Option<&Matrix>,
        outputs: Option<&Matrix>,
    ) -> Result<String, PassError> {
        let at = graph.node(node).clone();
        let w = at.inputs[1].and_then(|v| graph.constant(v)).cloned();
        let w = w
            .and_then(|w| Matrix::of(&w))
            .ok_or_else(|| input_error("its weights are not a constant matrix", &at.origin))?;
        let quantized = inputs.map(|x| x.quantized(&QuantizeAct::default()));
        let planes = match (kept, &quantized) {
            (Some(_), _) => vec![Plane::int8(&w)],
            (None, Some(x)) if self.method == Method::Gptq => {
                vec![gptq::quantize(&w, x, self.scale).map_err(|message| input_error(&message, &at.origin))?]
            }
            (None, _) => methods::residual_planes(&w, self.method, self.scale, self.planes),
        };
        let approximate = methods::sum_of(&planes, w.rows, w.columns);
        let weight_error = approximate.relative_error(&w);
        let bias = at.inputs.get(2).copied().flatten().and_then(|v| graph.constant(v)).map(Tensor::to_f64);
        let refit = match (&quantized, outputs) {
            (Some(x), Some(y)) => Some(Refit::of(&x.times_transposed(&approximate), y)),
            _ => None,
        };
        let mut note = format!(
            "{} by {}, weight error {weight_error:.3}",
            match (kept, planes.len()) {
                (Some(_), _) => "int8",
                (None, 1) => "ternary",
                (None, _) => "two ternary planes",
            },
            if kept.is_some() { "largest magnitude per row" } else { bitc_ir::attr::Choice::word(self.method) },
        );
        if let Some(refit) = &refit {
            note.push_str(&match refit.error {
                Some((before, after)) => format!(", output error {before:.3} before and {after:.3} after the refit"),
                None => ", its outputs are the same for every calibration row".to_owned(),
            });
        }
        let name = at.inputs[1].map_or_else(String::new, |v| graph.value(v).name.clone());
        let new = build(graph, &at, &name, &planes, bias, refit.as_ref()).map_err(|e| PassError::Retyped {
            pass: Self::NAME,
            rule: "rewrite",
            error: e,
        })?;
        let old = at.outputs[0];
        graph.replace_uses(old, new).map_err(|error| PassError::Retyped {
            pass: Self::NAME,
            rule: "rewrite",
            error,
        })?;
        // The method outlives the rewrite: an artifact says how its weights came to take few bits.
        let method = if kept.is_some() { "int8" } else { bitc_ir::attr::Choice::word(self.method) };
        graph.meta.insert(format!("method of {}", layer_name(graph, node)), method.to_owned());
        graph.take_name(old, new);
        Ok(note)
    }
}

/// The layer in its rewritten form: one product per plane, the bias on the last.
fn build(
    graph: &mut Graph,
    at: &bitc_ir::Node,
    name: &str,
    planes: &[Plane],
    bias: Option<Vec<f64>>,
    refit: Option<&Refit>,
) -> Result<ValueId, bitc_ir::TypeError> {
    let Op::Linear(op) = &at.op else { return Err(bitc_ir::TypeError::new("a linear layer", at.op.name())) };
    let mark = graph.mark();
    let q = graph.add_nodes(&[], QuantizeAct::default(), &[at.inputs[0]])?;
    let x = graph.add_node("", Dequantize::default(), &[Some(q[0]), Some(q[1])])?;
    let bias = match refit {
        Some(refit) => Some(refit.shift.clone()),
        None => bias,
    };
    let mut sum = None;
    for (i, plane) in planes.iter().enumerate() {
        let last = i + 1 == planes.len();
        let suffix = if i == 0 { String::new() } else { format!(".plane{}", i + 1) };
        let gains = refit.map_or(&[][..], |r| &r.gain[..]);
        let t = graph.add_const(&format!("{name}{suffix}"), plane.tensor());
        let s = graph.add_const(&format!("{name}{suffix}.scale"), plane.scale_tensor(gains));
        let w = graph.add_node("", Dequantize { group: plane.group }, &[Some(t), Some(s)])?;
        let b = bias.as_ref().filter(|_| last).map(|b| {
            let b: Vec<f32> = b.iter().map(|&v| v as f32).collect();
            graph.add_const(&format!("{name}.bias"), Tensor::new(&[b.len()], &b))
        });
        let act = if last && planes.len() == 1 { op.act } else { Activation::None };
        let y = graph.add_node("", Linear { act }, &[Some(x), Some(w), b])?;
        sum = Some(match sum {
            None => y,
            Some(before) => graph.add_node("", Binary(BinaryKind::Add), &[Some(before), Some(y)])?,
        });
    }
    for new in graph.nodes_since(mark).collect::<Vec<_>>() {
        graph.merge_origin(new, &at.origin);
    }
    sum.ok_or_else(|| bitc_ir::TypeError::new("at least one plane", "none"))
}

fn input_error(message: &str, origin: &Origin) -> PassError {
    PassError::Input { message: message.to_owned(), origin: origin.clone() }
}

/// A linear layer with constant float weights and nothing after the sum yet.
fn is_target(graph: &Graph, node: NodeId) -> bool {
    let at = graph.node(node);
    let constant = |i: usize| graph.input(node, i).and_then(|v| graph.constant(v));
    let Op::Linear(op) = &at.op else { return false };
    let no_bias = at.inputs.get(2).copied().flatten().is_none();
    op.act == Activation::None
        && constant(1).is_some_and(|w| w.dtype() == DType::F32 && w.numel() > 0)
        && (no_bias || constant(2).is_some())
}

/// Convolutions with constant float weights.
fn convolutions(graph: &Graph) -> Vec<NodeId> {
    let weights = |id: NodeId| graph.input(id, 1).and_then(|w| graph.constant(w));
    let float = |id: &NodeId| weights(*id).is_some_and(|w| w.dtype() == DType::F32);
    graph.nodes().filter(|(_, n)| matches!(n.op, Op::Conv2d(_))).map(|(id, _)| id).filter(float).collect()
}

/// The name by which a user knows a layer: its origin, else its result.
fn layer_name(graph: &Graph, node: NodeId) -> String {
    let at = graph.node(node);
    at.origin.names().first().cloned().unwrap_or_else(|| graph.value(at.outputs[0]).name.clone())
}

/// Products and sums of two computed values, which is what attention and residual blocks are made of.
fn has_attention_or_residuals(graph: &Graph) -> bool {
    let computed =
        |id: NodeId| graph.node(id).inputs.iter().flatten().filter(|&&v| graph.constant(v).is_none()).count() > 1;
    graph.nodes().any(|(id, n)| match &n.op {
        Op::MatMul(_) => computed(id),
        Op::Binary(op) => op.0 == BinaryKind::Add && computed(id),
        _ => false,
    })
}

/// Whether a pattern means the layer of that name and position.
fn fits(pattern: &str, name: &str, position: usize, count: usize) -> bool {
    match pattern {
        "first" => position == 0,
        "last" => position + 1 == count,
        glob => matches_glob(glob, name),
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, fits) in [
            ("fc1", "fc1", true),
            ("fc1", "fc10", false),
            ("*", "", true),
            ("block*.fc*", "block3.fc1", true),
            ("*head", "lm_head", true),
            ("*head", "header", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches_glob(pattern, name), fits, "{pattern} {name}");
        }
    }
}
