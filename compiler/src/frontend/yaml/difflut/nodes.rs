//! The node types of DiffLUT: from trained parameters to tables.
//!
//! Entry `a` of a table is what the node answers at the address whose bit `j` is its input `j`. Every rule is evaluated in
//! f64 at each address; a value that float rounding could put on either side of its threshold is counted as a tie.

use std::collections::BTreeMap;

use bitc_ir::{DType, Tensor};

use super::settings::Settings;
use crate::error::{Diagnostic, quoted};
use crate::weights::StateDict;

/// The node types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum NodeKind {
    Probabilistic,
    Dwn,
    DwnStable,
    Hybrid,
    LinearLut,
    PolyLut,
    NeuralLut,
    Warp,
    Fourier,
    DiffLogic,
}

/// Their names in configurations.
pub(super) const NODES: &[(&str, NodeKind)] = &[
    ("probabilistic", NodeKind::Probabilistic),
    ("dwn", NodeKind::Dwn),
    ("dwn_stable", NodeKind::DwnStable),
    ("hybrid", NodeKind::Hybrid),
    ("linear_lut", NodeKind::LinearLut),
    ("polylut", NodeKind::PolyLut),
    ("neurallut", NodeKind::NeuralLut),
    ("warp", NodeKind::Warp),
    ("fourier", NodeKind::Fourier),
    ("difflogic", NodeKind::DiffLogic),
];

/// The tables of a layer.
pub(super) struct Tables {
    /// Bits, or real numbers where a last layer answers with them.
    pub(super) tensor: Tensor,
    /// Entries that float rounding decides.
    pub(super) ties: usize,
}

/// The most inputs of a node.
const FAN_IN_LIMIT: usize = bitc_ir::netlist::MAX_WIDE_FANIN;
/// torch's `sigmoid(z) >= 0.5` on a CPU holds down to this z.
const SIGMOID_TIE: f64 = -1.788_139e-7;

/// The tensors of nodes by layer and node; a layer is named by its prefix in the weights.
pub(super) struct ByNode<'a>(BTreeMap<&'a str, Nodes<'a>>);

/// The tensors of each node of a layer by name.
type Nodes<'a> = BTreeMap<usize, BTreeMap<&'a str, &'a Tensor>>;

impl<'a> ByNode<'a> {
    /// Sorts the tensors of nodes.
    pub(super) fn of(dict: &'a StateDict) -> Self {
        let mut found: BTreeMap<_, Nodes<'_>> = BTreeMap::new();
        for (key, tensor) in dict.iter() {
            let parts = || {
                let (layer, rest) = key.split_once(".nodes.")?;
                let (node, name) = rest.split_once('.')?;
                Some((layer, node.parse().ok()?, name))
            };
            if let Some((layer, node, name)) = parts() {
                found.entry(layer).or_default().entry(node).or_default().insert(name, tensor);
            }
        }
        Self(found)
    }

    /// The number of nodes of a layer.
    pub(super) fn width(&self, layer: &str) -> usize {
        self.0.get(layer).map_or(0, BTreeMap::len)
    }

    fn layer(&self, layer: &str) -> impl Iterator<Item = (usize, &BTreeMap<&'a str, &'a Tensor>)> + use<'_, 'a> {
        self.0.get(layer).into_iter().flatten().map(|(node, tensors)| (*node, tensors))
    }
}

/// Where a layer is in a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// It reads the bits of the encoder.
    pub(super) first: bool,
    /// Its answers are added up.
    pub(super) last: bool,
}

