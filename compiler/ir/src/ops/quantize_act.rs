//! `quantize_act`: activations to 8-bit integers (or fewer) by their largest magnitude.
//!
//! The formulas of the trained families differ in where they floor, whether they divide or multiply by a reciprocal,
//! and over which axes the largest magnitude is taken; each is an attribute, none is the rule.

use std::borrow::Cow;

use ndarray::Dimension as _;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter, Choice as _};
use crate::choice;
use crate::eval::EvalError;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

choice! {
    /// Over which elements the largest magnitude is taken.
    pub enum Over {
        /// The last axis: one scale per row (per token).
        Row = "row",
        /// All axes: one scale for the whole tensor, batch included.
        Tensor = "tensor",
        /// All axes but the first: one scale per sample.
        Sample = "sample",
        /// Axis 1: one scale per position of the other axes.
        Channel = "channel",
    }
}

choice! {
    /// How values become integers. `m` is the largest magnitude, `L` the number of levels.
    pub enum Form {
        /// `s = m / L`, `q = round(x / s)`, dequantised by `s`.
        Divide = "divide",
        /// `r = (1 / m) * L`, `q = round(x * r)`, dequantised by `1 / r`.
        Reciprocal = "reciprocal",
        /// `r = L / m`, `q = round(x * r)`, dequantised by `1 / r`.
        Quotient = "quotient",
        /// `q = round(x)`, dequantised by 1.
        Integer = "integer",
    }
}

choice! {
    /// What keeps a scale away from zero.
    pub enum Floor {
        /// Nothing; a group of zeros quantises to zeros.
        None = "none",
        /// `eps` is added to the divisor, not to the scale of dequantisation.
        AddToDivisor = "add",
        /// The scale is at least `eps`.
        ClipScale = "clip_scale",
        /// The largest magnitude is at least `eps`.
        ClipMax = "clip_max",
    }
}

/// Quantised activations and their scales.
#[derive(Clone, PartialEq, Debug)]
pub struct QuantizeAct {
    /// Over which elements the largest magnitude is taken.
    pub over: Over,
    /// How values become integers.
    pub form: Form,
    /// What keeps the scale away from zero.
    pub floor: Floor,
    /// The number that `floor` uses.
    pub eps: f32,
    /// What the largest magnitude becomes.
    pub levels: u8,
    /// The smallest integer.
    pub low: i8,
    /// The largest integer.
    pub high: i8,
}

/// Values and the largest magnitudes that scale them.
struct Grouped {
    elements: Vec<(f32, f32)>,
    max: Vec<f32>,
    scale_dims: Vec<usize>,
}

impl Default for QuantizeAct {
    /// Per row, `s = m / 127`, no floor, within -128 and 127.
    fn default() -> Self {
        Self { over: Over::Row, form: Form::Divide, floor: Floor::None, eps: 0.0, levels: 127, low: -128, high: 127 }
    }
}

impl QuantizeAct {
    /// The scale of dequantisation for a largest magnitude.
    pub fn scale(&self, max: f32) -> f32 {
        match self.form {
            Form::Integer => 1.0,
            Form::Divide => {
                let scale = self.clipped(max) / f32::from(self.levels);
                if self.floor == Floor::ClipScale { scale.max(self.eps) } else { scale }
            }
            Form::Reciprocal | Form::Quotient => 1.0 / self.factor(max),
        }
    }

    /// One quantised value: rounded half to even, then clipped. A value that is no number becomes 0.
    pub fn quantize(&self, x: f32, max: f32) -> i8 {
        let scaled = self.scaled(x, max);
        if scaled.is_nan() {
            return 0;
        }
        scaled.round_ties_even().clamp(f32::from(self.low), f32::from(self.high)) as i8
    }

    /// A value in steps of its scale, before it is rounded.
    pub fn scaled(&self, x: f32, max: f32) -> f32 {
        match self.form {
            Form::Integer => x,
            Form::Divide => {
                let scale = self.scale(max);
                x / if self.floor == Floor::AddToDivisor { scale + self.eps } else { scale }
            }
            Form::Reciprocal | Form::Quotient => x * self.factor(max),
        }
    }

    /// Each element of `x` with the largest magnitude of the group it is scaled with, and those of all groups.
    fn grouped(&self, x: &Tensor) -> Result<Grouped, EvalError> {
        let x = crate::eval::array::f32s(x)?;
        let scale_dims = self.scale_shape(&Shape::fixed(x.shape())).to_fixed().expect("fixed dimensions stay fixed");
        let group = |index: &ndarray::IxDyn| {
            let mut at = index.clone();
            (0..at.ndim()).filter(|&i| scale_dims[i] == 1).for_each(|i| at[i] = 0);
            at
        };
        let mut max = ndarray::ArrayD::from_elem(ndarray::IxDyn(&scale_dims), 0f32);
        for (index, v) in x.indexed_iter() {
            // `f32::max` skips NaN, so one bad value does not take its group with it.
            let slot = &mut max[group(&index)];
            *slot = slot.max(v.abs());
        }
        let elements = x.indexed_iter().map(|(i, &v)| (v, max[group(&i)])).collect();
        Ok(Grouped { elements, max: max.into_iter().collect(), scale_dims })
    }

