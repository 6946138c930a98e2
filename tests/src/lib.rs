//! The harness of the file tests: graphs in the text form, the commands to run on them, and what must come out.
//!
//! A file under `tests/filetests` begins with its commands, `// test: COMMAND`, and holds one or more graphs:
//!
//! - `print`: the graphs print as the snapshot beside the file says, and the print reads back to the same graph.
//! - `verify [FACT, ..]`: the faults are exactly those that `// error: message` at the end of lines says, both when the
//!   text is read and when the graph and the facts are checked. A fault of no line belongs to the line of `graph`.
//! - `pass NAME [{params}] [, NAME ..]`: what the passes make of each graph and say about it is the snapshot. The graph
//!   must keep its interface, and its values on seeded inputs within what the passes declare, after all rewrites and
//!   after any smaller number of them; `// values: off` says that values need not be kept.
//!   `// calibration: [[0, 1], [1, 1]]` are inputs, written as those of a run, for passes that take such.
//! - `explain NAME ..`: only what the passes say is in the snapshot.
//! - `pipeline NAME`: as `pass`, with the passes of `configs/pipelines/NAME.yaml`.
//! - `runtime`: the graph has an artifact, which computes on seeded inputs what the evaluator does, on every set of
//!   kernels of this machine.
//! - `eval`: nothing but the runs.
//!
//! `// run: @g([1, 2], 3) == [3, 4]` after a graph runs it: by the evaluator, after the passes of the file, and where the
//! graph can be lowered by the runtime on every set of kernels, there within the bound of float products.
//! `~=` compares within 1e-6 relative to the largest value, and `// run: @g(..) fails: message` expects an error. Lists
//! nest as the dimensions do, `[]` has the declared dimensions with symbols as 0. `===` compares floats bit by bit.
//!
//! Snapshots lie beside the files. `INSTA_UPDATE=always cargo test -p bitc-tests --test filetests` writes them; what it
//! wrote is to be read before it is committed. `BITC_FILETEST=text` runs only the files whose path contains the text.
#![forbid(unsafe_code)]

mod case;
mod command;
mod literal;
mod machine;
mod sample;

use std::path::{Path, PathBuf};

pub use case::{Case, Command, Section};
pub use sample::inputs as sample_inputs;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// All files below a folder of the workspace whose name ends like that, sorted.
pub fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|e| e.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().is_some_and(|p| p.ends_with(suffix)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Reads a file test.
///
/// # Errors
/// Why it is none.
pub fn read(path: &Path) -> Result<Case, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    Case::parse(&text)
}

/// Runs the commands of a file test. Returns what belongs into its snapshot, if it has one.
///
/// # Errors
/// Everything that is not as it must be, one per line.
pub fn run(case: &Case) -> Result<Option<String>, String> {
    command::run(case)
}
