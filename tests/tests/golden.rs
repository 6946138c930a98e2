//! The artifacts under `tests/golden`: written once, they load and compute the same for ever, and damaged ones are refused.
//!
//! Each `NAME.bit` was compiled from the `NAME.yaml` beside it and lies there with inputs and outputs. A file is never
//! written again; where a new version of the format or a new layout appears, new files are added:
//! `bitc compile NAME.yaml -o NAME.bit`, then `BITC_BLESS=1 cargo test -p bitc-tests --test golden`, which writes the
//! inputs and outputs that are missing.

use std::path::{Path, PathBuf};

use bitc::backend::artifact;
use bitc::npy;
use bitc::runnable::{self, Runnable};
use bitc::verify::{Tolerance, difference};
use bitc_format::Artifact;
use bitc_ir::Tensor;
use bitc_runtime::{Limits, Program, Session, kernels};
use bitc_tests::files;

/// The golden files and what is in them.
fn golden() -> Vec<(PathBuf, Vec<u8>)> {
    let paths = files("tests/golden", ".bit");
    assert!(paths.len() >= 4, "golden files are missing");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn array(path: &Path, ending: &str, make: impl FnOnce() -> Tensor) -> Tensor {
    let path = path.with_extension(ending);
    if !path.exists() && std::env::var_os("BITC_BLESS").is_some() {
        std::fs::write(&path, npy::encode(&make())).unwrap();
    }
    npy::read(&path).unwrap()
}

#[test]
fn golden_files_compute_what_they_did() {
    for (path, bytes) in golden() {
        let program = Program::from_bytes(&bytes, &Limits::default()).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let input = array(&path, "in.npy", || {
            let runnable = Runnable::Program(Box::new(Program::from_bytes(&bytes, &Limits::default()).unwrap()));
            let sizes = runnable.symbols().into_iter().map(|s| if s == "N" { (s, 9) } else { (s, 3) }).collect();
            runnable.random_inputs(&sizes, 11).unwrap().remove(0)
        });
        let run = |kernels| {
            let mut session = Session::with_kernels(&program, kernels);
            runnable::run(&mut session, std::slice::from_ref(&input), None).unwrap().remove(0)
        };
        let expected = array(&path, "out.npy", || run(kernels::by_name("portable").unwrap()));
        for kernels in kernels::available() {
            let tolerance = Tolerance { relative: 1e-5, ..Tolerance::default() };
            let found = difference("y", &expected, &run(kernels), tolerance);
            assert!(found.rows.is_empty() && found.n_rows == 9, "{path:?} on {}: {found:?}", kernels.name());
        }
    }
}

#[test]
fn the_graphs_inside_golden_files_are_still_read() {
    let graphs: Vec<bool> = golden().iter().map(|(_, bytes)| artifact::read_graph(bytes).unwrap().is_some()).collect();
    assert!(graphs.contains(&true) && graphs.contains(&false), "one of them is stripped");
}

/// A change is refused, or it is one that says nothing about what is computed: the minor version, or the kind of a
/// section that may be skipped.
#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    for (path, mut bytes) in golden() {
        let whole = Artifact::parse(&bytes).unwrap().into_contents();
        for at in 0..bytes.len() {
            for change in [1 << (at % 8), 0xff] {
                bytes[at] ^= change;
                if let Ok(changed) = Artifact::parse(&bytes) {
                    let harmless = [6, 7].contains(&at) || (64..64 + 8 * 32).contains(&at) && at % 32 < 4;
                    assert!(harmless, "{path:?}: byte {at} ^ {change:#x} goes unnoticed");
                    let changed = changed.into_contents();
                    assert_eq!((whole.code(), whole.buffers()), (changed.code(), changed.buffers()));
                    assert_eq!((whole.consts(), whole.inputs()), (changed.consts(), changed.inputs()));
                }
                bytes[at] ^= change;
            }
            assert!(Artifact::parse(&bytes[..at]).is_err(), "{path:?}: cut to {at} bytes, it is still accepted");
        }
    }
}
