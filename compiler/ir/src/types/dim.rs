//! Dimensions: integer polynomials in named symbols and floor divisions, kept in a normal form.
//!
//! `4`, `N`, `16*N`, `past + T` and `(H + 1)/2` are dimensions. Sums and products are expanded and sorted, so structural
//! equality is equality of the polynomials; a floor division that does not come out even is an opaque atom, equal only to
//! itself. There is no solver: what is not visibly equal is not equal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of a dimension that is bound when inputs are.
pub type Symbol = Arc<str>;

/// A polynomial with more terms is refused: products of sums would otherwise grow without bound.
const MAX_TERMS: usize = 256;
/// A term with more factors is refused.
const MAX_FACTORS: usize = 32;

/// One dimension of a shape.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Repr {
    Const(i64),
    /// More than a constant; the monomials are sorted and no coefficient is zero.
    Poly(Arc<Vec<Term>>),
}

/// `coefficient * product of atoms`; the atoms are sorted, a power repeats its atom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Term {
    atoms: Vec<Atom>,
    coefficient: i64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Atom {
    Symbol(Symbol),
    /// The quotient rounded down; the divisor is at least 2.
    FloorDiv(Dim, i64),
}

impl Atom {
    fn view(&self) -> FactorView<'_> {
        match self {
            Atom::Symbol(s) => FactorView::Symbol(s),
            Atom::FloorDiv(d, n) => FactorView::FloorDiv(d, *n),
        }
    }
}

