//! `rewrite-to-ternary`: makes the float layers of a float model ternary, by choice.
//!
//! `linear(x, w, b) ~ linear(dequantize(quantize_act(x)), dequantize(t, s), b)`, and the same for convolutions: another
//! model, close to the first. The method chooses t and s from the weights alone, or from calibration inputs as well; then a
//! scale and a bias per output are refit so that each layer answers the rewritten inputs as the float layer answered the
//! float ones. Models that were trained with quantisation are not for this pass: `ternarize-weights` imports those as they
//! are.
//!
//! Activations get a scale per row, those of a convolution a scale per image. Depthwise convolutions keep their floats
//! unless asked otherwise: three values serve the few weights of a channel badly, and packed they take more bytes than as
//! floats.
//!
//! Layers are rewritten in the order of the graph, each on what the layers before it have become.

mod calibrate;
mod gptq;
mod keep;
mod methods;
mod target;

use bitc_ir::attr::Choice as _;
use bitc_ir::ops::{Binary, BinaryKind, Dequantize};
use bitc_ir::{AttrError, AttrReader, Graph, NodeId, Op, Origin, Tensor, TypeError, ValueId};

use crate::pass::{Changed, Pass, PassCx, PassError, RemarkKind, Values};
use calibrate::{Calibration, Refit};
use keep::{Kept, Place, Rules, places};
use methods::{Matrix, Plane};
use target::Target;

pub use methods::Method;

/// Below this a refit follows its calibration rows rather than what they stand for.
const FEW_ROWS: usize = 32;

/// Why a depthwise convolution is left alone where nobody says what it keeps.
const DEPTHWISE: &str = "a depthwise convolution keeps its floats, which are accurate and take fewer bytes than packed \
                         rows of one channel (--keep depthwise=int8 or depthwise=ternary rewrites it)";

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

/// See the module.
#[derive(Debug)]
pub struct RewriteToTernary {
    method: Method,
    scale: Scale,
    planes: usize,
    keep: Rules,
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
        Ok(Self { method, scale, planes: planes as usize, keep: Rules::from_params(params)? })
    }

    /// Fails if something was asked for that no layer can have, or that would be left out without a word.
    fn check(&self, graph: &Graph, targets: &[Target]) -> Result<(), PassError> {
        if let Some(pattern) = self.keep.idle(targets) {
            let names: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
            let message = format!("`keep`: no layer fits `{pattern}`; the layers are {}", names.join(", "));
            return Err(input_error(&message, &Origin::default()));
        }
        let grouped = |place: &Place<'_>| place.target.is_conv() && self.plan(*place).0 == Kept::Ternary;
        if let (Scale::Group(size), Some(place)) = (self.scale, places(targets).find(grouped)) {
            let message = format!(
                "a convolution has a scale per output or a single one, none per group of inputs: --scale group:{size} does \
                 not suit `{}`; take --scale row, or --keep convolutions=int8",
                place.target.name
            );
            return Err(input_error(&message, &graph.node(place.target.node).origin));
        }
        Ok(())
    }

    /// What becomes of a layer, and why where nobody asked for it.
    fn plan(&self, place: Place<'_>) -> (Kept, Option<&'static str>) {
        match self.keep.asked(place) {
            Some(kept) => (kept, None),
            None if place.target.is_depthwise() => (Kept::Float, Some(DEPTHWISE)),
            None => (Kept::Ternary, None),
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
        let targets = Target::all(graph);
        let Some(first) = targets.first() else {
            if let Some(node) = graph.nodes().map(|(id, _)| id).next_back() {
                let warning =
                    "nothing was rewritten: the model has no linear layer or convolution of constant float weights";
                cx.remark(graph, node, "nothing", RemarkKind::Warning(warning.to_owned()));
            }
            return Ok(Changed::No);
        };
        self.check(graph, &targets)?;
        if self.method == Method::Gptq && cx.calibration().is_empty() {
            let message = "method `gptq` needs calibration inputs (--calib)";
            return Err(input_error(message, &Origin::default()));
        }
        let mut float = Calibration::of_float_layers(graph, &targets, cx.calibration())?;
        if let Some(rows) = float.rows() {
            if rows == 0 {
                return Err(input_error("the calibration inputs have no rows", &Origin::default()));
            }
            if rows < FEW_ROWS {
                let warning = format!(
                    "{rows} calibration rows are few: layers are fit to them rather than to the task; some hundred are usual"
                );
                cx.remark(graph, first.node, "few-rows", RemarkKind::Warning(warning));
            }
        }
        if cx.calibration().is_empty() && has_attention_or_residuals(graph) {
            let warning = "rewritten without calibration, but the model has attention or residual blocks: expect to lose \
                           much accuracy; give calibration inputs (--calib) or --planes 2";
            cx.remark(graph, first.node, "data-free", RemarkKind::Warning(warning.to_owned()));
        }
        let mut changed = Changed::No;
        for (i, place) in places(&targets).enumerate() {
            let target = place.target;
            let (kept, reason) = self.plan(place);
            if kept == Kept::Float || !cx.take_rewrite() {
                let reason = reason.unwrap_or("kept in float as asked");
                cx.remark(graph, target.node, "rewrite", RemarkKind::Blocked(reason.into()));
                continue;
            }
            let inputs = float.inputs_now(graph, target)?;
            let outputs = float.outputs_of(i);
            let note = self.rewrite_layer(graph, target, kept, inputs.as_deref(), outputs)?;
            cx.remark(graph, target.node, "rewrite", RemarkKind::Note(note));
            changed = Changed::Yes;
        }
        Ok(changed)
    }
}

