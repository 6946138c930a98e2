//! `fold-batch-norm`: a batch norm after a layer becomes part of its scale and bias.
//!
//! `bn(y) == g * y + (beta - g * mean)` with `g = gamma / sqrt(var + eps)` per output; a layer takes both in.

use bitc_ir::{AttrError, AttrReader, Graph, NodeId, Op};

use crate::layer::Layer;
use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct FoldBatchNorm;

impl FoldBatchNorm {
    pub(crate) const NAME: &'static str = "fold-batch-norm";
    pub(crate) const DOC: &'static str = "Folds a batch norm after a layer into its scale and bias.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite(graph, &[Rule { name: "into-layer", apply: &into_layer }], Self::NAME, cx)
    }
}

fn into_layer(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::BatchNorm(op) = &g.node(node).op else { return Err(Miss::NoMatch) };
    let eps = f64::from(op.eps);
    let y = g.input(node, 0).ok_or(Miss::NoMatch)?;
    let layer = Layer::only_for(g, y)?;
    let rank = g.ty(y).shape.rank();
    // A batch norm counts channels on axis 1; a linear layer counts outputs on the last.
    if rank != 2 && !matches!(g.producer_id(y).map(|p| &g.node(p).op), Some(Op::Conv2d(_) | Op::BitConv2d(_))) {
        return Err(Miss::blocked("the batch norm is not over the outputs of the layer"));
    }
    let mut statistics = Vec::new();
    for i in 1..5 {
        let value = g.input(node, i).ok_or(Miss::NoMatch)?;
        statistics.push(g.constant(value).ok_or_else(|| Miss::blocked("its statistics are not constant"))?.to_f64());
    }
    let [gamma, beta, mean, var] = &statistics[..] else { return Err(Miss::NoMatch) };
    if let Some(i) = var.iter().position(|v| v + eps <= 0.0 || !v.is_finite()) {
        return Err(Miss::blocked(format!("variance {i} plus epsilon is {}", var[i] + eps)));
    }
    let gain: Vec<f64> = gamma.iter().zip(var).map(|(g, v)| g / (v + eps).sqrt()).collect();
    let shift: Vec<f64> = gain.iter().zip(beta).zip(mean).map(|((g, b), m)| b - g * m).collect();
    Ok(layer.add_affine(g, &gain, &shift)?.into())
}
