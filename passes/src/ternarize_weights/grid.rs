//! Weights that are integers of 8 bits times a scale, found by their values.

use std::collections::BTreeSet;

use bitc_ir::{DType, Tensor};

use super::{Split, group_sizes};

/// The largest magnitude of an integer.
const LARGEST: u8 = 127;

/// The fewest weights that show a step; fewer could be anything.
const FEWEST: usize = 8;

/// The fewest different integers; weights of fewer are ternary, or of a single value.
const DIFFERENT: usize = 4;

/// Splits a weight into integers of 8 bits and a scale: one in all, else one per row, else one per group of a row.
///
/// The largest magnitude has to be the scale times an integer, so every integer is tried for it, the smallest first.
pub(super) fn split_grid(w: &Tensor, tolerance: f64) -> Option<Split> {
    let values = w.to_vec::<f32>()?;
    let rows = *w.dims().first()?;
    if values.len() < FEWEST || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let columns = values.len() / rows;
    // Integers of runs of so many neighbours in a row, and the step of each run.
    let split = |row: usize, run: usize, dims: &[usize], group: usize| -> Option<Split> {
        let runs = || values.chunks(row).flat_map(|row| row.chunks(run));
        let scales: Vec<f32> = runs().map(|part| step(part, tolerance)).collect::<Option<_>>()?;
        let integers: Vec<i8> =
            runs().zip(&scales).flat_map(|(part, &scale)| part.iter().map(move |&v| integer(v, scale))).collect();
        if integers.iter().collect::<BTreeSet<_>>().len() < DIFFERENT {
            return None;
        }
        let integers = Tensor::with_dtype(DType::I8, w.dims(), &integers);
        Some(Split { integers, scale: Tensor::new(dims, &scales), group })
    };
    let mut dims = vec![1; w.rank()];
    dims[0] = rows;
    split(values.len(), values.len(), &[], 0).or_else(|| {
        if columns < FEWEST {
            return None;
        }
        let by_row = split(columns, columns, &dims, 0);
        if by_row.is_some() || w.rank() != 2 {
            return by_row;
        }
        group_sizes(columns).find_map(|group| split(columns, group, &[rows, columns.div_ceil(group)], group))
    })
}

/// The integer that stands for a value.
fn integer(value: f32, step: f32) -> i8 {
    if step == 0.0 { 0 } else { (f64::from(value) / f64::from(step)).round() as i8 }
}

/// The largest step that all values are multiples of, within the tolerance of each; 0 where there are only zeros.
fn step(values: &[f32], tolerance: f64) -> Option<f32> {
    let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return Some(0.0);
    }
    let fits = |step: f64| {
        values.iter().all(|&v| {
            let v = f64::from(v.abs());
            (v - (v / step).round() * step).abs() <= tolerance * v
        })
    };
    (1..=LARGEST).map(|n| f64::from(largest) / f64::from(n)).find(|&step| fits(step)).map(|step| refined(values, step))
}

/// The mean step: the largest value alone carries its own rounding.
fn refined(values: &[f32], step: f64) -> f32 {
    let (mut sum, mut count) = (0.0, 0.0);
    for &v in values {
        let n = (f64::from(v) / step).round();
        sum += f64::from(v) * n;
        count += n * n;
    }
    (sum / count) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_largest_that_fits() {
        let of = |integers: &[i8], s: f32| integers.iter().map(|&n| f32::from(n) * s).collect::<Vec<_>>();
        assert_eq!(step(&of(&[3, -127, 50, 0], 0.1), 1e-6), Some(0.1));
        assert_eq!(step(&of(&[4, -6, 8, 0], 0.25), 1e-6), Some(0.5));
        assert_eq!(step(&[0.0, 0.0], 1e-6), Some(0.0));
        assert_eq!(step(&[0.1, 0.237, 0.71], 1e-6), None);
    }
}
