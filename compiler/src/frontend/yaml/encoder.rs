//! Encoders: features to bits by the fitted state of a training library, never by fitting again.
//!
//! Every encoder is a step function of each feature, so each becomes thresholds and a little logic. Thermometers hold
//! their thresholds. The others compute an integer that never falls as its argument rises; the floats where it rises are
//! found by bisection on the exact `f32` formula.

mod logarithm;

use std::sync::Arc;

use bitc_ir::netlist::{Netlist, NetlistError, Wire};
use bitc_ir::ops::{LogicNet, Thermometer};
use bitc_ir::{Graph, Origin, Tensor, ValueId};

use super::document::{Node, Place};
use super::fields::{Faults, Fields};
use crate::error::{Diagnostic, quoted};
use crate::notes::{TIED_FLOATS, note_ties};
use crate::weights::StateDict;
use logarithm::Logarithm;

/// The most bits a feature may become where their number is a power of two.
const INTEGER_BITS_LIMIT: usize = 12;

/// The kinds of encoder by the names that training libraries use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Thermometer,
    Binary,
    Gray,
    OneHot,
    SignMagnitude,
    Logarithmic,
}

/// The names of encoders.
pub(super) const KINDS: &[(&str, Kind)] = &[
    ("thermometer", Kind::Thermometer),
    ("gaussian_thermometer", Kind::Thermometer),
    ("gaussian", Kind::Thermometer),
    ("distributive_thermometer", Kind::Thermometer),
    ("distributive", Kind::Thermometer),
    ("binary", Kind::Binary),
    ("gray", Kind::Gray),
    ("onehot", Kind::OneHot),
    ("one_hot", Kind::OneHot),
    ("sign_magnitude", Kind::SignMagnitude),
    ("logarithmic", Kind::Logarithmic),
];

/// An encoder and where its state is.
pub(super) struct Encoder {
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// The number of features.
    pub(super) features: usize,
    /// Bits per feature, where somebody says; the states of thermometers and one-hot encoders tell.
    pub(super) bits: Option<usize>,
    /// The base of a logarithm.
    pub(super) base: f32,
    /// The keys of state tensors by what they are.
    pub(super) keys: Vec<(&'static str, String)>,
}

/// The state tensors of each kind.
fn state_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Thermometer => &["thresholds"],
        Kind::Binary | Kind::Gray => &["min_value", "max_value"],
        Kind::OneHot => &["bin_edges"],
        Kind::SignMagnitude => &["max_abs_value"],
        Kind::Logarithmic => &["offset", "min_log", "max_log"],
    }
}

impl Encoder {
    /// Reads the `encoder` of a `lut_network`.
    pub(super) fn read(node: &Node, features: usize, faults: &Faults) -> Self {
        let mut fields = Fields::of(node, "the encoder", faults);
        let kind = fields.choice("name", KINDS);
        if kind.is_none() && !fields.has("name") {
            fields.missing("name");
        }
        let kind = kind.unwrap_or(Kind::Thermometer);
        let bits = fields.size("num_bits", 1);
        let base = fields.positive("base").unwrap_or(2.0);
        let keys = state_of(kind).iter().map(|&name| {
            let key = fields.text(name).unwrap_or_else(|| format!("encoder.{name}"));
            (name, key)
        });
        let keys = keys.collect();
        fields.finish();
        Self { place: node.place, kind, features, bits, base, keys }
    }

    /// An encoder whose state has the names that DiffLUT gives it.
    pub(super) fn difflut(place: Place, kind: Kind, features: usize, bits: Option<usize>, base: f32) -> Self {
        let keys = state_of(kind).iter().map(|&name| (name, format!("encoder.{name}"))).collect();
        let in_state = matches!(kind, Kind::Thermometer | Kind::OneHot);
        Self { place, kind, features, bits: if in_state { bits } else { Some(bits.unwrap_or(4)) }, base, keys }
    }
}

