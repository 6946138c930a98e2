//! `transpose`: axes in another order.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::{Blob, Tensor};
use crate::types::{Shape, TensorType};

/// `y` has axis `perm[i]` of `x` as axis `i`.
#[derive(Clone, PartialEq, Debug)]
pub struct Transpose {
    /// Where each axis of the result comes from.
    pub perm: Vec<usize>,
}

impl OpDef for Transpose {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "transpose",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y has axis perm[i] of x as its axis i.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let Some(perm) = attrs.ints("perm")? else { return Err(AttrError::Missing { op: "transpose", attr: "perm" }) };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if sorted.iter().enumerate().any(|(i, &p)| i64::try_from(i) != Ok(p)) {
            return Err(attrs.invalid("perm", "each axis once", format!("{perm:?}")));
        }
        Ok(Self { perm: perm.into_iter().map(|p| p as usize).collect() })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("perm", self.perm.iter().map(|&p| p as i64).collect::<Vec<_>>()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        if x.shape.rank() != self.perm.len() {
            return Err(TypeError::new(format!("`x` of rank {}", self.perm.len()), x));
        }
        let shape = Shape(self.perm.iter().map(|&p| x.shape.0[p].clone()).collect());
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let bytes = match x.dtype().size_bytes() {
            1 => permuted::<1>(x, &self.perm),
            2 => permuted::<2>(x, &self.perm),
            4 => permuted::<4>(x, &self.perm),
            _ => permuted::<8>(x, &self.perm),
        };
        let dims: Vec<usize> = self.perm.iter().map(|&p| x.dims()[p]).collect();
        let y = Tensor::from_blob(x.dtype(), &dims, Blob::new(bytes));
        Ok(vec![y.expect("the same elements in another order")])
    }
}

/// The elements of a tensor, `SIZE` bytes each, in the order of its permuted axes.
fn permuted<const SIZE: usize>(x: &Tensor, perm: &[usize]) -> Vec<u8> {
    let (elements, _) = x.bytes().as_chunks::<SIZE>();
    let array = ndarray::ArrayViewD::from_shape(x.dims(), elements).expect("one element each");
    let permuted: Vec<[u8; SIZE]> = array.permuted_axes(perm).iter().copied().collect();
    permuted.into_flattened()
}
