//! Instructions about positions: the index of an extreme, and access by index.

use super::{Contract, axis_in, instruction};
use crate::contract::{attribute, same};
use crate::{BufferId, Cx, DType, Fault, Operand};

instruction! {
    /// The index of the largest (or smallest) element along an axis. A NaN is larger and smaller than all others.
    ArgReduce {
        /// The indices: the axis is 1, or left out.
        y: BufferId,
        /// What is searched.
        x: Operand,
        /// The axis.
        axis: u32,
        /// Whether the smallest element is searched.
        min: bool,
        /// Whether the last of equal elements is taken instead of the first.
        last: bool,
    }
}

impl Contract for ArgReduce {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let x = cx.ty("x", self.x)?.f32()?;
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[DType::I64])?;
        let rank = x.shape.rank();
        let axis = axis_in(self.axis, rank)?;
        attribute("axis", self.axis, x.dim(axis) != Some(0))?;
        let kept = y.shape.rank() == rank;
        if !kept {
            y.rank(rank.saturating_sub(1), rank.saturating_sub(1))?;
        }
        for i in 0..rank {
            let expected = if i == axis { Some(1) } else { x.dim(i) };
            if kept || i < axis {
                same("a dimension of `y`", expected, y.dim(i))?;
            } else if i > axis {
                same("a dimension of `y`", expected, y.dim(i.saturating_sub(1)))?;
            }
        }
        Ok(())
    }
}

instruction! {
    /// `y[.., i.., ..] = x[.., indices[i..], ..]` along an axis; a negative index counts from the end.
    Gather {
        /// The result: the axis of `x` is replaced by the shape of `indices`.
        y: BufferId,
        /// What is taken from.
        x: Operand,
        /// The indices; running fails when one is out of range.
        indices: Operand,
        /// The axis of `x`.
        axis: u32,
    }
}

impl Contract for Gather {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let y = cx.ty("y", self.y)?.dense()?;
        if y.dtype == DType::Bits {
            return Err(Fault::DType { operand: "y", found: y.dtype });
        }
        let x = cx.ty("x", self.x)?.dense()?.dtype(&[y.dtype])?;
        let indices = cx.ty("indices", self.indices)?.dense()?.dtype(&[DType::I64, DType::I32])?;
        let axis = axis_in(self.axis, x.shape.rank())?;
        let (before, middle) = (x.shape.dims().iter().take(axis), indices.shape.dims().iter());
        let after = x.shape.dims().iter().skip(axis.saturating_add(1));
        let rank = x.shape.rank().saturating_add(indices.shape.rank()).saturating_sub(1);
        y.rank(rank, rank)?;
        for (&expected, &found) in before.chain(middle).chain(after).zip(y.shape.dims()) {
            same("a dimension of `y`", expected, found)?;
        }
        Ok(())
    }
}
