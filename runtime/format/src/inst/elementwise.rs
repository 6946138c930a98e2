//! `map`, a fused elementwise program, and `cast`.

use alloc::vec::Vec;

use super::{Access, Contract, Field, codes, instruction};
use crate::contract::attribute;
use crate::cursor::{Cursor, to_u64};
use crate::{BufferId, Cx, DType, ErrorKind, Fault, FormatError, Operand};

/// The largest number of registers of a [`Map`]: its operands, constants and steps together.
pub const MAX_REGISTERS: usize = 64;

instruction! {
    /// A fused elementwise program: every element of `y` is computed from the elements of `xs` that broadcast to it.
    ///
    /// Registers are numbered through: first the operands, then the constants, then the results of the steps; a step
    /// refers only to registers before its own. With no step `y` is a broadcast copy of a register.
    Map {
        /// The result; `bool` stores whether the register is not zero.
        y: BufferId,
        /// The type that everything is computed in.
        domain: Domain,
        /// What is loaded; each broadcasts to the shape of `y`.
        xs: Vec<Operand>,
        /// Constants as bits of the domain's type, in the low bits.
        consts: Vec<u64>,
        /// The steps, in order.
        steps: Vec<Step>,
        /// The register that is stored.
        result: u32,
    }
}

codes! {
    /// The type that a [`Map`] computes in.
    Domain ("domain of a map") {
        /// Single precision, without fused operations.
        F32 = 0 "f32",
        /// Double precision; what is stored is rounded once.
        F64 = 1 "f64",
        /// 64-bit integers that wrap; what is stored keeps its low bits.
        I64 = 2 "i64",
        /// Unsigned 64-bit integers that wrap; what is stored keeps its low bits.
        U64 = 3 "u64",
    }
}

codes! {
    /// What one step of a [`Map`] computes from its registers `a`, `b` and `c`. Truth values are 1 and 0.
    MapOp ("operation of a map") {
        /// `-a`
        Neg = 0 "neg",
        /// `|a|`
        Abs = 1 "abs",
        /// Square root, correctly rounded.
        Sqrt = 2 "sqrt",
        /// `1 / a`
        Recip = 3 "recip",
        /// e to the power of `a`.
        Exp = 4 "exp",
        /// Natural logarithm.
        Log = 5 "log",
        /// Rounded down.
        Floor = 6 "floor",
        /// Rounded up.
        Ceil = 7 "ceil",
        /// Rounded to the nearest integer, halves to the even one.
        RoundHalfEven = 8 "round_half_even",
        /// -1, 0 or 1; NaN for NaN.
        Sign = 9 "sign",
        /// `max(a, 0)`
        Relu = 10 "relu",
        /// Logistic function.
        Sigmoid = 11 "sigmoid",
        /// Hyperbolic tangent.
        Tanh = 12 "tanh",
        /// Error function.
        Erf = 13 "erf",
        /// `a * (1 + erf(a / sqrt 2)) / 2`
        GeluErf = 14 "gelu_erf",
        /// `a * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 * a^3))) / 2`
        GeluTanh = 15 "gelu_tanh",
        /// `a * sigmoid(a)`
        Silu = 16 "silu",
        /// Whether `a` is 0.
        Not = 17 "not",
        /// Whether `a` is NaN.
        IsNan = 18 "is_nan",
        /// Rounded towards zero.
        Trunc = 19 "trunc",
        /// `a + b`
        Add = 32 "add",
        /// `a - b`
        Sub = 33 "sub",
        /// `a * b`
        Mul = 34 "mul",
        /// `a / b`
        Div = 35 "div",
        /// The smaller one; NaN if either is.
        Min = 36 "min",
        /// The larger one; NaN if either is.
        Max = 37 "max",
        /// `a` to the power of `b`.
        Pow = 38 "pow",
        /// Whether `a == b`.
        Eq = 39 "eq",
        /// Whether `a != b`.
        Ne = 40 "ne",
        /// Whether `a < b`.
        Lt = 41 "lt",
        /// Whether `a <= b`.
        Le = 42 "le",
        /// Whether `a > b`.
        Gt = 43 "gt",
        /// Whether `a >= b`.
        Ge = 44 "ge",
        /// Whether both are not 0.
        And = 45 "and",
        /// Whether at least one is not 0.
        Or = 46 "or",
        /// Whether exactly one is not 0.
        Xor = 47 "xor",
        /// What is left of `a / b`, with the sign of `b`.
        Mod = 48 "mod",
        /// What is left of `a / b`, with the sign of `a`.
        Rem = 49 "rem",
        /// Bit by bit: both.
        BitAnd = 50 "bit_and",
        /// Bit by bit: at least one.
        BitOr = 51 "bit_or",
        /// Bit by bit: exactly one.
        BitXor = 52 "bit_xor",
        /// `a` shifted left by `b` bits; 0 where `b` is negative or at least 64.
        ShiftLeft = 53 "shift_left",
        /// `a` shifted right by `b` bits, the sign kept; where `b` is negative or at least 64 only the sign is left.
        ShiftRight = 54 "shift_right",
        /// `b` where `a` is not 0, else `c`.
        Where = 64 "where",
        /// `a` limited to `[b, c]`: `min(max(a, b), c)`.
        Clip = 65 "clip",
        /// Sine.
        Sin = 96 "sin",
        /// Cosine.
        Cos = 97 "cos",
        /// Tangent.
        Tan = 98 "tan",
        /// Arc sine.
        Asin = 99 "asin",
        /// Arc cosine.
        Acos = 100 "acos",
        /// Arc tangent.
        Atan = 101 "atan",
        /// Hyperbolic sine.
        Sinh = 102 "sinh",
        /// Hyperbolic cosine.
        Cosh = 103 "cosh",
        /// Area hyperbolic sine.
        Asinh = 104 "asinh",
        /// Area hyperbolic cosine.
        Acosh = 105 "acosh",
        /// Area hyperbolic tangent.
        Atanh = 106 "atanh",
        /// `log(1 + exp(a))`
        Softplus = 107 "softplus",
    }
}

