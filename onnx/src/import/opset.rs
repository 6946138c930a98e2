//! Domains and the versions of their operator sets.

use std::collections::BTreeMap;

use crate::error::Cause;
use crate::proto::{NodeProto, OperatorSetIdProto};

/// The newest version of the standard operator set whose meaning is known.
pub(crate) const NEWEST: i64 = 28;

/// The versions that a model or a function imports, by domain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opsets(BTreeMap<String, i64>);

impl Opsets {
    /// Reads imports.
    ///
    /// # Errors
    /// If a domain is imported in two versions or a version is not positive.
    pub(crate) fn new(imports: &[OperatorSetIdProto]) -> Result<Self, Cause> {
        let mut versions = BTreeMap::new();
        for import in imports {
            let (domain, found) = (canonical_domain(&import.domain), import.version);
            if found < 1 {
                return Err(Cause::NotAModel(format!(
                    "opset version {found} of domain `{domain}`, expected at least 1"
                )));
            }
            if versions.insert(domain.to_owned(), found).is_some_and(|other| other != found) {
                return Err(Cause::NotAModel(format!("domain `{domain}` is imported in two versions")));
            }
        }
        Ok(Self(versions))
    }

    /// These versions, and those of `other` for domains that are not here.
    pub(crate) fn or(mut self, other: &Self) -> Self {
        for (domain, &version) in &other.0 {
            self.0.entry(domain.clone()).or_insert(version);
        }
        self
    }

    /// Whether nothing is imported.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The version that applies to a domain.
    pub(crate) fn get(&self, domain: &str) -> Option<i64> {
        self.0.get(canonical_domain(domain)).copied()
    }

    /// The version that applies to a node.
    ///
    /// Exporters use contributed domains without importing them; those count as version 1.
    ///
    /// # Errors
    /// If the standard domain is not imported.
    pub(crate) fn of(&self, node: &NodeProto) -> Result<i64, Cause> {
        let domain = canonical_domain(&node.domain);
        match self.get(domain) {
            Some(version) => Ok(version),
            None if domain.is_empty() => Err(Cause::DomainNotImported("ai.onnx".into())),
            None => Ok(1),
        }
    }
}

/// The empty name for the standard domain, under which it may also be written.
pub(crate) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// `domain::Op`, or `Op` in the standard domain.
pub(crate) fn op_name(domain: &str, op: &str) -> String {
    match canonical_domain(domain) {
        "" => op.to_owned(),
        domain => format!("{domain}::{op}"),
    }
}
