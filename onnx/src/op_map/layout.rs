//! Operators that move elements.

use bitc_ir::ops::{Concat, Expand, Gather, GatherElements, GatherNd, Reverse, Slice};
use bitc_ir::shape_value::number_of;
use bitc_ir::{Attr, DType, Dim, Shape, Tensor, ValueId};

use super::Rule::With;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("Transpose", With(transpose)),
    std("Concat", With(concat)),
    std("Split", With(split)),
    std("Slice", With(slice)),
    std("Gather", With(gather)),
    std("GatherElements", With(gather_elements)),
    std("GatherND", With(gather_nd)),
    std("Scatter", With(scatter_elements)),
    std("ScatterElements", With(scatter_elements)),
    std("ScatterND", With(scatter_nd)),
    std("Expand", With(expand)),
    std("Tile", With(tile)),
    std("Pad", With(pad)),
    std("DepthToSpace", With(depth_to_space)),
    std("SpaceToDepth", With(space_to_depth)),
    std("Compress", With(compress)),
    std("Trilu", With(trilu)),
];

fn transpose(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let perm: Vec<usize> = match cx.attrs.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(list) => {
            let perm = list.iter().map(|&p| cx.axis(p, rank)).collect::<Result<Vec<_>, _>>()?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..rank) {
                return Err(invalid("perm", &format!("each of {rank} axes once"), format!("{list:?}")));
            }
            perm
        }
    };
    Ok(vec![cx.transpose(x, perm)?])
}

fn concat(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let inputs = cx.all()?;
    let first = cx.input(0)?;
    let default = if cx.version < 4 { Some(1) } else { None };
    let axis = cx.attrs.int("axis")?.or(default);
    let axis = cx.axis(required("axis", axis)?, cx.rank(first))? as i64;
    if inputs.len() == 1 {
        return Ok(inputs);
    }
    Ok(vec![cx.add(Concat { axis }, &inputs)?])
}

/// One part of an axis.
pub(super) fn part(cx: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, start: Dim, end: Dim) -> Result<ValueId, Cause> {
    let slice = Slice { axes: vec![axis], starts: Shape(vec![start]), ends: Shape(vec![end]), steps: vec![1] };
    cx.add(slice, &[x])
}

fn split(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let x = cx.input(0)?;
    let axis = cx.attrs.int_or("axis", 0)?;
    let axis = cx.axis(axis, cx.rank(x))?;
    let size = cx.dims(x)[axis].clone();
    let count = cx.wanted.len();
    let sizes = if cx.version < 13 {
        cx.attrs.ints("split")?.map(<[i64]>::to_vec).map(dims_of).transpose()?
    } else {
        cx.opt(1).map(|v| cx.build.known_dims(v, "split")).transpose()?
    };
    let count = match cx.attrs.int("num_outputs")? {
        Some(n) if usize::try_from(n).is_ok_and(|n| n >= count && n > 0) => n as usize,
        Some(n) => return Err(invalid("num_outputs", &format!("at least {count}"), n)),
        None => count,
    };
    let sizes = match sizes {
        Some(sizes) => sizes,
        None => equal_parts(&size, count)?,
    };
    let mut start = Dim::from(0);
    let mut outputs = Vec::new();
    for part_size in sizes {
        let end = start.add(&part_size).ok_or_else(|| unsupported("a split that large"))?;
        outputs.push(part(cx, x, axis, start, end.clone())?);
        start = end;
    }
    if start != size {
        return Err(Cause::Type(format!("parts of size {size} in total expected, found {start}")));
    }
    Ok(outputs)
}

/// Equal parts of an axis, the last one smaller where they do not come out even.
fn equal_parts(size: &Dim, count: usize) -> Result<Vec<Dim>, Cause> {
    let none = || unsupported(format!("a dimension of size {size} in {count} equal parts"));
    if let Some(n) = size.as_const() {
        let each = n.div_ceil(count.max(1));
        return Ok((0..count).map(|i| Dim::from(n.saturating_sub(i * each).min(each))).collect());
    }
    let each = size.div_exact(&Dim::from(count)).ok_or_else(none)?;
    Ok(vec![each; count])
}

