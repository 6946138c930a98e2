//! What the contract of an instruction is stated in: operands, their types, and sizes that may not be known yet.
//!
//! A contract is checked twice by the same code: when an artifact is read, with the dimensions that do not depend on a
//! symbol, and when inputs are bound, with all of them. A size that is unknown agrees with every other.

use crate::cursor::to_u64;
use crate::logic::Program;
use crate::{BufferId, Const, ConstId, Contents, DType, DimId, Fault, Layout, MAX_RANK};

/// What an instruction reads: a buffer or a constant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operand {
    /// A buffer.
    Buffer(BufferId),
    /// A constant.
    Const(ConstId),
}

impl From<BufferId> for Operand {
    fn from(id: BufferId) -> Self {
        Operand::Buffer(id)
    }
}

impl From<ConstId> for Operand {
    fn from(id: ConstId) -> Self {
        Operand::Const(id)
    }
}

/// Dimensions of which some may be unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    rank: usize,
    dims: [Option<u64>; MAX_RANK],
}

impl Shape {
    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[Option<u64>] {
        self.dims.get(..self.rank).unwrap_or_default()
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The dimension at that position; 1 past the end.
    pub fn dim(&self, axis: usize) -> Option<u64> {
        self.dims().get(axis).copied().unwrap_or(Some(1))
    }

    fn push(&mut self, dim: Option<u64>) {
        if let Some(place) = self.dims.get_mut(self.rank) {
            *place = dim;
            self.rank = self.rank.saturating_add(1);
        }
    }
}

/// The type of an operand inside a contract. Its methods state what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ty {
    /// The name of the operand in the instruction.
    pub name: &'static str,
    /// The element type.
    pub dtype: DType,
    /// How a constant is stored; `Dense` for buffers.
    pub layout: Layout,
    /// What rows are aligned to, in bytes; 1 for constants.
    pub row_align: u32,
    /// Whether it is a constant.
    pub is_const: bool,
    /// The dimensions.
    pub shape: Shape,
}

impl Ty {
    /// It must be stored row by row without padding.
    pub fn dense(self) -> Result<Self, Fault> {
        if self.layout != Layout::Dense {
            return Err(Fault::Layout { operand: self.name, found: self.layout });
        }
        self.aligned(1)
    }

    /// Its rows must be aligned to `bytes`.
    pub fn aligned(self, bytes: u32) -> Result<Self, Fault> {
        if self.row_align == bytes {
            return Ok(self);
        }
        Err(Fault::RowAlign { operand: self.name, found: self.row_align })
    }

    /// It must be a constant.
    pub fn constant(self) -> Result<Self, Fault> {
        if self.is_const { Ok(self) } else { Err(Fault::NotConst { operand: self.name }) }
    }

    /// It must have one of these types.
    pub fn dtype(self, accepted: &[DType]) -> Result<Self, Fault> {
        if accepted.contains(&self.dtype) {
            return Ok(self);
        }
        Err(Fault::DType { operand: self.name, found: self.dtype })
    }

    /// It must be a dense array of `f32`.
    pub fn f32(self) -> Result<Self, Fault> {
        self.dense()?.dtype(&[DType::F32])
    }

    /// It must have at least `min` and at most `max` dimensions.
    pub fn rank(self, min: usize, max: usize) -> Result<Self, Fault> {
        let rank = self.shape.rank;
        if rank >= min && rank <= max {
            return Ok(self);
        }
        Err(Fault::Rank {
            operand: self.name,
            expected: to_u64(if rank < min { min } else { max }),
            found: to_u64(rank),
        })
    }

    /// The dimension at that position; 1 past the end.
    pub fn dim(&self, axis: usize) -> Option<u64> {
        self.shape.dim(axis)
    }

    /// The last dimension; 1 for a scalar.
    pub fn last(&self) -> Option<u64> {
        self.shape.dims().last().copied().unwrap_or(Some(1))
    }

    /// The number of elements in the dimensions from `start` to before `end`.
    pub fn count(&self, start: usize, end: usize) -> Result<Option<u64>, Fault> {
        let dims = self.shape.dims().get(start..end.min(self.shape.rank)).unwrap_or_default();
        dims.iter().try_fold(Some(1u64), |n, &d| match (n, d) {
            (Some(n), Some(d)) => n.checked_mul(d).map(Some).ok_or(Fault::Overflow { what: self.name }),
            _ => Ok(None),
        })
    }

    /// The number of elements.
    pub fn numel(&self) -> Result<Option<u64>, Fault> {
        self.count(0, MAX_RANK)
    }

