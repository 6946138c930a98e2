//! What can be wrong with a model, and where.
//!
//! An [`ImportError`] is a list of [`Fault`]s: a cause and a place. Causes of bad input and causes of input that is fine
//! but not supported are told apart by [`Cause::is_unsupported`]; they are never mixed up, since users act differently.
//! Names from the file are escaped and cut before they enter a message.

use std::fmt::{self, Write as _};

use thiserror::Error;

/// Why a model was not imported: every fault found, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportError {
    faults: Vec<Fault>,
}

impl ImportError {
    /// An error from its faults; `None` if there are none.
    pub fn new(faults: Vec<Fault>) -> Option<Self> {
        (!faults.is_empty()).then_some(Self { faults })
    }

    /// The faults, in the order of the model.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether the model is valid as far as was seen, and only something in it is not supported.
    pub fn is_unsupported(&self) -> bool {
        self.faults.iter().all(|f| f.cause.is_unsupported())
    }
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl From<Cause> for ImportError {
    fn from(cause: Cause) -> Self {
        Fault::from(cause).into()
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ImportError {}

/// One cause at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What is wrong or not supported.
    pub cause: Box<Cause>,
    /// The node it was found at, if at one.
    pub node: Option<NodePlace>,
}

/// A node in words that its author knows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodePlace {
    /// The name of the node, with the functions it was reached through: `block/attn/MatMul_3`.
    pub name: String,
    /// The operator with its domain, as `bitc::BitLinear` or `Conv`.
    pub op: String,
    /// The version of the domain's operator set that the model imports.
    pub opset: Option<i64>,
    /// The source line that made the node, where the exporter recorded one.
    pub source: Option<String>,
}

impl Fault {
    /// The same cause at a node.
    pub fn at(cause: Cause, node: NodePlace) -> Self {
        Self { cause: Box::new(cause), node: Some(node) }
    }

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&str> {
        self.cause.hint()
    }
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { cause: Box::new(cause), node: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(node) = &self.node {
            write!(f, "\n  in node {} ({}", quoted(&node.name), printable(&node.op))?;
            if let Some(opset) = node.opset {
                write!(f, ", opset {opset}")?;
            }
            f.write_char(')')?;
        }
        if let Some(source) = self.node.as_ref().and_then(|n| n.source.as_ref()) {
            write!(f, "\n  from {}", printable(source))?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// A cause: what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// The bytes are no protobuf message of ONNX's.
    #[error("not a readable ONNX file: {detail} (byte {offset})")]
    Malformed {
        /// What does not decode.
        detail: String,
        /// Where, from the start of the file.
        offset: u64,
    },
    /// The file decodes and holds no graph, or not what a model must have.
    #[error("not an ONNX model: {0}")]
    NotAModel(String),
    /// Messages nest too deeply.
    #[error("messages nest more than {limit} deep (byte {offset})")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Where, from the start of the file.
        offset: u64,
    },
    /// More memory would be needed than may be taken.
    #[error("{what} takes {needed} bytes, which exceeds what is left of the memory limit of {limit} bytes")]
    OverBudget {
        /// What wanted the memory.
        what: String,
        /// How much of it.
        needed: u64,
        /// The limit of the whole run.
        limit: u64,
    },
    /// Expanding functions and branches gives too many nodes.
    #[error("expanding functions gives more than {limit} nodes")]
    TooManyNodes {
        /// The limit.
        limit: u64,
    },
    /// A version of the file format that is not known.
    #[error("IR version {found} is not supported, expected 3 to 14")]
    IrVersion {
        /// The version in the file.
        found: i64,
    },
    /// A dimension was to be bound that no input has.
    #[error("no dimension is called {}{}", quoted(.name), known_dims(.known))]
    UnknownDim {
        /// The name.
        name: String,
        /// The names that inputs have.
        known: Vec<String>,
    },
    /// A node uses a domain that the model does not import.
    #[error("domain {} is used but not imported", quoted(.0))]
    DomainNotImported(String),
    /// The data of a tensor does not fit its declaration.
    #[error("tensor {}: {detail}", quoted(.tensor))]
    Tensor {
        /// The name of the tensor.
        tensor: String,
        /// Expected and found.
        detail: String,
    },
    /// A tensor of an element type, or stored in a way, that is not supported.
    #[error("tensor {}: {detail} is not supported", quoted(.tensor))]
    TensorKind {
        /// The name of the tensor.
        tensor: String,
        /// What is not supported.
        detail: String,
    },
    /// External data is declared wrongly or cannot be read.
    #[error("external data of tensor {}: {detail}", quoted(.tensor))]
    External {
        /// The name of the tensor.
        tensor: String,
        /// What is wrong.
        detail: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// A graph input or value has a type that no tensor has.
    #[error("value {}: {detail}", quoted(.value))]
    ValueType {
        /// The name of the value.
        value: String,
        /// Expected and found.
        detail: String,
    },
    /// A graph input of a type that is not supported.
    #[error("value {}: {detail} is not supported", quoted(.value))]
    ValueKind {
        /// The name of the value.
        value: String,
        /// What is not supported.
        detail: String,
    },
    /// An operator that bitc does not know.
    #[error("unsupported operator {}{}", printable(.op), near(.nearest))]
    UnknownOp {
        /// The operator with its domain.
        op: String,
        /// The known operator of the most similar name.
        nearest: Option<String>,
        /// What the user can do.
        hint: Option<String>,
    },
    /// An operator that is known, used in a way that is not supported.
    #[error("{detail} is not supported")]
    OpForm {
        /// The attribute, input or type.
        detail: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// Control flow that depends on data.
    #[error("control flow that depends on data is not supported: {detail}")]
    ControlFlow {
        /// The operator and why.
        detail: String,
    },
    /// An attribute is missing, unknown, of the wrong type or out of range.
    #[error("attribute {}: {detail}", quoted(.name))]
    Attribute {
        /// The name of the attribute.
        name: String,
        /// Expected and found.
        detail: String,
    },
    /// The node has too few or too many inputs or outputs.
    #[error("{0}")]
    Arity(String),
    /// The types of the inputs do not fit the operator.
    #[error("{0}")]
    Type(String),
    /// A node or an output refers to a name that nothing defines.
    #[error("value {} is used but not defined", quoted(.0))]
    Undefined(String),
    /// Two nodes, inputs or initializers define one name.
    #[error("value {} is defined twice", quoted(.0))]
    DefinedTwice(String),
    /// A value depends on itself.
    #[error("value {} depends on itself", quoted(.0))]
    Cycle(String),
    /// A model-local function is declared twice, calls itself or is called wrongly.
    #[error("function {}: {detail}", printable(.function))]
    Function {
        /// The function with its domain.
        function: String,
        /// What is wrong.
        detail: String,
    },
}

impl Cause {
    /// Whether the input may well be valid and is only not supported.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Cause::OverBudget { .. }
            | Cause::TooManyNodes { .. }
            | Cause::TooDeep { .. }
            | Cause::IrVersion { .. }
            | Cause::TensorKind { .. }
            | Cause::ValueKind { .. }
            | Cause::UnknownOp { .. }
            | Cause::OpForm { .. }
            | Cause::ControlFlow { .. } => true,
            Cause::Malformed { .. }
            | Cause::NotAModel(_)
            | Cause::DomainNotImported(_)
            | Cause::UnknownDim { .. }
            | Cause::Tensor { .. }
            | Cause::External { .. }
            | Cause::ValueType { .. }
            | Cause::Attribute { .. }
            | Cause::Arity(_)
            | Cause::Type(_)
            | Cause::Undefined(_)
            | Cause::DefinedTwice(_)
            | Cause::Cycle(_)
            | Cause::Function { .. } => false,
        }
    }

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Cause::OverBudget { .. } => Some("raise the limit with --max-memory if the file is trusted"),
            Cause::External { hint, .. } | Cause::UnknownOp { hint, .. } | Cause::OpForm { hint, .. } => {
                hint.as_deref()
            }
            Cause::ControlFlow { .. } => {
                Some("export the model with fixed conditions and unrolled loops, for example by tracing")
            }
            _ => None,
        }
    }
}

