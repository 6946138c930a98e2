//! The float product of two matrices.
//!
//! With many rows it goes block by block. With few, where packing would cost more than it saves, sums are kept in small
//! tiles of accumulators, which become vector registers; the terms of one sum are added in the order of `k`, or in 32
//! interleaved parts where `b` is transposed.

use bitc_format::inst::Activation;

use super::blocked::{self, Matrix, Rows};
use super::post;
use crate::isa::Isa;

/// Columns of a tile.
const COLUMNS: usize = 16;
/// Parts of a sum where `b` is transposed.
const LANES: usize = 32;

/// The factors of a product.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// The left factor, rows of `k`.
    pub a: &'a [f32],
    /// The right factor: rows of `n`, or `n` rows of `k` where it is transposed.
    pub b: &'a [f32],
    /// The inner dimension.
    pub k: usize,
    /// The columns of the result, at least 1.
    pub n: usize,
    /// Whether `b` is transposed.
    pub transposed: bool,
    /// Added to every row: one value or `n`.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl Product<'_> {
    /// Elements of scratch memory that the columns are packed in.
    pub(crate) fn packed_len(m: usize, k: usize, n: usize) -> usize {
        if m < blocked::WORTHWHILE { 0 } else { blocked::packed_len(k, n) }
    }
}

/// `y = activation(a @ b + bias)`
#[inline(always)]
pub(super) fn matmul<I: Isa>(isa: I, p: Product<'_>, packed: &mut [f32], y: &mut [f32]) {
    let Product { a, b, k, n, transposed, bias, activation } = p;
    let rows = y.len() / n;
    assert!(y.len() == rows * n && a.len() == rows * k && b.len() == k * n, "a product of these sizes");
    if rows >= blocked::WORTHWHILE {
        let rows = Rows { a, k, n, row_bias: None, column_bias: bias, activation };
        return blocked::product(isa, rows, &Matrix { b, k, n, transposed }, packed, y);
    }
    few_rows(p, rows, y);
    for y in y.chunks_exact_mut(n) {
        match bias {
            Some([bias]) => y.iter_mut().for_each(|y| *y += bias),
            Some(bias) => y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias),
            None => {}
        }
    }
    post::activate(activation, y);
}

/// `y = a @ b`
#[inline(always)]
fn few_rows(p: Product<'_>, rows: usize, y: &mut [f32]) {
    if p.transposed {
        (0..rows).for_each(|row| transposed_row(p, row, y));
        return;
    }
    for column in (0..p.n).step_by(COLUMNS) {
        let mut row = 0;
        while row + 2 <= rows {
            tile::<2>(p, row, column, y);
            row += 2;
        }
        while row < rows {
            tile::<1>(p, row, column, y);
            row += 1;
        }
    }
}

/// The sums of `R` rows with up to 16 columns. Missing columns are zeros whose sums nobody reads.
#[inline(always)]
fn tile<const R: usize>(p: Product<'_>, row: usize, column: usize, y: &mut [f32]) {
    let n = COLUMNS.min(p.n - column);
    let mut sums = [[0f32; COLUMNS]; R];
    let a: [&[f32]; R] = core::array::from_fn(|r| &p.a[(row + r) * p.k..][..p.k]);
    for k in 0..p.k {
        let b = &p.b[k * p.n + column..];
        let b = match b.first_chunk::<COLUMNS>() {
            Some(b) if n == COLUMNS => *b,
            _ => padded(&b[..n]),
        };
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a[k] * b;
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        y[(row + r) * p.n + column..][..n].copy_from_slice(&sums[..n]);
    }
}

/// Up to `N` values and zeros.
#[inline(always)]
fn padded<const N: usize>(values: &[f32]) -> [f32; N] {
    let mut all = [0.0; N];
    all[..values.len()].copy_from_slice(values);
    all
}

/// The sums of a row with all columns of a transposed factor.
#[inline(always)]
fn transposed_row(p: Product<'_>, row: usize, y: &mut [f32]) {
    let a = &p.a[row * p.k..][..p.k];
    for (column, y) in y[row * p.n..][..p.n].iter_mut().enumerate() {
        *y = dot(a, &p.b[column * p.k..][..p.k]);
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let ((a_whole, a_tail), (b_whole, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_whole.iter().zip(b_whole) {
        multiply_add(&mut sums, a, b);
    }
    if !a_tail.is_empty() {
        multiply_add(&mut sums, &padded(a_tail), &padded(b_tail));
    }
    sums.iter().sum()
}

#[inline(always)]
fn multiply_add(sums: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}
