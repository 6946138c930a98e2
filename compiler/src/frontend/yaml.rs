//! YAML models: `model: bit_mlp` and `model: sequential`, with weights from a file or random.
//!
//! The top key tells the schema. Every map is read strictly: unknown keys, wrong types and missing keys are all reported,
//! each with its line and column and the nearest known name.

use std::path::{Path, PathBuf};

use bitc_ir::{DType, Graph, Shape, TensorType};

use super::{Imported, Importer, Options, Source};
use crate::error::{Diagnostic, Failure, quoted};
use crate::weights::{self, StateDict};

mod bit_mlp;
mod build;
mod difflut;
pub(crate) mod document;
mod encoder;
mod fields;
mod layer;
mod lut_network;
mod packed;
mod parameters;
mod quant;
mod sequential;
mod tables;
mod ternary;

use build::Builder;
use document::{Node, Place, Value};
use fields::{Faults, Fields};
use layer::{Bias, Conv, Dense, Kind, Layer};
use parameters::Parameters;

pub(super) const IMPORTER: Importer =
    Importer { name: "YAML model", extensions: &["yaml", "yml"], recognises, is_graph: false, import };

/// The models that `model:` may name.
const MODELS: [&str; 3] = ["bit_mlp", "sequential", "lut_network"];

/// A model as its schema describes it.
struct Model {
    input: String,
    shape: Shape,
    layers: Vec<Layer>,
    weights: Option<WeightSource>,
}

/// What `weights:` says.
enum WeightSource {
    /// A file, and where the model names it.
    File(PathBuf, Place),
    Random(u64),
}

impl WeightSource {
    /// The path of a file that a model names, which lies beside it.
    ///
    /// # Errors
    /// If nothing is there: the model names it in vain.
    fn beside(source: &Source, path: &Path, place: Place) -> Result<PathBuf, Diagnostic> {
        let path = source.path.parent().unwrap_or(Path::new("")).join(path);
        if path.exists() {
            return Ok(path);
        }
        let missing = Diagnostic::wrong_input(format!("there is no file {}", quoted(&path.display().to_string())));
        Err(place.at(missing).hint("`weights` is looked for beside the model; `--weights FILE` wins over it"))
    }
}

/// YAML models are text with a line that begins with `model:` or `model_type:`.
fn recognises(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1 << 16)];
    let text = String::from_utf8_lossy(head);
    text.lines().any(|line| line.starts_with("model:") || line.starts_with("model_type:"))
}

/// Whether `--set` of that name is about a DiffLUT model: every other one is a parameter of a pass.
pub fn is_model_setting(key: &str) -> bool {
    difflut::is_setting(key)
}

/// The settings that change inference, for suggestions.
pub fn model_settings() -> impl Iterator<Item = &'static str> {
    difflut::settings()
}

/// Whether the file is a DiffLUT model, the only kind with settings.
pub(super) fn has_settings(source: &Source) -> bool {
    // What cannot be read is told as such, and not as a model without settings.
    let bytes = source.bytes.bytes();
    recognises(bytes) && document::parse(bytes).map_or(true, |node| difflut::recognises(&node))
}

fn import(source: &Source, options: &Options) -> Result<Imported, Failure> {
    let node = document::parse(source.bytes.bytes())?;
    if difflut::recognises(&node) {
        return difflut::import(&node, source, options);
    }
    if names_model(&node, "lut_network") {
        return lut_network::import(&node, source, options);
    }
    let faults = Faults::default();
    let (name, model) = read(&node, &faults);
    Failure::check(faults.into_inner())?;
    let model = model.ok_or_else(|| Diagnostic::bug("a model without faults and without layers"))?;
    build(name, model, source, options)
}

/// Whether the document says `model: name`.
fn names_model(node: &Node, name: &str) -> bool {
    let Value::Map(entries) = &node.value else { return false };
    entries.iter().any(|e| e.key == "model" && matches!(&e.value.value, Value::Text(t) if t == name))
}

