//! GPTQ for ternary weights: columns in turn, the error of each pushed into those that follow.
//!
//! With `H = x^T x` of the calibration inputs, damped, and U the upper Cholesky factor of its inverse, rounding column i of
//! a row by e leaves least damage when `w[j] -= e / U[i][i] * U[i][j]` for all j behind it. Columns go by descending
//! `H[i][i]`. The scales of a row are the best of some multiples of its least-squares scales, by the error of its outputs.

use bitc_ir::DType;

use super::Scale;
use super::methods::{Matrix, Plane, dot, optimal, sharing};

/// Multiples of the least-squares scale that are tried.
const SCALES: [f32; 6] = [0.7, 0.8, 0.9, 1.0, 1.15, 1.3];
/// What is added to the diagonal of H, relative to its mean.
const DAMPING: f64 = 0.05;
/// Rows that go through the columns together, so that a row of U is read once for all of them.
const BLOCK: usize = 16;

/// Ternary weights and scales for inputs like the rows of `x`. A single scale for all rows becomes one for each, since each
/// row has its own multiple.
///
/// # Errors
/// A sentence if the inputs do not determine a positive definite H.
pub(super) fn quantize(w: &Matrix, x: &Matrix, scale: Scale) -> Result<Plane, String> {
    let k = w.columns;
    let mut h = gram(x);
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| h[b * k + b].total_cmp(&h[a * k + a]).then(a.cmp(&b)));
    h = permuted(&h, &order);
    let mean = (0..k).map(|i| h[i * k + i]).sum::<f64>() / k as f64;
    let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    (0..k).for_each(|i| h[i * k + i] += damping);
    let factor = inverse_factor(&h, k).ok_or("the calibration inputs do not determine the weights")?;

    let scales: Vec<f32> = sharing(w, scale).map(|weights| optimal(weights).1 as f32).collect();
    let group = if let Scale::Group(size) = scale { size } else { k.max(1) };
    // The scale of a row's columns, in their order.
    let scales_of = |row: usize| -> Vec<f32> {
        let groups = k.div_ceil(group);
        let at = |c: usize| if scale == Scale::Tensor { 0 } else { row * groups + c / group };
        order.iter().map(|&c| scales[at(c)]).collect()
    };
    let rows: Vec<usize> = (0..w.rows).collect();
    let half = rows.len().div_ceil(2).next_multiple_of(BLOCK);
    let work = |rows: &[usize]| {
        rows.chunks(BLOCK).flat_map(|rows| quantize_rows(w, rows, &order, &factor, &scales_of)).collect::<Vec<_>>()
    };
    // Rows are independent of each other: two threads, the same result.
    let (front, back) = rows.split_at(half.min(rows.len()));
    let done = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(back));
        let mut done = work(front);
        done.extend(other.join().unwrap_or_default());
        done
    });
    if done.len() != w.rows {
        return Err("a worker thread failed".to_owned());
    }
    let mut plane = Plane {
        dtype: DType::T2,
        integers: vec![0; w.rows * k],
        scales: Vec::new(),
        group: 0,
        rows: w.rows,
        columns: k,
    };
    if let Scale::Group(size) = scale {
        plane.group = size;
    }
    for (row, (ternary, multiple)) in done.into_iter().enumerate() {
        for (&column, t) in order.iter().zip(ternary) {
            plane.integers[row * k + column] = t;
        }
        match scale {
            Scale::Tensor => plane.scales.push(scales[0] * multiple),
            _ => plane
                .scales
                .extend(scales.chunks(k.div_ceil(group)).nth(row).into_iter().flatten().map(|s| s * multiple)),
        }
    }
    Ok(plane)
}

/// `x^T x`.
fn gram(x: &Matrix) -> Vec<f64> {
    let k = x.columns;
    let mut columns = vec![0f32; x.values.len()];
    for (r, row) in x.values.chunks(k.max(1)).enumerate() {
        row.iter().enumerate().for_each(|(c, &v)| columns[c * x.rows + r] = v);
    }
    let column = |c: usize| &columns[c * x.rows..][..x.rows];
    let mut h = vec![0f64; k * k];
    for i in 0..k {
        for j in 0..=i {
            let sum = f64::from(dot(column(i), column(j)));
            (h[i * k + j], h[j * k + i]) = (sum, sum);
        }
    }
    h
}

fn permuted(h: &[f64], order: &[usize]) -> Vec<f64> {
    let k = order.len();
    order.iter().flat_map(|&i| order.iter().map(move |&j| h[i * k + j])).collect()
}

/// The lower Cholesky factor of a symmetric matrix, rows first; `None` if it is not positive definite.
fn cholesky(h: &[f64], k: usize) -> Option<Vec<f64>> {
    let mut l = vec![0f64; k * k];
    for i in 0..k {
        let (done, rest) = l.split_at_mut(i * k);
        let row = &mut rest[..k];
        for j in 0..i {
            let other = &done[j * k..][..k];
            let sum = dot64(&row[..j], &other[..j]);
            row[j] = (h[i * k + j] - sum) / other[j];
        }
        let pivot = h[i * k + i] - dot64(&row[..i], &row[..i]);
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        row[i] = pivot.sqrt();
    }
    Some(l)
}

