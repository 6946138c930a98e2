//! Comparisons of two inputs that broadcast: a family whose members differ by their relation.

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::binary::zip;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// One comparison; the result is `bool`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compare(pub CompareKind);

macro_rules! compare {
    ($($kind:ident $name:literal $doc:literal $relation:tt;)*) => {
        /// Which relation.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum CompareKind { $(#[doc = $doc] $kind,)* }

        impl CompareKind {
            /// Every member.
            pub const ALL: &'static [CompareKind] = &[$(CompareKind::$kind),*];

            /// Whether the relation holds; with NaN none does but `not_equal`.
            pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
                match self { $(CompareKind::$kind => a $relation b,)* }
            }
        }

        const INFO: &[OpInfo] = &[$(OpInfo { name: $name, inputs: &["a", "b"], outputs: &["y"], doc: $doc },)*];
    };
}

compare! {
    Equal "equal" "y = a == b." ==;
    NotEqual "not_equal" "y = a != b." !=;
    Less "less" "y = a < b." <;
    LessEqual "less_equal" "y = a <= b." <=;
    Greater "greater" "y = a > b." >;
    GreaterEqual "greater_equal" "y = a >= b." >=;
}

impl OpDef for Compare {
    const INFO: &'static [OpInfo] = INFO;

    fn from_attrs(name: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        let index = INFO.iter().position(|i| i.name == name).expect("the table was searched by this name");
        Ok(Self(CompareKind::ALL[index]))
    }

    fn info(&self) -> &'static OpInfo {
        &INFO[self.0 as usize]
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        if a.dtype != b.dtype {
            return Err(TypeError::new("operands of one type", format!("{a} and {b}")));
        }
        let shape = a.shape.broadcast(&b.shape);
        let shape = shape.ok_or_else(|| TypeError::new("shapes that broadcast", format!("{a} and {b}")))?;
        Ok(vec![TensorType::new(DType::Bool, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        let holds = match (array::integers(a), array::integers(b)) {
            (Some(a), Some(b)) => zip(&a, &b, |a, b| i128::from(self.0.holds(a, b)))?,
            _ => zip(&array::floats(a), &array::floats(b), |a, b| i128::from(self.0.holds(a, b)))?,
        };
        Ok(vec![array::store_integers(DType::Bool, &holds)])
    }
}
