//! The `quant:` map of ternary layers: BitLab's BitQuantConfig and which library's formulas hold.
//!
//! | semantics | weights | activations |
//! |---|---|---|
//! | `bitlab` | `t = round(w / (m + 1e-6))`, scale `m` | `float32`: rounded to integers; `int8`: `q = round(x / (s + 1e-6/127))`, scale `s = max/127`, over the whole tensor or per row |
//! | `bitlab_head` | as `bitlab` | `s = max(max/127, 1e-6)` per row, within -127 and 127 |
//! | `bitnet` | `r = 1 / max(m, 1e-5)`, `t = round(w * r)`, scale `1 / r` | `r = (1 / max(max, 1e-5)) * 127` per row, scale `1 / r` |
//!
//! `m` is the mean magnitude of the weights: of all (`per_tensor`), or of one output (`per_channel`). The last two
//! libraries know no other granularity of activations than the row, so there `activation_granularity` says nothing. A
//! convolution has no rows; what would be a scale per row is a scale per pixel, over its channels, and `per_sample` is a
//! scale per sample.

use bitc_ir::ops::quantize_act::{Floor, Form, Over};
use bitc_ir::ops::ternarize::Per;
use bitc_ir::ops::{QuantizeAct, Ternarize};

use super::document::Node;
use super::fields::{Faults, Fields};
use crate::error::{Diagnostic, quoted};

/// Which library trained the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Semantics {
    Bitlab,
    BitlabHead,
    Bitnet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granularity {
    Tensor,
    Channel,
    Sample,
}

/// What the saved scale of quantised weights does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The sums are multiplied by it.
    Multiply,
    /// The sums are divided by it.
    Divide,
}

/// How a ternary layer quantises.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quant {
    pub(super) semantics: Semantics,
    /// The rule for the weights.
    pub(super) weights: Ternarize,
    /// The rule for the activations of a fully connected layer.
    pub(super) activations: QuantizeAct,
    /// The elements that share a scale in a convolution.
    conv_over: Over,
    /// What a scale `weight_scale` does, where the model says it.
    pub(super) meaning: Option<Meaning>,
    /// The scale of quantised weights that were saved without one.
    pub(super) scale: Option<f32>,
    /// Added to the mean square by the norm that a layer may have before its quantiser.
    pub(super) norm_eps: f32,
}

impl Quant {
    /// The default of BitLab's BitQuantConfig.
    pub(super) fn bitlab() -> Self {
        Self::new(Semantics::Bitlab, false, Granularity::Tensor, Granularity::Tensor, 1e-5)
    }

    /// BitNet b1.58 with activations of `bits` bits, 2 to 8.
    pub(super) fn bitnet(bits: u8, norm_eps: f32) -> Self {
        let mut quant = Self::new(Semantics::Bitnet, true, Granularity::Tensor, Granularity::Tensor, norm_eps);
        let high = i8::MAX >> 8u8.saturating_sub(bits);
        quant.activations.levels = high.unsigned_abs();
        (quant.activations.low, quant.activations.high) = (-high - 1, high);
        quant
    }

    fn new(semantics: Semantics, int8: bool, weights: Granularity, activations: Granularity, norm_eps: f32) -> Self {
        let per = if weights == Granularity::Channel { Per::Row } else { Per::Tensor };
        let default = QuantizeAct::default();
        let (rule, quantizer) = match semantics {
            Semantics::Bitlab if !int8 => (Ternarize::BITLAB, QuantizeAct { form: Form::Integer, ..default }),
            Semantics::Bitlab => {
                let over = if activations == Granularity::Tensor { Over::Tensor } else { Over::Row };
                // As torch does it: the quotient of two doubles, added to a float.
                let eps = (1e-6f64 / 127.0) as f32;
                (Ternarize::BITLAB, QuantizeAct { over, floor: Floor::AddToDivisor, eps, ..default })
            }
            Semantics::BitlabHead => {
                (Ternarize::BITLAB, QuantizeAct { floor: Floor::ClipScale, eps: 1e-6, low: -127, ..default })
            }
            Semantics::Bitnet => {
                let form = Form::Reciprocal;
                (Ternarize::BITNET, QuantizeAct { form, floor: Floor::ClipMax, eps: 1e-5, ..default })
            }
        };
        let conv_over = match (activations, quantizer.over) {
            _ if quantizer.form == Form::Integer => Over::Tensor,
            (Granularity::Sample, _) => Over::Sample,
            (_, Over::Tensor) => Over::Tensor,
            _ => Over::Channel,
        };
        Self {
            semantics,
            weights: Ternarize { per, ..rule },
            activations: quantizer,
            conv_over,
            meaning: None,
            scale: None,
            norm_eps,
        }
    }