impl RewriteToTernary {
    /// The integers and scales that stand for the weights of a layer.
    fn planes_of(
        &self,
        target: &Target,
        w: &Matrix,
        kept: Kept,
        inputs: Option<&[Matrix]>,
    ) -> Result<Vec<Plane>, String> {
        match (kept, inputs) {
            (Kept::Int8, _) => Ok(vec![Plane::int8(w)]),
            (_, Some(inputs)) if self.method == Method::Gptq => {
                // Each group of channels has inputs of its own.
                let parts = inputs.iter().zip(w.parts(target.groups()));
                let planes: Vec<Plane> =
                    parts.map(|(x, w)| gptq::quantize(&w, x, self.scale)).collect::<Result<_, _>>()?;
                Ok(Plane::stacked(planes).into_iter().collect())
            }
            _ => Ok(methods::residual_planes(w, self.method, self.scale, self.planes)),
        }
    }

    /// Replaces one layer; returns what to say about it.
    fn rewrite_layer(
        &self,
        graph: &mut Graph,
        target: &Target,
        kept: Kept,
        inputs: Option<&[Matrix]>,
        outputs: Option<&Matrix>,
    ) -> Result<String, PassError> {
        let at = graph.node(target.node).clone();
        let w = target.weights(graph).ok_or_else(|| input_error("its weights are not finite numbers", &at.origin))?;
        let planes = self.planes_of(target, &w, kept, inputs).map_err(|message| input_error(&message, &at.origin))?;
        let approximate = methods::sum_of(&planes, w.rows, w.columns);
        let weight_error = approximate.relative_error(&w);
        let bias = at.inputs.get(2).copied().flatten().and_then(|v| graph.constant(v)).map(Tensor::to_f64);
        let refit = inputs.zip(outputs).map(|(x, y)| Refit::of(&approximate.products_of(x), y));
        let mut note = format!(
            "{} by {}, weight error {weight_error:.3}",
            match (kept, planes.len()) {
                (Kept::Int8, _) => "int8",
                (_, 1) => "ternary",
                _ => "two ternary planes",
            },
            if kept == Kept::Int8 { "largest magnitude per row" } else { self.method.word() },
        );
        if let Some(refit) = &refit {
            note.push_str(&match refit.error {
                Some((before, after)) => format!(", output error {before:.3} before and {after:.3} after the refit"),
                None => ", its outputs are the same for every calibration row".to_owned(),
            });
        }
        let retyped = |error| PassError::Retyped { pass: Self::NAME, rule: "rewrite", error };
        let new = build(graph, target, &planes, bias, refit.as_ref()).map_err(retyped)?;
        let old = at.outputs[0];
        graph.replace_uses(old, new).map_err(retyped)?;
        // The method outlives the rewrite: an artifact says how its weights came to take few bits.
        let method = if kept == Kept::Int8 { "int8" } else { self.method.word() };
        graph.meta.insert(format!("method of {}", target.name), method.to_owned());
        graph.take_name(old, new);
        Ok(note)
    }
}

