//! Operators about shapes, and those that make constants.

use bitc_ir::ops::ShapeOf;
use bitc_ir::shape_value::number_of;
use bitc_ir::{Attr, DType, Dim, Shape, Tensor};

use super::Rule::With;
use super::reduce::filled;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};
use crate::import::tensor;
use crate::proto::attribute_type as kind;

pub(super) const TABLE: &[Entry] = &[
    std("Shape", With(shape)),
    std("Size", With(size)),
    std("Reshape", With(reshape)),
    std("Flatten", With(flatten)),
    std("Squeeze", With(squeeze)),
    std("Unsqueeze", With(unsqueeze)),
    std("Constant", With(constant)),
    std("ConstantOfShape", With(constant_of_shape)),
    std("Range", With(range)),
    std("EyeLike", With(eye_like)),
    std("OneHot", With(one_hot)),
];

fn shape(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let rank = cx.rank(x) as i64;
    let clamp = |a: i64| usize::try_from(if a < 0 { a + rank } else { a }.clamp(0, rank)).unwrap_or(0);
    let start = clamp(cx.attrs.int_or("start", 0)?);
    let end = clamp(cx.attrs.int_or("end", rank)?).max(start);
    Ok(vec![cx.add(ShapeOf { start, end }, &[x])?])
}

fn size(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let dims = cx.add(ShapeOf { start: 0, end: cx.rank(x) }, &[x])?;
    Ok(vec![cx.named("reduce_prod", vec![("axes", vec![0i64].into()), ("keep", false.into())], &[dims])?])
}

fn reshape(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let target = if cx.version < 5 {
        cx.attrs.ignore(&["consumed_inputs"]);
        let list = cx.attrs.ints("shape")?;
        let dim = |&n: &i64| bitc_ir::shape_value::dim_of(n).ok_or_else(|| invalid("shape", "dimensions", n));
        required("shape", list)?.iter().map(dim).collect::<Result<Vec<_>, _>>()?
    } else {
        cx.arity(2, 2)?;
        cx.build.known_dims(cx.input(1)?, "shape")?
    };
    let keeps_zero = cx.attrs.flag("allowzero", false)?;
    let dims = cx.dims(x);
    let mut inferred = None;
    let mut shape = Vec::new();
    for (i, dim) in target.into_iter().enumerate() {
        shape.push(match number_of(&dim) {
            Some(0) if !keeps_zero => {
                let own = dims.get(i).cloned();
                own.ok_or_else(|| Cause::Type(format!("dimension {i} of {} is to be kept", cx.ty(x))))?
            }
            Some(-1) if inferred.replace(i).is_none() => Dim::from(1),
            Some(n) if n < 0 => return Err(invalid("shape", "dimensions and at most one -1", n)),
            _ => dim,
        });
    }
    if let Some(i) = inferred {
        let wrong = || Cause::Type(format!("{} does not divide into {}", cx.ty(x), Shape(shape.clone())));
        // Dimensions that are on both sides cancel, so that zeros among them do no harm.
        let mut rest = dims.clone();
        let mut divisor = Dim::from(1);
        for (_, dim) in shape.iter().enumerate().filter(|(j, _)| *j != i) {
            match rest.iter().position(|d| d == dim) {
                Some(at) => drop(rest.remove(at)),
                None => divisor = divisor.mul(dim).ok_or_else(wrong)?,
            }
        }
        let total = Shape(rest).numel().ok_or_else(wrong)?;
        shape[i] = total.div_exact(&divisor).ok_or_else(wrong)?;
    }
    Ok(vec![cx.reshape(x, shape)?])
}

fn flatten(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let axis = cx.attrs.int_or("axis", 1)?;
    let x = cx.input(0)?;
    let axis = if axis == cx.rank(x) as i64 { cx.rank(x) } else { cx.axis(axis, cx.rank(x))? };
    let dims = cx.dims(x);
    let (rows, columns) = dims.split_at(axis);
    let product = |d: &[Dim]| Shape(d.to_vec()).numel().ok_or_else(|| unsupported("a tensor that large"));
    let dims = vec![product(rows)?, product(columns)?];
    Ok(vec![cx.reshape(x, dims)?])
}

