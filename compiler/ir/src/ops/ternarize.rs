//! `ternarize`: trained float weights to -1, 0, +1 the way their training did it.
//!
//! This states what a quantisation-aware training meant; it is folded away before deployment. Choosing ternary weights
//! for a float model is a different job and no operation.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::choice;
use crate::eval::{EvalError, array};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

choice! {
    /// Which weights share a scale.
    pub enum Per {
        /// All of them.
        Tensor = "tensor",
        /// Those of one output: the first axis.
        Row = "row",
    }
}

choice! {
    /// How the mean magnitude `m` becomes a divisor and a scale.
    pub enum Rule {
        /// `t = round(w / (m + eps))`, scale `m`.
        AddEps = "add",
        /// `r = 1 / max(m, eps)`, `t = round(w * r)`, scale `1 / r`.
        ClipReciprocal = "clip_reciprocal",
    }
}

/// Ternary weights and their scale from trained ones.
#[derive(Clone, PartialEq, Debug)]
pub struct Ternarize {
    /// Which weights share a scale.
    pub per: Per,
    /// How the mean magnitude is used.
    pub rule: Rule,
    /// The number that `rule` uses.
    pub eps: f32,
}

impl Ternarize {
    /// The rule of BitLab, old and new: `eps` is added to the mean.
    pub const BITLAB: Self = Self { per: Per::Tensor, rule: Rule::AddEps, eps: 1e-6 };
    /// The rule of BitNet b1.58: the mean is at least `eps`.
    pub const BITNET: Self = Self { per: Per::Tensor, rule: Rule::ClipReciprocal, eps: 1e-5 };

    fn ternary(&self, weights: &[f32]) -> (Vec<i8>, f32) {
        // A mean in f64 rounded once differs from torch's by at most one unit in the last place.
        let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
        let mean = (sum / weights.len().max(1) as f64) as f32;
        let ternary = |v: f32| v.round_ties_even().clamp(-1.0, 1.0) as i8;
        match self.rule {
            Rule::AddEps => {
                let divisor = mean + self.eps;
                (weights.iter().map(|w| ternary(w / divisor)).collect(), mean)
            }
            Rule::ClipReciprocal => {
                let factor = 1.0 / mean.max(self.eps);
                (weights.iter().map(|w| ternary(w * factor)).collect(), 1.0 / factor)
            }
        }
    }

    fn scale_shape(&self, w: &Shape) -> Shape {
        match self.per {
            Per::Tensor => Shape::default(),
            Per::Row => Shape(w.0.iter().enumerate().map(|(i, d)| if i == 0 { d.clone() } else { Dim::from(1) }).collect()),
        }
    }
}

impl OpDef for Ternarize {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "ternarize",
        inputs: &["w"],
        outputs: &["t", "scale"],
        doc: "t = clip(round_half_even(w / d), -1, 1) with d from the mean magnitude per tensor or row, as training did it; \
              scale is what dequantises. The mean is taken in f64.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let default = Self::BITLAB;
        Ok(Self {
            per: attrs.choice("per")?.unwrap_or(default.per),
            rule: attrs.choice("rule")?.unwrap_or(default.rule),
            eps: attrs.float("eps")?.unwrap_or(default.eps),
        })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let default = Self::BITLAB;
        AttrWriter::new()
            .word("per", self.per, default.per)
            .word("rule", self.rule, default.rule)
            .put_unless("eps", self.eps, default.eps)
            .finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let w = inputs.at(0);
        expect_dtype("w", w, &[DType::F32])?;
        if w.shape.rank() < 2 {
            return Err(TypeError::new("`w` of rank 2 or more", w));
        }
        let scale = TensorType::new(DType::F32, self.scale_shape(&w.shape));
        Ok(vec![TensorType::new(DType::T2, w.shape.clone()), scale])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let w = array::f32s(inputs.at(0))?;
        let values: Vec<f32> = w.iter().copied().collect();
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(EvalError::Undefined(format!("weight {i} is {}, ternary weights need finite ones", values[i])));
        }
        let group = match self.per {
            Per::Tensor => values.len(),
            Per::Row => values.len() / w.shape()[0].max(1),
        };
        let (mut t, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
        for weights in values.chunks(group.max(1)) {
            let (ternary, scale) = self.ternary(weights);
            t.extend(ternary);
            scales.push(scale);
        }
        let scale_dims = self.scale_shape(&Shape::fixed(w.shape())).to_fixed().expect("fixed dimensions stay fixed");
        scales.resize(scale_dims.iter().product(), 0.0);
        Ok(vec![Tensor::with_dtype(DType::T2, w.shape(), &t), Tensor::new(&scale_dims, &scales)])
    }
}
