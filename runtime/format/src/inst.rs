//! The instruction set: one enum, one line per instruction in the table below, one struct per instruction in `inst/`.
//!
//! In the file an instruction is a word `opcode | n << 16` followed by `n` words. The words are the fields of its
//! struct in order, each written and read by its type (`Field`); the type of a field also says what it is: an
//! [`Operand`] is read, a [`BufferId`] is written, a [`DimId`] is a size known when inputs are bound. What is left to
//! say about an instruction is its `Contract`.
//!
//! To add an instruction: describe it with `instruction!` and `impl Contract` in the file of its family (or a new
//! one), add its line to the table, and follow the compiler into the runtime's `exec.rs`. Opcodes are grouped by
//! family with room in between and never change their meaning.

use alloc::vec::Vec;

use crate::cursor::{Cursor, to_u64};
use crate::{BufferId, Cx, DimId, ErrorKind, Fault, FormatError, Operand};

mod dense;
mod elementwise;
mod fields;
mod index;
mod logic;
mod moves;
mod norm;
mod quantized;
mod reduce;
mod requantized;

pub use dense::{Activation, Conv2d, Matmul, Pool2d, PoolKind};
pub use elementwise::{Cast, Domain, MAX_REGISTERS, Map, MapOp, Step};
pub use index::{ArgReduce, Combine, Gather, Pick, Scatter, TopK};
pub use logic::{Logic, LogicHead};
pub use moves::{BitCast, Concat, Expand, Iota, Pad, PadMode, Sizes, Slice, Transpose};
pub use norm::{LayerNorm, RmsNorm, Softmax};
pub use quantized::{BitConv2d, BitLinear, DequantLinear, Floor, Granularity, Quantize, QuantizeKind};
pub use reduce::{Reduce, ReduceOp, Scan};
pub use requantized::{BitConv2dQuantize, BitLinearQuantize, Steps};

/// The most entries of a list inside an instruction.
const MAX_LIST: u64 = 1 << 14;
/// Stands for an operand that is not there.
const ABSENT: u32 = u32::MAX;
/// Marks the index of a constant.
const CONST_BIT: u32 = 1 << 31;

/// One thing an instruction refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It reads this operand.
    Read(Operand),
    /// It writes this buffer, all of it.
    Write(BufferId),
    /// It uses the value of this dimension.
    Dim(DimId),
}

/// How a field of an instruction is stored, and what it refers to.
pub(crate) trait Field: Sized {
    /// Appends the words of the field.
    fn put(&self, out: &mut Vec<u32>);
    /// Reads the words of the field.
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError>;
    /// Shows what the field refers to.
    fn each(&self, _see: &mut dyn FnMut(Access)) {}
}

/// What must be true of an instruction before it can run. See [`Cx`] for when it is checked.
pub(crate) trait Contract {
    /// Checks types, ranks, layouts, attributes and, where they are known, sizes.
    ///
    /// # Errors
    ///
    /// The part of the contract that is broken.
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault>;
}

/// Defines the struct of an instruction; its fields are stored in order.
macro_rules! instruction {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl $crate::inst::Field for $name {
            fn put(&self, out: &mut ::alloc::vec::Vec<u32>) {
                $($crate::inst::Field::put(&self.$field, out);)*
            }
            fn get(from: &mut $crate::cursor::Cursor<'_>) -> Result<Self, $crate::FormatError> {
                Ok(Self { $($field: $crate::inst::Field::get(from)?,)* })
            }
            fn each(&self, see: &mut dyn FnMut($crate::inst::Access)) {
                $($crate::inst::Field::each(&self.$field, see);)*
            }
        }
    };
}

/// Defines an enum that is stored as one word.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$item_meta:meta])* $item:ident = $code:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$item_meta])* $item,)* }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$item,)*];

            /// The number that stands for it.
            pub const fn code(self) -> u32 {
                match self { $(Self::$item => $code,)* }
            }

            /// The value of that number.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$item),)* _ => None }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$item => $text,)* }
            }
        }

        impl $crate::inst::Field for $name {
            fn put(&self, out: &mut ::alloc::vec::Vec<u32>) {
                out.push(self.code());
            }
            fn get(from: &mut $crate::cursor::Cursor<'_>) -> Result<Self, $crate::FormatError> {
                let at = from.clone();
                let code = from.u32()?;
                Self::from_code(code)
                    .ok_or_else(|| at.error($crate::ErrorKind::Code { what: $what, value: code.into() }))
            }
        }
    };
}

use {codes, instruction};

