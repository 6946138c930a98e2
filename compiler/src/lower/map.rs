//! Builds a `map` instruction: registers before they are numbered, and the steps of each formula.

use bitc_format::inst::{Domain, Map, MapOp, Step};
use bitc_format::{BufferId, Operand};
use bitc_ir::ops::binary::BinaryKind;
use bitc_ir::ops::compare::CompareKind;
use bitc_ir::ops::logic::LogicKind;
use bitc_ir::ops::unary::UnaryKind;

/// A register of a `map` before the registers are numbered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Register {
    Loaded(usize),
    Constant(usize),
    Step(usize),
}

/// Builds a `map`: what it loads, its constants and its steps, each once.
pub(super) struct Builder {
    domain: Domain,
    xs: Vec<Operand>,
    consts: Vec<u64>,
    steps: Vec<(MapOp, Vec<Register>)>,
}

/// A `map` in `f32`.
impl Default for Builder {
    fn default() -> Self {
        Self::new(Domain::F32)
    }
}

impl Builder {
    pub(super) fn new(domain: Domain) -> Self {
        Self { domain, xs: Vec::new(), consts: Vec::new(), steps: Vec::new() }
    }

    pub(super) fn domain(&self) -> Domain {
        self.domain
    }

    pub(super) fn load(&mut self, x: Operand) -> Register {
        let at = self.xs.iter().position(|&known| known == x).unwrap_or_else(|| {
            self.xs.push(x);
            self.xs.len() - 1
        });
        Register::Loaded(at)
    }

    /// A constant, which is a value of the domain.
    pub(super) fn constant(&mut self, value: impl Into<f64>) -> Register {
        let value = value.into();
        self.constant_bits(match self.domain {
            Domain::F32 => u64::from((value as f32).to_bits()),
            Domain::F64 => value.to_bits(),
            Domain::I64 => (value as i64).cast_unsigned(),
            Domain::U64 => value as u64,
        })
    }

    /// A constant by its bits in the type of the domain.
    pub(super) fn constant_bits(&mut self, bits: u64) -> Register {
        let at = self.consts.iter().position(|&known| known == bits).unwrap_or_else(|| {
            self.consts.push(bits);
            self.consts.len() - 1
        });
        Register::Constant(at)
    }

    pub(super) fn step(&mut self, op: MapOp, args: &[Register]) -> Register {
        self.steps.push((op, args.to_vec()));
        Register::Step(self.steps.len() - 1)
    }

    /// The steps of a formula of one input; `None` where no instruction computes it.
    pub(super) fn unary(&mut self, kind: UnaryKind, x: Register) -> Option<Register> {
        if let Some(op) = unary_op(kind).filter(|&op| self.domain.has(op)) {
            return Some(self.step(op, &[x]));
        }
        Some(match kind {
            // relu2(x) == relu(x) * relu(x)
            UnaryKind::Relu2 => {
                let relu = self.step(MapOp::Relu, &[x]);
                self.step(MapOp::Mul, &[relu, relu])
            }
            // softplus(x) == max(x, 0) + log(1 + exp(-|x|))
            UnaryKind::Softplus => {
                let size = self.step(MapOp::Abs, &[x]);
                let negative = self.step(MapOp::Neg, &[size]);
                let small = self.step(MapOp::Exp, &[negative]);
                let one = self.constant(1.0);
                let sum = self.step(MapOp::Add, &[small, one]);
                let rest = self.step(MapOp::Log, &[sum]);
                let relu = self.step(MapOp::Relu, &[x]);
                self.step(MapOp::Add, &[relu, rest])
            }
            UnaryKind::Cosh => self.cosh(x),
            // sinh(x) == tanh(x) * cosh(x), which keeps its precision around 0
            UnaryKind::Sinh => {
                let cosh = self.cosh(x);
                let tanh = self.step(MapOp::Tanh, &[x]);
                self.step(MapOp::Mul, &[tanh, cosh])
            }
            _ => return None,
        })
    }

    /// `cosh(x) == exp(x) / 2 + exp(-x) / 2`
    fn cosh(&mut self, x: Register) -> Register {
        let half = self.constant(0.5);
        let up = self.step(MapOp::Exp, &[x]);
        let negative = self.step(MapOp::Neg, &[x]);
        let down = self.step(MapOp::Exp, &[negative]);
        let up = self.step(MapOp::Mul, &[up, half]);
        let down = self.step(MapOp::Mul, &[down, half]);
        self.step(MapOp::Add, &[up, down])
    }

