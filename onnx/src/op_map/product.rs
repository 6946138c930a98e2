//! Matrix products and convolutions.

use bitc_ir::ops::activation::Activation;
use bitc_ir::ops::{Concat, Linear, Reverse};
use bitc_ir::{Attr, DType, Dim, ValueId};

use super::Rule::With;
use super::depth::Depth;
use super::elementwise::with_scalar;
use super::layout::part;
use super::pool::Spatial;
use super::{Entry, einsum, std};
use crate::error::Cause;
use crate::import::attrs::invalid;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("MatMul", With(matmul)),
    std("Gemm", With(gemm)),
    std("Einsum", With(einsum::einsum)),
    std("Conv", With(conv)),
    std("ConvTranspose", With(conv_transpose)),
    std("CausalConvWithState", With(causal_conv)),
    std("MatMulInteger", With(matmul_integer)),
];

fn matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let inputs = cx.all()?;
    Ok(vec![cx.simple("matmul", &inputs)?])
}

/// `alpha * A' * B' + beta * C`. Float products become `linear`, with the weights as rows of outputs.
pub(super) fn gemm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let (alpha, beta) = (cx.attrs.float_or("alpha", 1.0)?, cx.attrs.float_or("beta", 1.0)?);
    let (trans_a, trans_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    // Before opset 7 it says whether C broadcasts, which it does now wherever it fits.
    cx.attrs.ignore(&["broadcast"]);
    let (mut a, mut b, c) = (cx.input(0)?, cx.input(1)?, cx.opt(2));
    if cx.rank(a) != 2 || cx.rank(b) != 2 {
        return Err(Cause::Type(format!("expected matrices, found {} and {}", cx.ty(a), cx.ty(b))));
    }
    if trans_a {
        a = cx.transpose(a, vec![1, 0])?;
    }
    let is_float = cx.dtype(a) == DType::F32 && cx.dtype(b) == DType::F32;
    let product = if is_float {
        let w = if trans_b { b } else { cx.transpose(b, vec![1, 0])? };
        let outputs = cx.dims(w)[0].clone();
        let flat = |dims: &[Dim]| match dims {
            [n] => *n == outputs,
            [one, n] => one.is_one() && *n == outputs,
            _ => false,
        };
        let bias = c.filter(|&c| alpha == 1.0 && beta == 1.0 && cx.dtype(c) == DType::F32 && flat(&cx.dims(c)));
        let bias = bias.map(|c| cx.reshape(c, vec![outputs])).transpose()?;
        let linear = cx.add_opt(Linear { act: Activation::None }, &[Some(a), Some(w), bias])?;
        if bias.is_some() {
            return Ok(vec![linear]);
        }
        linear
    } else {
        if trans_b {
            b = cx.transpose(b, vec![1, 0])?;
        }
        cx.simple("matmul", &[a, b])?
    };
    let scaled = if alpha == 1.0 { product } else { with_scalar(cx, "mul", product, f64::from(alpha))? };
    let Some(c) = c.filter(|_| beta != 0.0) else { return Ok(vec![scaled]) };
    let c = if beta == 1.0 { c } else { with_scalar(cx, "mul", c, f64::from(beta))? };
    Ok(vec![cx.simple("add", &[scaled, c])?])
}

/// An operand of a convolution in single precision: halves are widened, other types are refused.
fn single(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    match cx.dtype(x) {
        DType::F32 | DType::F16 | DType::BF16 => cx.cast(x, DType::F32),
        other => Err(unsupported(format!("{} on {other}", cx.op))),
    }
}

pub(super) fn conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2));
    let dtype = cx.dtype(x);
    let (x, w) = (single(cx, x)?, single(cx, w)?);
    let bias = bias.map(|b| single(cx, b)).transpose()?;
    let weights = cx.fixed(w, "W")?;
    let spatial = Spatial::read(cx, x, weights.get(2..).unwrap_or_default())?;
    let groups = cx.attrs.int_or("group", 1)?;
    let mut attrs = spatial.window_attrs();
    attrs.push(("groups", groups.into()));
    if let Some(depth) = spatial.depth() {
        let y = over_depth(cx, depth, [x, w], bias, &attrs)?;
        return Ok(vec![cx.cast(y, dtype)?]);
    }
    // One spatial axis is two with a height of one.
    let (x, w) = (spatial.widen(cx, x)?, spatial.widen(cx, w)?);
    let y = cx.named_opt("conv2d", attrs, &[Some(x), Some(w), bias])?;
    let y = spatial.narrow(cx, y)?;
    Ok(vec![cx.cast(y, dtype)?])
}

