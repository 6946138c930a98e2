//! Ternary approximations of weights from the weights alone, and the small matrix they work on.

use bitc_ir::choice;
use bitc_ir::ops::quantize_act::QuantizeAct;
use bitc_ir::{DType, Tensor};

use super::Scale;

choice! {
    /// How -1, 0, 1 and a scale are chosen.
    pub enum Method {
        /// The exact least-squares choice: keep the k largest magnitudes, k maximising (their sum)^2 / k.
        Optimal = "optimal",
        /// The scale is the mean magnitude, as BitNet trains it; what is nearer to zero than half of it is zero.
        Absmean = "absmean",
        /// What is below 0.7 of the mean magnitude is zero; the scale is the mean of the rest.
        Twn = "twn",
        /// From calibration inputs: each column in turn, errors pushed into those that follow.
        Gptq = "gptq",
    }
}

/// A matrix of `f32`, row-major.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

impl Matrix {
    /// A tensor of rank 2, or the rows of one of higher rank.
    pub(super) fn of(tensor: &Tensor) -> Option<Matrix> {
        let (&columns, outer) = tensor.dims().split_last()?;
        let values = tensor.to_vec::<f32>()?;
        values.iter().all(|v| v.is_finite()).then(|| Matrix { rows: outer.iter().product(), columns, values })
    }

    /// The elements of a tensor as that many rows; `None` if they do not fit or are not finite.
    pub(super) fn of_rows(tensor: &Tensor, rows: usize) -> Option<Matrix> {
        let values = tensor.to_vec::<f32>()?;
        let columns = values.len().checked_div(rows).unwrap_or(0);
        let fits = rows * columns == values.len() && values.iter().all(|v| v.is_finite());
        fits.then_some(Matrix { rows, columns, values })
    }

    /// Equal parts of the rows, one below the other.
    pub(super) fn parts(&self, count: usize) -> impl Iterator<Item = Matrix> {
        let rows = self.rows.checked_div(count).unwrap_or(0);
        let part = move |i: usize| self.values[i * rows * self.columns..][..rows * self.columns].to_vec();
        (0..count).map(move |i| Matrix { rows, columns: self.columns, values: part(i) })
    }

    /// What a layer of these weights answers to rows; with several matrices of them each goes with its part of the weights.
    pub(super) fn products_of(&self, rows: &[Matrix]) -> Matrix {
        let products: Vec<Matrix> =
            rows.iter().zip(self.parts(rows.len())).map(|(x, w)| x.times_transposed(&w)).collect();
        let count = rows.first().map_or(0, |x| x.rows);
        let values = (0..count).flat_map(|r| products.iter().flat_map(move |p| p.row(r).iter().copied())).collect();
        Matrix { rows: count, columns: self.rows, values }
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// The rows as a quantiser would hand them on.
    pub(super) fn quantized(&self, op: &QuantizeAct) -> Matrix {
        let mut values = Vec::with_capacity(self.values.len());
        for row in self.values.chunks(self.columns.max(1)) {
            let max = row.iter().fold(0f32, |m, v| m.max(v.abs()));
            let scale = op.scale(max);
            values.extend(row.iter().map(|&v| f32::from(op.quantize(v, max)) * scale));
        }
        Matrix { values, ..*self }
    }

    /// `self * other^T`.
    pub(super) fn times_transposed(&self, other: &Matrix) -> Matrix {
        let mut values = Vec::with_capacity(self.rows * other.rows);
        for row in 0..self.rows {
            values.extend((0..other.rows).map(|column| dot(self.row(row), other.row(column))));
        }
        Matrix { rows: self.rows, columns: other.rows, values }
    }

    /// The Frobenius norm of the difference relative to that of `reference`.
    pub(super) fn relative_error(&self, reference: &Matrix) -> f64 {
        let square = |v: f32| f64::from(v) * f64::from(v);
        let error: f64 = self.values.iter().zip(&reference.values).map(|(a, b)| square(a - b)).sum();
        let norm: f64 = reference.values.iter().map(|&v| square(v)).sum();
        if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }
    }
}

