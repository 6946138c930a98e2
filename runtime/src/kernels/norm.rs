//! Softmax and normalisations of one row. Sums are in double precision.

use super::{math, reduce};

/// Softmax, or its logarithm, of a row in place.
pub(crate) fn softmax(row: &mut [f32], log: bool) {
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
pub(crate) fn layer_norm(y: &mut [f32], x: &[f32], gamma: Option<&[f32]>, beta: Option<&[f32]>, eps: f32) {
    let mean = reduce::sum(x, |v| v) / x.len() as f64;
    let variance = reduce::sum(x, |v| (v - mean) * (v - mean)) / x.len() as f64;
    let factor = 1.0 / (variance + f64::from(eps)).sqrt();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = ((f64::from(x) - mean) * factor) as f32;
    }
    affine(y, gamma, beta);
}

/// `y = x / sqrt(mean(x * x) + eps) * gamma`
pub(crate) fn rms_norm(y: &mut [f32], x: &[f32], gamma: Option<&[f32]>, eps: f32) {
    let mean_square = reduce::sum(x, |v| v * v) / x.len() as f64;
    let factor = 1.0 / (mean_square + f64::from(eps)).sqrt();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (f64::from(x) * factor) as f32;
    }
    affine(y, gamma, None);
}

fn affine(y: &mut [f32], gamma: Option<&[f32]>, beta: Option<&[f32]>) {
    if let Some(gamma) = gamma {
        y.iter_mut().zip(gamma).for_each(|(y, &g)| *y *= g);
    }
    if let Some(beta) = beta {
        y.iter_mut().zip(beta).for_each(|(y, &b)| *y += b);
    }
}
