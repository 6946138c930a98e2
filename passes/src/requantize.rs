//! Layers of integer sums whose results are quantised again, found once for all who ask: `fold-thresholds` says what
//! becomes of the sums, and lowering makes one instruction of layer and quantiser.
//!
//! What may stand between the two is one multiplication or division by a number, a rounding and a whole number added to
//! it, and changes of shape.

use bitc_ir::graph::Uses;
use bitc_ir::ops::{Binary, BinaryKind, Unary, UnaryKind};
use bitc_ir::{Graph, NodeId, Op, ValueId};

/// A layer of integer sums and the quantiser behind it: `q = quantize(round(y * step) + offset)`, or `y / step`.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain {
    /// The layer, what is in between, and the quantiser.
    pub members: Vec<NodeId>,
    /// What the results of the layer are multiplied with or divided by.
    pub step: f32,
    /// Whether they are divided.
    pub divide: bool,
    /// What is added behind the rounding.
    pub offset: i32,
    /// Whether nothing else reads the results of the layer, or what is in between.
    pub alone: bool,
}

impl Chain {
    /// The chain that ends with a node.
    pub fn ending(graph: &Graph, uses: &Uses, quantizer: NodeId) -> Option<Self> {
        let Op::QuantizeAct(_) = graph.node(quantizer).op else { return None };
        let mut chain = Self { members: vec![quantizer], step: 1.0, divide: false, offset: 0, alone: true };
        let (mut moved, mut rounded, mut scaled) = (false, false, false);
        let mut at = graph.input(quantizer, 0)?;
        loop {
            let id = graph.producer_id(at)?;
            chain.alone &= uses.count(at) == 1;
            chain.members.push(id);
            at = match &graph.node(id).op {
                Op::Reshape(_) | Op::Flatten(_) => graph.input(id, 0)?,
                Op::Unary(Unary(UnaryKind::Round)) if !rounded && !scaled => {
                    rounded = true;
                    graph.input(id, 0)?
                }
                Op::Binary(Binary(kind)) => {
                    let (x, c, number) = with_number(graph, id)?;
                    let behind = graph.producer_id(x).map(|n| &graph.node(n).op);
                    match kind {
                        BinaryKind::Add | BinaryKind::Sub
                            if !moved && !rounded && matches!(behind, Some(Op::Unary(Unary(UnaryKind::Round)))) =>
                        {
                            let whole = number.fract() == 0.0 && number.abs() <= 1024.0;
                            let by = whole.then_some(number as i32)?;
                            let negated = *kind == BinaryKind::Sub && graph.input(id, 1) == Some(c);
                            chain.offset = if negated { -by } else { by };
                            moved = *kind == BinaryKind::Add || negated;
                            moved.then_some(x)?
                        }
                        BinaryKind::Mul | BinaryKind::Div if !scaled => {
                            scaled = true;
                            chain.divide = *kind == BinaryKind::Div;
                            chain.step = number;
                            (!chain.divide || graph.input(id, 1) == Some(c)).then_some(x)?
                        }
                        _ => return None,
                    }
                }
                Op::BitLinear(op) if op.group == 0 => break,
                Op::BitConv2d(_) => break,
                _ => return None,
            };
        }
        chain.members.reverse();
        Some(chain)
    }

    /// The layer.
    pub fn layer(&self) -> NodeId {
        self.members[0]
    }
}

/// The inputs of an operation on a tensor of `f32` and one number, which keeps the shape of the tensor.
fn with_number(graph: &Graph, id: NodeId) -> Option<(ValueId, ValueId, f32)> {
    let (a, b) = (graph.input(id, 0)?, graph.input(id, 1)?);
    let number = |v: ValueId| graph.constant(v).filter(|t| t.numel() == 1)?.to_vec::<f32>()?.first().copied();
    let (x, c, number) = match number(b) {
        Some(number) => (a, b, number),
        None => (b, a, number(a)?),
    };
    (graph.ty(x) == graph.ty(graph.node(id).outputs[0])).then_some((x, c, number))
}
