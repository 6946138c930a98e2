//! Limits that hold before anything is allocated: file size, depth of messages, memory.
//!
//! [`check`] walks the bytes of a model once, without recursion and without decoding, and charges what the decoded
//! structs will take. Only a file that passes is given to prost, which recurses and grows vectors as it reads. Groups,
//! which ONNX does not use and which nest without a length, are refused.

use crate::error::Cause;
use crate::proto;

/// What an import may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest model file.
    pub file_bytes: u64,
    /// Messages inside messages; a subgraph takes three levels.
    pub depth: usize,
    /// Memory beyond the file itself. `None` is 512 MB and twice the length of the file.
    pub memory_bytes: Option<u64>,
    /// Nodes after functions and branches are expanded.
    pub nodes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 1 << 36, depth: 64, memory_bytes: None, nodes: 1_000_000 }
    }
}

impl Limits {
    /// The memory budget of an import of a file of that length.
    pub fn budget(&self, file_bytes: u64) -> Budget {
        let limit = self.memory_bytes.unwrap_or_else(|| (512 << 20) + file_bytes.saturating_mul(2));
        Budget { limit, used: 0 }
    }
}

/// Memory that may still be taken.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: u64,
    used: u64,
}

impl Budget {
    /// A budget of that many bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, used: 0 }
    }

    /// Takes `bytes` for `what`.
    ///
    /// # Errors
    /// If that is more than is left; nothing is taken then.
    pub fn charge(&mut self, bytes: u64, what: impl FnOnce() -> String) -> Result<(), Cause> {
        match self.used.checked_add(bytes).filter(|&sum| sum <= self.limit) {
            Some(sum) => {
                self.used = sum;
                Ok(())
            }
            None => Err(Cause::OverBudget { what: what(), needed: bytes, limit: self.limit }),
        }
    }

    /// Bytes taken so far.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

/// The messages that hold messages. Everything else is a leaf here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Function,
    /// A message without messages inside: entry, opset, dimension, segment.
    Leaf(usize),
}

