//! How far two outputs are apart, by row.

use bitc_ir::{DType, Graph, Tensor};

/// How far outputs may be apart: `|a - b| <= absolute + relative * |a|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative to the value of the model.
    pub relative: f64,
    /// What is allowed of any value.
    pub absolute: Absolute,
}

/// An allowed difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Absolute {
    /// So much.
    Value(f64),
    /// This part of the largest value of the model; none of integers.
    OfLargest(f64),
}

impl Tolerance {
    /// What sums in another order come to in single precision.
    pub const SINGLE: Tolerance = Tolerance { relative: 1e-4, absolute: Absolute::OfLargest(1e-5) };

    /// What they come to in a graph: more, where products are summed in 16-bit floats.
    pub fn of(graph: &Graph) -> Self {
        let unit = |dtype: DType| match dtype {
            DType::BF16 => 2f64.powi(-8),
            DType::F16 => 2f64.powi(-11),
            _ => 0.0,
        };
        let unit = graph.nodes().map(|(_, n)| unit(graph.ty(n.outputs[0]).dtype)).fold(0.0, f64::max);
        let Tolerance { relative, .. } = Self::SINGLE;
        let of_largest = if unit > 0.0 { unit } else { 1e-5 };
        Self { relative: relative.max(unit), absolute: Absolute::OfLargest(of_largest) }
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::SINGLE
    }
}

/// The difference of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputDifference {
    /// Its name.
    pub name: String,
    /// The largest difference.
    pub max_abs: f64,
    /// The largest difference relative to the largest value.
    pub max_relative: f64,
    /// The largest difference in each row.
    pub row_gaps: Vec<f64>,
    /// The rows outside the tolerance: the leading dimension, or row 0.
    pub rows: Vec<usize>,
    /// Of how many.
    pub n_rows: usize,
    /// In how many rows the largest element is at the same place; `None` where there is nothing to choose.
    pub argmax_agree: Option<usize>,
    /// Why the outputs cannot be compared at all.
    pub mismatch: Option<String>,
}

/// How far two outputs are apart. `a` is what it should be.
pub fn difference(name: &str, a: &Tensor, b: &Tensor, tolerance: Tolerance) -> OutputDifference {
    let mut result = OutputDifference {
        name: name.to_owned(),
        max_abs: 0.0,
        max_relative: 0.0,
        row_gaps: Vec::new(),
        rows: Vec::new(),
        n_rows: a.dims().first().copied().unwrap_or(1),
        argmax_agree: None,
        mismatch: None,
    };
    if a.ty() != b.ty() {
        result.mismatch = Some(format!("expected {}, found {}", a.ty(), b.ty()));
        result.rows = (0..result.n_rows.max(1)).collect();
        result.max_abs = f64::INFINITY;
        result.max_relative = f64::INFINITY;
        return result;
    }
    let (x, y) = (a.to_f64(), b.to_f64());
    let largest = x.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let absolute = match tolerance.absolute {
        Absolute::Value(value) => value,
        Absolute::OfLargest(part) if a.dtype().is_float() => part * largest,
        Absolute::OfLargest(_) => 0.0,
    };
    let width = x.len().checked_div(result.n_rows).unwrap_or(0);
    let mut agree = 0;
    for row in 0..if width == 0 { 0 } else { result.n_rows } {
        let (x, y) = (&x[row * width..][..width], &y[row * width..][..width]);
        let (mut outside, mut largest_gap) = (false, 0f64);
        for (&x, &y) in x.iter().zip(y) {
            let gap = gap(x, y);
            largest_gap = largest_gap.max(gap);
            outside |= gap > absolute + tolerance.relative * if x.is_finite() { x.abs() } else { 0.0 };
        }
        result.max_abs = result.max_abs.max(largest_gap);
        result.row_gaps.push(largest_gap);
        if outside {
            result.rows.push(row);
        }
        agree += usize::from(argmax(x) == argmax(y));
    }
    result.argmax_agree = (width > 1).then_some(agree);
    result.max_relative = if largest > 0.0 { result.max_abs / largest } else { result.max_abs };
    result
}

/// The distance of two numbers; none between equal ones and between two NaN.
fn gap(x: f64, y: f64) -> f64 {
    if x == y || (x.is_nan() && y.is_nan()) {
        return 0.0;
    }
    let gap = (x - y).abs();
    if gap.is_nan() { f64::INFINITY } else { gap }
}

/// The class of each row: the position of its largest element, or its only element.
pub fn classes(scores: &Tensor) -> Option<Vec<f64>> {
    let rows = scores.dims().first().copied().filter(|&rows| rows > 0)?;
    let values = scores.to_f64();
    let class = |row: &[f64]| match row {
        [class] => *class,
        row => argmax(row) as f64,
    };
    let width = (values.len() / rows).max(1);
    Some(values.chunks(width).map(class).collect())
}

/// The position of the first largest element.
pub fn argmax(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] || (v.is_nan() && !values[best].is_nan()) {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_row() {
        let a = Tensor::new(&[3, 2], &[1.0f32, 2.0, -4.0, 3.0, 0.0, 0.5]);
        let b = Tensor::new(&[3, 2], &[1.0f32, 2.0, -4.0, 3.25, 0.0, 0.5]);
        let d = difference("y", &a, &b, Tolerance::default());
        assert_eq!((d.rows.as_slice(), d.max_abs, d.argmax_agree), (&[1][..], 0.25, Some(3)));
        let loose = Tolerance { relative: 0.0, absolute: Absolute::Value(0.25) };
        assert!(difference("y", &a, &b, loose).rows.is_empty());
        assert!(difference("y", &a, &a.reshaped(&[6]).unwrap(), loose).mismatch.is_some());
    }

    #[test]
    fn the_tolerance_is_that_of_the_precision_of_a_graph() {
        let graph = |dtype: &str| {
            let text = format!(
                "graph @g(%x: f32[N, 2]) {{ %h = cast(%x) {{to = \"{dtype}\"}} %y = cast(%h) {{to = \"f32\"}} return %y }}"
            );
            bitc_ir::text::parse(&text, &bitc_ir::text::NoReferences).unwrap()
        };
        assert_eq!(Tolerance::of(&graph("i8")), Tolerance::default());
        let half = Tolerance::of(&graph("f16"));
        assert_eq!((half.relative, half.absolute), (2f64.powi(-11), Absolute::OfLargest(2f64.powi(-11))));
        assert_eq!(Tolerance::of(&graph("bf16")).relative, 2f64.powi(-8));
        let (a, b) = (Tensor::new(&[1, 2], &[1f32, 0.0]), Tensor::new(&[1, 2], &[1.0, 4e-4f32]));
        assert!(difference("y", &a, &b, half).rows.is_empty());
        assert_eq!(difference("y", &a, &b, Tolerance::default()).rows, [0]);
    }

    #[test]
    fn special_numbers_and_empty_outputs_are_compared() {
        let t = |v: &[f32]| Tensor::new(&[v.len()], v);
        let tolerance = Tolerance::default();
        let special = t(&[f32::NAN, f32::INFINITY]);
        assert!(difference("y", &special, &special, tolerance).rows.is_empty());
        assert_eq!(difference("y", &special, &t(&[1.0, f32::INFINITY]), tolerance).rows, [0]);
        assert_eq!(difference("y", &t(&[1.0]), &t(&[f32::NEG_INFINITY]), tolerance).max_abs, f64::INFINITY);
        let empty = Tensor::splat(&[0, 3], 0f32);
        let d = difference("y", &empty, &empty, tolerance);
        assert_eq!((d.n_rows, d.rows.len(), d.argmax_agree), (0, 0, None));
    }
}