/// A dot product in eight lanes, which the compiler turns into vectors.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// One term of an approximation: small integers times their scales.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    pub(super) dtype: DType,
    pub(super) integers: Vec<i8>,
    /// A single one, one per row, or one per group of a row.
    pub(super) scales: Vec<f32>,
    /// How many neighbouring columns share a scale; 0 without groups.
    pub(super) group: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Plane {
    /// Eight bits by the largest magnitude of each row.
    pub(super) fn int8(w: &Matrix) -> Plane {
        let mut plane = Plane {
            dtype: DType::I8,
            integers: Vec::new(),
            scales: Vec::new(),
            group: 0,
            rows: w.rows,
            columns: w.columns,
        };
        for row in 0..w.rows {
            let scale = w.row(row).iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
            let quantized =
                |&v: &f32| if scale > 0.0 { (v / scale).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 };
            plane.integers.extend(w.row(row).iter().map(quantized));
            plane.scales.push(scale);
        }
        plane
    }

    /// Planes of the same kind, one below the other; `None` without any.
    pub(super) fn stacked(planes: impl IntoIterator<Item = Plane>) -> Option<Plane> {
        planes.into_iter().reduce(|mut all, plane| {
            all.rows += plane.rows;
            all.integers.extend(plane.integers);
            all.scales.extend(plane.scales);
            all
        })
    }

    fn scale_of(&self, row: usize, column: usize) -> f32 {
        match self.scales[..] {
            [one] => one,
            _ if self.group > 0 => self.scales[row * self.groups() + column / self.group],
            _ => self.scales[row],
        }
    }

    /// Groups of a row.
    fn groups(&self) -> usize {
        if self.group > 0 { self.columns.div_ceil(self.group) } else { 1 }
    }

    pub(super) fn tensor(&self) -> Tensor {
        Tensor::with_dtype(self.dtype, &[self.rows, self.columns], &self.integers)
    }

    /// The scales, times a gain per row where there is one.
    pub(super) fn scale_tensor(&self, gains: &[f64]) -> Tensor {
        if gains.is_empty() && self.scales.len() == 1 && self.rows != 1 && self.group == 0 {
            return Tensor::scalar(self.scales[0]);
        }
        let gain = |row: usize| gains.get(row).copied().unwrap_or(1.0);
        let places = (0..self.rows).flat_map(|r| (0..self.groups()).map(move |g| (r, g * self.group)));
        let scales: Vec<f32> = places.map(|(r, c)| (f64::from(self.scale_of(r, c)) * gain(r)) as f32).collect();
        Tensor::new(&[self.rows, self.groups()], &scales)
    }
}

/// What planes stand for together.
pub(super) fn sum_of(planes: &[Plane], rows: usize, columns: usize) -> Matrix {
    let mut values = vec![0f32; rows * columns];
    for plane in planes {
        for (i, (v, &t)) in values.iter_mut().zip(&plane.integers).enumerate() {
            *v += f32::from(t) * plane.scale_of(i / columns.max(1), i % columns.max(1));
        }
    }
    Matrix { rows, columns, values }
}

/// Ternary planes, each approximating what those before it left over.
pub(super) fn residual_planes(w: &Matrix, method: Method, scale: Scale, count: usize) -> Vec<Plane> {
    let mut planes = Vec::new();
    let mut rest = w.clone();
    for _ in 0..count {
        let plane = ternary_plane(&rest, method, scale);
        let taken = sum_of(std::slice::from_ref(&plane), w.rows, w.columns);
        rest.values.iter_mut().zip(&taken.values).for_each(|(r, t)| *r -= t);
        planes.push(plane);
    }
    planes
}