/// The bits of a feature vector.
pub(super) fn build(
    graph: &mut Graph,
    x: ValueId,
    encoder: &Encoder,
    dict: &StateDict,
    warnings: &mut Vec<Diagnostic>,
) -> Result<ValueId, Diagnostic> {
    let mut state = Vec::new();
    for (name, key) in &encoder.keys {
        let tensor = dict.get(key).ok_or_else(|| {
            Diagnostic::wrong_input(format!("the weights hold no encoder state: {} is missing", quoted(key)))
                .hint("an encoder is never fitted again; save the model again with its encoder, so that the state dict has this tensor")
        })?;
        let values = tensor
            .to_vec::<f32>()
            .ok_or_else(|| Diagnostic::wrong_input(format!("{} must be f32", quoted(key))).found(tensor.ty()))?;
        state.push((*name, tensor, values));
    }
    check_bits(encoder, state.first().map_or(&[], |(_, tensor, _)| tensor.dims()))?;
    if let [(_, thresholds, _)] = &state[..]
        && encoder.kind == Kind::Thermometer
    {
        return thermometer(graph, x, encoder, (*thresholds).clone());
    }
    let columns: Vec<Vec<f32>> = state.into_iter().map(|(_, _, values)| values).collect();
    let wrong = || {
        let d = Diagnostic::wrong_input("the encoder state does not fit the number of features");
        encoder.place.at(d.expected(format!("{} features", encoder.features)))
    };
    let plan = Plan::of(encoder, &columns).ok_or_else(wrong)?;
    if plan.doubtful > 0 {
        let what = "the last bit of a logarithm, which is not the same in every library, decides on which side of a step floats are";
        warnings.push(Diagnostic::wrong_input(what).found(format!("{} floats at {} steps", plan.doubtful, plan.thresholds.len()))
            .hint("the least and the largest value that a feature was fitted on have the codes of the library; elsewhere logarithms are rounded correctly"));
        note_ties(graph, TIED_FLOATS, plan.doubtful);
    }
    let thresholds = Tensor::new(&[encoder.features, plan.per_feature], &plan.thresholds);
    let bits = thermometer(graph, x, encoder, thresholds)?;
    let net = plan.network(encoder.features).map_err(|e| Diagnostic::wrong_input(format!("the encoder: {e}")))?;
    let y = graph.add_node("encoded", LogicNet { net: Arc::new(net) }, &[Some(bits)]);
    let y = y.map_err(|e| Diagnostic::wrong_input(format!("the encoder: {e}")))?;
    mark(graph, y);
    Ok(y)
}

/// Where the state tells how many bits a feature becomes, nobody may say otherwise.
fn check_bits(encoder: &Encoder, dims: &[usize]) -> Result<(), Diagnostic> {
    let in_state = match (encoder.kind, dims) {
        (Kind::Thermometer, &[_, bits]) => bits,
        (Kind::OneHot, &[_, edges]) => edges.saturating_sub(1),
        _ => return Ok(()),
    };
    match encoder.bits {
        Some(bits) if bits != in_state => {
            let d = Diagnostic::wrong_input("`num_bits` does not fit the state of the encoder");
            Err(encoder.place.at(d.expected(format!("{in_state} bits")).found(bits)))
        }
        _ => Ok(()),
    }
}

fn thermometer(graph: &mut Graph, x: ValueId, encoder: &Encoder, thresholds: Tensor) -> Result<ValueId, Diagnostic> {
    let t = graph.add_const("encoder.thresholds", thresholds);
    let y = graph.add_node("bits", Thermometer, &[Some(x), Some(t)]);
    let y = y.map_err(|e| encoder.place.at(Diagnostic::wrong_input(format!("the encoder: {e}"))))?;
    mark(graph, y);
    Ok(y)
}

fn mark(graph: &mut Graph, value: ValueId) {
    if let Some(node) = graph.producer_id(value) {
        *graph.origin_mut(node) = Origin::of("encoder");
    }
}

/// Thresholds of all features, and how a feature's comparisons become its bits.
struct Plan {
    per_feature: usize,
    thresholds: Vec<f32>,
    /// Floats that another logarithm puts on the other side of a threshold.
    doubtful: u64,
    /// Each bit of a feature: an exclusive-or of terms.
    bits: Vec<Vec<Term>>,
}

/// What a bit is made of, by positions among the thresholds of a feature.
#[derive(Clone, Copy)]
enum Term {
    Above(usize),
    NotAbove(usize),
    /// Above the first or not above the second.
    Outside(usize, usize),
}

