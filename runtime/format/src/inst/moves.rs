//! Instructions that move elements of any type without looking at them, and that write positions and sizes.

use alloc::vec::Vec;

use super::{Contract, axis_in, codes, instruction, one_per_axis};
use crate::contract::{attribute, same};
use crate::cursor::index;
use crate::{BufferId, Cx, DType, DimId, Fault, Operand, Ty};

/// Both are dense, of the same type, and that is not packed bits.
fn moved(cx: &Cx<'_>, y: BufferId, x: Operand) -> Result<(Ty, Ty), Fault> {
    let y = cx.ty("y", y)?.dense()?;
    let x = cx.ty("x", x)?.dense()?.dtype(&[y.dtype])?;
    if y.dtype == DType::Bits {
        return Err(Fault::DType { operand: "y", found: y.dtype });
    }
    Ok((y, x))
}

instruction! {
    /// `y[i0, i1, ..] = x[j]` where axis `k` of `y` is axis `perm[k]` of `x`.
    Transpose {
        /// The result.
        y: BufferId,
        /// What is transposed.
        x: Operand,
        /// For each axis of `y` the axis of `x`.
        perm: Vec<u32>,
    }
}

impl Contract for Transpose {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = moved(cx, self.y, self.x)?;
        let rank = x.shape.rank();
        y.rank(rank, rank)?;
        one_per_axis("perm", self.perm.len(), rank)?;
        let mut seen = 0u32;
        for (i, &axis) in self.perm.iter().enumerate() {
            let j = axis_in(axis, rank)?;
            let bit = 1u32.wrapping_shl(axis);
            attribute("perm", axis, seen & bit == 0)?;
            seen |= bit;
            same("a dimension of `y`", x.dim(j), y.dim(i))?;
        }
        Ok(())
    }
}

instruction! {
    /// `y` is the `xs` one after the other along an axis.
    Concat {
        /// The result.
        y: BufferId,
        /// The parts.
        xs: Vec<Operand>,
        /// The axis.
        axis: u32,
    }
}

impl Contract for Concat {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let mut total = Some(0u64);
        let y = cx.ty("y", self.y)?;
        let axis = axis_in(self.axis, y.shape.rank())?;
        for &x in &self.xs {
            let (y, x) = moved(cx, self.y, x)?;
            let rank = y.shape.rank();
            x.rank(rank, rank)?;
            for i in (0..rank).filter(|&i| i != axis) {
                same("a dimension of a part", y.dim(i), x.dim(i))?;
            }
            total = match (total, x.dim(axis)) {
                (Some(n), Some(d)) => Some(n.checked_add(d).ok_or(Fault::Overflow { what: "y" })?),
                _ => None,
            };
        }
        same("the joined dimension", total, y.dim(axis))
    }
}

instruction! {
    /// `y[i0, i1, ..] = x[starts[0] + i0 * steps[0], ..]`.
    Slice {
        /// The result.
        y: BufferId,
        /// What is sliced.
        x: Operand,
        /// For each axis the index in `x` of the first element.
        starts: Vec<DimId>,
        /// For each axis the distance in `x` of neighbours in `y`; may be negative.
        steps: Vec<i32>,
    }
}

impl Contract for Slice {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = moved(cx, self.y, self.x)?;
        let rank = x.shape.rank();
        y.rank(rank, rank)?;
        one_per_axis("starts", self.starts.len(), rank)?;
        one_per_axis("steps", self.steps.len(), rank)?;
        for (i, (&start, &step)) in self.starts.iter().zip(&self.steps).enumerate() {
            attribute("steps", step, step != 0)?;
            let (Some(start), Some(n), Some(size)) = (cx.value(start), y.dim(i), x.dim(i)) else { continue };
            let Some(steps) = n.checked_sub(1) else { continue };
            let last = i64::try_from(steps)
                .ok()
                .and_then(|n| n.checked_mul(i64::from(step)))
                .and_then(|way| way.checked_add(start))
                .ok_or(Fault::Overflow { what: "x" })?;
            for end in [start, last] {
                attribute("starts", end, u64::try_from(end).is_ok_and(|end| end < size))?;
            }
        }
        Ok(())
    }
}

