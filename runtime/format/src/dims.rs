//! Section `dims`: symbols, and the table of dimension expressions over them.
//!
//! An expression refers only to entries before it, so one pass from front to back evaluates the table.

use alloc::string::String;
use alloc::vec::Vec;

use crate::cursor::{Cursor, index, put_count, put_text, put_u32, put_u64, to_u64};
use crate::{ErrorKind, FormatError};

/// The largest number of symbols.
pub(crate) const MAX_SYMBOLS: u64 = 1 << 12;
/// The largest number of dimension expressions.
pub(crate) const MAX_DIMS: u64 = 1 << 20;

/// Stands for "no batch symbol".
const NO_SYMBOL: u32 = u32::MAX;

/// The index of a symbol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SymbolId(pub u32);

/// The index of a dimension expression.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DimId(pub u32);

impl SymbolId {
    /// The position in the table of symbols.
    pub fn index(self) -> usize {
        index(self.0)
    }
}

impl DimId {
    /// The position in the table of expressions.
    pub fn index(self) -> usize {
        index(self.0)
    }
}

/// One entry of the table of dimensions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DimExpr {
    /// A number.
    Const(i64),
    /// A symbol, bound by the shapes of the inputs.
    Symbol(SymbolId),
    /// A sum.
    Add(DimId, DimId),
    /// A difference.
    Sub(DimId, DimId),
    /// A product.
    Mul(DimId, DimId),
    /// A quotient rounded down; the divisor is at least 1.
    FloorDiv(DimId, i64),
}

/// The symbols of an artifact and the dimensions made of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dims {
    pub(crate) symbols: Vec<String>,
    pub(crate) batch: Option<SymbolId>,
    pub(crate) exprs: Vec<DimExpr>,
}

impl Dims {
    /// The names of the symbols.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// The symbol that counts the samples of a batch.
    pub fn batch(&self) -> Option<SymbolId> {
        self.batch
    }

    /// The table of expressions.
    pub fn exprs(&self) -> &[DimExpr] {
        &self.exprs
    }

    /// The symbol that a dimension is, if it is a bare one.
    pub fn as_symbol(&self, dim: DimId) -> Option<SymbolId> {
        match self.exprs.get(dim.index()) {
            Some(DimExpr::Symbol(s)) => Some(*s),
            _ => None,
        }
    }

    /// The values of all expressions, where `symbols` gives those of the symbols that are known; what depends on an
    /// unknown one is `None`.
    ///
    /// # Errors
    ///
    /// When a value overflows.
    pub fn evaluate(&self, symbols: &[Option<u64>]) -> Result<Vec<Option<i64>>, FormatError> {
        let mut values: Vec<Option<i64>> = Vec::with_capacity(self.exprs.len());
        let of = |values: &[Option<i64>], d: DimId| values.get(d.index()).copied().flatten();
        for (i, expr) in self.exprs.iter().enumerate() {
            let overflow = || {
                let index = u32::try_from(i).unwrap_or(u32::MAX);
                FormatError { kind: ErrorKind::Size { what: "dimension", index }, offset: 0 }
            };
            let both = |a, b, f: fn(i64, i64) -> Option<i64>| match (of(&values, a), of(&values, b)) {
                (Some(a), Some(b)) => f(a, b).ok_or_else(overflow).map(Some),
                _ => Ok(None),
            };
            let value = match *expr {
                DimExpr::Const(n) => Some(n),
                DimExpr::Symbol(s) => match symbols.get(s.index()).copied().flatten() {
                    Some(n) => Some(i64::try_from(n).map_err(|_| overflow())?),
                    None => None,
                },
                DimExpr::Add(a, b) => both(a, b, i64::checked_add)?,
                DimExpr::Sub(a, b) => both(a, b, i64::checked_sub)?,
                DimExpr::Mul(a, b) => both(a, b, i64::checked_mul)?,
                DimExpr::FloorDiv(a, n) => match of(&values, a) {
                    Some(a) => Some(a.checked_div_euclid(n).ok_or_else(overflow)?),
                    None => None,
                },
            };
            values.push(value);
        }
        Ok(values)
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let n = cursor.count("symbols", MAX_SYMBOLS, 4)?;
        let mut symbols: Vec<String> = Vec::with_capacity(n);
        for _ in 0..n {
            let at = cursor.clone();
            let name = cursor.text()?;
            if name.is_empty() || symbols.contains(&name) {
                return Err(at.error(ErrorKind::Duplicate { what: "symbols" }));
            }
            symbols.push(name);
        }
        let at = cursor.clone();
        let symbol = |at: &Cursor<'_>, id: u32| {
            let count = to_u64(symbols.len());
            let error = || at.error(ErrorKind::Index { what: "symbol", value: id.into(), count });
            if u64::from(id) < count { Ok(SymbolId(id)) } else { Err(error()) }
        };
        let batch = match cursor.u32()? {
            NO_SYMBOL => None,
            id => Some(symbol(&at, id)?),
        };
        let n = cursor.count("dimensions", MAX_DIMS, 16)?;
        let mut exprs = Vec::with_capacity(n);
        for i in 0..n {
            let at = cursor.clone();
            let (tag, a, b) = (cursor.u32()?, cursor.u32()?, cursor.i64()?);
            let earlier = |value: u64| match u32::try_from(value) {
                Ok(id) if index(id) < i => Ok(DimId(id)),
                _ => Err(at.error(ErrorKind::Index { what: "earlier dimension", value, count: to_u64(i) })),
            };
            let unused =
                |zero: bool| if zero { Ok(()) } else { Err(at.error(ErrorKind::NotZero { what: "a dimension" })) };
            let right = || u64::try_from(b).unwrap_or(u64::MAX);
            exprs.push(match tag {
                0 => {
                    unused(a == 0)?;
                    DimExpr::Const(b)
                }
                1 => {
                    unused(b == 0)?;
                    DimExpr::Symbol(symbol(&at, a)?)
                }
                2 => DimExpr::Add(earlier(a.into())?, earlier(right())?),
                3 => DimExpr::Sub(earlier(a.into())?, earlier(right())?),
                4 => DimExpr::Mul(earlier(a.into())?, earlier(right())?),
                5 if b >= 1 => DimExpr::FloorDiv(earlier(a.into())?, b),
                5 => return Err(at.error(ErrorKind::Code { what: "divisor of a dimension", value: right() })),
                tag => return Err(at.error(ErrorKind::Code { what: "kind of dimension", value: tag.into() })),
            });
        }
        Ok(Self { symbols, batch, exprs })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_count(out, self.symbols.len());
        for name in &self.symbols {
            put_text(out, name);
        }
        put_u32(out, self.batch.map_or(NO_SYMBOL, |s| s.0));
        put_count(out, self.exprs.len());
        for expr in &self.exprs {
            let (tag, a, b) = match *expr {
                DimExpr::Const(n) => (0, 0, n),
                DimExpr::Symbol(s) => (1, s.0, 0),
                DimExpr::Add(a, b) => (2, a.0, b.0.into()),
                DimExpr::Sub(a, b) => (3, a.0, b.0.into()),
                DimExpr::Mul(a, b) => (4, a.0, b.0.into()),
                DimExpr::FloorDiv(a, n) => (5, a.0, n),
            };
            put_u32(out, tag);
            put_u32(out, a);
            put_u64(out, u64::from_le_bytes(b.to_le_bytes()));
        }
    }
}