fn ternary_plane(w: &Matrix, method: Method, scale: Scale) -> Plane {
    let mut plane = Plane {
        dtype: DType::T2,
        integers: Vec::new(),
        scales: Vec::new(),
        group: 0,
        rows: w.rows,
        columns: w.columns,
    };
    if let Scale::Group(size) = scale {
        plane.group = size;
    }
    for weights in sharing(w, scale) {
        let (threshold, scale) = match method {
            Method::Absmean => {
                let mean = mean_magnitude(weights.iter().copied());
                (mean / 2.0, mean)
            }
            Method::Twn => {
                let threshold = 0.7 * mean_magnitude(weights.iter().copied());
                let kept = weights.iter().copied().filter(|v| f64::from(v.abs()) > threshold);
                (threshold, mean_magnitude(kept))
            }
            Method::Optimal | Method::Gptq => optimal(weights),
        };
        let ternary = |&v: &f32| if f64::from(v.abs()) > threshold { v.signum() as i8 } else { 0 };
        plane.integers.extend(weights.iter().map(ternary));
        plane.scales.push(scale as f32);
    }
    plane
}

/// The weights that share a scale, in the order of scales.
pub(super) fn sharing(w: &Matrix, scale: Scale) -> impl Iterator<Item = &[f32]> {
    let (row, part) = match scale {
        Scale::Tensor => (w.values.len(), w.values.len()),
        Scale::Row => (w.columns, w.columns),
        Scale::Group(size) => (w.columns, size),
    };
    w.values.chunks(row.max(1)).flat_map(move |row| row.chunks(part.max(1)))
}

fn mean_magnitude(weights: impl Iterator<Item = f32>) -> f64 {
    let (count, sum) = weights.fold((0usize, 0.0), |(n, s), v| (n + 1, s + f64::from(v.abs())));
    if count > 0 { sum / count as f64 } else { 0.0 }
}

/// The threshold and scale of the least-squares choice.
///
/// For a given number k of kept weights the best are the k largest and the best scale is their mean; the error is then
/// `|w|^2 - (sum of the k)^2 / k`.
pub(super) fn optimal(weights: &[f32]) -> (f64, f64) {
    let mut sorted: Vec<f32> = weights.iter().map(|v| v.abs()).filter(|&v| v > 0.0).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut best, mut choice) = (0.0, 0.0, (0.0, 0.0));
    for (i, &v) in sorted.iter().enumerate() {
        sum += f64::from(v);
        // Equal magnitudes are kept or dropped together.
        let next = sorted.get(i + 1).copied().unwrap_or(0.0);
        let gain = sum * sum / (i + 1) as f64;
        if gain > best && next < v {
            best = gain;
            choice = (f64::midpoint(f64::from(v), f64::from(next)), sum / (i + 1) as f64);
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitc_ir::random::Random;

    fn error(weights: &[f32], t: &[i8], scale: f64) -> f64 {
        weights.iter().zip(t).map(|(&w, &t)| (f64::from(w) - f64::from(t) * scale).powi(2)).sum()
    }

    #[test]
    fn the_optimal_choice_is_no_worse_than_any_other() {
        let mut rng = Random::new(7);
        for _ in 0..50 {
            let weights: Vec<f32> = (0..7).map(|_| rng.signed_unit()).collect();
            let (threshold, scale) = optimal(&weights);
            let chosen: Vec<i8> =
                weights.iter().map(|&v| if f64::from(v.abs()) > threshold { v.signum() as i8 } else { 0 }).collect();
            let found = error(&weights, &chosen, scale);
            for code in 0..3usize.pow(7) {
                let t: Vec<i8> = (0..7).map(|i| (code / 3usize.pow(i) % 3) as i8 - 1).collect();
                let norm: i32 = t.iter().map(|&t| i32::from(t * t)).sum();
                let product: f64 = weights.iter().zip(&t).map(|(&w, &t)| f64::from(w) * f64::from(t)).sum();
                let best = if norm > 0 { product / f64::from(norm) } else { 0.0 };
                assert!(found <= error(&weights, &t, best) + 1e-6);
            }
        }
    }

    #[test]
    fn a_second_plane_takes_most_of_what_the_first_left() {
        let mut rng = Random::new(3);
        let w = Matrix { rows: 8, columns: 64, values: (0..512).map(|_| rng.signed_unit()).collect() };
        let errors =
            [1, 2].map(|n| sum_of(&residual_planes(&w, Method::Optimal, Scale::Row, n), 8, 64).relative_error(&w));
        assert!(errors[0] < 0.5 && errors[1] < 0.6 * errors[0], "{errors:?}");
    }
}
