//! Operators of `com.microsoft` that onnxruntime's optimizers make of a product or a convolution and what is around it.
//! Each becomes again what it was made of.

use bitc_ir::ValueId;
use bitc_ir::ops::Clip;

use super::Entry;
use super::Rule::With;
use super::contrib::ms;
use super::elementwise::{
    celu_of, elu_of, hard_sigmoid_of, hard_swish_of, leaky_relu_of, selu_of, softsign_of, thresholded_relu_of,
    with_scalar,
};
use super::product;
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs};

pub(super) const TABLE: &[Entry] = &[
    ms("FusedMatMul", With(matmul)),
    ms("FusedMatMulActivation", With(matmul_activation)),
    ms("FusedGemm", With(gemm)),
    ms("FusedConv", With(conv)),
];

/// An activation and its parameters, in the order of the attributes that its own operator has.
struct Activation<'m> {
    name: &'m str,
    /// The attribute that names parameters in messages.
    attribute: &'static str,
    parameters: Vec<Option<f32>>,
}

impl<'m> Activation<'m> {
    /// That of a product: one attribute for each parameter.
    fn of_product(cx: &mut NodeCx<'_, 'm>) -> Result<Self, Cause> {
        let name = cx.attrs.str_or("activation", "")?;
        let mut parameters = Vec::new();
        for attribute in ["activation_alpha", "activation_beta", "activation_gamma"] {
            parameters.push(cx.attrs.float(attribute)?);
        }
        // No activation that is taken has an axis.
        cx.attrs.ignore(&["activation_axis"]);
        Ok(Self { name, attribute: "activation_alpha", parameters })
    }

    /// That of a convolution: one list of parameters.
    fn of_convolution(cx: &mut NodeCx<'_, 'm>) -> Result<Self, Cause> {
        let name = cx.attrs.str_or("activation", "")?;
        let parameters = cx.attrs.floats("activation_params")?.unwrap_or_default();
        Ok(Self { name, attribute: "activation_params", parameters: parameters.iter().copied().map(Some).collect() })
    }

    fn parameter(&self, i: usize) -> Result<f64, Cause> {
        Ok(f64::from(required(self.attribute, self.parameters.get(i).copied().flatten())?))
    }

    fn apply(&self, cx: &mut NodeCx<'_, '_>, y: ValueId) -> Result<ValueId, Cause> {
        match self.name {
            "" => Ok(y),
            "Relu" => cx.simple("relu", &[y]),
            "Sigmoid" => cx.simple("sigmoid", &[y]),
            "Tanh" => cx.simple("tanh", &[y]),
            "Softplus" => cx.simple("softplus", &[y]),
            "Softsign" => softsign_of(cx, y),
            "HardSwish" => hard_swish_of(cx, y),
            "LeakyRelu" => leaky_relu_of(cx, y, self.parameter(0)?),
            "Elu" => elu_of(cx, y, self.parameter(0)?),
            "Celu" => celu_of(cx, y, self.parameter(0)?),
            "ThresholdedRelu" => thresholded_relu_of(cx, y, self.parameter(0)?),
            "HardSigmoid" => hard_sigmoid_of(cx, y, self.parameter(0)?, self.parameter(1)?),
            // Its parameters are alpha and gamma; a product has alpha, beta and gamma.
            "Selu" => selu_of(cx, y, self.parameter(0)?, self.parameter(self.parameters.len().max(2) - 1)?),
            "Clip" => {
                let dtype = cx.dtype(y);
                let (low, high) = (cx.scalar(dtype, self.parameter(0)?)?, cx.scalar(dtype, self.parameter(1)?)?);
                cx.add(Clip, &[y, low, high])
            }
            other => {
                let known = "`Relu`, `LeakyRelu`, `Sigmoid`, `Tanh`, `Clip`, `HardSigmoid`, `HardSwish`, `Elu`, `Celu`, \
                             `Selu`, `Softplus`, `Softsign` or `ThresholdedRelu`";
                Err(invalid("activation", known, other))
            }
        }
    }
}

/// An operand of a product with its axes exchanged as the attributes say: first the first axis with those of the batch,
/// then the last two.
fn operand(cx: &mut NodeCx<'_, '_>, x: ValueId, over_batch: bool, swapped: bool) -> Result<ValueId, Cause> {
    let rank = cx.rank(x);
    let mut perm: Vec<usize> = (0..rank).collect();
    if over_batch {
        if rank < 3 {
            return Err(Cause::Type(format!("an operand of rank 3 or more expected, found {}", cx.ty(x))));
        }
        perm[..rank - 1].rotate_left(1);
    }
    if swapped && rank > 1 {
        perm.swap(rank - 2, rank - 1);
    }
    cx.transpose(x, perm)
}

/// `alpha * A' * B'`.
fn matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let (swap_a, swap_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    let (batch_a, batch_b) = (cx.attrs.flag("transBatchA", false)?, cx.attrs.flag("transBatchB", false)?);
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (a, b) = (operand(cx, a, batch_a, swap_a)?, operand(cx, b, batch_b, swap_b)?);
    let product = cx.simple("matmul", &[a, b])?;
    Ok(vec![if alpha == 1.0 { product } else { with_scalar(cx, "mul", product, f64::from(alpha))? }])
}

fn matmul_activation(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let activation = Activation::of_product(cx)?;
    let product = matmul(cx)?[0];
    Ok(vec![activation.apply(cx, product)?])
}

fn gemm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let activation = Activation::of_product(cx)?;
    let product = product::gemm(cx)?[0];
    Ok(vec![activation.apply(cx, product)?])
}

/// `activation(conv(X, W) + B + Z)`.
fn conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 4)?;
    let activation = Activation::of_convolution(cx)?;
    let other = cx.opt(3);
    cx.inputs.truncate(3);
    let mut y = product::conv(cx)?[0];
    if let Some(other) = other {
        if cx.dims(other) != cx.dims(y) {
            return Err(Cause::Type(format!("{} to add expected, found {}", cx.ty(y), cx.ty(other))));
        }
        y = cx.simple("add", &[y, other])?;
    }
    Ok(vec![activation.apply(cx, y)?])
}
