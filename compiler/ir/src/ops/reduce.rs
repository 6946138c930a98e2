//! Reductions over a set of axes: a family whose members differ by how they summarise.

use std::borrow::Cow;

use ndarray::{ArrayD, Axis, IxDyn};

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

macro_rules! reduce {
    ($($kind:ident $name:literal $doc:literal;)*) => {
        /// Which summary.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ReduceKind { $(#[doc = $doc] $kind,)* }

        impl ReduceKind {
            /// Every member.
            pub const ALL: &'static [ReduceKind] = &[$(ReduceKind::$kind),*];
        }

        const INFO: &[OpInfo] = &[$(OpInfo { name: $name, inputs: &["x"], outputs: &["y"], doc: $doc },)*];
    };
}

reduce! {
    Sum "reduce_sum" "y = the sum of x over `axes`.";
    Mean "reduce_mean" "y = the mean of x over `axes`.";
    Max "reduce_max" "y = the largest element of x over `axes`; NaN wins.";
    Min "reduce_min" "y = the smallest element of x over `axes`; NaN wins.";
    Prod "reduce_prod" "y = the product of x over `axes`.";
}

/// A summary over a set of axes; floats are summed in f64. The largest of no elements is the least value of the type, the
/// smallest the greatest.
#[derive(Clone, PartialEq, Debug)]
pub struct Reduce {
    /// Which summary.
    pub kind: ReduceKind,
    /// The axes; negative ones count from the end, none means all.
    pub axes: Vec<i64>,
    /// Whether reduced axes stay with size 1.
    pub keep: bool,
}

impl Reduce {
    /// The reduced axes for a rank, ascending, each once.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn resolved(&self, rank: usize) -> Result<Vec<usize>, TypeError> {
        if self.axes.is_empty() {
            return Ok((0..rank).collect());
        }
        let mut axes = self.axes.iter().map(|&a| resolve_axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }
}

impl OpDef for Reduce {
    const INFO: &'static [OpInfo] = INFO;

    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let index = INFO.iter().position(|i| i.name == name).expect("the table was searched by this name");
        let axes = attrs.ints("axes")?.unwrap_or_default();
        Ok(Self { kind: ReduceKind::ALL[index], axes, keep: attrs.bool("keep")?.unwrap_or(true) })
    }

    fn info(&self) -> &'static OpInfo {
        &INFO[self.kind as usize]
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put_unless("axes", self.axes.clone(), Vec::new()).put_unless("keep", self.keep, true).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if x.dtype == DType::Bool {
            return Err(TypeError::new("`x` of a number type", x));
        }
        let axes = self.resolved(x.shape.rank())?;
        let dim = |(i, d): (usize, &Dim)| match (axes.contains(&i), self.keep) {
            (false, _) => Some(d.clone()),
            (true, true) => Some(Dim::from(1)),
            (true, false) => None,
        };
        let shape = Shape(x.shape.0.iter().enumerate().filter_map(dim).collect());
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let axes = self.resolved(x.rank())?;
        let count: usize = axes.iter().map(|&a| x.dims()[a]).product();
        if let Some(values) = array::integers(x) {
            if count == 0 && self.kind == ReduceKind::Mean {
                return Err(EvalError::Undefined("the mean of no integers is not defined".to_owned()));
            }
            let (lowest, highest) = x.dtype().integer_range().unwrap_or((0, 1));
            let y = match self.kind {
                ReduceKind::Sum | ReduceKind::Mean => fold(&values, &axes, self.keep, 0, |a, b| a + b),
                ReduceKind::Max => fold(&values, &axes, self.keep, lowest, |a, b| a.max(b)),
                ReduceKind::Min => fold(&values, &axes, self.keep, highest, |a, b| a.min(b)),
                ReduceKind::Prod => fold(&values, &axes, self.keep, 1, |a, b| a.wrapping_mul(b)),
            };
            let y = if self.kind == ReduceKind::Mean { y.mapv(|v| v / count as i128) } else { y };
            return Ok(vec![array::store_integers(x.dtype(), &y)]);
        }
        let values = array::floats(x);
        let max = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
        let min = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) };
        let y = match self.kind {
            ReduceKind::Sum => fold(&values, &axes, self.keep, 0.0, |a, b| a + b),
            ReduceKind::Mean => fold(&values, &axes, self.keep, 0.0, |a, b| a + b).mapv(|v| v / count as f64),
            ReduceKind::Max => fold(&values, &axes, self.keep, f64::NEG_INFINITY, max),
            ReduceKind::Min => fold(&values, &axes, self.keep, f64::INFINITY, min),
            ReduceKind::Prod => fold(&values, &axes, self.keep, 1.0, |a, b| a * b),
        };
        Ok(vec![array::store_floats(x.dtype(), &y)])
    }
}

/// Folds the given axes, in ascending row-major order.
fn fold<T: Copy>(x: &ArrayD<T>, axes: &[usize], keep: bool, start: T, mut step: impl FnMut(T, T) -> T) -> ArrayD<T> {
    let dims: Vec<usize> = x.shape().iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect();
    let mut y = ArrayD::from_elem(IxDyn(&dims), start);
    for (mut index, &v) in x.indexed_iter() {
        axes.iter().for_each(|&a| index[a] = 0);
        y[&index] = step(y[&index], v);
    }
    if !keep {
        for &axis in axes.iter().rev() {
            y = y.index_axis_move(Axis(axis), 0);
        }
    }
    y
}
