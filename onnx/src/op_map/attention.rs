//! Attention and rotary embedding, by their function bodies.

use bitc_ir::ops::{Concat, Expand, MatMul, Reduce, ShapeOf, reduce::ReduceKind};
use bitc_ir::{Attr, DType, Dim, Shape, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::layout::part;
use super::norm::softmax_of;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[std("Attention", With(attention)), std("RotaryEmbedding", With(rotary_embedding))];

/// A tensor `[batch, length, heads * size]` as `[batch, heads, length, size]`.
fn split_heads(cx: &mut NodeCx<'_, '_>, x: ValueId, heads: &Dim) -> Result<ValueId, Cause> {
    let dims = cx.dims(x);
    let [batch, length, width] = &dims[..] else { return Err(unsupported("heads of this rank")) };
    let uneven = || Cause::Type(format!("a width that is a multiple of {heads} expected, found {width}"));
    let size = width.div_exact(heads).ok_or_else(uneven)?;
    let x = cx.reshape(x, vec![batch.clone(), length.clone(), heads.clone(), size])?;
    cx.transpose(x, vec![0, 2, 1, 3])
}

/// Undoes `split_heads`.
fn join_heads(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    let x = cx.transpose(x, vec![0, 2, 1, 3])?;
    let dims = cx.dims(x);
    let [batch, length, heads, size] = &dims[..] else { return Err(unsupported("heads of this rank")) };
    let width = heads.mul(size).ok_or_else(|| unsupported("a tensor that large"))?;
    cx.reshape(x, vec![batch.clone(), length.clone(), width])
}

/// The numbers from 0 below a dimension, as a tensor of rank 2 with the other axis of size one.
fn places(cx: &mut NodeCx<'_, '_>, count: &Dim, as_column: bool) -> Result<ValueId, Cause> {
    let places = cx.named("iota", vec![("count", Attr::from(&Shape(vec![count.clone()])))], &[])?;
    let one = Dim::from(1);
    cx.reshape(places, if as_column { vec![count.clone(), one] } else { vec![one, count.clone()] })
}

/// Each head of keys or values repeated for the query heads that share it.
fn repeat_heads(cx: &mut NodeCx<'_, '_>, x: ValueId, heads: &Dim) -> Result<ValueId, Cause> {
    let dims = cx.dims(x);
    let [batch, own, length, size] = &dims[..] else { return Err(unsupported("heads of this rank")) };
    if own == heads {
        return Ok(x);
    }
    let uneven = || Cause::Type(format!("query heads that are a multiple of {own} expected, found {heads}"));
    let times = heads.div_exact(own).ok_or_else(uneven)?;
    let wide = cx.reshape(x, vec![batch.clone(), own.clone(), Dim::from(1), length.clone(), size.clone()])?;
    let shape = Shape(vec![batch.clone(), own.clone(), times, length.clone(), size.clone()]);
    let wide = cx.add(Expand { shape }, &[wide])?;
    cx.reshape(wide, vec![batch.clone(), heads.clone(), length.clone(), size.clone()])
}

fn attention(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 7)?;
    let causal = cx.attrs.flag("is_causal", false)?;
    let (q_heads, kv_heads) = (cx.attrs.int("q_num_heads")?, cx.attrs.int("kv_num_heads")?);
    let scale = cx.attrs.float("scale")?;
    let softcap = cx.attrs.float_or("softcap", 0.0)?;
    let (left, right) = (cx.attrs.int_or("left_window_size", -1)?, cx.attrs.int_or("right_window_size", -1)?);
    let shown = cx.attrs.int_or("qk_matmul_output_mode", 0)?;
    let precision = cx.attrs.dtype("softmax_precision")?;
    for (name, size) in [("left_window_size", left), ("right_window_size", right)] {
        if size < -1 {
            return Err(invalid(name, "-1 or more", size));
        }
    }
    let (mut q, mut k, mut v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let flat = cx.rank(q) == 3;
    if flat {
        let heads = |name, n: Option<i64>| {
            let n = required(name, n)?;
            usize::try_from(n).ok().filter(|&n| n > 0).map(Dim::from).ok_or_else(|| unsupported(format!("{n} heads")))
        };
        let (q_heads, kv_heads) = (heads("q_num_heads", q_heads)?, heads("kv_num_heads", kv_heads)?);
        q = split_heads(cx, q, &q_heads)?;
        k = split_heads(cx, k, &kv_heads)?;
        v = split_heads(cx, v, &kv_heads)?;
    }
    if [q, k, v].iter().any(|&x| cx.rank(x) != 4) {
        return Err(Cause::Type("query, key and value of rank 3 or 4 expected".into()));
    }
    let mut past = None;
    if let (Some(past_k), Some(past_v)) = (cx.opt(4), cx.opt(5)) {
        if cx.opt(6).is_some() {
            return Err(Cause::Type("either past keys or the number of keys that are no padding expected".into()));
        }
        past = Some(past_k);
        k = cx.add(Concat { axis: 2 }, &[past_k, k])?;
        v = cx.add(Concat { axis: 2 }, &[past_v, v])?;
    }
    let (present_k, present_v) = (k, v);
    let dtype = cx.dtype(q);
    let dims = cx.dims(q);
    let (heads, columns) = (dims[1].clone(), cx.dims(k)[2].clone());
    let (queries, keys) = (q, k);
    let size = dims[3].as_const().ok_or_else(|| unsupported("heads of a symbolic size"))?;
    let scale = scale.map_or_else(|| 1.0 / (size as f64).sqrt(), f64::from);
    k = repeat_heads(cx, k, &heads)?;
    v = repeat_heads(cx, v, &heads)?;

    // The root of the scale on both sides keeps products of halves in range.
    let q = with_scalar(cx, "mul", q, scale.sqrt())?;
    let k = cx.transpose(k, vec![0, 1, 3, 2])?;
    let k = with_scalar(cx, "mul", k, scale.sqrt())?;
    let raw = cx.add(MatMul, &[q, k])?;
    let mut scores = raw;
    if softcap != 0.0 {
        let scaled = with_scalar(cx, "div", scores, f64::from(softcap))?;
        let bent = cx.simple("tanh", &[scaled])?;
        scores = with_scalar(cx, "mul", bent, f64::from(softcap))?;
    }
    let capped = scores;
    let mask = mask(cx, dtype, &columns)?;
    let seen = Seen { causal, left, right };
    let bias = match (mask, seen.by(cx, queries, keys, past)?) {
        (mask, None) => mask,
        (mask, Some(seen)) => {
            let (zero, hidden) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, f64::NEG_INFINITY)?);
            let bias = cx.simple("where", &[seen, zero, hidden])?;
            Some(mask.map_or(Ok(bias), |mask| cx.simple("add", &[mask, bias]))?)
        }
    };
    if let Some(bias) = bias {
        scores = cx.simple("add", &[scores, bias])?;
    }
    let biased = scores;
    let scores = cx.cast(scores, precision.unwrap_or(dtype))?;
    let weights = softmax_of(cx, scores, -1, false)?;
    let mut weights = cx.cast(weights, dtype)?;
    if let Some(bias) = bias {
        // A row that sees nothing gives zeros, not NaN.
        let highest = cx.add(Reduce { kind: ReduceKind::Max, axes: vec![-1], keep: true }, &[bias])?;
        let nothing = cx.scalar(dtype, f64::NEG_INFINITY)?;
        let blind = cx.simple("equal", &[highest, nothing])?;
        let zero = cx.scalar(dtype, 0.0)?;
        weights = cx.simple("where", &[blind, zero, weights])?;
    }
    let v = cx.cast(v, dtype)?;
    let mut y = cx.add(MatMul, &[weights, v])?;
    if flat {
        y = join_heads(cx, y)?;
    }
    let shown = match shown {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => weights,
        other => return Err(unsupported(format!("`qk_matmul_output_mode` {other}"))),
    };
    Ok(vec![y, present_k, present_v, shown])
}

