//! Netlists as logic programs, and back.

use bitc_format::logic::{EncodeError, Encoder, Program, Run, reads};
use bitc_ir::netlist::{Netlist, NetlistError, Wire, table_mask};
use bitc_passes::logic::{self, Head, Op};

/// The program of a network.
///
/// # Errors
/// If the network is larger than a program may be.
pub(super) fn encode(net: &Netlist, head: Head) -> Result<Vec<u8>, EncodeError> {
    let schedule = logic::schedule(net, head);
    let mut encoder = Encoder::new(schedule.n_inputs, schedule.n_slots)?;
    if let Head::Groups { size, .. } = head {
        encoder.set_group_size(size);
    }
    for op in &schedule.ops {
        match *op {
            Op::Gate { table, inputs, to } => encoder.gate(table, inputs, to),
            Op::Lut { table, n, inputs, to } => encoder.lut(table, &inputs[..usize::from(n)], to)?,
            Op::Count { group, negated, first, n } => {
                encoder.count(group, negated, &schedule.counted[first as usize..][..n as usize]);
            }
        }
    }
    encoder.finish(&schedule.offsets, &schedule.outputs)
}

/// The network that a program stands for. Inside a group its outputs may be in another order than in the network that
/// the program was made from: counted ones, then ones, then zeros.
///
/// # Errors
/// If the network is larger than a netlist may be.
pub(crate) fn decode(program: &Program) -> Result<Netlist, NetlistError> {
    let n_inputs = u32::try_from(program.n_inputs()).unwrap_or(u32::MAX);
    let mut net = Netlist::new(n_inputs);
    // What was not written yet is never read, so it may be any wire.
    let mut slots: Vec<Wire> = (0..program.n_slots() as u32).map(Wire::new).collect();
    let mut groups: Vec<Vec<Wire>> = vec![Vec::new(); program.n_groups()];
    for run in program.runs() {
        match run {
            Run::Gates { table, .. } => {
                let n = reads(table).iter().filter(|&&r| r).count();
                for (table, [a, b, c, to, ..]) in program.records_of(run) {
                    let inputs = [a, b, c].map(|slot| slots[slot as usize]);
                    slots[to as usize] = net.add(table & table_mask(n), &inputs[..n])?;
                }
            }
            Run::Luts { n, .. } => {
                let n = usize::from(n);
                for (table, record) in program.records_of(run) {
                    let inputs: Vec<Wire> = record[..n].iter().map(|&slot| slots[slot as usize]).collect();
                    slots[record[6] as usize] = net.add(table & table_mask(n), &inputs)?;
                }
            }
            Run::Count { group, negated, n, sources } => {
                for slot in program.sources_of(sources, n) {
                    let wire = slots[slot as usize];
                    let counted = if negated { net.add(0b01, &[wire])? } else { wire };
                    groups[usize::from(group)].push(counted);
                }
            }
        }
    }
    if !groups.is_empty() {
        let (one, zero) = (net.add(1, &[])?, net.add(0, &[])?);
        for (group, &offset) in groups.iter().zip(program.offsets()) {
            let counted = group.iter().copied().chain(std::iter::repeat_n(one, offset as usize));
            for wire in counted.chain(std::iter::repeat(zero)).take(program.group_size() as usize) {
                net.add_output(wire)?;
            }
        }
    }
    for &slot in program.outputs() {
        net.add_output(slots[slot as usize])?;
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitc_ir::netlist::compare;

    /// Nodes of every number of inputs, among them constants, wires and inverters, all of them outputs as well.
    fn network() -> Netlist {
        let mut net = Netlist::new(9);
        let mut state = 5u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for i in 0..120 {
            let n = i % 7;
            let inputs: Vec<Wire> = (0..n).map(|_| Wire::new(below(9 + i) as u32)).collect();
            let table = below(1 << 31) | below(1 << 31) << 31 | below(4) << 62;
            let wire = net.add(table & table_mask(n as usize), &inputs).unwrap();
            net.add_output(wire).unwrap();
        }
        net
    }

    #[test]
    fn a_program_of_bits_is_the_network_again() {
        let net = network();
        let program = Program::parse(&encode(&net, Head::Bits).unwrap()).unwrap();
        compare(&net, &decode(&program).unwrap(), 1, 1).unwrap();
    }

    #[test]
    fn a_program_of_counts_keeps_how_many_of_a_group_are_one() {
        let net = network();
        for (groups, size) in [(1, 120), (7, 18), (130, 1)] {
            let program = Program::parse(&encode(&net, Head::Groups { groups, size }).unwrap()).unwrap();
            let again = decode(&program).unwrap();
            assert_eq!(again.outputs().len(), usize::from(groups) * size as usize);
            let words: Vec<u64> = (1..=9u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let counts = |net: &Netlist| -> Vec<u32> {
                let bits = net.eval_words(&words, 1);
                let mut counts: Vec<u32> =
                    bits.chunks(size as usize).map(|g| g.iter().map(|w| (w & 1) as u32).sum()).collect();
                counts.resize(usize::from(groups), 0);
                counts
            };
            assert_eq!(counts(&net), counts(&again), "{groups} groups");
        }
    }
}
