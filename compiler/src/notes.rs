//! What was done to a model, as its graph and its artifact remember it: the steps of logic networks, and whether the
//! result computes something else than the model.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bitc_ir::Graph;
use bitc_passes::logic::record::{self, APPROXIMATE, BINARY_INPUTS, Record, Recorded};
use serde::Serialize;

use crate::error::escape;

/// What begins the keys of entries that count what the last bit of a float decides.
const TIES: &str = "ai.bitc.ties.";

/// What was done. The keys of the JSON form are part of the command line's contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Notes {
    /// The logic networks and the steps they went through.
    pub networks: Vec<Network>,
    /// Why the result computes something else than the model; empty if it does not.
    pub approximations: Vec<Approximation>,
    /// What the last bit of a float decides, so that libraries differ: how many of each kind there are.
    pub ties: BTreeMap<String, u64>,
    /// Whether inputs are taken to hold only 0 and 1, whatever their type.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub binary_inputs: bool,
}

/// Table entries so close to their threshold that float rounding decides.
pub const TIED_ENTRIES: &str = "table_entries";
/// Floats on which side of a step of an encoder the last bit of a logarithm decides.
pub const TIED_FLOATS: &str = "encoder_floats";

/// Notes a number of ties in the metadata of a graph.
pub fn note_ties(graph: &mut Graph, kind: &str, count: u64) {
    graph.meta.insert(format!("{TIES}{kind}"), count.to_string());
}

/// A logic network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Network {
    /// The name of the first source node that is part of it.
    pub name: String,
    /// The network as it was read, then as each step left it.
    pub steps: Vec<Step>,
}

/// A network as a step left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The name of the step.
    pub step: String,
    /// Nodes that are left.
    pub nodes: u64,
    /// Bits of their tables.
    pub table_bits: u64,
    /// The most nodes on a path.
    pub depth: u64,
    /// What the step found.
    pub found: String,
}

/// A way in which the result computes something else than the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Approximation {
    /// What was done.
    pub method: String,
    /// How far it agrees with the model, and on what.
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

impl Notes {
    /// What some entries of metadata say; others are skipped.
    pub fn of<'a>(entries: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let step = |s: Recorded| Step {
            step: escape(&s.step),
            nodes: s.nodes,
            table_bits: s.table_bits,
            depth: s.depth,
            found: escape(&s.found),
        };
        let network = |r: Record| Network { name: escape(&r.network), steps: r.steps.into_iter().map(step).collect() };
        let approximation =
            |(key, value): (&str, &str)| Some(Approximation::read(key.strip_prefix(APPROXIMATE)?, value));
        let ties = |(key, value): (&str, &str)| Some((escape(key.strip_prefix(TIES)?), value.parse().ok()?));
        Self {
            networks: Record::all(entries.clone()).into_iter().map(network).collect(),
            approximations: entries.clone().filter_map(approximation).collect(),
            binary_inputs: entries.clone().any(|(key, _)| key == BINARY_INPUTS),
            ties: entries.filter_map(ties).collect(),
        }
    }

    /// What a graph remembers.
    pub fn of_graph(graph: &Graph) -> Self {
        Self::of(record::notes(&graph.meta))
    }

    /// What the notes of an artifact say.
    pub fn of_artifact(notes: &[(String, String)]) -> Self {
        Self::of(notes.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// All of it for people: a table per network, a line per approximation.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for network in &self.networks {
            let _ = writeln!(text, "logic network {}", network.name);
            let _ = writeln!(text, "  {:<12} {:>9} {:>11} {:>6}", "step", "nodes", "table bits", "depth");
            for s in &network.steps {
                let line = format!("  {:<12} {:>9} {:>11} {:>6}  {}", s.step, s.nodes, s.table_bits, s.depth, s.found);
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        if self.binary_inputs {
            let _ = writeln!(text, "inputs are taken to hold only 0 and 1");
        }
        for approximation in &self.approximations {
            let _ = writeln!(text, "{}", approximation.text());
        }
        for (kind, count) in &self.ties {
            let _ = writeln!(text, "ties: {count} {}, decided by the last bit of a float", kind.replace('_', " "));
        }
        text
    }
}

impl Approximation {
    /// Tables of real numbers that were taken for bits.
    pub const DISCRETIZE: &str = "discretize";
    /// A network that keeps its answers on calibration rows only.
    pub const DONT_CARES: &str = record::DONT_CARES;

    fn read(method: &str, text: &str) -> Self {
        let figure = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((escape(name), value.parse().ok().filter(|v: &f64| v.is_finite())?))
        };
        Self { method: escape(method), figures: text.lines().filter_map(figure).collect() }
    }

    /// Notes it in the metadata of a graph, in place of what was noted about the same method.
    pub fn note(&self, graph: &mut Graph) {
        let lines: Vec<String> = self.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        record::note_approximation(graph, &self.method, &lines.join("\n"));
    }

    /// One line for people: counts, then parts in percent.
    pub fn text(&self) -> String {
        let is_count = |name: &str| name.ends_with("_rows");
        let (counts, parts): (Vec<_>, Vec<_>) = self.figures.iter().partition(|(name, _)| is_count(name));
        let figure = |(name, value): (&String, &f64)| match is_count(name) {
            true => format!("{} {value}", name.replace('_', " ")),
            false => format!("{} {:.2} %", name.replace('_', " "), 100.0 * value),
        };
        let figures: Vec<String> = counts.into_iter().chain(parts).map(figure).collect();
        format!("approximate ({}), not the trained function: {}", self.method, figures.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approximation_reads_back_as_it_was_written() {
        let figures = BTreeMap::from([("bit_agreement".to_owned(), 0.99925), ("held_out_rows".to_owned(), 200.0)]);
        let approximation = Approximation { method: Approximation::DONT_CARES.to_owned(), figures };
        let mut graph = Graph::new("g");
        graph.meta.insert("producer".to_owned(), "x 1".to_owned());
        approximation.note(&mut graph);
        let notes = Notes::of_graph(&graph);
        assert_eq!(notes, Notes { approximations: vec![approximation], ..Notes::default() });
        assert!(notes.text().contains("held out rows 200, bit agreement 99.92 %"), "{}", notes.text());
    }

    #[test]
    fn ties_read_back_as_they_were_counted() {
        let mut graph = Graph::new("g");
        note_ties(&mut graph, TIED_ENTRIES, 7);
        let notes = Notes::of_graph(&graph);
        assert_eq!(notes.ties[TIED_ENTRIES], 7);
        assert_eq!(notes.text(), "ties: 7 table entries, decided by the last bit of a float\n");
    }
}