/// The layer in its rewritten form: one product per plane, the bias on the last.
fn build(
    graph: &mut Graph,
    target: &Target,
    planes: &[Plane],
    bias: Option<Vec<f64>>,
    refit: Option<&Refit>,
) -> Result<ValueId, TypeError> {
    let at = graph.node(target.node).clone();
    let name = at.inputs[1].map_or_else(String::new, |v| graph.value(v).name.clone());
    let mark = graph.mark();
    let q = graph.add_nodes(&[], target.quantizer(), &[at.inputs[0]])?;
    let x = graph.add_node("", Dequantize::default(), &[Some(q[0]), Some(q[1])])?;
    let bias = match refit {
        Some(refit) => Some(refit.shift.clone()),
        None => bias,
    };
    let gains = refit.map_or(&[][..], |r| &r.gain[..]);
    let mut sum = None;
    for (i, plane) in planes.iter().enumerate() {
        let last = i + 1 == planes.len();
        let suffix = if i == 0 { String::new() } else { format!(".plane{}", i + 1) };
        let (integers, scale) = target.tensors(plane, gains)?;
        let t = graph.add_const(&format!("{name}{suffix}"), integers);
        let s = graph.add_const(&format!("{name}{suffix}.scale"), scale);
        let w = graph.add_node("", Dequantize { group: plane.group }, &[Some(t), Some(s)])?;
        let b = bias.as_ref().filter(|_| last).map(|b| {
            let b: Vec<f32> = b.iter().map(|&v| v as f32).collect();
            graph.add_const(&format!("{name}.bias"), Tensor::new(&[b.len()], &b))
        });
        let y = graph.add_node("", target.op.clone(), &[Some(x), Some(w), b])?;
        sum = Some(match sum {
            None => y,
            Some(before) => graph.add_node("", Binary(BinaryKind::Add), &[Some(before), Some(y)])?,
        });
    }
    for new in graph.nodes_since(mark).collect::<Vec<_>>() {
        graph.merge_origin(new, &at.origin);
    }
    sum.ok_or_else(|| TypeError::new("at least one plane", "none"))
}

fn input_error(message: &str, origin: &Origin) -> PassError {
    PassError::Input { message: message.to_owned(), origin: origin.clone() }
}

/// Products and sums of two computed values, which is what attention and residual blocks are made of. Sums of what came of
/// one node of the source are part of a layer.
fn has_attention_or_residuals(graph: &Graph) -> bool {
    let source = |node: NodeId| graph.node(node).origin.names().first();
    let parts_of_one = |id: NodeId| {
        let mut producers = graph.node(id).inputs.iter().flatten().map(|&v| graph.producer_id(v).and_then(source));
        source(id).is_some() && producers.all(|name| name == source(id))
    };
    let computed =
        |id: NodeId| graph.node(id).inputs.iter().flatten().filter(|&&v| graph.constant(v).is_none()).count() > 1;
    graph.nodes().any(|(id, n)| match &n.op {
        Op::MatMul(_) => computed(id),
        Op::Binary(op) => op.0 == BinaryKind::Add && computed(id) && !parts_of_one(id),
        _ => false,
    })
}
