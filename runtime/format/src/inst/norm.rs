//! Softmax and normalisations over trailing axes.

use super::moves::axis_or_end;
use super::{Contract, axis_in, instruction};
use crate::contract::attribute;
use crate::{BufferId, Cx, Fault, MAX_RANK, Operand};

instruction! {
    /// `y = exp(x - max x) / sum(exp(x - max x))` along an axis, or its logarithm.
    Softmax {
        /// The result.
        y: BufferId,
        /// The logits.
        x: Operand,
        /// The axis.
        axis: u32,
        /// Whether the logarithm is wanted.
        log: bool,
    }
}

impl Contract for Softmax {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let x = cx.ty("x", self.x)?.f32()?;
        cx.ty("y", self.y)?.f32()?.same_shape(&x)?;
        axis_in(self.axis, x.shape.rank())?;
        Ok(())
    }
}

instruction! {
    /// `y = (x - mean) / sqrt(variance + eps) * gamma + beta` over the axes from `axis` on.
    LayerNorm {
        /// The result.
        y: BufferId,
        /// What is normalised.
        x: Operand,
        /// The factors, one per normalised element.
        gamma: Option<Operand>,
        /// The summands, one per normalised element.
        beta: Option<Operand>,
        /// The first normalised axis.
        axis: u32,
        /// Added to the variance.
        eps: f32,
    }
}

impl Contract for LayerNorm {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        normalised(cx, self.y, self.x, self.axis, self.eps, &[("gamma", self.gamma), ("beta", self.beta)])
    }
}

instruction! {
    /// `y = x / sqrt(mean(x * x) + eps) * gamma` over the axes from `axis` on.
    RmsNorm {
        /// The result.
        y: BufferId,
        /// What is normalised.
        x: Operand,
        /// The factors, one per normalised element.
        gamma: Option<Operand>,
        /// The first normalised axis.
        axis: u32,
        /// Added to the mean of squares.
        eps: f32,
    }
}

impl Contract for RmsNorm {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        normalised(cx, self.y, self.x, self.axis, self.eps, &[("gamma", self.gamma)])
    }
}

fn normalised(
    cx: &Cx<'_>,
    y: BufferId,
    x: Operand,
    axis: u32,
    eps: f32,
    parameters: &[(&'static str, Option<Operand>)],
) -> Result<(), Fault> {
    let x = cx.ty("x", x)?.f32()?;
    cx.ty("y", y)?.f32()?.same_shape(&x)?;
    let axis = axis_or_end(axis, x.shape.rank())?;
    attribute("eps", eps.to_bits(), eps >= 0.0)?;
    let normalised = x.count(axis, MAX_RANK)?;
    for &(name, operand) in parameters {
        if let Some(ty) = cx.optional(name, operand)? {
            ty.f32()?.elements(normalised)?;
        }
    }
    Ok(())
}