/// What a length-delimited field is.
enum Field {
    Message(Kind),
    /// A string or bytes; its length in bytes may be copied.
    Text,
    /// Bytes that stay a slice of the file.
    Bytes,
    /// Packed numbers, by the bytes that one takes when decoded.
    Varints(u64),
    Fixed,
    /// A field that is skipped.
    Unknown,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Kind::Model => size_of::<proto::ModelProto>(),
            Kind::Graph => size_of::<proto::GraphProto>(),
            Kind::Node => size_of::<proto::NodeProto>(),
            Kind::Attribute => size_of::<proto::AttributeProto>(),
            Kind::Tensor => size_of::<proto::TensorProto>(),
            Kind::Sparse => size_of::<proto::SparseTensorProto>(),
            Kind::ValueInfo => size_of::<proto::ValueInfoProto>(),
            Kind::Type => size_of::<proto::TypeProto>(),
            Kind::TensorType => size_of::<proto::TensorTypeProto>(),
            Kind::Shape => size_of::<proto::TensorShapeProto>(),
            Kind::Function => size_of::<proto::FunctionProto>(),
            Kind::Leaf(size) => size,
        }
    }

    /// What field `number` of this message is, if it is length-delimited.
    fn field(self, number: u64) -> Field {
        use Field::{Bytes, Fixed, Message, Text, Unknown, Varints};
        let entry = Message(Kind::Leaf(size_of::<proto::StringStringEntryProto>()));
        let opset = Message(Kind::Leaf(size_of::<proto::OperatorSetIdProto>()));
        match (self, number) {
            (Kind::Model, 2..=4 | 6) => Text,
            (Kind::Model, 7) => Message(Kind::Graph),
            (Kind::Model, 8) => opset,
            (Kind::Model, 14) => entry,
            (Kind::Model, 25) => Message(Kind::Function),
            (Kind::Graph, 1) => Message(Kind::Node),
            (Kind::Graph, 2 | 10) => Text,
            (Kind::Graph, 5) => Message(Kind::Tensor),
            (Kind::Graph, 11..=13) => Message(Kind::ValueInfo),
            (Kind::Graph, 15) => Message(Kind::Sparse),
            (Kind::Graph, 16) => entry,
            (Kind::Node, 1..=4 | 6..=8) => Text,
            (Kind::Node, 5) => Message(Kind::Attribute),
            (Kind::Node, 9) => entry,
            (Kind::Attribute, 1 | 13 | 21) => Text,
            (Kind::Attribute, 4 | 9) => Bytes,
            (Kind::Attribute, 5 | 10) => Message(Kind::Tensor),
            (Kind::Attribute, 6 | 11) => Message(Kind::Graph),
            (Kind::Attribute, 7) => Fixed,
            (Kind::Attribute, 8) => Varints(8),
            (Kind::Attribute, 22) => Message(Kind::Sparse),
            (Kind::Tensor, 1 | 7 | 11) => Varints(8),
            (Kind::Tensor, 3) => Message(Kind::Leaf(size_of::<proto::Segment>())),
            (Kind::Tensor, 4 | 10) => Fixed,
            (Kind::Tensor, 5) => Varints(4),
            (Kind::Tensor, 6 | 9) => Bytes,
            (Kind::Tensor, 8 | 12) => Text,
            (Kind::Tensor, 13) => entry,
            (Kind::Sparse, 1 | 2) => Message(Kind::Tensor),
            (Kind::Sparse, 3) => Varints(8),
            (Kind::ValueInfo, 1 | 3) => Text,
            (Kind::ValueInfo, 2) => Message(Kind::Type),
            (Kind::Type, 1) => Message(Kind::TensorType),
            (Kind::Type, 4 | 5 | 7..=9) => Message(Kind::Leaf(0)),
            (Kind::TensorType, 2) => Message(Kind::Shape),
            (Kind::Shape, 1) => Message(Kind::Leaf(size_of::<proto::Dimension>())),
            (Kind::Function, 1 | 4..=6 | 8 | 10 | 13) => Text,
            (Kind::Function, 7) => Message(Kind::Node),
            (Kind::Function, 9) => opset,
            (Kind::Function, 11) => Message(Kind::Attribute),
            (Kind::Function, 12) => Message(Kind::ValueInfo),
            (Kind::Function, 14) => entry,
            (Kind::Leaf(_), 1 | 2) => Text,
            _ => Unknown,
        }
    }
}

/// Checks the structure of a model file against the limits and charges what decoding it will take.
///
/// # Errors
/// If the bytes are no protobuf messages, nest too deeply or would take too much memory.
pub fn check(bytes: &[u8], limits: &Limits, budget: &mut Budget) -> Result<(), Cause> {
    let len = bytes.len() as u64;
    if len > limits.file_bytes {
        return Err(Cause::OverBudget { what: "the file".into(), needed: len, limit: limits.file_bytes });
    }
    let mut wire = Wire { bytes, at: 0 };
    // The messages that are open, with their ends; the innermost is last.
    let mut open = vec![(Kind::Model, bytes.len())];
    while let Some(&(kind, end)) = open.last() {
        if wire.at == end {
            open.pop();
            continue;
        }
        let (number, wire_type) = wire.key(end)?;
        let field = kind.field(number);
        match wire_type {
            0 => {
                wire.varint(end)?;
                charge(budget, 8)?;
            }
            1 => {
                wire.skip(8, end)?;
                charge(budget, 8)?;
            }
            5 => {
                wire.skip(4, end)?;
                charge(budget, 4)?;
            }
            2 => {
                let len = wire.varint(end)?;
                let start = wire.at;
                wire.skip(len, end)?;
                let content = &bytes[start..wire.at];
                match field {
                    Field::Message(inner) => {
                        if open.len() >= limits.depth {
                            return Err(Cause::TooDeep { limit: limits.depth, offset: start as u64 });
                        }
                        // A vector that grows by doubling holds up to twice its elements.
                        charge(budget, inner.size().saturating_mul(2) as u64)?;
                        open.push((inner, wire.at));
                        wire.at = start;
                    }
                    Field::Text => charge(budget, len.saturating_add(48))?,
                    Field::Bytes => charge(budget, 64)?,
                    Field::Varints(size) => {
                        let count = content.iter().filter(|&&b| b < 0x80).count() as u64;
                        charge(budget, count.saturating_mul(size))?;
                    }
                    Field::Fixed => charge(budget, len)?,
                    Field::Unknown => {}
                }
            }
            _ => return Err(wire.malformed("a group or an unknown wire type")),
        }
    }
    Ok(())
}