fn dot64(a: &[f64], b: &[f64]) -> f64 {
    let (a4, a_rest) = a.as_chunks::<4>();
    let (b4, b_rest) = b.as_chunks::<4>();
    let mut lanes = [0f64; 4];
    for (a, b) in a4.iter().zip(b4) {
        for i in 0..4 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// The upper factor U of `h^-1 = U^T U`; `None` if h is not positive definite.
///
/// Factoring the matrix with rows and columns reversed and reversing the factor gives an upper triangular R with
/// `h = R R^T`. Then `h^-1 = R^-T R^-1`, so U is the inverse of R.
fn inverse_factor(h: &[f64], k: usize) -> Option<Vec<f32>> {
    let reversed: Vec<f64> = h.iter().rev().copied().collect();
    let l = cholesky(&reversed, k)?;
    let r: Vec<f64> = l.iter().rev().copied().collect();
    let mut u = vec![0f64; k * k];
    for i in (0..k).rev() {
        let (front, done) = u.split_at_mut((i + 1) * k);
        let row = &mut front[i * k..];
        row[i] = 1.0;
        for j in i + 1..k {
            let factor = -r[i * k + j];
            let below = &done[(j - i - 1) * k..][..k];
            row[j..].iter_mut().zip(&below[j..]).for_each(|(v, b)| *v += factor * b);
        }
        row[i..].iter_mut().for_each(|v| *v /= r[i * k + i]);
    }
    Some(u.into_iter().map(|v| v as f32).collect())
}

/// The best ternary form of some rows, columns in `order`, and the multiple of their scales.
///
/// With e the errors by which the columns were rounded, each over `U[i][i]`, what a row loses is `d = U^T e`. So the damage
/// to its outputs, `d^T H d`, is the sum of their squares.
fn quantize_rows(
    w: &Matrix,
    rows: &[usize],
    order: &[usize],
    factor: &[f32],
    scales_of: &dyn Fn(usize) -> Vec<f32>,
) -> Vec<(Vec<i8>, f32)> {
    let k = order.len();
    let weights: Vec<Vec<f32>> = rows.iter().map(|&r| order.iter().map(|&c| w.row(r)[c]).collect()).collect();
    let scales: Vec<Vec<f32>> = rows.iter().map(|&r| scales_of(r)).collect();
    let mut best: Vec<(f64, Vec<i8>, f32)> = vec![(f64::INFINITY, vec![0; k], 0.0); rows.len()];
    for multiple in SCALES {
        let mut left = weights.clone();
        let mut ternary = vec![vec![0i8; k]; rows.len()];
        let mut damage = vec![0f64; rows.len()];
        for i in 0..k {
            let u = &factor[i * k..][..k];
            for (((row, t), damage), scale) in left.iter_mut().zip(&mut ternary).zip(&mut damage).zip(&scales) {
                let scale = scale[i] * multiple;
                let q = if row[i].abs() > scale / 2.0 { row[i].signum() } else { 0.0 };
                t[i] = q as i8;
                let error = (row[i] - q * scale) / u[i];
                *damage += f64::from(error) * f64::from(error);
                row[i + 1..].iter_mut().zip(&u[i + 1..]).for_each(|(v, u)| *v -= error * u);
            }
        }
        for ((best, t), damage) in best.iter_mut().zip(ternary).zip(damage) {
            if damage < best.0 {
                *best = (damage, t, multiple);
            }
        }
    }
    best.into_iter().map(|(_, t, scale)| (t, scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitc_ir::random::Random;

    fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut rng = Random::new(seed);
        Matrix { rows, columns, values: (0..rows * columns).map(|_| rng.signed_unit()).collect() }
    }

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let x = random(20, 6, 1);
        let h = gram(&x);
        let u = inverse_factor(&h, 6).unwrap();
        for i in 0..6 {
            for j in 0..6 {
                // (U^T U h)[i][j] is the identity.
                let inverse =
                    |a: usize, b: usize| (0..6).map(|r| f64::from(u[r * 6 + a]) * f64::from(u[r * 6 + b])).sum::<f64>();
                let product: f64 = (0..6).map(|m| inverse(i, m) * h[m * 6 + j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-4, "{i} {j} {product}");
            }
            assert!(u[i * 6..][..i].iter().all(|&v| v == 0.0));
        }
        assert!(inverse_factor(&[0.0; 4], 2).is_none());
    }

    #[test]
    fn outputs_come_closer_than_by_rounding_alone() {
        // Correlated inputs: what rounding one column loses another can make good.
        let base = random(64, 8, 2);
        let mix = random(24, 8, 3);
        let x = base.times_transposed(&mix);
        let w = random(10, 24, 4);
        let wanted = x.times_transposed(&w);
        let error = |plane: &Plane| {
            let approximate = super::super::methods::sum_of(std::slice::from_ref(plane), 10, 24);
            x.times_transposed(&approximate).relative_error(&wanted)
        };
        let plain = super::super::methods::residual_planes(&w, super::super::Method::Optimal, Scale::Row, 1).remove(0);
        for scale in [Scale::Row, Scale::Group(8), Scale::Group(9)] {
            let tuned = quantize(&w, &x, scale).unwrap();
            assert!(error(&tuned) < 0.7 * error(&plain), "{scale:?} {} {}", error(&tuned), error(&plain));
        }
    }
}