/// The tables of one layer.
pub(super) fn tables(
    by_node: &ByNode<'_>,
    layer: &str,
    fan_in: usize,
    kind: NodeKind,
    settings: &Settings,
    place: Place,
    discretize: bool,
) -> Result<Tables, Diagnostic> {
    let real = match kind {
        NodeKind::DiffLogic if discretize => false,
        NodeKind::DiffLogic if place.last && place.first => true,
        NodeKind::DiffLogic => {
            let d = Diagnostic::unsupported(
                "difflogic nodes in expectation mode: the outputs of a hidden layer are real numbers, no bits",
            );
            return Err(d.hint(
                "`--discretize` takes each node's most probable gate, and says on your data how often that agrees",
            ));
        }
        NodeKind::Fourier => place.last && !discretize,
        _ => false,
    };
    let nodes: Vec<_> = by_node.layer(layer).collect();
    if nodes.is_empty() || nodes.iter().enumerate().any(|(i, (n, _))| *n != i) {
        return Err(Diagnostic::wrong_input("the weights of the layer are missing or have gaps"));
    }
    let (mut bits, mut reals, mut ties, mut size) = (Vec::new(), Vec::new(), 0, 0);
    for (i, (node, params)) in nodes.into_iter().enumerate() {
        let parameters = Parameters { params, node, fan_in };
        let Answers { values: answers, threshold, slack } = answers(kind, &parameters, settings, discretize)?;
        if i > 0 && answers.len() != size {
            return Err(Diagnostic::wrong_input(format!(
                "node {node} has {} addresses, node 0 has {size}",
                answers.len()
            )));
        }
        size = answers.len();
        for (address, &v) in answers.iter().enumerate() {
            if !v.is_finite() {
                return Err(Diagnostic::wrong_input(format!("node {node} answers {v} at address {address}")));
            }
            if real {
                reals.push(v as f32);
                continue;
            }
            let (bit, tie) = threshold.decide(v, slack);
            if threshold == Threshold::Strict && v == 0.0 {
                return Err(Diagnostic::unsupported(format!("node {node} answers one half at address {address}")));
            }
            bits.push(u8::from(bit));
            ties += usize::from(tie);
        }
    }
    let width = (bits.len() + reals.len()).checked_div(size).unwrap_or(0);
    let tensor =
        if real { Tensor::new(&[width, size], &reals) } else { Tensor::with_dtype(DType::Bool, &[width, size], &bits) };
    Ok(Tables { tensor, ties })
}

/// How an answer becomes a bit.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Threshold {
    /// `v >= 0.5`.
    Half,
    /// `sigmoid(v) >= 0.5`.
    Sigmoid,
    /// `v > 0`; zero would be neither.
    Strict,
    /// `v > 0.5`.
    AboveHalf,
}

impl Threshold {
    /// The bit, and whether float rounding decided it: `slack` is how far sums of `f32` may be off.
    fn decide(self, v: f64, slack: f64) -> (bool, bool) {
        match self {
            Threshold::Half => (v >= 0.5, false),
            Threshold::Sigmoid => (v >= SIGMOID_TIE, (SIGMOID_TIE - slack..slack).contains(&v)),
            Threshold::Strict => (v > 0.0, v.abs() < slack),
            Threshold::AboveHalf => (v > 0.5, (v - 0.5).abs() < slack),
        }
    }
}

/// What a node answers at every address.
struct Answers {
    values: Vec<f64>,
    threshold: Threshold,
    /// How far the library's own value may be off, where it adds up floats.
    slack: f64,
}

/// How far a sum of `f32` is off, as a part of the magnitudes that are added up.
const SUM_ROUNDING: f64 = 4.0 / (1 << 24) as f64;

/// The sum of magnitudes, times what rounding may make of it.
fn rounding<'a>(terms: impl IntoIterator<Item = &'a f64>) -> f64 {
    SUM_ROUNDING * terms.into_iter().map(|v| v.abs()).sum::<f64>()
}

/// The tensors of one node.
struct Parameters<'a> {
    params: &'a BTreeMap<&'a str, &'a Tensor>,
    node: usize,
    /// The bits that a node of the layer reads.
    fan_in: usize,
}

impl Parameters<'_> {
    fn missing(&self, name: &str) -> Diagnostic {
        Diagnostic::wrong_input(format!("node {} has no tensor {}", self.node, quoted(name)))
    }

    fn find(&self, name: &str) -> Option<Vec<f64>> {
        self.params.get(name).map(|t| t.to_f64())
    }

    fn get(&self, name: &str) -> Result<Vec<f64>, Diagnostic> {
        self.find(name).ok_or_else(|| self.missing(name))
    }

    /// A tensor of rank 2 with its dimensions.
    fn matrix(&self, name: &str) -> Result<(usize, usize, Vec<f64>), Diagnostic> {
        let tensor = self.params.get(name).ok_or_else(|| self.missing(name))?;
        match tensor.dims() {
            &[rows, columns] => Ok((rows, columns, tensor.to_f64())),
            _ => Err(self.wrong(name, "a matrix")),
        }
    }

    fn wrong(&self, name: &str, expected: &str) -> Diagnostic {
        let found = self.params.get(name).map(|t| t.ty().to_string()).unwrap_or_default();
        Diagnostic::wrong_input(format!("{} of node {} has the wrong shape", quoted(name), self.node))
            .expected(expected)
            .found(found)
    }

    /// A table of one value per address.
    fn table(&self, name: &str) -> Result<Vec<f64>, Diagnostic> {
        let values = self.get(name)?;
        if values.len().is_power_of_two() && values.len() <= 1 << FAN_IN_LIMIT {
            return Ok(values);
        }
        Err(self.wrong(name, "one entry per address of a single output"))
    }
}

/// Input `j` at an address, as a number.
fn input(address: usize, j: usize) -> f64 {
    (address >> j & 1) as f64
}

