//! Reading logic programs, and refusing those that name what is not there.

use super::{FLAG_WIDE, MAX_COUNT, MAX_GROUPS, MAX_SLOTS, NARROW_SLOTS, Program, Run, VERSION};
use super::{canonical_gate, index, lut_words, reads, slots_in};
use alloc::boxed::Box;
use alloc::vec::Vec;
use alloc::{collections::TryReserveError, vec};
use core::fmt;

/// Why bytes are no logic program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LogicError {
    /// The bytes have another length than the header says.
    Length {
        /// Bytes the header asks for.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A field of the header is out of range.
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u32,
        /// The largest value allowed, or the only one.
        limit: u32,
    },
    /// A run of unknown kind, or longer than the code.
    Run {
        /// The word of the code at which it begins.
        word: usize,
    },
    /// A gate whose table is not the canonical one.
    Gate {
        /// The table.
        table: u8,
    },
    /// A lut table that depends on an input it does not have, or padding that is not zero.
    Padding,
    /// A slot that does not exist or was not written before it is read.
    Slot {
        /// The slot.
        slot: u32,
        /// The number of slots.
        n_slots: u32,
    },
    /// A group that does not exist.
    Group {
        /// The group.
        group: u32,
        /// The number of groups.
        n_groups: u32,
    },
    /// A group counts further than its size.
    Count {
        /// The group.
        group: u32,
    },
    /// There is not enough memory to hold the program.
    Memory,
}

impl fmt::Display for LogicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogicError::Length { expected, found } => {
                write!(f, "logic program: expected {expected} bytes, found {found}")
            }
            LogicError::Header { field, found, limit } => {
                write!(f, "logic program: {field} is {found}, the limit is {limit}")
            }
            LogicError::Run { word } => write!(f, "logic program: no valid run at word {word} of the code"),
            LogicError::Gate { table } => write!(f, "logic program: gate table {table:#04x} is not canonical"),
            LogicError::Padding => write!(f, "logic program: unused bits of a record are not what they have to be"),
            LogicError::Slot { slot, n_slots } => {
                write!(f, "logic program: slot {slot} of {n_slots} does not exist or is read before it is written")
            }
            LogicError::Group { group, n_groups } => write!(f, "logic program: group {group} of {n_groups}"),
            LogicError::Count { group } => write!(f, "logic program: group {group} counts further than its size"),
            LogicError::Memory => write!(f, "logic program: out of memory"),
        }
    }
}

impl core::error::Error for LogicError {}

impl From<TryReserveError> for LogicError {
    fn from(_: TryReserveError) -> Self {
        LogicError::Memory
    }
}

