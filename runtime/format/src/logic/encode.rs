//! Writing logic programs.

use super::{
    FLAG_WIDE, KIND_COUNT, KIND_COUNT_NOT, KIND_LUT, MAX_GROUPS, MAX_SLOTS, NARROW_SLOTS, Program, VERSION,
    canonical_gate,
};
use alloc::vec::Vec;
use core::fmt;

/// Why something cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// More of something than a program may have.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there were.
        found: u64,
        /// How many there may be.
        max: u64,
    },
    /// A table of this many inputs has no record.
    Fanin {
        /// The number of inputs.
        found: usize,
    },
    /// What was written is no valid program.
    Invalid(super::LogicError),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooMany { what, found, max } => {
                write!(f, "a logic program has at most {max} {what}, found {found}")
            }
            EncodeError::Fanin { found } => write!(f, "a lut record has 4 to 6 inputs, found {found}"),
            EncodeError::Invalid(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Writes a logic program operation by operation; neighbours of one kind become one run.
#[derive(Clone, Debug)]
pub struct Encoder {
    n_inputs: u32,
    n_slots: u32,
    wide: bool,
    code: Vec<u64>,
    open: Option<Open>,
    /// Sources of an open count run.
    sources: Vec<u32>,
    group_size: Option<u32>,
    /// For each group that was counted in the number of sources.
    counted: Vec<u32>,
}

/// The run that is being written.
#[derive(Clone, Copy, Debug)]
struct Open {
    kind: u16,
    group: u16,
    header: usize,
    n: u32,
}

impl Encoder {
    /// A program of no operations.
    ///
    /// # Errors
    /// `TooMany` slots.
    pub fn new(n_inputs: u32, n_slots: u32) -> Result<Self, EncodeError> {
        if n_slots > MAX_SLOTS {
            return Err(EncodeError::TooMany { what: "slots", found: n_slots.into(), max: MAX_SLOTS.into() });
        }
        let wide = n_slots > NARROW_SLOTS;
        Ok(Self {
            n_inputs,
            n_slots,
            wide,
            code: Vec::new(),
            open: None,
            sources: Vec::new(),
            group_size: None,
            counted: Vec::new(),
        })
    }

    /// A table of three inputs: bit `a + 2b + 4c` of `table` goes to `to`. Inputs that are not read may name any slot.
    pub fn gate(&mut self, table: u8, inputs: [u32; 3], to: u32) {
        let (kind, order) = canonical_gate(table);
        let mut sources = order.map(|from| inputs.get(from).copied().unwrap_or(0));
        // What is not read names a slot that is read anyway, so that it is a slot in every program.
        let [a, b, c] = super::reads(kind);
        if !c {
            sources[2] = if b { sources[1] } else { sources[0] };
        }
        if !b {
            sources[1] = sources[0];
        }
        if !a {
            sources = [to; 3];
        }
        self.record(u16::from(kind), 0);
        self.slots(&[sources[0], sources[1], sources[2], to]);
    }

    /// A table of four to six inputs; bits the inputs cannot address are ignored.
    ///
    /// # Errors
    /// `Fanin` for another number of inputs.
    pub fn lut(&mut self, table: u64, inputs: &[u32], to: u32) -> Result<(), EncodeError> {
        let n = inputs.len();
        let (Some(&first), true) = (inputs.first(), (4..=6).contains(&n)) else {
            return Err(EncodeError::Fanin { found: n });
        };
        // An input that is missing repeats the first one, and the table does not depend on it.
        let mut slots = [first; 8];
        slots.iter_mut().zip(inputs).for_each(|(slot, input)| *slot = *input);
        slots[6] = to;
        slots[7] = 0;
        let table = match n {
            4 => (table & 0xffff).wrapping_mul(0x0001_0001_0001_0001),
            5 => (table & 0xffff_ffff).wrapping_mul(0x0000_0001_0000_0001),
            _ => table,
        };
        self.record(KIND_LUT | u16::try_from(n).unwrap_or(0), 0);
        self.slots(&slots);
        self.code.push(table);
        Ok(())
    }

    /// Says how many bits each group stands for; without, as many as the largest group counts.
    pub fn set_group_size(&mut self, size: u32) {
        self.group_size = Some(size);
    }

    /// Counts the sources, or their complements, in a group.
    pub fn count(&mut self, group: u16, negated: bool, sources: &[u32]) {
        let index = usize::from(group);
        if self.counted.len() <= index {
            self.counted.resize(index.saturating_add(1), 0);
        }
        if let Some(counted) = self.counted.get_mut(index) {
            *counted = counted.saturating_add(u32::try_from(sources.len()).unwrap_or(u32::MAX));
        }
        for &source in sources {
            self.record(if negated { KIND_COUNT_NOT } else { KIND_COUNT }, group);
            self.sources.push(source);
        }
    }

    /// The program with these group offsets and output slots, as bytes that `Program::parse` takes.
    ///
    /// # Errors
    /// `TooMany` groups, or `Invalid` when the program reads slots that were not written.
    pub fn finish(mut self, offsets: &[u32], outputs: &[u32]) -> Result<Vec<u8>, EncodeError> {
        self.close();
        let too_many = |what, found: usize, max: u32| {
            let found = u64::try_from(found).unwrap_or(u64::MAX);
            EncodeError::TooMany { what, found, max: max.into() }
        };
        let n_groups = u32::try_from(offsets.len()).ok().filter(|&n| n <= MAX_GROUPS);
        let n_groups = n_groups.ok_or(too_many("groups", offsets.len(), MAX_GROUPS))?;
        let n_outputs = u32::try_from(outputs.len()).map_err(|_| too_many("outputs", outputs.len(), u32::MAX))?;
        let n_words = u32::try_from(self.code.len()).map_err(|_| too_many("code words", self.code.len(), u32::MAX))?;
        let flags = if self.wide { FLAG_WIDE } else { 0 };
        let counted = self.counted.iter().copied().chain(core::iter::repeat(0));
        let largest = offsets.iter().zip(counted).map(|(&offset, n)| offset.saturating_add(n)).max().unwrap_or(0);
        let group_size = self.group_size.unwrap_or(largest);
        let header = [VERSION, flags, self.n_inputs, self.n_slots, n_groups, n_outputs, n_words, group_size];
        let mut bytes = Vec::new();
        for word in header.iter().chain(offsets).chain(outputs) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        if bytes.len() & 7 != 0 {
            bytes.extend_from_slice(&[0; 4]);
        }
        for word in &self.code {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Program::parse(&bytes).map_err(EncodeError::Invalid)?;
        Ok(bytes)
    }

    /// Counts one more record of a kind, in the open run if it fits.
    fn record(&mut self, kind: u16, group: u16) {
        if let Some(open) = &mut self.open
            && (open.kind, open.group) == (kind, group)
            && open.n < u32::MAX
        {
            open.n = open.n.saturating_add(1);
            return;
        }
        self.close();
        self.open = Some(Open { kind, group, header: self.code.len(), n: 1 });
        self.code.push(0);
    }

    fn close(&mut self) {
        let sources = core::mem::take(&mut self.sources);
        for group in sources.chunks(if self.wide { 2 } else { 4 }) {
            let mut padded = [0u32; 4];
            padded.iter_mut().zip(group).for_each(|(slot, source)| *slot = *source);
            self.slots(if self.wide { &padded[..2] } else { &padded });
        }
        if let Some(open) = self.open.take()
            && let Some(header) = self.code.get_mut(open.header)
        {
            *header = u64::from(open.kind) | u64::from(open.group) << 16 | u64::from(open.n) << 32;
        }
    }

    /// Appends slots, packed as this program packs them.
    fn slots(&mut self, slots: &[u32]) {
        let (per_word, bits) = if self.wide { (2, 32) } else { (4, 16) };
        for chunk in slots.chunks(per_word) {
            let word = chunk.iter().rev().fold(0u64, |word, &slot| word.wrapping_shl(bits) | u64::from(slot));
            self.code.push(word);
        }
    }
}
