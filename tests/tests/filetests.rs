//! Runs every file under `tests/filetests`; see the crate for what they say.

use bitc_tests::{files, read, run, workspace};

/// Runs the files of one folder and reports all that fail.
fn folder(name: &str) {
    let only = std::env::var("BITC_FILETEST").unwrap_or_default();
    let root = workspace();
    let mut failed = Vec::new();
    let paths = files(&format!("tests/filetests/{name}"), ".bir");
    assert!(!paths.is_empty(), "no file tests in {name}");
    for path in paths.iter().filter(|p| p.display().to_string().contains(&only)) {
        let shown = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        let snapshot = match read(path).and_then(|case| run(&case)) {
            Ok(snapshot) => snapshot,
            Err(message) => {
                failed.push(format!("{shown}: {message}"));
                continue;
            }
        };
        let Some(text) = snapshot else { continue };
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(path.parent().expect("a file has a folder"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("file tests have plain names");
        let compare = || settings.bind(|| insta::assert_snapshot!(stem, text));
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(compare)).is_err() {
            failed.push(format!("{shown}: differs from its snapshot, see above"));
        }
    }
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
}

#[test]
fn text() {
    folder("text");
}

#[test]
fn verify() {
    folder("verify");
}

#[test]
fn ops() {
    folder("ops");
}

#[test]
fn passes() {
    folder("passes");
}

#[test]
fn runtime() {
    folder("runtime");
}

#[test]
fn pipelines() {
    folder("pipelines");
}
