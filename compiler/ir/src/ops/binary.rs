//! Elementwise operations of two inputs that broadcast: a family whose members differ by their formula.

use ndarray::{ArrayD, IxDyn, Zip};

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// One elementwise operation of two inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binary(pub BinaryKind);

macro_rules! binary {
    ($($kind:ident $name:literal $doc:literal $float:expr, $int:expr;)*) => {
        /// Which formula.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum BinaryKind { $(#[doc = $doc] $kind,)* }

        impl BinaryKind {
            /// Every member.
            pub const ALL: &'static [BinaryKind] = &[$(BinaryKind::$kind),*];

            /// The formula on floats.
            pub fn float(self, a: f64, b: f64) -> f64 {
                let formula: fn(f64, f64) -> f64 = match self { $(BinaryKind::$kind => $float,)* };
                formula(a, b)
            }

            /// The formula on integers; `None` where it has no result, as for a division by zero.
            pub fn integer(self, a: i128, b: i128) -> Option<i128> {
                let formula: fn(i128, i128) -> Option<i128> = match self { $(BinaryKind::$kind => $int,)* };
                formula(a, b)
            }
        }

        const INFO: &[OpInfo] = &[$(OpInfo { name: $name, inputs: &["a", "b"], outputs: &["y"], doc: $doc },)*];
    };
}

binary! {
    Add "add" "y = a + b." |a, b| a + b, |a, b| a.checked_add(b);
    Sub "sub" "y = a - b." |a, b| a - b, |a, b| a.checked_sub(b);
    Mul "mul" "y = a * b." |a, b| a * b, |a, b| Some(a.wrapping_mul(b));
    Div "div" "y = a / b; integers round toward zero." |a, b| a / b, |a, b| a.checked_div(b);
    Max "max" "y = the larger of a and b; NaN wins." |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }, |a, b| Some(a.max(b));
    Min "min" "y = the smaller of a and b; NaN wins." |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }, |a, b| Some(a.min(b));
    Pow "pow" "y = a to the power of b." f64::powf, |a, b| u32::try_from(b).ok().map(|b| a.wrapping_pow(b));
}

impl OpDef for Binary {
    const INFO: &'static [OpInfo] = INFO;

    fn from_attrs(name: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        let index = INFO.iter().position(|i| i.name == name).expect("the table was searched by this name");
        Ok(Self(BinaryKind::ALL[index]))
    }

    fn info(&self) -> &'static OpInfo {
        &INFO[self.0 as usize]
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        if a.dtype != b.dtype || a.dtype == DType::Bool {
            return Err(TypeError::new("numbers of one type", format!("{a} and {b}")));
        }
        let shape = a.shape.broadcast(&b.shape);
        let shape = shape.ok_or_else(|| TypeError::new("shapes that broadcast", format!("{a} and {b}")))?;
        Ok(vec![TensorType::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        if let (Some(x), Some(y)) = (array::integers(a), array::integers(b)) {
            let mut undefined = false;
            let out = zip(&x, &y, |a, b| {
                self.0.integer(a, b).unwrap_or_else(|| {
                    undefined = true;
                    0
                })
            })?;
            if undefined {
                let name = self.info().name;
                return Err(EvalError::Undefined(format!("integer `{name}` has no result for some elements")));
            }
            return Ok(vec![array::store_integers(a.dtype(), &out)]);
        }
        let out = zip(&array::floats(a), &array::floats(b), |a, b| self.0.float(a, b))?;
        Ok(vec![array::store_floats(a.dtype(), &out)])
    }
}

/// Applies a formula to two arrays that broadcast.
pub(super) fn zip<T: Copy, U: Clone + Default>(
    a: &ArrayD<T>,
    b: &ArrayD<T>,
    mut formula: impl FnMut(T, T) -> U,
) -> Result<ArrayD<U>, EvalError> {
    let wrong = || EvalError::Undefined(format!("shapes {:?} and {:?} do not broadcast", a.shape(), b.shape()));
    let dims = Shape::fixed(a.shape()).broadcast(&Shape::fixed(b.shape())).and_then(|s| s.to_fixed()).ok_or_else(wrong)?;
    let mut out = ArrayD::from_elem(IxDyn(&dims), U::default());
    let a = a.broadcast(IxDyn(&dims)).ok_or_else(wrong)?;
    let b = b.broadcast(IxDyn(&dims)).ok_or_else(wrong)?;
    Zip::from(&mut out).and(&a).and(&b).for_each(|y, &a, &b| *y = formula(a, b));
    Ok(out)
}