/// The mask as what is added to the scores of this many keys.
fn mask(cx: &mut NodeCx<'_, '_>, dtype: DType, columns: &Dim) -> Result<Option<ValueId>, Cause> {
    let Some(mask) = cx.opt(3) else { return Ok(None) };
    let hidden = cx.scalar(dtype, f64::NEG_INFINITY)?;
    let mask = match cx.dtype(mask) {
        DType::Bool => {
            let zero = cx.scalar(dtype, 0.0)?;
            cx.simple("where", &[mask, zero, hidden])?
        }
        _ => cx.cast(mask, dtype)?,
    };
    let Some(width) = cx.dims(mask).last().cloned().filter(|w| w != columns && !w.is_one()) else {
        return Ok(Some(mask));
    };
    // Keys beyond the mask are hidden.
    let (Some(width), Some(columns)) = (width.as_const(), columns.as_const()) else {
        return Err(unsupported(format!("a mask of width {width} for {columns} keys")));
    };
    let missing =
        columns.checked_sub(width).ok_or_else(|| Cause::Type(format!("a mask of width {columns} expected")))?;
    let mut pads = vec![0; 2 * cx.rank(mask)];
    if let Some(last) = pads.last_mut() {
        *last = missing as i64;
    }
    Ok(Some(cx.named("pad", vec![("pads", Attr::Ints(pads))], &[mask, hidden])?))
}

