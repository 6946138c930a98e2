//! What each ONNX operator becomes, by domain, name and opset version.
//!
//! Every family has a file with a table of its operators. An entry holds from its `since` version on until a later entry
//! of the same operator; most rules look at the version themselves, since versions usually differ in where an argument
//! comes from. Rules give operations of the newest meaning: the graph knows no opset.

mod attention;
mod bitc;
mod contrib;
mod depth;
mod einsum;
mod elementwise;
mod fused;
mod grid;
mod image;
mod indices;
mod integer_conv;
mod layout;
mod loss;
mod norm;
mod pool;
mod product;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod shape;

use std::collections::HashMap;
use std::sync::OnceLock;

use bitc_ir::ops::nearest_name;

use crate::error::Cause;
use crate::import::node::{NodeCx, Outputs};
use crate::import::opset::{canonical_domain, op_name};

/// How a node becomes operations.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// The operation of that name with the same inputs and no attributes.
    Same(&'static str),
    /// The operation of that name between the first two inputs, then between the result and the third, and so on.
    Chain(&'static str),
    /// Anything else.
    With(fn(&mut NodeCx<'_, '_>) -> Outputs),
}

impl Rule {
    /// Imports a node.
    pub(crate) fn apply(self, cx: &mut NodeCx<'_, '_>) -> Outputs {
        match self {
            Rule::Same(name) => {
                cx.attrs.ignore(&["consumed_inputs"]);
                let inputs = cx.all()?;
                Ok(vec![cx.simple(name, &inputs)?])
            }
            Rule::Chain(name) => {
                cx.attrs.ignore(&["consumed_inputs"]);
                let inputs = cx.all()?;
                let Some((&first, rest)) = inputs.split_first() else {
                    return Err(Cause::Arity(format!("{} takes at least 1 input, found 0", cx.op)));
                };
                let result = rest.iter().try_fold(first, |a, &b| cx.simple(name, &[a, b]))?;
                Ok(vec![result])
            }
            Rule::With(rule) => rule(cx),
        }
    }
}

/// One operator.
pub(crate) struct Entry {
    pub(crate) domain: &'static str,
    pub(crate) op: &'static str,
    pub(crate) since: i64,
    pub(crate) rule: Rule,
}

/// An operator of the standard domain, in all versions.
const fn std(op: &'static str, rule: Rule) -> Entry {
    Entry { domain: "", op, since: 1, rule }
}

const TABLES: &[&[Entry]] = &[
    elementwise::TABLE,
    reduce::TABLE,
    product::TABLE,
    norm::TABLE,
    pool::TABLE,
    layout::TABLE,
    shape::TABLE,
    quantize::TABLE,
    contrib::TABLE,
    fused::TABLE,
    loss::TABLE,
    attention::TABLE,
    resize::TABLE,
    recurrent::TABLE,
    grid::TABLE,
    image::TABLE,
    integer_conv::TABLE,
    bitc::TABLE,
];

type Index = HashMap<(&'static str, &'static str), Vec<(i64, Rule)>>;

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = Index::new();
        for entry in TABLES.iter().copied().flatten() {
            index.entry((entry.domain, entry.op)).or_default().push((entry.since, entry.rule));
        }
        index.values_mut().for_each(|versions| versions.sort_by_key(|(since, _)| *since));
        index
    })
}

/// The rule for an operator in a version of its domain.
pub(crate) fn find(domain: &str, op: &str, version: i64) -> Option<Rule> {
    let versions = index().get(&(canonical_domain(domain), op))?;
    versions.iter().rev().find(|(since, _)| *since <= version).map(|(_, rule)| *rule)
}

/// Every known operator: its domain, empty for the standard one, and its name; sorted.
pub fn supported() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = index().keys().copied().collect();
    all.sort_unstable();
    all
}

/// The fault of an operator without a rule.
pub(crate) fn unknown(domain: &str, op: &str, version: i64) -> Cause {
    let domain = canonical_domain(domain);
    let same_domain = || index().keys().filter(|(d, _)| *d == domain).map(|(_, op)| *op);
    let elsewhere = index().keys().find(|(d, o)| *o == op && *d != domain).map(|(d, o)| op_name(d, o));
    let known_later = index().get(&(domain, op)).and_then(|v| v.first()).map(|(since, _)| *since);
    let hint = match (known_later, domain) {
        (Some(since), _) => format!("it is known from version {since} on, the model imports {version}"),
        (None, "") => "see `bitc list ops` for what is supported".into(),
        (None, "com.microsoft.nchwc") => {
            "onnxruntime wrote this for one machine: optimize the model with ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL"
                .into()
        }
        (None, _) => "export the model with a body for it as a model-local function, or with standard operators".into(),
    };
    Cause::UnknownOp {
        op: op_name(domain, op),
        nearest: elsewhere.or_else(|| nearest_name(op, same_domain())),
        hint: Some(hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_has_two_rules_for_one_version() {
        for (key, versions) in index() {
            assert!(versions.is_sorted_by(|a, b| a.0 < b.0), "{key:?}");
        }
    }

    #[test]
    fn every_name_in_a_table_is_an_operation() {
        let names: Vec<_> = bitc_ir::Op::all().map(|i| i.name).collect();
        for entry in TABLES.iter().copied().flatten() {
            if let Rule::Same(name) | Rule::Chain(name) = entry.rule {
                assert!(names.contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_operator_gets_its_neighbour() {
        let near = |domain, op| match unknown(domain, op, 1) {
            Cause::UnknownOp { nearest, .. } => nearest,
            other => panic!("{other}"),
        };
        assert_eq!(near("", "Relus").as_deref(), Some("Relu"));
        assert_eq!(near("acme", "Relu").as_deref(), Some("Relu"));
        assert_eq!(near("", "Frobnicate"), None);
    }
}
