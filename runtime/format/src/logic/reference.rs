//! What a logic program computes, written for reading: 64 samples at a time, no table of cases.

use super::{Program, Run, index, lut_words};
use alloc::vec;
use alloc::vec::Vec;

/// The answer for 64 samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// One word per output.
    pub outputs: Vec<u64>,
    /// For each group the count of each sample, the offset included.
    pub counts: Vec<[u32; 64]>,
}

impl Program {
    /// Runs 64 samples; `inputs` has one word per input, missing ones are 0.
    pub fn run_words(&self, inputs: &[u64]) -> Answer {
        let mut slots = vec![0u64; self.n_slots()];
        slots.iter_mut().zip(inputs).for_each(|(slot, &word)| *slot = word);
        let mut counts: Vec<[u32; 64]> = self.offsets.iter().map(|&offset| [offset; 64]).collect();
        for run in self.runs() {
            match run {
                Run::Gates { table, records } => {
                    for record in records.chunks_exact(if self.wide { 2 } else { 1 }) {
                        look_up(u64::from(table), &self.slots_of(record).collect::<Vec<_>>(), 3, &mut slots);
                    }
                }
                Run::Luts { records, .. } => {
                    for record in records.chunks_exact(lut_words(self.wide)) {
                        let (&table, words) = record.split_last().unwrap_or((&0, &[]));
                        look_up(table, &self.slots_of(words).collect::<Vec<_>>(), 6, &mut slots);
                    }
                }
                Run::Count { group, negated, n, sources } => {
                    let Some(counts) = counts.get_mut(usize::from(group)) else { continue };
                    for slot in self.slots_of(sources).take(index(n)) {
                        let word = value(&slots, slot) ^ if negated { u64::MAX } else { 0 };
                        for (count, sample) in counts.iter_mut().zip(0u32..) {
                            *count = count.saturating_add(u32::from(word.wrapping_shr(sample) & 1 == 1));
                        }
                    }
                }
            }
        }
        Answer { outputs: self.outputs.iter().map(|&slot| value(&slots, slot)).collect(), counts }
    }
}

/// Looks every sample's address up; `record` is the sources and, at position `n`, the destination.
fn look_up(table: u64, record: &[u32], n: usize, slots: &mut [u64]) {
    let mut result = 0u64;
    for sample in 0..64 {
        let mut address = 0u32;
        for &source in record.iter().take(n).rev() {
            address = address << 1 | u32::from(value(slots, source).wrapping_shr(sample) & 1 == 1);
        }
        result |= (table.wrapping_shr(address) & 1).wrapping_shl(sample);
    }
    if let Some(to) = record.get(n).and_then(|&slot| slots.get_mut(index(slot))) {
        *to = result;
    }
}

fn value(slots: &[u64], slot: u32) -> u64 {
    slots.get(index(slot)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::{Encoder, LogicError};
    use super::*;

    fn sample_program() -> Vec<u8> {
        let mut e = Encoder::new(4, 8).unwrap();
        e.gate(0b0110_0110, [0, 1, 9], 4);
        e.gate(0xe8, [1, 2, 3], 5);
        e.gate(0xff, [0, 0, 0], 6);
        e.lut(0x8001, &[0, 1, 2, 3], 7).unwrap();
        e.count(0, false, &[4, 5, 5, 6, 7]);
        e.count(1, true, &[0]);
        e.finish(&[0, 10], &[7, 6]).unwrap()
    }

    #[test]
    fn computes_what_the_records_say() {
        let program = Program::parse(&sample_program()).unwrap();
        let inputs: Vec<u64> = [0xaaaau64, 0xcccc, 0xf0f0, 0xff00].to_vec();
        let answer = program.run_words(&inputs);
        for sample in 0..16u32 {
            let bit = |i: usize| (inputs[i] >> sample & 1) as u32;
            let (xor, sum) = (bit(0) ^ bit(1), bit(1) + bit(2) + bit(3));
            let ends = u32::from(sample == 0 || sample == 15);
            assert_eq!(answer.counts[0][sample as usize], xor + 2 * u32::from(sum >= 2) + 1 + ends);
            assert_eq!(answer.counts[1][sample as usize], 10 + (1 - bit(0)));
            assert_eq!(answer.outputs[0] >> sample & 1, u64::from(ends));
        }
        assert_eq!(answer.outputs[1], u64::MAX);
        assert_eq!(program.count_bits(), 3);
    }

    #[test]
    fn no_change_of_a_byte_is_accepted_and_wrong() {
        let bytes = sample_program();
        for at in 0..bytes.len() {
            assert!(Program::parse(&bytes[..at]).is_err());
            for flip in [1, 2, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                if let Ok(program) = Program::parse(&bytes) {
                    program.run_words(&[1, 2, 3, 4]);
                }
            }
        }
    }

    #[test]
    fn every_fault_has_its_error() {
        let bytes = sample_program();
        let check = |at: usize, value: u8, want: LogicError| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert_eq!(Program::parse(&bytes), Err(want));
        };
        check(0, 2, LogicError::Header { field: "version", found: 2, limit: 1 });
        check(4, 2, LogicError::Header { field: "flags", found: 2, limit: 1 });
        check(8, 9, LogicError::Header { field: "number of inputs", found: 9, limit: 8 });
        check(12, 7, LogicError::Slot { slot: 7, n_slots: 7 });
        check(31, 1, LogicError::Header { field: "group size", found: 1 << 24 | 11, limit: super::super::MAX_COUNT });
        check(28, 10, LogicError::Count { group: 1 });
        check(32 + 7, 1, LogicError::Count { group: 1 });
        check(32 + 8, 8, LogicError::Slot { slot: 8, n_slots: 8 });
        // The code begins after two offsets and two outputs: a header word, then one record.
        check(48, 0x44, LogicError::Gate { table: 0x44 });
        check(49, 3, LogicError::Run { word: 0 });
        check(56, 5, LogicError::Slot { slot: 5, n_slots: 8 });
        let length = u64::try_from(bytes.len()).unwrap();
        check(24, 0, LogicError::Length { expected: 48, found: length });
        // The tail: lut run of 4 words, count run of 3 words, count run of 2 words.
        let lut = bytes.len() - 9 * 8;
        assert_eq!(bytes[lut..lut + 2], [4, 1], "the lut run");
        check(lut + 8 + 14, 1, LogicError::Padding);
        check(lut + 8 + 23, 1, LogicError::Padding);
        check(bytes.len() - 8 - 8 + 2, 2, LogicError::Group { group: 2, n_groups: 2 });
        check(bytes.len() - 1, 1, LogicError::Padding);
    }

    #[test]
    fn wide_programs_mean_the_same() {
        let program = |base: u32| {
            let mut e = Encoder::new(4, base + 8).unwrap();
            e.gate(0x1e, [0, 1, 2], base + 1);
            e.lut(0x8bad_f00d_1234_5678, &[0, 1, 2, 3, base + 1, 0], base + 2).unwrap();
            e.count(0, false, &[base + 1, base + 2, 3]);
            Program::parse(&e.finish(&[0], &[base + 2]).unwrap()).unwrap()
        };
        let inputs = [0x0123_4567_89ab_cdef, 0xdead_beef_0bad_f00d, 0x5555_3333_0f0f_00ff, 0x8421_1248_c33c_a55a];
        let (narrow, wide) = (program(4), program(70_000));
        assert!(wide.is_wide() && !narrow.is_wide());
        assert_eq!(narrow.run_words(&inputs), wide.run_words(&inputs));
    }
}
