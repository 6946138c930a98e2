//! `BitLinear` and `IntLinear`.

use std::ffi::{CStr, c_int};

use bitc_format::Layout;
use bitc_format::inst::Activation;
use bitc_runtime::kernels::{self, BitProduct, Post};

use super::ZERO_POINT;
use crate::abi::element::{F32, U8};
use crate::api::{Call, Info};
use crate::operator::Operator;
use crate::scratch::{Aligned, with_rows};

/// Weights in the layout of the kernels, with what is known of the layer before it runs.
struct Layer {
    layout: Layout,
    packed: Aligned<u8>,
    /// Outputs and inputs.
    n: usize,
    k: usize,
    /// The scales of the weights, where they are constant.
    scale: Option<Vec<f32>>,
    /// The bias, where it is constant: one for each output, or none at all.
    bias: Option<Option<Vec<f32>>>,
}

/// Faults where there is neither one number for all nor one for each.
fn one_or(what: &str, len: usize, all: usize) -> Result<(), String> {
    if len == 1 || len == all { Ok(()) } else { Err(format!("{what}: 1 or {all} expected, found {len}")) }
}

/// A bias for each of `n` outputs; negative zeros change nothing and are none.
fn whole_bias(bias: &[f32], n: usize) -> Result<Option<Vec<f32>>, String> {
    one_or("biases", bias.len(), n)?;
    if bias.iter().all(|b| b.to_bits() == 1 << 31) {
        return Ok(None);
    }
    Ok(Some(if bias.len() == n { bias.to_vec() } else { vec![bias[0]; n] }))
}

impl Layer {
    /// Packs weights that are given column by column, `[k, n]`.
    fn new(info: &Info<'_>, layout: Layout, k: usize, n: usize, columns: &[i8]) -> Result<Self, String> {
        if k == 0 {
            return Err("a product over no inputs has no kernel".into());
        }
        let limit = usize::try_from(layout.max_columns()).unwrap_or(usize::MAX);
        if k > limit {
            return Err(format!("{k} inputs, of which {limit} fit the sums"));
        }
        let rows: Vec<i8> = (0..n).flat_map(|row| (0..k).map(move |i| columns[i * n + row])).collect();
        let packed = layout.pack(n, k, &rows).map_err(|e| e.to_string())?;
        let known = |i: usize| info.constant_if(i)?.map(|t| t.elements::<f32>()).transpose();
        let scale = known(3)?.map(<[f32]>::to_vec);
        if let Some(scale) = &scale {
            one_or("scales of weights", scale.len(), n)?;
        }
        let bias = known(4)?.map(|bias| whole_bias(bias, n)).transpose()?;
        Ok(Self { layout, packed: Aligned::copy_of(&packed), n, k, scale, bias })
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        let (q, q_scale) = (call.input(0)?, call.input(1)?);
        let (bytes, q_scale) = (q.elements::<u8>()?, q_scale.elements::<f32>()?);
        let Some((&k, outer)) = q.dims().split_last().filter(|(k, _)| **k == self.k) else {
            return Err(format!("rows of {} expected, found {:?}", self.k, q.dims()));
        };
        let rows: usize = outer.iter().product();
        one_or("scales of activations", q_scale.len(), rows)?;
        let scale = match &self.scale {
            Some(scale) => scale,
            None => call.input(3)?.elements::<f32>()?,
        };
        one_or("scales of weights", scale.len(), self.n)?;
        let computed;
        let bias = match &self.bias {
            Some(bias) => bias.as_deref(),
            None => {
                computed = whole_bias(call.input(4)?.elements::<f32>()?, self.n)?;
                computed.as_deref()
            }
        };
        let y = call.output::<f32>(0, &[outer, &[self.n]].concat())?;
        if y.is_empty() {
            return Ok(());
        }
        let pitch = k.next_multiple_of(64);
        with_rows(rows * pitch, rows, |integers, sums| {
            for ((integers, sum), bytes) in integers.chunks_exact_mut(pitch).zip(&mut *sums).zip(bytes.chunks_exact(k))
            {
                let (integers, padding) = integers.split_at_mut(k);
                integers.iter_mut().zip(bytes).for_each(|(q, byte)| *q = (byte ^ ZERO_POINT).cast_signed());
                padding.fill(0);
                let total: u32 = bytes.iter().map(|&b| u32::from(b)).sum();
                // The sum of the integers fits, whatever wraps on the way to it.
                *sum = total.wrapping_sub(u32::from(ZERO_POINT) * k as u32).cast_signed();
            }
            let product = BitProduct { layout: self.layout, w: &self.packed, n: self.n, k, q: integers, pitch, sums };
            let post = Post { row_scale: q_scale, scale, bias, activation: Activation::None };
            kernels::best().bit_linear(product, &post, y);
        });
        Ok(())
    }
}

/// A product by packed ternary weights.
pub(super) struct BitLinear(Layer);

impl Operator for BitLinear {
    const NAME: &'static CStr = c"BitLinear";
    const INPUTS: &'static [c_int] = &[U8, F32, U8, F32, F32];
    const OUTPUTS: &'static [c_int] = &[F32];

    fn new(info: &Info<'_>) -> Result<Self, String> {
        let shape = info.ints(c"shape")?;
        let sizes: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let Some(&[k, n]) = sizes.as_deref() else {
            return Err(format!("a shape of two sizes expected, found {shape:?}"));
        };
        let packed = info.constant(2)?.elements::<u8>()?;
        let numel = k.checked_mul(n).ok_or("the weights are too large")?;
        if packed.len() != numel.div_ceil(4) {
            return Err(format!("{} bytes of weights expected, found {}", numel.div_ceil(4), packed.len()));
        }
        let codes = packed.iter().flat_map(|&byte| (0..4).map(move |i| (byte >> (2 * i)) & 3));
        // 3 is no code, and no weight that could be packed.
        let columns: Vec<i8> = codes.take(numel).map(|code| code.cast_signed() - 1).collect();
        Layer::new(info, Layout::Trit2, k, n, &columns).map(Self)
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        self.0.compute(call)
    }
}

/// A product by weights of eight bits.
pub(super) struct IntLinear(Layer);

impl Operator for IntLinear {
    const NAME: &'static CStr = c"IntLinear";
    const INPUTS: &'static [c_int] = &[U8, F32, U8, F32, F32];
    const OUTPUTS: &'static [c_int] = &[F32];

    fn new(info: &Info<'_>) -> Result<Self, String> {
        let w = info.constant(2)?;
        let &[k, n] = w.dims() else { return Err(format!("weights of rank 2 expected, found {:?}", w.dims())) };
        let columns: Vec<i8> = w.elements::<u8>()?.iter().map(|b| (b ^ ZERO_POINT).cast_signed()).collect();
        Layer::new(info, Layout::Int8, k, n, &columns).map(Self)
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        self.0.compute(call)
    }
}