fn addresses(inputs: usize) -> Result<std::ops::Range<usize>, Diagnostic> {
    if inputs > FAN_IN_LIMIT {
        return Err(
            Diagnostic::unsupported(format!("nodes of {inputs} inputs")).expected(format!("at most {FAN_IN_LIMIT}"))
        );
    }
    Ok(0..1 << inputs)
}

/// What a node answers at every address, and how that becomes a bit.
fn answers(kind: NodeKind, p: &Parameters<'_>, settings: &Settings, discretize: bool) -> Result<Answers, Diagnostic> {
    let (values, threshold, slack) = match kind {
        NodeKind::Probabilistic => (scaled(p.table("raw_weights")?, p.find("temperature")), Threshold::Sigmoid, 0.0),
        NodeKind::Dwn => (p.table("luts")?, Threshold::Half, 0.0),
        NodeKind::DwnStable | NodeKind::Hybrid => (p.table("raw_luts")?, Threshold::Sigmoid, 0.0),
        NodeKind::LinearLut => {
            let (weights, bias) = (p.get("weights")?, p.get("bias")?);
            let sum = |a: usize| {
                weights.iter().enumerate().map(|(j, w)| w * input(a, j)).sum::<f64>() + bias.iter().sum::<f64>()
            };
            let values = addresses(weights.len())?.map(sum).collect();
            (values, Threshold::Sigmoid, rounding(weights.iter().chain(&bias)))
        }
        NodeKind::PolyLut => (polynomial(p)?, Threshold::Sigmoid, rounding(&p.get("weights")?)),
        NodeKind::NeuralLut => {
            let (values, largest) = neural(p, settings)?;
            (values, Threshold::Sigmoid, largest)
        }
        NodeKind::Warp => {
            let coefficients = p.table("coefficients")?;
            let slack = rounding(&coefficients);
            (walsh(coefficients), Threshold::Strict, slack)
        }
        NodeKind::Fourier => {
            (fourier(p, settings)?, Threshold::AboveHalf, rounding(&[1.0, f64::from(settings.max_amplitude)]))
        }
        NodeKind::DiffLogic => {
            let Mixture { inputs: [a, b], entries } = gate(p, discretize)?;
            let values = addresses(p.fan_in)?.map(|at| entries[2 * (at >> a & 1) + (at >> b & 1)]).collect();
            (values, Threshold::Half, 0.0)
        }
    };
    Ok(Answers { values, threshold, slack })
}

/// `z / max(T, 1e-6)`: the sign stays, the distance to a tie does not.
fn scaled(mut values: Vec<f64>, temperature: Option<Vec<f64>>) -> Vec<f64> {
    if let Some(&[t]) = temperature.as_deref() {
        let t = if t > 1e-6 { t } else { 1e-6 };
        values.iter_mut().for_each(|v| *v /= t);
    }
    values
}

/// A sum of monomials; on bits a power is the bit itself.
fn polynomial(p: &Parameters<'_>) -> Result<Vec<f64>, Diagnostic> {
    let weights = p.get("weights")?;
    let (monomials, inputs, exponents) = p.matrix("exponent_matrix")?;
    if weights.len() != monomials {
        return Err(p.wrong("weights", "one weight per monomial"));
    }
    let holds = |m: usize, a: usize| (0..inputs).all(|j| exponents[m * inputs + j] == 0.0 || a >> j & 1 == 1);
    let sum = |a: usize| (0..monomials).filter(|&m| holds(m, a)).map(|m| weights[m]).sum();
    Ok(addresses(inputs)?.map(sum).collect())
}