/// Every channel by a kernel of its own that ends at the present position, and the positions that the next call needs.
fn causal_conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 4)?;
    let activation = cx.attrs.str_or("activation", "none")?.to_owned();
    let (x, w, bias, past) = (cx.input(0)?, cx.input(1)?, cx.opt(2), cx.opt(3));
    let weights = cx.fixed(w, "weight")?;
    let (&[channels, 1, taps], 3) = (&weights[..], cx.rank(x)) else {
        return Err(Cause::Type(format!(
            "{} by weights of rank 3 for each channel expected, found {}",
            cx.ty(x),
            cx.ty(w)
        )));
    };
    if taps == 0 {
        return Err(Cause::Type(format!("a kernel that is not empty expected, found {}", cx.ty(w))));
    }
    let x = match past {
        Some(past) => cx.add(Concat { axis: 2 }, &[past, x])?,
        None => border(cx, x, 2, taps as i64 - 1, 0)?,
    };
    let dtype = cx.dtype(x);
    let (wide, w) = (single(cx, x)?, single(cx, w)?);
    let bias = bias.map(|b| single(cx, b)).transpose()?;
    let mut image = cx.dims(wide);
    image.insert(2, Dim::from(1));
    let image = cx.reshape(wide, image)?;
    let w = cx.reshape(w, [channels, 1, 1, taps].map(Dim::from).to_vec())?;
    let y = cx.named_opt("conv2d", vec![("groups", (channels as i64).into())], &[Some(image), Some(w), bias])?;
    let mut dims = cx.dims(y);
    dims.remove(2);
    let y = cx.reshape(y, dims)?;
    let y = match activation.as_str() {
        "none" => y,
        "silu" | "swish" => cx.simple("silu", &[y])?,
        other => return Err(invalid("activation", "`none`, `silu` or `swish`", other)),
    };
    let y = cx.cast(y, dtype)?;
    let end = cx.dims(x)[2].clone();
    let kept = end.sub(&Dim::from(taps - 1)).ok_or_else(|| unsupported("a tensor that large"))?;
    let state = part(cx, x, 2, kept, end)?;
    Ok(vec![y, state])
}

/// A convolution over three axes as a sum over the planes of the weights.
fn over_depth(
    cx: &mut NodeCx<'_, '_>,
    depth: Depth,
    [x, w]: [ValueId; 2],
    bias: Option<ValueId>,
    attrs: &AttrList,
) -> Result<ValueId, Cause> {
    depth.fold(cx, x, 0.0, "add", |cx, plane, tap| {
        let mut dims = cx.dims(w);
        let slice = part(cx, w, 2, Dim::from(tap), Dim::from(tap + 1))?;
        dims.remove(2);
        let w = cx.reshape(slice, dims)?;
        let bias = bias.filter(|_| tap == 0);
        cx.named_opt("conv2d", attrs.clone(), &[Some(plane), Some(w), bias])
    })
}

/// The convolution of an image with zeros between its elements by the weights turned around.
fn conv_transpose(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2));
    let dtype = cx.dtype(x);
    let (x, w) = (single(cx, x)?, single(cx, w)?);
    let bias = bias.map(|b| single(cx, b)).transpose()?;
    let weights = cx.fixed(w, "W")?;
    let groups = cx.attrs.int_or("group", 1)?;
    let groups =
        usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(|| unsupported(format!("{groups} groups")))?;
    let rank = cx.rank(x).saturating_sub(2);
    let [inputs, outputs, kernel @ ..] = &weights[..] else {
        return Err(Cause::Type(format!("weights of rank 3 or more expected, found {}", cx.ty(w))));
    };
    if rank == 0 || rank > 3 || kernel.len() != rank || inputs % groups != 0 {
        return Err(unsupported(format!("ConvTranspose of {} by {}", cx.ty(x), cx.ty(w))));
    }
    let added = cx.attrs.ints("output_padding")?.map_or(vec![0; rank], <[i64]>::to_vec);
    let wanted = cx.attrs.ints("output_shape")?.map(<[i64]>::to_vec);
    let (spatial, auto) = Spatial::read_unpadded(cx, x, kernel)?;
    let (strides, dilations) = (spatial.strides().to_vec(), spatial.dilations().to_vec());
    let mut x = x;
    for axis in 0..rank {
        x = spread(cx, x, axis + 2, strides[axis])?;
        let span = (kernel[axis] as i64 - 1) * dilations[axis] as i64;
        let size = cx.dims(x)[axis + 2].as_const().map(|n| n as i64);
        let (before, after) = spatial.pads_at(axis);
        let (mut begin, mut end) = (span - before as i64, span - after as i64 + added.get(axis).copied().unwrap_or(0));
        // The size asked for, or that of the input times the step, decides what is cut off.
        let target = match (&wanted, auto) {
            (Some(shape), _) => shape.get(shape.len() - rank + axis).copied(),
            (None, Some(auto)) if auto.is_same() => {
                cx.dims(cx.input(0)?)[axis + 2].as_const().map(|n| n as i64 * strides[axis] as i64)
            }
            _ => None,
        };
        if let Some(target) = target {
            let size = size.ok_or_else(|| unsupported("an output shape for a symbolic dimension"))?;
            let full = size + span + added.get(axis).copied().unwrap_or(0);
            let cut = full - target;
            let first = if auto.is_some_and(|a| a.is_upper()) { cut.div_euclid(2) } else { cut - cut.div_euclid(2) };
            (begin, end) = (span - first, span + added.get(axis).copied().unwrap_or(0) - (cut - first));
        }
        x = border(cx, x, axis + 2, begin, end)?;
    }
    // [groups * c, o, ..] becomes [groups * o, c, ..] with every kernel turned around.
    let tail: Vec<Dim> = kernel.iter().map(|&k| Dim::from(k)).collect();
    let dims = |a: &[usize]| -> Vec<Dim> { a.iter().map(|&n| Dim::from(n)).chain(tail.iter().cloned()).collect() };
    let w = cx.reshape(w, dims(&[groups, inputs / groups, *outputs]))?;
    let w = cx.transpose(w, [0, 2, 1].into_iter().chain(3..3 + rank).collect())?;
    let w = cx.reshape(w, dims(&[groups * outputs, inputs / groups]))?;
    let w = cx.add(Reverse { axes: (2..2 + rank).collect() }, &[w])?;
    let attrs = vec![("dilations", spatial.two_dilations()), ("groups", (groups as i64).into())];
    if let Some(depth) = spatial.depth() {
        let y = over_depth(cx, Depth { stride: 1, pads: (0, 0), ..depth }, [x, w], bias, &attrs)?;
        return Ok(vec![cx.cast(y, dtype)?]);
    }
    let (x, w) = (spatial.widen(cx, x)?, spatial.widen(cx, w)?);
    let y = cx.named_opt("conv2d", attrs, &[Some(x), Some(w), bias])?;
    let y = spatial.narrow(cx, y)?;
    Ok(vec![cx.cast(y, dtype)?])
}

