//! `model_type: ..`: DiffLUT's ModelConfig as its users have it, in both generations.
//!
//! Only what changes inference is read strictly: shapes come from the tensors, connections are never drawn again, and an
//! encoder is never fitted again. Training settings and keys nobody knows are answered with one warning each time.

use std::collections::BTreeMap;

use bitc_ir::ops::{GroupSum, Lut};
use bitc_ir::{DType, Dim, Graph, Origin, Tensor, TensorType, ValueId};

use super::document::{Node, Value};
use super::encoder::{self, Encoder, KINDS};
use super::fields::{Faults, Fields};
use super::lut_network::check_connections;
use super::{Imported, Options, Source};
use crate::error::{Diagnostic, Failure, quoted};
use crate::frontend::Reals;
use crate::npy;
use crate::weights::{self, StateDict};

mod mixed;
mod nodes;

use nodes::{NODES, NodeKind, Settings, Tables};

/// What the configuration says that matters for inference.
struct Config {
    node: NodeKind,
    learnable: bool,
    widths: usize,
    classes: usize,
    input_size: Option<usize>,
    encoder: Option<Encoder>,
    settings: Settings,
    tau: Option<f32>,
}

/// Settings of `runtime` that inference reads.
const RUNTIME: [&str; 4] = ["output_tau", "activation", "skip_interval", "max_amplitude"];

/// Why other settings change nothing, for those a user may set.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("temperature", "it scales what is compared with zero, and not its sign"),
    ("eval_mode", "the library stores it and evaluates the same table in every mode"),
    ("flip_probability", "it acts in training only"),
    ("grad_stabilization", "it acts in training only"),
    ("regularizers", "they act in training only"),
    ("seed", "connections are read from the weights"),
    ("use_cuda", "the result does not depend on the device"),
];

/// Whether inference reads a setting of that name, or is known not to.
pub(super) fn is_setting(key: &str) -> bool {
    RUNTIME.contains(&key) || WITHOUT_EFFECT.iter().any(|(k, _)| *k == key)
}

/// Whether a document is a ModelConfig.
pub(super) fn recognises(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.iter().any(|e| e.key == "model_type"))
}

/// Reads the configuration and its weights.
pub(super) fn import(node: &Node, source: &Source, options: &Options) -> Result<Imported, Failure> {
    let faults = Faults::default();
    let mut warnings = Vec::new();
    let config = read(node, options, &faults, &mut warnings);
    Failure::check(faults.into_inner())?;
    // A model that is given by name has its weights beside it, under the same name.
    let beside = || {
        let files = ["safetensors", "pt", "pth"].map(|extension| source.path.with_extension(extension));
        files.into_iter().find(|path| path.is_file())
    };
    let Some(path) = options.weights.clone().or_else(beside) else {
        let d = Diagnostic::wrong_input("this configuration needs trained weights");
        let hint = "give `--weights FILE` with the state dict, its encoder included, or keep it beside the configuration under its name";
        return Err(d.hint(hint).into());
    };
    let dict = weights::read(&path)?;
    let stem = source.path.file_stem().and_then(|s| s.to_str()).unwrap_or("difflut");
    let file = path.display().to_string();
    let graph = build(stem, &config, &dict, options, &mut warnings).map_err(|d| d.file(file.as_str()))?;
    Ok(Imported { graph, warnings })
}

fn read(node: &Node, options: &Options, faults: &Faults, warnings: &mut Vec<Diagnostic>) -> Config {
    let mut fields = Fields::of(node, "the model", faults);
    let feedforward =
        fields.choice("model_type", &[("feedforward", true), ("SimpleFeedForward", true), ("convolutional", false)]);
    if feedforward == Some(false) {
        let d = Diagnostic::unsupported("convolutional DiffLUT models are not read from YAML");
        fields.fault(fields.place, d.hint("describe the unrolled network with `model: lut_network`"));
    }
    let learnable = fields.choice("layer_type", &[("random", false), ("learnable", true)]).unwrap_or(false);
    let node_kind = fields.choice("node_type", NODES).unwrap_or(NodeKind::Probabilistic);
    let classes = fields.required_size("num_classes");
    let input_size = fields.size("input_size", 1);
    let widths = match fields.node("layer_widths").map(|n| &n.value) {
        Some(Value::List(items)) => items.len(),
        Some(_) => {
            fields.fault(fields.place, Diagnostic::wrong_input("`layer_widths` is a list of sizes"));
            1
        }
        None => 2,
    };
    fields.size("node_input_dim", 1);
    let encoder = fields.node("encoder_config").and_then(|n| read_encoder(n, input_size, faults, warnings));
    let (settings, tau) = read_runtime(&mut fields, options, faults, warnings);
    for known in ["seed", "dataset", "metadata", "pretrained", "pretrained_name"] {
        fields.node(known);
    }
    note_unread(&fields, "the model", warnings);
    Config { node: node_kind, learnable, widths, classes, input_size, encoder, settings, tau }
}

