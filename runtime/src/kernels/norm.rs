//! Softmax and normalisations of one row. Sums are in double precision.

use super::{math, reduce};

/// How rows are normalised.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Elements of a row, at least 1.
    pub n: usize,
    /// Whether the mean is taken away first.
    pub centered: bool,
    /// Added to the variance or the mean of squares.
    pub eps: f32,
    /// The factors, one per element of a row.
    pub gamma: Option<&'a [f32]>,
    /// The summands, one per element of a row.
    pub beta: Option<&'a [f32]>,
}

/// Normalises every row of `x` into the same row of `y`.
#[inline(always)]
pub(super) fn rows(x: &[f32], norm: Norm<'_>, y: &mut [f32]) {
    for (y, x) in y.chunks_exact_mut(norm.n).zip(x.chunks_exact(norm.n)) {
        if norm.centered {
            layer_norm(y, x, norm.gamma, norm.beta, norm.eps);
        } else {
            rms_norm(y, x, norm.gamma, norm.eps);
        }
    }
}

/// Softmax, or its logarithm, of every row of `n` elements in place.
#[inline(always)]
pub(super) fn softmax_rows(y: &mut [f32], n: usize, log: bool) {
    y.chunks_exact_mut(n).for_each(|row| softmax(row, log));
}

/// Softmax, or its logarithm, of a row in place.
#[inline(always)]
fn softmax(row: &mut [f32], log: bool) {
    let peak = reduce::max(row);
    if log {
        row.iter_mut().for_each(|v| *v -= peak);
        let total = row.iter().fold(0.0, |sum, &v| sum + f64::from(math::exp(v)));
        let shift = total.ln() as f32;
        row.iter_mut().for_each(|v| *v -= shift);
    } else {
        row.iter_mut().for_each(|v| *v = math::exp(*v - peak));
        let total = reduce::sum(row, |v| v);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / total) as f32);
    }
}

/// Softmax, or its logarithm, of every column of a block in place; a row has `inner` elements.
pub(crate) fn softmax_columns(block: &mut [f32], inner: usize, log: bool) {
    for column in 0..inner {
        let peak = block[column..].iter().step_by(inner).fold(f32::NEG_INFINITY, |m, &v| math::max(m, v));
        let mut total = 0.0;
        for v in block[column..].iter_mut().step_by(inner) {
            let e = math::exp(*v - peak);
            total += f64::from(e);
            *v = if log { *v - peak } else { e };
        }
        let shift = total.ln() as f32;
        for v in block[column..].iter_mut().step_by(inner) {
            *v = if log { *v - shift } else { (f64::from(*v) / total) as f32 };
        }
    }
}

/// `y = (x - mean) / sqrt(variance + eps) * gamma + beta`
#[inline(always)]
fn layer_norm(y: &mut [f32], x: &[f32], gamma: Option<&[f32]>, beta: Option<&[f32]>, eps: f32) {
    let mean = reduce::sum(x, |v| v) / x.len() as f64;
    let variance = reduce::sum(x, |v| (v - mean) * (v - mean)) / x.len() as f64;
    let factor = 1.0 / (variance + f64::from(eps)).sqrt();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = ((f64::from(x) - mean) * factor) as f32;
    }
    affine(y, gamma, beta);
}

/// `y = x / sqrt(mean(x * x) + eps) * gamma`
#[inline(always)]
fn rms_norm(y: &mut [f32], x: &[f32], gamma: Option<&[f32]>, eps: f32) {
    let mean_square = reduce::sum(x, |v| v * v) / x.len() as f64;
    let factor = 1.0 / (mean_square + f64::from(eps)).sqrt();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (f64::from(x) * factor) as f32;
    }
    affine(y, gamma, None);
}

#[inline(always)]
fn affine(y: &mut [f32], gamma: Option<&[f32]>, beta: Option<&[f32]>) {
    if let Some(gamma) = gamma {
        y.iter_mut().zip(gamma).for_each(|(y, &g)| *y *= g);
    }
    if let Some(beta) = beta {
        y.iter_mut().zip(beta).for_each(|(y, &b)| *y += b);
    }
}
