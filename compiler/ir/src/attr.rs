//! Attributes of operations: typed values by name, and the reader every operation is built through.
//!
//! The text parser and the importers hand an [`AttrReader`] to an operation, which takes what it knows. What is left
//! unread is an error, so a misspelt attribute never passes silently.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::netlist::Netlist;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape};

/// One attribute value.
#[derive(Clone, PartialEq, Debug)]
pub enum Attr {
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float; printed so that it reads back to the same bits.
    Float(f32),
    /// A string.
    Str(String),
    /// A list of integers; also what an empty list reads as.
    Ints(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of strings.
    Strs(Vec<String>),
    /// Dimensions of which at least one is symbolic; a list of plain numbers is [`Attr::Ints`].
    Shape(Shape),
    /// An array.
    Tensor(Tensor),
    /// A logic network.
    Netlist(Arc<Netlist>),
}

impl Attr {
    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Attr::Bool(_) => "a bool",
            Attr::Int(_) => "an integer",
            Attr::Float(_) => "a float",
            Attr::Str(_) => "a string",
            Attr::Ints(_) => "a list of integers",
            Attr::Floats(_) => "a list of floats",
            Attr::Strs(_) => "a list of strings",
            Attr::Shape(_) => "a list of dimensions",
            Attr::Tensor(_) => "a tensor",
            Attr::Netlist(_) => "a netlist",
        }
    }
}

impl From<bool> for Attr {
    fn from(v: bool) -> Self {
        Attr::Bool(v)
    }
}

impl From<i64> for Attr {
    fn from(v: i64) -> Self {
        Attr::Int(v)
    }
}

impl From<f32> for Attr {
    fn from(v: f32) -> Self {
        Attr::Float(v)
    }
}

impl From<&str> for Attr {
    fn from(v: &str) -> Self {
        Attr::Str(v.to_owned())
    }
}

impl From<String> for Attr {
    fn from(v: String) -> Self {
        Attr::Str(v)
    }
}

impl From<Arc<Netlist>> for Attr {
    fn from(v: Arc<Netlist>) -> Self {
        Attr::Netlist(v)
    }
}

impl From<Vec<i64>> for Attr {
    fn from(v: Vec<i64>) -> Self {
        Attr::Ints(v)
    }
}

impl From<&Shape> for Attr {
    fn from(shape: &Shape) -> Self {
        let fixed = shape.to_fixed().and_then(|d| d.into_iter().map(|n| i64::try_from(n).ok()).collect());
        fixed.map_or_else(|| Attr::Shape(shape.clone()), Attr::Ints)
    }
}

/// Attributes by name, in canonical (sorted) order.
pub type Attrs = BTreeMap<String, Attr>;

/// What is wrong with an attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttrError {
    /// No such operation.
    #[error("no operation is called `{name}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownOp {
        /// The name asked for.
        name: String,
        /// The closest known one.
        nearest: Option<String>,
    },
    /// An attribute the operation does not have.
    #[error("`{op}` has no attribute `{attr}`")]
    Unknown {
        /// The operation.
        op: &'static str,
        /// The attribute.
        attr: String,
    },
    /// An attribute without a default is absent.
    #[error("`{op}` needs the attribute `{attr}`")]
    Missing {
        /// The operation.
        op: &'static str,
        /// The attribute.
        attr: &'static str,
    },
    /// An attribute has the wrong kind or value.
    #[error("attribute `{attr}` of `{op}` must be {expected}, found {found}")]
    Invalid {
        /// The operation.
        op: &'static str,
        /// The attribute.
        attr: &'static str,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
}

/// Hands out attributes one by one and complains about those nobody asked for.
pub struct AttrReader {
    op: &'static str,
    attrs: Attrs,
}

impl AttrReader {
    /// A reader over the attributes of one operation.
    pub fn new(op: &'static str, attrs: Attrs) -> Self {
        Self { op, attrs }
    }

