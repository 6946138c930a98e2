//! Logic programs: a network of lookup tables over bits, as data.
//!
//! A program works on *slots*, each holding one bit per sample: the inputs come in slots `0..n_inputs`, and a sequence
//! of *runs* reads and writes slots. A run is one operation and the records it applies to:
//!
//! | run | record | does |
//! |---|---|---|
//! | gate | three sources, one destination | a table of three inputs, the same for the whole run |
//! | lut | six sources, one destination, one table | a table of four to six inputs each |
//! | count | sources | adds each source, or its complement, to a counter per sample and group |
//!
//! After the last run the answer is either bits (`outputs` names their slots) or a count per group: what was counted,
//! plus the group's `offset`, for constant outputs need no slot. Each group stands for as many bits as the group size says,
//! of which those not counted are 0, so a program is a network of its own: it has groups times size outputs.
//!
//! As bytes, all numbers little-endian: the header of eight `u32` {version 1, flags (1: wide), n_inputs, n_slots,
//! n_groups, n_outputs, number of code words, group size}, then the offsets of the groups, then the slots of the outputs, each
//! a `u32`, zeros up to a multiple of 8, then the code in words of 64 bits. A run is a header word {kind `u16`, group
//! `u16`, number of records `u32`} and its records. Narrow records hold slots as `u16`, four to a word, lowest first;
//! wide ones, needed above 65,536 slots, as `u32`, two to a word:
//!
//! | record | narrow words | wide words | contents |
//! |---|---|---|---|
//! | gate | 1 | 2 | a, b, c, destination |
//! | lut | 3 | 5 | six sources, destination, zero; the last word is the table |
//! | count | n/4 | n/2 | sources, the tail padded with zeros |
//!
//! Kinds `0x00..=0xff` are gates, and the kind is the table: bit `a + 2b + 4c` is the output. Of the tables that differ
//! by the order of inputs only one is a kind (`canonical_gate`), so that an executor needs 80 cases. Kinds `0x104` to
//! `0x106` are luts of four to six inputs, `0x200` counts and `0x201` counts complements.
//!
//! `encode` writes, `Program::parse` reads and checks, `Program::run_words` defines the meaning.

mod encode;
mod parse;
mod reference;

pub use encode::{EncodeError, Encoder};
pub use parse::LogicError;

use alloc::boxed::Box;

/// Slots a program may have; above `NARROW_SLOTS` its records are wide.
pub const MAX_SLOTS: u32 = 1 << 26;
/// Slots that records of `u16` can name.
pub const NARROW_SLOTS: u32 = 1 << 16;
/// The most groups a program counts in.
pub const MAX_GROUPS: u32 = 1 << 16;
/// The most a group may count to, its offset included; such counts are exact in `f32`.
pub const MAX_COUNT: u32 = (1 << 24) - 1;

const VERSION: u32 = 1;
const FLAG_WIDE: u32 = 1;
const KIND_LUT: u16 = 0x100;
const KIND_COUNT: u16 = 0x200;
const KIND_COUNT_NOT: u16 = 0x201;

/// A logic program that has been checked: every slot a record names exists and was written before it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    n_inputs: u32,
    n_slots: u32,
    wide: bool,
    /// The largest number of sources any group counts.
    max_counted: u32,
    /// The bits that a group stands for.
    group_size: u32,
    offsets: Box<[u32]>,
    outputs: Box<[u32]>,
    code: Box<[u64]>,
}

/// One run of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run<'p> {
    /// Tables of three inputs, all the same.
    Gates {
        /// The table, canonical.
        table: u8,
        /// One word per record, or two when wide.
        records: &'p [u64],
    },
    /// Tables of four to six inputs.
    Luts {
        /// The number of inputs.
        n: u8,
        /// Three words per record, or five when wide.
        records: &'p [u64],
    },
    /// Sources to count.
    Count {
        /// The group.
        group: u16,
        /// Whether complements are counted.
        negated: bool,
        /// The number of sources.
        n: u32,
        /// Four sources per word, or two when wide.
        sources: &'p [u64],
    },
}

impl Program {
    /// The number of inputs; input `i` is expected in slot `i`.
    pub fn n_inputs(&self) -> usize {
        index(self.n_inputs)
    }

    /// The number of slots.
    pub fn n_slots(&self) -> usize {
        index(self.n_slots)
    }

    /// Whether records name slots by `u32`.
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    /// The number of groups counted in; 0 when the answer is bits.
    pub fn n_groups(&self) -> usize {
        self.offsets.len()
    }

    /// The bits that each group stands for: those counted, those that are always 1, and others that are always 0.
    pub fn group_size(&self) -> u32 {
        self.group_size
    }

    /// The slots of the sources that a count run names.
    pub fn sources_of<'w>(&self, sources: &'w [u64], n: u32) -> impl Iterator<Item = u32> + use<'w> {
        self.slots_of(sources).take(index(n))
    }

    /// The sources and the destination of the records of a run, with the table where a record has its own.
    pub fn records_of<'w>(&self, run: Run<'w>) -> impl Iterator<Item = (u64, [u32; 7])> + use<'w> {
        let wide = self.wide;
        let (n, words, records, table) = match run {
            Run::Gates { table, records } => (4, if wide { 2 } else { 1 }, records, Some(u64::from(table))),
            Run::Luts { records, .. } => (7, lut_words(wide), records, None),
            Run::Count { .. } => (0, 1, &[][..], None),
        };
        records.chunks_exact(words).map(move |record| {
            let own = record.last().copied().unwrap_or(0);
            let mut slots = [0; 7];
            slots.iter_mut().zip(slots_in(record, wide).take(n)).for_each(|(to, slot)| *to = slot);
            (table.unwrap_or(own), slots)
        })
    }

    /// What each group counts before anything is counted.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The bits that hold what any group counts, its offset not included.
    pub fn count_bits(&self) -> u32 {
        u32::BITS.saturating_sub(self.max_counted.leading_zeros())
    }

    /// The slots of the output bits.
    pub fn outputs(&self) -> &[u32] {
        &self.outputs
    }

    /// The runs, in order.
    pub fn runs(&self) -> Runs<'_> {
        Runs { code: &self.code, wide: self.wide }
    }
}