/// Numbers that must be sizes.
fn dims_of(list: Vec<i64>) -> Result<Vec<Dim>, Cause> {
    let size = |n: i64| usize::try_from(n).map(Dim::from).map_err(|_| invalid("split", "sizes", n));
    list.into_iter().map(size).collect()
}

fn slice(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 5)?;
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let known = |list: Option<&[i64]>, name| -> Result<Vec<Dim>, Cause> {
        let list = required(name, list)?;
        list.iter().map(|&n| bitc_ir::shape_value::dim_of(n).ok_or_else(|| invalid(name, "positions", n))).collect()
    };
    let (starts, ends, axes, steps) = if cx.version < 10 {
        let (starts, ends) = (cx.attrs.ints("starts")?, cx.attrs.ints("ends")?);
        let axes = cx.attrs.ints("axes")?.map(<[i64]>::to_vec);
        (known(starts, "starts")?, known(ends, "ends")?, axes, None)
    } else {
        let starts = cx.build.known_dims(cx.input(1)?, "starts")?;
        let ends = cx.build.known_dims(cx.input(2)?, "ends")?;
        let axes = cx.opt(3).map(|v| cx.build.known_ints(v, "axes")).transpose()?;
        (starts, ends, axes, cx.opt(4).map(|v| cx.build.known_ints(v, "steps")).transpose()?)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        return Err(Cause::Type(format!("as many ends, axes and steps as starts ({}) expected", starts.len())));
    }
    cx.axes(&axes, rank)?;
    let mut ranges = Vec::new();
    let mut reversed = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = cx.axis(axis, rank)?;
        let size = cx.dims(x)[axis].clone();
        let (range, backwards) = Range::of(&starts[i], &ends[i], steps[i], &size)?;
        if backwards {
            reversed.push(axis);
        }
        if range.step > 1 || range.start != Dim::from(0) || range.end != size {
            ranges.push((axis, range));
        }
    }
    ranges.sort_by_key(|(axis, _)| *axis);
    reversed.sort_unstable();
    let x = if reversed.is_empty() { x } else { cx.add(Reverse { axes: reversed }, &[x])? };
    if ranges.is_empty() {
        return Ok(vec![x]);
    }
    let slice = Slice {
        axes: ranges.iter().map(|(axis, _)| *axis).collect(),
        starts: Shape(ranges.iter().map(|(_, r)| r.start.clone()).collect()),
        ends: Shape(ranges.iter().map(|(_, r)| r.end.clone()).collect()),
        steps: ranges.iter().map(|(_, r)| r.step).collect(),
    };
    Ok(vec![cx.add(slice, &[x])?])
}

/// Positions that count from the beginning, in ascending order.
struct Range {
    start: Dim,
    end: Dim,
    step: usize,
}

impl Range {
    /// The range that ONNX's arguments mean on an axis, and whether the axis is reversed before it is taken.
    fn of(start: &Dim, end: &Dim, step: i64, size: &Dim) -> Result<(Self, bool), Cause> {
        let magnitude = usize::try_from(step.unsigned_abs()).ok().filter(|&s| s > 0 && s < 1 << 32);
        let magnitude = magnitude.ok_or_else(|| invalid("steps", "a step that is not 0", step))?;
        if step > 0 {
            let (start, end) = (position(start, size)?, position(end, size)?);
            let end = at_least(end, &start);
            return Ok((Self { start, end, step: magnitude }, false));
        }
        // x[start:end:-s] is reverse(x)[size - 1 - start : size - 1 - end : s].
        let mirrored = |p: &Dim, beyond: i64| -> Result<Dim, Cause> {
            let far = || unsupported("a backward slice of a symbolic dimension");
            match (number_of(p), size.as_const()) {
                (Some(n), _) if n >= i64::from(i32::MAX) || n == -1 => Ok(Dim::from(0)),
                (Some(n), _) if n <= -i64::from(i32::MAX) => Ok(size.clone()),
                (Some(n), Some(size)) => {
                    let size = i64::try_from(size).map_err(|_| far())?;
                    let at = if n < 0 { n.saturating_add(size) } else { n }.clamp(-1, size - 1 + beyond);
                    usize::try_from((size - 1 - at).clamp(0, size)).map(Dim::from).map_err(|_| far())
                }
                _ => Err(far()),
            }
        };
        let (start, end) = (mirrored(start, 0)?, mirrored(end, 0)?);
        let end = at_least(end, &start);
        Ok((Self { start, end, step: magnitude }, true))
    }
}

