//! Exporters: what a graph can be written as.

pub mod artifact;
pub mod dot;
pub mod json;
pub mod logic;
pub mod onnx;
pub mod text;

use bitc_format::Image;
use bitc_ir::Graph;

use crate::error::Failure;
use crate::lower::Target;

/// What an exporter may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The machines that layouts are chosen for.
    pub target: Target,
    /// Leave the graph out of an artifact.
    pub strip: bool,
    /// Write every constant in full where the text could elide it.
    pub full: bool,
}

/// Writes a graph in one format.
pub trait Exporter: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// The file extensions that ask for it, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether the graph must be frozen, with an instruction for every operation.
    fn needs_frozen(&self) -> bool {
        false
    }

    /// The graph in this format.
    ///
    /// # Errors
    /// Everything that the format cannot hold.
    fn export(&self, graph: &Graph, options: &Options) -> Result<Content, Failure>;
}

/// What an exporter made.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in one place.
    Bytes(Vec<u8>),
    /// An artifact whose constants are where the graph has them.
    Image(Image),
}

impl Content {
    /// The bytes, piece by piece.
    pub fn pieces(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Content::Bytes(bytes) => Box::new(std::iter::once(&bytes[..])),
            Content::Image(image) => Box::new(image.pieces()),
        }
    }

    /// The number of bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Image(image) => image.len_bytes(),
        }
    }

    /// All bytes in one place.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Image(image) => image.to_bytes(),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Bytes(bytes)
    }
}

impl From<Image> for Content {
    fn from(image: Image) -> Self {
        Content::Image(image)
    }
}

/// Every exporter; the first one is the default.
pub const EXPORTERS: &[&dyn Exporter] =
    &[&artifact::Artifact, &text::Text, &onnx::Onnx, &dot::Dot, &json::Json, &logic::C, &logic::Verilog, &logic::Blif];

/// The exporter of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Exporter> {
    EXPORTERS.iter().copied().find(|e| e.name() == name)
}

/// The exporter for files with that extension.
pub fn by_extension(extension: &str) -> Option<&'static dyn Exporter> {
    let extension = extension.to_ascii_lowercase();
    EXPORTERS.iter().copied().find(|e| e.extensions().contains(&extension.as_str()))
}
