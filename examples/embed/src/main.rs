//! Runs an artifact in a program that links the runtime and nothing else of bitc.
//!
//! A small build has the size profile and the runtime's `minimal` feature:
//!
//! `cargo build -p embed_runtime --profile size --features minimal`
//!
//! `embed_runtime model.bit` fills every f32 input with 0, 1/n, 2/n .. for one sample and prints the outputs.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use bitc_runtime::{Limits, Program, Session, View, ViewMut};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: embed_runtime MODEL.bit")?;
    let bytes = std::fs::read(path)?;

    let begun = Instant::now();
    let program = Program::from_bytes(&bytes, &Limits::default())?;
    let mut session = Session::new(&program);

    // Every symbolic dimension is 1: one sample.
    let sizes: Vec<(&str, usize)> = program.symbols().iter().map(|s| (s.as_str(), 1)).collect();
    let input_shapes = program.input_shapes(&sizes)?;
    let output_shapes = program.output_shapes(&sizes)?;
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    let ramp = |n: usize| (0..n).map(|i| i as f32 / n as f32).collect::<Vec<f32>>();
    let inputs: Vec<Vec<f32>> = input_shapes.iter().map(|s| ramp(elements(s))).collect();
    let mut outputs: Vec<Vec<f32>> = output_shapes.iter().map(|s| vec![0.0; elements(s)]).collect();

    let views: Vec<View<'_>> = input_shapes.iter().zip(&inputs).map(|(s, x)| View::of(s, x)).collect();
    let mut out_views: Vec<ViewMut<'_>> =
        output_shapes.iter().zip(&mut outputs).map(|(s, y)| ViewMut::of(s, y)).collect();
    session.run(&views, &mut out_views)?;
    drop(out_views);
    let elapsed = begun.elapsed();

    let mut stdout = std::io::stdout().lock();
    for (port, y) in program.outputs().iter().zip(&outputs) {
        let head: Vec<String> = y.iter().take(10).map(|v| format!("{v:.4}")).collect();
        writeln!(stdout, "{}: {}", port.name, head.join(" "))?;
    }
    writeln!(std::io::stderr(), "load to first output: {} us on {}", elapsed.as_micros(), session.kernels())?;
    Ok(())
}
