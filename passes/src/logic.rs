//! Optimising logic networks without changing what they compute, and laying them out for the runtime.
//!
//! Each step is a function from netlist to netlist: `fold` (constants, wires, inverters, duplicates, unread inputs,
//! dead nodes), `decompose` (wide tables into tables of three inputs) and `map` (fewer tables of three inputs). `schedule`
//! puts the result in an order and into slots. Steps are checked by `bitc_ir::netlist::compare`. One step changes what a
//! network computes, by choice: `use_freedom` keeps its answers on given data only. `record` keeps what steps did, and
//! `replace` puts a network back into its graph.

mod builder;
mod decompose;
mod dont_care;
mod fold;
mod map;
mod order;
mod partial;
mod polarity;
pub mod record;
mod replace;
mod schedule;
mod seen;
mod sweep;
mod truth;

pub use builder::Folded;
pub use decompose::SplitLimits;
pub use dont_care::{Used, use_freedom};
pub use fold::{InputFact, fold};
pub(crate) use replace::{fault, networks, replace};
pub use schedule::{Head, Op, Schedule, schedule};
pub use seen::{BLOCK_ROWS, Seen};

use bitc_ir::netlist::{self, Mismatch, Netlist, Stats};

/// What `optimize` is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is known of the inputs: empty, or one entry per input.
    pub inputs: Vec<InputFact>,
    /// When wide tables are split.
    pub split: SplitLimits,
    /// Random samples that every step is checked on (all inputs where there are at most 16); 0 checks nothing. With
    /// facts about inputs the first step is not checked, because it holds for some inputs only.
    pub check_samples: u64,
}

/// What one step did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The step's name.
    pub name: &'static str,
    /// The network before it.
    pub before: Stats,
    /// The network after it.
    pub after: Stats,
    /// What was found, where the step says.
    pub found: String,
}

/// A step changed what the network computes: a bug.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("logic step `{step}` changed the network: {mismatch}")]
pub struct Unsound {
    /// The step.
    pub step: &'static str,
    /// The first difference found.
    pub mismatch: Mismatch,
}

/// Runs all steps; answers the network and what each step did.
///
/// # Errors
/// `Unsound` when checking is on and a step is wrong.
pub fn optimize(net: &Netlist, options: &Options) -> Result<(Netlist, Vec<Step>), Unsound> {
    let mut steps = Vec::new();
    let (folded, counts) = fold::fold(net, &options.inputs);
    let checked = if options.inputs.is_empty() { options.check_samples } else { 0 };
    record(&mut steps, "fold", net, &folded, counts.to_string(), checked)?;
    let split = decompose::decompose(&folded, options.split);
    record(&mut steps, "decompose", &folded, &split, String::new(), options.check_samples)?;
    let mapped = map::map(&split);
    record(&mut steps, "map", &split, &mapped, String::new(), options.check_samples)?;
    Ok((mapped, steps))
}

/// As many samples as a network of this size is checked on in a few seconds.
pub(crate) fn check_samples(net: &Netlist) -> u64 {
    ((1 << 30) / net.n_nodes().max(1) as u64).clamp(512, 4096)
}

fn record(
    steps: &mut Vec<Step>,
    name: &'static str,
    before: &Netlist,
    after: &Netlist,
    found: String,
    check_samples: u64,
) -> Result<(), Unsound> {
    if check_samples > 0 && before != after {
        netlist::compare(before, after, check_samples, 1).map_err(|mismatch| Unsound { step: name, mismatch })?;
    }
    steps.push(Step { name, before: before.stats(), after: after.stats(), found });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitc_ir::netlist::{Wire, table_mask};

    /// A network whose nodes read wires from all before them, so that constants, wires and repeats occur.
    fn random_net(n_inputs: u32, n_nodes: u32, seed: u64) -> Netlist {
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut net = Netlist::new(n_inputs);
        for _ in 0..n_nodes {
            let n = below(7) as usize;
            let recent = net.n_wires() as u64;
            let inputs: Vec<Wire> = (0..n).map(|_| Wire::new(below(recent) as u32)).collect();
            let table = below(1 << 31) | below(1 << 31) << 31 | below(4) << 62;
            let table = if below(2) == 0 { table } else { table & table >> 7 & 0x00ff_00ff_0000_0000 };
            net.add(table & table_mask(n), &inputs).unwrap();
        }
        for i in 0..net.n_wires() as u32 {
            if i % 3 == 0 {
                net.add_output(Wire::new(i)).unwrap();
            }
        }
        net
    }

    #[test]
    fn every_step_keeps_the_meaning_for_all_inputs() {
        for seed in 0..40 {
            let net = random_net(1 + seed as u32 % 11, 60, seed);
            let options = Options { check_samples: 1, ..Options::default() };
            let (got, steps) = optimize(&net, &options).unwrap();
            assert_eq!(steps.len(), 3);
            netlist::compare(&net, &got, 1, 1).unwrap();
        }
    }

    #[test]
    fn every_step_keeps_the_meaning_for_a_million_samples() {
        let net = random_net(40, 120, 99);
        let options = Options { check_samples: 1_000_000, ..Options::default() };
        let (got, _) = optimize(&net, &options).unwrap();
        assert!(got.stats().table_bits < net.stats().table_bits);
    }

    #[test]
    fn the_same_network_gives_the_same_bytes() {
        let net = random_net(20, 300, 5);
        let run = || optimize(&net, &Options::default()).unwrap().0.to_string();
        assert_eq!(run(), run());
    }
}