fn squeeze(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let axes = match cx.ints_attr_or_input("axes", 13, 1)? {
        Some(axes) => cx.axes(&axes, dims.len())?,
        None => (0..dims.len()).filter(|&a| dims[a].is_one()).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| dims[a].as_const().is_some_and(|n| n != 1)) {
        return Err(Cause::Type(format!("axis {axis} of size 1 expected, found {}", cx.ty(x))));
    }
    if let Some(&axis) = axes.iter().find(|&&a| !dims[a].is_one()) {
        return Err(unsupported(format!("squeezing axis {axis} of {}, whose size is not known,", cx.ty(x))));
    }
    let dims = dims.into_iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d).collect();
    Ok(vec![cx.reshape(x, dims)?])
}

fn unsqueeze(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let x = cx.input(0)?;
    let axes = cx.ints_attr_or_input("axes", 13, 1)?;
    let axes = required("axes", axes)?;
    let mut dims = cx.dims(x);
    for axis in cx.axes(&axes, dims.len() + axes.len())? {
        dims.insert(axis, Dim::from(1));
    }
    Ok(vec![cx.reshape(x, dims)?])
}

fn constant(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(0, 0)?;
    let tensor = if let Some(attribute) = cx.attrs.take("value") {
        match (&attribute.t, attribute.r#type) {
            (Some(tensor), kind::TENSOR | kind::UNDEFINED) => cx.decode(tensor)?,
            _ => return Err(invalid("value", "a tensor", "another kind")),
        }
    } else if let Some(attribute) = cx.attrs.take("sparse_value") {
        let sparse = attribute.sparse_tensor.as_deref();
        tensor::sparse(required("sparse_value", sparse)?, cx.files, &mut cx.build.budget)?
    } else if let Some(value) = cx.attrs.float("value_float")? {
        Tensor::scalar(value)
    } else if let Some(values) = cx.attrs.floats("value_floats")? {
        Tensor::new(&[values.len()], values)
    } else if let Some(value) = cx.attrs.int("value_int")? {
        Tensor::scalar(value)
    } else if let Some(values) = cx.attrs.ints("value_ints")? {
        Tensor::new(&[values.len()], values)
    } else if cx.attrs.take("value_string").or(cx.attrs.take("value_strings")).is_some() {
        return Err(unsupported("a constant of strings"));
    } else {
        return Err(Cause::Attribute { name: "value".into(), detail: "is missing".into() });
    };
    Ok(vec![cx.constant(tensor)])
}

fn constant_of_shape(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let dims = cx.build.known_dims(cx.input(0)?, "input")?;
    if let Some(dim) = dims.iter().find(|d| number_of(d).is_some_and(|n| n < 0)) {
        return Err(Cause::Type(format!("dimensions must not be negative, found {dim}")));
    }
    let value = match cx.attrs.take("value").map(|a| a.t.as_deref()) {
        Some(tensor) => cx.decode(required("value", tensor)?)?,
        None => Tensor::scalar(0f32),
    };
    if value.numel() != 1 {
        return Err(Cause::Attribute {
            name: "value".into(),
            detail: format!("expected one element, found {}", value.ty()),
        });
    }
    Ok(vec![filled(cx, &value, &Shape(dims))?])
}

fn range(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let (start, limit, step) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let dtype = cx.dtype(start);
    if dtype.is_float() {
        let one = |v| -> Result<f64, Cause> {
            let found = cx.build.known_tensor(v, "limit")?.to_f64();
            found.first().copied().ok_or_else(|| Cause::Type("one number expected, found none".into()))
        };
        let (start_at, limit, by) = (one(start)?, one(limit)?, one(step)?);
        let count = ((limit - start_at) / by).ceil().max(0.0);
        if !count.is_finite() || count > 1e9 {
            return Err(Cause::Type(format!("a range from {start_at} to {limit} by {by} has no finite length")));
        }
        let count = Dim::from(count as usize);
        return progression(cx, start, step, count, dtype);
    }
    let one = |v, what| -> Result<Dim, Cause> {
        let mut found = cx.build.known_dims(v, what)?;
        found.pop().ok_or_else(|| Cause::Type(format!("one number as `{what}` expected, found none")))
    };
    let (first, last) = (one(start, "start")?, one(limit, "limit")?);
    let by = cx.build.known_ints(step, "delta")?;
    let by = match by[..] {
        [by] if by != 0 => by,
        _ => return Err(Cause::Type(format!("a step that is not 0 expected, found {by:?}"))),
    };
    let large = || unsupported("a range that large");
    let span = if by > 0 { last.sub(&first) } else { first.sub(&last) }.ok_or_else(large)?;
    let magnitude = usize::try_from(by.unsigned_abs()).map_err(|_| large())?;
    let count = match number_of(&span) {
        Some(n) => Dim::from(usize::try_from(n.max(0)).unwrap_or(0).div_ceil(magnitude)),
        None => span.add(&Dim::from(magnitude - 1)).and_then(|d| d.floor_div(magnitude)).ok_or_else(large)?,
    };
    progression(cx, start, step, count, dtype)
}

