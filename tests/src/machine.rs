//! Runs graphs as artifacts: lowered, written, loaded and run on every set of kernels of this machine.

use bitc::backend::artifact;
use bitc::lower::{Target, lower};
use bitc::runnable::Runnable;
use bitc_ir::{Graph, Tensor};
use bitc_runtime::{Limits, Program, kernels};

/// Floats of the runtime may be that far from the evaluator's, relative to the number or to 1: sums of products are
/// single precision there and double precision here.
const BOUND: f64 = 1e-5;

/// A graph that has become an artifact.
pub(crate) struct Machine(Runnable);

impl Machine {
    /// The artifact of a graph; parameters count as constants.
    ///
    /// # Errors
    /// Why it cannot be lowered, and what is wrong with what it was lowered to.
    pub(crate) fn of(graph: &Graph) -> Result<Result<Self, String>, String> {
        let mut graph = graph.clone();
        graph.params_to_consts();
        graph.frozen = true;
        let lowered = match lower(&graph, Target::Any) {
            Ok(lowered) => lowered,
            Err(failure) => return Ok(Err(failure.to_string())),
        };
        let bytes = artifact::write(&lowered, Target::Any, false).map_err(|e| e.to_string())?.to_bytes();
        let program = Program::from_bytes(&bytes, &Limits::default()).map_err(|e| e.to_string())?;
        Ok(Ok(Self(Runnable::Program(Box::new(program)))))
    }

    /// Compares each set of kernels with what the evaluator made of the inputs.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn compare(&self, inputs: &[Tensor], expected: Result<&[Tensor], &str>) -> Result<(), String> {
        for set in kernels::available() {
            let at = |message: String| format!("{} kernels: {message}", set.name());
            match (self.0.run(inputs, set), expected) {
                (Ok(outputs), Ok(expected)) => {
                    for (i, (found, expected)) in outputs.iter().zip(expected).enumerate() {
                        close(found, expected).map_err(|m| at(format!("output {i}: {m}")))?;
                    }
                }
                (Err(_), Err(_)) => {}
                (Ok(_), Err(message)) => return Err(at(format!("runs, but the evaluator says: {message}"))),
                (Err(fault), Ok(_)) => return Err(at(format!("only the evaluator runs: {fault}"))),
            }
        }
        Ok(())
    }
}

fn close(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if found.ty() != expected.ty() {
        return Err(format!("{}, not {}", found.ty(), expected.ty()));
    }
    let exact = !expected.dtype().is_float();
    for (i, (a, b)) in found.to_f64().into_iter().zip(expected.to_f64()).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (!exact && (a - b).abs() <= BOUND * b.abs().max(1.0));
        if !same {
            return Err(format!("element {i} is {a}, not {b}"));
        }
    }
    Ok(())
}
