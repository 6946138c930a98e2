//! What can be wrong with an artifact, and where.

use core::fmt;

use crate::logic::LogicError;
use crate::{DType, Layout};

/// Why bytes are no artifact, and at which byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The byte of the file at which it was noticed.
    pub offset: u64,
}

/// What is wrong with an artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes end before something that has to be there.
    Truncated {
        /// Bytes that are needed from here on.
        needed: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// The file does not begin with `BITC`.
    Magic,
    /// The file was written for another major version.
    Version {
        /// The major version of the file.
        major: u16,
    },
    /// The length stated in the header is not the length of the file.
    Length {
        /// The length in the header.
        stated: u64,
        /// The length of the file.
        found: u64,
    },
    /// Bytes that have to be zero are not.
    NotZero {
        /// Which bytes.
        what: &'static str,
    },
    /// The kinds of sections do not ascend.
    SectionOrder {
        /// The kind that is not larger than the one before.
        kind: u32,
    },
    /// A section does not begin where the previous one ends.
    SectionOffset {
        /// Where it has to begin.
        expected: u64,
        /// Where the table says it begins.
        found: u64,
    },
    /// A section that must be understood is unknown.
    SectionUnknown {
        /// Its kind.
        kind: u32,
    },
    /// A required section is not there.
    SectionMissing {
        /// Its name.
        name: &'static str,
    },
    /// The bytes of a section do not have the checksum of the table.
    Checksum {
        /// The checksum in the table.
        stated: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// More of something than this version allows.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most there may be.
        max: u64,
        /// How many there are.
        found: u64,
    },
    /// A name is not UTF-8.
    Text,
    /// A code that stands for nothing.
    Code {
        /// The code of what.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// An index past the end of its table.
    Index {
        /// The index of what.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The length of the table.
        count: u64,
    },
    /// Something continues after its end.
    Trailing {
        /// How many bytes are left over.
        bytes: u64,
    },
    /// Two things that must differ are the same.
    Duplicate {
        /// What they are.
        what: &'static str,
    },
    /// A symbol that is no dimension of any input, so nothing would give it a value.
    UnboundSymbol {
        /// Its index.
        symbol: u32,
    },
    /// A constant is not where it has to be in `data`.
    ConstOffset {
        /// Where it has to begin.
        expected: u64,
        /// Where its entry says it begins.
        found: u64,
    },
    /// The stored length of a constant is not that of its type.
    ConstLength {
        /// The length by dtype, layout and shape; `None` if that overflows.
        expected: Option<u64>,
        /// The length in its entry.
        found: u64,
    },
    /// A port accepts a type that cannot become the type of its buffer.
    PortType {
        /// The type of the buffer.
        buffer: DType,
        /// The bits of the accepted types.
        accepts: u32,
    },
    /// An instruction without a name in this version.
    Opcode {
        /// Its number.
        opcode: u16,
    },
    /// An instruction that this build was made without.
    LeftOut {
        /// Its name.
        inst: &'static str,
    },
    /// A slot is read before anything was written to it.
    ReadBeforeWrite {
        /// The buffer that is read.
        buffer: u32,
    },
    /// An instruction writes to the slot of an input.
    InputWritten {
        /// The buffer that is written.
        buffer: u32,
    },
    /// An instruction writes to a slot that it also reads or writes as another operand.
    SlotConflict {
        /// The buffer that is written.
        buffer: u32,
    },
    /// No instruction writes this output.
    OutputNotWritten {
        /// The index of the output.
        output: u32,
    },
    /// A slot of a port, or one that is read through another buffer than it was written, changes its size or type.
    Alias {
        /// The buffer that does not fit.
        buffer: u32,
    },
    /// An instruction breaks its contract.
    Contract {
        /// The index of the instruction.
        index: u32,
        /// Its name.
        inst: &'static str,
        /// Which part of the contract.
        fault: Fault,
    },
    /// A constant that is no logic program.
    Logic {
        /// The index of the constant.
        constant: u32,
        /// What is wrong with it.
        error: LogicError,
    },
    /// A dimension or the size of a buffer is negative or overflows.
    Size {
        /// The buffer or dimension.
        what: &'static str,
        /// Its index.
        index: u32,
    },
}

/// Which part of its contract an instruction breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// An operand has a type that the instruction does not take.
    DType {
        /// The name of the operand.
        operand: &'static str,
        /// The type it has.
        found: DType,
    },
    /// An operand has the wrong number of dimensions.
    Rank {
        /// The name of the operand.
        operand: &'static str,
        /// The rank it must have (for a range, its nearest end).
        expected: u64,
        /// The rank it has.
        found: u64,
    },
    /// A dimension, or a number of elements, is not what the others require.
    Size {
        /// Which one.
        what: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A constant has a layout that the instruction does not take.
    Layout {
        /// The name of the operand.
        operand: &'static str,
        /// The layout it has.
        found: Layout,
    },
    /// The rows of a buffer are aligned in another way than the instruction takes.
    RowAlign {
        /// The name of the operand.
        operand: &'static str,
        /// The alignment in bytes that it has.
        found: u32,
    },
    /// An operand has to be a constant.
    NotConst {
        /// The name of the operand.
        operand: &'static str,
    },
    /// An attribute has a value that the instruction does not take.
    Attribute {
        /// The name of the attribute.
        name: &'static str,
        /// Its value.
        value: i64,
    },
    /// A size overflows or is negative.
    Overflow {
        /// Of what.
        what: &'static str,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.kind, self.offset)
    }
}

impl core::error::Error for FormatError {}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, found } => write!(f, "expected {needed} more bytes, found {found}"),
            Self::Magic => write!(f, "not a bitc artifact: the first four bytes are not `BITC`"),
            Self::Version { major } => {
                write!(f, "expected format version {}, found version {major}", crate::VERSION.0)
            }
            Self::Length { stated, found } => write!(f, "the header states {stated} bytes, the file has {found}"),
            Self::NotZero { what } => write!(f, "expected zero bytes in {what}"),
            Self::SectionOrder { kind } => write!(f, "section {kind:#x} is not in ascending order"),
            Self::SectionOffset { expected, found } => {
                write!(f, "expected the section at byte {expected}, its entry says {found}")
            }
            Self::SectionUnknown { kind } => write!(f, "section {kind:#x} is unknown and must be understood"),
            Self::SectionMissing { name } => write!(f, "section `{name}` is missing"),
            Self::Checksum { stated, computed } => {
                write!(f, "expected checksum {stated:#010x}, the bytes have {computed:#010x}")
            }
            Self::TooMany { what, max, found } => write!(f, "expected at most {max} {what}, found {found}"),
            Self::Text => write!(f, "a name is not UTF-8"),
            Self::Code { what, value } => write!(f, "{value} is no {what}"),
            Self::Index { what, value, count } => write!(f, "{what} {value} is past the {count} there are"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes are left over"),
            Self::Duplicate { what } => write!(f, "two {what} are the same"),
            Self::UnboundSymbol { symbol } => write!(f, "symbol {symbol} is no dimension of any input"),
            Self::ConstOffset { expected, found } => {
                write!(f, "expected the constant at byte {expected} of `data`, its entry says {found}")
            }
            Self::ConstLength { expected: Some(expected), found } => {
                write!(f, "expected a constant of {expected} bytes, its entry says {found}")
            }
            Self::ConstLength { expected: None, found } => {
                write!(f, "the size of the constant overflows, its entry says {found} bytes")
            }
            Self::PortType { buffer, accepts } => {
                write!(f, "a port of type {buffer} cannot accept the types {accepts:#x}")
            }
            Self::Opcode { opcode } => write!(f, "opcode {opcode:#06x} is not supported by this version"),
            Self::LeftOut { inst } => write!(f, "instruction `{inst}` is left out of this build (feature `minimal`)"),
            Self::ReadBeforeWrite { buffer } => write!(f, "buffer {buffer} is read before it is written"),
            Self::InputWritten { buffer } => write!(f, "buffer {buffer} is written and lies in an input"),
            Self::SlotConflict { buffer } => {
                write!(f, "buffer {buffer} is written and shares its slot with another operand")
            }
            Self::OutputNotWritten { output } => write!(f, "output {output} is never written"),
            Self::Alias { buffer } => write!(f, "buffer {buffer} differs in size or type from what its slot holds"),
            Self::Contract { index, inst, fault } => write!(f, "instruction {index} (`{inst}`): {fault}"),
            Self::Logic { constant, error } => write!(f, "constant {constant}: {error}"),
            Self::Size { what, index } => write!(f, "the size of {what} {index} is negative or overflows"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DType { operand, found } => write!(f, "`{operand}` cannot be of type {found}"),
            Self::Rank { operand, expected, found } => {
                write!(f, "`{operand}` must have rank {expected}, found {found}")
            }
            Self::Size { what, expected, found } => write!(f, "{what} must be {expected}, found {found}"),
            Self::Layout { operand, found } => write!(f, "`{operand}` cannot have layout {}", found.name()),
            Self::RowAlign { operand, found } => {
                write!(f, "the rows of `{operand}` cannot be aligned to {found} bytes")
            }
            Self::NotConst { operand } => write!(f, "`{operand}` must be a constant"),
            Self::Attribute { name, value } => write!(f, "`{name}` cannot be {value}"),
            Self::Overflow { what } => write!(f, "the size of `{what}` is negative or overflows"),
        }
    }
}