/// `start + i * step` for i from 0 to `count`.
fn progression(
    cx: &mut NodeCx<'_, '_>,
    start: bitc_ir::ValueId,
    step: bitc_ir::ValueId,
    count: Dim,
    dtype: DType,
) -> Outputs {
    let index = cx.named("iota", vec![("count", Attr::from(&Shape(vec![count])))], &[])?;
    let index = cx.cast(index, dtype)?;
    let scaled = cx.simple("mul", &[index, step])?;
    Ok(vec![cx.simple("add", &[scaled, start])?])
}

fn eye_like(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let [rows, columns] = &dims[..] else {
        return Err(Cause::Type(format!("expected a matrix, found {}", cx.ty(x))));
    };
    let dtype = cx.attrs.dtype("dtype")?.unwrap_or(cx.dtype(x));
    let shift = cx.attrs.int_or("k", 0)?;
    let row = cx.named("iota", vec![("count", Attr::from(&Shape(vec![rows.clone()])))], &[])?;
    let row = cx.reshape(row, vec![rows.clone(), Dim::from(1)])?;
    let column = cx.named("iota", vec![("count", Attr::from(&Shape(vec![columns.clone()])))], &[])?;
    let distance = cx.simple("sub", &[column, row])?;
    let k = cx.constant(Tensor::scalar(shift));
    let on = cx.simple("equal", &[distance, k])?;
    Ok(vec![cx.cast(on, dtype)?])
}

fn one_hot(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let (indices, depth, values) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let depth_tensor = cx.build.known_tensor(depth, "depth")?.to_f64();
    let depth = match depth_tensor[..] {
        [d] if d >= 0.0 && d < f64::from(1 << 30) => d as usize,
        _ => return Err(Cause::Type(format!("one size as `depth` expected, found {depth_tensor:?}"))),
    };
    let rank = cx.rank(indices) + 1;
    let axis = cx.attrs.int_or("axis", -1)?;
    let axis = cx.axis(axis, rank)?;
    let indices = cx.cast(indices, DType::I64)?;
    let count = cx.scalar(DType::I64, depth as f64)?;
    let wrapped = cx.simple("add", &[indices, count])?;
    let zero = cx.scalar(DType::I64, 0.0)?;
    let negative = cx.simple("less", &[indices, zero])?;
    let indices = cx.simple("where", &[negative, wrapped, indices])?;
    let mut dims = cx.dims(indices);
    dims.insert(axis, Dim::from(1));
    let indices = cx.reshape(indices, dims)?;
    let places = cx.named("iota", vec![("count", Attr::from(&Shape(vec![Dim::from(depth)])))], &[])?;
    let mut dims = vec![Dim::from(1); rank];
    dims[axis] = Dim::from(depth);
    let places = cx.reshape(places, dims)?;
    let on = cx.simple("equal", &[indices, places])?;
    let pick = |i: i64| Tensor::new(&[], &[i]);
    let (zero, one) = (cx.constant(pick(0)), cx.constant(pick(1)));
    let off_value = cx.add(bitc_ir::ops::Gather { axis: 0 }, &[values, zero])?;
    let on_value = cx.add(bitc_ir::ops::Gather { axis: 0 }, &[values, one])?;
    Ok(vec![cx.simple("where", &[on, on_value, off_value])?])
}
