//! Importers: model files to graphs.
//!
//! A file is told apart by its content first and by its extension second. An importer is an entry of [`IMPORTERS`]; what
//! it makes is a verified, compact graph that means what the source means, before any rewriting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitc_ir::{Blob, Facts, Graph};

use crate::error::{Diagnostic, Failure, quoted};
use crate::input;

pub(crate) mod onnx;
mod text;
pub mod yaml;

/// A model file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it was read from; files that the model names are found relative to it.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Blob,
}

impl Source {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        Ok(Self { path: path.to_path_buf(), bytes: input::read(path, u64::MAX)? })
    }

    /// The path as messages show it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// What becomes of nodes of a logic network that answer with real numbers where bits are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reals {
    /// They are refused.
    Refused,
    /// They are taken for the bits they come nearest to.
    Bits,
    /// They compute with real numbers: what bits are compared with.
    Numbers,
}

/// What a user may say about the import.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file of weights; it wins over one that the model names.
    pub weights: Option<PathBuf>,
    /// Symbolic dimensions that are known.
    pub dims: BTreeMap<String, usize>,
    /// Settings of the model that the user overrides, by name.
    pub overrides: BTreeMap<String, String>,
    /// What becomes of real-valued nodes of a logic network.
    pub reals: Reals,
    /// How many bytes may be made beyond what the input files hold.
    pub max_memory: u64,
    /// Take operators along that bitc does not know.
    pub keep_unknown: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            weights: None,
            dims: BTreeMap::new(),
            overrides: BTreeMap::new(),
            reals: Reals::Refused,
            max_memory: 512 << 20,
            keep_unknown: false,
        }
    }
}

/// A graph and what its user should know.
#[derive(Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Doubts about the source that do not stop the import; print them with [`Diagnostic::warning`].
    pub warnings: Vec<Diagnostic>,
}

/// One kind of model file.
pub struct Importer {
    /// The name of the format.
    pub name: &'static str,
    /// File name extensions, without the dot.
    pub extensions: &'static [&'static str],
    /// Whether the content is of this format beyond doubt.
    pub recognises: fn(&[u8]) -> bool,
    /// Whether the file is the graph itself, so that one that breaks the rules is a fault of its author.
    pub is_graph: bool,
    /// Makes the graph.
    pub import: fn(&Source, &Options) -> Result<Imported, Failure>,
}

/// Every importer. Content is tried in this order.
pub const IMPORTERS: &[Importer] = &[text::IMPORTER, onnx::IMPORTER, yaml::IMPORTER];

/// Reads the model at `path` with the importer for its format.
///
/// # Errors
/// If the file cannot be read, its format is unknown, or its importer refuses it; the diagnostics name the file.
pub fn import(path: &Path, options: &Options) -> Result<Imported, Failure> {
    import_source(&Source::read(path)?, options)
}

/// The graph of a model file that has been read.
///
/// # Errors
/// As [`import`].
pub fn import_source(source: &Source, options: &Options) -> Result<Imported, Failure> {
    let file = source.name();
    let importer = importer_for(source).map_err(|d| d.file(file.as_str()))?;
    if let Some(key) = options.overrides.keys().next()
        && !yaml::has_settings(source)
    {
        let wrong = Diagnostic::usage(format!("this model has no setting {}", quoted(key)));
        return Err(wrong.hint("it is one of DiffLUT models").file(file).into());
    }
    let imported = (importer.import)(source, options).map_err(|f| f.file(&file))?;
    let faults = bitc_ir::verify::verify(&imported.graph, Facts::NONE).err().unwrap_or_default();
    let fault = |f: &bitc_ir::Fault| match importer.is_graph {
        true => Diagnostic::wrong_input(f.to_string()),
        false => Diagnostic::bug(format!("the {} importer made a wrong graph: {f}", importer.name)),
    };
    Failure::check(faults.iter().map(|f| fault(f).file(file.as_str())).collect())?;
    Ok(imported)
}

/// The importer for a file.
///
/// # Errors
/// If neither content nor extension tells the format.
pub fn importer_for(source: &Source) -> Result<&'static Importer, Diagnostic> {
    let bytes = source.bytes.bytes();
    let extension = source.path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let by_content = IMPORTERS.iter().find(|i| (i.recognises)(bytes));
    let by_extension = || IMPORTERS.iter().find(|i| i.extensions.contains(&extension.as_str()));
    by_content.or_else(by_extension).ok_or_else(|| {
        let known: Vec<_> = IMPORTERS.iter().map(|i| i.name).collect();
        let unknown = Diagnostic::wrong_input("the format of this file is not known").expected(known.join(" or "));
        if bytes.starts_with(b"BITC") {
            unknown.found("a compiled artifact").hint("give the model that it was compiled from")
        } else if matches!(extension.as_str(), "safetensors" | "pt" | "pth") {
            unknown.found("a file of weights").hint("weights go with `--weights`; the model is a YAML file")
        } else if extension.is_empty() {
            unknown
        } else {
            unknown.found(format!("the extension {}", quoted(&extension)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, content: &[u8]) -> Result<&'static str, String> {
        let source = Source { path: name.into(), bytes: Blob::new(content.to_vec()) };
        importer_for(&source).map(|i| i.name).map_err(|d| d.to_string())
    }

    #[test]
    fn content_decides_before_the_extension() {
        assert_eq!(named("a.yaml", b"// a\n\ngraph @g() {"), Ok("text IR"));
        assert_eq!(named("a.bir", b"# a comment\nmodel: bit_mlp\n"), Ok("YAML model"));
        assert_eq!(named("a.YML", b"mdel: bit_mlp\n"), Ok("YAML model"));
        assert_eq!(named("a.bir", b"grph @g"), Ok("text IR"));
        assert!(named("a.bit", b"BITC\x01").unwrap_err().contains("a compiled artifact"));
        assert!(named("a.pt", b"PK").unwrap_err().contains("--weights"));
        assert!(named("a.txt", b"x").unwrap_err().contains("the extension `txt`"));
        assert!(named("a", b"x").unwrap_err().contains("text IR or ONNX model or YAML model"));
    }

    #[test]
    fn text_is_imported_with_data_from_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.bir");
        let import_text = |text: &str| {
            std::fs::write(&path, text).unwrap();
            import(&path, &Options::default()).map(|i| bitc_ir::text::print(&i.graph)).map_err(|e| e.to_string())
        };
        std::fs::write(dir.path().join("w.bin"), 1.5f32.to_le_bytes()).unwrap();
        let graph =
            |path: &str| format!("graph @g() {{\n  const %w: f32[1] = file(\"{path}\", 0, 4)\n  return %w\n}}\n");
        assert!(import_text(&graph("w.bin")).unwrap().contains("dense [1.5]"));
        assert!(import_text(&graph("../w.bin")).is_err());
        let error = import_text("graph @g(%x: f32[2]) {\n  %y = reluu(%x) : f32[2]\n  return %y\n}\n").unwrap_err();
        assert!(error.contains("g.bir:2:") && error.contains("relu"), "{error}");
    }
}
