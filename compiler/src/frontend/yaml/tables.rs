//! A layer of tables in a graph, whichever schema describes it.

use bitc_ir::ops::Lut;
use bitc_ir::{Dim, Graph, Origin, Tensor, ValueId};

use crate::error::Diagnostic;

/// Adds a layer that reads `bits`; its connections are checked.
pub(super) fn add_layer(
    graph: &mut Graph,
    bits: ValueId,
    name: &str,
    connections: Tensor,
    tables: Tensor,
) -> Result<ValueId, Diagnostic> {
    check_connections(connections.iter().into_iter().flatten(), n_bits(graph, bits)).map_err(|d| d.node(name))?;
    let c = graph.add_const(&format!("{name}.connections"), connections);
    let t = graph.add_const(&format!("{name}.tables"), tables);
    let y = graph.add_node(name, Lut, &[Some(bits), Some(c), Some(t)]);
    let y = y.map_err(|e| Diagnostic::wrong_input(e.to_string()).node(name))?;
    if let Some(node) = graph.producer_id(y) {
        *graph.origin_mut(node) = Origin::of(name);
    }
    Ok(y)
}

/// Every connection names one of `limit` bits.
pub(super) fn check_connections(wires: impl IntoIterator<Item = i32>, limit: usize) -> Result<(), Diagnostic> {
    match wires.into_iter().enumerate().find(|&(_, w)| usize::try_from(w).map_or(true, |w| w >= limit)) {
        None => Ok(()),
        Some((at, wire)) => Err(Diagnostic::wrong_input(format!("connection {at} reads bit {wire}"))
            .expected(format!("a bit from 0 to {}", limit.saturating_sub(1)))),
    }
}

/// The bits of a row of a value.
pub(super) fn n_bits(graph: &Graph, bits: ValueId) -> usize {
    graph.ty(bits).shape.last().and_then(Dim::as_const).unwrap_or(0)
}