/// Walks over the runs of code; stops early where code is malformed, which checked code never is.
#[derive(Clone, Debug)]
pub struct Runs<'p> {
    code: &'p [u64],
    wide: bool,
}

impl<'p> Iterator for Runs<'p> {
    type Item = Run<'p>;

    #[inline]
    fn next(&mut self) -> Option<Run<'p>> {
        let (&header, rest) = self.code.split_first()?;
        let [kind, group, low, high] = quarters(header);
        let n = u32::from(low) | u32::from(high) << 16;
        let (records, rest) = rest.split_at_checked(record_words(kind, n, self.wide)?)?;
        self.code = rest;
        Some(match kind {
            0..=0xff => Run::Gates { table: kind.to_le_bytes()[0], records },
            KIND_COUNT | KIND_COUNT_NOT => Run::Count { group, negated: kind == KIND_COUNT_NOT, n, sources: records },
            _ => Run::Luts { n: kind.to_le_bytes()[0], records },
        })
    }
}

/// The words that `n` records of a kind take, or `None` for an unknown kind.
fn record_words(kind: u16, n: u32, wide: bool) -> Option<usize> {
    let n = index(n);
    match kind {
        0..=0xff => n.checked_mul(if wide { 2 } else { 1 }),
        0x104..=0x106 => n.checked_mul(lut_words(wide)),
        KIND_COUNT | KIND_COUNT_NOT => Some(n.div_ceil(if wide { 2 } else { 4 })),
        _ => None,
    }
}

/// Words of 64 bits per lut record.
pub const fn lut_words(wide: bool) -> usize {
    if wide { 5 } else { 3 }
}

/// The four `u16` of a word, lowest first.
#[inline]
pub fn quarters(word: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
}

/// The two `u32` of a word, lowest first.
#[inline]
pub fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes)
}

/// The slots packed in words of a record.
fn slots_in(words: &[u64], wide: bool) -> impl Iterator<Item = u32> + use<'_> {
    words.iter().flat_map(move |&word| {
        let [low, high] = halves(word);
        let narrow = quarters(word).map(u32::from);
        let slots = if wide { [low, high, 0, 0] } else { narrow };
        slots.into_iter().take(if wide { 2 } else { 4 })
    })
}

/// A `u32` as an index. Where `usize` is narrower the clamped index is out of every range.
fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The kind that stands for a table of three inputs, and for each of its inputs which input of `table` it is.
///
/// Inputs the table does not read come last; among the orders of the others the smallest table is the kind.
pub fn canonical_gate(table: u8) -> (u8, [usize; 3]) {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let n_read = reads(table).iter().filter(|&&r| r).count();
    let mut best: Option<(u8, [usize; 3])> = None;
    for order in ORDERS {
        let candidate = permuted(table, order);
        let front = reads(candidate).iter().take(n_read).all(|&r| r);
        if front && best.is_none_or(|(table, _)| candidate < table) {
            best = Some((candidate, order));
        }
    }
    best.unwrap_or((table, [0, 1, 2]))
}

/// Which of its three inputs a table reads.
pub fn reads(table: u8) -> [bool; 3] {
    [(table ^ table >> 1) & 0x55 != 0, (table ^ table >> 2) & 0x33 != 0, (table ^ table >> 4) & 0x0f != 0]
}

/// The table whose input `j` is input `order[j]` of `table`.
fn permuted(table: u8, order: [usize; 3]) -> u8 {
    let mut result = 0;
    for address in 0..8u8 {
        let mut source = 0u8;
        for (j, &from) in order.iter().enumerate() {
            let bit = address.checked_shr(u32::try_from(j).unwrap_or(0)).unwrap_or(0) & 1;
            source |= bit.checked_shl(u32::try_from(from).unwrap_or(0)).unwrap_or(0);
        }
        let value = table.checked_shr(u32::from(source)).unwrap_or(0) & 1;
        result |= value.checked_shl(u32::from(address)).unwrap_or(0);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn eighty_gates_stand_for_all_tables() {
        let kinds: BTreeSet<u8> = (0..=255).map(|t| canonical_gate(t).0).collect();
        assert_eq!(kinds.len(), 80);
        for table in 0..=255u8 {
            let (kind, order) = canonical_gate(table);
            assert_eq!(canonical_gate(kind), (kind, [0, 1, 2]));
            for address in 0..8usize {
                let source = (0..3).fold(0, |s, j| s | (address >> j & 1) << order[j]);
                assert_eq!(kind >> address & 1, table >> source & 1, "table {table:#x}");
            }
            let read = reads(kind);
            assert!(read[0] || !read[1], "unread inputs come last");
            assert!(read[1] || !read[2], "unread inputs come last");
        }
    }
}
