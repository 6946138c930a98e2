//! Reading the keys of a YAML map: typed, with defaults, and with every fault reported where it is.
//!
//! A schema is the sequence of reads; what nobody read is an unknown key, reported with the nearest key that was.

use std::cell::RefCell;

use super::document::{Entry, Node, Place, Value};
use crate::error::{Diagnostic, quoted};

/// Faults found so far, in the order of reading.
pub(super) type Faults = RefCell<Vec<Diagnostic>>;

/// The largest size that a model may name.
const SIZE_LIMIT: i64 = 1 << 31;

/// The entries of a map that is being read.
pub(super) struct Fields<'a> {
    /// What the map describes, for messages: `a linear layer`.
    what: String,
    pub(super) place: Place,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    faults: &'a Faults,
}

impl<'a> Fields<'a> {
    /// The entries of a node; nothing at all is an empty map.
    pub(super) fn of(node: &'a Node, what: impl Into<String>, faults: &'a Faults) -> Self {
        let what = what.into();
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => {
                let d = Diagnostic::wrong_input(format!("{what} is described by a map")).found(other.describe());
                faults.borrow_mut().push(node.place.at(d));
                &[]
            }
        };
        Self { what, place: node.place, entries, known: Vec::new(), faults }
    }

    /// Where faults go.
    pub(super) fn faults(&self) -> &'a Faults {
        self.faults
    }

    /// Adds a fault at a place.
    pub(super) fn fault(&self, place: Place, d: Diagnostic) {
        self.faults.borrow_mut().push(place.at(d));
    }

    /// The value of a key, which counts as known from now on.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.entries.iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|e| e.key == key)
    }

    /// Reports that a required key is absent.
    pub(super) fn missing(&self, key: &str) {
        self.fault(self.place, Diagnostic::wrong_input(format!("{} needs the key {}", self.what, quoted(key))));
    }

    fn read<T>(&mut self, key: &'static str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let node = self.node(key)?;
        let value = read(&node.value);
        if value.is_none() {
            let d = Diagnostic::wrong_input(format!("{} of {} has the wrong value", quoted(key), self.what));
            self.fault(node.place, d.expected(expected).found(node.value.describe()));
        }
        value
    }

    /// A size: an integer of at least `low`.
    pub(super) fn size(&mut self, key: &'static str, low: usize) -> Option<usize> {
        self.read(key, &format!("an integer from {low} to {SIZE_LIMIT}"), |v| size(v, low))
    }

    /// A size of at least 1 that must be there; 1 stands in for it after a fault.
    pub(super) fn required_size(&mut self, key: &'static str) -> usize {
        let value = self.size(key, 1);
        if value.is_none() && !self.has(key) {
            self.missing(key);
        }
        value.unwrap_or(1)
    }

    /// A height and a width: one size for both, or a list of two.
    pub(super) fn pair(&mut self, key: &'static str, low: usize) -> Option<[usize; 2]> {
        self.read(key, &format!("an integer from {low} to {SIZE_LIMIT}, or two in a list"), |v| match v {
            Value::List(items) => match &items[..] {
                [height, width] => Some([size(&height.value, low)?, size(&width.value, low)?]),
                _ => None,
            },
            other => size(other, low).map(|n| [n, n]),
        })
    }

    /// An integer of any sign.
    pub(super) fn int(&mut self, key: &'static str) -> Option<i64> {
        self.read(key, "an integer", |v| match v {
            Value::Int(n) => Some(*n),
            _ => None,
        })
    }

    /// A finite number.
    pub(super) fn number(&mut self, key: &'static str) -> Option<f32> {
        self.read(key, "a number", |v| {
            let v = match v {
                Value::Int(n) => *n as f32,
                Value::Float(v) => *v as f32,
                _ => return None,
            };
            v.is_finite().then_some(v)
        })
    }

    /// A finite number that is not negative.
    pub(super) fn positive(&mut self, key: &'static str) -> Option<f32> {
        self.read(key, "a number that is not negative", |v| {
            let v = match v {
                Value::Int(n) => *n as f32,
                Value::Float(v) => *v as f32,
                _ => return None,
            };
            (v.is_finite() && v >= 0.0).then_some(v)
        })
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |v| match v {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// A string; a number counts as its spelling, so that a layer may be named `0`.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a string", |v| match v {
            Value::Text(v) if !v.is_empty() => Some(v.clone()),
            Value::Int(n) => Some(n.to_string()),
            _ => None,
        })
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.node(key)?;
        let found = match &node.value {
            Value::Text(word) => words.iter().find(|(w, _)| w == word),
            _ => None,
        };
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(w, _)| *w).collect();
            let d = Diagnostic::wrong_input(format!("{} of {} has the wrong value", quoted(key), self.what));
            let d = d.expected(all.join(" or ")).found(node.value.describe());
            let d = match &node.value {
                Value::Text(word) => d.suggest(word, all),
                _ => d,
            };
            self.fault(node.place, d);
        }
        found.map(|(_, v)| *v)
    }

    /// The keys that were not read.
    pub(super) fn unread(&self) -> Vec<&'a str> {
        self.entries.iter().map(|e| e.key.as_str()).filter(|key| !self.known.contains(key)).collect()
    }

    /// Reports every key that was not read.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|e| !self.known.contains(&e.key.as_str())) {
            let d = Diagnostic::wrong_input(format!("{} has no key {}", self.what, quoted(&entry.key)));
            let known = self.known.join(", ");
            let d = if known.is_empty() { d } else { d.expected(known) };
            self.fault(entry.place, d.suggest(&entry.key, self.known.iter().copied()));
        }
    }
}

fn size(value: &Value, low: usize) -> Option<usize> {
    match value {
        Value::Int(n) if *n <= SIZE_LIMIT => usize::try_from(*n).ok().filter(|&n| n >= low),
        _ => None,
    }
}
