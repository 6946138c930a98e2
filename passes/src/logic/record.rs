//! What became of a network, step by step: kept in the metadata of the graph, so that it goes where the graph goes.
//!
//! An entry per network, under `ai.bitc.network.NAME`, with a line per step: the network as that step left it. An entry per
//! approximation, under `ai.bitc.approximate.METHOD`.

use std::collections::BTreeMap;
use std::fmt;

use bitc_ir::netlist::Stats;
use bitc_ir::{Graph, NodeId};

use super::Step;

/// What begins the keys of all entries that say what bitc did to a model.
pub const NOTE_PREFIX: &str = "ai.bitc.";
/// What begins the keys of entries that say that a graph computes something else than its model; how comes next.
pub const APPROXIMATE: &str = "ai.bitc.approximate.";
/// The key of the entry that says that inputs are taken to hold only 0 and 1, whatever their type.
pub const BINARY_INPUTS: &str = "ai.bitc.binary_inputs";
/// A network that keeps its answers on calibration rows only, as a step and as an approximation.
pub const DONT_CARES: &str = "dont-cares";
/// What begins the keys of the entries about networks.
const NETWORK: &str = "ai.bitc.network.";
/// The name of the first line: the network before any step.
const START: &str = "start";

/// A network and the steps it went through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The name of the first source node that is part of it.
    pub network: String,
    /// The network as it was read, then as each step left it.
    pub steps: Vec<Recorded>,
}

/// A network as a step left it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recorded {
    /// The name of the step.
    pub step: String,
    /// Nodes that are left.
    pub nodes: u64,
    /// Bits of their tables.
    pub table_bits: u64,
    /// The most nodes on a path.
    pub depth: u64,
    /// What the step found, where it says.
    pub found: String,
}

impl Record {
    /// The records of a graph or an artifact, from its metadata.
    pub fn all<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Record> {
        entries.filter_map(|(key, value)| Self::read(key.strip_prefix(NETWORK)?, value)).collect()
    }

    fn read(network: &str, text: &str) -> Option<Self> {
        let steps = text.lines().map(Recorded::read).collect::<Option<Vec<_>>>()?;
        Some(Self { network: network.to_owned(), steps })
    }

    fn text(&self) -> String {
        self.steps.iter().map(Recorded::to_string).collect::<Vec<_>>().join("\n")
    }
}

impl Recorded {
    fn new(step: &str, stats: &Stats, found: String) -> Self {
        let (nodes, depth) = (stats.nodes() as u64, u64::from(stats.depth));
        Self { step: step.to_owned(), nodes, table_bits: stats.table_bits, depth, found }
    }

    fn read(line: &str) -> Option<Self> {
        let (step, rest) = line.split_once(": ")?;
        let mut words = rest.splitn(7, ' ');
        let mut number = |label: &str| {
            (words.next()? == label).then_some(())?;
            words.next()?.parse().ok()
        };
        let (nodes, table_bits, depth) = (number("nodes")?, number("bits")?, number("depth")?);
        let found = words.next().unwrap_or_default().to_owned();
        Some(Self { step: step.to_owned(), nodes, table_bits, depth, found })
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, nodes, table_bits, depth, found } = self;
        let gap = if found.is_empty() { "" } else { " " };
        write!(f, "{step}: nodes {nodes} bits {table_bits} depth {depth}{gap}{found}")
    }
}

/// Notes steps in the metadata of a graph: in the record of the network that ended as these begin, if there is one. Steps
/// that found nothing more to do are noted once.
pub fn note(graph: &mut Graph, node: NodeId, steps: &[Step]) {
    let Some(first) = steps.first() else { return };
    let at = graph.node(node);
    let unnamed = || at.outputs.first().map(|&v| graph.value(v).name.clone()).unwrap_or_default();
    let name = at.origin.names().first().cloned().unwrap_or_else(unnamed);
    let start = Recorded::new(START, &first.before, String::new());
    let mut record = Record { network: name.clone(), steps: vec![start] };
    for copy in 1.. {
        record.network = if copy == 1 { name.clone() } else { format!("{name}#{copy}") };
        let Some(text) = graph.meta.get(&format!("{NETWORK}{}", record.network)) else { break };
        let earlier = Record::read(&record.network, text).unwrap_or_default();
        let same = |a: &Recorded, b: &Recorded| (a.nodes, a.table_bits, a.depth) == (b.nodes, b.table_bits, b.depth);
        if earlier.steps.last().is_some_and(|last| same(last, &record.steps[0])) {
            if steps.iter().all(|s| s.before == s.after) {
                return;
            }
            record = earlier;
            break;
        }
    }
    record.steps.extend(steps.iter().map(|s| Recorded::new(s.name, &s.after, s.found.clone())));
    graph.meta.insert(format!("{NETWORK}{}", record.network), record.text());
}

/// Notes how a graph came to compute something else than its model, in place of what was noted about the same method;
/// `figures` are a line each, a name and a number.
pub fn note_approximation(graph: &mut Graph, method: &str, figures: &str) {
    graph.meta.insert(format!("{APPROXIMATE}{method}"), figures.to_owned());
}

/// What was found, without what was not: `3 constant, 1 wires`.
pub(super) fn list(counts: &[(&usize, &str)]) -> String {
    let found: Vec<String> = counts.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    found.join(", ")
}

/// The entries of metadata that say what bitc did.
pub fn notes(meta: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> + Clone {
    meta.iter().filter(|(key, _)| key.starts_with(NOTE_PREFIX)).map(|(key, value)| (key.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let found = "3 constant, 2 wires".to_owned();
        let step = |step: &str, nodes, found| Recorded { step: step.to_owned(), nodes, table_bits: 9, depth: 2, found };
        let record =
            Record { network: "l: 1".into(), steps: vec![step("start", 7, String::new()), step("fold", 4, found)] };
        let entry = (format!("{NETWORK}{}", record.network), record.text());
        assert_eq!(Record::all([(entry.0.as_str(), entry.1.as_str())].into_iter()), [record]);
        assert_eq!(
            Record::all([("ai.bitc.network.a", "fold: nodes many bits 1 depth 2"), ("producer", "x")].into_iter()),
            []
        );
    }
}