/// Which keys a query sees by where it is, apart from the mask.
struct Seen {
    /// None behind it.
    causal: bool,
    /// How many before it, if not -1.
    left: i64,
    /// How many behind it, if not -1.
    right: i64,
}

impl Seen {
    /// Which keys each query sees, where that are not all of them.
    ///
    /// Query `i` stands at `i + offset` among the keys, where the offset counts the keys before the first query: those of
    /// the past, or those that are no padding but for as many as there are queries.
    fn by(
        &self,
        cx: &mut NodeCx<'_, '_>,
        queries: ValueId,
        keys: ValueId,
        past: Option<ValueId>,
    ) -> Result<Option<ValueId>, Cause> {
        let (rows, columns) = (cx.dims(queries)[2].clone(), cx.dims(keys)[2].clone());
        let padded = match cx.opt(6) {
            Some(lengths) => {
                let batch = cx.dims(queries)[0].clone();
                let lengths = cx.cast(lengths, DType::I64)?;
                Some(cx.reshape(lengths, vec![batch, Dim::from(1), Dim::from(1), Dim::from(1)])?)
            }
            None => None,
        };
        let key = places(cx, &columns, false)?;
        let mut conditions = Vec::new();
        if self.causal || self.left >= 0 || self.right >= 0 {
            let mut place = places(cx, &rows, true)?;
            if let Some(past) = past {
                let offset = length(cx, past)?;
                place = cx.simple("add", &[place, offset])?;
            } else if let Some(lengths) = padded {
                let count = length(cx, queries)?;
                let offset = cx.simple("sub", &[lengths, count])?;
                place = cx.simple("add", &[place, offset])?;
            }
            if self.causal {
                conditions.push(cx.simple("less_equal", &[key, place])?);
            }
            if self.right >= 0 {
                let last = with_scalar(cx, "add", place, self.right as f64)?;
                conditions.push(cx.simple("less_equal", &[key, last])?);
            }
            if self.left >= 0 {
                let first = with_scalar(cx, "sub", place, self.left as f64)?;
                conditions.push(cx.simple("greater_equal", &[key, first])?);
            }
        }
        if let Some(lengths) = padded {
            conditions.push(cx.simple("less", &[key, lengths])?);
        }
        let Some((&first, rest)) = conditions.split_first() else { return Ok(None) };
        rest.iter().try_fold(first, |a, &b| cx.simple("and", &[a, b])).map(Some)
    }
}

/// The number of queries or keys in `[batch, heads, length, size]`, as a value.
fn length(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    cx.add(ShapeOf { start: 2, end: 3 }, &[x])
}

