//! Matrix products and convolutions.

use bitc_ir::ops::Linear;
use bitc_ir::ops::activation::Activation;
use bitc_ir::{Attr, DType, Dim, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::pool::Spatial;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::required;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("MatMul", With(matmul)),
    std("Gemm", With(gemm)),
    std("Einsum", With(einsum)),
    std("Conv", With(conv)),
    std("MatMulInteger", With(matmul_integer)),
];

fn matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let inputs = cx.all()?;
    Ok(vec![cx.simple("matmul", &inputs)?])
}

/// `alpha * A' * B' + beta * C`. Float products become `linear`, with the weights as rows of outputs.
fn gemm(cx: &mut NodeCx<'_, '_>) -> Outputs {
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

fn einsum(cx: &mut NodeCx<'_, '_>) -> Outputs {
    let equation = cx.attrs.str("equation")?;
    let equation: String = required("equation", equation)?.chars().filter(|c| !c.is_whitespace()).collect();
    let inputs = cx.all()?;
    Ok(vec![cx.named("einsum", vec![("equation", equation.into())], &inputs)?])
}

fn conv(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2));
    let weights = cx.fixed(w, "W")?;
    let spatial = Spatial::read(cx, x, weights.get(2..).unwrap_or_default())?;
    let groups = cx.attrs.int_or("group", 1)?;
    // One spatial axis is two with a height of one.
    let (x, w) = (spatial.widen(cx, x)?, spatial.widen(cx, w)?);
    let mut attrs = spatial.window_attrs()?;
    attrs.push(("groups", groups.into()));
    let y = cx.named_opt("conv2d", attrs, &[Some(x), Some(w), bias])?;
    Ok(vec![spatial.narrow(cx, y)?])
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
