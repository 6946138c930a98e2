//! `reduce`, one value from all elements along some axes, and `scan`, one for each along an axis.

use super::{Contract, axis_in, codes, instruction};
use crate::contract::{attribute, same};
use crate::{BufferId, Cx, DType, Fault, Operand};

codes! {
    /// What a [`Reduce`] computes. Sums of floats are accumulated in double precision and rounded once; integers keep the
    /// low bits of the exact result.
    ReduceOp ("reduction") {
        /// The sum; 0 of nothing.
        Sum = 0 "sum",
        /// The mean; NaN of nothing. Of integers rounded towards zero; running fails for that of nothing.
        Mean = 1 "mean",
        /// The largest, NaN if there is one; minus infinity, or the least of an integer type, of nothing.
        Max = 2 "max",
        /// The smallest, NaN if there is one; infinity, or the greatest of an integer type, of nothing.
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
    /// Reduces `x` over a set of axes. The reductions from `l1` on are for `f32` only.
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
        let x = cx.ty("x", self.x)?.dense()?.dtype(if self.op.code() < 5 { DType::NUMBERS } else { &[DType::F32] })?;
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[x.dtype])?;
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

instruction! {
    /// Running sums or products along an axis. Those of floats are kept in double precision, integers wrap.
    Scan {
        /// The result.
        y: BufferId,
        /// What is summed up.
        x: Operand,
        /// The axis.
        axis: u32,
        /// Whether products are built instead of sums.
        product: bool,
        /// Whether an element does not count itself.
        exclusive: bool,
        /// Whether it runs from the end.
        reverse: bool,
    }
}

impl Contract for Scan {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let x = cx.ty("x", self.x)?.dense()?.dtype(DType::NUMBERS)?;
        cx.ty("y", self.y)?.dense()?.dtype(&[x.dtype])?.same_shape(&x)?;
        axis_in(self.axis, x.shape.rank())?;
        Ok(())
    }
}