    /// The rule for the activations of a convolution.
    pub(super) fn conv_activations(&self) -> QuantizeAct {
        QuantizeAct { over: self.conv_over, ..self.activations.clone() }
    }

    /// Reads the map of a convolution or another layer; without one the default of BitLab holds.
    pub(super) fn read(node: Option<&Node>, conv: bool, faults: &Faults) -> Self {
        let Some(node) = node else { return Self::bitlab() };
        let mut fields = Fields::of(node, "`quant`", faults);
        let words =
            [("bitlab", Semantics::Bitlab), ("bitlab_head", Semantics::BitlabHead), ("bitnet", Semantics::Bitnet)];
        let semantics = fields.choice("semantics", &words).unwrap_or(Semantics::Bitlab);
        let granularities = [("per_tensor", Granularity::Tensor), ("per_channel", Granularity::Channel)];
        let weights = fields.choice("weight_granularity", &granularities).unwrap_or(Granularity::Tensor);
        let with_sample = [granularities[0], granularities[1], ("per_sample", Granularity::Sample)];
        let allowed = if conv { &with_sample[..] } else { &granularities };
        let activations = fields.choice("activation_granularity", allowed).unwrap_or(Granularity::Tensor);
        let default = semantics != Semantics::Bitlab;
        let dtype_place = fields.node("activation_dtype").map(|n| n.place);
        let int8 = fields.choice("activation_dtype", &[("float32", false), ("int8", true)]).unwrap_or(default);
        let norm_eps = fields.positive("norm_eps").unwrap_or(1e-5);
        if semantics != Semantics::Bitlab && !int8 {
            let word = if semantics == Semantics::Bitnet { "bitnet" } else { "bitlab_head" };
            let d = Diagnostic::wrong_input(format!("the semantics {} quantise activations to int8", quoted(word)));
            fields.fault(dtype_place.unwrap_or(fields.place), d.expected("int8").found("float32"));
        }
        let meaning = fields.choice("weight_scale", &[("multiply", Meaning::Multiply), ("divide", Meaning::Divide)]);
        let scale = fields.positive("scale");
        fields.finish();
        Self { meaning, scale, ..Self::new(semantics, int8, weights, activations, norm_eps) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    fn read(text: &str) -> (Quant, Vec<Diagnostic>) {
        let faults = Faults::default();
        let node = document::parse(text.as_bytes()).unwrap();
        (Quant::read(Some(&node), true, &faults), faults.into_inner())
    }

    #[test]
    fn defaults_are_those_of_each_library() {
        let (q, faults) = read("{}");
        assert!(faults.is_empty() && q == Quant::bitlab());
        assert_eq!(q.activations.form, Form::Integer);
        let (q, _) = read("semantics: bitlab_head");
        assert_eq!((q.activations.over, q.activations.low, q.activations.floor), (Over::Row, -127, Floor::ClipScale));
        let (q, _) = read("{semantics: bitnet, weight_granularity: per_channel}");
        assert_eq!((q.weights.per, q.activations.form, q.conv_over), (Per::Row, Form::Reciprocal, Over::Channel));
        let (q, _) = read("{activation_dtype: int8}");
        assert_eq!((q.activations.over, q.activations.eps, q.conv_over), (Over::Tensor, 7.874_016e-9, Over::Tensor));
        let (q, _) = read("{activation_dtype: int8, activation_granularity: per_channel}");
        assert_eq!((q.activations.over, q.conv_over), (Over::Row, Over::Channel));
    }

    #[test]
    fn fewer_bits_have_fewer_levels() {
        let of = |bits| {
            let a = Quant::bitnet(bits, 1e-5).activations;
            (a.levels, a.low, a.high)
        };
        assert_eq!((of(8), of(4), of(2)), ((127, -128, 127), (7, -8, 7), (1, -2, 1)));
    }

    #[test]
    fn faults_name_the_place_and_the_nearest_word() {
        let (_, faults) = read("semantics: bitlab_hed\nweight_granularty: per_tensor\nactivation_dtype: int4");
        let texts: Vec<_> = faults.iter().map(|d| d.print(crate::error::Format::Short)).collect();
        assert!(texts[0].contains("did you mean `bitlab_head`?"), "{texts:?}");
        assert!(faults.iter().any(|d| d.line == Some(3) && d.expected.as_deref() == Some("float32 or int8")));
        assert!(
            faults.iter().any(|d| d.line == Some(2) && d.hint.as_deref() == Some("did you mean `weight_granularity`?"))
        );
        let (_, faults) = read("{semantics: bitnet, activation_dtype: float32}");
        assert!(faults[0].message.contains("quantise activations to int8"));
    }
}
