//! Torch's `.pt` and `.pth` files: a zip archive of stored entries with a pickle that describes tensors.
//!
//! `NAME/data.pkl` is the pickle, `NAME/data/KEY` a storage, `NAME/byteorder` says how numbers lie. The pickle goes
//! through a restricted reader that executes nothing. Checksums are not compared, because torch can be told not to write
//! them.

use bitc_ir::Blob;

use super::StateDict;
use super::rebuild::Storages;
use super::unpickle::{self, Heap, Value};
use super::zip::Archive;
use crate::error::{Diagnostic, quoted};

/// The longest pickle, in bytes; the tensors are outside it.
const PICKLE_LIMIT: usize = 64 << 20;

/// Keys under which training scripts save the state dict among other things.
const NESTED: [&str; 7] = ["state_dict", "model_state_dict", "model", "module", "net", "params", "weights"];

/// The tensors of a file that `torch.save` wrote: those of the dictionary in it, or of the dictionary that this one has
/// under a key such as `state_dict` or `model`.
///
/// # Errors
/// Wrong input if the archive or its pickle is damaged; unsupported if it is a scripted module, a big-endian file, or the
/// pickle names anything but tensors and dictionaries.
pub fn parse(file: &Blob) -> Result<StateDict, Diagnostic> {
    let archive = Archive::parse(file)?;
    let folder = folder(&archive)?;
    let entry = |name: &str| archive.get(&format!("{folder}/{name}"));
    if let Some(order) = entry("byteorder")?
        && order.bytes() != b"little"
    {
        return Err(Diagnostic::unsupported("the torch file is not little-endian")
            .found(quoted(&String::from_utf8_lossy(order.bytes())))
            .hint("save it again on a little-endian machine"));
    }
    let pickle = entry("data.pkl")?.ok_or_else(|| Diagnostic::bug("the pickle of the archive is missing"))?;
    if pickle.bytes().len() > PICKLE_LIMIT {
        return Err(Diagnostic::unsupported("the pickle of the torch file is too long")
            .expected(format!("at most {PICKLE_LIMIT} bytes"))
            .found(pickle.bytes().len()));
    }
    let mut storages = Storages::new(&archive, &folder, file.bytes().len());
    let in_pickle = |d: Diagnostic| d.origin(format!("{folder}/data.pkl"));
    let (root, heap) = unpickle::load(pickle.bytes(), &mut storages).map_err(in_pickle)?;
    state_dict(&heap, &root).map_err(in_pickle)
}

/// The folder that all entries of the archive are in.
fn folder(archive: &Archive) -> Result<String, Diagnostic> {
    let mut folders: Vec<&str> =
        archive.names().filter_map(|n| n.strip_suffix("/data.pkl")).filter(|f| !f.contains('/')).collect();
    folders.sort_unstable();
    let scripted = || archive.names().any(|n| n.ends_with("/constants.pkl") || n.contains("/code/"));
    match folders[..] {
        _ if scripted() => Err(Diagnostic::unsupported("this is a scripted torch module (TorchScript)")
            .hint("save only the weights: torch.save(model.state_dict(), file)")),
        [folder] => Ok(folder.to_string()),
        [one, two, ..] => Err(Diagnostic::wrong_input("the zip archive holds several pickles").found(format!(
            "{} and {}",
            quoted(one),
            quoted(two)
        ))),
        [] if archive.names().any(|n| n.ends_with(".npy")) => {
            Err(Diagnostic::unsupported("this is an .npz archive").hint("save the weights as .safetensors"))
        }
        [] => Err(Diagnostic::wrong_input("this zip archive is no torch file").expected("an entry `NAME/data.pkl`")),
    }
}

/// The tensors of the dictionary `root`, or of a nested one if it has none itself.
fn state_dict(heap: &Heap, root: &Value) -> Result<StateDict, Diagnostic> {
    let none = |what: &str| {
        Diagnostic::unsupported(what)
            .expected("a dictionary of tensors")
            .hint("use torch.save(model.state_dict(), file)")
    };
    let entries = heap.dict(root).ok_or_else(|| none("the torch file holds no dictionary"))?;
    let dict = tensors(entries)?;
    if !dict.is_empty() {
        return Ok(dict);
    }
    for key in NESTED {
        let nested = entries.iter().find(|(k, _)| matches!(k, Value::Text(k) if &**k == key));
        if let Some(entries) = nested.and_then(|(_, v)| heap.dict(v)) {
            let dict = tensors(entries)?;
            if !dict.is_empty() {
                return Ok(dict);
            }
        }
    }
    let keys = entries.iter().filter_map(|(k, _)| match k {
        Value::Text(k) => Some(quoted(k)),
        _ => None,
    });
    let keys = keys.take(8).collect::<Vec<_>>().join(", ");
    Err(none("the torch file holds no tensors").found(if keys.is_empty() { "no keys".into() } else { keys }))
}

/// The entries that are tensors; others, such as the number of an epoch, are passed over.
fn tensors(entries: &[(Value, Value)]) -> Result<StateDict, Diagnostic> {
    let mut dict = StateDict::new();
    for (key, value) in entries {
        if let (Value::Text(key), Value::Tensor(tensor)) = (key, value) {
            dict.insert(key, (**tensor).clone())?;
        }
    }
    Ok(dict)
}

#[cfg(test)]
mod tests;
