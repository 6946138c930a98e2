//! Integer values made of dimensions: what a chain of `shape`, `gather`, `concat` and arithmetic computes before it runs.
//!
//! Exporters compute the arguments of reshapes from the shapes of other values. Where all of that is sums, products and
//! selections, the result is a list of [`Dim`]s, and a shape that looks dynamic is known. Nothing is guessed: what has no
//! such form has no [`ShapeValue`].

use crate::ops::binary::BinaryKind;
use crate::ops::compare::CompareKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{Op, resolve_axis};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, DimView, TensorType};

/// The longest list that is followed.
const MAX_LEN: usize = 256;

/// The known elements of an integer (or boolean) value of rank 0 or 1; a dimension may be negative here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShapeValue {
    /// The elements; one where the rank is 0.
    pub elements: Vec<Dim>,
    /// Whether the rank is 0.
    pub is_scalar: bool,
}

impl ShapeValue {
    fn list(elements: Vec<Dim>) -> Option<Self> {
        (elements.len() <= MAX_LEN).then_some(Self { elements, is_scalar: false })
    }

    fn scalar(element: Dim) -> Self {
        Self { elements: vec![element], is_scalar: true }
    }

    /// The value of a constant, if it is short and holds integers or bools.
    pub fn of_tensor(tensor: &Tensor) -> Option<Self> {
        if tensor.rank() > 1 || tensor.numel() > MAX_LEN || tensor.dtype().is_float() {
            return None;
        }
        let values = crate::eval::array::integers(tensor)?;
        let elements = values.iter().map(|&v| i64::try_from(v).ok().and_then(dim_of)).collect::<Option<_>>()?;
        Some(Self { elements, is_scalar: tensor.rank() == 0 })
    }

    /// The value as a constant of an element type, if no element is symbolic and all fit.
    pub fn to_tensor(&self, dtype: DType) -> Option<Tensor> {
        let (low, high) = dtype.integer_range()?;
        let fits = |&v: &i64| (low..=high).contains(&i128::from(v));
        let values = self.elements.iter().map(|d| number_of(d).filter(fits)).collect::<Option<Vec<_>>>()?;
        let dims: &[usize] = if self.is_scalar { &[] } else { &[values.len()] };
        let array = ndarray::ArrayD::from_shape_vec(dims, values.into_iter().map(i128::from).collect()).ok()?;
        Some(crate::eval::array::store_integers(dtype, &array))
    }
}

/// The dimension that is an integer; it may be negative.
pub fn dim_of(value: i64) -> Option<Dim> {
    let magnitude = usize::try_from(value.unsigned_abs()).ok().filter(|_| value != i64::MIN)?;
    if value < 0 { Dim::from(0).sub(&Dim::from(magnitude)) } else { Some(Dim::from(magnitude)) }
}

/// The integer that a dimension is, if it is no expression.
pub fn number_of(dim: &Dim) -> Option<i64> {
    match dim.view() {
        DimView::Const(n) => Some(n),
        DimView::Sum(_) => None,
    }
}

