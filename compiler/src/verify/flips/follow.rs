//! Flips that the model's own graph shows.

use bitc_ir::eval::eval_with;
use bitc_ir::{Graph, Tensor};

use super::{Flip, Quantized, Replay, bounds};
use crate::error::Diagnostic;
use crate::runnable;

/// Runs the frozen graph along the model: where the model has the neighbouring integer of an element next to a border, that
/// one is taken. Returns the flips of the rows that then have the outputs of the
/// model, and how many elements of a row were looked at.
pub(super) fn follow(replay: &Replay<'_>, model: &Graph) -> Result<(Vec<Flip>, usize), Diagnostic> {
    let made = integers_of(model, replay.inputs)?;
    let mut taken: Vec<Flip> = Vec::new();
    let outcome = replay.run(&mut |quantized| {
        let flips = sides(replay, quantized, &made);
        taken.extend(flips.iter().cloned());
        flips
    })?;
    taken.retain(|f| !outcome.outside.contains(&f.row));
    Ok((taken, outcome.width))
}

/// What every quantiser of the model made.
fn integers_of(model: &Graph, inputs: &[Tensor]) -> Result<Vec<Vec<f64>>, Diagnostic> {
    let mut made = Vec::new();
    let outputs = eval_with(model, inputs, &mut |node, outputs| {
        if bounds(&model.node(node).op).is_some() {
            made.push(outputs[0].to_f64());
        }
    });
    outputs.map_err(|e| runnable::eval_error(&e))?;
    Ok(made)
}

/// The elements that the model has on the other side. Its quantiser is the one whose integers are the same but for few;
/// were it another one, the outputs would show it.
fn sides(replay: &Replay<'_>, quantized: Quantized<'_>, made: &[Vec<f64>]) -> Vec<Flip> {
    let Some((low, high)) = bounds(quantized.op) else { return Vec::new() };
    let frozen = quantized.values.to_f64();
    let width = frozen.len().div_ceil(replay.count()).max(1);
    let differing = |model: &&Vec<f64>| -> usize {
        let pairs = model.iter().zip(&frozen).enumerate();
        let differs =
            |(i, (m, f)): &(usize, (&f64, &f64))| m.clamp(low, high) != **f && replay.rows.contains(&(i / width));
        pairs.filter(differs).count()
    };
    let same_size = made.iter().filter(|m| m.len() == frozen.len());
    let Some(model) = same_size.min_by_key(differing) else { return Vec::new() };
    let on_other_side = |f: &Flip| model[f.element].clamp(low, high) == f64::from(f.model);
    quantized.near.into_iter().filter(on_other_side).collect()
}