    /// # Errors
    /// If an attribute was never read.
    pub fn finish(self) -> Result<(), AttrError> {
        match self.attrs.into_keys().next() {
            Some(attr) => Err(AttrError::Unknown { op: self.op, attr }),
            None => Ok(()),
        }
    }

    /// The attribute as it is, if present.
    pub fn take(&mut self, attr: &str) -> Option<Attr> {
        self.attrs.remove(attr)
    }

    /// All attributes that were not read yet.
    pub fn take_rest(&mut self) -> Attrs {
        std::mem::take(&mut self.attrs)
    }

    /// An error about the value of an attribute.
    pub fn invalid(&self, attr: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> AttrError {
        AttrError::Invalid { op: self.op, attr, expected: expected.to_string(), found: found.to_string() }
    }

    fn missing(&self, attr: &'static str) -> AttrError {
        AttrError::Missing { op: self.op, attr }
    }

    fn typed<T>(
        &mut self,
        attr: &'static str,
        expected: &str,
        convert: impl FnOnce(Attr) -> Result<T, Attr>,
    ) -> Result<Option<T>, AttrError> {
        match self.take(attr).map(convert) {
            None => Ok(None),
            Some(Ok(v)) => Ok(Some(v)),
            Some(Err(other)) => Err(self.invalid(attr, expected, other.kind())),
        }
    }

    /// An optional bool.
    pub fn bool(&mut self, attr: &'static str) -> Result<Option<bool>, AttrError> {
        self.typed(attr, "a bool", |a| match a {
            Attr::Bool(v) => Ok(v),
            other => Err(other),
        })
    }

    /// An optional integer.
    pub fn int(&mut self, attr: &'static str) -> Result<Option<i64>, AttrError> {
        self.typed(attr, "an integer", |a| match a {
            Attr::Int(v) => Ok(v),
            other => Err(other),
        })
    }

    /// An integer that must be there.
    pub fn required_int(&mut self, attr: &'static str) -> Result<i64, AttrError> {
        self.int(attr)?.ok_or_else(|| self.missing(attr))
    }

    /// An optional float; an integer is taken as one.
    pub fn float(&mut self, attr: &'static str) -> Result<Option<f32>, AttrError> {
        self.typed(attr, "a float", |a| match a {
            Attr::Float(v) => Ok(v),
            Attr::Int(v) => Ok(v as f32),
            other => Err(other),
        })
    }

    /// An optional string.
    pub fn str(&mut self, attr: &'static str) -> Result<Option<String>, AttrError> {
        self.typed(attr, "a string", |a| match a {
            Attr::Str(v) => Ok(v),
            other => Err(other),
        })
    }

    /// An optional list of integers.
    pub fn ints(&mut self, attr: &'static str) -> Result<Option<Vec<i64>>, AttrError> {
        self.typed(attr, "a list of integers", |a| match a {
            Attr::Ints(v) => Ok(v),
            other => Err(other),
        })
    }

    /// An optional list of non-negative integers of a given length.
    pub fn sizes<const N: usize>(&mut self, attr: &'static str) -> Result<Option<[usize; N]>, AttrError> {
        let Some(list) = self.ints(attr)? else { return Ok(None) };
        let sizes: Option<Vec<usize>> = list.iter().map(|&v| usize::try_from(v).ok()).collect();
        match sizes.and_then(|s| s.try_into().ok()) {
            Some(sizes) => Ok(Some(sizes)),
            None => Err(self.invalid(attr, format!("{N} numbers that are not negative"), format!("{list:?}"))),
        }
    }

    /// Dimensions that must be there; plain numbers and symbolic ones alike.
    pub fn required_shape(&mut self, attr: &'static str) -> Result<Shape, AttrError> {
        match self.take(attr) {
            None => Err(self.missing(attr)),
            Some(Attr::Shape(shape)) => Ok(shape),
            Some(Attr::Ints(v)) => {
                let dims = v.iter().map(|&n| usize::try_from(n).ok().map(Dim::from)).collect::<Option<Vec<_>>>();
                dims.map(Shape).ok_or_else(|| self.invalid(attr, "dimensions", format!("{v:?}")))
            }
            Some(other) => Err(self.invalid(attr, "dimensions", other.kind())),
        }
    }

    /// An element type by name.
    pub fn dtype(&mut self, attr: &'static str) -> Result<Option<DType>, AttrError> {
        let Some(name) = self.str(attr)? else { return Ok(None) };
        DType::from_name(&name).map(Some).ok_or_else(|| self.invalid(attr, "an element type", format!("`{name}`")))
    }

    /// One of a fixed set of words.
    pub fn choice<T: Choice>(&mut self, attr: &'static str) -> Result<Option<T>, AttrError> {
        let Some(word) = self.str(attr)? else { return Ok(None) };
        match T::ALL.iter().find(|c| c.word() == word) {
            Some(&choice) => Ok(Some(choice)),
            None => {
                let words: Vec<_> = T::ALL.iter().map(|c| format!("`{}`", c.word())).collect();
                Err(self.invalid(attr, format!("one of {}", words.join(", ")), format!("`{word}`")))
            }
        }
    }
}

/// An enum whose members are words in an attribute.
pub trait Choice: Copy + 'static {
    /// Every member.
    const ALL: &'static [Self];
    /// The word of a member.
    fn word(self) -> &'static str;
}

