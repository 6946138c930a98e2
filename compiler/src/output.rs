//! Output files: written beside their place and renamed into it.
//!
//! After a failure the old file is still there, or none; nobody ever sees half a file, and a reader that holds the old
//! one keeps it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Diagnostic;

/// Refuses an output that is the very file that is read.
///
/// # Errors
/// If it is, whatever the two paths look like.
pub fn not_over(input: &Path, output: &Path) -> Result<(), Diagnostic> {
    if output == Path::new("-") {
        return Ok(());
    }
    let same = matches!((input.canonicalize(), output.canonicalize()), (Ok(input), Ok(output)) if input == output);
    if !same {
        return Ok(());
    }
    let over = Diagnostic::usage("the output is the input: it would be written over");
    Err(over.file(output.display().to_string()).hint("give it another name"))
}

/// Refuses an output whose folder is not there, or whose name a folder has, before any work is done for it.
///
/// # Errors
/// As [`write()`] would fail for these reasons.
pub fn expect_place(path: &Path) -> Result<(), Diagnostic> {
    if path == Path::new("-") {
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = if path.is_dir() { Err(folder_of_this_name()) } else { fs::metadata(folder).map(|_| ()) };
    found.map_err(|e| cannot_write(&e, path))
}

fn cannot_write(e: &io::Error, path: &Path) -> Diagnostic {
    Diagnostic::wrong_input(format!("cannot write: {e}")).file(path.display().to_string())
}

fn folder_of_this_name() -> io::Error {
    io::Error::new(io::ErrorKind::IsADirectory, "there is a folder of this name")
}

/// Writes `bytes` as the whole of `path`; the path `-` is standard output.
///
/// # Errors
/// If any step of writing fails; the temporary file is removed and an existing file at `path` is unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    write_pieces(path, &mut std::iter::once(bytes))
}

/// As [`write()`], for bytes that follow each other and are not in one place.
///
/// # Errors
/// As [`write()`].
pub fn write_pieces(path: &Path, pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<(), Diagnostic> {
    let result = if path == Path::new("-") { to_stdout(pieces) } else { replace(path, pieces) };
    result.map_err(|e| cannot_write(&e, path))
}

fn to_stdout(pieces: &mut dyn Iterator<Item = &[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write_each(&mut out, pieces)?;
    out.flush()
}

fn write_each(out: &mut dyn Write, pieces: &mut dyn Iterator<Item = &[u8]>) -> io::Result<()> {
    for bytes in pieces {
        out.write_all(bytes)?;
    }
    Ok(())
}

fn replace(path: &Path, pieces: &mut dyn Iterator<Item = &[u8]>) -> io::Result<()> {
    let target = match fs::metadata(path) {
        Ok(found) if found.is_file() => fs::canonicalize(path)?, // A link stays a link.
        Ok(found) if found.is_dir() => return Err(folder_of_this_name()),
        Ok(_) => {
            // A device or a pipe.
            let mut device = OpenOptions::new().write(true).open(path)?;
            return write_each(&mut device, pieces);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(e) => return Err(e),
    };
    let (file, temporary) = create_beside(&target)?;
    let result = fill(file, pieces)
        .and_then(|()| keep_permissions(&target, &temporary))
        .and_then(|()| fs::rename(&temporary, &target));
    if result.is_err() {
        // The first error is the one to report, so a failing removal stays silent.
        let _ = fs::remove_file(&temporary);
        return result;
    }
    sync_folder(&target)
}

/// A new empty file in the folder of `target`, with a name nothing else has.
fn create_beside(target: &Path) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "this names no file"))?;
    for attempt in 0..100 {
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = target.with_file_name(beside);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary file"))
}

fn fill(mut file: File, pieces: &mut dyn Iterator<Item = &[u8]>) -> io::Result<()> {
    write_each(&mut file, pieces)?;
    file.sync_all()
}

/// A replaced file keeps its permissions; a new one has those of any new file.
fn keep_permissions(target: &Path, temporary: &Path) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(old) => fs::set_permissions(temporary, old.permissions()),
        Err(_) => Ok(()),
    }
}

/// Makes the rename durable where the system lets a folder be opened.
fn sync_folder(target: &Path) -> io::Result<()> {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(folder) if cfg!(unix) => folder.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_remains() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.bit");
        write(&path, b"one").unwrap();
        let reader = File::open(&path).unwrap();
        write(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(io::read_to_string(reader).unwrap(), "one", "who holds the old file keeps it");
        assert_eq!(names(dir.path()), ["out.bit"]);
    }

    #[test]
    fn a_failure_leaves_the_folder_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("taken");
        fs::create_dir(&folder).unwrap();
        let error = write(&folder, b"x").unwrap_err();
        assert!(error.message.contains("there is a folder of this name"), "{error}");
        assert_eq!(expect_place(&folder).unwrap_err(), error);
        let error = write(&dir.path().join("missing/out.bit"), b"x").unwrap_err();
        assert_eq!(expect_place(&dir.path().join("missing/out.bit")).unwrap_err(), error);
        expect_place(&dir.path().join("new.bit")).unwrap();
        expect_place(Path::new("-")).unwrap();
        assert!(error.file.as_deref().unwrap().ends_with("missing/out.bit"), "{error}");
        if cfg!(unix) {
            write(Path::new("/dev/null"), b"x").unwrap();
        }
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, b"one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, b"two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
