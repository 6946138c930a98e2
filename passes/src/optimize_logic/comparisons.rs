//! The comparisons in front of a network: what they say about its input bits, and those that it does not read.

use std::collections::HashMap;

use bitc_ir::netlist::{Netlist, NetlistError, Wire};
use bitc_ir::ops::Thermometer;
use bitc_ir::{Graph, Tensor, ValueId};

use crate::logic::InputFact;

/// The thermometer that makes a network's bits, as one comparison per bit.
pub(super) struct Comparisons {
    /// The features that are compared.
    pub(super) x: ValueId,
    /// For each bit the feature and its threshold.
    cuts: Vec<(i32, f32)>,
}

/// What every feature is known to be within.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Domain {
    pub(super) min: Option<f32>,
    pub(super) max: Option<f32>,
}

impl Domain {
    /// Whether something is known.
    pub(super) fn is_known(self) -> bool {
        self.min.is_some() || self.max.is_some()
    }
}

impl Comparisons {
    /// The comparisons behind some bits, where a thermometer with constant thresholds makes them.
    pub(super) fn of(graph: &Graph, bits: ValueId) -> Option<Self> {
        let (node, Thermometer) = graph.producer::<Thermometer>(bits)?;
        let thresholds = graph.constant(graph.input(node, 1)?)?;
        let values = thresholds.to_vec::<f32>()?;
        let features = match graph.input(node, 2) {
            Some(features) => graph.constant(features)?.to_vec::<i32>()?,
            None => {
                let per_feature = *thresholds.dims().get(1)?;
                (0..values.len()).map(|i| i32::try_from(i / per_feature.max(1)).ok()).collect::<Option<_>>()?
            }
        };
        Some(Self { x: graph.input(node, 0)?, cuts: features.into_iter().zip(values).collect() })
    }

    /// Equal thresholds of a feature give equal bits, nothing is above a threshold that is infinite or no number, and
    /// inside the domain nothing is above its end and everything above what lies before it.
    pub(super) fn facts(&self, domain: Domain) -> Vec<InputFact> {
        let mut facts = Vec::with_capacity(self.cuts.len());
        let mut first: HashMap<(i32, u32), u32> = HashMap::new();
        for (&(feature, threshold), i) in self.cuts.iter().zip(0u32..) {
            let never = threshold.is_nan() || threshold == f32::INFINITY;
            // Adding zero makes the two zeros one.
            let key = (feature, (threshold + 0.0).to_bits());
            facts.push(match first.get(&key) {
                _ if never || domain.max.is_some_and(|max| threshold >= max) => InputFact::Constant(false),
                _ if domain.min.is_some_and(|min| threshold < min) => InputFact::Constant(true),
                Some(&same) => InputFact::SameAs(same),
                None => {
                    first.insert(key, i);
                    InputFact::Free
                }
            });
        }
        facts
    }

    /// Thresholds and features of the bits that the network reads, and the network over those; `None` where it reads
    /// all of them. One bit stays where none is read.
    pub(super) fn without_unread(&self, net: &Netlist) -> Option<Result<(Tensor, Tensor, Netlist), NetlistError>> {
        let n = self.cuts.len();
        let mut read = vec![false; n];
        let wires = net.nodes().flat_map(|(_, node)| node.inputs).chain(net.outputs());
        wires.filter(|w| w.index() < n).for_each(|w| read[w.index()] = true);
        if n > 0 && !read.contains(&true) {
            read[0] = true;
        }
        let kept: Vec<usize> = (0..n).filter(|&i| read[i]).collect();
        if kept.len() == n {
            return None;
        }
        let thresholds: Vec<f32> = kept.iter().map(|&i| self.cuts[i].1).collect();
        let features: Vec<i32> = kept.iter().map(|&i| self.cuts[i].0).collect();
        let tensors = (Tensor::new(&[kept.len()], &thresholds), Tensor::new(&[kept.len()], &features));
        Some(over_inputs(net, &kept).map(|net| (tensors.0, tensors.1, net)))
    }
}

/// The same network over some of its inputs, which are all that it reads.
fn over_inputs(net: &Netlist, kept: &[usize]) -> Result<Netlist, NetlistError> {
    let mut map = vec![Wire::new(0); net.n_wires()];
    for (new, &old) in (0u32..).zip(kept) {
        map[old] = Wire::new(new);
    }
    let mut result = Netlist::new(kept.len() as u32);
    let mut inputs = Vec::new();
    for (wire, node) in net.nodes() {
        inputs.clear();
        inputs.extend(node.inputs.iter().map(|w| map[w.index()]));
        map[wire.index()] = result.add(node.table, &inputs)?;
    }
    for output in net.outputs() {
        result.add_output(map[output.index()])?;
    }
    Ok(result)
}
