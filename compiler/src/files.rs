//! Files beside the model: the one door to external data.
//!
//! A file is reached through plain path components below the model's folder and through no symbolic link, is a regular
//! file with one name, and is read through the descriptor that was checked. A file that is exchanged between the checks
//! is found out by its device and inode numbers. Each range is read into its own buffer, so that a weight can be freed
//! when it has been packed; the same range asked for twice is read once, and no file gives more than twice its length.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bitc_ir::Blob;
use bitc_onnx::external::{Location, ResolveError, Resolver};

/// The folder of a model.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    open: BTreeMap<Location, OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    len: u64,
    /// Bytes that may still be read.
    allowance: u64,
    ranges: BTreeMap<(u64, u64), Blob>,
}

impl Folder {
    /// The folder that holds the file at `model`.
    ///
    /// # Errors
    /// If the folder cannot be resolved.
    pub fn of(model: &Path) -> io::Result<Self> {
        let parent = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { root: parent.canonicalize()?, open: BTreeMap::new() })
    }

    fn opened(&mut self, location: &Location) -> Result<&mut OpenFile, ResolveError> {
        if !self.open.contains_key(location) {
            let (file, len) = open(&self.root, location)?;
            let entry = OpenFile { file, len, allowance: len.saturating_mul(2), ranges: BTreeMap::new() };
            self.open.insert(location.clone(), entry);
        }
        self.open.get_mut(location).ok_or_else(|| fault(location, "cannot be opened", None))
    }
}

impl Resolver for Folder {
    fn read(&mut self, location: &Location, offset: u64, len: u64) -> Result<Blob, ResolveError> {
        let entry = self.opened(location)?;
        if let Some(blob) = entry.ranges.get(&(offset, len)) {
            return Ok(blob.clone());
        }
        if offset.checked_add(len).is_none_or(|end| end > entry.len) {
            return Err(fault(location, &format!("has {} bytes, fewer than asked for", entry.len), None));
        }
        entry.allowance = entry
            .allowance
            .checked_sub(len)
            .ok_or_else(|| fault(location, "is referred to by too many overlapping tensors", None))?;
        let bytes = read_range(&mut entry.file, offset, len).map_err(|e| fault(location, &e.to_string(), None))?;
        let blob = Blob::new(bytes);
        entry.ranges.insert((offset, len), blob.clone());
        Ok(blob)
    }

    fn len(&mut self, location: &Location) -> Result<u64, ResolveError> {
        Ok(self.opened(location)?.len)
    }
}

fn read_range(file: &mut File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    file.seek(SeekFrom::Start(offset))?;
    file.take(len).read_to_end(&mut bytes)?;
    if bytes.len() != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "became shorter while it was read"));
    }
    Ok(bytes)
}

/// Opens the file at `location` below `root` and gives its length.
fn open(root: &Path, location: &Location) -> Result<(File, u64), ResolveError> {
    let mut path = root.to_path_buf();
    let mut found = None;
    for part in location.components() {
        path.push(part);
        let meta = path.symlink_metadata().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let hint = "keep the data file beside the model, under the name that the model was saved with";
                fault(location, "does not exist", Some(hint))
            }
            _ => fault(location, &format!("cannot be read: {e}"), None),
        })?;
        if meta.file_type().is_symlink() {
            let hint = "put the file itself beside the model";
            return Err(fault(location, "is reached through a symbolic link", Some(hint)));
        }
        found = Some(meta);
    }
    let found = found.filter(Metadata::is_file).ok_or_else(|| fault(location, "is not a regular file", None))?;
    let mut options = OpenOptions::new();
    options.read(true);
    no_blocking(&mut options);
    let file = options.open(&path).map_err(|e| fault(location, &format!("cannot be opened: {e}"), None))?;
    let opened = file.metadata().map_err(|e| fault(location, &format!("cannot be read: {e}"), None))?;
    let stayed = path.canonicalize().is_ok_and(|canonical| canonical == path) && same_file(&found, &opened);
    if !opened.is_file() || !stayed {
        return Err(fault(location, "changed while it was opened", None));
    }
    if link_count(&opened) > 1 {
        let hint = "copy the file, so that it has one name only";
        return Err(fault(location, "has several names (hard links)", Some(hint)));
    }
    Ok((file, opened.len()))
}

fn fault(location: &Location, what: &str, hint: Option<&str>) -> ResolveError {
    ResolveError { message: format!("`{}` {what}", location.as_str()), hint: hint.map(Into::into) }
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len()
}

#[cfg(unix)]
fn link_count(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(meta)
}

#[cfg(not(unix))]
fn link_count(_: &Metadata) -> u64 {
    1
}

/// Opening a pipe would wait for its writer; that the path was a regular file a moment ago does not rule one out.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn no_blocking(options: &mut OpenOptions) {
    const O_NONBLOCK: i32 = 0o4000;
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, O_NONBLOCK);
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn no_blocking(_: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(&dir.path().join("model.onnx")).unwrap();
        (dir, folder)
    }

    fn at(path: &str) -> Location {
        Location::parse(path).unwrap()
    }

    #[test]
    fn ranges_of_files_below_the_folder_are_read() {
        let (dir, mut folder) = folder();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/w"), b"0123456789").unwrap();
        assert_eq!(folder.len(&at("a/w")).unwrap(), 10);
        let first = folder.read(&at("a/w"), 2, 3).unwrap();
        assert_eq!(first.bytes(), b"234");
        let again = folder.read(&at("a/w"), 2, 3).unwrap();
        assert_eq!(first.bytes().as_ptr(), again.bytes().as_ptr(), "the same range is read once");
        assert!(folder.read(&at("a/w"), 8, 3).unwrap_err().message.contains("fewer"));
        assert!(folder.read(&at("a/w"), u64::MAX, 3).unwrap_err().message.contains("fewer"));
    }

    #[test]
    fn overlapping_ranges_are_bounded_by_the_length() {
        let (dir, mut folder) = folder();
        std::fs::write(dir.path().join("w"), b"0123456789").unwrap();
        folder.read(&at("w"), 0, 10).unwrap();
        folder.read(&at("w"), 1, 9).unwrap();
        assert!(folder.read(&at("w"), 2, 8).unwrap_err().message.contains("overlapping"));
    }

    #[test]
    fn what_is_no_file_of_the_folder_is_refused() {
        let (dir, mut folder) = folder();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("w"), b"x").unwrap();
        let mut fault = |path: &str| folder.len(&at(path)).unwrap_err();
        assert!(fault("missing").hint.is_some());
        assert!(fault("a").message.contains("not a regular file"));
        assert!(fault("w/x").message.contains("cannot be read"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let (dir, mut folder) = folder();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("dir")).unwrap();
        std::fs::write(dir.path().join("w"), b"x").unwrap();
        std::fs::hard_link(dir.path().join("w"), dir.path().join("v")).unwrap();
        let mut fault = |path: &str| folder.len(&at(path)).unwrap_err().message;
        assert_eq!(fault("file"), "`file` is reached through a symbolic link");
        assert_eq!(fault("dir/secret"), "`dir/secret` is reached through a symbolic link");
        assert_eq!(fault("v"), "`v` has several names (hard links)");
    }
}