fn charge(budget: &mut Budget, bytes: u64) -> Result<(), Cause> {
    budget.charge(bytes, || "decoding the file".into())
}

/// A cursor over protobuf's wire format.
struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Wire<'_> {
    fn key(&mut self, end: usize) -> Result<(u64, u8), Cause> {
        let key = self.varint(end)?;
        match key >> 3 {
            0 => Err(self.malformed("field number 0")),
            number => Ok((number, (key & 7) as u8)),
        }
    }

    fn varint(&mut self, end: usize) -> Result<u64, Cause> {
        let mut value = 0u64;
        for i in 0..10 {
            let Some(&byte) = self.bytes.get(self.at).filter(|_| self.at < end) else {
                return Err(self.malformed("a number is cut off"));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number of more than ten bytes"))
    }

    fn skip(&mut self, len: u64, end: usize) -> Result<(), Cause> {
        match usize::try_from(len).ok().and_then(|len| self.at.checked_add(len)).filter(|&to| to <= end) {
            Some(to) => {
                self.at = to;
                Ok(())
            }
            None => Err(self.malformed(&format!("a field of {len} bytes where {} are left", end - self.at))),
        }
    }

    fn malformed(&self, detail: &str) -> Cause {
        Cause::Malformed { detail: detail.into(), offset: self.at as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn check_bytes(bytes: &[u8], memory: u64) -> Result<u64, Cause> {
        let mut budget = Budget::new(memory);
        check(bytes, &Limits::default(), &mut budget).map(|()| budget.used())
    }

    /// A message field around `inner`.
    fn wrap(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        prost::encode_length_delimiter(inner.len(), &mut out).unwrap();
        out.extend_from_slice(inner);
        out
    }

    #[test]
    fn a_model_passes_and_is_charged_for() {
        let node = proto::NodeProto { input: vec!["x".into()], op_type: "Relu".into(), ..Default::default() };
        let graph = proto::GraphProto { node: vec![node; 10], ..Default::default() };
        let bytes = proto::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
        let used = check_bytes(&bytes, 1 << 20).unwrap();
        assert!(used as usize > 10 * size_of::<proto::NodeProto>());
    }

    #[test]
    fn many_empty_messages_are_over_budget_before_they_exist() {
        // Two bytes each in the file, hundreds in memory.
        let graph = [0x0a, 0x00].repeat(100_000);
        let err = check_bytes(&wrap(7, &graph), 1 << 20).unwrap_err();
        assert!(matches!(err, Cause::OverBudget { .. }), "{err}");
    }

    #[test]
    fn packed_numbers_are_charged_by_count() {
        let used = |data: &[u8]| check_bytes(&wrap(7, &wrap(5, &wrap(7, data))), 1 << 20).unwrap();
        assert_eq!(used(&[0; 1000]) - used(&[]), 8000);
    }

    #[test]
    fn nesting_stops_at_the_limit() {
        // graph { node { attribute { g { ... } } } }
        let mut inner = Vec::new();
        for _ in 0..40 {
            inner = wrap(1, &wrap(5, &wrap(6, &inner)));
        }
        let err = check_bytes(&wrap(7, &inner), 1 << 30).unwrap_err();
        assert!(matches!(err, Cause::TooDeep { limit: 64, .. }), "{err}");
    }

    #[test]
    fn what_is_no_protobuf_is_malformed() {
        for bytes in
            [&b"\x0a"[..], b"\x0a\x05ab", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b\x0c", b"\x00\x00"]
        {
            let err = check_bytes(bytes, 1 << 20).unwrap_err();
            assert!(matches!(err, Cause::Malformed { .. }), "{err}");
        }
    }

    #[test]
    fn a_file_over_the_size_limit_is_refused() {
        let limits = Limits { file_bytes: 3, ..Limits::default() };
        let err = check(b"\x08\x01\x08\x01", &limits, &mut Budget::new(100)).unwrap_err();
        assert!(matches!(err, Cause::OverBudget { needed: 4, .. }), "{err}");
    }
}