impl Program {
    /// Reads a program and checks all of it: afterwards no record names a slot, group or run that is not there.
    ///
    /// # Errors
    /// The first fault found.
    pub fn parse(bytes: &[u8]) -> Result<Self, LogicError> {
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (header, rest) = bytes.split_at_checked(32).ok_or(LogicError::Length { expected: 32, found })?;
        let mut fields = words(header);
        let mut field = || fields.next().unwrap_or(0);
        let (version, flags, n_inputs, n_slots) = (field(), field(), field(), field());
        let (n_groups, n_outputs, n_words, group_size) = (field(), field(), field(), field());
        expect(version == VERSION, "version", version, VERSION)?;
        expect(flags <= FLAG_WIDE, "flags", flags, FLAG_WIDE)?;
        let wide = flags == FLAG_WIDE;
        expect(n_slots <= if wide { MAX_SLOTS } else { NARROW_SLOTS }, "number of slots", n_slots, MAX_SLOTS)?;
        expect(n_inputs <= n_slots, "number of inputs", n_inputs, n_slots)?;
        expect(n_groups <= MAX_GROUPS, "number of groups", n_groups, MAX_GROUPS)?;
        let max_size = if n_groups == 0 { 0 } else { MAX_COUNT };
        expect(group_size <= max_size, "group size", group_size, max_size)?;

        let table_bytes = (u64::from(n_groups).saturating_add(u64::from(n_outputs))).saturating_mul(4);
        let padded = table_bytes.next_multiple_of(8);
        let expected = padded.saturating_add(u64::from(n_words).saturating_mul(8)).saturating_add(32);
        if expected != found {
            return Err(LogicError::Length { expected, found });
        }
        let split = |bytes| move |n: u64| <[u8]>::split_at_checked(bytes, usize::try_from(n).unwrap_or(usize::MAX));
        let short = LogicError::Length { expected, found };
        let (tables, rest) = split(rest)(table_bytes).ok_or(short)?;
        let (padding, code) = split(rest)(padded.saturating_sub(table_bytes)).ok_or(short)?;
        if padding.iter().any(|&b| b != 0) {
            return Err(LogicError::Padding);
        }
        let (offsets, outputs) = split(tables)(u64::from(n_groups).saturating_mul(4)).ok_or(short)?;
        let mut program = Program {
            n_inputs,
            n_slots,
            wide,
            max_counted: 0,
            group_size,
            offsets: collect(words(offsets))?,
            outputs: collect(words(outputs))?,
            code: collect(code.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default())))?,
        };
        program.max_counted = program.check()?;
        Ok(program)
    }

    /// Checks runs and records; answers the largest number of sources a group counts.
    fn check(&self) -> Result<u32, LogicError> {
        let mut written = Written::new(self.n_slots, self.n_inputs)?;
        let mut counted: Vec<u32> = Vec::new();
        counted.try_reserve_exact(self.offsets.len())?;
        counted.resize(self.offsets.len(), 0);
        let mut runs = self.runs();
        loop {
            let left = runs.code.len();
            let Some(run) = runs.next() else {
                if left == 0 {
                    break;
                }
                return Err(LogicError::Run { word: self.code.len().saturating_sub(left) });
            };
            self.check_run(run, &mut written, &mut counted)?;
        }
        for &slot in &self.outputs {
            written.read(slot)?;
        }
        for ((&offset, &n), group) in self.offsets.iter().zip(&counted).zip(0u32..) {
            if offset.saturating_add(n) > self.group_size {
                return Err(LogicError::Count { group });
            }
        }
        Ok(counted.iter().copied().max().unwrap_or(0))
    }

    fn check_run(&self, run: Run<'_>, written: &mut Written, counted: &mut [u32]) -> Result<(), LogicError> {
        match run {
            Run::Gates { table, records } => {
                if canonical_gate(table).0 != table {
                    return Err(LogicError::Gate { table });
                }
                let [reads_any, ..] = reads(table);
                for record in records.chunks_exact(if self.wide { 2 } else { 1 }) {
                    let mut slots = self.slots_of(record);
                    let (a, b, c) = (slots.next(), slots.next(), slots.next());
                    for slot in [a, b, c].into_iter().flatten() {
                        if reads_any { written.read(slot)? } else { written.exists(slot)? }
                    }
                    written.write(slots.next().unwrap_or(u32::MAX))?;
                }
            }
            Run::Luts { n, records } => {
                for record in records.chunks_exact(lut_words(self.wide)) {
                    let (&table, slots) = record.split_last().unwrap_or((&0, &[]));
                    let repeats = match n {
                        4 => table == (table & 0xffff).wrapping_mul(0x0001_0001_0001_0001),
                        5 => table == (table & 0xffff_ffff).wrapping_mul(0x0000_0001_0000_0001),
                        _ => true,
                    };
                    let mut slots = self.slots_of(slots);
                    for slot in slots.by_ref().take(6) {
                        written.read(slot)?;
                    }
                    written.write(slots.next().unwrap_or(u32::MAX))?;
                    if !repeats || slots.next() != Some(0) {
                        return Err(LogicError::Padding);
                    }
                }
            }
            Run::Count { group, n, sources, .. } => {
                let n_groups = u32::try_from(counted.len()).unwrap_or(u32::MAX);
                let group = u32::from(group);
                let total = counted.get_mut(index(group)).ok_or(LogicError::Group { group, n_groups })?;
                *total = total.saturating_add(n);
                let mut slots = self.slots_of(sources);
                for slot in slots.by_ref().take(index(n)) {
                    written.read(slot)?;
                }
                if slots.any(|slot| slot != 0) {
                    return Err(LogicError::Padding);
                }
            }
        }
        Ok(())
    }

    /// The slots packed in words of a record.
    pub(super) fn slots_of<'w>(&self, words: &'w [u64]) -> impl Iterator<Item = u32> + use<'w> {
        slots_in(words, self.wide)
    }
}

/// Which slots hold something.
struct Written {
    bits: Vec<u64>,
    n_slots: u32,
}

impl Written {
    fn new(n_slots: u32, n_inputs: u32) -> Result<Self, LogicError> {
        let n_words = index(n_slots.div_ceil(64));
        let mut bits = Vec::new();
        bits.try_reserve_exact(n_words)?;
        bits.resize(n_words, 0);
        let mut written = Self { bits, n_slots };
        for slot in 0..n_inputs {
            written.write(slot)?;
        }
        Ok(written)
    }

    fn exists(&self, slot: u32) -> Result<(), LogicError> {
        if slot < self.n_slots { Ok(()) } else { Err(LogicError::Slot { slot, n_slots: self.n_slots }) }
    }

    fn read(&self, slot: u32) -> Result<(), LogicError> {
        self.exists(slot)?;
        let word = self.bits.get(index(slot >> 6)).copied().unwrap_or(0);
        if word & 1u64.wrapping_shl(slot) != 0 {
            return Ok(());
        }
        Err(LogicError::Slot { slot, n_slots: self.n_slots })
    }

    fn write(&mut self, slot: u32) -> Result<(), LogicError> {
        self.exists(slot)?;
        if let Some(word) = self.bits.get_mut(index(slot >> 6)) {
            *word |= 1u64.wrapping_shl(slot);
        }
        Ok(())
    }
}

fn expect(ok: bool, field: &'static str, found: u32, limit: u32) -> Result<(), LogicError> {
    if ok { Ok(()) } else { Err(LogicError::Header { field, found, limit }) }
}

fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap_or_default()))
}

fn collect<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Box<[T]>, LogicError> {
    let mut all = vec![];
    all.try_reserve_exact(items.len())?;
    all.extend(items);
    Ok(all.into_boxed_slice())
}