/// Defines [`Inst`] from the table of instructions.
macro_rules! insts {
    ($($opcode:literal $name:literal $variant:ident,)*) => {
        /// One instruction.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Inst {
            $(#[doc = concat!("`", $name, "`: see [`", stringify!($variant), "`].")] $variant($variant),)*
        }

        $(impl From<$variant> for Inst {
            fn from(inst: $variant) -> Self {
                Inst::$variant(inst)
            }
        })*

        impl Inst {
            /// Opcode and name of every instruction, ascending.
            pub const TABLE: &'static [(u16, &'static str)] = &[$(($opcode, $name),)*];

            /// The number that stands for the instruction in an artifact.
            pub const fn opcode(&self) -> u16 {
                match self { $(Inst::$variant(_) => $opcode,)* }
            }

            /// The name of the instruction.
            pub const fn name(&self) -> &'static str {
                match self { $(Inst::$variant(_) => $name,)* }
            }

            /// Shows everything the instruction reads, writes and depends on, in the order of its fields.
            pub fn each(&self, see: &mut dyn FnMut(Access)) {
                match self {
                    $(Inst::$variant(inst) if in_build($opcode) => inst.each(see),)*
                    _ => {}
                }
            }

            /// Checks the contract of the instruction.
            ///
            /// # Errors
            ///
            /// The part of it that is broken.
            pub fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
                match self {
                    $(Inst::$variant(inst) if in_build($opcode) => inst.check(cx),)*
                    _ => Ok(()),
                }
            }

            fn put(&self, out: &mut Vec<u32>) {
                match self { $(Inst::$variant(inst) => inst.put(out),)* }
            }

            fn get(opcode: u16, from: &mut Cursor<'_>) -> Result<Self, FormatError> {
                match opcode {
                    $($opcode if in_build($opcode) => Ok(Inst::$variant(Field::get(from)?)),)*
                    $($opcode => Err(from.error(ErrorKind::LeftOut { inst: $name })),)*
                    opcode => Err(from.error(ErrorKind::Opcode { opcode })),
                }
            }
        }
    };
}

insts! {
    // Elementwise and moves.
    0x0100 "map" Map,
    0x0101 "cast" Cast,
    0x0110 "transpose" Transpose,
    0x0111 "concat" Concat,
    0x0112 "slice" Slice,
    0x0113 "pad" Pad,
    0x0114 "expand" Expand,
    0x0115 "bit_cast" BitCast,
    0x0120 "iota" Iota,
    0x0121 "sizes" Sizes,
    // Reductions and normalisations.
    0x0200 "reduce" Reduce,
    0x0201 "arg_reduce" ArgReduce,
    0x0202 "scan" Scan,
    0x0203 "top_k" TopK,
    0x0210 "softmax" Softmax,
    0x0220 "layer_norm" LayerNorm,
    0x0221 "rms_norm" RmsNorm,
    // Float products and windows.
    0x0300 "matmul" Matmul,
    0x0301 "dequant_linear" DequantLinear,
    0x0310 "conv2d" Conv2d,
    0x0320 "pool2d" Pool2d,
    // Quantised products.
    0x0400 "quantize" Quantize,
    0x0410 "bit_linear" BitLinear,
    0x0411 "bit_linear_quantize" BitLinearQuantize,
    0x0420 "bit_conv2d" BitConv2d,
    0x0421 "bit_conv2d_quantize" BitConv2dQuantize,
    // Logic networks.
    0x0500 "logic" Logic,
    // Access by index.
    0x0600 "gather" Gather,
    0x0601 "pick" Pick,
    0x0602 "scatter" Scatter,
}

/// Whether instructions of that number are part of this build: with `minimal` the quantised products, logic networks and
/// what works element by element.
const fn in_build(opcode: u16) -> bool {
    cfg!(not(feature = "minimal")) || matches!(opcode, 0x0100..=0x010f | 0x0400..=0x05ff)
}

impl Inst {
    /// Appends the instruction as it is stored.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut words = Vec::new();
        self.put(&mut words);
        // An instruction that is too long gets a length that no reader accepts.
        let n = u16::try_from(words.len()).unwrap_or(0);
        out.extend_from_slice(&self.opcode().to_le_bytes());
        out.extend_from_slice(&n.to_le_bytes());
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads one instruction; it has to take exactly the words that it states.
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let (opcode, n) = (cursor.u16()?, cursor.u16()?);
        let at = cursor.offset();
        let mut words = Cursor::new(cursor.take(usize::from(n).saturating_mul(4))?, at);
        let inst = Self::get(opcode, &mut words)?;
        words.finish()?;
        Ok(inst)
    }

    /// The operands it reads.
    pub fn reads(&self) -> Vec<Operand> {
        let mut reads = Vec::new();
        self.each(&mut |access| {
            if let Access::Read(operand) = access {
                reads.push(operand);
            }
        });
        reads
    }

    /// The buffers it writes.
    pub fn writes(&self) -> Vec<BufferId> {
        let mut writes = Vec::new();
        self.each(&mut |access| {
            if let Access::Write(buffer) = access {
                writes.push(buffer);
            }
        });
        writes
    }
}

/// Whether `axis` is one of `rank` axes.
fn axis_in(axis: u32, rank: usize) -> Result<usize, Fault> {
    let index = crate::cursor::index(axis);
    crate::contract::attribute("axis", axis, index < rank)?;
    Ok(index)
}

/// A list must have one entry per axis.
fn one_per_axis(name: &'static str, len: usize, rank: usize) -> Result<(), Fault> {
    crate::contract::attribute(name, to_u64(len), len == rank)
}