/// A position that may count from the end or lie beyond it, as one that counts from the beginning.
///
/// Where the size is symbolic a position is taken to lie within it; that is checked when the size is known.
fn position(p: &Dim, size: &Dim) -> Result<Dim, Cause> {
    let Some(n) = number_of(p) else { return Ok(p.clone()) };
    match size.as_const() {
        Some(size) => {
            let signed = i64::try_from(size).unwrap_or(i64::MAX);
            let at = if n < 0 { n.saturating_add(signed) } else { n }.clamp(0, signed);
            Ok(Dim::from(usize::try_from(at).unwrap_or(0)))
        }
        None if n >= i64::from(i32::MAX) => Ok(size.clone()),
        None if n <= -i64::from(i32::MAX) => Ok(Dim::from(0)),
        None if n < 0 => size.add(p).ok_or_else(|| unsupported("a position that far from the end")),
        None => Ok(p.clone()),
    }
}

/// The larger of two positions where both are numbers: an empty range begins where it ends.
fn at_least(end: Dim, start: &Dim) -> Dim {
    match (end.as_const(), start.as_const()) {
        (Some(e), Some(s)) if e < s => start.clone(),
        _ => end,
    }
}

fn gather(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.attrs.int_or("axis", 0)?;
    let axis = cx.axis(axis, cx.rank(x))? as i64;
    Ok(vec![cx.add(Gather { axis }, &[x, indices])?])
}

fn gather_elements(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.attrs.int_or("axis", 0)?;
    let axis = cx.axis(axis, cx.rank(x))? as i64;
    Ok(vec![cx.add(GatherElements { axis }, &[x, indices])?])
}

fn gather_nd(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let batch = cx.attrs.int_or("batch_dims", 0)?;
    let batch_dims = usize::try_from(batch).map_err(|_| invalid("batch_dims", "a number of axes", batch))?;
    let inputs = cx.all()?;
    Ok(vec![cx.add(GatherNd { batch_dims }, &inputs)?])
}

/// The attribute `reduction` as that of the scatter operations.
fn combine(cx: &mut NodeCx<'_, '_>) -> Result<Attr, Cause> {
    Ok(match cx.attrs.str_or("reduction", "none")? {
        "none" => "replace",
        word @ ("add" | "mul" | "max" | "min") => word,
        other => return Err(invalid("reduction", "`none`, `add`, `mul`, `max` or `min`", other)),
    }
    .into())
}

fn scatter_elements(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let combine = combine(cx)?;
    let axis = cx.attrs.int_or("axis", 0)?;
    let axis = cx.axis(axis, cx.rank(cx.input(0)?))? as i64;
    let inputs = cx.all()?;
    Ok(vec![cx.named("scatter_elements", vec![("axis", axis.into()), ("combine", combine)], &inputs)?])
}

fn scatter_nd(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let combine = combine(cx)?;
    let inputs = cx.all()?;
    Ok(vec![cx.named("scatter_nd", vec![("combine", combine)], &inputs)?])
}

fn expand(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let x = cx.input(0)?;
    let target = Shape(cx.build.known_dims(cx.input(1)?, "shape")?);
    // The broadcast goes both ways: an axis of the target may be 1.
    let shape = cx.ty(x).shape.broadcast(&target);
    let shape = shape.ok_or_else(|| Cause::Type(format!("{} does not broadcast to {target}", cx.ty(x))))?;
    if shape == cx.ty(x).shape {
        return Ok(vec![x]);
    }
    Ok(vec![cx.add(Expand { shape }, &[x])?])
}

