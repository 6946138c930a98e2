//! How the values of a constant are stored.

/// How the values of a constant are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Layout {
    /// Little-endian elements in row-major order.
    Dense,
    /// Ternary weights, two bits each.
    Trit2,
    /// Ternary weights, five in a byte.
    Trit5,
    /// Weights of -1 and +1, one bit each.
    Bit1,
}

impl Layout {
    /// Every layout, in the order of their codes.
    pub const ALL: [Layout; 4] = [Layout::Dense, Layout::Trit2, Layout::Trit5, Layout::Bit1];

    /// The number that stands for this layout in an artifact.
    pub const fn code(self) -> u32 {
        match self {
            Layout::Dense => 0,
            Layout::Trit2 => 1,
            Layout::Trit5 => 2,
            Layout::Bit1 => 3,
        }
    }

    /// The layout of that number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.code() == code)
    }

    /// The name of the layout.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Dense => "dense",
            Layout::Trit2 => "trit2",
            Layout::Trit5 => "trit5",
            Layout::Bit1 => "bit1",
        }
    }

    /// Bytes of `rows` x `columns` packed weights; `None` on overflow and for `Dense`, whose length depends on the type.
    pub fn packed_len(self, rows: u64, columns: u64) -> Option<u64> {
        match self {
            Layout::Dense => None,
            Layout::Trit2 => {
                rows.checked_next_multiple_of(16)?.checked_mul(columns.checked_next_multiple_of(16)?)?.checked_div(4)
            }
            Layout::Trit5 | Layout::Bit1 => None,
        }
    }
}
