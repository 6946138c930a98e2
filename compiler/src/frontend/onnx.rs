//! ONNX models, with external data from beside them.

use bitc_onnx::import::{Options as OnnxOptions, import as import_onnx, looks_like_onnx};
use bitc_onnx::{Cause, Fault, ImportError};

use super::{Imported, Importer, Options, Source};
use crate::error::{Diagnostic, Failure, Kind};
use crate::files::Folder;

pub(super) const IMPORTER: Importer =
    Importer { name: "ONNX model", extensions: &["onnx"], recognises: looks_like_onnx, is_graph: false, import };

fn import(source: &Source, options: &Options) -> Result<Imported, Failure> {
    let mut folder =
        Folder::of(&source.path).map_err(|e| Diagnostic::wrong_input(format!("cannot open the folder: {e}")))?;
    let mut own =
        OnnxOptions { dims: options.dims.clone(), keep_unknown: options.keep_unknown, ..OnnxOptions::default() };
    // Without a limit of the user's, what a model may take grows with its file.
    if options.max_memory != Options::default().max_memory {
        own.limits.memory_bytes = Some(options.max_memory);
    }
    let imported = import_onnx(&source.bytes, &mut folder, &own).map_err(|e| failure(&e))?;
    let warnings = imported.warnings.into_iter().map(Diagnostic::wrong_input).collect();
    Ok(Imported { graph: imported.graph, warnings })
}

/// The faults of an import as diagnostics.
pub(crate) fn failure(error: &ImportError) -> Failure {
    let diagnostics: Vec<_> = error.faults().iter().map(diagnostic).collect();
    let none = || Diagnostic::bug("an import failed without a fault").into();
    Failure::check(diagnostics).err().unwrap_or_else(none)
}

fn diagnostic(fault: &Fault) -> Diagnostic {
    let kind = if fault.cause.is_unsupported() { Kind::Unsupported } else { Kind::WrongInput };
    let mut d = Diagnostic::new(kind, fault.cause.to_string());
    if let Cause::Malformed { offset, .. } | Cause::TooDeep { offset, .. } = *fault.cause {
        d = d.offset(offset);
    }
    if let Some(place) = &fault.node {
        let opset = place.opset.map_or_else(String::new, |v| format!(" of opset {v}"));
        let source = place.source.as_ref().map_or_else(String::new, |s| format!(", {s}"));
        d = d.node(place.name.as_str()).origin(format!("{}{opset}{source}", place.op));
    }
    match fault.hint() {
        Some(hint) => d.hint(hint),
        None => d,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::import as import_any;

    /// A protobuf field of bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let len = u8::try_from(content.len()).unwrap();
        [&[number << 3 | 2, len][..], content].concat()
    }

    /// A model of one node `y = op(x)` over f32[2].
    fn model(op: &str) -> Vec<u8> {
        let value = |name: &str| {
            let shape = field(2, &field(1, &[0x08, 2]));
            let tensor = [&[0x08, 1][..], &shape].concat();
            [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
        };
        let node = [field(1, b"x"), field(2, b"y"), field(3, b"layer"), field(4, op.as_bytes())].concat();
        let graph = [field(1, &node), field(2, b"g"), field(11, &value("x")), field(12, &value("y"))].concat();
        [&[0x08, 8][..], &field(2, b"test"), &field(7, &graph), &field(8, &[0x10, 17])].concat()
    }

    #[test]
    fn a_model_is_imported_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        std::fs::write(&path, model("Relu")).unwrap();
        let imported = import_any(&path, &Options::default()).unwrap();
        assert!(bitc_ir::text::print(&imported.graph).contains("relu(%x) : f32[2] from \"layer\""));
    }

    #[test]
    fn faults_keep_their_kind_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, model("Relus")).unwrap();
        let failure = import_any(&path, &Options::default()).unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        let first = &failure.diagnostics()[0];
        assert_eq!(first.message, "unsupported operator Relus, did you mean `Relu`?");
        assert_eq!(first.node.as_deref(), Some("layer"));
        assert_eq!(first.origin.as_deref(), Some("Relus of opset 17"));
        std::fs::write(&path, [0x08, 8, 0x3a, 9]).unwrap();
        let failure = import_any(&path, &Options::default()).unwrap_err();
        assert_eq!((failure.exit_code(), failure.diagnostics()[0].offset), (1, Some(4)));
    }

    #[test]
    fn a_dimension_that_the_model_does_not_have_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, model("Relu")).unwrap();
        let options = Options { dims: [("batch".to_owned(), 4)].into(), ..Options::default() };
        let failure = import_any(&path, &options).unwrap_err();
        assert!(failure.to_string().contains("no dimension is called `batch`"), "{failure}");
    }
}
