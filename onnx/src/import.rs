//! ModelProto to graph.
//!
//! The bytes are checked against the limits, decoded without copying weights, and walked body by body (`walk.rs`);
//! `op_map.rs` says what each operator becomes, whatever its opset version, so that the graph knows no opset.

pub(crate) mod attrs;
pub(crate) mod build;
pub(crate) mod node;
pub(crate) mod opset;
pub(crate) mod order;
mod origin;
pub mod tensor;
mod unknown;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use bitc_ir::{Blob, Dim, Graph, Shape, TensorType};
use bytes::Bytes;
use prost::Message as _;

use crate::error::{Cause, Fault, ImportError};
use crate::export::{META_PREFIX, OPSET_KEY, inline};
use crate::external::Resolver;
use crate::limits::{Budget, Limits, check};
use crate::proto::{DimensionValue, GraphProto, ModelProto, TypeValue, ValueInfoProto};
use opset::{Opsets, canonical_domain};

/// What an import takes besides the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the import may take.
    pub limits: Limits,
    /// Numbers for symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Take the bodies of operators of `ai.bitc` where the model has them, as an engine that does not know them does.
    pub bodies: bool,
    /// Take operators that bitc does not know along as they are, where the model declares the types of their results.
    pub keep_unknown: bool,
}

/// A model as a graph.
#[derive(Debug)]
pub struct Imported {
    /// The graph: compact, typed, free of opsets and functions.
    pub graph: Graph,
    /// What is worth knowing and was no reason to refuse.
    pub warnings: Vec<String>,
}

/// Whether bytes look like an ONNX model: a protobuf message whose first field is one of ModelProto's.
pub fn looks_like_onnx(bytes: &[u8]) -> bool {
    // The IR version comes first in every file that was written by a protobuf library.
    matches!(bytes, [0x08, 1..=0x7f, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..])
}

/// Imports a model file.
///
/// # Errors
/// If the file is no model, or something that its outputs need is wrong or not supported; all such faults at once.
pub fn import(file: &Blob, files: &mut dyn Resolver, options: &Options) -> Result<Imported, ImportError> {
    let mut budget = options.limits.budget(file.bytes().len() as u64);
    let model = decode(file, &options.limits, &mut budget)?;
    import_model(&model, files, options, budget)
}

/// Decodes a file under limits.
///
/// # Errors
/// If the bytes are no model or exceed the limits.
pub fn decode(file: &Blob, limits: &Limits, budget: &mut Budget) -> Result<ModelProto, Cause> {
    /// Bytes that stay in the file.
    struct Owner(Blob);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    check(file.bytes(), limits, budget)?;
    let bytes = Bytes::from_owner(Owner(file.clone()));
    ModelProto::decode(bytes).map_err(|e| Cause::Malformed { detail: e.to_string(), offset: 0 })
}

/// Imports a decoded model.
///
/// # Errors
/// As [`import`].
pub fn import_model(
    model: &ModelProto,
    files: &mut dyn Resolver,
    options: &Options,
    budget: Budget,
) -> Result<Imported, ImportError> {
    if !(3..=14).contains(&model.ir_version) {
        return Err(match model.ir_version {
            0 => Cause::NotAModel("`ir_version` is missing".into()).into(),
            found => Cause::IrVersion { found }.into(),
        });
    }
    let graph = model.graph.as_ref().ok_or_else(|| Cause::NotAModel("there is no graph".into()))?;
    let opsets = Opsets::new(&model.opset_import)?;
    if opsets.is_empty() {
        return Err(Cause::NotAModel("no operator set is imported".into()).into());
    }
    let mut warnings = Vec::new();
    if let Some(found) = opsets.get("").filter(|&v| v > opset::NEWEST) {
        warnings.push(format!("opset {found} is newer than {}, operators are read as of that version", opset::NEWEST));
    }
    check_dims(graph, &options.dims)?;
    let mut out = Graph::new(graph.name.clone());
    let said = [
        ("producer", &model.producer_name),
        ("producer_version", &model.producer_version),
        ("domain", &model.domain),
        ("doc_string", &model.doc_string),
    ];
    for (key, value) in said {
        if !value.is_empty() {
            out.meta.insert(key.into(), value.clone());
        }
    }
    let is_own = model.metadata_props.iter().any(|e| e.key == format!("{META_PREFIX}form"));
    if is_own {
        // What bitc wrote tells of the model that it was made of.
        out.meta.retain(|key, _| key == "domain" || key == "doc_string");
    }
    for entry in &model.metadata_props {
        match entry.key.strip_prefix(META_PREFIX).filter(|_| is_own) {
            None => out.meta.insert(entry.key.clone(), entry.value.clone()),
            Some(own) => own.strip_prefix("source.").and_then(|key| out.meta.insert(key.into(), entry.value.clone())),
        };
    }
    if options.keep_unknown {
        // What is taken along means what it meant in these versions.
        for import in &model.opset_import {
            out.meta.insert(format!("{OPSET_KEY}{}", canonical_domain(&import.domain)), import.version.to_string());
        }
    }
    // What bitc wrote in place of an operator is the operator again, unless what it is made of is asked for.
    let restored = opsets.get("").filter(|_| !options.bodies).and_then(|version| inline::restored(graph, version));
    let mut walk = walk::Walk::new(model, opsets, out, files, options, budget)?;
    let graph = walk.run(restored.as_ref().unwrap_or(graph))?;
    warnings.append(&mut walk.warnings);
    Ok(Imported { graph, warnings })
}