    /// The instruction that stores a register.
    pub(super) fn finish(self, y: BufferId, result: Register) -> Map {
        let Self { domain, xs, consts, steps } = self;
        let number = |register: Register| match register {
            Register::Loaded(i) => i,
            Register::Constant(i) => xs.len() + i,
            Register::Step(i) => xs.len() + consts.len() + i,
        };
        let step = |(op, registers): (MapOp, Vec<Register>)| {
            let mut args = [0; 3];
            // Groups are kept within `MAX_REGISTERS`, which a byte holds.
            args.iter_mut().zip(registers).for_each(|(arg, r)| *arg = number(r) as u8);
            Step { op, args }
        };
        let steps = steps.into_iter().map(step).collect();
        let result = number(result) as u32;
        Map { y, domain, xs, consts, steps, result }
    }
}

/// How many registers for steps and constants a formula takes in `f32`; `None` where it is computed in another type.
pub(super) fn unary_cost(kind: UnaryKind) -> Option<usize> {
    match kind {
        UnaryKind::Relu2 => Some(2),
        UnaryKind::Softplus | UnaryKind::Cosh | UnaryKind::Sinh => Some(9),
        kind => unary_op(kind).filter(|&op| Domain::F32.has(op)).map(|_| 1),
    }
}

/// Whether a formula has steps in a domain.
pub(super) fn has_unary(domain: Domain, kind: UnaryKind) -> bool {
    let one = unary_op(kind).is_some_and(|op| domain.has(op));
    one || kind == UnaryKind::Relu2 || (domain == Domain::F32 && unary_cost(kind).is_some())
}

/// The one step that computes a formula, if one does.
fn unary_op(kind: UnaryKind) -> Option<MapOp> {
    Some(match kind {
        UnaryKind::Relu => MapOp::Relu,
        UnaryKind::Gelu => MapOp::GeluErf,
        UnaryKind::GeluTanh => MapOp::GeluTanh,
        UnaryKind::Silu => MapOp::Silu,
        UnaryKind::Sigmoid => MapOp::Sigmoid,
        UnaryKind::Tanh => MapOp::Tanh,
        UnaryKind::Erf => MapOp::Erf,
        UnaryKind::Exp => MapOp::Exp,
        UnaryKind::Log => MapOp::Log,
        UnaryKind::Sqrt => MapOp::Sqrt,
        UnaryKind::Reciprocal => MapOp::Recip,
        UnaryKind::Abs => MapOp::Abs,
        UnaryKind::Neg => MapOp::Neg,
        UnaryKind::Sign => MapOp::Sign,
        UnaryKind::Floor => MapOp::Floor,
        UnaryKind::Ceil => MapOp::Ceil,
        UnaryKind::Round => MapOp::RoundHalfEven,
        UnaryKind::Softplus => MapOp::Softplus,
        UnaryKind::Sin => MapOp::Sin,
        UnaryKind::Cos => MapOp::Cos,
        UnaryKind::Tan => MapOp::Tan,
        UnaryKind::Asin => MapOp::Asin,
        UnaryKind::Acos => MapOp::Acos,
        UnaryKind::Atan => MapOp::Atan,
        UnaryKind::Sinh => MapOp::Sinh,
        UnaryKind::Cosh => MapOp::Cosh,
        UnaryKind::Asinh => MapOp::Asinh,
        UnaryKind::Acosh => MapOp::Acosh,
        UnaryKind::Atanh => MapOp::Atanh,
        UnaryKind::Relu2 => return None,
    })
}

/// The step of a formula of two inputs.
pub(super) fn binary_op(kind: BinaryKind) -> MapOp {
    match kind {
        BinaryKind::Add => MapOp::Add,
        BinaryKind::Sub => MapOp::Sub,
        BinaryKind::Mul => MapOp::Mul,
        BinaryKind::Div => MapOp::Div,
        BinaryKind::Max => MapOp::Max,
        BinaryKind::Min => MapOp::Min,
        BinaryKind::Pow => MapOp::Pow,
    }
}

/// The step of a comparison.
pub(super) fn compare_op(kind: CompareKind) -> MapOp {
    match kind {
        CompareKind::Equal => MapOp::Eq,
        CompareKind::NotEqual => MapOp::Ne,
        CompareKind::Less => MapOp::Lt,
        CompareKind::LessEqual => MapOp::Le,
        CompareKind::Greater => MapOp::Gt,
        CompareKind::GreaterEqual => MapOp::Ge,
    }
}

/// The step of an operation on truth values, or on the bits of integers.
pub(super) fn logic_op(kind: LogicKind, truth: bool) -> MapOp {
    match kind {
        LogicKind::And if truth => MapOp::And,
        LogicKind::Or if truth => MapOp::Or,
        LogicKind::Xor if truth => MapOp::Xor,
        LogicKind::And => MapOp::BitAnd,
        LogicKind::Or => MapOp::BitOr,
        LogicKind::Xor => MapOp::BitXor,
        LogicKind::ShiftLeft => MapOp::ShiftLeft,
        LogicKind::ShiftRight => MapOp::ShiftRight,
    }
}
