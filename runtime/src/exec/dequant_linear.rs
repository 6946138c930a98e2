//! `dequant_linear`: a float product with weights that are stored in few bits.
//!
//! A panel of weights at a time becomes floats, which are multiplied like any others. So the memory for them stays small,
//! and each weight is expanded once for all tokens.

use bitc_format::Layout;
use bitc_format::inst::DequantLinear;

use super::quantized::{shape_of, weights};
use crate::RunError;
use crate::arena;
use crate::bind::Binding;
use crate::frame::Frame;
use crate::isa::{BLOCK, PANEL, TILE};
use crate::kernels::dense::Product;
use crate::program::Program;

/// Floats of a panel of weights, of what the product packs, and of its results.
fn parts(tokens: usize, k: usize) -> [usize; 3] {
    [k.saturating_mul(PANEL), Product::packed_len(tokens, k, PANEL), tokens.saturating_mul(PANEL)]
}

/// Bytes to work in.
pub(crate) fn scratch_len(inst: &DequantLinear, program: &Program, binding: &Binding) -> usize {
    let (x, w) = (shape_of(inst.x, program, binding), shape_of(inst.w, program, binding));
    let tokens = x.split_last().map_or(0, |(_, outer)| outer.iter().product());
    let floats = parts(tokens, w.last().copied().unwrap_or(0)).into_iter().fold(0, usize::saturating_add);
    floats.saturating_mul(size_of::<f32>())
}

pub(crate) fn dequant_linear(frame: &mut Frame<'_, '_>, inst: &DequantLinear) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [f32], scratch| {
        let x = frame.array::<f32>(inst.x)?.data;
        let [n, k] = frame.shape(inst.w)[..] else { return Err(RunError::ProgramChanged) };
        let (layout, w) = weights(frame, inst.w)?;
        let bias = frame.optional::<f32>(inst.bias)?;
        let scale = frame.array::<f32>(inst.scale)?;
        let columns = scale.shape.last_or_one();
        let scales = Scales { values: scale.data, columns, rows: scale.data.len() / columns.max(1), group: inst.group };
        let tokens = y.len() / n;
        let [panel_len, packed_len, results_len] = parts(tokens, k);
        let floats: &mut [f32] = arena::elements_mut(scratch.bytes_mut()).ok_or(RunError::ProgramChanged)?;
        let (panel, rest) = floats.split_at_mut(panel_len);
        let (packed, rest) = rest.split_at_mut(packed_len);
        let results = &mut rest[..results_len];
        let bytes = PANEL / TILE * BLOCK * k.div_ceil(layout.columns());
        for first in (0..n).step_by(PANEL) {
            let rows = PANEL.min(n - first);
            let w = w.get(first / PANEL * bytes..).unwrap_or_default();
            let panel = &mut panel[..rows * k];
            unpack(layout, &w[..bytes.min(w.len())], first, k, &scales, panel);
            let results = &mut results[..tokens * rows];
            let bias = bias.map(|bias| &bias[first..][..rows]);
            let product = Product { a: x, b: panel, k, n: rows, transposed: true, bias, activation: inst.activation };
            frame.kernels.matmul(product, packed, results);
            for (y, results) in y.chunks_exact_mut(n).zip(results.chunks_exact(rows)) {
                y[first..][..rows].copy_from_slice(results);
            }
        }
        Ok(())
    })
}

/// The scales of weights: one or more rows of one or more columns.
struct Scales<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Inputs that share a column.
    group: u32,
}

impl Scales<'_> {
    fn of_row(&self, row: usize) -> &[f32] {
        let row = if self.rows == 1 { 0 } else { row };
        &self.values[row * self.columns..][..self.columns]
    }
}

/// The weights of a panel whose first row is `first`, times their scales.
fn unpack(layout: Layout, w: &[u8], first: usize, k: usize, scales: &Scales<'_>, floats: &mut [f32]) {
    let (bits, low, step) = match layout {
        Layout::Bit1 => (1u32, -1i16, 2),
        Layout::Int8 => (8, -128, 1),
        _ => (2, -1, 1),
    };
    let mask = u8::MAX >> (8 - bits);
    let rows = floats.len().checked_div(k).unwrap_or(0);
    let n_tiles = rows.div_ceil(TILE).max(1);
    for (group, blocks) in w.as_chunks::<BLOCK>().0.chunks(n_tiles).enumerate() {
        let bytes = blocks.as_flattened().as_chunks::<4>().0;
        for (row, bytes) in bytes.iter().enumerate().take(rows) {
            let scales_of_row = scales.of_row(first + row);
            let columns = group * layout.columns()..k.min((group + 1) * layout.columns());
            for (i, float) in floats[row * k..][columns.clone()].iter_mut().enumerate() {
                let code = (bytes[i % 4] >> (bits * (i / 4) as u32)) & mask;
                let scale = match scales_of_row {
                    [one] => *one,
                    more => more[(columns.start + i) / scales.group as usize],
                };
                *float = f32::from(low + step * i16::from(code)) * scale;
            }
        }
    }
}
