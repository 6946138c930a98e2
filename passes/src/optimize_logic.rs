//! `optimize-logic`: fewer gates for the same function, each step checked.
//!
//! `logic_net(bits) == logic_net'(bits)`: constants, wires, inverters, duplicates and unread inputs go, wide tables are
//! split into gates of three inputs, and gates are merged by cuts (`logic.rs`). Where the bits come from thermometers
//! with equal thresholds, equal bits are one.

use std::collections::HashMap;
use std::sync::Arc;

use bitc_ir::ops::{LogicNet, Thermometer};
use bitc_ir::{AttrError, AttrReader, Graph, NodeId, Op, Origin, ValueId};

use crate::logic::{self, InputFact, Step};
use crate::pass::{Changed, Pass, PassCx, PassError, RemarkKind, Values};

/// See the module.
#[derive(Debug)]
pub struct OptimizeLogic {
    /// Random samples that every step is checked on.
    check_samples: u64,
}

impl OptimizeLogic {
    pub(crate) const NAME: &'static str = "optimize-logic";
    pub(crate) const DOC: &'static str = "Finds fewer gates for the same function, each step checked.";

    pub(crate) fn from_params(params: &mut AttrReader) -> Result<Self, AttrError> {
        let samples = params.int("check_samples")?.unwrap_or(4096);
        let check_samples =
            u64::try_from(samples).map_err(|_| params.invalid("check_samples", "not negative", samples))?;
        Ok(Self { check_samples })
    }
}

impl Pass for OptimizeLogic {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let nets: Vec<NodeId> =
            graph.nodes().filter(|(_, n)| matches!(n.op, Op::LogicNet(_))).map(|(id, _)| id).collect();
        let mut changed = Changed::No;
        for node in nets {
            let Op::LogicNet(op) = &graph.node(node).op else { continue };
            let bits = graph.input(node, 0);
            let inputs = bits.map(|v| facts(graph, v)).unwrap_or_default();
            let options = logic::Options { inputs, check_samples: self.check_samples, ..logic::Options::default() };
            let origin = graph.node(node).origin.clone();
            let input = |message: String| PassError::Input { message, origin: Origin::default() };
            let (net, steps) = logic::optimize(&op.net, &options).map_err(|e| input(e.to_string()))?;
            if !cx.take_rewrite() {
                break;
            }
            for step in &steps {
                cx.remark(graph, node, step.name, RemarkKind::Note(describe(step)));
            }
            let old = graph.node(node).outputs[0];
            let retyped = |error| PassError::Retyped { pass: Self::NAME, rule: "optimize", error };
            let new = graph.add_node("", LogicNet { net: Arc::new(net) }, &[bits]).map_err(retyped)?;
            graph.replace_uses(old, new).map_err(retyped)?;
            graph.take_name(old, new);
            if let Some(producer) = graph.producer_id(new) {
                graph.merge_origin(producer, &origin);
            }
            changed = Changed::Yes;
        }
        Ok(changed)
    }
}

fn describe(step: &Step) -> String {
    let (before, after) = (&step.before, &step.after);
    let counts = step.folded.as_ref().map_or_else(String::new, |f| {
        format!(
            " ({} constant, {} wires, {} inverters, {} duplicates, {} unread inputs)",
            f.constants, f.wires, f.inverters, f.duplicates, f.unread_inputs
        )
    });
    format!(
        "nodes {} -> {}, table bits {} -> {}, depth {} -> {}{counts}",
        before.nodes(),
        after.nodes(),
        before.table_bits,
        after.table_bits,
        before.depth,
        after.depth
    )
}

/// What a thermometer in front of a network says about its input bits: equal thresholds of a feature give equal bits,
/// and nothing is above a threshold that is infinite or no number.
fn facts(graph: &Graph, bits: ValueId) -> Vec<InputFact> {
    let Some((node, Thermometer)) = graph.producer::<Thermometer>(bits) else { return Vec::new() };
    let thresholds = graph.input(node, 1).and_then(|v| graph.constant(v));
    let Some((values, per_feature)) = thresholds.and_then(|t| Some((t.to_vec::<f32>()?, t.dims()[1]))) else {
        return Vec::new();
    };
    let mut facts = Vec::with_capacity(values.len());
    let mut first: HashMap<u32, u32> = HashMap::new();
    for (i, &threshold) in values.iter().enumerate() {
        if per_feature > 0 && i % per_feature == 0 {
            first.clear();
        }
        let never = threshold.is_nan() || threshold == f32::INFINITY;
        // Adding zero makes the two zeros one.
        let key = (threshold + 0.0).to_bits();
        facts.push(match first.get(&key) {
            _ if never => InputFact::Constant(false),
            Some(&same) => InputFact::SameAs(same),
            None => {
                first.insert(key, i as u32);
                InputFact::Free
            }
        });
    }
    facts
}
