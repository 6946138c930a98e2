//! `top_k`: the largest or smallest elements along an axis, sorted.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// The `k` first elements along an axis after sorting.
#[derive(Clone, PartialEq, Debug)]
pub struct TopK {
    /// How many.
    pub k: usize,
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the largest come first, else the smallest.
    pub largest: bool,
}

impl OpDef for TopK {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "top_k",
        inputs: &["x"],
        outputs: &["values", "indices"],
        doc: "The `k` largest (or, without `largest`, smallest) elements of x along `axis` (default the last), sorted, and \
              their positions as i64; of equal elements the first comes first, and a NaN is larger than every number.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let k = attrs.required_int("k")?;
        let k = usize::try_from(k).ok().filter(|&k| k < 1 << 40).ok_or_else(|| attrs.invalid("k", "a count", k))?;
        Ok(Self { k, axis: attrs.int("axis")?.unwrap_or(-1), largest: attrs.bool("largest")?.unwrap_or(true) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = AttrWriter::new().put("k", self.k as i64).put_unless("axis", self.axis, -1);
        attrs.put_unless("largest", self.largest, true).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let axis = resolve_axis(self.axis, x.shape.rank())?;
        if x.shape.0[axis].as_const().is_some_and(|n| n < self.k) {
            return Err(TypeError::new(format!("at least {} elements along axis {axis}", self.k), x));
        }
        let mut shape = x.shape.clone();
        shape.0[axis] = Dim::from(self.k);
        Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let axis = resolve_axis(self.axis, x.rank())?;
        let size = x.dims()[axis];
        if size < self.k {
            return Err(EvalError::Undefined(format!("{} elements along axis {axis} of {}", self.k, x.ty())));
        }
        let mut dims = x.dims().to_vec();
        dims[axis] = self.k;
        let inner: usize = x.dims()[axis + 1..].iter().product();
        let outer: usize = x.dims()[..axis].iter().product();
        let integers = crate::eval::array::integers(x);
        let integers: Option<Vec<i128>> = integers.map(|v| v.iter().copied().collect());
        let floats = if integers.is_some() { Vec::new() } else { x.to_f64() };
        let compare = |a: usize, b: usize| -> Ordering {
            match &integers {
                Some(v) => v[a].cmp(&v[b]),
                None => {
                    let (a, b) = (floats[a], floats[b]);
                    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
                }
            }
        };
        let mut positions = vec![0; dims.iter().product()];
        let mut indices = vec![0i64; positions.len()];
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |j: usize| (o * size + j) * inner + i;
            let mut order: Vec<usize> = (0..size).collect();
            order.sort_by(|&a, &b| {
                let ordering = compare(at(a), at(b));
                if self.largest { ordering.reverse() } else { ordering }
            });
            for (rank, &j) in order.iter().take(self.k).enumerate() {
                let place = (o * self.k + rank) * inner + i;
                (positions[place], indices[place]) = (at(j), i64::try_from(j).unwrap_or(i64::MAX));
            }
        }
        Ok(vec![select::select(x, &dims, positions.into_iter())?, Tensor::new(&dims, &indices)])
    }
}
