//! `fold-scales`: constant factors and terms after a layer become part of its scale and bias.
//!
//! `layer(x) * c == layer'(x)` with scale and bias times c; `layer(x) + c == layer'(x)` with bias plus c; likewise for
//! division and subtraction. c is one number, or one per output.

use bitc_ir::ops::BinaryKind;
use bitc_ir::{AttrError, AttrReader, Graph, NodeId, Op};

use crate::layer::Layer;
use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct FoldScales;

impl FoldScales {
    pub(crate) const NAME: &'static str = "fold-scales";
    pub(crate) const DOC: &'static str = "Folds constant factors and terms after a layer into its scale and bias.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for FoldScales {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite(graph, &[Rule { name: "into-layer", apply: &into_layer }], Self::NAME, cx)
    }
}

fn into_layer(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let (Op::Binary(op), &[Some(a), Some(b)]) = (&g.node(node).op, &g.node(node).inputs[..]) else {
        return Err(Miss::NoMatch);
    };
    let kind = op.0;
    let (y, c) = match kind {
        BinaryKind::Add | BinaryKind::Mul if g.constant(a).is_some() => (b, a),
        BinaryKind::Add | BinaryKind::Mul | BinaryKind::Sub | BinaryKind::Div => (a, b),
        _ => return Err(Miss::NoMatch),
    };
    if g.constant(c).is_none() || g.ty(y) != g.ty(g.node(node).outputs[0]) {
        return Err(Miss::NoMatch);
    }
    let layer = Layer::only_for(g, y)?;
    let rank = g.ty(y).shape.rank();
    let c = layer.per_output(g, c, rank).ok_or_else(|| Miss::blocked("the constant is not one per output"))?;
    let c: Vec<f64> = c.into_iter().map(f64::from).collect();
    let constant = |v: f64| vec![v; c.len()];
    let (gain, shift) = match kind {
        BinaryKind::Add => (constant(1.0), c),
        BinaryKind::Sub => (constant(1.0), c.iter().map(|v| -v).collect()),
        BinaryKind::Mul => (c.clone(), constant(0.0)),
        _ => (c.iter().map(|v| 1.0 / v).collect(), constant(0.0)),
    };
    Ok(layer.add_affine(g, &gain, &shift)?.into())
}
