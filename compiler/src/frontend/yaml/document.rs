//! YAML documents as plain trees in which every value knows its line and column.
//!
//! Anchors, aliases, tags, merge keys, repeated keys and further documents are refused, and sizes are limited, so that a
//! small file cannot become a large tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::error::Diagnostic;

/// The longest document, in bytes.
const BYTES_LIMIT: usize = 1 << 20;
/// How deep values may be nested.
const DEPTH_LIMIT: usize = 32;
/// How many values a document may have.
const VALUES_LIMIT: usize = 100_000;

/// A place in the document, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl Place {
    /// Puts a diagnostic at this place.
    pub(crate) fn at(self, d: Diagnostic) -> Diagnostic {
        d.line(self.line, self.column)
    }
}

/// A value and where it begins.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A YAML value.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

impl Value {
    /// What kind of value this is, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".into(),
            Value::Bool(v) => v.to_string(),
            Value::Int(v) => v.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Text(v) => crate::error::quoted(v),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }
}

/// Reads the one document of a text.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, Diagnostic> {
    if bytes.len() > BYTES_LIMIT {
        return Err(Diagnostic::wrong_input("the YAML file is too long")
            .expected(format!("at most {BYTES_LIMIT} bytes"))
            .found(bytes.len()));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Diagnostic::wrong_input("the YAML file is not UTF-8").offset(e.valid_up_to() as u64))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_anchors: 0,
            max_aliases: 0,
            max_documents: 1,
            max_merge_keys: 0,
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
            max_nodes: VALUES_LIMIT,
            max_events: 3 * VALUES_LIMIT,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| explain(&e))
}

/// A parser's error as a diagnostic; the limits that are not about size get words of their own.
fn explain(error: &serde_saphyr::Error) -> Diagnostic {
    let text = error.to_string();
    let place = error.location();
    let message = match &text {
        t if t.contains("Anchors {") || t.contains("Aliases {") => {
            "anchors and aliases are not allowed here".to_string()
        }
        t if t.contains("Documents {") => "a second document is not allowed here".to_string(),
        t if t.contains("duplicate mapping key") => {
            let key =
                t.strip_prefix("duplicate mapping key: ").and_then(|t| t.split(", set ").next()).unwrap_or_default();
            format!("the key {} occurs twice", crate::error::quoted(key))
        }
        t if t.contains("budget breached") || t.contains("recursion limit") => {
            format!("the document is too large or too deep: {t}")
        }
        t => match t.rsplit_once(" at line ") {
            Some((what, _)) => format!("this is no valid YAML: {what}"),
            None => format!("this is no valid YAML: {t}"),
        },
    };
    let d = Diagnostic::wrong_input(message);
    match place {
        Some(at) if at.line() > 0 => d.line(at.line(), at.column()),
        _ => d,
    }
}

fn place<T>(spanned: &Spanned<T>) -> Place {
    Place { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { place: place(&spanned), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        i64::try_from(v).map(Value::Int).map_err(|_| E::custom("an integer is too large"))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Node>()? {
            entries.push(Entry { place: place(&key), key: key.value, value });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().file("m").print(crate::error::Format::Short)
    }

    #[test]
    fn values_know_their_places() {
        let node = parse(b"a: 1\nb:\n  - {c: [x, 2.5, 1e-3]}\n  - ~\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!() };
        assert_eq!((entries[1].key.as_str(), entries[1].place), ("b", Place { line: 2, column: 1 }));
        let Value::List(items) = &entries[1].value.value else { panic!() };
        assert_eq!(items[0].place, Place { line: 3, column: 5 });
        let Value::Map(inner) = &items[0].value else { panic!() };
        let Value::List(list) = &inner[0].value.value else { panic!() };
        assert!(matches!(list[2].value, Value::Float(v) if v == 1e-3));
        assert!(matches!(items[1].value, Value::Null));
    }

    #[test]
    fn what_multiplies_or_hides_is_refused_with_its_place() {
        assert!(error("a: &x 1\nb: *x").starts_with("error: m:1:7: anchors and aliases"));
        assert!(error("a: 1\na: 2").starts_with("error: m:2:1: the key `a` occurs twice"));
        assert!(error("a: !!python/object:os.system x").contains("unsupported tag"));
        assert!(error("a: {<<: {b: 1}}").contains("merge key"));
        assert!(error("a: 1\n---\nb: 2").contains("a second document"));
        assert!(error(&"[".repeat(1000)).contains("error: m:1:"));
        assert!(error(&format!("a: {}1{}", "[".repeat(40), "]".repeat(40))).contains("too large or too deep"));
        assert!(error(&"- 1\n".repeat(200_000)).contains("too large or too deep"));
        assert!(error(&" ".repeat(BYTES_LIMIT + 1)).contains("too long"));
        assert!(parse(b"\xff").unwrap_err().message.contains("UTF-8"));
        assert!(error("a: [1").starts_with("error: m:1:4: this is no valid YAML: unclosed bracket"));
    }
}
