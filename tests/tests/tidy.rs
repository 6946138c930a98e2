//! The rules of the house that no lint knows: borders between crates, where `unsafe` may be, what every file and every
//! operation and pass must have.

use std::path::{Path, PathBuf};

/// Which of our crates each crate may import.
const BORDERS: &[(&str, &[&str])] = &[
    ("compiler/ir", &[]),
    ("runtime/format", &[]),
    ("runtime", &["bitc-format"]),
    ("passes", &["bitc-ir"]),
    ("onnx", &["bitc-ir"]),
    ("integrations/onnxruntime", &["bitc", "bitc-format", "bitc-ir", "bitc-onnx", "bitc-passes", "bitc-runtime"]),
    ("compiler", &["bitc-format", "bitc-ir", "bitc-onnx", "bitc-passes", "bitc-runtime"]),
];

/// Crates that import nothing from outside.
const FREE: &[&str] = &["runtime/format", "runtime"];

/// Where the graph and the wire format may meet.
const MEETING_PLACES: &[&str] = &["lower", "plan", "backend", "runnable", "verify", "summary", "cli", "compile"];

/// Where `unsafe` may be: the runtime's vocabulary, buffers and pool, the allocators of tests, and a program that brings
/// what the standard library would.
const UNSAFE: &[&str] = &[
    "runtime/src/isa",
    "runtime/src/arena.rs",
    "runtime/src/pool.rs",
    "runtime/tests/allocation.rs",
    "compiler/tests/memory.rs",
    "examples/embed/src/bare.rs",
];

/// The longest a file may be, tests and tables apart.
const LINES_LIMIT: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_path_buf()
}

/// Every file below a folder with one of the endings, relative to the workspace.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if endings.iter().any(|e| name.ends_with(e)) {
                let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                found.push((relative, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 3, "the workspace was not found");
    found
}

fn check(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The names in the `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[").find_map(|s| s.strip_prefix("dependencies]")).unwrap_or("");
    let name = |line: &str| line.split(['.', '=', ' ']).next().unwrap_or("").to_owned();
    section.lines().filter(|l| l.contains('=')).map(name).collect()
}

#[test]
fn crates_import_only_what_they_may() {
    let mut faults = Vec::new();
    for (folder, allowed) in BORDERS {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        for name in dependencies(&manifest) {
            let ours = name == "bitc" || name.starts_with("bitc-");
            if ours && !allowed.contains(&name.as_str()) {
                faults.push(format!("{folder} imports {name}"));
            }
            if !ours && FREE.contains(folder) {
                faults.push(format!("{folder} depends on {name}; it depends on nothing"));
            }
        }
    }
    check(faults);
}

#[test]
fn graph_and_wire_format_meet_in_the_driver_only() {
    let mut faults = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let Some(module) = path.strip_prefix("compiler/src/") else { continue };
        let place = module.split(['/', '.']).next().unwrap_or("");
        if text.contains("bitc_format::") && !MEETING_PLACES.contains(&place) && place != "lib" {
            faults.push(format!("{path} knows the wire format"));
        }
    }
    check(faults);
}

#[test]
fn manifests_share_lints_and_versions() {
    let mut faults = Vec::new();
    assert!(root().join("Cargo.lock").is_file());
    assert!(!root().join("rust-toolchain.toml").exists() && !root().join("rust-toolchain").exists());
    for (path, text) in files(&["Cargo.toml"]) {
        let member = path != "Cargo.toml" && !path.contains("fuzz");
        if member && !(text.contains("[lints]\nworkspace = true") && text.contains("rust-version.workspace = true")) {
            faults.push(format!("{path} does not take lints and rust-version from the workspace"));
        }
    }
    check(faults);
}

#[test]
fn unsafe_is_where_it_may_be_and_has_its_proof() {
    let mut faults = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let allowed = UNSAFE.iter().any(|p| path.starts_with(p)) || path.starts_with("integrations/");
        let code = |line: &&str| !line.trim_start().starts_with("//");
        let used = text
            .lines()
            .filter(code)
            .any(|l| ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait"].iter().any(|u| l.contains(u)));
        let is_this_file = path.ends_with("tests/tidy.rs");
        if used && !is_this_file && !allowed {
            faults.push(format!("{path} uses `unsafe`"));
        }
        if used && !is_this_file && !text.contains("SAFETY:") {
            faults.push(format!("{path} uses `unsafe` without a proof"));
        }
    }
    check(faults);
}

#[test]
fn files_have_a_purpose_and_a_size() {
    let mut faults = Vec::new();
    for (path, text) in files(&[".rs"]) {
        if !text.starts_with("//!") {
            faults.push(format!("{path} does not begin with `//!`"));
        }
        let lines = text.lines().count();
        let test = path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
        if lines > LINES_LIMIT && !test {
            faults.push(format!("{path} has {lines} lines; is there a second room inside?"));
        }
        let name = path.rsplit('/').next().unwrap_or("");
        if ["mod.rs", "utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs"].contains(&name) {
            faults.push(format!("{path} has a name that says nothing"));
        }
    }
    check(faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here so that this file does not hold the words.
    let words = ["to", "unimple", "FIX", "#[ign"].into_iter().zip(["do!(", "mented!(", "ME", "ore"]);
    let words: Vec<String> = words.map(|(a, b)| format!("{a}{b}")).collect();
    let mut faults = Vec::new();
    for (path, text) in files(&[".rs"]) {
        for word in words.iter().filter(|w| text.contains(w.as_str())) {
            faults.push(format!("{path} holds `{word}`"));
        }
    }
    check(faults);
}

#[test]
fn every_operation_and_pass_has_a_file_test() {
    let tests = files(&[".bir"]);
    let mut faults = Vec::new();
    for info in bitc_ir::Op::all() {
        let call = format!("= {}(", info.name);
        if !tests.iter().any(|(path, text)| path.starts_with("tests/filetests/") && text.contains(&call)) {
            faults.push(format!("operation `{}` has no file test", info.name));
        }
    }
    for pass in bitc_passes::PASSES {
        let folder = format!("tests/filetests/passes/{}/", pass.name);
        if !tests.iter().any(|(path, _)| path.starts_with(&folder)) {
            faults.push(format!("pass `{}` has no file test", pass.name));
        }
    }
    check(faults);
}
