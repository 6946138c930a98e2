//! `BitLinear` and `IntLinear`.

use std::ffi::{CStr, c_int};

use bitc_format::Layout;
use bitc_format::inst::Activation;
use bitc_runtime::kernels::{self, BitProduct, Post};

use super::ZERO_POINT;
use crate::abi::element::{F32, U8};
use crate::api::{Call, Info};
use crate::operator::Operator;

/// Weights in the layout of the kernels.
struct Weights {
    layout: Layout,
    packed: Vec<u8>,
    /// Outputs and inputs.
    n: usize,
    k: usize,
}

impl Weights {
    /// Packs weights that are given column by column, `[k, n]`.
    fn new(layout: Layout, k: usize, n: usize, columns: &[i8]) -> Result<Self, String> {
        if k == 0 {
            return Err("a product over no inputs has no kernel".into());
        }
        let limit = usize::try_from(layout.max_columns()).unwrap_or(usize::MAX);
        if k > limit {
            return Err(format!("{k} inputs, of which {limit} fit the sums"));
        }
        let rows: Vec<i8> = (0..n).flat_map(|row| (0..k).map(move |i| columns[i * n + row])).collect();
        let packed = layout.pack(n, k, &rows).map_err(|e| e.to_string())?;
        Ok(Self { layout, packed, n, k })
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        let (q, q_scale) = (call.input(0)?, call.input(1)?);
        let (scale, bias) = (call.input(3)?.elements::<f32>()?, call.input(4)?.elements::<f32>()?);
        let (bytes, q_scale) = (q.elements::<u8>()?, q_scale.elements::<f32>()?);
        if q.dims.last() != Some(&self.k) {
            return Err(format!("rows of {} expected, found {:?}", self.k, q.dims));
        }
        let rows: usize = q.dims[..q.dims.len() - 1].iter().product();
        let mut dims = q.dims.clone();
        dims.pop();
        dims.push(self.n);
        let per = |what: &str, len: usize, all: usize| {
            if len == 1 || len == all { Ok(()) } else { Err(format!("{what}: 1 or {all} expected, found {len}")) }
        };
        per("scales of activations", q_scale.len(), rows)?;
        per("scales of weights", scale.len(), self.n)?;
        per("biases", bias.len(), self.n)?;
        let y = call.output::<f32>(0, &dims)?;
        if y.is_empty() {
            return Ok(());
        }
        let pitch = self.k.next_multiple_of(64);
        let mut integers = vec![0i8; rows * pitch];
        let mut sums = Vec::with_capacity(rows);
        for (integers, bytes) in integers.chunks_exact_mut(pitch).zip(bytes.chunks_exact(self.k)) {
            integers.iter_mut().zip(bytes).for_each(|(q, byte)| *q = (byte ^ ZERO_POINT).cast_signed());
            sums.push(integers.iter().map(|&q| i32::from(q)).sum());
        }
        // A bias of one number is one for every output; negative zeros change nothing.
        let widened = if bias.len() == self.n { None } else { Some(vec![bias[0]; self.n]) };
        let bias = widened.as_deref().unwrap_or(bias);
        let bias = (!bias.iter().all(|b| b.to_bits() == 1 << 31)).then_some(bias);
        let product =
            BitProduct { layout: self.layout, w: &self.packed, n: self.n, k: self.k, q: &integers, pitch, sums: &sums };
        let post = Post { row_scale: q_scale, scale, bias, activation: Activation::None };
        kernels::best().bit_linear(product, &post, y);
        Ok(())
    }
}

/// A product by packed ternary weights.
pub(super) struct BitLinear(Weights);

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
        Weights::new(Layout::Trit2, k, n, &columns).map(Self)
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        self.0.compute(call)
    }
}

/// A product by weights of eight bits.
pub(super) struct IntLinear(Weights);

impl Operator for IntLinear {
    const NAME: &'static CStr = c"IntLinear";
    const INPUTS: &'static [c_int] = &[U8, F32, U8, F32, F32];
    const OUTPUTS: &'static [c_int] = &[F32];

    fn new(info: &Info<'_>) -> Result<Self, String> {
        let w = info.constant(2)?;
        let &[k, n] = &w.dims[..] else { return Err(format!("weights of rank 2 expected, found {:?}", w.dims)) };
        let columns: Vec<i8> = w.elements::<u8>()?.iter().map(|b| (b ^ ZERO_POINT).cast_signed()).collect();
        Weights::new(Layout::Int8, k, n, &columns).map(Self)
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        self.0.compute(call)
    }
}
