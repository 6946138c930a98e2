//! Operators of `ai.bitc` that were written in place, and how they are found again.
//!
//! The first node of each carries a mark: the operator and its attributes. Who reads the model writes the definition of
//! that operator anew and compares it node by node and constant by constant with what stands there. Only where all is
//! equal, and nothing else reads what is inside, does the operator take the place of the nodes. So a mark is never
//! believed: a model that another tool has changed reads as what it says. Of an operator with several results, what makes
//! one that nobody reads need not be there.

use std::collections::{BTreeMap, HashMap};

use super::bodies::{self, Carrier};
use super::convert::{attr_float, attr_int, attr_ints};
use super::scope::{Scope, needed};
use super::{DOMAIN, META_PREFIX};
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto, attribute_type as kind,
};

/// The key of the mark.
fn key() -> String {
    format!("{META_PREFIX}call")
}

/// The mark of an operator: its name and its attributes, as in `BitLinear shape=[784,128]`.
pub(super) fn mark(name: &str, attributes: &[AttributeProto]) -> StringStringEntryProto {
    let mut value = name.to_owned();
    for a in attributes {
        let literal = match a.r#type {
            kind::INTS => format!("{:?}", a.ints).replace(' ', ""),
            kind::INT => format!("{}", a.i.unwrap_or_default()),
            _ => format!("{:?}f", a.f.unwrap_or_default()),
        };
        value.push_str(&format!(" {}={literal}", a.name));
    }
    StringStringEntryProto { key: key(), value }
}

/// The operator and attributes of a mark.
fn read_mark(mark: &str) -> Option<(&str, Vec<AttributeProto>)> {
    const LONGEST: usize = 4096;
    let mut words = mark.split(' ').filter(|_| mark.len() <= LONGEST);
    let name = words.next()?;
    let attribute = |word: &str| {
        let (name, value) = word.split_once('=')?;
        if let Some(list) = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
            let ints =
                list.split(',').filter(|v| !v.is_empty()).map(|v| v.parse().ok()).collect::<Option<Vec<i64>>>()?;
            return Some(attr_ints(name, &ints));
        }
        match value.strip_suffix('f') {
            Some(float) => Some(attr_float(name, float.parse().ok()?)),
            None => Some(attr_int(name, value.parse().ok()?)),
        }
    };
    Some((name, words.map(attribute).collect::<Option<_>>()?))
}

/// The graph with operators in the place of their definitions; `None` if there are none.
pub(crate) fn restored(graph: &GraphProto, opset: i64) -> Option<GraphProto> {
    let key = key();
    let marked = |n: &NodeProto| n.metadata_props.iter().find(|e| e.key == key).map(|e| e.value.clone());
    if !graph.node.iter().any(|n| marked(n).is_some()) {
        return None;
    }
    let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut readers: HashMap<&str, usize> = HashMap::new();
    let outputs = graph.output.iter().map(|o| o.name.as_str());
    for name in graph.node.iter().flat_map(|n| &n.input).map(String::as_str).chain(outputs) {
        *readers.entry(name).or_default() += 1;
    }
    let mut nodes = Vec::new();
    let mut rest = &graph.node[..];
    while let Some((first, others)) = rest.split_first() {
        let found = marked(first).and_then(|mark| operator(&mark, rest, opset, &constants, &readers));
        let (node, len) = found.unwrap_or_else(|| (first.clone(), 1));
        nodes.push(node);
        rest = others.get(len - 1..).unwrap_or_default();
    }
    Some(GraphProto { node: nodes, ..graph.clone() })
}

/// The operator that the nodes in front define, and how many they are.
fn operator(
    mark: &str,
    nodes: &[NodeProto],
    opset: i64,
    constants: &HashMap<&str, &TensorProto>,
    readers: &HashMap<&str, usize>,
) -> Option<(NodeProto, usize)> {
    let (name, attributes) = read_mark(mark)?;
    let (formal, _) = bodies::signature(name);
    let mut scope = Scope::graph(opset);
    formal.iter().for_each(|n| {
        scope.take_name(n);
    });
    scope.begin_call(&attributes);
    let results = bodies::define(&mut scope, name, formal, Carrier::Bytes)?;
    // What nobody reads of several results is not written.
    let some = results.iter().map(std::slice::from_ref).filter(|_| results.len() > 1);
    std::iter::once(&results[..]).chain(some).find_map(|wanted| {
        let definition = needed(scope.nodes.clone(), wanted.iter());
        let found = nodes.get(..definition.len())?;
        let names = matched(&definition, &scope.constants, found, wanted, constants, readers)?;
        let actual = |n: &str| names.get(n).cloned();
        let last = found.last()?;
        let node = NodeProto {
            input: formal.iter().map(|n| actual(n)).collect::<Option<_>>()?,
            output: results.iter().map(|n| actual(n).filter(|_| wanted.contains(n)).unwrap_or_default()).collect(),
            op_type: name.to_owned(),
            domain: DOMAIN.to_owned(),
            attribute: attributes.clone(),
            name: last.name.clone(),
            metadata_props: last.metadata_props.iter().filter(|e| e.key != key()).cloned().collect(),
            ..NodeProto::default()
        };
        Some((node, found.len()))
    })
}

/// What the names of a definition are called in the nodes that stand there; `None` if those are other nodes, or something
/// else reads what is inside.
fn matched(
    definition: &[NodeProto],
    own: &[TensorProto],
    found: &[NodeProto],
    results: &[String],
    constants: &HashMap<&str, &TensorProto>,
    readers: &HashMap<&str, usize>,
) -> Option<BTreeMap<String, String>> {
    let own: BTreeMap<&str, &TensorProto> = own.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (mine, theirs) in definition.iter().zip(found) {
        let same = mine.op_type == theirs.op_type
            && theirs.domain.is_empty()
            && mine.attribute == theirs.attribute
            && mine.input.len() == theirs.input.len()
            && mine.output.len() == theirs.output.len();
        if !same {
            return None;
        }
        for (a, b) in mine.input.iter().zip(&theirs.input) {
            let known = *names.entry(a).or_insert(b);
            let equal =
                own.get(a.as_str()).is_none_or(|t| constants.get(b.as_str()).is_some_and(|u| same_tensor(t, u)));
            if known != b || !equal {
                return None;
            }
        }
        for (a, b) in mine.output.iter().zip(&theirs.output) {
            if names.insert(a, b).is_some() {
                return None;
            }
        }
    }
    let inside = definition.iter().flat_map(|n| &n.output).filter(|n| !results.contains(n));
    for inner in inside {
        let within = definition.iter().flat_map(|n| &n.input).filter(|n| *n == inner).count();
        if readers.get(names.get(inner.as_str())?).copied().unwrap_or(0) != within {
            return None;
        }
    }
    Some(names.into_iter().map(|(mine, theirs)| (mine.to_owned(), theirs.to_owned())).collect())
}

/// Whether two constants are equal but for their names; both have their data as bytes in the model.
fn same_tensor(a: &TensorProto, b: &TensorProto) -> bool {
    a.data_type == b.data_type && a.dims == b.dims && a.raw_data.is_some() && a.raw_data == b.raw_data
}