/// How a dimension is built, for whoever has to write it in another form.
pub enum DimView<'a> {
    /// A number.
    Const(i64),
    /// A sum of terms; each is a coefficient and factors.
    Sum(Vec<(i64, Vec<FactorView<'a>>)>),
}

/// One factor of a term of a [`DimView`].
pub enum FactorView<'a> {
    /// A named symbol.
    Symbol(&'a Symbol),
    /// A quotient rounded down.
    FloorDiv(&'a Dim, i64),
}

impl Dim {
    /// The dimension that a name stands for.
    pub fn symbol(name: impl Into<Symbol>) -> Self {
        Self::from_terms([(vec![Atom::Symbol(name.into())], 1)].into())
    }

    /// The number, if this is one and not negative.
    pub fn as_const(&self) -> Option<usize> {
        match self.0 {
            Repr::Const(n) => usize::try_from(n).ok(),
            Repr::Poly(_) => None,
        }
    }

    /// The name, if this is a bare symbol.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let Repr::Poly(terms) = &self.0 else { return None };
        match &terms[..] {
            [Term { atoms, coefficient: 1 }] => match &atoms[..] {
                [Atom::Symbol(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether this is the number 1.
    pub fn is_one(&self) -> bool {
        self.0 == Repr::Const(1)
    }

    /// The parts of the dimension.
    pub fn view(&self) -> DimView<'_> {
        match &self.0 {
            Repr::Const(n) => DimView::Const(*n),
            Repr::Poly(terms) => {
                DimView::Sum(terms.iter().map(|t| (t.coefficient, t.atoms.iter().map(Atom::view).collect())).collect())
            }
        }
    }

    /// `self + other`; `None` if numbers overflow or there are too many terms.
    pub fn add(&self, other: &Dim) -> Option<Dim> {
        let mut sum = self.to_terms();
        for (atoms, c) in other.to_terms() {
            let slot = sum.entry(atoms).or_insert(0);
            *slot = slot.checked_add(c)?;
        }
        (sum.len() <= MAX_TERMS).then(|| Self::from_terms(sum))
    }

    /// `self - other`; `None` as for a sum.
    pub fn sub(&self, other: &Dim) -> Option<Dim> {
        self.add(&other.mul(&Dim(Repr::Const(-1)))?)
    }

    /// `self * other`; `None` if numbers overflow, or there are too many terms or factors.
    pub fn mul(&self, other: &Dim) -> Option<Dim> {
        let mut product = BTreeMap::new();
        for (a, ca) in self.to_terms() {
            for (b, cb) in other.to_terms() {
                let mut atoms = [&a[..], &b[..]].concat();
                if atoms.len() > MAX_FACTORS || product.len() > MAX_TERMS {
                    return None;
                }
                atoms.sort();
                let slot: &mut i64 = product.entry(atoms).or_insert(0);
                *slot = slot.checked_add(ca.checked_mul(cb)?)?;
            }
        }
        Some(Self::from_terms(product))
    }

    /// `floor(self / divisor)`. `None` if the divisor is zero or too large.
    pub fn floor_div(&self, divisor: usize) -> Option<Dim> {
        let divisor = i64::try_from(divisor).ok().filter(|&d| d > 0)?;
        if divisor == 1 {
            return Some(self.clone());
        }
        if let Repr::Const(n) = self.0 {
            return Some(Dim(Repr::Const(n.div_euclid(divisor))));
        }
        // floor((d*q + r) / d) == q + floor(r / d), term by term.
        let (mut even, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (atoms, c) in self.to_terms() {
            let (quotient, remainder) = (c.div_euclid(divisor), c.rem_euclid(divisor));
            even.insert(atoms.clone(), quotient);
            rest.insert(atoms, remainder);
        }
        let (even, rest) = (Self::from_terms(even), Self::from_terms(rest));
        let rest = match rest.0 {
            Repr::Const(n) => Dim(Repr::Const(n.div_euclid(divisor))),
            Repr::Poly(_) => Self::from_terms([(vec![Atom::FloorDiv(rest, divisor)], 1)].into()),
        };
        even.add(&rest)
    }

    /// `self / divisor` where that comes out even for every binding of the symbols, else `None`.
    ///
    /// The divisor must be a single term (`16`, `N`, `4*N`).
    pub fn div_exact(&self, divisor: &Dim) -> Option<Dim> {
        let divisor: Vec<_> = divisor.to_terms().into_iter().collect();
        let [(divisor_atoms, divisor_coefficient)] = &divisor[..] else { return None };
        let mut quotient = BTreeMap::new();
        for (mut atoms, c) in self.to_terms() {
            if c % divisor_coefficient != 0 {
                return None;
            }
            for atom in divisor_atoms {
                let at = atoms.iter().position(|a| a == atom)?;
                atoms.remove(at);
            }
            quotient.insert(atoms, c / divisor_coefficient);
        }
        Some(Self::from_terms(quotient))
    }

    /// The number that the dimension becomes when `bind` says what each symbol is.
    ///
    /// `None` if a symbol is unbound, the arithmetic overflows, or the result is negative.
    pub fn eval(&self, bind: &dyn Fn(&str) -> Option<usize>) -> Option<usize> {
        usize::try_from(self.eval_signed(bind)?).ok()
    }

    fn eval_signed(&self, bind: &dyn Fn(&str) -> Option<usize>) -> Option<i64> {
        let terms = match &self.0 {
            Repr::Const(n) => return Some(*n),
            Repr::Poly(terms) => terms,
        };
        let mut sum = 0i64;
        for term in terms.iter() {
            let mut product = term.coefficient;
            for atom in &term.atoms {
                let value = match atom {
                    Atom::Symbol(s) => i64::try_from(bind(s)?).ok()?,
                    Atom::FloorDiv(d, n) => d.eval_signed(bind)?.div_euclid(*n),
                };
                product = product.checked_mul(value)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// The dimension with symbols replaced where `bind` knows a dimension for them; `None` on overflow.
    pub fn substitute(&self, bind: &dyn Fn(&str) -> Option<Dim>) -> Option<Dim> {
        let Repr::Poly(terms) = &self.0 else { return Some(self.clone()) };
        let mut sum = Dim::from(0);
        for term in terms.iter() {
            let mut product = Dim(Repr::Const(term.coefficient));
            for atom in &term.atoms {
                let factor = match atom {
                    Atom::Symbol(s) => bind(s).unwrap_or_else(|| Dim::symbol(s.clone())),
                    Atom::FloorDiv(d, n) => d.substitute(bind)?.floor_div(usize::try_from(*n).ok()?)?,
                };
                product = product.mul(&factor)?;
            }
            sum = sum.add(&product)?;
        }
        Some(sum)
    }

    /// The symbols in the dimension, each once, sorted.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut found = Vec::new();
        self.collect_symbols(&mut found);
        found.sort();
        found.dedup();
        found
    }

    fn collect_symbols(&self, found: &mut Vec<Symbol>) {
        let Repr::Poly(terms) = &self.0 else { return };
        for atom in terms.iter().flat_map(|t| &t.atoms) {
            match atom {
                Atom::Symbol(s) => found.push(s.clone()),
                Atom::FloorDiv(d, _) => d.collect_symbols(found),
            }
        }
    }

    fn to_terms(&self) -> BTreeMap<Vec<Atom>, i64> {
        match &self.0 {
            Repr::Const(0) => BTreeMap::new(),
            Repr::Const(n) => [(Vec::new(), *n)].into(),
            Repr::Poly(terms) => terms.iter().map(|t| (t.atoms.clone(), t.coefficient)).collect(),
        }
    }

    fn from_terms(terms: BTreeMap<Vec<Atom>, i64>) -> Self {
        let terms: Vec<_> = terms
            .into_iter()
            .filter(|&(_, c)| c != 0)
            .map(|(atoms, coefficient)| Term { atoms, coefficient })
            .collect();
        match &terms[..] {
            [] => Dim(Repr::Const(0)),
            [Term { atoms, coefficient }] if atoms.is_empty() => Dim(Repr::Const(*coefficient)),
            _ => Dim(Repr::Poly(Arc::new(terms))),
        }
    }
}

/// A symbol as the text form reads it: as it is if that looks like a word and like no number, else quoted behind `@`.
fn write_symbol(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if is_word && !matches!(name, "inf" | "nan") {
        return f.write_str(name);
    }
    f.write_str("@\"")?;
    for c in name.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl From<usize> for Dim {
    /// # Panics
    /// If the number does not fit `i64`; no tensor is that large.
    fn from(n: usize) -> Self {
        Dim(Repr::Const(i64::try_from(n).expect("a dimension fits i64")))
    }
}

impl fmt::Display for Dim {
    /// Constants last (`H + 1`), floor divisions as `(H + 1)/2`; the text parser reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = match &self.0 {
            Repr::Const(n) => return write!(f, "{n}"),
            Repr::Poly(terms) => terms,
        };
        // The empty product sorts first; it reads better at the end.
        let constant = terms.iter().filter(|t| t.atoms.is_empty());
        for (i, term) in terms.iter().filter(|t| !t.atoms.is_empty()).chain(constant).enumerate() {
            let sign = match (i, term.coefficient < 0) {
                (0, true) => "-",
                (0, false) => "",
                (_, true) => " - ",
                (_, false) => " + ",
            };
            f.write_str(sign)?;
            let magnitude = term.coefficient.unsigned_abs();
            if magnitude != 1 || term.atoms.is_empty() {
                write!(f, "{magnitude}{}", if term.atoms.is_empty() { "" } else { "*" })?;
            }
            for (j, atom) in term.atoms.iter().enumerate() {
                f.write_str(if j == 0 { "" } else { "*" })?;
                match atom {
                    Atom::Symbol(s) => write_symbol(f, s)?,
                    Atom::FloorDiv(d, n) => write!(f, "(({d})/{n})")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n() -> Dim {
        Dim::symbol("N")
    }

    #[test]
    fn sums_and_products_have_one_normal_form() {
        let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
        let left = a.add(&b).unwrap().mul(&Dim::from(2)).unwrap();
        let right = b.mul(&Dim::from(2)).unwrap().add(&a).unwrap().add(&a).unwrap();
        assert_eq!(left, right);
        assert_eq!(left.to_string(), "2*a + 2*b");
        assert_eq!(left.sub(&right).unwrap(), Dim::from(0));
    }

    #[test]
    fn floor_division_takes_out_what_is_even() {
        let d = n().mul(&Dim::from(4)).unwrap().add(&Dim::from(6)).unwrap();
        assert_eq!(d.floor_div(4).unwrap().to_string(), "N + 1");
        assert_eq!(n().add(&Dim::from(1)).unwrap().floor_div(2).unwrap().to_string(), "((N + 1)/2)");
        assert_eq!(n().floor_div(0), None);
        assert_eq!(Dim::from(7).floor_div(2), Some(Dim::from(3)));
    }

    #[test]
    fn polynomials_do_not_grow_without_bound() {
        let sum = (0..20).map(|i| Dim::symbol(format!("s{i}"))).reduce(|a, b| a.add(&b).unwrap()).unwrap();
        let squared = sum.mul(&sum).unwrap();
        assert_eq!(squared.mul(&sum), None, "1540 terms");
        let power = |n: usize| (0..n).try_fold(Dim::from(1), |p, _| p.mul(&Dim::symbol("N")));
        assert!(power(32).is_some());
        assert_eq!(power(33), None);
    }

    #[test]
    fn a_symbol_that_is_no_word_prints_quoted() {
        let text = |name: &str| Dim::symbol(name).mul(&Dim::from(2)).unwrap().to_string();
        assert_eq!(text("batch.size_1"), "2*batch.size_1");
        assert_eq!(text("batch size"), "2*@\"batch size\"");
        assert_eq!(text("7"), "2*@\"7\"");
        assert_eq!(text("inf"), "2*@\"inf\"");
        assert_eq!(text("a\"\\\n"), "2*@\"a\\\"\\\\\\u{a}\"");
    }

    #[test]
    fn exact_division_refuses_a_remainder() {
        let d = n().mul(&Dim::from(64)).unwrap();
        assert_eq!(d.div_exact(&Dim::from(16)), n().mul(&Dim::from(4)));
        assert_eq!(d.div_exact(&n()), Some(Dim::from(64)));
        assert_eq!(d.div_exact(&Dim::from(7)), None);
        assert_eq!(d.div_exact(&Dim::symbol("M")), None);
        assert_eq!(d.div_exact(&Dim::from(0)), None);
    }

    #[test]
    fn evaluation_binds_symbols_and_checks_range() {
        let half = n().sub(&Dim::from(3)).unwrap().floor_div(2).unwrap();
        assert_eq!(half.eval(&|_| Some(8)), Some(2));
        assert_eq!(half.eval(&|_| Some(0)), None, "negative");
        assert_eq!(half.eval(&|_| None), None, "unbound");
        assert_eq!(n().mul(&n()).unwrap().eval(&|_| Some(1 << 40)), None, "overflow");
        assert_eq!(half.substitute(&|_| Some(Dim::from(9))), Some(Dim::from(3)));
    }
}
