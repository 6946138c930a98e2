//! A program with the standard library.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use crate::run::run;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: embed_runtime MODEL.bit")?;
    let bytes = std::fs::read(path)?;

    let begun = Instant::now();
    let report = run(&bytes, || begun.elapsed().as_micros())?;
    write!(std::io::stdout(), "{}", report.outputs)?;
    writeln!(std::io::stderr(), "{}", report.timing)?;
    Ok(())
}