/// Pairs of elements turned by angles that depend on their position.
fn rotary_embedding(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 4)?;
    let interleaved = cx.attrs.flag("interleaved", false)?;
    let (heads, turned) = (cx.attrs.int_or("num_heads", 0)?, cx.attrs.int_or("rotary_embedding_dim", 0)?);
    let (mut x, mut cos, mut sin) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let flat = cx.rank(x) == 3;
    if flat {
        let heads = usize::try_from(heads).ok().filter(|&n| n > 0).ok_or_else(|| unsupported("no number of heads"))?;
        x = split_heads(cx, x, &Dim::from(heads))?;
    }
    if let Some(positions) = cx.opt(3) {
        cos = cx.add(bitc_ir::ops::Gather { axis: 0 }, &[cos, positions])?;
        sin = cx.add(bitc_ir::ops::Gather { axis: 0 }, &[sin, positions])?;
    }
    let dims = cx.dims(x);
    let size = dims.get(3).and_then(Dim::as_const).ok_or_else(|| unsupported("heads of a symbolic size"))?;
    let turned = if turned == 0 { size } else { usize::try_from(turned).unwrap_or(0) };
    if turned > size || !turned.is_multiple_of(2) || turned == 0 {
        return Err(Cause::Type(format!("an even part of {size} elements expected, found {turned}")));
    }
    let half = Dim::from(turned / 2);
    let mut angles = [cos, sin];
    for v in &mut angles {
        // [batch, length, half] for all heads; only as many angles as there are pairs count.
        let own = cx.dims(*v);
        let [batch, length, width] = &own[..] else {
            return Err(Cause::Type(format!("angles of rank 3 expected, found {}", cx.ty(*v))));
        };
        let (batch, length) = (batch.clone(), length.clone());
        if *width != half {
            *v = part(cx, *v, 2, Dim::from(0), half.clone())?;
        }
        *v = cx.reshape(*v, vec![batch, Dim::from(1), length, half.clone()])?;
    }
    let [cos, sin] = angles;
    let front = if turned == size { x } else { part(cx, x, 3, Dim::from(0), Dim::from(turned))? };
    let lead = dims[..3].to_vec();
    let with = |tail: &[Dim]| [&lead[..], tail].concat();
    let (a, b) = if interleaved {
        let pairs = cx.reshape(front, with(&[half.clone(), Dim::from(2)]))?;
        let a = part(cx, pairs, 4, Dim::from(0), Dim::from(1))?;
        let b = part(cx, pairs, 4, Dim::from(1), Dim::from(2))?;
        (cx.reshape(a, with(std::slice::from_ref(&half)))?, cx.reshape(b, with(std::slice::from_ref(&half)))?)
    } else {
        (part(cx, front, 3, Dim::from(0), half.clone())?, part(cx, front, 3, half.clone(), Dim::from(turned))?)
    };
    let product = |cx: &mut NodeCx<'_, '_>, u, v| cx.simple("mul", &[u, v]);
    let (ac, bs, as_, bc) = (product(cx, a, cos)?, product(cx, b, sin)?, product(cx, a, sin)?, product(cx, b, cos)?);
    let real = cx.simple("sub", &[ac, bs])?;
    let imaginary = cx.simple("add", &[as_, bc])?;
    let mut y = if interleaved {
        let real = cx.reshape(real, with(&[half.clone(), Dim::from(1)]))?;
        let imaginary = cx.reshape(imaginary, with(&[half, Dim::from(1)]))?;
        let pairs = cx.add(Concat { axis: 4 }, &[real, imaginary])?;
        cx.reshape(pairs, with(&[Dim::from(turned)]))?
    } else {
        cx.add(Concat { axis: 3 }, &[real, imaginary])?
    };
    if turned != size {
        let rest = part(cx, x, 3, Dim::from(turned), Dim::from(size))?;
        y = cx.add(Concat { axis: 3 }, &[y, rest])?;
    }
    Ok(vec![if flat { join_heads(cx, y)? } else { y }])
}
