//! Which nodes of a body are needed, and in which order they can be visited.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::error::Cause;
use crate::functions::subgraphs;
use crate::proto::{GraphProto, NodeProto};

/// The nodes that `outputs` need, each behind what it reads, otherwise in the order of the file.
///
/// `is_given` tells which names are defined without a node of the body: inputs, initializers, values of an outer body.
///
/// # Errors
/// If a name is defined twice, read and not defined, or depends on itself.
pub(crate) fn live_order<'m>(
    nodes: &'m [NodeProto],
    outputs: impl Iterator<Item = &'m str>,
    is_given: impl Fn(&str) -> bool,
) -> Result<Vec<u32>, Cause> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if is_given(name) || producers.insert(name, i).is_some() {
                return Err(Cause::DefinedTwice(name.clone()));
            }
        }
    }
    let reads: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            let mut found = Vec::new();
            for name in read_names(node) {
                match producers.get(name) {
                    Some(&i) => found.push(i),
                    None if is_given(name) => {}
                    None => return Err(Cause::Undefined(name.to_owned())),
                }
            }
            Ok(found)
        })
        .collect::<Result<_, _>>()?;

    let mut live = vec![false; nodes.len()];
    let mut open: Vec<usize> = Vec::new();
    for name in outputs.filter(|n| !n.is_empty()) {
        match producers.get(name) {
            Some(&i) => open.push(i),
            None if is_given(name) => {}
            None => return Err(Cause::Undefined(name.to_owned())),
        }
    }
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut live[i], true) {
            open.extend(&reads[i]);
        }
    }

    // The first in the file among the nodes that have all they read; dead nodes count, so that a cycle among them shows.
    let mut waits_for: Vec<usize> = reads.iter().map(Vec::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, producers) in reads.iter().enumerate() {
        producers.iter().for_each(|&p| readers[p].push(i));
    }
    let ready = |waits: &[usize]| waits.iter().enumerate().filter(|(_, w)| **w == 0).map(|(i, _)| Reverse(i)).collect();
    let mut heap: BinaryHeap<Reverse<usize>> = ready(&waits_for);
    let (mut order, mut visited) = (Vec::new(), 0);
    while let Some(Reverse(i)) = heap.pop() {
        visited += 1;
        if live[i] {
            order.push(u32::try_from(i).map_err(|_| Cause::TooManyNodes { limit: u64::from(u32::MAX) })?);
        }
        for &reader in &readers[i] {
            waits_for[reader] -= 1;
            if waits_for[reader] == 0 {
                heap.push(Reverse(reader));
            }
        }
    }
    if visited < nodes.len() {
        let stuck = waits_for.iter().position(|&w| w > 0).and_then(|i| nodes[i].output.iter().find(|n| !n.is_empty()));
        return Err(Cause::Cycle(stuck.cloned().unwrap_or_default()));
    }
    Ok(order)
}

/// The names that a node reads from the body it is in: its inputs, and what its subgraphs take from outside.
fn read_names(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
    if node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
        subgraphs(node).for_each(|graph| captured(graph, &mut names));
    }
    names
}

/// Adds the names that a graph, or one inside it, reads and does not define. The depth of messages is limited.
fn captured<'m>(graph: &'m GraphProto, names: &mut Vec<&'m str>) {
    let mut own: HashSet<&str> = graph.input.iter().map(|v| v.name.as_str()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    own.extend(graph.sparse_initializer.iter().map(super::tensor::sparse_name));
    own.extend(graph.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let mut read: Vec<&str> = graph.output.iter().map(|v| v.name.as_str()).collect();
    for node in &graph.node {
        read.extend(node.input.iter().map(String::as_str));
        subgraphs(node).for_each(|inner| captured(inner, &mut read));
    }
    names.extend(read.into_iter().filter(|n| !n.is_empty() && !own.contains(n)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let strings = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        NodeProto { input: strings(inputs), output: strings(outputs), ..Default::default() }
    }

    fn order(nodes: &[NodeProto], outputs: &[&'static str]) -> Result<Vec<u32>, Cause> {
        live_order(nodes, outputs.iter().copied(), |n| n == "x")
    }

    #[test]
    fn file_order_is_kept_and_dead_nodes_are_left_out() {
        let nodes = [node(&["x"], &["a"]), node(&["x"], &["dead"]), node(&["a", ""], &["b", ""])];
        assert_eq!(order(&nodes, &["b"]).unwrap(), [0, 2]);
        let shuffled = [node(&["b"], &["c"]), node(&["a"], &["b"]), node(&["x"], &["a"])];
        assert_eq!(order(&shuffled, &["c"]).unwrap(), [2, 1, 0]);
        assert_eq!(order(&[], &["x"]).unwrap(), [0u32; 0]);
    }

    #[test]
    fn what_no_order_satisfies_is_an_error() {
        assert_eq!(order(&[node(&["y"], &["a"])], &["a"]).unwrap_err(), Cause::Undefined("y".into()));
        assert_eq!(order(&[], &["y"]).unwrap_err(), Cause::Undefined("y".into()));
        assert_eq!(order(&[node(&[], &["x"])], &["x"]).unwrap_err(), Cause::DefinedTwice("x".into()));
        assert_eq!(
            order(&[node(&[], &["a"]), node(&[], &["a"])], &["a"]).unwrap_err(),
            Cause::DefinedTwice("a".into())
        );
        let cycle = [node(&["b"], &["a"]), node(&["a"], &["b"])];
        assert_eq!(order(&cycle, &["a"]).unwrap_err(), Cause::Cycle("a".into()));
        assert_eq!(order(&[node(&["a"], &["a"])], &["x"]).unwrap_err(), Cause::Cycle("a".into()));
    }
}