    /// The number of rows: of elements in all dimensions but the last.
    pub fn rows(&self) -> Result<Option<u64>, Fault> {
        self.count(0, self.shape.rank.saturating_sub(1))
    }

    /// Its dimensions must be those of `other`.
    pub fn same_shape(self, other: &Ty) -> Result<Self, Fault> {
        let ty = self.rank(other.shape.rank, other.shape.rank)?;
        for (&found, &expected) in ty.shape.dims().iter().zip(other.shape.dims()) {
            same(self.name, expected, found)?;
        }
        Ok(ty)
    }

    /// It must have that many elements.
    pub fn elements(self, expected: Option<u64>) -> Result<Self, Fault> {
        same(self.name, expected, self.numel()?)?;
        Ok(self)
    }

    /// It must have one element, or that many.
    pub fn one_or(self, expected: Option<u64>) -> Result<Self, Fault> {
        if self.numel()? == Some(1) { Ok(self) } else { self.elements(expected) }
    }

    /// It must broadcast to the shape of `to`: aligned at the last dimension, each dimension 1 or that of `to`.
    pub fn broadcasts_to(self, to: &Ty) -> Result<Self, Fault> {
        let ty = self.rank(0, to.shape.rank)?;
        for (&found, &expected) in ty.shape.dims().iter().rev().zip(to.shape.dims().iter().rev()) {
            if found != Some(1) {
                same(self.name, expected, found)?;
            }
        }
        Ok(ty)
    }
}

/// Two sizes must agree as far as they are known.
pub(crate) fn same(what: &'static str, expected: Option<u64>, found: Option<u64>) -> Result<(), Fault> {
    match (expected, found) {
        (Some(expected), Some(found)) if expected != found => Err(Fault::Size { what, expected, found }),
        _ => Ok(()),
    }
}

/// An attribute must be true of the contract.
pub(crate) fn attribute(name: &'static str, value: impl TryInto<i64>, valid: bool) -> Result<(), Fault> {
    if valid { Ok(()) } else { Err(Fault::Attribute { name, value: value.try_into().unwrap_or(i64::MAX) }) }
}

/// What a contract can look up: the tables of the artifact and the values of its dimensions.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    contents: &'a Contents,
    values: &'a [Option<i64>],
}

impl<'a> Cx<'a> {
    pub(crate) fn new(contents: &'a Contents, values: &'a [Option<i64>]) -> Self {
        Self { contents, values }
    }

    /// The type of an operand, called `name` in faults.
    pub fn ty(&self, name: &'static str, operand: impl Into<Operand>) -> Result<Ty, Fault> {
        match operand.into() {
            Operand::Buffer(id) => {
                let Some(buffer) = self.contents.buffers().get(id.index()) else {
                    return Err(Fault::Overflow { what: name });
                };
                let mut shape = Shape::default();
                for &d in &buffer.dims {
                    let size = self.value(d).map(u64::try_from).transpose();
                    shape.push(size.map_err(|_| Fault::Overflow { what: name })?);
                }
                let (dtype, row_align) = (buffer.dtype, buffer.row_align);
                Ok(Ty { name, dtype, layout: Layout::Dense, row_align, is_const: false, shape })
            }
            Operand::Const(id) => {
                let Some(Const { dtype, layout, shape: dims, .. }) = self.contents.consts().get(id.index()) else {
                    return Err(Fault::Overflow { what: name });
                };
                let mut shape = Shape::default();
                dims.iter().for_each(|&d| shape.push(Some(d)));
                Ok(Ty { name, dtype: *dtype, layout: *layout, row_align: 1, is_const: true, shape })
            }
        }
    }

    /// The type of an optional operand.
    pub fn optional(&self, name: &'static str, operand: Option<impl Into<Operand>>) -> Result<Option<Ty>, Fault> {
        operand.map(|o| self.ty(name, o)).transpose()
    }

    /// The logic program that a constant holds.
    pub fn network(&self, operand: Operand) -> Option<&'a Program> {
        let Operand::Const(id) = operand else { return None };
        self.contents.networks.program(id)
    }

    /// How many features a constant's list of them needs: one more than the largest.
    pub fn features(&self, operand: Operand) -> Option<u32> {
        let Operand::Const(id) = operand else { return None };
        self.contents.networks.features(id)
    }

    /// The value of a dimension that is an attribute.
    pub fn value(&self, dim: DimId) -> Option<i64> {
        self.values.get(dim.index()).copied().flatten()
    }
}
