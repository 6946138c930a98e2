//! Trained weights: named tensors from `.safetensors` files and torch's `.pt` or `.pth` files.
//!
//! A [`StateDict`] holds the tensors as slices of the file, in the order of the file. Models look their layers up
//! through [`StateDict::prefix_of`], because wrappers put the same prefix before every name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use bitc_ir::{Blob, Tensor};

use crate::error::{Diagnostic, quoted};
use crate::input;

mod rebuild;
pub mod safetensors;
pub mod torch_zip;
mod unpickle;
mod zip;

/// Named tensors in the order of their file.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    entries: Vec<(String, Tensor)>,
    index: HashMap<String, usize>,
}

impl StateDict {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor at the end.
    ///
    /// # Errors
    /// If there is one of that name already.
    pub fn insert(&mut self, name: &str, tensor: Tensor) -> Result<(), Diagnostic> {
        if self.index.contains_key(name) {
            return Err(Diagnostic::wrong_input(format!("there are two tensors named {}", quoted(name))));
        }
        self.index.insert(name.to_string(), self.entries.len());
        self.entries.push((name.to_string(), tensor));
        Ok(())
    }

    /// The tensor of exactly this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        Some(&self.entries.get(*self.index.get(name)?)?.1)
    }

    /// Names and tensors in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensors whose names begin with `prefix`, without it.
    pub fn below(&self, prefix: &str) -> Self {
        let entries =
            self.entries.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
        let entries: Vec<_> = entries.collect();
        let index = entries.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Self { entries, index }
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The prefix, empty or ending with a dot, under which these layers have their tensors: for the layers `0` and `2`
    /// and the names `network.0.weight`, `network.2.bias` it is `network.`. Among several prefixes the one with the most
    /// layers is taken, and the empty one before others.
    ///
    /// # Errors
    /// If no layer is found under any prefix, or two prefixes other than the empty one do equally well.
    pub fn prefix_of(&self, layers: &[&str]) -> Result<String, Diagnostic> {
        let wanted: HashSet<&str> = layers.iter().copied().collect();
        let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, _) in self.iter() {
            let Some((path, _)) = name.rsplit_once('.') else { continue };
            let starts = std::iter::once(0).chain(path.match_indices('.').map(|(at, _)| at + 1));
            for (prefix, layer) in starts.map(|at| path.split_at(at)).filter(|(_, layer)| wanted.contains(layer)) {
                found.entry(prefix).or_default().insert(layer);
            }
        }
        let most = found.values().map(BTreeSet::len).max().unwrap_or(0);
        let best: Vec<&str> = found.iter().filter(|(_, layers)| layers.len() == most).map(|(p, _)| *p).collect();
        match best[..] {
            // The map is sorted, so the empty prefix comes first.
            [prefix] | [prefix @ "", ..] => Ok(prefix.to_string()),
            [one, two, ..] => {
                Err(Diagnostic::wrong_input("the weights hold the layers of the model under several prefixes")
                    .found(format!("{} and {}", quoted(one), quoted(two)))
                    .hint("save the state dict of one model"))
            }
            [] if layers.is_empty() => Ok(String::new()),
            [] => {
                let names: Vec<_> = self.entries.iter().take(4).map(|(name, _)| quoted(name)).collect();
                let more = if self.len() > 4 { ", ..." } else { "" };
                let layers: Vec<_> = layers.iter().take(4).map(|name| quoted(name)).collect();
                Err(Diagnostic::wrong_input("the weights hold no layer of the model")
                    .expected(format!("tensors of {}", layers.join(", ")))
                    .found(if names.is_empty() { "no tensors".into() } else { names.join(", ") + more }))
            }
        }
    }
}

/// Reads the weights in the file at `path`; what kind of file it is shows in its first bytes.
///
/// # Errors
/// If the file cannot be read, breaks the rules of its format or holds something that is not supported; the diagnostic
/// names the file.
pub fn read(path: &Path) -> Result<StateDict, Diagnostic> {
    parse(&input::read(path, u64::MAX)?).map_err(|d| d.file(path.display().to_string()))
}

