//! The table of dimension expressions: polynomials of the IR as trees of sums, products and quotients.

use std::collections::BTreeMap;

use bitc_format::{ArtifactWriter, DimExpr, DimId, SymbolId};
use bitc_ir::Dim;
use bitc_ir::types::{DimView, FactorView};

/// Symbols and expressions over them, each once, in the order they were first needed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DimTable {
    symbols: Vec<String>,
    exprs: Vec<DimExpr>,
    ids: BTreeMap<DimExpr, DimId>,
}

impl DimTable {
    /// The symbols, in the order of their ids.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// Adds a symbol, unless it is there; returns its id.
    pub(super) fn add_symbol(&mut self, name: &str) -> SymbolId {
        let at = self.symbols.iter().position(|s| s == name).unwrap_or_else(|| {
            self.symbols.push(name.to_owned());
            self.symbols.len() - 1
        });
        SymbolId(at as u32)
    }

    /// The id of a symbol that was added.
    pub(super) fn symbol(&self, name: &str) -> Option<SymbolId> {
        self.symbols.iter().position(|s| s == name).map(|at| SymbolId(at as u32))
    }

    /// The entry of a dimension, new or not; `None` if it has a symbol that no input binds.
    pub(super) fn dim(&mut self, dim: &Dim) -> Option<DimId> {
        let terms = match dim.view() {
            DimView::Const(n) => return Some(self.entry(DimExpr::Const(n))),
            DimView::Sum(terms) => terms,
        };
        let mut sum = None;
        for (coefficient, factors) in terms {
            let term = self.product(coefficient.checked_abs()?, &factors)?;
            sum = Some(match (sum, coefficient < 0) {
                (None, false) => term,
                (None, true) => {
                    let zero = self.entry(DimExpr::Const(0));
                    self.entry(DimExpr::Sub(zero, term))
                }
                (Some(sum), false) => self.entry(DimExpr::Add(sum, term)),
                (Some(sum), true) => self.entry(DimExpr::Sub(sum, term)),
            });
        }
        sum
    }

    fn product(&mut self, coefficient: i64, factors: &[FactorView<'_>]) -> Option<DimId> {
        let mut product = None;
        for factor in factors {
            let factor = match factor {
                FactorView::Symbol(name) => {
                    let symbol = self.symbol(name)?;
                    self.entry(DimExpr::Symbol(symbol))
                }
                FactorView::FloorDiv(dim, divisor) => {
                    let dim = self.dim(dim)?;
                    self.entry(DimExpr::FloorDiv(dim, *divisor))
                }
            };
            product = Some(match product {
                None => factor,
                Some(product) => self.entry(DimExpr::Mul(product, factor)),
            });
        }
        match product {
            Some(product) if coefficient == 1 => Some(product),
            Some(product) => {
                let coefficient = self.entry(DimExpr::Const(coefficient));
                Some(self.entry(DimExpr::Mul(product, coefficient)))
            }
            None => Some(self.entry(DimExpr::Const(coefficient))),
        }
    }

    fn entry(&mut self, expr: DimExpr) -> DimId {
        let next = DimId(self.exprs.len() as u32);
        *self.ids.entry(expr).or_insert_with(|| {
            self.exprs.push(expr);
            next
        })
    }

    /// Writes symbols and expressions to an artifact that has none, so that ids stay what they are.
    pub(crate) fn write(&self, writer: &mut ArtifactWriter) {
        for name in &self.symbols {
            writer.symbol(name);
        }
        for &expr in &self.exprs {
            writer.dim(expr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of an entry when every symbol is `n`.
    fn value(table: &DimTable, id: DimId, n: i64) -> i64 {
        match table.exprs[id.index()] {
            DimExpr::Const(c) => c,
            DimExpr::Symbol(_) => n,
            DimExpr::Add(a, b) => value(table, a, n) + value(table, b, n),
            DimExpr::Sub(a, b) => value(table, a, n) - value(table, b, n),
            DimExpr::Mul(a, b) => value(table, a, n) * value(table, b, n),
            DimExpr::FloorDiv(a, d) => value(table, a, n).div_euclid(d),
        }
    }

    #[test]
    fn a_polynomial_with_quotients_keeps_its_value() {
        let mut table = DimTable::default();
        table.add_symbol("N");
        let n = Dim::symbol("N");
        let half = n.mul(&n).unwrap().sub(&Dim::from(3)).unwrap().floor_div(2).unwrap();
        let dim = Dim::from(7).sub(&half.mul(&Dim::from(2)).unwrap()).unwrap();
        let id = table.dim(&dim).unwrap();
        for k in [0usize, 1, 5, 8] {
            let expected = 7 - 2 * ((k * k) as i64 - 3).div_euclid(2);
            assert_eq!(value(&table, id, k as i64), expected, "{k}");
        }
        assert_eq!(table.dim(&dim), Some(id), "the same dimension is the same entry");
        assert_eq!(table.dim(&Dim::symbol("M")), None, "nothing binds this symbol");
    }
}