/// Every axis gets a companion that counts the repetitions and is merged with it again.
fn tile(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let repeats = if cx.version < 6 {
        let (tiles, axis) = (cx.build.known_dims(cx.input(1)?, "tiles")?, cx.build.known_ints(cx.input(2)?, "axis")?);
        let ([count], [axis]) = (&tiles[..], &axis[..]) else {
            return Err(Cause::Type("one number as `tiles` and `axis` expected".into()));
        };
        let mut all = vec![Dim::from(1); dims.len()];
        all[cx.axis(*axis, dims.len())?] = count.clone();
        all
    } else {
        cx.build.known_dims(cx.input(1)?, "repeats")?
    };
    if repeats.len() != dims.len() {
        return Err(Cause::Type(format!("{} repeats expected, found {}", dims.len(), repeats.len())));
    }
    if repeats.iter().all(Dim::is_one) {
        return Ok(vec![x]);
    }
    // An axis of its own only for what is repeated: one of length 1 is broadcast as it stands.
    let (mut split, mut full) = (Vec::new(), Vec::new());
    for (repeat, dim) in repeats.iter().zip(&dims) {
        if !repeat.is_one() && !dim.is_one() {
            split.push(Dim::from(1));
            full.push(repeat.clone());
        }
        split.push(dim.clone());
        full.push(if dim.is_one() { repeat.clone() } else { dim.clone() });
    }
    let merged = repeats.iter().zip(&dims).map(|(r, d)| r.mul(d)).collect::<Option<Vec<_>>>();
    let x = cx.reshape(x, split)?;
    let x = cx.add(Expand { shape: Shape(full) }, &[x])?;
    Ok(vec![cx.reshape(x, merged.ok_or_else(|| unsupported("a tile that large"))?)?])
}

fn pad(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let mode = cx.attrs.str_or("mode", "constant")?;
    let (pads, value, axes) = if cx.version < 11 {
        cx.arity(1, 1)?;
        let name = if cx.version < 2 { "paddings" } else { "pads" };
        let pads = cx.attrs.ints(name)?;
        let value = cx.attrs.float_or("value", 0.0)?;
        let value = cx.scalar(cx.dtype(x), f64::from(value))?;
        (required(name, pads)?.to_vec(), Some(value), None)
    } else {
        cx.arity(2, 4)?;
        let pads = cx.build.known_ints(cx.input(1)?, "pads")?;
        (pads, cx.opt(2), cx.opt(3).map(|v| cx.build.known_ints(v, "axes")).transpose()?)
    };
    let axes = match axes {
        Some(axes) => axes.iter().map(|&a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Cause::Type(format!("{} pads expected, found {}", 2 * axes.len(), pads.len())));
    }
    let mut all = vec![0i64; 2 * rank];
    for (i, &axis) in axes.iter().enumerate() {
        all[axis] = pads[i];
        all[axis + rank] = pads[i + axes.len()];
    }
    // Negative padding cuts off; it comes first, so that the edge is that of what is left.
    let cut: Vec<usize> = (0..rank).filter(|&a| all[a] < 0 || all[a + rank] < 0).collect();
    let mut x = x;
    for axis in cut {
        let size = cx.dims(x)[axis].clone();
        let off = |n: i64| Dim::from(usize::try_from((-n).max(0)).unwrap_or(0));
        let end = size.sub(&off(all[axis + rank])).ok_or_else(|| unsupported("padding that large"))?;
        x = part(cx, x, axis, off(all[axis]), end)?;
    }
    let pads: Vec<i64> = all.iter().map(|&p| p.max(0)).collect();
    if pads.iter().all(|&p| p == 0) {
        return Ok(vec![x]);
    }
    let mode = match mode {
        word @ ("constant" | "reflect" | "edge" | "wrap") => word,
        other => return Err(invalid("mode", "`constant`, `reflect`, `edge` or `wrap`", other)),
    };
    let value = value.filter(|_| mode == "constant");
    Ok(vec![cx.named_opt("pad", vec![("pads", pads.into()), ("mode", mode.into())], &[Some(x), value])?])
}

/// The dimensions of an image and its block size.
fn blocks(cx: &mut NodeCx<'_, '_>) -> Result<(ValueId, Vec<Dim>, Dim), Cause> {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let size = cx.attrs.int("blocksize")?;
    let size = required("blocksize", size)?;
    let block =
        usize::try_from(size).ok().filter(|&b| b > 0).ok_or_else(|| invalid("blocksize", "a positive number", size))?;
    if cx.rank(x) != 4 {
        return Err(Cause::Type(format!("expected a tensor of rank 4, found {}", cx.ty(x))));
    }
    Ok((x, cx.dims(x), Dim::from(block)))
}

