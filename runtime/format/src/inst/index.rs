//! Instructions about positions: the index of an extreme, the order of elements, and access by index.

use super::{Contract, axis_in, codes, instruction};
use crate::contract::{attribute, same};
use crate::{BufferId, Cx, DType, Fault, Operand, Ty};

/// The types of indices.
const INDICES: &[DType] = &[DType::I64, DType::I32];

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
        let x = cx.ty("x", self.x)?.dense()?.dtype(DType::NUMBERS)?;
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
        let indices = cx.ty("indices", self.indices)?.dense()?.dtype(INDICES)?;
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

instruction! {
    /// The first elements along an axis after sorting, and where they were; of equal ones the first comes first, and a
    /// NaN is the largest of all.
    TopK {
        /// The elements: the axis is as long as there are elements wanted.
        y: BufferId,
        /// Their positions along the axis.
        positions: BufferId,
        /// What is sorted.
        x: Operand,
        /// The axis.
        axis: u32,
        /// Whether the largest come first, else the smallest.
        largest: bool,
    }
}

impl Contract for TopK {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let x = cx.ty("x", self.x)?.dense()?.dtype(DType::NUMBERS)?;
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[x.dtype])?;
        cx.ty("positions", self.positions)?.dense()?.dtype(&[DType::I64])?.same_shape(&y)?;
        let rank = x.shape.rank();
        y.rank(rank, rank)?;
        let axis = axis_in(self.axis, rank)?;
        for i in (0..rank).filter(|&i| i != axis) {
            same("a dimension of `y`", x.dim(i), y.dim(i))?;
        }
        at_most("the sorted dimension of `y`", y.dim(axis), x.dim(axis))
    }
}

instruction! {
    /// Elements or slices of `x` by their positions; a negative index counts from the end.
    ///
    /// With an axis, `indices` has the rank of `x`: `y[.., i, ..] = x[.., indices[.., i, ..], ..]`. Without one, its last
    /// dimension indexes the axes of `x` behind the first `batch`, which both share:
    /// `y[b.., i.., s..] = x[b.., indices[b.., i.., :].., s..]`.
    Pick {
        /// The result.
        y: BufferId,
        /// What is taken from.
        x: Operand,
        /// The indices; running fails when one is out of range.
        indices: Operand,
        /// The axis that single elements are picked along.
        axis: Option<u32>,
        /// Leading axes that `x` and `indices` share, where slices are picked; else 0.
        batch: u32,
    }
}

impl Contract for Pick {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let y = cx.ty("y", self.y)?;
        picked(cx, self.x, self.indices, self.axis, self.batch, y)
    }
}

codes! {
    /// What happens where an update of a [`Scatter`] meets an element.
    Combine ("way to combine") {
        /// The update takes its place.
        Replace = 0 "replace",
        /// Their sum.
        Add = 1 "add",
        /// Their product.
        Mul = 2 "mul",
        /// The larger.
        Max = 3 "max",
        /// The smaller.
        Min = 4 "min",
    }
}

instruction! {
    /// `y` is `x` with updates, which go where a [`Pick`] with the same indices takes from, in order.
    Scatter {
        /// The result.
        y: BufferId,
        /// What is updated.
        x: Operand,
        /// The indices; running fails when one is out of range.
        indices: Operand,
        /// The updates.
        updates: Operand,
        /// The axis that single elements are updated along.
        axis: Option<u32>,
        /// How an update combines with what is there.
        combine: Combine,
    }
}

impl Contract for Scatter {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let x = cx.ty("x", self.x)?;
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[x.dtype])?.same_shape(&x)?;
        if self.combine != Combine::Replace {
            y.dtype(DType::NUMBERS)?;
        }
        picked(cx, self.x, self.indices, self.axis, 0, cx.ty("updates", self.updates)?)
    }
}

/// `y` has the type and shape of what is picked from `x`.
fn picked(cx: &Cx<'_>, x: Operand, indices: Operand, axis: Option<u32>, batch: u32, y: Ty) -> Result<(), Fault> {
    let x = cx.ty("x", x)?.dense()?;
    if x.dtype == DType::Bits {
        return Err(Fault::DType { operand: "x", found: x.dtype });
    }
    let y = y.dense()?.dtype(&[x.dtype])?;
    let indices = cx.ty("indices", indices)?.dense()?.dtype(INDICES)?;
    let rank = x.shape.rank();
    if let Some(axis) = axis {
        attribute("batch", batch, batch == 0)?;
        let axis = axis_in(axis, rank)?;
        indices.rank(rank, rank)?;
        y.same_shape(&indices)?;
        return (0..rank)
            .filter(|&i| i != axis)
            .try_for_each(|i| at_most("a dimension of `indices`", indices.dim(i), x.dim(i)));
    }
    let batch_axes = crate::cursor::index(batch);
    indices.rank(1, crate::MAX_RANK)?;
    let lead = indices.shape.rank().saturating_sub(1);
    attribute("batch", batch, batch_axes <= lead && batch_axes <= rank)?;
    for i in 0..batch_axes {
        same("a dimension of `indices`", x.dim(i), indices.dim(i))?;
    }
    let Some(width) = indices.last() else { return Ok(()) };
    let indexed = usize::try_from(width).ok().and_then(|width| width.checked_add(batch_axes)).filter(|&n| n <= rank);
    let indexed = indexed.ok_or(Fault::Size { what: "the last dimension of `indices`", expected: 0, found: width })?;
    let expected = lead.saturating_add(rank.saturating_sub(indexed));
    y.rank(expected, expected)?;
    let dims = indices.shape.dims().iter().take(lead).chain(x.shape.dims().iter().skip(indexed));
    dims.zip(y.shape.dims()).try_for_each(|(&expected, &found)| same("a dimension of `y`", expected, found))
}

/// A size must not exceed another, as far as they are known.
fn at_most(what: &'static str, found: Option<u64>, most: Option<u64>) -> Result<(), Fault> {
    match (found, most) {
        (Some(found), Some(most)) if found > most => Err(Fault::Size { what, expected: most, found }),
        _ => Ok(()),
    }
}