/// Zeros between the positions of an axis, so that they are `step` apart.
pub(super) fn spread(cx: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, step: usize) -> Result<ValueId, Cause> {
    if step == 1 {
        return Ok(x);
    }
    let large = || unsupported("an image that large");
    let dims = cx.dims(x);
    let mut split = dims.clone();
    split.insert(axis + 1, Dim::from(1));
    let x = cx.reshape(x, split)?;
    let mut pads = vec![0i64; 2 * (dims.len() + 1)];
    pads[dims.len() + 1 + axis + 1] = step as i64 - 1;
    let x = cx.named("pad", vec![("pads", pads.into())], &[x])?;
    let mut merged = dims.clone();
    merged[axis] = dims[axis].mul(&Dim::from(step)).ok_or_else(large)?;
    let end = merged[axis].sub(&Dim::from(step - 1)).ok_or_else(large)?;
    let x = cx.reshape(x, merged)?;
    part(cx, x, axis, Dim::from(0), end)
}

/// Zeros before and behind an axis; negative numbers cut off.
pub(super) fn border(cx: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, begin: i64, end: i64) -> Result<ValueId, Cause> {
    let mut x = x;
    if begin < 0 || end < 0 {
        let off = |n: i64| Dim::from(usize::try_from((-n).max(0)).unwrap_or(0));
        let last = cx.dims(x)[axis].sub(&off(end)).ok_or_else(|| unsupported("an image that large"))?;
        x = part(cx, x, axis, off(begin), last)?;
    }
    let rank = cx.rank(x);
    let mut pads = vec![0i64; 2 * rank];
    (pads[axis], pads[axis + rank]) = (begin.max(0), end.max(0));
    if pads.iter().all(|&p| p == 0) {
        return Ok(x);
    }
    cx.named("pad", vec![("pads", pads.into())], &[x])
}

/// `(A - a_zero) * (B - b_zero)` in 32-bit integers.
fn matmul_integer(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 4)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (a_zero, b_zero) = (cx.opt(2), cx.opt(3));
    // A zero point per row of A applies along its last but one axis, one per column of B along its last.
    let a = centred(cx, a, a_zero, true)?;
    let b = centred(cx, b, b_zero, false)?;
    Ok(vec![cx.simple("matmul", &[a, b])?])
}

/// An integer tensor as `i32` with its zero point taken off.
pub(super) fn centred(
    cx: &mut NodeCx<'_, '_>,
    x: ValueId,
    zero: Option<ValueId>,
    by_row: bool,
) -> Result<ValueId, Cause> {
    if !matches!(cx.dtype(x), DType::I8 | DType::U8) {
        return Err(unsupported(format!("{} on {}", cx.op, cx.ty(x))));
    }
    let x = cx.cast(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(x) };
    let mut zero = cx.cast(zero, DType::I32)?;
    if by_row && cx.rank(zero) == 1 && cx.rank(x) > 1 && !cx.dims(zero)[0].is_one() {
        let dims = vec![cx.dims(zero)[0].clone(), Dim::from(1)];
        zero = cx.reshape(zero, dims)?;
    }
    cx.simple("sub", &[x, zero])
}

/// Attributes by name, for operations with windows.
pub(super) type AttrList = Vec<(&'static str, Attr)>;
