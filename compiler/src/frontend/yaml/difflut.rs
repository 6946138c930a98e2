//! `model_type: ..`: DiffLUT's ModelConfig as its users have it, in both generations.
//!
//! Only what changes inference is read strictly: shapes come from the tensors, connections are never drawn again, and an
//! encoder is never fitted again. Training settings and keys nobody knows are answered with one warning each time.

use bitc_ir::ops::{GroupSum, Reshape};
use bitc_ir::{DType, Dim, Graph, TensorType, ValueId};

use super::document::{Node, Value};
use super::encoder::{self, Encoder, KINDS};
use super::fields::{Faults, Fields};
use super::tables::add_layer;
use super::{Imported, Options, Source};
use crate::error::{Diagnostic, Failure, quoted};
use crate::frontend::Reals;
use crate::notes::{TIED_ENTRIES, note_ties};
use crate::weights::{self, StateDict};

mod connections;
mod convolution;
mod mixed;
mod nodes;
mod settings;

use nodes::{ByNode, NODES, NodeKind, Place, Tables};
use settings::{Settings, note_unread};

/// What the configuration says that matters for inference.
struct Config {
    node: NodeKind,
    learnable: bool,
    convolutional: bool,
    /// The widths of the layers, or their channels.
    widths: Option<Vec<usize>>,
    classes: usize,
    /// The features of a row, or channels, height and width.
    input_size: Option<Vec<usize>>,
    encoder: Option<Encoder>,
    settings: Settings,
}

/// What layers are built from.
struct Builder<'a> {
    graph: &'a mut Graph,
    dict: &'a StateDict,
    by_node: ByNode<'a>,
    kind: NodeKind,
    learnable: bool,
    settings: &'a Settings,
    reals: Reals,
    /// The channels of the images that the configuration says.
    channels: Option<usize>,
    max_memory: u64,
    /// Table entries that float rounding decides.
    ties: usize,
    warnings: &'a mut Vec<Diagnostic>,
}

/// Whether inference reads a setting of that name, or is known not to.
pub(super) fn is_setting(key: &str) -> bool {
    settings::is_known(key)
}

/// The settings that inference reads.
pub(super) fn settings() -> impl Iterator<Item = &'static str> {
    settings::READ.into_iter().chain(settings::WINDOWS)
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
    let dict = named_as_saved(weights::read(&path)?);
    let stem = source.path.file_stem().and_then(|s| s.to_str()).unwrap_or("difflut");
    let file = path.display().to_string();
    let graph = build(stem, &config, &dict, options, &mut warnings).map_err(|d| d.of_weights(&file))?;
    Ok(Imported { graph, warnings })
}

/// The weights without what a wrapper put before every name.
fn named_as_saved(dict: StateDict) -> StateDict {
    const LAYERS: [&str; 6] = [
        "encoder",
        "layers.0",
        "layers.0.mapping",
        "conv_layers.0.trees.0.0",
        "conv_layers.0.first_layer_chunks.0",
        "output_layer",
    ];
    match dict.prefix_of(&LAYERS) {
        Ok(prefix) if !prefix.is_empty() => dict.below(&prefix),
        _ => dict,
    }
}

