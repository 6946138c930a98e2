//! Operators of `com.microsoft` that exporters and optimizers of onnxruntime write.

use bitc_ir::ops::{LayerNorm, Linear, activation::Activation};
use bitc_ir::{Blob, DType, Dim, Tensor, ValueId};

use super::Entry;
use super::Rule::With;
use super::elementwise::with_scalar;
use super::norm::rms_norm_of;
use super::product::centred;
use super::quantize::{dynamically_quantized, quantized};
use crate::error::Cause;
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs, unsupported};

/// An operator of `com.microsoft`.
pub(super) const fn ms(op: &'static str, rule: super::Rule) -> Entry {
    Entry { domain: "com.microsoft", op, since: 1, rule }
}

pub(super) const TABLE: &[Entry] = &[
    ms("MatMulNBits", With(matmul_n_bits)),
    ms("MatMulIntegerToFloat", With(matmul_integer_to_float)),
    ms("DynamicQuantizeMatMul", With(dynamic_quantize_matmul)),
    ms("QGemm", With(q_gemm)),
    ms("SkipLayerNormalization", With(skip_layer_norm)),
    ms("SimplifiedLayerNormalization", With(simplified_layer_norm)),
    ms("SkipSimplifiedLayerNormalization", With(skip_simplified_layer_norm)),
    ms("Gelu", With(|cx| activation(cx, "gelu"))),
    ms("FastGelu", With(|cx| activation(cx, "gelu_tanh"))),
    ms("BiasGelu", With(|cx| activation(cx, "gelu"))),
    ms("QuickGelu", With(quick_gelu)),
];

/// An activation after an optional bias.
fn activation(cx: &mut NodeCx<'_, '_>, name: &str) -> Outputs {
    cx.arity(1, 2)?;
    let mut x = cx.input(0)?;
    if let Some(bias) = cx.opt(1) {
        x = cx.simple("add", &[x, bias])?;
    }
    Ok(vec![cx.simple(name, &[x])?])
}

fn quick_gelu(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let alpha = cx.attrs.float_or("alpha", 1.702)?;
    let x = cx.input(0)?;
    let scaled = with_scalar(cx, "mul", x, f64::from(alpha))?;
    let gate = cx.simple("sigmoid", &[scaled])?;
    Ok(vec![cx.simple("mul", &[x, gate])?])
}