/// Reads the document; without a model there is at least one fault.
fn read(node: &Node, faults: &Faults) -> (&'static str, Option<Model>) {
    let fault = |place: Place, d: Diagnostic| faults.borrow_mut().push(place.at(d));
    let Value::Map(entries) = &node.value else {
        let d = Diagnostic::wrong_input("a model is a map").expected("a key `model`").found(node.value.describe());
        fault(node.place, d);
        return ("", None);
    };
    let Some(entry) = entries.iter().find(|e| e.key == "model") else {
        let d = Diagnostic::wrong_input("the model has no key `model`").expected(MODELS.map(quoted).join(" or "));
        fault(node.place, d);
        return ("", None);
    };
    let mut fields = Fields::of(node, "the model", faults);
    fields.node("model");
    let (name, model) = match &entry.value.value {
        Value::Text(name) if name == "bit_mlp" => ("bit_mlp", bit_mlp::read(&mut fields, faults)),
        Value::Text(name) if name == "sequential" => ("sequential", sequential::read(&mut fields, faults)),
        other => {
            let d = Diagnostic::wrong_input(format!("there is no model {}", other.describe().replace('`', "")));
            let d = d.expected(MODELS.map(quoted).join(" or "));
            let d = if let Value::Text(name) = other { d.suggest(name, MODELS) } else { d };
            fault(entry.value.place, d);
            return ("", None);
        }
    };
    fields.finish();
    (name, Some(model))
}

/// Reads `weights: FILE` or `weights: {random: SEED}`.
fn read_weights(fields: &mut Fields<'_>, faults: &Faults) -> Option<WeightSource> {
    let node = fields.node("weights")?;
    match &node.value {
        Value::Text(path) if !path.is_empty() && !path.contains('\0') => {
            Some(WeightSource::File(path.into(), node.place))
        }
        Value::Map(_) => {
            let mut inner = Fields::of(node, "`weights`", faults);
            let seed = inner.int("random");
            if seed.is_none() && !inner.has("random") {
                inner.missing("random");
            }
            inner.finish();
            Some(WeightSource::Random(seed?.cast_unsigned()))
        }
        other => {
            let d =
                Diagnostic::wrong_input("`weights` is the name of a file, or `{random: SEED}`").found(other.describe());
            faults.borrow_mut().push(node.place.at(d));
            None
        }
    }
}

/// The graph of a model.
fn build(name: &str, mut model: Model, source: &Source, options: &Options) -> Result<Imported, Failure> {
    let symbols: Vec<_> = model.shape.0.iter().flat_map(bitc_ir::Dim::symbols).collect();
    let known = || symbols.iter().map(|s| &**s);
    if let Some(symbol) = options.dims.keys().find(|s| !known().any(|k| k == s.as_str())) {
        let d = Diagnostic::usage(format!("the model has no dimension {}", quoted(symbol)));
        return Err(d.suggest(symbol, known()).into());
    }
    let parameters = load(&mut model, source, options)?;
    let mut missing = Vec::new();
    report_missing(&model.layers, &parameters, &mut missing);
    Failure::check(missing)?;
    let stem = source.path.file_stem().and_then(|s| s.to_str()).filter(|s| !s.is_empty()).unwrap_or(name);
    let mut builder = Builder { graph: Graph::new(stem), parameters, warnings: Vec::new() };
    let bound = |symbol: &str| options.dims.get(symbol).map(|&n| bitc_ir::Dim::from(n));
    let shape = model.shape.0.iter().map(|d| d.substitute(&bound).unwrap_or_else(|| d.clone())).collect::<Vec<_>>();
    let x = builder.graph.add_input(&model.input, TensorType::new(DType::F32, shape));
    let y = builder.layers(&model.layers, x)?;
    let Builder { mut graph, parameters, mut warnings } = builder;
    graph.add_output("output", y);
    graph.compact();
    let unused = parameters.unused();
    if !unused.is_empty() {
        let mut names = unused.iter().take(4).map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
        if unused.len() > 4 {
            names.push_str(&format!(" and {} more", unused.len() - 4));
        }
        warnings.push(Diagnostic::wrong_input("the weights hold tensors that the model does not use").found(names));
    }
    let file = source.name();
    Ok(Imported { graph, warnings: warnings.into_iter().map(|w| w.file(file.as_str())).collect() })
}