/// Declares an enum of attribute words: `choice! { /// Docs. pub enum Kind { /// Docs. Max = "max" } }`.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        $vis enum $name { $($(#[$vmeta])* $variant),+ }
        impl $crate::attr::Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

/// Collects attributes in canonical form: defaults are left out.
#[derive(Default)]
pub struct AttrWriter(Vec<(Cow<'static, str>, Attr)>);

impl AttrWriter {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute.
    pub fn put(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Attr>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Adds an attribute unless it has its default value.
    pub fn put_unless<T: PartialEq + Into<Attr>>(self, name: &'static str, value: T, default: T) -> Self {
        if value == default { self } else { self.put(name, value) }
    }

    /// Adds a word unless it is the default one.
    pub fn word<T: Choice + PartialEq>(self, name: &'static str, value: T, default: T) -> Self {
        if value == default { self } else { self.put(name, value.word()) }
    }

    /// Adds a list of sizes unless it has its default value.
    pub fn sizes(self, name: &'static str, value: &[usize], default: &[usize]) -> Self {
        if value == default { self } else { self.put(name, value.iter().map(|&v| v as i64).collect::<Vec<_>>()) }
    }

    /// The attributes.
    pub fn finish(self) -> Vec<(Cow<'static, str>, Attr)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    choice! {
        /// A word.
        enum Word {
            /// Yes.
            Yes = "yes",
            /// No.
            No = "no",
        }
    }

    fn reader(attrs: &[(&str, Attr)]) -> AttrReader {
        AttrReader::new("op", attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
    }

    #[test]
    fn an_attribute_nobody_read_is_an_error() {
        let mut r = reader(&[("a", Attr::Int(1)), ("b", Attr::Int(2))]);
        assert_eq!(r.int("a"), Ok(Some(1)));
        assert_eq!(r.finish().unwrap_err().to_string(), "`op` has no attribute `b`");
    }

    #[test]
    fn kinds_and_choices_are_checked() {
        let mut r = reader(&[("a", Attr::Str("maybe".into())), ("b", Attr::Bool(true)), ("c", Attr::Ints(vec![1]))]);
        assert_eq!(
            r.choice::<Word>("a").unwrap_err().to_string(),
            "attribute `a` of `op` must be one of `yes`, `no`, found `maybe`"
        );
        assert_eq!(r.int("b").unwrap_err().to_string(), "attribute `b` of `op` must be an integer, found a bool");
        assert!(r.sizes::<2>("c").is_err());
        assert_eq!(r.required_int("d").unwrap_err().to_string(), "`op` needs the attribute `d`");
    }
}
