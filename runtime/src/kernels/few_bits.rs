//! Float products with weights of few bits: they become floats where a product of floats would copy its columns.

use core::ops::Range;

use bitc_format::Layout;
use bitc_format::inst::Activation;

use super::blocked::{self, Columns, Rows};
use crate::isa::{BLOCK, FLOAT_COLUMNS, Isa, PANEL, TILE};

/// `activation(x @ weights^T + bias)` with weights `f32(w) * scale`, packed in any layout but `trit5`.
#[derive(Clone, Copy, Debug)]
pub struct FewBits<'a> {
    /// Rows of `k` values.
    pub x: &'a [f32],
    /// How they are packed.
    pub layout: Layout,
    /// `n` rows of `k`.
    pub w: &'a [u8],
    /// The number of outputs.
    pub n: usize,
    /// The number of inputs.
    pub k: usize,
    /// The scales: one row for all outputs or one for each, of `scale_columns`.
    pub scale: &'a [f32],
    /// One column for all inputs, or one for each `group` of them.
    pub scale_columns: usize,
    /// Inputs that share a column.
    pub group: usize,
    /// One value for each output.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl FewBits<'_> {
    /// Elements of scratch memory that a product with so many rows works in.
    pub(crate) fn packed_len(rows: usize, k: usize, n: usize) -> usize {
        // Few rows meet a panel once: it may as well be in the first caches then.
        if rows < blocked::WORTHWHILE { blocked::packed_len(k, 1) } else { blocked::packed_len(k, n) }
    }

    fn check(&self) {
        let Self { layout, w, n, k, scale, scale_columns, group, .. } = *self;
        assert!(
            layout != Layout::Trit5 && layout.packed_len(n as u64, k as u64) == Some(w.len() as u64),
            "weights of {n} x {k}"
        );
        let rows = scale.len().checked_div(scale_columns).unwrap_or(0);
        assert!((rows == 1 || rows == n) && rows * scale_columns == scale.len(), "a row of scales for all or each");
        assert!(scale_columns == 1 || (group > 0 && scale_columns == k.div_ceil(group)), "a scale for each group");
    }

    /// The scales of inputs with this number of a group, for the outputs from `first` on; 0 behind the last.
    #[inline(always)]
    fn scales<const L: usize>(&self, first: usize, column: usize) -> [f32; L] {
        let by_row = self.scale.len() > self.scale_columns;
        core::array::from_fn(|i| {
            let row = if by_row { first + i } else { 0 };
            if first + i < self.n { self.scale[row * self.scale_columns + column] } else { 0.0 }
        })
    }

    /// Some inputs of `L` outputs inside of one tile, from place `at` of the rows of a panel on.
    #[inline(always)]
    fn unpack<const L: usize, const BITS: u32>(
        &self,
        inputs: Range<usize>,
        first: usize,
        panel: &mut [f32],
        (width, at): (usize, usize),
    ) {
        let columns = 32 / BITS as usize;
        let groups = self.k.div_ceil(columns);
        let n_tiles = PANEL.min(self.n - first / PANEL * PANEL).div_ceil(TILE);
        let blocks = self.w[first / PANEL * (PANEL / TILE) * BLOCK * groups..].as_chunks::<BLOCK>().0;
        let mask = u32::MAX >> (32 - BITS);
        // The low bit of ternary codes is 1 for 0, that of eight bits 128; one bit is doubled.
        let (low, step) = match BITS {
            1 => (-1, 2),
            2 => (-1, 1),
            _ => (-128, 1),
        };
        let (mut scales, mut scale_column) = ([0f32; L], usize::MAX);
        for group in inputs.start / columns..inputs.end.div_ceil(columns) {
            let block = &blocks[group * n_tiles + first % PANEL / TILE];
            let rows = block.as_chunks::<4>().0;
            let words: [u32; L] = core::array::from_fn(|i| u32::from_le_bytes(rows[first % TILE + i]));
            let columns = inputs.start.max(group * columns)..inputs.end.min((group + 1) * columns);
            for input in columns {
                let column = if self.scale_columns == 1 { 0 } else { input / self.group };
                if column != scale_column {
                    (scales, scale_column) = (self.scales(first, column), column);
                }
                let place = (input % (32 / BITS as usize)) as u32;
                let shift = place % 4 * 8 + place / 4 * BITS;
                let row = &mut panel[(input - inputs.start) * width + at..][..L];
                for ((float, word), scale) in row.iter_mut().zip(words).zip(scales) {
                    *float = (low + step * ((word >> shift) & mask) as i32) as f32 * scale;
                }
            }
        }
    }

    #[inline(always)]
    fn columns<const L: usize>(&self, inputs: Range<usize>, first: usize, panel: &mut [f32], width: usize) {
        for at in (0..width).step_by(L) {
            let (inputs, to) = (inputs.clone(), (width, at));
            match self.layout {
                _ if first + at >= self.n => {
                    panel.chunks_exact_mut(width).for_each(|row| row[at..][..L].fill(0.0));
                }
                Layout::Bit1 => self.unpack::<L, 1>(inputs, first + at, panel, to),
                Layout::Int8 => self.unpack::<L, 8>(inputs, first + at, panel, to),
                _ => self.unpack::<L, 2>(inputs, first + at, panel, to),
            }
        }
    }
}

impl Columns for FewBits<'_> {
    #[inline(always)]
    fn pack(&self, k: Range<usize>, first: usize, panel: &mut [f32], width: usize) {
        const { assert!(FLOAT_COLUMNS.is_multiple_of(TILE)) };
        if width.is_multiple_of(TILE) {
            self.columns::<TILE>(k, first, panel, width);
        } else {
            self.columns::<8>(k, first, panel, width);
        }
    }
}

/// Computes the product: rows of `n` results.
#[inline(always)]
pub(super) fn product<I: Isa>(isa: I, few: FewBits<'_>, packed: &mut [f32], y: &mut [f32]) {
    const { assert!(I::COLUMNS.is_multiple_of(8)) };
    few.check();
    let FewBits { x, n, k, bias, activation, .. } = few;
    blocked::product(isa, Rows { a: x, k, n, row_bias: None, column_bias: bias, activation }, &few, packed, y);
}
