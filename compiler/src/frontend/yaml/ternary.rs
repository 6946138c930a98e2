//! Ternary weights in state dicts: which of the forms that libraries save is there, and what it holds.
//!
//! | saved from | tensors | taken |
//! |---|---|---|
//! | training | `weight` | as a trainable parameter under `ternarize` |
//! | BitLab `eval()` | `weight`, `qweight`, `qweight_scale` | `qweight`, which ran; compared with `weight` |
//! | BitLab `deploy()` | `qweight`, `qweight_scale` | `qweight` |
//! | BitLab HEAD `deploy()` | `qw`, `qws` | `qw` |
//! | BitCore `deploy()` | `w_packed`, `w_scale` | `w_packed` |
//! | transformers | `weight` (u8, or ternary floats), `weight_scale` | as `quant:` says what the scale does |
//! | NeuroPress `freeze_layer()` | `packed_weights` | the scale, which divides, is not saved: `quant: {scale: ..}` |
//!
//! A tensor of quantised weights is ternary only if all its values are -1, 0 or 1; BitLab's C++ path saves 8-bit weights
//! under the same name. Any of them may be packed (`packed.rs`).

use bitc_ir::ops::{EvalCx, Ternarize};
use bitc_ir::{DType, Op, Tensor};

use super::packed;
use super::parameters::{Draw, Parameters, check_dims, floats};
use super::quant::{Meaning, Quant};
use crate::error::{Diagnostic, quoted};
use crate::npy;

/// The weights of one ternary layer.
pub(super) enum Weights {
    /// Trained ones.
    Trained(Tensor),
    /// Quantised ones, and a scale that is a scalar or has one number per output and ones for the other axes.
    Quantised {
        ternary: Tensor,
        scale: Tensor,
        /// The bias is multiplied by the scale as well.
        bias_is_scaled: bool,
    },
}

/// The weights of the layer `key`, of these dimensions, and a warning where two forms disagree.
pub(super) fn load(
    parameters: &mut Parameters,
    key: &str,
    dims: &[usize],
    quant: &Quant,
    draw: Draw,
) -> Result<(Weights, Option<Diagnostic>), Diagnostic> {
    for form in &FORMS {
        let name = format!("{key}.{}", form.values);
        let Some(stored) = parameters.stored(&name) else { continue };
        let scale_name = format!("{key}.{}", form.scale);
        let scale = parameters.stored(&scale_name);
        let is_packed = packed::is_packed(&stored, dims);
        // Under this name trained weights are as well.
        if form.values == "weight" && scale.is_none() && !is_packed {
            continue;
        }
        let (name, scale_name) = (parameters.full_name(&name), parameters.full_name(&scale_name));
        let ternary = if is_packed {
            packed::unpack(&name, &stored, dims)?
        } else {
            check_dims(&name, &stored, dims)?;
            ternary(&name, &stored)?
        };
        let stated = quant.scale.map(Tensor::scalar);
        let scale = stated.or(scale).ok_or_else(|| {
            Diagnostic::wrong_input(format!("the weights lack the scale {} of {}", quoted(&scale_name), quoted(&name)))
                .hint("if the library did not save it, `scale: NUMBER` says it: of a bitnet_layer, or under `quant:`")
        })?;
        let meaning = form.meaning.or(quant.meaning).ok_or_else(|| {
            Diagnostic::wrong_input(format!("what the scale {} does is not in the file", quoted(&scale_name)))
                .expected(
                    "`weight_scale: divide` (BitLinear of transformers) or `weight_scale: multiply` (AutoBitLinear)",
                )
                .hint("say it under `quant:`")
        })?;
        let mut scale = output_scale(&scale_name, &scale, dims)?;
        if meaning == Meaning::Divide {
            let inverse: Vec<f32> = scale.to_f64().into_iter().map(|s| (1.0 / s) as f32).collect();
            if let Some(wrong) = inverse.iter().position(|v| !v.is_finite()) {
                let zero = Diagnostic::wrong_input(format!("the scale {} divides by zero", quoted(&scale_name)));
                return Err(zero.found(format!("at output {wrong}")));
            }
            scale = Tensor::new(scale.dims(), &inverse);
        }
        // The class whose scale multiplies does so after it has added the bias.
        let bias_is_scaled = form.values == "weight" && meaning == Meaning::Multiply;
        let trained = parameters.stored(&format!("{key}.weight")).filter(|_| form.values != "weight");
        let warning = trained.and_then(|w| disagreement(key, &name, &w, &ternary, &scale, &quant.weights));
        return Ok((Weights::Quantised { ternary, scale, bias_is_scaled }, warning));
    }
    for scale in ["weight_scale", "w_scale"] {
        if let Some(stored) = parameters.stored(&format!("{key}.{scale}")) {
            let name = parameters.full_name(&format!("{key}.{scale}"));
            return Err(Diagnostic::unsupported(format!("the scale {} has no weights that bitc knows", quoted(&name)))
                .expected("`weight`, `qweight`, `qw`, `w_packed` or `packed_weights`")
                .found(format!("{} {:?}", stored.dtype(), stored.dims())));
        }
    }
    let name = format!("{key}.weight");
    if let Some(stored) = parameters.stored(&name)
        && !stored.dtype().is_float()
    {
        return Err(not_ternary(&parameters.full_name(&name), &stored, "a layer in training has float weights"));
    }
    Ok((Weights::Trained(parameters.required(&name, dims, draw)?), None))
}