/// Weights of `bits` bits in blocks along K: `w[n, k] = (q[n, k] - zero[n, block]) * scale[n, block]`.
///
/// The packed bytes are unpacked here; weights that turn out ternary are found by the passes.
fn matmul_n_bits(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 6)?;
    cx.attrs.ignore(&["accuracy_level", "weight_prepacked"]);
    let mut size = |name| -> Result<usize, Cause> {
        let found = cx.attrs.int(name)?;
        let found = required(name, found)?;
        usize::try_from(found)
            .ok()
            .filter(|&n| n > 0 && n < 1 << 32)
            .ok_or_else(|| invalid(name, "a positive number", found))
    };
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    let bits = usize::try_from(cx.attrs.int_or("bits", 4)?).unwrap_or(0);
    if !matches!(bits, 2 | 4 | 8) {
        return Err(unsupported(format!("MatMulNBits with {bits} bits")));
    }
    if cx.opt(4).is_some() {
        return Err(unsupported("MatMulNBits with the input `g_idx`"));
    }
    let blocks = k.div_ceil(block);
    let numel = n.checked_mul(k).ok_or_else(|| unsupported("weights that large"))?;
    let x = cx.input(0)?;
    let bytes = cx.build.known_tensor(cx.input(1)?, "B")?.clone();
    let scales = cx.build.known_tensor(cx.input(2)?, "scales")?.to_f64();
    let zeros = cx.opt(3).map(|v| cx.build.known_tensor(v, "zero_points").cloned()).transpose()?;
    let row_bytes = blocks * (block * bits).div_ceil(8);
    if bytes.dtype() != DType::U8 || bytes.numel() != n * row_bytes || scales.len() != n * blocks {
        return Err(Cause::Type(format!(
            "{n} rows of {row_bytes} bytes and {blocks} scales expected, found {}",
            bytes.ty()
        )));
    }
    cx.build.budget.charge(4 * numel as u64, || "unpacked weights".into())?;
    let code = |row: &[u8], i: usize| {
        let per_byte = 8 / bits;
        let byte = row.get(i / per_byte).copied().unwrap_or(0);
        (u32::from(byte) >> (i % per_byte * bits)) & ((1 << bits) - 1)
    };
    let zero_row = (blocks * bits).div_ceil(8);
    let zero_at: Box<dyn Fn(usize, usize) -> f64> = match &zeros {
        None => Box::new(|_, _| f64::from(1u32 << (bits - 1))),
        Some(z) if z.dtype() == DType::U8 && z.numel() == n * zero_row => {
            Box::new(move |row, b| f64::from(code(z.bytes().get(row * zero_row..).unwrap_or_default(), b)))
        }
        Some(z) if z.dtype().is_float() && z.numel() == n * blocks => {
            let z = z.to_f64();
            Box::new(move |row, b| z.get(row * blocks + b).copied().unwrap_or(0.0))
        }
        Some(z) => {
            return Err(Cause::Type(format!("zero points of {n} rows of {blocks} blocks expected, found {}", z.ty())));
        }
    };
    let block_bytes = (block * bits).div_ceil(8);
    let mut weights = Vec::with_capacity(4 * numel);
    for (row, packed) in bytes.bytes().chunks_exact(row_bytes).enumerate() {
        for i in 0..k {
            let (b, within) = (i / block, i % block);
            let q = f64::from(code(packed.get(b * block_bytes..).unwrap_or_default(), within));
            let w = ((q - zero_at(row, b)) as f32) * scales.get(row * blocks + b).map_or(0.0, |&s| s as f32);
            weights.extend_from_slice(&w.to_le_bytes());
        }
    }
    let weights = Tensor::from_blob(DType::F32, &[n, k], Blob::new(weights)).map_err(|e| Cause::Type(e.to_string()))?;
    let dtype = cx.dtype(x);
    let x = cx.cast(x, DType::F32)?;
    let w = cx.constant(weights);
    let bias = cx.opt(5).map(|b| cx.cast(b, DType::F32)).transpose()?;
    let y = cx.add_opt(Linear { act: Activation::None }, &[Some(x), Some(w), bias])?;
    Ok(vec![cx.cast(y, dtype)?])
}

/// `matmul(a - a_zero, b - b_zero) * a_scale * b_scale + bias`.
fn integer_product(
    cx: &mut NodeCx<'_, '_>,
    (a, a_scale, a_zero): (ValueId, ValueId, Option<ValueId>),
    (b, b_scale, b_zero): (ValueId, ValueId, Option<ValueId>),
    bias: Option<ValueId>,
) -> Outputs {
    let a = centred(cx, a, a_zero, true)?;
    let b = centred(cx, b, b_zero, false)?;
    let product = cx.simple("matmul", &[a, b])?;
    let product = cx.cast(product, DType::F32)?;
    let scale = cx.simple("mul", &[a_scale, b_scale])?;
    let mut y = cx.simple("mul", &[product, scale])?;
    if let Some(bias) = bias {
        y = cx.simple("add", &[y, bias])?;
    }
    Ok(vec![y])
}

fn matmul_integer_to_float(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(4, 7)?;
    let (a, b, a_scale, b_scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    let (a_zero, b_zero, bias) = (cx.opt(4), cx.opt(5), cx.opt(6));
    integer_product(cx, (a, a_scale, a_zero), (b, b_scale, b_zero), bias)
}

fn dynamic_quantize_matmul(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 5)?;
    let (x, b, b_scale, b_zero, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.opt(3), cx.opt(4));
    let (a, a_scale, a_zero) = dynamically_quantized(cx, x)?;
    integer_product(cx, (a, a_scale, Some(a_zero)), (b, b_scale, b_zero), bias)
}