impl Plan {
    fn of(encoder: &Encoder, state: &[Vec<f32>]) -> Option<Plan> {
        let bits = encoder.bits.unwrap_or(8);
        let features = encoder.features;
        if encoder.kind == Kind::OneHot {
            return Self::one_hot(features, &state[0]);
        }
        if bits > INTEGER_BITS_LIMIT || bits == 0 || state.iter().any(|s| s.len() != features) {
            return None;
        }
        let at = |f: usize| state.iter().map(|s| s[f]).collect::<Vec<_>>();
        if encoder.kind == Kind::SignMagnitude {
            return Some(Self::sign_magnitude(bits, (0..features).map(|f| state[0][f])));
        }
        let levels = 1usize << bits;
        let base = encoder.base;
        let mut thresholds = Vec::with_capacity(features * (levels - 1));
        let mut doubtful = 0;
        for f in 0..features {
            let s = at(f);
            if encoder.kind == Kind::Logarithmic {
                let steps = Logarithm { offset: s[0], min: s[1], max: s[2], base, levels }.steps();
                thresholds.extend(steps.thresholds);
                doubtful += steps.doubtful;
                continue;
            }
            thresholds.extend((1..levels).map(|c| below(rise(|x| linear_code(x, s[0], s[1], levels), c))));
        }
        // Bit b of an integer changes wherever it passes a multiple of 2^b; most significant first.
        let bit = |b: usize| (1..levels).filter(|c| c % (1 << b) == 0).map(|c| Term::Above(c - 1)).collect::<Vec<_>>();
        // Bit b of the Gray code is the exclusive-or of bits b and b + 1: a step counts where only one of them changes.
        let gray = |b: usize| {
            (1..levels).filter(|c| c % (1 << b) == 0 && c % (1 << (b + 1)) != 0).map(|c| Term::Above(c - 1)).collect()
        };
        let bits = (0..bits).rev().map(|b| if encoder.kind == Kind::Gray { gray(b) } else { bit(b) }).collect();
        Some(Plan { per_feature: levels - 1, thresholds, doubtful, bits })
    }

    /// Bin b holds what is above edge b and not above edge b + 1; the outer bins are open.
    fn one_hot(features: usize, edges: &[f32]) -> Option<Plan> {
        let per = edges.len().checked_div(features).filter(|&n| n >= 2 && n * features == edges.len())?;
        let (bins, inner) = (per - 1, per - 2);
        let thresholds = edges.chunks(per).flat_map(|e| e[1..per - 1].to_vec()).collect::<Vec<_>>();
        if inner == 0 {
            return Some(Plan {
                per_feature: 1,
                thresholds: vec![f32::NAN; features],
                doubtful: 0,
                bits: vec![vec![Term::NotAbove(0)]],
            });
        }
        let bit = |b: usize| match b {
            0 => vec![Term::NotAbove(0)],
            b if b + 1 == bins => vec![Term::Above(b - 1)],
            b => vec![Term::Above(b - 1), Term::Above(b)],
        };
        Some(Plan { per_feature: inner, thresholds, doubtful: 0, bits: (0..bins).map(bit).collect() })
    }

    /// The sign, then the magnitude, most significant bit first. A magnitude is reached on either side of zero.
    fn sign_magnitude(bits: usize, maxima: impl Iterator<Item = f32>) -> Plan {
        let levels = 1usize << (bits - 1);
        let mut thresholds = Vec::new();
        for max in maxima {
            let code = |x: f32| ((x.abs() / (max + 1e-8)).clamp(0.0, 1.0) * (levels - 1) as f32) as usize;
            thresholds.push(-f32::from_bits(1));
            for c in 1..levels {
                let reached = rise(|x| if x < 0.0 { 0 } else { code(x) }, c);
                thresholds.extend([below(reached), -reached]);
            }
        }
        let magnitude = |b: usize| {
            (1..levels).filter(move |c| c % (1 << b) == 0).map(|c| Term::Outside(2 * c - 1, 2 * c)).collect::<Vec<_>>()
        };
        let mut all = vec![vec![Term::NotAbove(0)]];
        all.extend((0..bits - 1).rev().map(magnitude));
        Plan { per_feature: 2 * levels - 1, thresholds, doubtful: 0, bits: all }
    }

    fn network(&self, features: usize) -> Result<Netlist, NetlistError> {
        let n_inputs = features.checked_mul(self.per_feature).and_then(|n| u32::try_from(n).ok());
        let mut net = Netlist::new(n_inputs.ok_or(NetlistError::TooLarge { limit: bitc_ir::netlist::MAX_WIRES })?);
        let mut outputs = Vec::new();
        for feature in 0..features {
            let wire = |i: usize| Wire::new((feature * self.per_feature + i) as u32);
            for terms in &self.bits {
                let mut parts = Vec::with_capacity(terms.len());
                for term in terms {
                    parts.push(match *term {
                        Term::Above(i) => wire(i),
                        Term::NotAbove(i) => net.add(0b01, &[wire(i)])?,
                        Term::Outside(high, low) => net.add(0b1011, &[wire(high), wire(low)])?,
                    });
                }
                outputs.push(exclusive_or(&mut net, parts)?);
            }
        }
        for output in outputs {
            net.add_output(output)?;
        }
        Ok(net)
    }
}

/// The exclusive-or of any number of wires, in tables of up to six inputs.
fn exclusive_or(net: &mut Netlist, mut wires: Vec<Wire>) -> Result<Wire, NetlistError> {
    if wires.is_empty() {
        return net.add(0, &[]);
    }
    while wires.len() > 1 {
        let mut next = Vec::new();
        for chunk in wires.chunks(6) {
            let parity = (0..1u64 << chunk.len()).filter(|a| a.count_ones() % 2 == 1).fold(0, |t, a| t | 1 << a);
            next.push(if chunk.len() == 1 { chunk[0] } else { net.add(parity, chunk)? });
        }
        wires = next;
    }
    Ok(wires[0])
}

