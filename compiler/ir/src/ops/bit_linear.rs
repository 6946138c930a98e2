//! `bit_linear`: a fully connected layer with ternary or 8-bit weights and quantised activations.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::activation::Activation;
use crate::ops::dequantize::{Dequantize, read_group};
use crate::ops::linear::layer_shape;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// `y = act((acc * q_scale) * scale + bias)` with `acc = q · wᵀ` in integers.
#[derive(Clone, PartialEq, Debug)]
pub struct BitLinear {
    /// Applied to the result.
    pub act: Activation,
    /// How many neighbouring inputs share a scale of the weights; 0 for all of a row.
    pub group: usize,
}

impl OpDef for BitLinear {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "bit_linear",
        inputs: &["q", "q_scale", "w", "scale", "bias?"],
        outputs: &["y"],
        doc: "acc[.., n] = sum over k of q[.., k] * w[n, k] in i32; y = act((f32(acc) * q_scale) * scale[n] + bias[n]), in \
              that order, each step rounded to f32. q_scale is one per row or one in all, scale one per output or one in all. With \
              `group` = g, scale is [n, ceil(k / g)]: the sums over g inputs each are scaled so and added in f32 in order, \
              beginning with 0, before the bias.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self { act: Activation::read(attrs)?, group: read_group(attrs)? })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = AttrWriter::new().word("act", self.act, Activation::None);
        attrs.put_unless("group", self.group as i64, 0).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (q, q_scale, w, scale) = (inputs.at(0), inputs.at(1), inputs.at(2), inputs.at(3));
        expect_dtype("q", q, &[DType::I8])?;
        expect_dtype("q_scale", q_scale, &[DType::F32])?;
        expect_dtype("w", w, &[DType::T2, DType::I8])?;
        expect_dtype("scale", scale, &[DType::F32])?;
        let shape = layer_shape(q, w, inputs.get(4))?;
        let all_one = q_scale.shape.0.iter().all(Dim::is_one);
        let mut per_row = q.shape.clone();
        per_row.0.pop();
        per_row.0.push(Dim::from(1));
        if !all_one && q_scale.shape != per_row {
            return Err(TypeError::new(format!("`q_scale` of shape {per_row} or all ones"), q_scale));
        }
        match self.group {
            0 => expect_output_scale(scale, &w.shape.0[0])?,
            group => {
                let grouped = Dequantize::grouped_shape(&w.shape, group);
                if grouped.as_ref() != Some(&scale.shape) {
                    let expected = grouped.map_or_else(String::new, |s| s.to_string());
                    return Err(TypeError::new(format!("`scale` of shape {expected}"), scale));
                }
            }
        }
        Ok(vec![TensorType::new(DType::F32, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (q, q_scale, w) = (inputs.at(0), array::f32s(inputs.at(1))?, inputs.at(2));
        let (scale, bias) = (array::f32s(inputs.at(3))?, inputs.get(4).map(array::f32s).transpose()?);
        let (n, k) = (w.dims()[0], w.dims()[1]);
        let group = if self.group == 0 { k.max(1) } else { self.group };
        let groups: Vec<Vec<i32>> =
            (0..k.div_ceil(group).max(1)).map(|i| accumulate_part(q, w, i * group..(i + 1) * group)).collect::<Result<_, _>>()?;
        let at = |v: &ndarray::ArrayD<f32>, i| if v.len() == 1 { v.iter().next().copied() } else { v.iter().nth(i).copied() };
        let q_scales: Vec<f32> = q_scale.iter().copied().collect();
        let value = |i: usize| {
            let (row, col) = (i / n, i % n);
            let q_scale = if q_scales.len() == 1 { q_scales[0] } else { q_scales[row] };
            let part = |(g, acc): (usize, &Vec<i32>)| {
                let scale = if self.group == 0 { at(&scale, col) } else { at(&scale, col * groups.len() + g) };
                (acc[i] as f32 * q_scale) * scale.unwrap_or(0.0)
            };
            let mut parts = groups.iter().enumerate().map(part);
            let mut y = match self.group {
                0 => parts.next().unwrap_or(0.0),
                _ => parts.fold(0.0, |sum, part| sum + part),
            };
            if let Some(bias) = &bias {
                y += bias[col];
            }
            self.act.apply(y)
        };
        let y: Vec<f32> = (0..groups.first().map_or(0, Vec::len)).map(value).collect();
        let mut dims = q.dims().to_vec();
        *dims.last_mut().expect("q has a last axis") = n;
        Ok(vec![Tensor::new(&dims, &y)])
    }
}

/// Checks a scale that is one number or one per output.
pub(super) fn expect_output_scale(scale: &TensorType, outputs: &Dim) -> Result<(), TypeError> {
    if scale.shape.rank() == 0 || scale.shape.0 == [outputs.clone()] {
        return Ok(());
    }
    Err(TypeError::new(format!("`scale` of rank 0 or shape [{outputs}]"), scale))
}

/// The integer sums of a layer, row-major: what `bitc verify` compares bit for bit.
///
/// # Errors
/// If `q` is not `i8` or `w` neither `t2` nor `i8`.
pub fn accumulate(q: &Tensor, w: &Tensor) -> Result<Vec<i32>, EvalError> {
    accumulate_part(q, w, 0..usize::MAX)
}

/// The integer sums over some of the inputs.
fn accumulate_part(q: &Tensor, w: &Tensor, part: std::ops::Range<usize>) -> Result<Vec<i32>, EvalError> {
    let wrong = || EvalError::Undefined(format!("expected i8 and t2, found {} and {}", q.ty(), w.ty()));
    let (qs, ws) = (q.to_vec::<i8>().ok_or_else(wrong)?, w.to_vec::<i8>().ok_or_else(wrong)?);
    let (n, k) = (w.dims()[0], w.dims()[1]);
    let part = part.start.min(k)..part.end.min(k);
    let rows: usize = q.dims().iter().rev().skip(1).product();
    let mut acc = Vec::with_capacity(rows * n);
    for row in 0..rows {
        let q = &qs[row * k..][part.clone()];
        for col in 0..n {
            let pairs = q.iter().zip(&ws[col * k..][part.clone()]);
            acc.push(pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum());
        }
    }
    Ok(acc)
}
