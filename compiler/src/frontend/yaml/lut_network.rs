//! `model: lut_network`: a network of lookup tables or gates by its connections and tables, the plain door for any of them.
//!
//! Tables are `u64` words, bit `a` the output at address `a` and input `j` bit `j` of the address, or `u8`/`bool` entries
//! `[width, 2^n]`; in the last layer they may be `f32`. Without an encoder the inputs are bits.

use bitc_ir::ops::GroupSum;
use bitc_ir::{DType, Dim, Graph, Tensor, TensorType, ValueId};

use super::document::{Node, Place, Value};
use super::encoder::{self, Encoder};
use super::fields::{Faults, Fields};
use super::tables::add_layer;
use super::{Imported, Options, Source, WeightSource, read_weights};
use crate::error::{Diagnostic, Failure, quoted};
use crate::npy;
use crate::weights::{self, StateDict};

/// The most inputs a table may have.
const FAN_IN_LIMIT: usize = bitc_ir::netlist::MAX_WIDE_FANIN;

/// What the document says.
struct Network {
    inputs: usize,
    encoder: Option<Encoder>,
    layers: Vec<Layer>,
    output: Head,
    weights: Option<WeightSource>,
}

struct Layer {
    place: Place,
    inputs: String,
    tables: String,
}

/// What becomes of the last layer's outputs.
enum Head {
    Bits,
    GroupSum { groups: usize, tau: f32, beta: f32 },
}

/// Reads the document and builds the graph.
pub(super) fn import(node: &Node, source: &Source, options: &Options) -> Result<Imported, Failure> {
    let faults = Faults::default();
    let network = read(node, &faults);
    Failure::check(faults.into_inner())?;
    let path = match (&options.weights, &network.weights) {
        (Some(path), _) => path.clone(),
        (None, Some(WeightSource::File(path, place))) => WeightSource::beside(source, path, *place)?,
        (None, Some(WeightSource::Random(_))) => {
            return Err(Diagnostic::unsupported("connections and tables cannot be random").into());
        }
        (None, None) => {
            return Err(Diagnostic::wrong_input("the model says nothing about its tables")
                .hint("give `--weights FILE`, or `weights: FILE` in the model")
                .into());
        }
    };
    let dict = weights::read(&path)?;
    let file = path.display().to_string();
    let stem = source.path.file_stem().and_then(|s| s.to_str()).unwrap_or("lut_network");
    let mut graph = Graph::new(stem);
    let batch = options.dims.get("N").map_or_else(|| Dim::symbol("N"), |&n| Dim::from(n));
    let dtype = if network.encoder.is_some() { DType::F32 } else { DType::Bool };
    let x = graph.add_input("x", TensorType::new(dtype, vec![batch, Dim::from(network.inputs)]));
    let mut warnings = Vec::new();
    let mut bits = match &network.encoder {
        None => x,
        Some(encoder) => {
            let built = encoder::build(&mut graph, x, encoder, &dict, &mut warnings);
            built.map_err(|d| d.of_weights(&file))?
        }
    };
    for (i, layer) in network.layers.iter().enumerate() {
        let last = i + 1 == network.layers.len();
        let name = format!("layers.{i}");
        let built = build_layer(&mut graph, bits, layer, &dict, &name, last);
        bits = built.map_err(|d| layer.place.at(d.node(name)).file(source.name()))?;
    }
    let (name, output) = match network.output {
        Head::Bits => ("bits", bits),
        Head::GroupSum { groups, tau, beta } => {
            let op = GroupSum { groups, tau, beta };
            let sum = graph.add_node("scores", op, &[Some(bits)]);
            ("scores", sum.map_err(|e| Diagnostic::wrong_input(format!("group_sum: {e}")))?)
        }
    };
    graph.add_output(name, output);
    graph.compact();
    Ok(Imported { graph, warnings })
}

fn read(node: &Node, faults: &Faults) -> Network {
    let mut fields = Fields::of(node, "the network", faults);
    fields.node("model");
    let inputs = fields.required_size("inputs");
    let encoder = fields.node("encoder").map(|n| Encoder::read(n, inputs, faults));
    let layers = read_layers(&mut fields);
    let output = read_head(&mut fields, faults);
    let weights = read_weights(&mut fields, faults);
    fields.finish();
    Network { inputs, encoder, layers, output, weights }
}

fn read_layers(fields: &mut Fields<'_>) -> Vec<Layer> {
    let place = fields.place;
    let Some(node) = fields.node("layers") else {
        fields.missing("layers");
        return Vec::new();
    };
    let Value::List(items) = &node.value else {
        let d = Diagnostic::wrong_input("`layers` is a list of maps").found(node.value.describe());
        fields.fault(node.place, d);
        return Vec::new();
    };
    if items.is_empty() {
        fields.fault(place, Diagnostic::wrong_input("the network has no layers"));
    }
    let layer = |item: &Node| {
        let mut inner = Fields::of(item, "a layer", fields.faults());
        let mut key = |name: &'static str| {
            let key = inner.text(name);
            if key.is_none() && !inner.has(name) {
                inner.missing(name);
            }
            key.unwrap_or_default()
        };
        let (inputs, tables) = (key("inputs"), key("tables"));
        inner.finish();
        Layer { place: item.place, inputs, tables }
    };
    items.iter().map(layer).collect()
}

