//! `optimize-logic`: fewer gates for the same function, each step checked.
//!
//! `logic_net(bits) == logic_net'(bits)`: constants, wires, inverters, duplicates and unread inputs go, wide tables are
//! split into gates of three inputs, and gates are merged by cuts (`logic.rs`). Where a thermometer makes the bits, equal
//! thresholds of a feature give one bit, and comparisons that the network no longer reads go as well.
//!
//! Parameters: `check_samples`, the random samples that each step is checked on (4096; of networks of more than 262,144
//! nodes fewer, as many as make 2^30 nodes, at least 512); `input_min` and `input_max`, what all
//! features are known to be within, so that thresholds outside give constant bits. Values outside give other results.

mod comparisons;

use bitc_ir::netlist::Netlist;
use bitc_ir::ops::Thermometer;
use bitc_ir::{AttrError, AttrReader, Graph, Op, ValueId};

use self::comparisons::{Comparisons, Domain};
use crate::logic::{self, fault, record};
use crate::pass::{Changed, Pass, PassCx, PassError, Values};

/// See the module.
#[derive(Debug)]
pub struct OptimizeLogic {
    /// Random samples that every step is checked on; by default as many as the size of the network allows.
    check_samples: Option<u64>,
    domain: Domain,
}

impl OptimizeLogic {
    pub(crate) const NAME: &'static str = "optimize-logic";
    pub(crate) const DOC: &'static str = "Finds fewer gates for the same function, each step checked.";

    pub(crate) fn from_params(params: &mut AttrReader) -> Result<Self, AttrError> {
        let check_samples = match params.int("check_samples")? {
            None => None,
            Some(n) => Some(u64::try_from(n).map_err(|_| params.invalid("check_samples", "not negative", n))?),
        };
        let domain = Domain { min: params.float("input_min")?, max: params.float("input_max")? };
        for (name, bound) in [("input_min", domain.min), ("input_max", domain.max)] {
            if let Some(bound) = bound.filter(|b| !b.is_finite()) {
                return Err(params.invalid(name, "finite", bound));
            }
        }
        Ok(Self { check_samples, domain })
    }
}

impl Pass for OptimizeLogic {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        if self.domain.is_known() { Values::Free } else { Values::Exact }
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        for node in logic::networks(graph) {
            let Op::LogicNet(op) = &graph.node(node).op else { continue };
            let bits = graph.input(node, 0);
            let comparisons = bits.and_then(|v| Comparisons::of(graph, v));
            let inputs = comparisons.as_ref().map(|c| c.facts(self.domain)).unwrap_or_default();
            let check_samples = self.check_samples.unwrap_or_else(|| logic::check_samples(&op.net));
            let options = logic::Options { inputs, check_samples, ..logic::Options::default() };
            let (net, steps) = logic::optimize(&op.net, &options).map_err(fault)?;
            if !cx.take_rewrite() {
                break;
            }
            record::note(graph, node, &steps);
            let (net, bits) = match &comparisons {
                Some(comparisons) => read_bits(graph, comparisons, net, bits)?,
                None => (net, bits),
            };
            logic::replace(graph, node, net, bits, Self::NAME)?;
            changed = Changed::Yes;
        }
        Ok(changed)
    }
}

/// The network over the comparisons that it reads, and the bits that those give.
fn read_bits(
    graph: &mut Graph,
    comparisons: &Comparisons,
    net: Netlist,
    bits: Option<ValueId>,
) -> Result<(Netlist, Option<ValueId>), PassError> {
    let Some(pruned) = comparisons.without_unread(&net) else { return Ok((net, bits)) };
    let (thresholds, features, net) = pruned.map_err(fault)?;
    let old = bits.and_then(|v| graph.producer_id(v));
    let origin = old.map(|node| graph.node(node).origin.clone()).unwrap_or_default();
    let thresholds = graph.add_const("", thresholds);
    let features = graph.add_const("", features);
    let inputs = [Some(comparisons.x), Some(thresholds), Some(features)];
    let bits = graph.add_node("", Thermometer, &inputs).map_err(fault)?;
    if let Some(node) = graph.producer_id(bits) {
        graph.merge_origin(node, &origin);
    }
    Ok((net, Some(bits)))
}