fn near(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |n| format!(", did you mean `{n}`?"))
}

fn known_dims(known: &[String]) -> String {
    let names: Vec<_> = known.iter().map(|n| quoted(n)).collect();
    if names.is_empty() { ", the inputs have fixed sizes".into() } else { format!(", expected {}", names.join(" or ")) }
}

/// The longest name that a message repeats.
const LONGEST_NAME: usize = 80;

/// A name from a file in backquotes: control characters escaped, cut at 80 characters.
pub fn quoted(name: &str) -> String {
    format!("`{}`", printable(name))
}

/// Text from a file on one line: control characters escaped, cut at 80 characters.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == LONGEST_NAME {
            out.push_str("..");
            break;
        }
        if c.is_control() || is_invisible(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Characters that change the direction or the look of a line without being seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_cut() {
        assert_eq!(quoted("a\n\u{1b}[31mb"), "`a\\u{a}\\u{1b}[31mb`");
        assert_eq!(printable(&"x".repeat(200)).len(), 82);
        assert_eq!(printable("\u{202e}"), "\\u{202e}");
    }

    #[test]
    fn a_fault_says_where_and_what_to_do() {
        let place = NodePlace {
            name: "layer3/Conv_7".into(),
            op: "my::Conv".into(),
            opset: Some(1),
            source: Some("model.py:12, in forward".into()),
        };
        let cause =
            Cause::UnknownOp { op: "my::Conv".into(), nearest: Some("Conv".into()), hint: Some("inline it".into()) };
        let error = ImportError::from(Fault::at(cause, place));
        assert!(error.is_unsupported());
        assert_eq!(
            error.to_string(),
            "unsupported operator my::Conv, did you mean `Conv`?\n  in node `layer3/Conv_7` (my::Conv, opset 1)\n  \
             from model.py:12, in forward\n  hint: inline it"
        );
    }
}