fn read_encoder(
    node: &Node,
    features: Option<usize>,
    faults: &Faults,
    warnings: &mut Vec<Diagnostic>,
) -> Option<Encoder> {
    let mut fields = Fields::of(node, "`encoder_config`", faults);
    let kind = fields.choice("name", KINDS);
    let bits = fields.size("num_bits", 1).unwrap_or(4);
    let base = fields.positive("base").unwrap_or(2.0);
    for (key, expected, why) in [
        ("flatten", true, "without flattening the layers cannot read the bits"),
        ("feature_wise", true, "thresholds shared by all features are another encoder"),
    ] {
        if fields.bool(key).is_some_and(|v| v != expected) {
            let d = Diagnostic::unsupported(format!("{} with the value {}", quoted(key), !expected));
            fields.fault(node.place, d.hint(why));
        }
    }
    fields.bool("clip_inputs");
    note_unread(&fields, "`encoder_config`", warnings);
    Some(Encoder::difflut(node.place, kind?, features.unwrap_or(0), bits, base))
}

/// `runtime`, with what `--set` says on top.
fn read_runtime(
    fields: &mut Fields<'_>,
    options: &Options,
    faults: &Faults,
    warnings: &mut Vec<Diagnostic>,
) -> (Settings, Option<f32>) {
    let mut settings = Settings::default();
    let mut tau = None;
    if let Some(node) = fields.node("runtime") {
        let mut runtime = Fields::of(node, "`runtime`", faults);
        tau = runtime.positive("output_tau");
        settings.activation = runtime.text("activation").unwrap_or(settings.activation);
        settings.skip_interval = runtime.size("skip_interval", 0).unwrap_or(settings.skip_interval);
        settings.max_amplitude = runtime.positive("max_amplitude").unwrap_or(settings.max_amplitude);
    }
    for (key, value) in &options.overrides {
        let number = value.parse::<f32>().ok().filter(|v| v.is_finite());
        let applied = match (key.as_str(), number) {
            ("output_tau", Some(v)) if v > 0.0 => {
                tau = Some(v);
                true
            }
            ("max_amplitude", Some(v)) if v >= 0.0 => {
                settings.max_amplitude = v;
                true
            }
            ("skip_interval", Some(v)) if v >= 0.0 && v.fract() == 0.0 => {
                settings.skip_interval = v as usize;
                true
            }
            ("activation", _) => {
                settings.activation.clone_from(value);
                true
            }
            _ => false,
        };
        if applied {
            continue;
        }
        if RUNTIME.contains(&key.as_str()) {
            faults.borrow_mut().push(Diagnostic::usage(format!("--set {key}={value} is no value of that setting")));
        } else if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(k, _)| k == key) {
            warnings.push(Diagnostic::wrong_input(format!("{} does not change inference: {why}", quoted(key))));
        } else {
            let known = RUNTIME.iter().copied().chain(WITHOUT_EFFECT.iter().map(|(k, _)| *k));
            faults
                .borrow_mut()
                .push(Diagnostic::usage(format!("there is no setting {}", quoted(key))).suggest(key, known));
        }
    }
    (settings, tau)
}

fn note_unread(fields: &Fields<'_>, what: &str, warnings: &mut Vec<Diagnostic>) {
    let unread = fields.unread();
    if !unread.is_empty() {
        let names: Vec<_> = unread.iter().map(|n| quoted(n)).collect();
        let d = Diagnostic::wrong_input(format!("keys of {what} that inference does not read"));
        warnings.push(d.found(names.join(", ")));
    }
}