/// `alpha * a_scale * b_scale * ((A - a_zero) * (B - b_zero) + C)`, quantised where an output has a scale.
fn q_gemm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(6, 9)?;
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let (trans_a, trans_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    let (mut a, a_scale, a_zero) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (mut b, b_scale, b_zero) = (cx.input(3)?, cx.input(4)?, cx.input(5)?);
    if cx.rank(a) != 2 || cx.rank(b) != 2 {
        return Err(Cause::Type(format!("expected matrices, found {} and {}", cx.ty(a), cx.ty(b))));
    }
    if trans_a {
        a = cx.transpose(a, vec![1, 0])?;
    }
    if trans_b {
        b = cx.transpose(b, vec![1, 0])?;
    }
    let (a, b) = (centred(cx, a, Some(a_zero), true)?, centred(cx, b, Some(b_zero), false)?);
    let mut sums = cx.simple("matmul", &[a, b])?;
    if let Some(bias) = cx.opt(6) {
        sums = cx.simple("add", &[sums, bias])?;
    }
    let sums = cx.cast(sums, DType::F32)?;
    let mut scale = cx.simple("mul", &[a_scale, b_scale])?;
    if alpha != 1.0 {
        scale = with_scalar(cx, "mul", scale, f64::from(alpha))?;
    }
    let Some(y_scale) = cx.opt(7) else { return Ok(vec![cx.simple("mul", &[sums, scale])?]) };
    // onnxruntime multiplies by one number as well.
    let scale = cx.simple("div", &[scale, y_scale])?;
    let steps = cx.simple("mul", &[sums, scale])?;
    let (zero, one) = (cx.opt(8), cx.scalar(DType::F32, 1.0)?);
    let to = zero.map_or(DType::U8, |z| cx.dtype(z));
    Ok(vec![quantized(cx, steps, one, zero, to)?])
}

/// The sum of the inputs to be normalised, which is also the fourth output.
fn skip_sum(cx: &mut NodeCx<'_, '_>, bias: Option<ValueId>) -> Result<ValueId, Cause> {
    if cx.wants(1) || cx.wants(2) {
        return Err(unsupported(format!("the statistics of {}", cx.op)));
    }
    let (x, skip) = (cx.input(0)?, cx.input(1)?);
    let sum = cx.simple("add", &[x, skip])?;
    bias.map_or(Ok(sum), |bias| cx.simple("add", &[sum, bias]))
}

fn skip_layer_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 5)?;
    let eps = cx.attrs.float_or("epsilon", 1e-12)?;
    let sum = skip_sum(cx, cx.opt(4))?;
    let (gamma, beta) = (cx.input(2)?, cx.opt(3));
    let dtype = cx.dtype(sum);
    let wide = cx.cast(sum, DType::F32)?;
    let gamma = cx.cast(gamma, DType::F32)?;
    let beta = beta.map(|b| cx.cast(b, DType::F32)).transpose()?;
    let y = cx.add_opt(LayerNorm { axis: -1, eps }, &[Some(wide), Some(gamma), beta])?;
    let y = cx.cast(y, dtype)?;
    Ok(vec![y, sum, sum, sum])
}

fn simplified_layer_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let eps = cx.attrs.float_or("epsilon", 1e-5)?;
    cx.attrs.ignore(&["stash_type"]);
    let axis = cx.attrs.int_or("axis", -1)?;
    let (x, gamma) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(axis, cx.rank(x))?;
    Ok(vec![rms_norm_of(cx, x, gamma, axis, eps)?])
}

fn skip_simplified_layer_norm(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 4)?;
    let eps = cx.attrs.float_or("epsilon", 1e-12)?;
    let sum = skip_sum(cx, cx.opt(3))?;
    let gamma = cx.input(2)?;
    let last: Vec<Dim> = cx.dims(sum);
    let axis = last.len().checked_sub(1).ok_or_else(|| Cause::Type("a tensor of rank 1 or more expected".into()))?;
    let y = rms_norm_of(cx, sum, gamma, axis, eps)?;
    Ok(vec![y, sum, sum, sum])
}
