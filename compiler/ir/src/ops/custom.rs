//! `custom`: an operation that bitc does not know, carried along so that nothing is lost on a round trip.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter, Attrs};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// An unknown operation with everything its source said about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Custom {
    /// The domain; empty for the standard one.
    pub domain: String,
    /// The operation type in that domain.
    pub op: String,
    /// The attributes by their names in the source.
    pub attrs: Attrs,
    /// The types of the results, since there is no rule that finds them.
    pub results: Vec<TensorType>,
}

/// Attributes of the source carry this prefix in the text, so that they cannot clash with `domain` and `op`.
const PREFIX: &str = "attr.";

impl Custom {
    /// The operation with its result types.
    pub fn with_results(mut self, results: Vec<TensorType>) -> Self {
        self.results = results;
        self
    }

    /// `domain::op`, or `op` in the standard domain.
    pub fn qualified_name(&self) -> String {
        if self.domain.is_empty() { self.op.clone() } else { format!("{}::{}", self.domain, self.op) }
    }
}

impl OpDef for Custom {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "custom",
        inputs: &["xs*"],
        outputs: &["ys*"],
        doc: "An operation bitc does not know: `op` in `domain`, its attributes prefixed by `attr.`. It has no meaning here.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let domain = attrs.str("domain")?.unwrap_or_default();
        let op = attrs.str("op")?.ok_or(AttrError::Missing { op: "custom", attr: "op" })?;
        let mut own = Attrs::new();
        for (name, value) in attrs.take_rest() {
            match name.strip_prefix(PREFIX) {
                Some(name) => own.insert(name.to_owned(), value),
                None => return Err(AttrError::Unknown { op: "custom", attr: name }),
            };
        }
        Ok(Self { domain, op, attrs: own, results: Vec::new() })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let mut attrs = AttrWriter::new().put_unless("domain", self.domain.clone(), String::new()).put("op", self.op.clone());
        for (name, value) in &self.attrs {
            attrs = attrs.put(format!("{PREFIX}{name}"), value.clone());
        }
        attrs.finish()
    }

    fn infer(&self, _: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        Ok(self.results.clone())
    }

    fn eval(&self, _: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        Err(EvalError::Unsupported(self.qualified_name()))
    }
}
