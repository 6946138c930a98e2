//! Input files: read whole into a private buffer.
//!
//! A private buffer cannot change or shrink under the reader, which a mapped file can. Only regular files are read, so
//! that a device or a pipe given by mistake neither blocks nor fills the memory. The path `-` is standard input, which is
//! read once however often it is asked for.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::OnceLock;

use bitc_ir::Blob;

use crate::error::Diagnostic;

/// What standard input may hold: nothing tells its length beforehand.
const STANDARD_INPUT_LIMIT: u64 = 2 << 30;

/// Whether a path means standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// The bytes of the file at `path`, or of standard input.
///
/// # Errors
/// If the file cannot be read, is no regular file, or is longer than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Blob, Diagnostic> {
    if is_standard_input(path) {
        return standard_input(limit);
    }
    let file = |d: Diagnostic| d.file(path.display().to_string());
    let cannot = |e: io::Error| file(Diagnostic::wrong_input(format!("cannot read: {e}")));
    // The kind is asked before opening, because opening a pipe waits for its writer.
    let found = std::fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        let what = if found.is_dir() { "a folder" } else { "not a regular file" };
        return Err(file(Diagnostic::wrong_input(format!("cannot read: this is {what}"))));
    }
    let too_long = |len: u64| {
        file(Diagnostic::wrong_input("the file is too long").expected(format!("at most {limit} bytes")).found(len))
    };
    if found.len() > limit {
        return Err(too_long(found.len()));
    }
    let mut bytes = Vec::new();
    let expected = usize::try_from(found.len()).map_err(|_| too_long(found.len()))?;
    bytes.try_reserve_exact(expected).map_err(|e| cannot(io::Error::new(io::ErrorKind::OutOfMemory, e)))?;
    let opened = File::open(path).map_err(cannot)?;
    opened.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(Blob::new(bytes))
}

fn standard_input(limit: u64) -> Result<Blob, Diagnostic> {
    static CONTENT: OnceLock<Result<Blob, String>> = OnceLock::new();
    let content = CONTENT.get_or_init(|| {
        let stream = io::stdin();
        if stream.is_terminal() {
            return Err("standard input is a terminal, nothing is piped into it".to_owned());
        }
        let mut bytes = Vec::new();
        let mut limited = stream.lock().take(STANDARD_INPUT_LIMIT + 1);
        limited.read_to_end(&mut bytes).map_err(|e| format!("cannot read standard input: {e}"))?;
        Ok(Blob::new(bytes))
    });
    let wrong = |what: &str| Diagnostic::wrong_input(what).file("-");
    let bytes = content.as_ref().map_err(|what| wrong(what))?;
    let limit = limit.min(STANDARD_INPUT_LIMIT);
    if bytes.bytes().len() as u64 > limit {
        return Err(wrong("standard input is too long").expected(format!("at most {limit} bytes")));
    }
    Ok(bytes.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().bytes(), b"12345");
        assert!(read(&path, 4).unwrap_err().message.contains("too long"));
        assert!(read(dir.path(), 5).unwrap_err().message.contains("a folder"));
        assert!(read(&dir.path().join("y"), 5).unwrap_err().message.contains("cannot read"));
        if cfg!(unix) {
            assert!(read(Path::new("/dev/zero"), 5).unwrap_err().message.contains("not a regular file"));
        }
    }
}
