//! A graph as an ONNX model: standard operators, and operators of `ai.bitc` that carry their meaning as functions.
//!
//! What each operation becomes is said once, in the files of `export/`: `table.rs` has the exhaustive match, a file per
//! family the forms. The operators of [`DOMAIN`] are defined by standard operators in `bodies.rs`; the same definition is
//! a model-local function in one form and is written out in the others. [`Form`] says which form is for whom, and how far
//! its values may be from those of the graph.

mod bits;
mod bodies;
mod convert;
mod cx;
mod elementwise;
pub(crate) mod inline;
mod layout;
mod logic;
mod norm;
pub(crate) mod pack;
mod product;
mod quantized;
mod reduce;
mod scope;
mod shape;
mod table;
mod writer;

use bitc_ir::Graph;
use bytes::Bytes;
use prost::Message as _;

use crate::external::{Location, ResolveError, Resolver};
use crate::proto::{EXTERNAL, ModelProto, StringStringEntryProto};
use bitc_ir::Blob;

/// The domain of the operators that bitc defines.
pub const DOMAIN: &str = "ai.bitc";
/// The version of that domain.
pub const DOMAIN_VERSION: i64 = 1;
/// What begins the keys of metadata that the export adds and the import takes out again.
pub const META_PREFIX: &str = "bitc.";
/// What begins the keys of a graph's facts that tell the versions of the operator sets of its source.
pub const OPSET_KEY: &str = "opset.";
/// The key under which a node tells which nodes of the source it stands for, one per line.
pub const ORIGIN_KEY: &str = "bitc.origin";

/// What an exported model is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// Operators of `ai.bitc` with bodies of standard operators and packed weights: runs everywhere, and an engine that
    /// knows the operators may use its own kernels.
    #[default]
    Functions,
    /// `DequantizeLinear` of 2-bit weights (opset 25) or 4-bit weights (opset 21).
    Qdq,
    /// `com.microsoft::MatMulNBits` of 2-bit weights.
    Ort,
    /// Standard operators of opset 13 with packed weights.
    Inline,
    /// Standard operators with every weight and activation as a float.
    Float,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 5] = [Form::Functions, Form::Qdq, Form::Ort, Form::Inline, Form::Float];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Form::Functions => "functions",
            Form::Qdq => "qdq",
            Form::Ort => "ort",
            Form::Inline => "inline",
            Form::Float => "float",
        }
    }

    /// The opset that is written unless another is asked for.
    pub fn default_opset(self) -> i64 {
        match self {
            Form::Functions | Form::Ort | Form::Float => 21,
            Form::Qdq => 25,
            Form::Inline => 13,
        }
    }

    /// The oldest opset that has what the form is made of.
    pub fn oldest_opset(self) -> i64 {
        if self == Form::Qdq { 21 } else { 13 }
    }

    /// What stands for the integers of quantised activations.
    fn carrier(self) -> bodies::Carrier {
        match self {
            Form::Functions | Form::Inline => bodies::Carrier::Bytes,
            Form::Qdq | Form::Ort | Form::Float => bodies::Carrier::Floats,
        }
    }

    /// How far the values of a quantised layer are from those of the graph, in one sentence.
    pub fn difference(self) -> &'static str {
        match self {
            Form::Functions => {
                "quantised layers are exact: integer sums, then the same float operations in the same order"
            }
            Form::Inline => {
                "quantised layers are exact: integer sums, then the same float operations in the same order; tract \
                 multiplies by reciprocals instead of dividing, which rounds activations beside a border the other way"
            }
            Form::Float => "quantised layers are exact while sums stay below 2^24: integers are carried as floats",
            Form::Qdq => {
                "weights are scaled before the sum, about 1e-6 of the largest value; onnxruntime rounds activations to \
                 8 bits again, about 1e-2, unless session.disable_quant_qdq is set"
            }
            Form::Ort => {
                "weights are scaled before the sum, about 1e-6 of the largest value; onnxruntime rounds activations to \
                 8 bits again, about 1e-2 (accuracy level 4)"
            }
        }
    }
}

/// The newest opset that is written.
pub const NEWEST_OPSET: i64 = 26;

/// What an export may be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the model is made of.
    pub form: Form,
    /// The opset; by the form if absent.
    pub opset: Option<i64>,
    /// The version of bitc, which the model records.
    pub version: String,
}

/// A node that the form cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The operation.
    pub op: String,
    /// The value that the node defines.
    pub node: String,
    /// The names of the source.
    pub origin: String,
    /// What cannot be said, and why.
    pub reason: String,
}

/// Writes a graph as a model. All of its weights are inside.
///
/// # Errors
/// Every node that the form cannot say.
pub fn export(graph: &Graph, options: &Options) -> Result<ModelProto, Vec<Refusal>> {
    writer::write(graph, options)
}

/// The bytes of a model.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// The bytes of all initializers.
pub fn weight_bytes(model: &ModelProto) -> u64 {
    let tensors = model.graph.iter().flat_map(|g| &g.initializer);
    tensors.filter_map(|t| t.raw_data.as_ref()).map(|b| b.len() as u64).sum()
}

/// Weights that live in a file beside the model.
#[derive(Clone, Debug, Default)]
pub struct DataFile {
    chunks: Vec<(u64, Bytes)>,
    len: u64,
}

/// Tensors of fewer bytes stay in the model.
const SMALLEST_EXTERNAL: usize = 1024;
/// Tensors of the data file begin at multiples of this, so that a page can be mapped.
const EXTERNAL_ALIGN: u64 = 4096;

impl DataFile {
    /// Moves the larger initializers of a model into a file of that name beside it.
    pub fn take_from(model: &mut ModelProto, location: &str) -> Self {
        let mut file = Self::default();
        for tensor in model.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            let Some(bytes) = tensor.raw_data.take_if(|b| b.len() >= SMALLEST_EXTERNAL) else { continue };
            let offset = file.len.next_multiple_of(EXTERNAL_ALIGN);
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            tensor.data_location = EXTERNAL;
            tensor.external_data = vec![
                entry("location", location.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", bytes.len().to_string()),
            ];
            file.len = offset + bytes.len() as u64;
            file.chunks.push((offset, bytes));
        }
        file
    }

    /// Whether nothing was moved.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The content of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (offset, bytes) in &self.chunks {
            all.resize(usize::try_from(*offset).unwrap_or(usize::MAX), 0);
            all.extend_from_slice(bytes);
        }
        all
    }
}

impl Resolver for DataFile {
    fn read(&mut self, location: &Location, offset: u64, len: u64) -> Result<Blob, ResolveError> {
        let found = self.chunks.iter().find(|(at, bytes)| *at == offset && bytes.len() as u64 == len);
        let missing = || ResolveError { message: format!("{} has no such range", location.as_str()), hint: None };
        found.map(|(_, bytes)| Blob::new(bytes.clone())).ok_or_else(missing)
    }

    fn len(&mut self, _: &Location) -> Result<u64, ResolveError> {
        Ok(self.len)
    }
}
