//! One model on bitc and on tract, one thread each, in one run.
//!
//! `cargo bench -p bitc --features tract --bench tract -- MODEL.onnx [ROUNDS]`
//!
//! The engines take turns, so that a busy machine slows both; printed is the processor time of a run, the smallest and
//! the median of the rounds, and how far the outputs are apart.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bitc::bench::{Copies, Form, measure};
use bitc::error::{Diagnostic, Failure};
use bitc::frontend::Source;
use bitc::oracle::Oracle;
use bitc::runnable::{self, Runnable};
use bitc_ir::Tensor;
use bitc_runtime::kernels;

/// How long an engine has its turn.
const TURN: Duration = Duration::from_millis(500);

fn main() -> std::process::ExitCode {
    // Cargo adds `--bench`, which says nothing here.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(path) = args.first() else {
        println!("no model is named, so nothing is timed");
        return std::process::ExitCode::SUCCESS;
    };
    let rounds = args.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    match compare(Path::new(path), rounds) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            println!("{failure}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn compare(path: &Path, rounds: usize) -> Result<(), Failure> {
    let artifact = bitc::compile(&Source::read(path)?, &bitc::Options::default())?.artifact;
    let copies = Copies::new(&artifact, 0)?;
    let model = Runnable::Program(Box::new(runnable::load(&artifact)?));
    let sizes: BTreeMap<String, usize> = model.symbols().into_iter().map(|symbol| (symbol, 1)).collect();
    let inputs = model.random_inputs(&sizes, 0)?;
    let outputs = model.run(&inputs, kernels::best())?;
    let oracle = Oracle::new(Source::read(path)?)?;
    let tract = oracle.prepare(&inputs)?;
    let expected = tract()?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(copies.time(&inputs, Form::Rows, &outputs, kernels::best(), TURN)?.cpu.median);
        let mut run = |n: u64| (0..n).try_for_each(|_| tract().map(drop));
        theirs.push(measure(TURN, &mut run)?.cpu.median);
    }
    let [ours, theirs] = [ours, theirs].map(|mut times| {
        times.sort_by(f64::total_cmp);
        [times[0], times[rounds / 2]].map(|nanoseconds| nanoseconds * 1e-6)
    });
    println!("bitc  {:>10.3} ms, smallest {:>10.3}", ours[1], ours[0]);
    println!("tract {:>10.3} ms, smallest {:>10.3}", theirs[1], theirs[0]);
    println!("bitc takes {:.2} of the time of tract", ours[1] / theirs[1]);
    println!("outputs differ by {:.1e} of the largest value", difference(&outputs, &expected)?);
    Ok(())
}

/// The largest difference, as a part of the largest value.
fn difference(ours: &[Tensor], theirs: &[Tensor]) -> Result<f32, Diagnostic> {
    let values = |tensors: &[Tensor]| -> Option<Vec<f32>> {
        tensors.iter().map(Tensor::to_vec::<f32>).collect::<Option<Vec<_>>>().map(|all| all.concat())
    };
    let unsupported = || Diagnostic::unsupported("outputs that are not f32 are not compared");
    let (ours, theirs) = values(ours).zip(values(theirs)).ok_or_else(unsupported)?;
    let largest = theirs.iter().fold(0f32, |max, v| max.max(v.abs()));
    Ok(ours.iter().zip(&theirs).fold(0f32, |max, (a, b)| max.max((a - b).abs())) / largest)
}