/// The value of the only output of an operation, where it follows from the types and known values of the inputs.
pub fn propagate(op: &Op, types: &[Option<&TensorType>], values: &[Option<ShapeValue>]) -> Option<ShapeValue> {
    let value = |i: usize| values.get(i)?.as_ref();
    let ty = |i: usize| types.get(i).copied().flatten();
    match op {
        Op::ShapeOf(shape) => ShapeValue::list(ty(0)?.shape.0.get(shape.start..shape.end)?.to_vec()),
        Op::Cast(cast) => value(0).filter(|_| cast.to.is_integer()).cloned(),
        Op::Reshape(reshape) => match &reshape.shape.0[..] {
            [] => Some(ShapeValue { is_scalar: true, ..value(0)?.clone() }),
            [_] => Some(ShapeValue { is_scalar: false, ..value(0)?.clone() }),
            _ => None,
        },
        Op::Expand(expand) => {
            let (only, [count]) = (value(0).filter(|v| v.elements.len() == 1)?, &expand.shape.0[..]) else {
                return None;
            };
            let count = count.as_const().filter(|&n| n <= MAX_LEN)?;
            ShapeValue::list(vec![only.elements.first()?.clone(); count])
        }
        Op::Concat(_) => {
            let parts = (0..types.len()).map(|i| value(i).filter(|v| !v.is_scalar)).collect::<Option<Vec<_>>>()?;
            ShapeValue::list(parts.into_iter().flat_map(|v| v.elements.iter().cloned()).collect())
        }
        Op::Slice(slice) => {
            let all = &value(0)?.elements;
            let ([start], [end], [step]) = (&slice.starts.0[..], &slice.ends.0[..], &slice.steps[..]) else {
                return None;
            };
            let range = all.get(start.as_const()?..end.as_const()?)?;
            ShapeValue::list(range.iter().step_by(*step).cloned().collect())
        }
        Op::Reverse(_) => ShapeValue::list(value(0)?.elements.iter().rev().cloned().collect()),
        Op::Gather(_) => {
            let (all, at) = (value(0).filter(|v| !v.is_scalar)?, value(1)?);
            let pick = |index: &Dim| {
                let place = resolve_axis(number_of(index)?, all.elements.len()).ok()?;
                all.elements.get(place).cloned()
            };
            let elements = at.elements.iter().map(pick).collect::<Option<_>>()?;
            Some(ShapeValue { elements, is_scalar: at.is_scalar })
        }
        Op::Reduce(reduce) if matches!(reduce.kind, ReduceKind::Prod | ReduceKind::Sum) => {
            let product = reduce.kind == ReduceKind::Prod;
            let step = |a: Dim, b: &Dim| if product { a.mul(b) } else { a.add(b) };
            let total = value(0)?.elements.iter().try_fold(Dim::from(usize::from(product)), step)?;
            if reduce.keep { ShapeValue::list(vec![total]) } else { Some(ShapeValue::scalar(total)) }
        }
        Op::Binary(binary) => zip(value(0)?, value(1)?, |a, b| combine(binary.0, a, b)),
        Op::Compare(compare) => zip(value(0)?, value(1)?, |a, b| {
            let holds = decide(compare.0, a, b)?;
            Some(Dim::from(usize::from(holds)))
        }),
        Op::Where(_) => {
            let condition = value(0)?;
            let chosen = zip(value(1)?, value(2)?, |_, _| Some(Dim::from(0)))?;
            let len = chosen.elements.len().max(condition.elements.len());
            let at = |v: &ShapeValue, i: usize| v.elements.get(if v.elements.len() == 1 { 0 } else { i }).cloned();
            let pick = |i| match number_of(&at(condition, i)?)? {
                0 => at(value(2)?, i),
                _ => at(value(1)?, i),
            };
            let elements = (0..len).map(pick).collect::<Option<_>>()?;
            Some(ShapeValue { elements, is_scalar: chosen.is_scalar && condition.is_scalar })
        }
        _ => None,
    }
}

