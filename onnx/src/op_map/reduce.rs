//! Operators that summarise axes.

use bitc_ir::ops::{ArgMax, Reduce, reduce::ReduceKind};
use bitc_ir::{DType, Shape, Tensor, TensorType, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("ReduceSum", With(|cx| reduce(cx, ReduceKind::Sum))),
    std("ReduceMean", With(|cx| reduce(cx, ReduceKind::Mean))),
    std("ReduceMax", With(|cx| reduce(cx, ReduceKind::Max))),
    std("ReduceMin", With(|cx| reduce(cx, ReduceKind::Min))),
    std("ReduceProd", With(|cx| reduce(cx, ReduceKind::Prod))),
    std("ReduceL1", With(reduce_l1)),
    std("ReduceL2", With(reduce_l2)),
    std("ReduceSumSquare", With(reduce_sum_square)),
    std("ReduceLogSum", With(reduce_log_sum)),
    std("ReduceLogSumExp", With(reduce_log_sum_exp)),
    std("ArgMax", With(|cx| arg_extreme(cx, false))),
    std("ArgMin", With(|cx| arg_extreme(cx, true))),
    std("CumSum", With(|cx| cumulate(cx, "cumsum"))),
    std("CumProd", With(|cx| cumulate(cx, "cumprod"))),
    std("TopK", With(top_k)),
];

/// What a reduction goes over.
struct Over {
    /// `None` leaves everything as it is.
    axes: Option<Vec<i64>>,
    keep: bool,
}

impl Over {
    /// Reads axes, which are an attribute before opset 18 (13 for sums) and an input from then on.
    fn read(cx: &mut NodeCx<'_, '_>) -> Result<Self, Cause> {
        let input_since = if cx.op == "ReduceSum" { 13 } else { 18 };
        let axes = cx.ints_attr_or_input("axes", input_since, 1)?.unwrap_or_default();
        let keep = cx.attrs.flag("keepdims", true)?;
        let noop = cx.attrs.flag("noop_with_empty_axes", false)?;
        let rank = cx.rank(cx.input(0)?);
        let axes = if axes.is_empty() && !noop {
            (0..rank as i64).collect()
        } else if axes.is_empty() {
            return Ok(Self { axes: None, keep });
        } else {
            cx.axes(&axes, rank)?.into_iter().map(|a| a as i64).collect()
        };
        Ok(Self { axes: Some(axes), keep })
    }

    fn apply(&self, cx: &mut NodeCx<'_, '_>, kind: ReduceKind, x: ValueId) -> Result<ValueId, Cause> {
        match &self.axes {
            // A scalar has no axes to go over, and an empty list would mean all.
            None => Ok(x),
            Some(axes) if axes.is_empty() => Ok(x),
            Some(axes) => cx.add(Reduce { kind, axes: axes.clone(), keep: self.keep }, &[x]),
        }
    }

    /// As `apply`, with the axes kept whatever the node says.
    fn keeping(&self, cx: &mut NodeCx<'_, '_>, kind: ReduceKind, x: ValueId) -> Result<ValueId, Cause> {
        Self { axes: self.axes.clone(), keep: true }.apply(cx, kind, x)
    }
}

fn reduce(cx: &mut NodeCx<'_, '_>, kind: ReduceKind) -> Outputs {
    cx.arity(1, 2)?;
    let over = Over::read(cx)?;
    let x = cx.input(0)?;
    if cx.dtype(x) == DType::Bool {
        // The largest and smallest truth value.
        let bytes = cx.cast(x, DType::U8)?;
        let y = over.apply(cx, kind, bytes)?;
        return Ok(vec![cx.cast(y, DType::Bool)?]);
    }
    Ok(vec![over.apply(cx, kind, x)?])
}

fn reduce_l1(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let over = Over::read(cx)?;
    let x = cx.input(0)?;
    let magnitude = cx.simple("abs", &[x])?;
    Ok(vec![over.apply(cx, ReduceKind::Sum, magnitude)?])
}

fn sum_of_squares(cx: &mut NodeCx<'_, '_>) -> Result<ValueId, Cause> {
    cx.arity(1, 2)?;
    let over = Over::read(cx)?;
    let x = cx.input(0)?;
    let squares = cx.simple("mul", &[x, x])?;
    over.apply(cx, ReduceKind::Sum, squares)
}

fn reduce_sum_square(cx: &mut NodeCx<'_, '_>) -> Outputs {
    Ok(vec![sum_of_squares(cx)?])
}

