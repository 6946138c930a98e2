//! Einsum as the transposes, sums and matrix products that it names.

use bitc_ir::ops::einsum::{Label, Plan};
use bitc_ir::ops::reduce::ReduceKind;
use bitc_ir::ops::{Binary, BinaryKind, MatMul, Reduce, Slice};
use bitc_ir::{Attrs, Dim, Op, Shape, ValueId};

use crate::error::Cause;
use crate::import::attrs::required;
use crate::import::node::{NodeCx, Outputs, unsupported};

/// A value and the names of its axes, all different.
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

pub(super) fn einsum(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let equation = cx.attrs.str("equation")?;
    let equation: String = required("equation", equation)?.chars().filter(|c| !c.is_whitespace()).collect();
    let inputs = cx.all()?;
    let attrs = Attrs::from_iter([("equation".to_owned(), equation.as_str().into())]);
    let whole = Op::from_attrs("einsum", attrs).map_err(|e| Cause::Type(e.to_string()))?;
    let types = inputs.iter().map(|&v| Some(cx.ty(v))).collect();
    let expected = whole.infer(types).map_err(|e| Cause::Type(e.to_string()))?;
    let ranks: Vec<usize> = inputs.iter().map(|&v| cx.rank(v)).collect();
    let plan = if let Op::Einsum(op) = &whole { op.plan(&ranks).ok() } else { None };
    // What is no chain of products is left to one operation.
    match plan.map(|plan| chain(cx, plan, &inputs)).transpose()?.flatten() {
        Some(y) if *cx.ty(y) == expected[0] => Ok(vec![y]),
        _ => Ok(vec![cx.add(whole, &inputs)?]),
    }
}

/// The products from left to right; `None` where axes of one name have different sizes, or the result names one twice.
fn chain(cx: &mut NodeCx<'_, '_>, plan: Plan, inputs: &[ValueId]) -> Result<Option<ValueId>, Cause> {
    let Plan { inputs: terms, output } = plan;
    if repeated(&output).is_some() {
        return Ok(None);
    }
    let mut diagonals = Vec::new();
    for (&value, labels) in inputs.iter().zip(terms) {
        let Some(term) = diagonal(cx, Term { value, labels })? else { return Ok(None) };
        diagonals.push(term);
    }
    let mut terms = diagonals.into_iter();
    let Some(mut result) = terms.next() else { return Ok(None) };
    let rest: Vec<Term> = terms.collect();
    for (i, term) in rest.iter().enumerate() {
        let needed = |l: &Label| output.contains(l) || rest[i + 1..].iter().any(|t| t.labels.contains(l));
        let Some(product) = product(cx, &result, term, needed, &output)? else { return Ok(None) };
        result = product;
    }
    let result = summed(cx, &result, |l| output.contains(l))?;
    let perm: Option<Vec<usize>> = output.iter().map(|l| result.labels.iter().position(|m| m == l)).collect();
    perm.map(|perm| cx.transpose(result.value, perm)).transpose()
}

/// The positions of two axes of one name.
fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    let pairs = labels.iter().enumerate().map(|(j, l)| (labels[..j].iter().position(|m| m == l), j));
    pairs.filter_map(|(i, j)| i.map(|i| (i, j))).next()
}

/// A term with its diagonal in place of every two axes of one name: of the `n * n` elements of both every `n + 1`st one.
/// `None` where they have no size, or not the same.
fn diagonal(cx: &mut NodeCx<'_, '_>, mut term: Term) -> Result<Option<Term>, Cause> {
    while let Some((i, j)) = repeated(&term.labels) {
        let dims = cx.dims(term.value);
        let Some((n, square)) =
            dims[i].as_const().filter(|_| dims[i] == dims[j]).and_then(|n| Some((n, n.checked_mul(n)?)))
        else {
            return Ok(None);
        };
        let others: Vec<usize> = (0..dims.len()).filter(|&axis| axis != i && axis != j).collect();
        let moved = cx.transpose(term.value, [&others[..], &[i, j]].concat())?;
        let mut shape: Vec<Dim> = others.iter().map(|&axis| dims[axis].clone()).collect();
        shape.push(Dim::from(square));
        let flat = cx.reshape(moved, shape)?;
        let every = Slice {
            axes: vec![others.len()],
            starts: Shape(vec![Dim::from(0)]),
            ends: Shape(vec![Dim::from(square)]),
            steps: vec![n + 1],
        };
        let labels = others.iter().map(|&axis| term.labels[axis]).chain([term.labels[i]]).collect();
        term = Term { value: cx.add(every, &[flat])?, labels };
    }
    Ok(Some(term))
}

