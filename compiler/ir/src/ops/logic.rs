//! Operations on truth values and on bits, of two inputs that broadcast: a family whose members differ by their formula.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::binary::zip;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// One operation on bits; `and`, `or` and `xor` take `bool` as well as integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logic(pub LogicKind);

macro_rules! logic {
    ($($kind:ident $name:literal $doc:literal $formula:expr;)*) => {
        /// Which formula.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum LogicKind { $(#[doc = $doc] $kind,)* }

        impl LogicKind {
            /// Every member.
            pub const ALL: &'static [LogicKind] = &[$(LogicKind::$kind),*];

            /// The formula on the values of an element type of that many bits.
            pub fn apply(self, a: i128, b: i128, bits: usize) -> i128 {
                let formula: fn(i128, i128, usize) -> i128 = match self { $(LogicKind::$kind => $formula,)* };
                formula(a, b, bits)
            }
        }

        const INFO: &[OpInfo] = &[$(OpInfo { name: $name, inputs: &["a", "b"], outputs: &["y"], doc: $doc },)*];
    };
}

logic! {
    And "and" "y = a and b, bit by bit." |a, b, _| a & b;
    Or "or" "y = a or b, bit by bit." |a, b, _| a | b;
    Xor "xor" "y = a exclusive-or b, bit by bit." |a, b, _| a ^ b;
    ShiftLeft "shift_left" "y = a shifted left by b bits; 0 where b is negative or reaches the width." shift_left;
    ShiftRight "shift_right" "y = a shifted right by b bits, the sign kept; where b is negative or reaches the width only the sign is left." shift_right;
}

/// The shift amount, if it is one that leaves bits.
fn within(b: i128, bits: usize) -> Option<u32> {
    u32::try_from(b).ok().filter(|&b| (b as usize) < bits)
}

fn shift_left(a: i128, b: i128, bits: usize) -> i128 {
    within(b, bits).map_or(0, |b| a << b)
}

fn shift_right(a: i128, b: i128, bits: usize) -> i128 {
    within(b, bits).map_or(if a < 0 { -1 } else { 0 }, |b| a >> b)
}

impl OpDef for Logic {
    const INFO: &'static [OpInfo] = INFO;

    fn from_attrs(name: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        let index = INFO.iter().position(|i| i.name == name).expect("the table was searched by this name");
        Ok(Self(LogicKind::ALL[index]))
    }

    fn info(&self) -> &'static OpInfo {
        &INFO[self.0 as usize]
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        let shifts = matches!(self.0, LogicKind::ShiftLeft | LogicKind::ShiftRight);
        if a.dtype != b.dtype || a.dtype.is_float() || (shifts && a.dtype == DType::Bool) {
            let expected = if shifts { "integers of one type" } else { "bools or integers of one type" };
            return Err(TypeError::new(expected, format!("{a} and {b}")));
        }
        let shape = a.shape.broadcast(&b.shape);
        let shape = shape.ok_or_else(|| TypeError::new("shapes that broadcast", format!("{a} and {b}")))?;
        Ok(vec![TensorType::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        let (dtype, bits) = (a.dtype(), a.dtype().bits());
        let ints = |t| array::integers(t).ok_or_else(|| EvalError::Undefined("expected integers".to_owned()));
        let y = zip(&ints(a)?, &ints(b)?, |a, b| self.0.apply(a, b, bits))?;
        Ok(vec![array::store_integers(dtype, &y)])
    }
}