fn depth_to_space(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let column_first = match cx.attrs.str_or("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        other => return Err(invalid("mode", "`DCR` or `CRD`", other)),
    };
    let (x, dims, b) = blocks(cx)?;
    let [n, c, h, w] = &dims[..] else { return Err(unsupported("a rank other than 4")) };
    let square = b.mul(&b).ok_or_else(|| unsupported("a block that large"))?;
    let depth = c.div_exact(&square);
    let depth =
        depth.ok_or_else(|| Cause::Type(format!("channels that are a multiple of {square} expected, found {c}")))?;
    let (split, perm) = if column_first {
        (vec![n.clone(), depth.clone(), b.clone(), b.clone(), h.clone(), w.clone()], vec![0, 1, 4, 2, 5, 3])
    } else {
        (vec![n.clone(), b.clone(), b.clone(), depth.clone(), h.clone(), w.clone()], vec![0, 3, 4, 1, 5, 2])
    };
    let x = cx.reshape(x, split)?;
    let x = cx.transpose(x, perm)?;
    let large = || unsupported("an image that large");
    let dims = vec![n.clone(), depth, h.mul(&b).ok_or_else(large)?, w.mul(&b).ok_or_else(large)?];
    Ok(vec![cx.reshape(x, dims)?])
}

fn space_to_depth(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let perm = match cx.attrs.str_or("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(invalid("mode", "`DCR` or `CRD`", other)),
    };
    let (x, dims, b) = blocks(cx)?;
    let [n, c, h, w] = &dims[..] else { return Err(unsupported("a rank other than 4")) };
    let part = |d: &Dim| d.div_exact(&b).ok_or_else(|| Cause::Type(format!("a multiple of {b} expected, found {d}")));
    let (rows, columns) = (part(h)?, part(w)?);
    let split = vec![n.clone(), c.clone(), rows.clone(), b.clone(), columns.clone(), b.clone()];
    let x = cx.reshape(x, split)?;
    let x = cx.transpose(x, perm)?;
    let depth = c.mul(&b).and_then(|d| d.mul(&b)).ok_or_else(|| unsupported("a block that large"))?;
    Ok(vec![cx.reshape(x, vec![n.clone(), depth, rows, columns])?])
}

/// The slices that a constant condition selects.
fn compress(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let mut x = cx.input(0)?;
    let condition = cx.build.known_tensor(cx.input(1)?, "condition")?;
    let chosen = condition.bytes().iter().enumerate().filter(|(_, b)| **b != 0);
    let chosen: Vec<i64> = chosen.map(|(i, _)| i as i64).collect();
    let axis = match cx.attrs.int("axis")? {
        Some(axis) => cx.axis(axis, cx.rank(x))?,
        None => {
            let all = cx.ty(x).shape.numel().ok_or_else(|| unsupported("a tensor that large"))?;
            x = cx.reshape(x, vec![all])?;
            0
        }
    };
    let indices = cx.constant(Tensor::new(&[chosen.len()], &chosen));
    Ok(vec![cx.add(Gather { axis: axis as i64 }, &[x, indices])?])
}

/// The elements on one side of a diagonal, and zeros.
fn trilu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 2)?;
    let upper = cx.attrs.flag("upper", true)?;
    let x = cx.input(0)?;
    let shift = match cx.opt(1).map(|k| cx.build.known_ints(k, "k")).transpose()?.as_deref() {
        None => 0,
        Some([k]) => *k,
        Some(other) => return Err(Cause::Type(format!("one number as `k` expected, found {}", other.len()))),
    };
    let dims = cx.dims(x);
    let [.., rows, columns] = &dims[..] else {
        return Err(Cause::Type(format!("expected a tensor of rank 2 or more, found {}", cx.ty(x))));
    };
    // column - row compared with k.
    let row = cx.named("iota", vec![("count", Attr::from(&Shape(vec![rows.clone()])))], &[])?;
    let row = cx.reshape(row, vec![rows.clone(), Dim::from(1)])?;
    let column = cx.named("iota", vec![("count", Attr::from(&Shape(vec![columns.clone()])))], &[])?;
    let distance = cx.simple("sub", &[column, row])?;
    let k = cx.scalar(DType::I64, shift as f64)?;
    let kept = cx.simple(if upper { "greater_equal" } else { "less_equal" }, &[distance, k])?;
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    Ok(vec![cx.simple("where", &[kept, x, zero])?])
}
