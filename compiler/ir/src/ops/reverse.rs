//! `reverse`: the positions of some axes in opposite order.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The positions of `axes` in opposite order.
#[derive(Clone, PartialEq, Debug)]
pub struct Reverse {
    /// The axes, each once.
    pub axes: Vec<usize>,
}

impl OpDef for Reverse {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "reverse",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = x with the positions along each of `axes` in opposite order.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let list = attrs.ints("axes")?.unwrap_or_default();
        let axes: Vec<usize> = list.iter().filter_map(|&a| usize::try_from(a).ok()).collect();
        let mut once = axes.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() != list.len() {
            return Err(attrs.invalid("axes", "axes, each once", format!("{list:?}")));
        }
        Ok(Self { axes })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("axes", self.axes.iter().map(|&a| a as i64).collect::<Vec<_>>()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        match self.axes.iter().find(|&&a| a >= x.shape.rank()) {
            Some(axis) => Err(TypeError::new(format!("`x` that has axis {axis}"), x)),
            None => Ok(vec![x.clone()]),
        }
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let positions = select::indices(x.dims()).map(|mut index| {
            for &axis in &self.axes {
                index[axis] = x.dims()[axis] - 1 - index[axis];
            }
            select::flatten(&index, x.dims())
        });
        Ok(vec![select::select(x, x.dims(), positions)?])
    }
}
