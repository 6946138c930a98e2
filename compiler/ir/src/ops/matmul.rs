//! `matmul`: numpy's matrix product.

use ndarray::{ArrayD, Axis, Dimension as _, IxDyn};

use crate::attr::{AttrError, AttrReader};
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// The matrix product of the last two axes, broadcast over the others.
#[derive(Clone, PartialEq, Debug)]
pub struct MatMul;

impl OpDef for MatMul {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "matmul",
        inputs: &["a", "b"],
        outputs: &["y"],
        doc: "numpy's matrix product: leading axes broadcast, a vector operand gets an axis of 1 that the result drops.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        if a.dtype != b.dtype || matches!(a.dtype, DType::Bool) {
            return Err(TypeError::new("numbers of one type", format!("{a} and {b}")));
        }
        let (ra, rb) = (a.shape.rank(), b.shape.rank());
        if ra == 0 || rb == 0 {
            return Err(TypeError::new("operands of rank 1 or more", format!("{a} and {b}")));
        }
        let ka = &a.shape.0[ra - 1];
        let kb = &b.shape.0[rb.saturating_sub(2)];
        if ka != kb {
            return Err(TypeError::new("operands that agree in the summed dimension", format!("{a} and {b}")));
        }
        let batch = |s: &Shape| Shape(s.0[..s.rank().saturating_sub(2)].to_vec());
        let mut shape = batch(&a.shape)
            .broadcast(&batch(&b.shape))
            .ok_or_else(|| TypeError::new("leading dimensions that broadcast", format!("{a} and {b}")))?;
        if ra > 1 {
            shape.0.push(a.shape.0[ra - 2].clone());
        }
        if rb > 1 {
            shape.0.push(b.shape.0[rb - 1].clone());
        }
        Ok(vec![TensorType::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (inputs.at(0), inputs.at(1));
        let dtype = a.dtype();
        if dtype.is_float() {
            let y = product(array::floats(a), array::floats(b))?;
            return Ok(vec![array::store_floats(dtype, &y)]);
        }
        let ints = |t| array::integers(t).ok_or_else(|| EvalError::Undefined("expected integers".to_owned()));
        Ok(vec![array::store_integers(dtype, &product(ints(a)?, ints(b)?)?)])
    }
}

/// The product of two arrays; sums run over ascending k.
fn product<T>(mut a: ArrayD<T>, mut b: ArrayD<T>) -> Result<ArrayD<T>, EvalError>
where
    T: Clone + Copy + Default + std::ops::Mul<Output = T> + std::ops::Add<Output = T>,
{
    let (a_is_vector, b_is_vector) = (a.ndim() == 1, b.ndim() == 1);
    if a_is_vector {
        a = a.insert_axis(Axis(0));
    }
    if b_is_vector {
        b = b.insert_axis(Axis(1));
    }
    let (m, k, n) = (a.shape()[a.ndim() - 2], a.shape()[a.ndim() - 1], b.shape()[b.ndim() - 1]);
    let lead = |s: &[usize]| Shape::fixed(&s[..s.len() - 2]);
    let batch = lead(a.shape()).broadcast(&lead(b.shape())).and_then(|s| s.to_fixed());
    let batch = batch.ok_or_else(|| EvalError::Undefined("leading dimensions do not broadcast".to_owned()))?;
    let full = |rows, cols| IxDyn(&[&batch[..], &[rows, cols]].concat());
    let fit = || EvalError::Undefined("leading dimensions do not broadcast".to_owned());
    let a = a.broadcast(full(m, k)).ok_or_else(fit)?;
    let b = b.broadcast(full(k, n)).ok_or_else(fit)?;
    let mut y = ArrayD::from_elem(full(m, n), T::default());
    for (index, out) in y.indexed_iter_mut() {
        let mut at_a = index.clone();
        let mut at_b = index.clone();
        let rank = at_a.ndim();
        let mut sum = T::default();
        for i in 0..k {
            at_a[rank - 1] = i;
            at_b[rank - 2] = i;
            sum = sum + a[&at_a] * b[&at_b];
        }
        *out = sum;
    }
    let last = y.ndim() - 1;
    if b_is_vector {
        y = y.index_axis_move(Axis(last), 0);
    }
    if a_is_vector {
        let axis = y.ndim() - if b_is_vector { 1 } else { 2 };
        y = y.index_axis_move(Axis(axis), 0);
    }
    Ok(y)
}