/// A small network with skip connections, and how far its last sums may be off.
fn neural(p: &Parameters<'_>, settings: &Settings) -> Result<(Vec<f64>, f64), Diagnostic> {
    let activate: fn(f64) -> f64 = match settings.activation.as_str() {
        "relu" => |v| v.max(0.0),
        "sigmoid" => |v| 1.0 / (1.0 + (-v).exp()),
        "leakyrelu" | "leaky_relu" => |v| if v > 0.0 { v } else { 0.01 * v },
        other => return Err(Diagnostic::unsupported(format!("the activation {}", quoted(other)))),
    };
    let depth = (0..).take_while(|k| p.params.contains_key(format!("layers.{k}.weight").as_str())).count();
    let (_, inputs, _) = p.matrix("layers.0.weight")?;
    let dense = |name: &str, x: &[f64]| -> Result<Vec<f64>, Diagnostic> {
        let weight = format!("{name}.weight");
        let (rows, columns, w) = p.matrix(&weight)?;
        let bias = p.find(&format!("{name}.bias")).unwrap_or_else(|| vec![0.0; rows]);
        if columns != x.len() || bias.len() != rows {
            return Err(p.wrong(&weight, &format!("{} columns", x.len())));
        }
        Ok((0..rows)
            .map(|r| w[r * columns..][..columns].iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias[r])
            .collect())
    };
    let (mut answers, mut slack) = (Vec::new(), 0.0f64);
    let last = p.find(&format!("layers.{}.weight", depth.saturating_sub(1))).unwrap_or_default();
    for a in addresses(inputs)? {
        let x: Vec<f64> = (0..inputs).map(|j| input(a, j)).collect();
        let (mut h, mut skip) = (x.clone(), 0);
        for layer in 0..depth {
            if layer + 1 == depth {
                let terms: Vec<f64> = h.iter().zip(&last).map(|(h, w)| h * w).collect();
                slack = slack.max(rounding(&terms));
            }
            h = dense(&format!("layers.{layer}"), &h)?;
            if layer > 0 && settings.skip_interval > 0 && layer % settings.skip_interval == 0 && layer + 1 < depth {
                let name = format!("skip_layers.{skip}");
                if p.params.contains_key(format!("{name}.weight").as_str()) {
                    let added = dense(&name, &x)?;
                    h.iter_mut().zip(added).for_each(|(h, s)| *h += s);
                    skip += 1;
                }
            }
            if layer + 1 < depth {
                h.iter_mut().for_each(|v| *v = activate(*v));
            }
        }
        answers.push(h.first().copied().unwrap_or(0.0));
    }
    Ok((answers, slack))
}

/// The sum of coefficients times the products of their inputs, taken as -1 and 1: a Walsh transform.
fn walsh(mut values: Vec<f64>) -> Vec<f64> {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (l, h) in low.iter_mut().zip(high) {
                (*l, *h) = (*l - *h, *l + *h);
            }
        }
        half *= 2;
    }
    values
}

fn fourier(p: &Parameters<'_>, settings: &Settings) -> Result<Vec<f64>, Diagnostic> {
    let (amplitudes, phases, bias) = (p.get("amplitudes")?, p.get("phases")?, p.get("bias")?);
    let (terms, inputs, frequencies) = p.matrix("frequencies")?;
    if amplitudes.len() != terms || phases.len() != terms {
        return Err(p.wrong("amplitudes", "one per frequency"));
    }
    let total = amplitudes.iter().sum::<f64>() + 1e-8;
    let value = |a: usize| {
        let term = |k: usize| {
            let turns: f64 = (0..inputs).map(|j| frequencies[k * inputs + j] * input(a, j)).sum();
            amplitudes[k] / total
                * f64::from(settings.max_amplitude)
                * (std::f64::consts::TAU * turns + phases[k]).cos()
        };
        ((0..terms).map(term).sum::<f64>() + bias.iter().sum::<f64>()).clamp(0.0, 1.0)
    };
    Ok(addresses(inputs)?.map(value).collect())
}

/// A difflogic node: a mixture of the sixteen gates of two of its inputs.
pub(super) struct Mixture {
    /// The inputs of the node that its gates take.
    pub(super) inputs: [usize; 2],
    /// What it answers for the two inputs `a` and `b`, at place `2 a + b`.
    pub(super) entries: [f64; 4],
}

/// The nodes of a layer of difflogic.
pub(super) fn mixtures(by_node: &ByNode<'_>, layer: &str, fan_in: usize) -> Result<Vec<Mixture>, Diagnostic> {
    let mixture = |(node, params)| gate(&Parameters { params, node, fan_in }, false);
    by_node.layer(layer).map(mixture).collect()
}

/// A mixture of the sixteen gates of two inputs, or its most probable one.
fn gate(p: &Parameters<'_>, discretize: bool) -> Result<Mixture, Diagnostic> {
    let (weights, tables) = (p.get("weights")?, p.get("truth_tables")?);
    let indices = p.get("indices")?;
    if weights.len() != 16 || tables.len() != 64 || indices.len() != 2 {
        return Err(p.wrong("weights", "16 gates of one output"));
    }
    // A node reads as many bits as all of its layer, two of which its gate takes.
    if indices.iter().any(|&i| !(0.0..p.fan_in as f64).contains(&i)) {
        return Err(p.wrong("indices", "two of the inputs of a node"));
    }
    let max = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let first_max = weights.iter().position(|&w| w == max).unwrap_or(0);
    let exp: Vec<f64> = weights.iter().map(|w| (w - max).exp()).collect();
    let total: f64 = exp.iter().sum();
    let value = |place: usize| {
        let entry = |f: usize| tables[4 * f + place];
        if discretize { entry(first_max) } else { (0..16).map(|f| exp[f] / total * entry(f)).sum() }
    };
    Ok(Mixture { inputs: [indices[0] as usize, indices[1] as usize], entries: [0, 1, 2, 3].map(value) })
}