fn reduce_l2(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let dtype = cx.dtype(cx.input(0)?);
    let sum = sum_of_squares(cx)?;
    if dtype.is_float() {
        return Ok(vec![cx.simple("sqrt", &[sum])?]);
    }
    let wide = cx.cast(sum, DType::F64)?;
    let root = cx.simple("sqrt", &[wide])?;
    Ok(vec![cx.cast(root, dtype)?])
}

fn reduce_log_sum(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let over = Over::read(cx)?;
    let x = cx.input(0)?;
    let sum = over.apply(cx, ReduceKind::Sum, x)?;
    logarithm(cx, sum)
}

fn logarithm(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Outputs {
    let dtype = cx.dtype(x);
    let wide = if dtype.is_float() { x } else { cx.cast(x, DType::F64)? };
    let y = cx.simple("log", &[wide])?;
    Ok(vec![cx.cast(y, dtype)?])
}

/// `log(sum(exp(x - m))) + m`, m the maximum, or 0 where that is infinite.
fn reduce_log_sum_exp(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let over = Over::read(cx)?;
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let x = if dtype.is_float() { x } else { cx.cast(x, DType::F64)? };
    let max = over.keeping(cx, ReduceKind::Max, x)?;
    let magnitude = cx.simple("abs", &[max])?;
    let finite = with_scalar(cx, "less", magnitude, f64::INFINITY)?;
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    let shift = cx.simple("where", &[finite, max, zero])?;
    let shifted = cx.simple("sub", &[x, shift])?;
    let exp = cx.simple("exp", &[shifted])?;
    let sum = over.keeping(cx, ReduceKind::Sum, exp)?;
    let log = cx.simple("log", &[sum])?;
    let mut y = cx.simple("add", &[log, shift])?;
    if let (Some(axes), false) = (&over.axes, over.keep) {
        let kept = |(i, d): (usize, bitc_ir::Dim)| (!axes.contains(&(i as i64))).then_some(d);
        let dims = cx.dims(y).into_iter().enumerate().filter_map(kept).collect();
        y = cx.reshape(y, dims)?;
    }
    Ok(vec![cx.cast(y, dtype)?])
}

fn arg_extreme(cx: &mut NodeCx<'_, '_>, min: bool) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let axis = cx.attrs.int_or("axis", 0)?;
    let axis = cx.axis(axis, cx.rank(x))? as i64;
    let (keep, last) = (cx.attrs.flag("keepdims", true)?, cx.attrs.flag("select_last_index", false)?);
    Ok(vec![cx.add(ArgMax { min, axis, keep, last }, &[x])?])
}

fn cumulate(cx: &mut NodeCx<'_, '_>, name: &str) -> Outputs {
    cx.arity(2, 2)?;
    let (x, axis) = (cx.input(0)?, cx.input(1)?);
    let axis = match cx.build.known_ints(axis, "axis")?[..] {
        [axis] => cx.axis(axis, cx.rank(x))? as i64,
        ref other => return Err(unsupported(format!("{} axes", other.len()))),
    };
    let (exclusive, reverse) = (cx.attrs.flag("exclusive", false)?, cx.attrs.flag("reverse", false)?);
    let attrs = vec![("axis", axis.into()), ("exclusive", exclusive.into()), ("reverse", reverse.into())];
    Ok(vec![cx.named(name, attrs, &[x])?])
}

fn top_k(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let k = if cx.version < 10 {
        crate::import::attrs::required("k", cx.attrs.int("k")?)?
    } else {
        match cx.build.known_ints(cx.input(1)?, "k")?[..] {
            [k] => k,
            ref other => return Err(Cause::Type(format!("one number as `k` expected, found {}", other.len()))),
        }
    };
    let axis = cx.attrs.int_or("axis", -1)?;
    let axis = cx.axis(axis, cx.rank(x))? as i64;
    let largest = cx.attrs.flag("largest", true)?;
    // Sorted results satisfy also who asked for any order.
    cx.attrs.ignore(&["sorted"]);
    let attrs = vec![("k", k.into()), ("axis", axis.into()), ("largest", largest.into())];
    cx.build.named("top_k", attrs, &[Some(x)])
}

/// A constant of one value in every place, kept as a broadcast.
pub(super) fn filled(cx: &mut NodeCx<'_, '_>, one: &Tensor, shape: &Shape) -> Result<ValueId, Cause> {
    let scalar = one.reshaped(&[]).ok_or_else(|| Cause::Type(format!("one element expected, found {}", one.ty())))?;
    let scalar = cx.constant(scalar);
    if *cx.ty(scalar) == TensorType::new(one.dtype(), shape.clone()) {
        return Ok(scalar);
    }
    cx.named("expand", vec![("shape", shape.into())], &[scalar])
}
