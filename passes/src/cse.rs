//! `cse`: computes equal things once.
//!
//! Two nodes with the same operation and the same inputs have the same outputs; two constants with the same type and
//! bytes are the same value. Exporters write one activation quantiser per layer that reads it; this makes it one again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bitc_ir::{AttrError, AttrReader, Graph, NodeId, Op, Tensor, ValueDef, ValueId};

use crate::pass::{Changed, Pass, PassCx, PassError, RemarkKind, Values};

/// See the module.
#[derive(Debug)]
pub struct Cse;

impl Cse {
    pub(crate) const NAME: &'static str = "cse";
    pub(crate) const DOC: &'static str = "Computes equal things once and keeps equal constants once.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for Cse {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut uses = graph.uses();
        let mut changed = false;
        let mut merge = |graph: &mut Graph, old: ValueId, new: ValueId| {
            let retyped = |error| PassError::Retyped { pass: Self::NAME, rule: "merge", error };
            uses.replace(graph, old, new).map_err(retyped)
        };

        let mut constants: HashMap<u64, Vec<ValueId>> = HashMap::new();
        let ids: Vec<ValueId> = graph.values().map(|(id, _)| id).collect();
        for id in ids {
            // Parameters that begin alike may still be trained apart.
            let ValueDef::Const(tensor) = &graph.value(id).def else { continue };
            let slot = constants.entry(fingerprint(tensor)).or_default();
            let same = slot.iter().copied().find(|&other| graph.constant(other) == Some(tensor));
            match same {
                None => slot.push(id),
                Some(_) if !cx.take_rewrite() => break,
                Some(first) => {
                    merge(graph, id, first)?;
                    changed = true;
                }
            }
        }

        // Nodes are in topological order, so equal inputs have become the same value before their readers are seen.
        let mut nodes: HashMap<(&'static str, Vec<Option<ValueId>>), Vec<NodeId>> = HashMap::new();
        let count = graph.nodes().len();
        for index in 0..count {
            let id = NodeId::new(index);
            let node = graph.node(id);
            if let Op::Custom(_) = node.op {
                continue;
            }
            let slot = nodes.entry((node.op.name(), node.inputs.clone())).or_default();
            let same = slot.iter().copied().find(|&other| graph.node(other).op == node.op);
            match same {
                None => slot.push(id),
                Some(_) if !cx.take_rewrite() => break,
                Some(first) => {
                    cx.remark(graph, id, "merge", RemarkKind::Applied);
                    let origin = graph.node(id).origin.clone();
                    graph.merge_origin(first, &origin);
                    for (old, new) in graph.node(id).outputs.clone().into_iter().zip(graph.node(first).outputs.clone())
                    {
                        merge(graph, old, new)?;
                        graph.take_name(old, new);
                    }
                    changed = true;
                }
            }
        }
        graph.compact();
        Ok(Changed::when(changed))
    }
}

fn fingerprint(tensor: &Tensor) -> u64 {
    let mut hasher = DefaultHasher::new();
    (tensor.dtype(), tensor.dims(), tensor.bytes()).hash(&mut hasher);
    hasher.finish()
}