/// The weights that the bytes of a file hold.
///
/// # Errors
/// As [`read`].
pub fn parse(file: &Blob) -> Result<StateDict, Diagnostic> {
    let bytes = file.bytes();
    let unsupported = |what: &str, hint: &str| Err(Diagnostic::unsupported(what).hint(hint));
    if bytes.starts_with(zip::LOCAL_MAGIC) {
        return torch_zip::parse(file);
    }
    if bytes.get(8) == Some(&b'{') {
        return safetensors::parse(file);
    }
    if bytes.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") || is_tar(bytes) {
        return unsupported(
            "this is a torch file in the legacy format, which is no zip archive",
            "load it in torch and save it again: torch.save(torch.load(file, weights_only=True), file)",
        );
    }
    if bytes.starts_with(b"\x80") {
        return unsupported("this is a bare pickle", "save the state dict with torch.save or as .safetensors");
    }
    if bytes.starts_with(b"GGUF") {
        return unsupported("this is a GGUF file", "save the weights as .safetensors");
    }
    Err(Diagnostic::wrong_input("this is no file of weights")
        .expected("a .safetensors file or a .pt file that torch.save wrote"))
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// The length of a dimension, if the IR can hold it.
fn dimension(n: u64) -> Option<usize> {
    i64::try_from(n).ok().and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(names: &[&str]) -> StateDict {
        let mut dict = StateDict::new();
        for name in names {
            dict.insert(name, Tensor::scalar(0f32)).unwrap();
        }
        dict
    }

    #[test]
    fn layers_are_found_with_and_without_a_prefix() {
        let prefix = |names: &[&str], layers: &[&str]| dict(names).prefix_of(layers).map_err(|d| d.to_string());
        assert_eq!(prefix(&["0.weight", "2.weight"], &["0", "2"]), Ok("".into()));
        assert_eq!(prefix(&["network.0.weight", "network.2.bias"], &["0", "2"]), Ok("network.".into()));
        assert_eq!(prefix(&["a.b.fc.weight", "a.x"], &["fc", "other"]), Ok("a.b.".into()));
        assert_eq!(prefix(&["fc.weight", "ema.fc.weight"], &["fc"]), Ok("".into()));
        assert_eq!(
            prefix(&["ema.fc.weight", "model.fc.weight", "model.out.weight"], &["fc", "out"]),
            Ok("model.".into())
        );
        assert_eq!(prefix(&["b.norm.weight"], &["b.norm"]), Ok("".into()));
        assert!(prefix(&["a.fc.weight", "b.fc.weight"], &["fc"]).unwrap_err().contains("`a.` and `b.`"));
        assert!(prefix(&["xfc.weight"], &["fc"]).unwrap_err().contains("found: `xfc.weight`"));
        assert!(prefix(&[], &["fc"]).unwrap_err().contains("no tensors"));
        assert_eq!(prefix(&[], &[]), Ok("".into()));
    }

    #[test]
    fn names_keep_their_order_and_are_unique() {
        let mut d = dict(&["b", "a"]);
        assert_eq!(d.iter().map(|(n, _)| n).collect::<Vec<_>>(), ["b", "a"]);
        assert!(d.insert("a", Tensor::scalar(1f32)).is_err());
        assert!(d.get("a").is_some() && d.get("c").is_none());
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let text = |bytes: &[u8]| parse(&Blob::new(bytes.to_vec())).unwrap_err().to_string();
        assert!(text(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").contains("legacy"));
        let mut tar = [0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(text(&tar).contains("legacy"));
        assert!(text(b"\x80\x04N.").contains("bare pickle"));
        assert!(text(b"GGUF\x03\0\0\0").contains("GGUF"));
        assert!(text(b"").contains("no file of weights"));
        assert!(text(b"\x1f\x8b\x08").contains("no file of weights"));
    }
}