fn read_head(fields: &mut Fields<'_>, faults: &Faults) -> Head {
    let Some(node) = fields.node("output") else { return Head::Bits };
    match &node.value {
        Value::Text(word) if word == "bits" => Head::Bits,
        Value::Map(_) => {
            let mut outer = Fields::of(node, "`output`", faults);
            let Some(sum) = outer.node("group_sum") else {
                outer.missing("group_sum");
                outer.finish();
                return Head::Bits;
            };
            outer.finish();
            let mut inner = Fields::of(sum, "`group_sum`", faults);
            let groups = inner.required_size("groups");
            let tau = inner.positive("tau").unwrap_or(1.0);
            let beta = inner.number("beta").unwrap_or(0.0);
            if tau == 0.0 {
                inner.fault(sum.place, Diagnostic::wrong_input("`tau` divides the sums and cannot be 0"));
            }
            inner.finish();
            Head::GroupSum { groups, tau, beta }
        }
        other => {
            let d =
                Diagnostic::wrong_input("`output` is `bits` or `{group_sum: {groups: ..}}`").found(other.describe());
            fields.fault(node.place, d);
            Head::Bits
        }
    }
}

fn build_layer(
    graph: &mut Graph,
    bits: ValueId,
    layer: &Layer,
    dict: &StateDict,
    name: &str,
    last: bool,
) -> Result<ValueId, Diagnostic> {
    let find = |key: &str| dict.get(key).ok_or_else(|| missing(dict, key));
    let connections = npy::convert_exact(find(&layer.inputs)?, DType::I32)
        .map_err(|d| d.node(name).expected("32-bit connections"))?;
    let tables = find(&layer.tables)?;
    let &[width, fan_in] = connections.dims() else {
        return Err(Diagnostic::wrong_input(format!("{} must be of shape [width, n]", quoted(&layer.inputs)))
            .found(connections.ty()));
    };
    if fan_in > FAN_IN_LIMIT {
        let d = Diagnostic::unsupported(format!("tables of {fan_in} inputs"));
        return Err(d.expected(format!("at most {FAN_IN_LIMIT}")));
    }
    let tables =
        table_entries(tables, width, fan_in, last).map_err(|d| d.found(format!("{} {}", layer.tables, tables.ty())))?;
    add_layer(graph, bits, name, connections, tables)
}

fn missing(dict: &StateDict, key: &str) -> Diagnostic {
    let d = Diagnostic::wrong_input(format!("the weights have no tensor {}", quoted(key)));
    d.suggest(key, dict.iter().map(|(name, _)| name))
}

/// Tables as one entry per address.
fn table_entries(tables: &Tensor, width: usize, fan_in: usize, last: bool) -> Result<Tensor, Diagnostic> {
    let size = 1usize << fan_in;
    let wrong = |expected: String| Diagnostic::wrong_input("the tables do not fit the connections").expected(expected);
    if let (Some(words), true) = (tables.to_vec::<u64>(), fan_in <= 6) {
        if tables.dims() != [width] {
            return Err(wrong(format!("u64[{width}]")));
        }
        let beyond = if size < 64 { words.iter().position(|w| w >> size != 0) } else { None };
        if let Some(at) = beyond {
            return Err(Diagnostic::wrong_input(format!("table {at} has bits beyond its {size} addresses")));
        }
        let entries: Vec<u8> = words.iter().flat_map(|w| (0..size).map(move |a| (w >> a & 1) as u8)).collect();
        return Ok(Tensor::with_dtype(DType::Bool, &[width, size], &entries));
    }
    if tables.dims() != [width, size] {
        return Err(wrong(format!("[{width}, {size}] entries, or u64[{width}] for at most 6 inputs")));
    }
    match tables.dtype() {
        DType::F32 if last => Ok(tables.clone()),
        DType::F32 => Err(wrong("bits: only the last layer may hold real numbers".to_owned())),
        DType::Bool | DType::U8 => {
            let entries = tables.to_vec::<u8>().unwrap_or_default();
            if let Some(at) = entries.iter().position(|&v| v > 1) {
                return Err(Diagnostic::wrong_input(format!("table entry {at} is {}, not 0 or 1", entries[at])));
            }
            Ok(Tensor::with_dtype(DType::Bool, tables.dims(), &entries))
        }
        _ => Err(wrong("tables of u64, u8, bool or f32".to_owned())),
    }
}
