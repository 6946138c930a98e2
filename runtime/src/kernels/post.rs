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

/// Some neighbouring columns, from `column` on, of one row.
#[inline(always)]
pub(super) fn part(acc: &[i32], row: usize, column: usize, post: &Post<'_>, y: &mut [f32]) {
    match post.activation {
        // Twice the code.
        Activation::Relu if !cfg!(feature = "minimal") => scaled(acc, row, column, post, y, math::relu),
        other => {
            scaled(acc, row, column, post, y, |y| y);
            if cfg!(feature = "minimal") { activate_plainly(other, y) } else { activate(other, y) }
        }
    }
}

/// [`part`] with an activation of few instructions, which the pass that scales does as well.
#[inline(always)]
fn scaled(acc: &[i32], row: usize, column: usize, post: &Post<'_>, y: &mut [f32], activation: impl Fn(f32) -> f32) {
    let row_scale = if let [one] = post.row_scale { *one } else { post.row_scale[row] };
    let scale = if let [one] = post.scale { Scale::One(*one) } else { Scale::Each(&post.scale[column..][..y.len()]) };
    let bias = post.bias.map(|bias| &bias[column..][..y.len()]);
    let acc = &acc[..y.len()];
    let scaled = |acc: i32, scale: f32| (acc as f32 * row_scale) * scale;
    match (scale, bias) {
        (Scale::One(scale), None) => {
            y.iter_mut().zip(acc).for_each(|(y, &acc)| *y = activation(scaled(acc, scale)));
        }
        (Scale::One(scale), Some(bias)) => {
            let operands = y.iter_mut().zip(acc).zip(bias);
            operands.for_each(|((y, &acc), &bias)| *y = activation(scaled(acc, scale) + bias));
        }
        (Scale::Each(scale), None) => {
            let operands = y.iter_mut().zip(acc).zip(scale);
            operands.for_each(|((y, &acc), &scale)| *y = activation(scaled(acc, scale)));
        }
        (Scale::Each(scale), Some(bias)) => {
            let operands = y.iter_mut().zip(acc).zip(scale.iter().zip(bias));
            operands.for_each(|((y, &acc), (&scale, &bias))| *y = activation(scaled(acc, scale) + bias));
        }
    }
}

/// The scales of neighbouring columns.
enum Scale<'a> {
    One(f32),
    Each(&'a [f32]),
}

/// [`activate`], compiled once, for what every CPU has.
#[inline(never)]
pub(crate) fn activate_plainly(activation: Activation, y: &mut [f32]) {
    activate(activation, y);
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
