//! Text IR as a source: `.bir` files, with `file(..)` constants from beside them.

use std::cell::RefCell;

use bitc_ir::text::{Reference, Resolver};
use bitc_ir::{DType, Tensor, TensorType};
use bitc_onnx::external::{Location, Resolver as _};

use super::{Imported, Importer, Options, Source};
use crate::error::{Diagnostic, Failure, quoted};
use crate::files::Folder;

pub(super) const IMPORTER: Importer =
    Importer { name: "text IR", extensions: &["bir"], recognises, is_graph: true, import };

/// Text IR begins with `graph`, perhaps after comments.
fn recognises(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let first = text.lines().map(str::trim_start).find(|l| !l.is_empty() && !l.starts_with("//"));
    first.is_some_and(|l| ["graph @", "frozen graph @"].iter().any(|start| l.starts_with(start)))
}

fn import(source: &Source, options: &Options) -> Result<Imported, Failure> {
    if let Some(symbol) = options.dims.keys().next() {
        let d = Diagnostic::unsupported(format!("the dimension {} of text IR cannot be bound", quoted(symbol)));
        return Err(d.hint("write the number in the text").into());
    }
    let text = std::str::from_utf8(source.bytes.bytes())
        .map_err(|e| Diagnostic::wrong_input("the text is not UTF-8").offset(e.valid_up_to() as u64))?;
    let folder =
        Folder::of(&source.path).map_err(|e| Diagnostic::wrong_input(format!("cannot open the folder: {e}")))?;
    match bitc_ir::text::parse(text, &Beside(RefCell::new(folder))) {
        Ok(graph) => Ok(Imported { graph, warnings: Vec::new() }),
        Err(errors) => {
            let fault = |e: &bitc_ir::text::ParseError| {
                Diagnostic::wrong_input(e.message.as_str()).line(e.at.line.into(), e.at.column.into())
            };
            Err(Failure::check(errors.iter().map(fault).collect())
                .err()
                .unwrap_or_else(|| Diagnostic::bug("no parse error").into()))
        }
    }
}

/// Files in the folder of the text.
struct Beside(RefCell<Folder>);

impl Resolver for Beside {
    fn resolve(&self, reference: &Reference, ty: &TensorType) -> Result<Tensor, String> {
        let Reference::File { path, offset, len } = reference else {
            return Err("only the text inside an artifact refers to packed constants".to_owned());
        };
        let dims = ty.shape.to_fixed().ok_or("a constant has no symbolic dimension")?;
        let blob = self.0.borrow_mut().read(&Location::parse(path)?, *offset, *len).map_err(|e| e.to_string())?;
        let dtype: DType = ty.dtype;
        Tensor::from_blob(dtype, &dims, blob).map_err(|e| e.to_string())
    }
}