/// Stored values as `t2`, if they are ternary.
fn ternary(name: &str, stored: &Tensor) -> Result<Tensor, Diagnostic> {
    npy::convert_exact(stored, DType::T2).map_err(|_| {
        let largest = stored.to_f64().into_iter().fold(0f64, |m, v| m.max(v.abs()));
        let integral = stored.to_f64().iter().all(|v| v.fract() == 0.0);
        if integral && largest <= 128.0 {
            let what = format!("these are 8-bit weights, with values up to {largest}");
            return not_ternary(name, stored, &what).hint(
                "BitLab's C++ extension quantises weights to 8 bits; save the model without it, or before eval()",
            );
        }
        not_ternary(name, stored, "only -1, 0 and 1 are ternary")
    })
}

/// Names under which quantised weights are saved.
struct Form {
    values: &'static str,
    scale: &'static str,
    /// What the scale does, where its name says it.
    meaning: Option<Meaning>,
}

const FORMS: [Form; 5] = [
    Form { values: "qweight", scale: "qweight_scale", meaning: Some(Meaning::Multiply) },
    Form { values: "qw", scale: "qws", meaning: Some(Meaning::Multiply) },
    Form { values: "w_packed", scale: "w_scale", meaning: Some(Meaning::Multiply) },
    Form { values: "packed_weights", scale: "weight_scale", meaning: Some(Meaning::Divide) },
    Form { values: "weight", scale: "weight_scale", meaning: None },
];

/// The names of tensors of which a ternary layer has at least one.
pub(super) const NAMES: [&str; 7] =
    ["weight", "qweight", "qw", "w_packed", "packed_weights", "weight_scale", "w_scale"];

fn not_ternary(name: &str, stored: &Tensor, why: &str) -> Diagnostic {
    Diagnostic::unsupported(format!("the tensor {} is not ternary: {why}", quoted(name)))
        .expected("values -1, 0 and 1")
        .found(format!("{} {:?}", stored.dtype(), stored.dims()))
}

/// A scale as a scalar, or with one number per output along the first axis.
fn output_scale(name: &str, stored: &Tensor, dims: &[usize]) -> Result<Tensor, Diagnostic> {
    let scale = floats(name, stored)?;
    let per_output: Vec<usize> = (0..dims.len()).map(|i| if i == 0 { dims[0] } else { 1 }).collect();
    let target: &[usize] = if scale.numel() == 1 { &[] } else { &per_output };
    scale.reshaped(target).ok_or_else(|| {
        Diagnostic::wrong_input(format!("the scale {} has the wrong shape", quoted(name)))
            .expected(format!("one number, or {} of them", dims[0]))
            .found(format!("{:?}", scale.dims()))
    })
}

/// Whether the trained weights would be quantised to something else than what is stored.
fn disagreement(
    key: &str,
    name: &str,
    trained: &Tensor,
    ternary: &Tensor,
    scale: &Tensor,
    rule: &Ternarize,
) -> Option<Diagnostic> {
    let warning = |what: String| {
        Diagnostic::wrong_input(format!("{} and the trained weights disagree: {what}", quoted(name)))
            .node(key)
            .hint("the quantised weights are taken, because they are what ran")
    };
    let trained = match floats(key, trained) {
        Ok(trained) => trained,
        Err(d) => return Some(warning(d.message.clone())),
    };
    let again = Op::from(rule.clone()).eval(vec![Some(&trained)], &EvalCx { bind: &|_| None });
    let (expected, expected_scale) = match again.as_deref() {
        Ok([t, s]) => (t, s),
        _ => return Some(warning("the trained weights cannot be quantised".into())),
    };
    if expected.dims() != ternary.dims() {
        return Some(warning(format!("their shapes are {:?} and {:?}", ternary.dims(), expected.dims())));
    }
    let differing = expected.bytes().iter().zip(ternary.bytes()).filter(|(a, b)| a != b).count();
    // A mean that was summed in another order may move a weight that lies between two codes.
    let allowed = 1 + ternary.numel() / 100_000;
    if differing > allowed {
        return Some(warning(format!("{differing} of {} weights differ", ternary.numel())));
    }
    let near = |(a, b): (f64, f64)| (a - b).abs() <= 1e-4 * a.abs().max(b.abs());
    let scales_agree =
        expected_scale.numel() == scale.numel() && expected_scale.to_f64().into_iter().zip(scale.to_f64()).all(near);
    (!scales_agree).then(|| warning("their scales differ".into()))
}