/// The level of a value between two bounds, as torch computes it in `f32`.
fn linear_code(x: f32, min: f32, max: f32, levels: usize) -> usize {
    (((x - min) / (max - min + 1e-8)).clamp(0.0, 1.0) * (levels - 1) as f32) as usize
}

/// The smallest float at which a code that never falls reaches `level`; infinite if it never does.
fn rise(code: impl Fn(f32) -> usize, level: usize) -> f32 {
    let (mut low, mut high) = (rank(f32::NEG_INFINITY), rank(f32::INFINITY));
    if code(f32::MAX) < level {
        return f32::INFINITY;
    }
    // A NaN code counts as 0: `as usize` makes it so.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if code(unrank(middle)) >= level { high = middle } else { low = middle }
    }
    unrank(high)
}

/// The largest float that is smaller.
fn below(x: f32) -> f32 {
    if x == f32::INFINITY { x } else { unrank(rank(x) - 1) }
}

/// Floats in order as integers.
fn rank(x: f32) -> i64 {
    let bits = i64::from(x.to_bits() & 0x7fff_ffff);
    if x.is_sign_negative() { -bits } else { bits }
}

fn unrank(rank: i64) -> f32 {
    let magnitude = f32::from_bits(rank.unsigned_abs() as u32);
    if rank < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(kind: Kind, bits: usize) -> Encoder {
        Encoder {
            place: Place { line: 1, column: 1 },
            kind,
            features: 1,
            bits: Some(bits),
            base: 2.0,
            keys: Vec::new(),
        }
    }

    /// The bits of one feature by the plan.
    fn encode(plan: &Plan, x: f32) -> Vec<u8> {
        let above: Vec<u64> = plan.thresholds.iter().map(|&t| u64::from(x > t)).collect();
        plan.network(1).unwrap().eval_words(&above, 1).iter().map(|w| (w & 1) as u8).collect()
    }

    fn code_bits(code: usize, bits: usize) -> Vec<u8> {
        (0..bits).rev().map(|b| (code >> b & 1) as u8).collect()
    }

    #[test]
    fn binary_and_gray_agree_with_their_formulas_everywhere() {
        let (min, max) = (-1.5f32, 2.25f32);
        let binary = Plan::of(&encoder(Kind::Binary, 4), &[vec![min], vec![max]]).unwrap();
        let gray = Plan::of(&encoder(Kind::Gray, 4), &[vec![min], vec![max]]).unwrap();
        let mut xs: Vec<f32> = (-40..60).map(|i| i as f32 / 16.0).collect();
        xs.extend(binary.thresholds.iter().flat_map(|&t| [t, unrank(rank(t) + 1)]));
        for x in xs {
            let code = linear_code(x, min, max, 16);
            assert_eq!(encode(&binary, x), code_bits(code, 4), "{x}");
            assert_eq!(encode(&gray, x), code_bits(code ^ (code >> 1), 4), "{x}");
        }
    }

    #[test]
    fn one_hot_gives_an_edge_to_the_lower_bin() {
        let plan = Plan::of(&encoder(Kind::OneHot, 3), &[vec![0.0, 1.0, 2.0, 3.0]]).unwrap();
        for (x, bits) in [(-1.0, [1, 0, 0]), (1.0, [1, 0, 0]), (1.5, [0, 1, 0]), (2.0, [0, 1, 0]), (9.0, [0, 0, 1])] {
            assert_eq!(encode(&plan, x), bits, "{x}");
        }
    }

    #[test]
    fn sign_and_magnitude_are_symmetric() {
        let plan = Plan::of(&encoder(Kind::SignMagnitude, 4), &[vec![2.0]]).unwrap();
        for i in -30..30 {
            let x = i as f32 / 10.0;
            let code = ((x.abs() / (2.0f32 + 1e-8)).clamp(0.0, 1.0) * 7.0) as usize;
            let mut want = vec![u8::from(x < 0.0)];
            want.extend(code_bits(code, 3));
            assert_eq!(encode(&plan, x), want, "{x}");
        }
        assert_eq!(encode(&plan, -0.0)[0], 0);
    }

    #[test]
    fn a_constant_feature_never_rises() {
        let plan = Plan::of(&encoder(Kind::Binary, 2), &[vec![1.0], vec![1.0]]).unwrap();
        assert_eq!(encode(&plan, 1.0), [0, 0]);
        assert_eq!(encode(&plan, 2.0), [1, 1]);
    }
}
