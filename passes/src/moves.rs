//! Integers behind what only moves elements: zeros put between and around the pixels of an image, other dimensions.
//!
//! `m(dequantize(q, s)) == dequantize(m(q), m(s))` for moves that leave axes 0 and 1, images and channels, alone. s is one
//! number, one per image, or one per pixel. A transposed convolution is imported so: a convolution of an image that was
//! spread out; and a convolution along one axis: of an image of height one.

use bitc_ir::ops::pad::PadMode;
use bitc_ir::ops::{Dequantize, Reshape};
use bitc_ir::{DType, Dim, NodeId, Op, Shape, ValueId};

use crate::rewrite::{Editor, Miss};

/// The most moves that are looked through.
const DEPTH: usize = 32;

/// Moves of dequantised integers.
pub(crate) struct Moves {
    q: ValueId,
    scale: ValueId,
    /// The last one first.
    moves: Vec<NodeId>,
}

impl Moves {
    /// The moves behind which a value of images is found as integers. Blocked where there are integers, but behind moves of
    /// another kind.
    pub(crate) fn of(g: &Editor<'_>, value: ValueId) -> Result<Self, Miss> {
        let (mut at, mut moves, mut obstacle) = (value, Vec::new(), None);
        while moves.len() < DEPTH {
            let node = g.producer_id(at).ok_or(Miss::NoMatch)?;
            let x = g.input(node, 0).ok_or(Miss::NoMatch)?;
            match &g.node(node).op {
                Op::Dequantize(Dequantize { group: 0 }) if g.ty(x).dtype == DType::I8 && !moves.is_empty() => {
                    let scale = g.input(node, 1).ok_or(Miss::NoMatch)?;
                    let (images, scales) = (&g.ty(x).shape, &g.ty(scale).shape);
                    let one_channel = scales.rank() == images.rank() && scales.0.get(1).is_some_and(Dim::is_one);
                    let fits = is_single(scales) || one_channel;
                    let obstacle = obstacle.or((!fits).then_some("their scale differs between channels"));
                    return match obstacle {
                        Some(why) => {
                            Err(Miss::blocked(format!("its activations are moved after they are quantised, and {why}")))
                        }
                        None => Ok(Self { q: x, scale, moves }),
                    };
                }
                Op::Pad(_) | Op::Reshape(_) | Op::Slice(_) => obstacle = obstacle.or(crossing(g, node)),
                _ => return Err(Miss::NoMatch),
            }
            moves.push(node);
            at = x;
        }
        Err(Miss::NoMatch)
    }

    /// The integers and their scales after the moves.
    pub(crate) fn apply(&self, g: &mut Editor<'_>) -> Result<(ValueId, ValueId), Miss> {
        let (mut q, mut scale) = (self.q, self.scale);
        let shape = g.ty(scale).shape.clone();
        let (single, per_pixel) = (is_single(&shape), shape.0.iter().skip(2).any(|d| !d.is_one()));
        for &node in self.moves.iter().rev() {
            let op = g.node(node).op.clone();
            q = g.add(op.clone(), &[Some(q)])?;
            scale = match op {
                _ if single => scale,
                Op::Reshape(op) => {
                    let pixels = |(axis, d): (usize, &Dim)| {
                        if axis == 0 || (per_pixel && axis > 1) { d.clone() } else { Dim::from(1) }
                    };
                    g.add(
                        Reshape { shape: Shape(op.shape.0.iter().enumerate().map(pixels).collect()) },
                        &[Some(scale)],
                    )?
                }
                op if per_pixel => g.add(op, &[Some(scale)])?,
                _ => scale,
            };
        }
        Ok((q, scale))
    }
}

fn is_single(scale: &Shape) -> bool {
    scale.0.iter().all(Dim::is_one)
}

/// What a node does besides moving the elements of each channel of each image on its own and adding zeros.
fn crossing(g: &Editor<'_>, node: NodeId) -> Option<&'static str> {
    let at = g.node(node);
    let (from, to) = (&g.ty(at.inputs[0]?).shape.0, &g.ty(at.outputs[0]).shape.0);
    let channels = from.len() > 2 && to.len() > 2 && from[..2] == to[..2];
    let zeros = |v: ValueId| g.constant(v).is_some_and(|t| t.to_f64().iter().all(|&v| v == 0.0));
    match &at.op {
        Op::Pad(op) if op.mode != PadMode::Constant || g.input(node, 1).is_some_and(|v| !zeros(v)) => {
            Some("what is added to them is not zero")
        }
        Op::Slice(op) if op.axes.iter().any(|&axis| axis < 2) => Some("channels or images are taken from others"),
        _ if !channels => Some("channels or images become others"),
        _ => None,
    }
}