/// Checks that every dimension that is to be bound is one of an input.
fn check_dims(graph: &GraphProto, bound: &BTreeMap<String, usize>) -> Result<(), Cause> {
    let mut known = BTreeSet::new();
    for info in &graph.input {
        let Some(TypeValue::Tensor(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else { continue };
        for dim in tensor.shape.iter().flat_map(|s| &s.dim) {
            if let Some(DimensionValue::Param(name)) = &dim.value {
                known.insert(name.clone());
            }
        }
    }
    match bound.keys().find(|name| !known.contains(*name)) {
        Some(name) => Err(Cause::UnknownDim { name: name.clone(), known: known.into_iter().take(8).collect() }),
        None => Ok(()),
    }
}

/// The type that a graph declares for a value. Dimensions without a number or name are called `unknown` and a number.
pub(crate) fn declared_type(
    info: &ValueInfoProto,
    bound: &BTreeMap<String, usize>,
    fresh: &mut impl FnMut() -> Dim,
) -> Result<TensorType, Cause> {
    let (value, wrong) =
        (info.name.clone(), |detail: &str| Cause::ValueType { value: info.name.clone(), detail: detail.into() });
    let kind = |detail: &str| Err(Cause::ValueKind { value, detail: detail.into() });
    let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => tensor,
        Some(TypeValue::Sequence(_)) => return kind("a sequence"),
        Some(TypeValue::Map(_)) => return kind("a map"),
        Some(TypeValue::Optional(_)) => return kind("an optional value"),
        Some(TypeValue::SparseTensor(_)) => return kind("a sparse tensor"),
        Some(TypeValue::Opaque(_)) => return kind("an opaque value"),
        None => return Err(wrong("has no type")),
    };
    let dtype = match tensor::dtype(tensor.elem_type) {
        Ok(dtype) => dtype,
        Err("undefined") => return Err(wrong("has no element type")),
        Err(name) => return kind(&format!("element type {name}")),
    };
    let shape = match &tensor.shape {
        Some(shape) => shape,
        None => return kind("a tensor of unknown rank"),
    };
    let mut dims = Vec::new();
    for dim in &shape.dim {
        dims.push(match &dim.value {
            Some(DimensionValue::Value(n)) => match usize::try_from(*n) {
                Ok(n) => Dim::from(n),
                // Some exporters write -1 for a dimension that they do not know.
                Err(_) if *n == -1 => fresh(),
                Err(_) => return Err(wrong(&format!("dimensions must not be negative, found {n}"))),
            },
            Some(DimensionValue::Param(name)) if !name.is_empty() => {
                bound.get(name).map_or_else(|| Dim::symbol(symbol_name(name)), |&n| Dim::from(n))
            }
            _ => fresh(),
        });
    }
    Ok(TensorType { dtype, shape: Shape(dims) })
}

/// A dimension's name as a symbol of the text form: letters, digits and underscores.
fn symbol_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = name.chars().take(64).map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

impl From<Vec<Fault>> for ImportError {
    fn from(faults: Vec<Fault>) -> Self {
        let none = || ImportError::from(Cause::NotAModel("unknown fault".into()));
        ImportError::new(faults).unwrap_or_else(none)
    }
}
