//! `cumsum` and `cumprod`: running sums and products along an axis.

use std::borrow::Cow;

use ndarray::{ArrayD, Axis};

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Running sums or products.
#[derive(Clone, PartialEq, Debug)]
pub struct Cumulate {
    /// Whether products are built instead of sums.
    pub product: bool,
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether an element does not count itself.
    pub exclusive: bool,
    /// Whether it runs from the end.
    pub reverse: bool,
}

impl OpDef for Cumulate {
    const INFO: &'static [OpInfo] = &[
        OpInfo {
            name: "cumsum",
            inputs: &["x"],
            outputs: &["y"],
            doc: "y = the sum of x along `axis` up to each position, itself included unless `exclusive`, from the end if \
                  `reverse`.",
        },
        OpInfo {
            name: "cumprod",
            inputs: &["x"],
            outputs: &["y"],
            doc: "y = the product of x along `axis` up to each position, itself included unless `exclusive`, from the end \
                  if `reverse`.",
        },
    ];

    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self {
            product: name == "cumprod",
            axis: attrs.required_int("axis")?,
            exclusive: attrs.bool("exclusive")?.unwrap_or(false),
            reverse: attrs.bool("reverse")?.unwrap_or(false),
        })
    }

    fn info(&self) -> &'static OpInfo {
        &Self::INFO[usize::from(self.product)]
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = AttrWriter::new().put("axis", self.axis);
        attrs.put_unless("exclusive", self.exclusive, false).put_unless("reverse", self.reverse, false).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if x.dtype == DType::Bool {
            return Err(TypeError::new("`x` of a number type", x));
        }
        resolve_axis(self.axis, x.shape.rank())?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let axis = Axis(resolve_axis(self.axis, x.rank())?);
        if let Some(values) = array::integers(x) {
            let step = |a: i128, b: i128| if self.product { a.wrapping_mul(b) } else { a.wrapping_add(b) };
            let y = self.run(values, axis, i128::from(self.product), step);
            return Ok(vec![array::store_integers(x.dtype(), &y)]);
        }
        let start = if self.product { 1.0 } else { 0.0 };
        let y = self.run(array::floats(x), axis, start, |a, b| if self.product { a * b } else { a + b });
        Ok(vec![array::store_floats(x.dtype(), &y)])
    }
}

impl Cumulate {
    fn run<T: Copy>(&self, mut x: ArrayD<T>, axis: Axis, start: T, step: impl Fn(T, T) -> T) -> ArrayD<T> {
        for mut lane in x.lanes_mut(axis) {
            let mut total = start;
            let len = lane.len();
            for i in 0..len {
                let value = &mut lane[if self.reverse { len - 1 - i } else { i }];
                let next = step(total, *value);
                *value = if self.exclusive { total } else { next };
                total = next;
            }
        }
        x
    }
}