fn read(node: &Node, options: &Options, faults: &Faults, warnings: &mut Vec<Diagnostic>) -> Config {
    let mut fields = Fields::of(node, "the model", faults);
    let kinds =
        [("feedforward", false), ("SimpleFeedForward", false), ("convolutional", true), ("SimpleConvolutional", true)];
    let convolutional = fields.choice("model_type", &kinds).unwrap_or(false);
    let learnable = fields.choice("layer_type", &[("random", false), ("learnable", true)]).unwrap_or(false);
    let node = fields.choice("node_type", NODES).unwrap_or(NodeKind::Probabilistic);
    let classes = fields.required_size("num_classes");
    let input_size = read_input_size(&mut fields);
    let dense = settings::sizes(&mut fields, "layer_widths");
    let features = input_size.as_ref().and_then(|dims| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
    let encoder = fields.node("encoder_config").and_then(|n| read_encoder(n, features, faults, warnings));
    let mut widths = if convolutional { settings::sizes(&mut fields, "conv_layer_widths") } else { dense };
    for known in ["node_input_dim", "seed", "dataset", "metadata", "pretrained", "pretrained_name", "runtime"] {
        fields.node(known);
    }
    if convolutional && widths.is_none() {
        widths = fields
            .node("runtime")
            .and_then(|n| settings::sizes(&mut Fields::of(n, "`runtime`", faults), "conv_layer_widths"));
    }
    let settings = settings::read(&mut fields, convolutional, options, faults, warnings);
    note_unread(&fields, "the model", warnings);
    Config { node, learnable, convolutional, widths, classes, input_size, encoder, settings }
}

/// `input_size`: the features of a row, or a list of channels, height and width.
fn read_input_size(fields: &mut Fields<'_>) -> Option<Vec<usize>> {
    let list = fields.node("input_size").is_some_and(|n| matches!(n.value, Value::List(_)));
    if list { settings::sizes(fields, "input_size") } else { fields.size("input_size", 1).map(|n| vec![n]) }
}

fn read_encoder(
    node: &Node,
    features: Option<usize>,
    faults: &Faults,
    warnings: &mut Vec<Diagnostic>,
) -> Option<Encoder> {
    let mut fields = Fields::of(node, "`encoder_config`", faults);
    let kind = fields.choice("name", KINDS);
    let bits = fields.size("num_bits", 1);
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
    let by_node = ByNode::of(dict);
    let dims = match (&config.input_size, encoder) {
        (Some(dims), _) => dims.clone(),
        (None, Some(e)) => {
            vec![e.keys.first().and_then(|(_, key)| dict.get(key)?.dims().first().copied()).unwrap_or(0)]
        }
        (None, None) => vec![bits_read(dict, &by_node, config)?],
    };
    let features = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= 1 << 31);
    let features = features.ok_or_else(|| Diagnostic::unsupported("`input_size` is too large"))?;
    let dtype = if encoder.is_some() { DType::F32 } else { DType::Bool };
    let shape: Vec<Dim> = std::iter::once(batch.clone()).chain(dims.iter().map(|&d| Dim::from(d))).collect();
    let mut x = graph.add_input("x", TensorType::new(dtype, shape));
    if dims.len() > 1 {
        let op = Reshape { shape: vec![batch, Dim::from(features)].into() };
        x = graph.add_node("rows", op, &[Some(x)]).map_err(|e| Diagnostic::wrong_input(e.to_string()))?;
    }
    let bits = match encoder {
        Some(e) => {
            let e = Encoder { features, keys: e.keys.clone(), ..*e };
            encoder::build(&mut graph, x, &e, dict, warnings)?
        }
        None => x,
    };
    let mut builder = Builder {
        graph: &mut graph,
        dict,
        by_node,
        kind: config.node,
        learnable: config.learnable,
        settings: &config.settings,
        reals: options.reals,
        channels: (dims.len() == 3).then(|| dims[0]),
        max_memory: options.max_memory,
        ties: 0,
        warnings,
    };
    let widths = config.widths.as_deref();
    let answers = if config.convolutional {
        convolution::build(&mut builder, bits, widths)?
    } else {
        dense(&mut builder, bits, widths)?
    };
    if builder.ties > 0 {
        let d = Diagnostic::wrong_input(format!(
            "{} table {} so close to the threshold that float rounding decides",
            builder.ties,
            if builder.ties == 1 { "entry is" } else { "entries are" }
        ));
        note_ties(builder.graph, TIED_ENTRIES, builder.ties as u64);
        builder.warnings.push(d.hint("stored entries follow torch on a CPU, sums are taken without rounding; another runtime may decide otherwise"));
    }
    let stored = dict.get("output_layer.tau").and_then(|t| t.to_vec::<f32>()).and_then(|v| v.first().copied());
    let overridden = options.overrides.contains_key("output_tau");
    let said = config.settings.tau;
    let tau = if overridden { said } else { stored.or(said) }.unwrap_or(1.0);
    if !tau.is_finite() || tau == 0.0 {
        return Err(Diagnostic::wrong_input("the temperature of the output is not usable").found(tau));
    }
    let op = GroupSum { groups: config.classes, tau, beta: 0.0 };
    let scores = graph.add_node("scores", op, &[Some(answers)]).map_err(|e| Diagnostic::wrong_input(e.to_string()))?;
    graph.add_output("scores", scores);
    graph.compact();
    Ok(graph)
}

/// The layers of a model without windows.
fn dense(b: &mut Builder<'_>, mut bits: ValueId, widths: Option<&[usize]>) -> Result<ValueId, Diagnostic> {
    let layers: Vec<String> =
        (0..).map(|i| format!("layers.{i}")).take_while(|name| b.by_node.width(name) > 0).collect();
    if layers.is_empty() || widths.is_some_and(|w| w.len() != layers.len()) {
        let d = Diagnostic::wrong_input("the layers in the weights are not those of the configuration");
        let d = d.expected(widths.map_or("at least 1".to_owned(), |w| format!("{} layers", w.len())));
        return Err(d.found(layers.len()));
    }
    for (i, layer) in layers.iter().enumerate() {
        let at = |d: Diagnostic| d.node(layer.as_str());
        let width = b.by_node.width(layer);
        if let Some(said) = widths.map(|w| w[i]).filter(|&w| w != width) {
            let d = Diagnostic::wrong_input("`layer_widths` does not fit the weights");
            return Err(at(d.expected(format!("{width} nodes")).found(said)));
        }
        let place = Place { first: i == 0, last: i + 1 == layers.len() };
        let connections = connections::mapping(b.dict, layer, b.learnable, width, b.warnings).map_err(at)?;
        let fan_in = connections.dims().get(1).copied().unwrap_or(0);
        if b.kind == NodeKind::DiffLogic && b.reals == Reals::Numbers {
            let gates = nodes::mixtures(&b.by_node, layer, fan_in).map_err(at)?;
            bits = mixed::add_layer(b.graph, bits, &connections, &gates).map_err(at)?;
            continue;
        }
        let discretize = b.reals == Reals::Bits;
        let tables = nodes::tables(&b.by_node, layer, fan_in, b.kind, b.settings, place, discretize);
        let Tables { tensor, ties } = tables.map_err(at)?;
        b.ties += ties;
        bits = add_layer(b.graph, bits, layer, connections, tensor)?;
    }
    Ok(bits)
}

/// How many bits the first layer reads, for a model without an encoder that does not say.
fn bits_read(dict: &StateDict, by_node: &ByNode<'_>, config: &Config) -> Result<usize, Diagnostic> {
    if config.convolutional {
        return Err(Diagnostic::wrong_input("a convolutional model without an encoder needs `input_size`"));
    }
    let width = by_node.width("layers.0");
    let first = connections::mapping(dict, "layers.0", config.learnable, width, &mut Vec::new())?;
    let read = first.iter::<i32>().into_iter().flatten().max().unwrap_or(0);
    Ok(usize::try_from(read).unwrap_or(0) + 1)
}
