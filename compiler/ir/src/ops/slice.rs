//! `slice`: a range of positions along some axes.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

/// Every `steps[i]`th position from `starts[i]` up to, not including, `ends[i]` along `axes[i]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Slice {
    /// The sliced axes, ascending.
    pub axes: Vec<usize>,
    /// The first positions; not negative.
    pub starts: Shape,
    /// The ends of the ranges, not below the starts.
    pub ends: Shape,
    /// The steps, at least 1.
    pub steps: Vec<usize>,
}

impl OpDef for Slice {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "slice",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = every `steps`th position of x from `starts` up to, not including, `ends` along each of `axes`. Positions \
              count from the beginning and lie within x; they may be symbolic.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let list = attrs.ints("axes")?.unwrap_or_default();
        let axes: Vec<usize> = list.iter().filter_map(|&a| usize::try_from(a).ok()).collect();
        let (starts, ends) = (attrs.required_shape("starts")?, attrs.required_shape("ends")?);
        let steps = attrs.ints("steps")?.unwrap_or_else(|| vec![1; axes.len()]);
        let steps: Vec<usize> = steps.iter().filter_map(|&s| usize::try_from(s).ok().filter(|&s| s > 0)).collect();
        if axes.len() != list.len() || !axes.is_sorted_by(|a, b| a < b) {
            return Err(attrs.invalid("axes", "ascending axes", format!("{list:?}")));
        }
        for (name, len) in [("starts", starts.rank()), ("ends", ends.rank()), ("steps", steps.len())] {
            if len != axes.len() {
                return Err(attrs.invalid(name, format!("{} positions, one per axis", axes.len()), len));
            }
        }
        Ok(Self { axes, starts, ends, steps })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let ints = |v: &[usize]| v.iter().map(|&a| a as i64).collect::<Vec<_>>();
        let attrs = AttrWriter::new().put("axes", ints(&self.axes)).put("starts", &self.starts).put("ends", &self.ends);
        attrs.put_unless("steps", ints(&self.steps), vec![1; self.axes.len()]).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let mut y = x.clone();
        for (i, &axis) in self.axes.iter().enumerate() {
            let (start, end, step) = (&self.starts.0[i], &self.ends.0[i], self.steps[i]);
            let wrong = || TypeError::new(format!("`x` that has positions {start} to {end} along axis {axis}"), x);
            let dim = x.shape.0.get(axis).ok_or_else(wrong)?;
            let in_order = |a: &Dim, b: &Dim| match (a.as_const(), b.as_const()) {
                (Some(a), Some(b)) => a <= b,
                _ => true,
            };
            if !in_order(start, end) || !in_order(end, dim) {
                return Err(wrong());
            }
            let span = end.sub(start).and_then(|d| d.add(&Dim::from(step - 1))).and_then(|d| d.floor_div(step));
            y.shape.0[axis] = span.ok_or_else(wrong)?;
        }
        Ok(vec![y])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let (starts, ends) = (cx.dims(&self.starts)?, cx.dims(&self.ends)?);
        let mut dims = x.dims().to_vec();
        for (i, &axis) in self.axes.iter().enumerate() {
            let (start, end) = (starts[i], ends[i]);
            if start > end || end > dims[axis] {
                let found = format!("positions {start} to {end} along axis {axis} of {}", x.ty());
                return Err(EvalError::Undefined(found));
            }
            dims[axis] = (end - start).div_ceil(self.steps[i]);
        }
        let positions = select::indices(&dims).map(|mut index| {
            for (i, &axis) in self.axes.iter().enumerate() {
                index[axis] = starts[i] + index[axis] * self.steps[i];
            }
            select::flatten(&index, x.dims())
        });
        Ok(vec![select::select(x, &dims, positions)?])
    }
}
