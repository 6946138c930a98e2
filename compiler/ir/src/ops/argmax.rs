//! `argmax` and `argmin`: the position of the largest or smallest element along an axis.

use std::borrow::Cow;

use ndarray::Axis;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// The position of an extreme element.
#[derive(Clone, PartialEq, Debug)]
pub struct ArgMax {
    /// Whether the smallest is sought.
    pub min: bool,
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the axis stays with size 1.
    pub keep: bool,
    /// Whether the last of equal elements is taken.
    pub last: bool,
}

impl OpDef for ArgMax {
    const INFO: &'static [OpInfo] = &[
        OpInfo { name: "argmax", inputs: &["x"], outputs: &["y"], doc: "y = the position of the largest element along `axis`, the first of equals unless `last`; NaN wins." },
        OpInfo { name: "argmin", inputs: &["x"], outputs: &["y"], doc: "y = the position of the smallest element along `axis`, the first of equals unless `last`; NaN wins." },
    ];

    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self {
            min: name == "argmin",
            axis: attrs.int("axis")?.unwrap_or(-1),
            keep: attrs.bool("keep")?.unwrap_or(false),
            last: attrs.bool("last")?.unwrap_or(false),
        })
    }

    fn info(&self) -> &'static OpInfo {
        &Self::INFO[usize::from(self.min)]
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = AttrWriter::new().put_unless("axis", self.axis, -1);
        attrs.put_unless("keep", self.keep, false).put_unless("last", self.last, false).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let axis = resolve_axis(self.axis, x.shape.rank())?;
        let mut shape = x.shape.clone();
        if shape.0[axis].as_const() == Some(0) {
            return Err(TypeError::new("an axis that is not empty", x));
        }
        if self.keep {
            shape.0[axis] = Dim::from(1);
        } else {
            shape.0.remove(axis);
        }
        Ok(vec![TensorType::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let axis = resolve_axis(self.axis, x.rank())?;
        let mut dims = x.dims().to_vec();
        if dims[axis] == 0 {
            return Err(EvalError::Undefined("the axis is empty".to_owned()));
        }
        // Integers are compared as such: beyond 2^53 they differ where their floats do not.
        let y: Vec<i64> = match array::integers(x) {
            Some(values) => values.lanes(Axis(axis)).into_iter().map(|lane| self.position(lane.iter().copied())).collect(),
            None => array::floats(x).lanes(Axis(axis)).into_iter().map(|lane| self.position(lane.iter().copied())).collect(),
        };
        if self.keep {
            dims[axis] = 1;
        } else {
            dims.remove(axis);
        }
        Ok(vec![Tensor::new(&dims, &y)])
    }
}

impl ArgMax {
    /// The position among values; a NaN wins over every number, as numpy has it.
    fn position<T: PartialOrd + Copy>(&self, values: impl Iterator<Item = T>) -> i64 {
        let is_nan = |v: T| v.partial_cmp(&v).is_none();
        let mut best: Option<(usize, T)> = None;
        for (i, v) in values.enumerate() {
            let wins = match best {
                None => true,
                Some((_, b)) if is_nan(v) || is_nan(b) => is_nan(v) && (!is_nan(b) || self.last),
                Some((_, b)) => (if self.min { v < b } else { v > b }) || (self.last && v == b),
            };
            if wins {
                best = Some((i, v));
            }
        }
        best.map_or(0, |(i, _)| i as i64)
    }
}