codes! {
    /// What stands around `x` in a [`Pad`].
    PadMode ("padding mode") {
        /// A value.
        Constant = 0 "constant",
        /// The element at the edge.
        Edge = 1 "edge",
        /// The elements mirrored at the edge, which is not repeated.
        Reflect = 2 "reflect",
        /// The elements from the other side.
        Wrap = 3 "wrap",
    }
}

instruction! {
    /// `y` is `x` with elements added before and after along each axis.
    Pad {
        /// The result.
        y: BufferId,
        /// What is padded.
        x: Operand,
        /// For each axis how many elements come before; how many come after follows from the shape of `y`.
        before: Vec<DimId>,
        /// What the added elements are.
        mode: PadMode,
        /// The bits of the added element in the low bits, where the mode is `constant`, else 0.
        value: u64,
    }
}

impl Contract for Pad {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = moved(cx, self.y, self.x)?;
        let rank = x.shape.rank();
        y.rank(rank, rank)?;
        one_per_axis("before", self.before.len(), rank)?;
        for (i, &before) in self.before.iter().enumerate() {
            let (Some(before), Some(size), Some(total)) = (cx.value(before), x.dim(i), y.dim(i)) else { continue };
            let found = before;
            let before = u64::try_from(before).map_err(|_| Fault::Attribute { name: "before", value: found })?;
            let after = before.checked_add(size).and_then(|used| total.checked_sub(used));
            let after = after.ok_or(Fault::Attribute { name: "before", value: found })?;
            // The most that can be added on one side; zero when there is nothing to take it from.
            let most = match self.mode {
                PadMode::Constant => u64::MAX,
                PadMode::Edge if size > 0 => u64::MAX,
                PadMode::Edge => 0,
                PadMode::Reflect => size.saturating_sub(1),
                PadMode::Wrap => size,
            };
            attribute("before", found, before <= most)?;
            attribute("after", after, after <= most)?;
        }
        Ok(())
    }
}

instruction! {
    /// `y` is `x` broadcast to its shape.
    Expand {
        /// The result.
        y: BufferId,
        /// What is repeated.
        x: Operand,
    }
}

impl Contract for Expand {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = moved(cx, self.y, self.x)?;
        x.broadcasts_to(&y)?;
        Ok(())
    }
}

instruction! {
    /// The bytes of `x` as elements of another type.
    BitCast {
        /// The result.
        y: BufferId,
        /// What is read.
        x: Operand,
    }
}

impl Contract for BitCast {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let (y, x) = (cx.ty("y", self.y)?.dense()?, cx.ty("x", self.x)?.dense()?);
        for (operand, found) in [("y", y.dtype), ("x", x.dtype)] {
            // Not every byte is a boolean.
            if matches!(found, DType::Bool | DType::Bits) {
                return Err(Fault::DType { operand, found });
            }
        }
        if x.dtype.size_bytes() != y.dtype.size_bytes() {
            return Err(Fault::DType { operand: "x", found: x.dtype });
        }
        x.same_shape(&y)?;
        Ok(())
    }
}

instruction! {
    /// `y[i] = i`.
    Iota {
        /// The result.
        y: BufferId,
    }
}

impl Contract for Iota {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        cx.ty("y", self.y)?.dense()?.dtype(&[DType::I64])?.rank(1, 1)?;
        Ok(())
    }
}

instruction! {
    /// `y` holds the values of dimensions.
    Sizes {
        /// The result.
        y: BufferId,
        /// The dimensions.
        dims: Vec<DimId>,
    }
}

impl Contract for Sizes {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[DType::I64])?.rank(1, 1)?;
        y.elements(u64::try_from(self.dims.len()).ok())?;
        Ok(())
    }
}

/// `axis` as an index below `rank`, or the rank itself.
pub(super) fn axis_or_end(axis: u32, rank: usize) -> Result<usize, Fault> {
    attribute("axis", axis, index(axis) <= rank)?;
    Ok(index(axis))
}