impl Domain {
    /// Whether elements of that type can be loaded: each value is one of the domain.
    pub const fn loads(self, dtype: DType) -> bool {
        let narrow = matches!(dtype, DType::Bool | DType::I8 | DType::U8 | DType::I16 | DType::U16);
        match self {
            Domain::F32 => narrow || matches!(dtype, DType::F32),
            Domain::F64 => {
                let floats = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
                narrow || floats || matches!(dtype, DType::I32 | DType::U32)
            }
            Domain::I64 => narrow || matches!(dtype, DType::I32 | DType::U32 | DType::I64),
            Domain::U64 => matches!(dtype, DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64),
        }
    }

    /// Whether results can be stored in that type. `bool` stores whether the register is not zero.
    pub const fn stores(self, dtype: DType) -> bool {
        match self {
            Domain::F32 => matches!(dtype, DType::F32 | DType::Bool),
            Domain::F64 => matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64 | DType::Bool),
            Domain::I64 | Domain::U64 => !dtype.is_float() && !matches!(dtype, DType::Bits),
        }
    }

    /// Whether the domain has the operation.
    pub const fn has(self, op: MapOp) -> bool {
        let bits = matches!(op.code(), 50..=54);
        let float = matches!(op.code(), 2..=5 | 11..=16 | 18 | 96..=107);
        match self {
            Domain::F32 => op.code() < 96 && !matches!(op.code(), 48..=54),
            Domain::F64 => !bits && !matches!(op, MapOp::Erf | MapOp::GeluErf),
            Domain::I64 | Domain::U64 => !float,
        }
    }
}

impl MapOp {
    /// How many registers it takes.
    pub const fn arity(self) -> usize {
        match self.code() {
            0..=31 => 1,
            32..=63 => 2,
            64..=95 => 3,
            _ => 1,
        }
    }
}

/// One step of a [`Map`]; registers past the arity of `op` are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What is computed.
    pub op: MapOp,
    /// The registers it takes.
    pub args: [u8; 3],
}

impl Field for Step {
    fn put(&self, out: &mut Vec<u32>) {
        let [a, b, c] = self.args;
        let op = u8::try_from(self.op.code()).unwrap_or(u8::MAX);
        out.push(u32::from_le_bytes([op, a, b, c]));
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let at = from.clone();
        let [op, a, b, c] = from.u32()?.to_le_bytes();
        let error = || at.error(ErrorKind::Code { what: "operation of a map", value: op.into() });
        let op = MapOp::from_code(op.into()).ok_or_else(error)?;
        Ok(Self { op, args: [a, b, c] })
    }
    fn each(&self, _see: &mut dyn FnMut(Access)) {}
}

impl Contract for Map {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let in_build = cfg!(not(feature = "minimal")) || self.domain == Domain::F32;
        attribute("domain (f32 only in a build with feature `minimal`)", self.domain.code(), in_build)?;
        let y = cx.ty("y", self.y)?.dense()?;
        if !self.domain.stores(y.dtype) {
            return Err(Fault::DType { operand: "y", found: y.dtype });
        }
        for &x in &self.xs {
            let x = cx.ty("xs", x)?.dense()?;
            if !self.domain.loads(x.dtype) {
                return Err(Fault::DType { operand: "xs", found: x.dtype });
            }
            x.broadcasts_to(&y)?;
        }
        let mut registers = self.xs.len().saturating_add(self.consts.len());
        let total = registers.saturating_add(self.steps.len());
        attribute("registers", to_u64(total), total <= MAX_REGISTERS)?;
        for step in &self.steps {
            attribute("operation of a step", step.op.code(), self.domain.has(step.op))?;
            for (i, &arg) in step.args.iter().enumerate() {
                let valid = if i < step.op.arity() { usize::from(arg) < registers } else { arg == 0 };
                attribute("register of a step", arg, valid)?;
            }
            registers = registers.saturating_add(1);
        }
        attribute("result", self.result, crate::cursor::index(self.result) < registers)
    }
}

instruction! {
    /// `y` holds the elements of `x`, in order, converted to its type; the shapes may differ.
    ///
    /// Between equal types this is a copy. Floats become integers by rounding towards zero with saturation (NaN is 0),
    /// integers become narrower ones by keeping the low bits, and `bool` is whether the element is not 0.
    Cast {
        /// The result.
        y: BufferId,
        /// What is converted.
        x: Operand,
    }
}

impl Contract for Cast {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = (cx.ty("y", self.y)?.dense()?, cx.ty("x", self.x)?.dense()?);
        if y.dtype == DType::Bits || x.dtype == DType::Bits {
            // Rows of bits end at a byte, so only equal rows can be copied.
            y.dtype(&[DType::Bits, DType::Bool])?;
            x.dtype(&[DType::Bits, DType::Bool])?;
            y.same_shape(&x)?;
        }
        y.elements(x.numel()?)?;
        Ok(())
    }
}