/// The sum over the axes that nobody needs.
fn summed(cx: &mut NodeCx<'_, '_>, term: &Term, needed: impl Fn(&Label) -> bool) -> Result<Term, Cause> {
    let gone: Vec<i64> = (0..).zip(&term.labels).filter(|(_, l)| !needed(l)).map(|(i, _)| i).collect();
    let labels = term.labels.iter().copied().filter(|l| needed(l)).collect();
    if gone.is_empty() {
        return Ok(Term { value: term.value, labels });
    }
    let value = cx.add(Reduce { kind: ReduceKind::Sum, axes: gone, keep: false }, &[term.value])?;
    Ok(Term { value, labels })
}

/// The sum of products over the axes that both have and nobody needs afterwards; elements are multiplied where there are
/// no such axes. `None` where such an axis broadcasts.
fn product(
    cx: &mut NodeCx<'_, '_>,
    a: &Term,
    b: &Term,
    needed: impl Fn(&Label) -> bool,
    output: &[Label],
) -> Result<Option<Term>, Cause> {
    let a = summed(cx, a, |l| needed(l) || b.labels.contains(l))?;
    let b = summed(cx, b, |l| needed(l) || a.labels.contains(l))?;
    let pick = |from: &Term, wanted: &dyn Fn(&Label) -> bool| -> Vec<Label> {
        from.labels.iter().copied().filter(|l| wanted(l)).collect()
    };
    let shared = pick(&a, &|l| b.labels.contains(l) && needed(l));
    let inner = pick(&a, &|l| b.labels.contains(l) && !needed(l));
    let (left, right) = (pick(&a, &|l| !b.labels.contains(l)), pick(&b, &|l| !a.labels.contains(l)));
    if sizes(cx, &a, &inner) != sizes(cx, &b, &inner) {
        return Ok(None);
    }
    if inner.is_empty() {
        let mut labels = [shared, left, right].concat();
        labels.sort_by_key(|l| output.iter().position(|m| m == l).unwrap_or(usize::MAX));
        let (Some(x), Some(y)) = (spread(cx, &a, &labels)?, spread(cx, &b, &labels)?) else { return Ok(None) };
        let value = cx.add(Binary(BinaryKind::Mul), &[x, y])?;
        return Ok(Some(Term { value, labels }));
    }
    let (Some(x), Some(y)) =
        (matrices(cx, &a, [&shared, &left, &inner])?, matrices(cx, &b, [&shared, &inner, &right])?)
    else {
        return Ok(None);
    };
    let value = cx.add(MatMul, &[x, y])?;
    let mut dims: Vec<Dim> = cx.dims(value)[..shared.len()].to_vec();
    dims.extend(sizes(cx, &a, &left));
    dims.extend(sizes(cx, &b, &right));
    let value = cx.reshape(value, dims)?;
    Ok(Some(Term { value, labels: [shared, left, right].concat() }))
}

/// The sizes of axes of a term, which has them.
fn sizes(cx: &NodeCx<'_, '_>, term: &Term, labels: &[Label]) -> Vec<Dim> {
    let dims = cx.dims(term.value);
    labels.iter().filter_map(|l| term.labels.iter().position(|m| m == l).map(|i| dims[i].clone())).collect()
}

/// A term with its axes in the order of some labels, and axes of length 1 for those that it does not have.
fn spread(cx: &mut NodeCx<'_, '_>, term: &Term, labels: &[Label]) -> Result<Option<ValueId>, Cause> {
    let own: Vec<Label> = labels.iter().copied().filter(|l| term.labels.contains(l)).collect();
    let perm: Option<Vec<usize>> = own.iter().map(|l| term.labels.iter().position(|m| m == l)).collect();
    let Some(perm) = perm.filter(|perm| perm.len() == term.labels.len()) else { return Ok(None) };
    let mut dims = sizes(cx, term, &own).into_iter();
    let dims = labels.iter().map(|l| if own.contains(l) { dims.next() } else { Some(Dim::from(1)) });
    let Some(dims) = dims.collect::<Option<Vec<Dim>>>() else { return Ok(None) };
    let moved = cx.transpose(term.value, perm)?;
    Ok(Some(cx.reshape(moved, dims)?))
}

/// A term as matrices: its axes in this order, the last two groups as one axis each.
fn matrices(cx: &mut NodeCx<'_, '_>, term: &Term, groups: [&[Label]; 3]) -> Result<Option<ValueId>, Cause> {
    let order = groups.concat();
    let perm: Option<Vec<usize>> = order.iter().map(|l| term.labels.iter().position(|m| m == l)).collect();
    let Some(perm) = perm.filter(|perm| perm.len() == term.labels.len()) else { return Ok(None) };
    let mut dims = sizes(cx, term, groups[0]);
    for group in &groups[1..] {
        let size = Shape(sizes(cx, term, group)).numel().ok_or_else(|| unsupported("a tensor that large"))?;
        dims.push(size);
    }
    let moved = cx.transpose(term.value, perm)?;
    Ok(Some(cx.reshape(moved, dims)?))
}
