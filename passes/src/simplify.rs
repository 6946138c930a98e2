//! `simplify`: brings what exporters write into one form.
//!
//! Every rule has its equation. All are exact but the straight-through residue, which moves a float by its last bit.

use bitc_ir::ops::{
    Activation, BinaryKind, Cast, Concat, Expand, Flatten, Linear, MatMul, Reshape, Transpose, Unary, UnaryKind,
};
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op, Tensor, ValueId};

use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// See the module.
#[derive(Debug)]
pub struct Simplify;

impl Simplify {
    pub(crate) const NAME: &'static str = "simplify";
    pub(crate) const DOC: &'static str = "Removes operations without effect and brings exporters' forms into one.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let rules = [
            Rule { name: "straight-through", apply: &straight_through },
            Rule { name: "neutral-element", apply: &neutral_element },
            Rule { name: "reciprocal", apply: &reciprocal },
            Rule { name: "idempotent", apply: &idempotent },
            Rule { name: "same-type", apply: &same_type },
            Rule { name: "cast-back", apply: &cast_back },
            Rule { name: "broadcast", apply: &broadcast },
            Rule { name: "reshapes", apply: &reshapes },
            Rule { name: "transposes", apply: &transposes },
            Rule { name: "matmul-to-linear", apply: &matmul_to_linear },
        ];
        rewrite(graph, &rules, Self::NAME, cx)
    }
}

fn binary(g: &Editor<'_>, node: NodeId, kind: BinaryKind) -> Result<[ValueId; 2], Miss> {
    match (&g.node(node).op, &g.node(node).inputs[..]) {
        (Op::Binary(op), &[Some(a), Some(b)]) if op.0 == kind => Ok([a, b]),
        _ => Err(Miss::NoMatch),
    }
}

/// `a + (b - a) == b`, what a straight-through estimator leaves behind.
fn straight_through(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let [x, y] = binary(g, node, BinaryKind::Add)?;
    for (a, difference) in [(x, y), (y, x)] {
        let Some(producer) = g.producer_id(difference) else { continue };
        if let Ok([b, subtracted]) = binary(g, producer, BinaryKind::Sub)
            && subtracted == a
            && g.ty(b) == g.ty(g.node(node).outputs[0])
        {
            return Ok(b.into());
        }
    }
    Err(Miss::NoMatch)
}

fn is_all(g: &Editor<'_>, value: ValueId, number: f64) -> bool {
    g.constant(value).is_some_and(|t| t.numel() > 0 && t.to_f64().iter().all(|&v| v == number))
}

/// `x + 0 == x`, `x - 0 == x`, `x * 1 == x`, `x / 1 == x`, where the constant does not widen x.
///
/// `-0.0 + 0` is `0.0`; the sign of a zero is not kept.
fn neutral_element(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Binary(op) = &g.node(node).op else { return Err(Miss::NoMatch) };
    let (neutral, commutes) = match op.0 {
        BinaryKind::Add => (0.0, true),
        BinaryKind::Sub => (0.0, false),
        BinaryKind::Mul => (1.0, true),
        BinaryKind::Div => (1.0, false),
        _ => return Err(Miss::NoMatch),
    };
    let [a, b] = binary(g, node, op.0)?;
    let result = g.ty(g.node(node).outputs[0]);
    if is_all(g, b, neutral) && g.ty(a) == result {
        Ok(a.into())
    } else if commutes && is_all(g, a, neutral) && g.ty(b) == result {
        Ok(b.into())
    } else {
        Err(Miss::NoMatch)
    }
}

/// `1 / x == reciprocal(x)`.
fn reciprocal(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let [one, x] = binary(g, node, BinaryKind::Div)?;
    let wanted = is_all(g, one, 1.0) && g.ty(x) == g.ty(g.node(node).outputs[0]) && g.ty(x).dtype.is_float();
    if wanted { Ok(g.add(Unary(UnaryKind::Reciprocal), &[Some(x)])?.into()) } else { Err(Miss::NoMatch) }
}

/// `relu(relu(x)) == relu(x)`; likewise for abs, sign, floor, ceil and round.
fn idempotent(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    use UnaryKind::{Abs, Ceil, Floor, Relu, Round, Sign};
    let Op::Unary(op) = g.node(node).op else { return Err(Miss::NoMatch) };
    let x = g.input(node, 0).ok_or(Miss::NoMatch)?;
    match g.producer::<Unary>(x) {
        Some((_, inner)) if inner.0 == op.0 && [Abs, Ceil, Floor, Relu, Round, Sign].contains(&op.0) => Ok(x.into()),
        _ => Err(Miss::NoMatch),
    }
}

/// `cast(x) == x` where x has the type already; `concat(x) == x`.
fn same_type(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let at = g.node(node);
    let wanted = match at.op {
        Op::Cast(Cast { to }) => at.inputs[0].is_some_and(|x| g.ty(x).dtype == to),
        Op::Concat(Concat { .. }) => at.inputs.len() == 1,
        _ => false,
    };
    at.inputs.first().copied().flatten().filter(|_| wanted).map(Into::into).ok_or(Miss::NoMatch)
}

/// `cast(cast(x)) == x` where the type in between holds every value of x and the outer cast goes back.
fn cast_back(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Cast(outer) = &g.node(node).op else { return Err(Miss::NoMatch) };
    let Some((inner_node, inner)) = g.input(node, 0).and_then(|x| g.producer::<Cast>(x)) else {
        return Err(Miss::NoMatch);
    };
    let x = g.input(inner_node, 0).ok_or(Miss::NoMatch)?;
    if g.ty(x).dtype == outer.to && holds(inner.to, outer.to) { Ok(x.into()) } else { Err(Miss::NoMatch) }
}

