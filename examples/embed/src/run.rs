//! From the bytes of an artifact to its outputs.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use bitc_runtime::{Limits, Program, Session, View, ViewMut};

/// What a run has to say.
pub(crate) struct Report {
    /// The first values of each output, a line each.
    pub(crate) outputs: String,
    /// How long it took, and with which instructions.
    pub(crate) timing: String,
}

/// Loads an artifact and runs it on one sample; `micros` is a clock that begins here.
pub(crate) fn run(artifact: &[u8], micros: impl FnOnce() -> u128) -> Result<Report, String> {
    let program = Program::from_bytes(artifact, &Limits::default()).map_err(|error| error.to_string())?;
    let mut session = Session::new(&program);

    // Every symbolic dimension is 1: one sample.
    let sizes: Vec<(&str, usize)> = program.symbols().iter().map(|s| (s.as_str(), 1)).collect();
    let input_shapes = program.input_shapes(&sizes).map_err(|error| error.to_string())?;
    let output_shapes = program.output_shapes(&sizes).map_err(|error| error.to_string())?;
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    let ramp = |n: usize| (0..n).map(|i| i as f32 / n as f32).collect::<Vec<f32>>();
    let inputs: Vec<Vec<f32>> = input_shapes.iter().map(|s| ramp(elements(s))).collect();
    let mut outputs: Vec<Vec<f32>> = output_shapes.iter().map(|s| vec![0.0; elements(s)]).collect();

    let views: Vec<View<'_>> = input_shapes.iter().zip(&inputs).map(|(s, x)| View::of(s, x)).collect();
    let mut out_views: Vec<ViewMut<'_>> =
        output_shapes.iter().zip(&mut outputs).map(|(s, y)| ViewMut::of(s, y)).collect();
    session.run(&views, &mut out_views).map_err(|error| error.to_string())?;
    drop(out_views);
    let timing = format!("load to first output: {} us on {}", micros(), session.kernels());

    let mut lines = String::new();
    for (port, y) in program.outputs().iter().zip(&outputs) {
        let head: Vec<String> = y.iter().take(10).map(|v| format!("{v:.4}")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{}: {}", port.name, head.join(" "));
    }
    Ok(Report { outputs: lines, timing })
}