    /// Every element of `x` in steps of its scale, before it is rounded.
    ///
    /// # Errors
    /// If `x` is not of `f32`.
    pub fn steps(&self, x: &Tensor) -> Result<Vec<f32>, EvalError> {
        Ok(self.grouped(x)?.elements.into_iter().map(|(v, max)| self.scaled(v, max)).collect())
    }

    fn clipped(&self, max: f32) -> f32 {
        if self.floor == Floor::ClipMax { max.max(self.eps) } else { max }
    }

    fn factor(&self, max: f32) -> f32 {
        match self.form {
            Form::Quotient => f32::from(self.levels) / self.clipped(max),
            _ => (1.0 / self.clipped(max)) * f32::from(self.levels),
        }
    }

    /// The dimensions of the scale: those of `x` with the axes that share a scale set to 1.
    fn scale_shape(&self, x: &Shape) -> Shape {
        let shares = |axis| match self.over {
            _ if self.form == Form::Integer => true,
            Over::Row => axis + 1 == x.rank(),
            Over::Tensor => true,
            Over::Sample => axis > 0,
            Over::Channel => axis == 1,
        };
        Shape(x.0.iter().enumerate().map(|(i, d)| if shares(i) { Dim::from(1) } else { d.clone() }).collect())
    }
}

impl OpDef for QuantizeAct {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "quantize_act",
        inputs: &["x"],
        outputs: &["q", "scale"],
        doc: "q = clip(round_half_even(x / s), low, high) with s from the largest magnitude over a row, sample, channel \
              or the tensor; `form`, `floor`, `eps` and `levels` say exactly how. scale has the reduced axes as 1.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let default = Self::default();
        let byte = |attrs: &mut AttrReader, name, default: i64, low, high| {
            let v = attrs.int(name)?.unwrap_or(default);
            if (low..=high).contains(&v) { Ok(v) } else { Err(attrs.invalid(name, format!("from {low} to {high}"), v)) }
        };
        let op = Self {
            over: attrs.choice("over")?.unwrap_or(default.over),
            form: attrs.choice("form")?.unwrap_or(default.form),
            floor: attrs.choice("floor")?.unwrap_or(default.floor),
            eps: attrs.float("eps")?.unwrap_or(default.eps),
            levels: byte(attrs, "levels", 127, 1, 127)? as u8,
            low: byte(attrs, "low", -128, -128, 0)? as i8,
            high: byte(attrs, "high", 127, 0, 127)? as i8,
        };
        if !(op.eps.is_finite() && op.eps >= 0.0) {
            return Err(attrs.invalid("eps", "finite and not negative", op.eps));
        }
        let floors: &[Floor] = match op.form {
            Form::Divide => &[Floor::None, Floor::AddToDivisor, Floor::ClipScale, Floor::ClipMax],
            Form::Reciprocal | Form::Quotient => &[Floor::None, Floor::ClipMax],
            Form::Integer => &[Floor::None],
        };
        if !floors.contains(&op.floor) {
            let form = op.form.word();
            return Err(attrs.invalid("floor", format!("one that `form = \"{form}\"` has"), op.floor.word()));
        }
        Ok(op)
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let default = Self::default();
        AttrWriter::new()
            .word("over", self.over, default.over)
            .word("form", self.form, default.form)
            .word("floor", self.floor, default.floor)
            .put_unless("eps", self.eps, default.eps)
            .put_unless("levels", i64::from(self.levels), 127)
            .put_unless("low", i64::from(self.low), -128)
            .put_unless("high", i64::from(self.high), 127)
            .finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        expect_dtype("x", x, &[DType::F32])?;
        let needed = if self.over == Over::Channel { 2 } else { 1 };
        if x.shape.rank() < needed {
            return Err(TypeError::new(format!("`x` of rank {needed} or more"), x));
        }
        let scale = TensorType::new(DType::F32, self.scale_shape(&x.shape));
        Ok(vec![TensorType::new(DType::I8, x.shape.clone()), scale])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let Grouped { elements, max, scale_dims } = self.grouped(x)?;
        let q: Vec<i8> = elements.into_iter().map(|(v, max)| self.quantize(v, max)).collect();
        let scale: Vec<f32> = max.into_iter().map(|m| self.scale(m)).collect();
        Ok(vec![Tensor::new(x.dims(), &q), Tensor::new(&scale_dims, &scale)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_quantise_to_zeros_under_every_floor() {
        for form in [Form::Divide, Form::Reciprocal, Form::Quotient, Form::Integer] {
            for floor in [Floor::None, Floor::AddToDivisor, Floor::ClipScale, Floor::ClipMax] {
                let op = QuantizeAct { form, floor, eps: 1e-6, ..QuantizeAct::default() };
                assert_eq!(op.quantize(0.0, 0.0), 0, "{form:?} {floor:?}");
            }
        }
    }

    #[test]
    fn integers_round_half_to_even_and_clip() {
        let op = QuantizeAct { form: Form::Integer, ..QuantizeAct::default() };
        let x = [0.2, 0.5, 0.500_000_06, 0.9, 1.5, 2.5, -3.7, 200.0, -500.0];
        assert_eq!(x.map(|v| op.quantize(v, 0.0)), [0, 0, 1, 1, 2, 2, -4, 127, -128]);
    }
}