/// Applies a formula to two values that broadcast.
fn zip(a: &ShapeValue, b: &ShapeValue, formula: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<ShapeValue> {
    let len = match (a.elements.len(), b.elements.len()) {
        (a, b) if a == b => a,
        (1, len) | (len, 1) => len,
        _ => return None,
    };
    let at = |v: &'_ ShapeValue, i: usize| v.elements.get(if v.elements.len() == 1 { 0 } else { i }).cloned();
    let elements = (0..len).map(|i| formula(&at(a, i)?, &at(b, i)?)).collect::<Option<_>>()?;
    Some(ShapeValue { elements, is_scalar: a.is_scalar && b.is_scalar })
}

fn combine(kind: BinaryKind, a: &Dim, b: &Dim) -> Option<Dim> {
    if let (Some(a), Some(b)) = (number_of(a), number_of(b)) {
        let exact = kind.integer(i128::from(a), i128::from(b))?;
        return dim_of(i64::try_from(exact).ok()?);
    }
    match kind {
        BinaryKind::Add => a.add(b),
        BinaryKind::Sub => a.sub(b),
        BinaryKind::Mul => a.mul(b),
        // Sizes are not negative, so rounding toward zero is rounding down.
        BinaryKind::Div => b.as_const().filter(|_| is_size(a)).and_then(|b| a.floor_div(b)).or_else(|| a.div_exact(b)),
        BinaryKind::Max if a == b || decide(CompareKind::GreaterEqual, a, b)? => Some(a.clone()),
        BinaryKind::Max => Some(b.clone()),
        BinaryKind::Min if a == b || decide(CompareKind::LessEqual, a, b)? => Some(a.clone()),
        BinaryKind::Min => Some(b.clone()),
        _ => None,
    }
}

/// Whether a dimension is a sum of products of symbols with coefficients that are not negative.
fn is_size(dim: &Dim) -> bool {
    match dim.view() {
        DimView::Const(n) => n >= 0,
        DimView::Sum(terms) => terms.iter().all(|(coefficient, _)| *coefficient >= 0),
    }
}

/// Whether a relation holds for every binding; `None` where it depends on the binding.
fn decide(kind: CompareKind, a: &Dim, b: &Dim) -> Option<bool> {
    let difference = a.sub(b)?;
    if let Some(n) = number_of(&difference) {
        return Some(kind.holds(n, 0));
    }
    // Only the sign is known: not negative, or, with a positive constant part, positive.
    let negated = Dim::from(0).sub(&difference)?;
    let (sign, size) = if is_size(&difference) { (1, difference) } else { (-1, Some(negated).filter(is_size)?) };
    let is_positive = size.sub(&Dim::from(1)).is_some_and(|d| is_size(&d));
    match (kind, is_positive) {
        (_, true) => Some(kind.holds(sign, 0)),
        (CompareKind::GreaterEqual, false) if sign > 0 => Some(true),
        (CompareKind::Less, false) if sign > 0 => Some(false),
        (CompareKind::LessEqual, false) if sign < 0 => Some(true),
        (CompareKind::Greater, false) if sign < 0 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::binary::Binary;
    use crate::ops::compare::Compare;
    use crate::ops::{Gather, ShapeOf, Where};

    fn n() -> Dim {
        Dim::symbol("N")
    }

    fn value(numbers: &[i64]) -> ShapeValue {
        ShapeValue::list(numbers.iter().map(|&v| dim_of(v).unwrap()).collect()).unwrap()
    }

    fn apply(op: impl Into<Op>, values: &[ShapeValue]) -> Option<ShapeValue> {
        let values: Vec<_> = values.iter().cloned().map(Some).collect();
        propagate(&op.into(), &vec![None; values.len()], &values)
    }

    #[test]
    fn a_shape_is_taken_apart_and_computed_with() {
        let x = TensorType::new(DType::F32, vec![n(), Dim::from(8), Dim::from(64)]);
        let shape = propagate(&ShapeOf { start: 0, end: 3 }.into(), &[Some(&x)], &[None]).unwrap();
        let batch = apply(Gather { axis: 0 }, &[shape.clone(), value(&[0])]).unwrap();
        assert_eq!(batch.elements, [n()]);
        let halved = apply(Binary(BinaryKind::Div), &[shape, value(&[2])]).unwrap();
        assert_eq!(halved.elements[2], Dim::from(32));
        assert_eq!(halved.elements[0].to_string(), "((N)/2)");
        assert_eq!(apply(Gather { axis: 0 }, &[halved, value(&[3])]), None, "out of range");
    }

    #[test]
    fn comparisons_are_decided_only_for_every_binding() {
        let symbolic = ShapeValue::list(vec![n()]).unwrap();
        let equal = |b: i64| apply(Compare(CompareKind::Equal), &[symbolic.clone(), value(&[b])]);
        assert_eq!(equal(-1).unwrap().elements, [Dim::from(0)], "a size is never -1");
        assert_eq!(equal(1), None, "N may be 1");
        let at_least = apply(Compare(CompareKind::GreaterEqual), &[symbolic.clone(), value(&[0])]).unwrap();
        assert_eq!(at_least.elements, [Dim::from(1)]);
        let chosen = apply(Where, &[value(&[1, 0]), value(&[5, 6]), symbolic]).unwrap();
        assert_eq!(chosen.elements, [Dim::from(5), n()]);
    }

    #[test]
    fn a_value_without_symbols_is_a_tensor() {
        assert_eq!(value(&[-1, 4]).to_tensor(DType::I64), Some(Tensor::new(&[2], &[-1i64, 4])));
        assert_eq!(value(&[-1]).to_tensor(DType::Bool), None);
        assert_eq!(ShapeValue::scalar(n()).to_tensor(DType::I64), None);
        assert_eq!(ShapeValue::of_tensor(&Tensor::scalar(7i64)), Some(ShapeValue::scalar(Dim::from(7))));
        assert_eq!(ShapeValue::of_tensor(&Tensor::scalar(7f32)), None);
    }
}
