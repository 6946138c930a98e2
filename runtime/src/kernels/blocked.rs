//! Float products with many rows: panels of columns are packed so that all rows meet them in the cache.
//!
//! Every sum begins with 0 and takes its terms in the order of `k`, whatever the tiles, so all instruction sets and all
//! ways to come by the columns give the same bits.

use core::ops::Range;

use bitc_format::inst::Activation;

use super::post;
use crate::isa::{FLOAT_COLUMNS, FLOAT_ROWS, FloatTile, Isa};

/// The inner dimension is taken in blocks of this many, which keeps a panel close to the first cache.
const INNER: usize = 512;
/// Elements of the panels that are packed at a time: half of a usual second cache.
const PACKED: usize = 1 << 17;
/// Rows from which on packing pays off.
pub(crate) const WORTHWHILE: usize = 4;

/// Where the columns of the right factor come from.
pub(crate) trait Columns {
    /// Writes elements `k` of the columns from `first` on: a row of `panel` has `width` of them, and zeros behind the
    /// last column.
    fn pack(&self, k: Range<usize>, first: usize, panel: &mut [f32], width: usize);
}

/// The left factor, the sizes, and what happens to the sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Rows of `k`.
    pub(crate) a: &'a [f32],
    pub(crate) k: usize,
    /// The columns of the result, at least 1.
    pub(crate) n: usize,
    /// Added to each row: one value for each.
    pub(crate) row_bias: Option<&'a [f32]>,
    /// Added to each column: one value for all or one for each.
    pub(crate) column_bias: Option<&'a [f32]>,
    /// Applied last.
    pub(crate) activation: Activation,
}

/// Elements of scratch memory that a product of these sizes is packed in.
pub(crate) fn packed_len(k: usize, n: usize) -> usize {
    let inner = k.clamp(1, INNER);
    let all = inner.saturating_mul(n.saturating_add(FLOAT_COLUMNS));
    all.min(PACKED).max(inner * FLOAT_COLUMNS)
}

/// `y = activation(rows @ columns + bias)`
#[inline(always)]
pub(super) fn product<I: Isa>(isa: I, rows: Rows<'_>, columns: &impl Columns, packed: &mut [f32], y: &mut [f32]) {
    let Rows { k, n, .. } = rows;
    let m = y.len() / n;
    assert!(y.len() == m * n && rows.a.len() == m * k, "a product of these sizes");
    let inner = k.clamp(1, INNER);
    // Whatever memory there is, no more than the caches hold.
    let panels = packed.len().min(PACKED.max(inner * I::COLUMNS)) / (inner * I::COLUMNS);
    assert!(panels > 0, "memory for one panel");
    for first in (0..n).step_by(panels * I::COLUMNS) {
        let group = first..n.min(first + panels * I::COLUMNS);
        // Without terms the sums are 0, and still have a bias.
        let mut done = 0;
        while done < k.max(1) {
            let block = done..k.min(done + INNER);
            let panel_len = block.len() * I::COLUMNS;
            let starts = group.clone().step_by(I::COLUMNS);
            if panel_len > 0 {
                for (panel, column) in packed.chunks_exact_mut(panel_len).zip(starts) {
                    columns.pack(block.clone(), column, panel, I::COLUMNS);
                }
            }
            multiply(isa, &rows, block, group.clone(), packed, y);
            done += INNER;
        }
    }
}

/// Adds the terms of a block of the inner dimension to the sums of a group of columns.
#[inline(always)]
fn multiply<I: Isa>(isa: I, rows: &Rows<'_>, block: Range<usize>, group: Range<usize>, packed: &[f32], y: &mut [f32]) {
    let Rows { a, k, n, .. } = *rows;
    let panel_len = block.len() * I::COLUMNS;
    let m = y.len() / n;
    for row in (0..m).step_by(I::ROWS) {
        let n_rows = I::ROWS.min(m - row);
        for (i, column) in group.clone().step_by(I::COLUMNS).enumerate() {
            let n_columns = I::COLUMNS.min(group.end - column);
            let mut sums = [[0.0; FLOAT_COLUMNS]; FLOAT_ROWS];
            if block.start > 0 {
                for (r, sums) in sums.iter_mut().enumerate().take(n_rows) {
                    sums[..n_columns].copy_from_slice(&y[(row + r) * n + column..][..n_columns]);
                }
            }
            let b = &packed[i * panel_len..][..panel_len];
            let a = &a[row * k + block.start..];
            isa.float_tile(FloatTile { a, pitch: k, k: block.len(), b, rows: n_rows }, &mut sums);
            for (r, sums) in sums.iter_mut().enumerate().take(n_rows) {
                if block.end == k {
                    finish(rows, row + r, column, &mut sums[..n_columns]);
                }
                y[(row + r) * n + column..][..n_columns].copy_from_slice(&sums[..n_columns]);
            }
        }
    }
}

/// Bias and activation of some sums of one row.
#[inline(always)]
fn finish(rows: &Rows<'_>, row: usize, column: usize, sums: &mut [f32]) {
    if let Some(bias) = rows.row_bias {
        let bias = bias[row];
        sums.iter_mut().for_each(|sum| *sum += bias);
    }
    match rows.column_bias {
        Some([bias]) => sums.iter_mut().for_each(|sum| *sum += bias),
        Some(bias) => sums.iter_mut().zip(&bias[column..]).for_each(|(sum, &bias)| *sum += bias),
        None => {}
    }
    post::activate(rows.activation, sums);
}

/// The columns of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// Rows of `n`, or `n` rows of `k` where it is transposed.
    pub(crate) b: &'a [f32],
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) transposed: bool,
}

impl Columns for Matrix<'_> {
    #[inline(always)]
    fn pack(&self, k: Range<usize>, first: usize, panel: &mut [f32], width: usize) {
        let n = width.min(self.n - first);
        if !self.transposed {
            for (row, k) in panel.chunks_exact_mut(width).zip(k) {
                row[..n].copy_from_slice(&self.b[k * self.n + first..][..n]);
                row[n..].fill(0.0);
            }
            return;
        }
        if n < width {
            panel.fill(0.0);
        }
        for column in 0..n {
            let b = &self.b[(first + column) * self.k..][k.clone()];
            for (row, &b) in panel.chunks_exact_mut(width).zip(b) {
                row[column] = b;
            }
        }
    }
}
