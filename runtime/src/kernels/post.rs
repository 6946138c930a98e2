//! What happens to exact integer sums before they are stored: scales, bias, activation.
//!
//! Everything is plain arithmetic per element, rounded after each step and never fused, so it gives the same bits
//! however many elements a vector has.

use bitc_format::inst::Activation;

use super::math;

/// `activation((f32(sum) * row_scale) * scale + bias)`
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// One scale for all rows (tokens), or one for each.
    pub row_scale: &'a [f32],
    /// One scale for all columns (outputs), or one for each.
    pub scale: &'a [f32],
    /// Nothing, or one value for each column.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl Post<'_> {
    pub(super) fn check(&self, rows: usize, columns: usize) {
        let (one_or_rows, one_or_columns) = ([1, rows], [1, columns]);
        assert!(one_or_rows.contains(&self.row_scale.len()), "one scale per row, found {}", self.row_scale.len());
        assert!(one_or_columns.contains(&self.scale.len()), "one scale per column, found {}", self.scale.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == columns), "one bias per column");
    }
}

/// All rows of a matrix of `n` columns.
#[inline(always)]
pub(super) fn all(acc: &[i32], n: usize, post: &Post<'_>, y: &mut [f32]) {
    let rows = acc.len().checked_div(n).unwrap_or(0);
    assert!(acc.len() == y.len() && rows * n == acc.len(), "as many results as sums");
    if acc.is_empty() {
        return;
    }
    post.check(rows, n);
    for (row, (acc, y)) in acc.chunks_exact(n).zip(y.chunks_exact_mut(n)).enumerate() {
        part(acc, row, 0, post, y);
    }
}

/// Some neighbouring columns, from `column` on, of one row.
#[inline(always)]
pub(super) fn part(acc: &[i32], row: usize, column: usize, post: &Post<'_>, y: &mut [f32]) {
    let row_scale = if let [one] = post.row_scale { *one } else { post.row_scale[row] };
    let bias = post.bias.map(|bias| &bias[column..][..y.len()]);
    if let [scale] = post.scale {
        for (y, &acc) in y.iter_mut().zip(acc) {
            *y = (acc as f32 * row_scale) * scale;
        }
    } else {
        for ((y, &acc), &scale) in y.iter_mut().zip(acc).zip(&post.scale[column..][..acc.len()]) {
            *y = (acc as f32 * row_scale) * scale;
        }
    }
    if let Some(bias) = bias {
        for (y, &bias) in y.iter_mut().zip(bias) {
            *y += bias;
        }
    }
    activate(post.activation, y);
}

/// Applies an activation in place.
#[inline(always)]
pub(crate) fn activate(activation: Activation, y: &mut [f32]) {
    #[inline(always)]
    fn map(y: &mut [f32], f: impl Fn(f32) -> f32) {
        for y in y {
            *y = f(*y);
        }
    }
    match activation {
        Activation::None => {}
        Activation::Relu => map(y, math::relu),
        Activation::Clip { lo, hi } => map(y, |x| math::clip(x, lo, hi)),
        Activation::GeluErf => map(y, math::gelu_erf),
        Activation::GeluTanh => map(y, math::gelu_tanh),
        Activation::Silu => map(y, math::silu),
        Activation::Sigmoid => map(y, math::sigmoid),
        Activation::Tanh => map(y, math::tanh),
        Activation::Relu2 => map(y, |x| math::relu(x) * math::relu(x)),
    }
}
