//! `fuse-bias-and-activation`: a layer adds its bias and applies its activation before it stores.
//!
//! `linear(x, w) + b == linear(x, w, b)` for a constant b with one number per output, and
//! `act(layer(x)) == layer{act}(x)`. The activation is the same formula on the same number, so the second is exact.

use bitc_ir::ops::{Activation, BinaryKind};
use bitc_ir::{AttrError, AttrReader, Graph, NodeId, Op};

use crate::layer::Layer;
use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct FuseBiasAndActivation;

impl FuseBiasAndActivation {
    pub(crate) const NAME: &'static str = "fuse-bias-and-activation";
    pub(crate) const DOC: &'static str = "Lets a layer add a bias and apply an activation before it stores.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for FuseBiasAndActivation {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let rules = [Rule { name: "bias", apply: &bias }, Rule { name: "activation", apply: &activation }];
        rewrite(graph, &rules, Self::NAME, cx)
    }
}

fn bias(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let (Op::Binary(op), &[Some(a), Some(b)]) = (&g.node(node).op, &g.node(node).inputs[..]) else {
        return Err(Miss::NoMatch);
    };
    if op.0 != BinaryKind::Add {
        return Err(Miss::NoMatch);
    }
    let (y, c) = if g.constant(a).is_some() { (b, a) } else { (a, b) };
    if g.constant(c).is_none() || g.ty(y) != g.ty(g.node(node).outputs[0]) {
        return Err(Miss::NoMatch);
    }
    let layer = Layer::only_for(g, y)?;
    let rank = g.ty(y).shape.rank();
    let c = layer.per_output(g, c, rank).ok_or_else(|| Miss::blocked("the constant is not one per output"))?;
    let shift: Vec<f64> = c.into_iter().map(f64::from).collect();
    Ok(layer.add_affine(g, &vec![1.0; shift.len()], &shift)?.into())
}

fn activation(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Unary(op) = g.node(node).op else { return Err(Miss::NoMatch) };
    let act = Activation::from_unary(op.0).ok_or(Miss::NoMatch)?;
    let y = g.input(node, 0).ok_or(Miss::NoMatch)?;
    let layer = Layer::only_for(g, y)?;
    layer.expect_no_act()?;
    Ok(layer.add_with_act(g, act)?.into())
}