/// The tensors of a model: from the file the user names, else what the model says.
fn load(model: &mut Model, source: &Source, options: &Options) -> Result<Parameters, Diagnostic> {
    let path = match (&options.weights, &model.weights) {
        (Some(path), _) => path.clone(),
        (None, Some(WeightSource::File(path, place))) => WeightSource::beside(source, path, *place)?,
        (None, Some(WeightSource::Random(seed))) => return Ok(Parameters::random(*seed, options.max_memory)),
        (None, None) if !has_tensors(&model.layers) => return Ok(Parameters::random(0, options.max_memory)),
        (None, None) => {
            return Err(Diagnostic::wrong_input("the model says nothing about its weights")
                .hint("give `--weights FILE`, or `weights: FILE` or `weights: {random: 1}` in the model"));
        }
    };
    let dict = weights::read(&path)?;
    name_residuals(&mut model.layers, &dict);
    let mut keys = Vec::new();
    collect_keys(&model.layers, &mut keys);
    Parameters::from_dict(dict, path.display().to_string(), &keys)
}

/// Reports every layer without its tensors, so that the first one does not hide the others.
fn report_missing(layers: &[Layer], parameters: &Parameters, faults: &mut Vec<Diagnostic>) {
    for layer in layers {
        let mut need = |names: &[&str]| {
            let all: Vec<_> = names.iter().map(|n| format!("{}.{n}", layer.key)).collect();
            if !all.iter().any(|n| parameters.has(n)) {
                faults.push(layer.place.at(parameters.missing(&all[0])).node(layer.label.as_str()));
            }
        };
        match &layer.kind {
            Kind::Dense(Dense { quant, bias, .. }) | Kind::Conv(Conv { quant, bias, .. }) => {
                need(if quant.is_some() { &ternary::NAMES } else { &["weight"] });
                if *bias == Bias::Always {
                    need(&["bias"]);
                }
            }
            Kind::BatchNorm { .. } => {
                need(&["running_mean"]);
                need(&["running_var"]);
            }
            Kind::Residual(inner) => report_missing(inner, parameters, faults),
            _ => {}
        }
    }
}

/// Gives the layers of a residual the keys that a module has which keeps them in a list named `layers`, where the file
/// has tensors under such names: `3.layers.0` in place of `3.0`.
fn name_residuals(layers: &mut [Layer], dict: &StateDict) {
    for layer in layers {
        let Kind::Residual(inner) = &mut layer.kind else { continue };
        let (from, to) = (format!("{}.", layer.key), format!("{}.layers.", layer.key));
        let listed = dict.iter().any(|(n, _)| n.starts_with(&to) || n.contains(&format!(".{to}")));
        if listed {
            replace_prefix(inner, &from, &to);
        }
        name_residuals(inner, dict);
    }
}

/// Changes the beginning of every key that begins so.
fn replace_prefix(layers: &mut [Layer], from: &str, to: &str) {
    for layer in layers {
        if let Some(rest) = layer.key.strip_prefix(from) {
            layer.key = format!("{to}{rest}");
        }
        if let Kind::Residual(inner) = &mut layer.kind {
            replace_prefix(inner, from, to);
        }
    }
}

/// The keys of the layers that have tensors.
fn collect_keys<'a>(layers: &'a [Layer], keys: &mut Vec<&'a str>) {
    for layer in layers {
        match &layer.kind {
            Kind::Dense(_) | Kind::Conv(_) | Kind::RmsNorm { .. } | Kind::LayerNorm { .. } | Kind::BatchNorm { .. } => {
                keys.push(&layer.key);
            }
            Kind::Residual(inner) => collect_keys(inner, keys),
            _ => {}
        }
    }
}

fn has_tensors(layers: &[Layer]) -> bool {
    let mut keys = Vec::new();
    collect_keys(layers, &mut keys);
    !keys.is_empty()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod lut_tests;
