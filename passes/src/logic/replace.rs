//! The networks of a graph, and another one in the place of one of them.

use std::sync::Arc;

use bitc_ir::netlist::Netlist;
use bitc_ir::ops::LogicNet;
use bitc_ir::{Graph, NodeId, Op, Origin, ValueId};

use crate::pass::PassError;

/// The nodes that hold networks.
pub(crate) fn networks(graph: &Graph) -> Vec<NodeId> {
    graph.nodes().filter(|(_, n)| matches!(n.op, Op::LogicNet(_))).map(|(id, _)| id).collect()
}

/// Puts a network over `bits` in the place of that of a node, under its name and origin.
///
/// # Errors
/// If it has not the inputs and outputs that it needs there: a bug of `pass`.
pub(crate) fn replace(
    graph: &mut Graph,
    node: NodeId,
    net: Netlist,
    bits: Option<ValueId>,
    pass: &'static str,
) -> Result<(), PassError> {
    let retyped = |error| PassError::Retyped { pass, rule: "replace", error };
    let (old, origin) = (graph.node(node).outputs[0], graph.node(node).origin.clone());
    let new = graph.add_node("", LogicNet { net: Arc::new(net) }, &[bits]).map_err(retyped)?;
    graph.replace_uses(old, new).map_err(retyped)?;
    graph.take_name(old, new);
    if let Some(producer) = graph.producer_id(new) {
        graph.merge_origin(producer, &origin);
    }
    Ok(())
}

/// A network that cannot be worked on, for a reason that lies in what was given.
pub(crate) fn fault(error: impl ToString) -> PassError {
    PassError::Input { message: error.to_string(), origin: Origin::default() }
}
