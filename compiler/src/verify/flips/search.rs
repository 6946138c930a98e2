//! Flips that are tried out.

use std::collections::BTreeMap;

use super::{Flip, Outcome, Quantized, Replay};
use crate::error::Diagnostic;

/// How often the graph is run again.
const RUNS: usize = 64;

/// A flip is kept while others are looked for if it takes this part of the distance away.
const KEPT: f64 = 0.01;

/// What is known of one row.
struct Row {
    accepted: Vec<Flip>,
    candidates: Vec<Flip>,
    next: usize,
    gap: f64,
}

impl Row {
    /// What was accepted and the next candidate.
    fn trial(&self) -> Vec<Flip> {
        self.accepted.iter().chain(&self.candidates[self.next..=self.next]).cloned().collect()
    }
}

/// Tries elements next to a border, the nearest first, each together with those that brought the row nearer to the model.
/// All rows are tried in the same runs.
pub(super) fn search(replay: &Replay<'_>) -> Result<Vec<Flip>, Diagnostic> {
    let (outcome, mut candidates) = run(replay, &[])?;
    let mut pending: BTreeMap<usize, Row> = BTreeMap::new();
    for &row in replay.rows {
        let candidates = candidates.remove(&row).unwrap_or_default();
        pending.insert(row, Row { accepted: Vec::new(), candidates, next: 0, gap: outcome.gaps[&row] });
    }
    let mut found = Vec::new();
    for _ in 0..RUNS {
        pending.retain(|_, row| row.next < row.candidates.len());
        if pending.is_empty() {
            break;
        }
        let forced: Vec<Flip> = pending.values().flat_map(Row::trial).collect();
        let (outcome, mut candidates) = run(replay, &forced)?;
        pending.retain(|number, row| {
            if !outcome.outside.contains(number) {
                found.extend(row.trial());
                return false;
            }
            let gap = outcome.gaps[number];
            if gap < (1.0 - KEPT) * row.gap {
                row.accepted = row.trial();
                row.candidates = candidates.remove(number).unwrap_or_default();
                (row.next, row.gap) = (0, gap);
            } else {
                row.next += 1;
            }
            true
        });
    }
    Ok(found)
}

/// A run with these flips, and what else lies next to a border in each row, the nearest first.
fn run(replay: &Replay<'_>, forced: &[Flip]) -> Result<(Outcome, BTreeMap<usize, Vec<Flip>>), Diagnostic> {
    let mut candidates: BTreeMap<usize, Vec<Flip>> = BTreeMap::new();
    let outcome = replay.run(&mut |quantized: Quantized<'_>| {
        let (taken, others): (Vec<_>, Vec<_>) =
            quantized.near.into_iter().partition(|c| forced.iter().any(|f| f.is_at(c)));
        others.into_iter().for_each(|c| candidates.entry(c.row).or_default().push(c));
        taken
    })?;
    candidates.values_mut().for_each(|c| c.sort_by(|a, b| a.distance.total_cmp(&b.distance)));
    Ok((outcome, candidates))
}
