//! `reduce`: one value from all elements along some axes.

use super::{Contract, codes, instruction};
use crate::contract::{attribute, same};
use crate::{BufferId, Cx, Fault, Operand};

codes! {
    /// What a [`Reduce`] computes. Sums are accumulated in double precision and rounded once.
    ReduceOp ("reduction") {
        /// The sum; 0 of nothing.
        Sum = 0 "sum",
        /// The mean; NaN of nothing.
        Mean = 1 "mean",
        /// The largest, NaN if there is one; minus infinity of nothing.
        Max = 2 "max",
        /// The smallest, NaN if there is one; infinity of nothing.
        Min = 3 "min",
        /// The product; 1 of nothing.
        Prod = 4 "prod",
        /// The sum of absolute values.
        L1 = 5 "l1",
        /// The square root of the sum of squares.
        L2 = 6 "l2",
        /// The sum of squares.
        SumSquare = 7 "sum_square",
        /// The logarithm of the sum.
        LogSum = 8 "log_sum",
        /// The logarithm of the sum of exponentials.
        LogSumExp = 9 "log_sum_exp",
    }
}

instruction! {
    /// Reduces `x` over a set of axes.
    Reduce {
        /// The result: the reduced axes are 1, or left out.
        y: BufferId,
        /// What is reduced.
        x: Operand,
        /// What is computed.
        op: ReduceOp,
        /// The reduced axes, one bit each.
        axes: u32,
    }
}

impl Contract for Reduce {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = (cx.ty("y", self.y)?.f32()?, cx.ty("x", self.x)?.f32()?);
        let rank = x.shape.rank();
        let reduced = |axis: usize| u32::try_from(axis).is_ok_and(|a| self.axes.checked_shr(a).unwrap_or(0) & 1 == 1);
        attribute("axes", self.axes, (rank..32).all(|a| !reduced(a)))?;
        let kept = (0..rank).filter(|&a| !reduced(a)).count();
        if y.shape.rank() == rank {
            for axis in 0..rank {
                same("a dimension of `y`", if reduced(axis) { Some(1) } else { x.dim(axis) }, y.dim(axis))?;
            }
        } else {
            y.rank(kept, kept)?;
            for (i, axis) in (0..rank).filter(|&a| !reduced(a)).enumerate() {
                same("a dimension of `y`", x.dim(axis), y.dim(i))?;
            }
        }
        Ok(())
    }
}
