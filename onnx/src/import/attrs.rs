//! The attributes of a node, read by name and kind; what nobody read is an error.

use bitc_ir::{DType, ops::nearest_name};

use super::tensor::dtype;
use crate::error::{Cause, quoted};
use crate::functions::Bound;
use crate::proto::{AttributeProto, NodeProto, attribute_type as kind};

/// Attributes of one node, references to those of a function resolved.
pub(crate) struct NodeAttrs<'m> {
    left: Vec<(&'m str, &'m AttributeProto)>,
    asked: Vec<&'static str>,
}

impl<'m> NodeAttrs<'m> {
    /// Collects attributes.
    ///
    /// # Errors
    /// If one is given twice.
    pub(crate) fn new(node: &'m NodeProto, bound: &Bound<'m>) -> Result<Self, Cause> {
        let mut left: Vec<(&str, &AttributeProto)> = Vec::new();
        for attribute in &node.attribute {
            let name = attribute.name.as_str();
            if left.iter().any(|(n, _)| *n == name) {
                return Err(Cause::Attribute { name: name.into(), detail: "is given twice".into() });
            }
            if attribute.ref_attr_name.is_empty() {
                left.push((name, attribute));
            } else if let Some(value) = bound.get(attribute.ref_attr_name.as_str()) {
                left.push((name, value));
            }
        }
        Ok(Self { left, asked: Vec::new() })
    }

    /// Takes an attribute of any kind.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'m AttributeProto> {
        self.asked.push(name);
        let index = self.left.iter().position(|(n, _)| *n == name)?;
        Some(self.left.remove(index).1)
    }

    /// Ignores attributes that do not change what is computed.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// # Errors
    /// If an attribute was not read, naming the nearest one that is known.
    pub(crate) fn finish(&self) -> Result<(), Cause> {
        let Some((name, _)) = self.left.first() else { return Ok(()) };
        let near = nearest_name(name, self.asked.iter().copied());
        let near = near.map_or_else(String::new, |n| format!(", did you mean `{n}`?"));
        Err(Cause::Attribute { name: (*name).into(), detail: format!("the operator has none of this name{near}") })
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        expected: (i32, &str),
        get: impl FnOnce(&'m AttributeProto) -> Option<T>,
    ) -> Result<Option<T>, Cause> {
        let Some(attribute) = self.take(name) else { return Ok(None) };
        // Old exporters leave the kind out; the field that is set tells it then.
        let fits = attribute.r#type == expected.0 || attribute.r#type == kind::UNDEFINED;
        match get(attribute).filter(|_| fits) {
            Some(value) => Ok(Some(value)),
            None => {
                let (expected, found) = (expected.1, kind_name(attribute.r#type));
                Err(Cause::Attribute { name: name.into(), detail: format!("expected {expected}, found {found}") })
            }
        }
    }

    /// An optional integer.
    pub(crate) fn int(&mut self, name: &'static str) -> Result<Option<i64>, Cause> {
        // A zero may be left out of the file.
        self.typed(name, (kind::INT, "an integer"), |a| Some(a.i.unwrap_or(0)))
    }

    /// An integer with a default.
    pub(crate) fn int_or(&mut self, name: &'static str, default: i64) -> Result<i64, Cause> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A flag: 0 or 1.
    pub(crate) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, Cause> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(n) => Err(Cause::Attribute { name: name.into(), detail: format!("expected 0 or 1, found {n}") }),
        }
    }

    /// An optional float.
    pub(crate) fn float(&mut self, name: &'static str) -> Result<Option<f32>, Cause> {
        self.typed(name, (kind::FLOAT, "a float"), |a| Some(a.f.unwrap_or(0.0)))
    }

    /// A float with a default.
    pub(crate) fn float_or(&mut self, name: &'static str, default: f32) -> Result<f32, Cause> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// An optional string.
    pub(crate) fn str(&mut self, name: &'static str) -> Result<Option<&'m str>, Cause> {
        self.typed(name, (kind::STRING, "a string"), |a| std::str::from_utf8(a.s.as_deref().unwrap_or(b"")).ok())
    }

    /// A string with a default.
    pub(crate) fn str_or(&mut self, name: &'static str, default: &'static str) -> Result<&'m str, Cause> {
        Ok(self.str(name)?.unwrap_or(default))
    }

    /// An optional list of integers.
    pub(crate) fn ints(&mut self, name: &'static str) -> Result<Option<&'m [i64]>, Cause> {
        self.typed(name, (kind::INTS, "a list of integers"), |a| Some(&a.ints[..]))
    }

    /// An optional list of floats.
    pub(crate) fn floats(&mut self, name: &'static str) -> Result<Option<&'m [f32]>, Cause> {
        self.typed(name, (kind::FLOATS, "a list of floats"), |a| Some(&a.floats[..]))
    }

    /// An optional list of names.
    pub(crate) fn strs(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Cause> {
        let list = self.typed(name, (kind::STRINGS, "a list of strings"), |a| Some(&a.strings[..]))?;
        Ok(list.map(|list| list.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()))
    }

    /// An element type by ONNX's number.
    pub(crate) fn dtype(&mut self, name: &'static str) -> Result<Option<DType>, Cause> {
        let Some(number) = self.int(name)? else { return Ok(None) };
        let unsupported =
            |found| Cause::OpForm { detail: format!("element type {found} (attribute `{name}`)"), hint: None };
        i32::try_from(number).map_err(|_| unsupported("unknown")).and_then(|n| dtype(n).map_err(unsupported)).map(Some)
    }
}

/// An attribute that must be there.
pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, Cause> {
    value.ok_or_else(|| Cause::Attribute { name: name.into(), detail: "is missing".into() })
}

/// A value of an attribute that is not one of those allowed.
pub(crate) fn invalid(name: &'static str, expected: &str, found: impl std::fmt::Display) -> Cause {
    let found = quoted(&found.to_string());
    Cause::Attribute { name: name.into(), detail: format!("expected {expected}, found {found}") }
}

fn kind_name(number: i32) -> &'static str {
    match number {
        kind::UNDEFINED => "nothing",
        kind::FLOAT => "a float",
        kind::INT => "an integer",
        kind::STRING => "a string",
        kind::TENSOR => "a tensor",
        kind::GRAPH => "a graph",
        kind::FLOATS => "a list of floats",
        kind::INTS => "a list of integers",
        kind::STRINGS => "a list of strings",
        kind::TENSORS => "a list of tensors",
        kind::GRAPHS => "a list of graphs",
        kind::SPARSE_TENSOR => "a sparse tensor",
        _ => "an unknown kind",
    }
}