/// `a + expand(b) == a + b` where b broadcasts to the same result by itself; likewise for every operation on two values.
fn broadcast(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Binary(op) = g.node(node).op.clone() else { return Err(Miss::NoMatch) };
    let [a, b] = binary(g, node, op.0)?;
    let result = g.ty(g.node(node).outputs[0]).shape.clone();
    let narrow = |v: ValueId| g.producer::<Expand>(v).and_then(|(n, _)| g.input(n, 0));
    for (new_a, new_b) in [(Some(a), narrow(b)), (narrow(a), Some(b))] {
        let (Some(new_a), Some(new_b)) = (new_a, new_b) else { continue };
        if g.ty(new_a).shape.broadcast(&g.ty(new_b).shape).as_ref() == Some(&result) {
            return Ok(g.add(op, &[Some(new_a), Some(new_b)])?.into());
        }
    }
    Err(Miss::NoMatch)
}

/// Whether every value of one type is a value of another, so that casting there and back changes nothing.
fn holds(wide: DType, narrow: DType) -> bool {
    match (narrow.integer_range(), wide.integer_range()) {
        (Some((low, high)), Some((wide_low, wide_high))) => wide_low <= low && high <= wide_high,
        (Some((low, high)), None) => {
            let exact = match wide {
                DType::F64 => 1 << 53,
                DType::F32 => 1 << 24,
                DType::F16 => 1 << 11,
                _ => 1 << 8,
            };
            -exact <= low && high <= exact
        }
        (None, Some(_)) => false,
        (None, None) => wide == DType::F64 || (wide == DType::F32 && narrow != DType::F64),
    }
}

/// `flatten(x) == reshape(x)`, `reshape(reshape(x)) == reshape(x)`, and a reshape to the same shape is x.
fn reshapes(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let at = g.node(node);
    let is_reshape = |op: &Op| matches!(op, Op::Reshape(Reshape { .. }) | Op::Flatten(Flatten { .. }));
    if !is_reshape(&at.op) {
        return Err(Miss::NoMatch);
    }
    let (x, result) = (at.inputs[0].ok_or(Miss::NoMatch)?, at.outputs[0]);
    if g.ty(x) == g.ty(result) {
        return Ok(x.into());
    }
    let shape = g.ty(result).shape.clone();
    let inner = g.producer_id(x).filter(|&p| is_reshape(&g.node(p).op)).and_then(|p| g.input(p, 0));
    match inner {
        Some(inner) => Ok(g.add(Reshape { shape }, &[Some(inner)])?.into()),
        None if matches!(at.op, Op::Flatten(_)) => Ok(g.add(Reshape { shape }, &[Some(x)])?.into()),
        None => Err(Miss::NoMatch),
    }
}

/// `transpose(transpose(x, p), q) == transpose(x, p[q])`, and a transpose that moves nothing is x.
fn transposes(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Transpose(outer) = &g.node(node).op else { return Err(Miss::NoMatch) };
    let x = g.input(node, 0).ok_or(Miss::NoMatch)?;
    if outer.perm.iter().enumerate().all(|(i, &p)| i == p) {
        return Ok(x.into());
    }
    let Some((inner_node, inner)) = g.producer::<Transpose>(x) else { return Err(Miss::NoMatch) };
    let perm = outer.perm.iter().map(|&q| inner.perm[q]).collect();
    let source = g.input(inner_node, 0).ok_or(Miss::NoMatch)?;
    Ok(g.add(Transpose { perm }, &[Some(source)])?.into())
}

/// `matmul(x, transpose(w)) == linear(x, w)`, and `matmul(x, c) == linear(x, transpose(c))` for a constant matrix c; leading
/// axes of 1 that c has and x too say nothing.
fn matmul_to_linear(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let (Op::MatMul(MatMul), &[Some(x), Some(w)]) = (&g.node(node).op, &g.node(node).inputs[..]) else {
        return Err(Miss::NoMatch);
    };
    let rank = g.ty(w).shape.rank();
    if rank < 2 || g.ty(x).shape.rank() < rank || g.ty(w).dtype != DType::F32 {
        return Err(Miss::NoMatch);
    }
    let op = Linear { act: Activation::None };
    if rank > 2 {
        let matrix = g.constant(w).and_then(|t| {
            let (ones, matrix) = t.dims().split_at(rank - 2);
            t.reshaped(matrix).filter(|_| ones.iter().all(|&d| d == 1))
        });
        let transposed = matrix.as_ref().and_then(transposed).ok_or(Miss::NoMatch)?;
        let name = g.value(w).name.clone();
        let w = g.add_const(&name, transposed);
        return Ok(g.add(op, &[Some(x), Some(w)])?.into());
    }
    if let Some((transpose, order)) = g.producer::<Transpose>(w)
        && order.perm == [1, 0]
    {
        let source = g.input(transpose, 0);
        return Ok(g.add(op, &[Some(x), source])?.into());
    }
    let tensor = g.constant(w).ok_or(Miss::NoMatch)?;
    let transposed = transposed(tensor).ok_or(Miss::NoMatch)?;
    let name = g.value(w).name.clone();
    let w = g.add_const(&name, transposed);
    Ok(g.add(op, &[Some(x), Some(w)])?.into())
}

fn transposed(matrix: &Tensor) -> Option<Tensor> {
    let (values, &[rows, columns]) = (matrix.to_vec::<f32>()?, matrix.dims()) else { return None };
    let swapped: Vec<f32> =
        (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| values[r * columns + c]).collect();
    Some(Tensor::new(&[columns, rows], &swapped))
}