fn build(
    name: &str,
    config: &Config,
    dict: &StateDict,
    options: &Options,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Graph, Diagnostic> {
    let mut graph = Graph::new(name);
    let batch = options.dims.get("N").map_or_else(|| Dim::symbol("N"), |&n| Dim::from(n));
    let encoder = config.encoder.as_ref();
    let state =
        dict.get("encoder.thresholds").filter(|_| encoder.is_some()).map(|t| t.dims().first().copied().unwrap_or(0));
    let first = mapping(dict, 0, config.learnable, warnings)?;
    let features = config.input_size.or(state).unwrap_or_else(|| {
        let read = first.iter::<i32>().into_iter().flatten().max().unwrap_or(0);
        usize::try_from(read).unwrap_or(0) + 1
    });
    let dtype = if encoder.is_some() { DType::F32 } else { DType::Bool };
    let x = graph.add_input("x", TensorType::new(dtype, vec![batch, Dim::from(features)]));
    let mut bits = match encoder {
        Some(e) => {
            let e = Encoder { features, keys: e.keys.clone(), ..*e };
            encoder::build(&mut graph, x, &e, dict, warnings)?
        }
        None => x,
    };
    let by_node = nodes::index(dict);
    let mut ties = 0;
    for layer in 0..config.widths {
        let last = layer + 1 == config.widths;
        let connections = if layer == 0 { first.clone() } else { mapping(dict, layer, config.learnable, warnings)? };
        let fan_in = connections.dims().get(1).copied().unwrap_or(0);
        if config.node == NodeKind::DiffLogic && options.reals == Reals::Numbers {
            let gates = nodes::mixtures(&by_node, layer, fan_in).map_err(|d| d.node(format!("layers.{layer}")))?;
            bits = mixed::add_layer(&mut graph, bits, &connections, &gates)
                .map_err(|d| d.node(format!("layers.{layer}")))?;
            continue;
        }
        let discretize = options.reals == Reals::Bits;
        let tables = nodes::tables(&by_node, layer, fan_in, config.node, &config.settings, last, discretize);
        let Tables { tensor, ties: found } = tables.map_err(|d| d.node(format!("layers.{layer}")))?;
        ties += found;
        bits = add_layer(&mut graph, bits, layer, connections, tensor)?;
    }
    if ties > 0 {
        let d = Diagnostic::wrong_input(format!(
            "{ties} table entries are so close to the threshold that float rounding decides"
        ));
        warnings.push(d.hint("they follow torch on a CPU; onnxruntime may decide otherwise"));
    }
    let stored = dict.get("output_layer.tau").and_then(|t| t.to_vec::<f32>()).and_then(|v| v.first().copied());
    let overridden = options.overrides.contains_key("output_tau");
    let tau = if overridden { config.tau } else { stored.or(config.tau) }.unwrap_or(1.0);
    if !tau.is_finite() || tau == 0.0 {
        return Err(Diagnostic::wrong_input("the temperature of the output is not usable").found(tau));
    }
    let op = GroupSum { groups: config.classes, tau, beta: 0.0 };
    let scores = graph.add_node("scores", op, &[Some(bits)]).map_err(|e| Diagnostic::wrong_input(e.to_string()))?;
    graph.add_output("scores", scores);
    graph.compact();
    Ok(graph)
}

fn add_layer(
    graph: &mut Graph,
    bits: ValueId,
    layer: usize,
    connections: Tensor,
    tables: Tensor,
) -> Result<ValueId, Diagnostic> {
    let name = format!("layers.{layer}");
    check_connections(&connections, graph.ty(bits)).map_err(|d| d.node(name.as_str()))?;
    let c = graph.add_const(&format!("{name}.connections"), connections);
    let t = graph.add_const(&format!("{name}.tables"), tables);
    let y = graph.add_node(&name, Lut, &[Some(bits), Some(c), Some(t)]);
    let y = y.map_err(|e| Diagnostic::wrong_input(e.to_string()).node(name.as_str()))?;
    if let Some(node) = graph.producer_id(y) {
        *graph.origin_mut(node) = Origin::of(name);
    }
    Ok(y)
}

/// The connections of a layer: stored indices, or the strongest weight of each input of a learnable layer.
fn mapping(
    dict: &StateDict,
    layer: usize,
    learnable: bool,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Tensor, Diagnostic> {
    let stored = format!("layers.{layer}._mapping_indices");
    let learned = format!("layers.{layer}.mapping.W");
    let missing = |key: &str| {
        Diagnostic::wrong_input(format!("the weights have no tensor {}", quoted(key)))
            .hint("connections are drawn at random in training and must be stored with the weights")
    };
    if !learnable {
        let tensor = dict.get(&stored).ok_or_else(|| missing(&stored))?;
        if tensor.rank() != 2 {
            return Err(
                Diagnostic::wrong_input(format!("{} must be of shape [width, n]", quoted(&stored))).found(tensor.ty())
            );
        }
        return npy::convert_exact(tensor, DType::I32);
    }
    let w = dict.get(&learned).ok_or_else(|| missing(&learned))?;
    let (Some(values), &[rows, inputs]) = (w.to_vec::<f32>(), w.dims()) else {
        return Err(Diagnostic::wrong_input(format!("{} must be f32 of rank 2", quoted(&learned))).found(w.ty()));
    };
    let nodes = dict.iter().filter_map(|(k, _)| {
        k.strip_prefix(&format!("layers.{layer}.nodes."))?.split('.').next()?.parse::<usize>().ok()
    });
    let width = nodes.max().map_or(0, |n| n + 1);
    if width == 0 || rows % width != 0 || inputs == 0 {
        return Err(Diagnostic::wrong_input(format!("{} does not fit {width} nodes", quoted(&learned))).found(w.ty()));
    }
    let first_max =
        |row: &[f32]| row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best }) as i32;
    let chosen: Vec<i32> = values.chunks(inputs).map(first_max).collect();
    let cached = dict.get(&format!("layers.{layer}.mapping._cached_hard_indices")).and_then(|t| t.to_vec::<i32>());
    if cached.is_some_and(|c| c != chosen) {
        let d = Diagnostic::wrong_input(format!("the cached connections of layer {layer} differ from its weights"));
        warnings.push(d.hint("the weights decide"));
    }
    Ok(Tensor::new(&[width, rows / width], &chosen))
}

/// Tensors of nodes by layer and node.
pub(super) type ByNode<'a> = BTreeMap<(usize, usize), BTreeMap<&'a str, &'a Tensor>>;
