//! `PASSES.md` is written from the registry and the head of each pass's file; this test keeps it true. `BITC_BLESS=1`
//! writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use bitc_ir::Attrs;
use bitc_passes::{PASSES, Values};

fn reference() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::from(
        "# Passes\n\nWritten from the registry by `cargo test -p bitc-passes --test reference`; do not edit. *Values* says \
         how far a pass may move the outputs: not at all, by the rounding of floats in another order, or freely because \
         the user asked for another model.\n",
    );
    for entry in PASSES {
        let file = root.join("src").join(format!("{}.rs", entry.name.replace('-', "_")));
        let source = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let head = source.lines().take_while(|l| l.starts_with("//!"));
        let head: Vec<&str> =
            head.map(|l| l.trim_start_matches("//!")).map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
        let _ = write!(text, "\n## {}\n\n{}\n\n", entry.name, entry.doc);
        if let Ok(pass) = entry.build(Attrs::new()) {
            let values = match pass.values() {
                Values::Exact => "exact",
                Values::Rounding => "within rounding",
                Values::Free => "another model",
            };
            let facts =
                format!("Requires: {}. Establishes: {}. Values: {values}.", pass.requires(), pass.establishes());
            let _ = writeln!(text, "{facts}\n");
        }
        // The first line of the file repeats the name.
        let body = head.iter().skip_while(|l| !l.is_empty()).skip(1);
        body.for_each(|line| text.extend([line, "\n"]));
    }
    text
}

#[test]
fn the_reference_is_that_of_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("PASSES.md");
    let expected = reference();
    if std::env::var_os("BITC_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "PASSES.md is out of date; `BITC_BLESS=1 cargo test -p bitc-passes --test reference` writes it"
    );
}
