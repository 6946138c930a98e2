//! What can go wrong when a program is loaded and when it runs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bitc_format::{DType, FormatError};

/// Why bytes cannot become a [`crate::Program`].
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// They are no valid artifact.
    Format(FormatError),
    /// The artifact is larger than the limit.
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The bytes that the caller keeps do not begin at a multiple of 64.
    Unaligned,
    /// The system has no memory for a copy.
    OutOfMemory {
        /// The bytes that were asked for.
        bytes: u64,
    },
}

/// Why a run failed. The outputs hold nothing of use then.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The number of inputs or outputs is wrong.
    Count {
        /// `input` or `output`.
        what: &'static str,
        /// How many the program has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// An array has a type that its port does not accept.
    Type {
        /// The name of the port.
        port: String,
        /// The types it accepts.
        accepts: Vec<DType>,
        /// The type of the array.
        found: DType,
    },
    /// An array has the wrong number of dimensions.
    Rank {
        /// The name of the port.
        port: String,
        /// The rank it must have.
        expected: usize,
        /// The rank it has.
        found: usize,
    },
    /// A dimension of an array is not what the port or the other inputs require.
    Shape {
        /// The name of the port.
        port: String,
        /// Which dimension.
        axis: usize,
        /// What it must be.
        expected: i64,
        /// What it is.
        found: usize,
    },
    /// The bytes of an array are not as many as type and shape require.
    Length {
        /// The name of the port.
        port: String,
        /// How many there must be; `None` if that overflows.
        expected: Option<usize>,
        /// How many there are.
        found: usize,
    },
    /// Bits packed across rows were given to an input that takes rows only.
    Words {
        /// The name of the port.
        port: String,
    },
    /// A symbol has no value, or there is none of that name.
    Symbol {
        /// The name of the symbol.
        name: String,
    },
    /// The program cannot run with inputs of these sizes.
    Sizes(FormatError),
    /// The program needs more memory than the limit with inputs of these sizes.
    Limit {
        /// The bytes it needs.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The system has no memory for the buffers.
    OutOfMemory {
        /// The bytes that were asked for.
        bytes: u64,
    },
    /// An index that was computed or given is out of range.
    Index {
        /// The number of the instruction in the program.
        inst: usize,
        /// The index.
        index: i64,
        /// The size of the indexed dimension.
        size: usize,
    },
    /// An integer result that does not exist: a division by zero, a negative power, or the mean of nothing.
    Undefined {
        /// The number of the instruction in the program.
        inst: usize,
    },
    /// The bytes of the program, kept by the caller, are no longer those that were loaded.
    ProgramChanged,
}

impl From<FormatError> for LoadError {
    fn from(error: FormatError) -> Self {
        LoadError::Format(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::TooLarge { bytes, limit } => write!(f, "expected at most {limit} bytes, found {bytes}"),
            Self::Unaligned => write!(f, "the bytes of a program must begin at a multiple of 64"),
            Self::OutOfMemory { bytes } => write!(f, "no memory for {bytes} bytes"),
        }
    }
}

impl core::error::Error for LoadError {}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { what, expected, found } => write!(f, "expected {expected} {what} arrays, found {found}"),
            Self::Type { port, accepts, found } => {
                write!(f, "`{port}` must be of type ")?;
                for (i, dtype) in accepts.iter().enumerate() {
                    write!(f, "{}{dtype}", if i == 0 { "" } else { " or " })?;
                }
                write!(f, ", found {found}")
            }
            Self::Rank { port, expected, found } => write!(f, "`{port}` must have rank {expected}, found {found}"),
            Self::Shape { port, axis, expected, found } => {
                write!(f, "dimension {axis} of `{port}` must be {expected}, found {found}")
            }
            Self::Length { port, expected: Some(expected), found } => {
                write!(f, "`{port}` must have {expected} bytes, found {found}")
            }
            Self::Length { port, expected: None, .. } => write!(f, "the size of `{port}` overflows"),
            Self::Words { port } => {
                write!(f, "`{port}` takes no bits packed across rows: it is not the input of a logic network alone")
            }
            Self::Symbol { name } => write!(f, "symbol `{name}` is unknown or has no value"),
            Self::Sizes(error) => write!(f, "inputs of these sizes cannot be run: {error}"),
            Self::Limit { bytes, limit } => write!(f, "the run needs {bytes} bytes, the limit is {limit}"),
            Self::OutOfMemory { bytes } => write!(f, "no memory for {bytes} bytes"),
            Self::Index { inst, index, size } => {
                write!(f, "index {index} is out of range for size {size} (instruction {inst})")
            }
            Self::Undefined { inst } => {
                write!(f, "an integer is divided by zero or raised to a negative power (instruction {inst})")
            }
            Self::ProgramChanged => write!(f, "the bytes of the program changed after they were loaded"),
        }
    }
}

impl core::error::Error for RunError {}
