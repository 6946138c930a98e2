//! `linear`: a fully connected layer with float weights.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::activation::Activation;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_rank, expect_shape};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// `y = act(x · wᵀ + bias)` over the last axis of `x`.
#[derive(Clone, PartialEq, Debug)]
pub struct Linear {
    /// Applied to the sum.
    pub act: Activation,
}

impl OpDef for Linear {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "linear",
        inputs: &["x", "w", "bias?"],
        outputs: &["y"],
        doc: "y[.., n] = act(sum over k of x[.., k] * w[n, k] + bias[n]); sums are kept in f64 here.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { act: Activation::read(attrs)? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().word("act", self.act, Activation::None).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, w) = (inputs.at(0), inputs.at(1));
        expect_dtype("x", x, &[DType::F32])?;
        expect_dtype("w", w, &[DType::F32])?;
        Ok(vec![TensorType::new(DType::F32, layer_shape(x, w, inputs.get(2))?)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, w) = (inputs.at(0).to_f64(), inputs.at(1).to_f64());
        let bias = inputs.get(2).map(array::f32s).transpose()?;
        let (n, k) = (inputs.at(1).dims()[0], inputs.at(1).dims()[1]);
        let rows: usize = inputs.at(0).dims().iter().rev().skip(1).product();
        let mut y = Vec::with_capacity(rows * n);
        for row in 0..rows {
            for col in 0..n {
                let pairs = x[row * k..][..k].iter().zip(&w[col * k..][..k]);
                let sum: f64 = pairs.map(|(a, b)| a * b).sum();
                let bias = bias.as_ref().map_or(0.0, |b| f64::from(b[col]));
                y.push(self.act.apply((sum + bias) as f32));
            }
        }
        let mut dims = inputs.at(0).dims().to_vec();
        *dims.last_mut().expect("x has a last axis") = n;
        Ok(vec![Tensor::new(&dims, &y)])
    }
}

/// The shape of a fully connected layer: `x[.., k]`, `w[n, k]`, `bias[n]` give `[.., n]`.
pub(super) fn layer_shape(x: &TensorType, w: &TensorType, bias: Option<&TensorType>) -> Result<Shape, TypeError> {
    expect_rank("w", w, 2)?;
    let (n, k): (&Dim, &Dim) = (&w.shape.0[0], &w.shape.0[1]);
    if x.shape.last() != Some(k) {
        return Err(TypeError::new(format!("`x` with last dimension {k} for weights {w}"), x));
    }
    if let Some(bias) = bias {
        expect_dtype("bias", bias, &[DType::F32])?;
        expect_shape("bias", bias, std::slice::from_ref(n))?;
    }
    let mut shape = x.shape.clone();
    shape.0.pop();
    shape.0.push(n.clone());
    Ok(shape)
}
