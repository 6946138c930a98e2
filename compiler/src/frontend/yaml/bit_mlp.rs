//! `model: bit_mlp`: BitLab's BitMLPModel by the fields of its BitMLPConfig and BitQuantConfig.
//!
//! `n_layers - 1` times a ternary layer, a ReLU and, if there is one, a dropout; then a last ternary layer. All layers are
//! ternary, none is normalised. In the state dict layer `i` is `i` as torch's Sequential counts, ReLU and dropout included,
//! usually after the prefix `network.`.

use bitc_ir::{Dim, Shape};

use super::build::RELU;
use super::fields::{Faults, Fields};
use super::layer::{Bias, Dense, Kind, Layer};
use super::quant::Quant;
use super::{Model, read_weights};
use crate::error::Diagnostic;

/// The most layers that are taken.
const LAYERS_LIMIT: usize = 4096;

/// Reads the fields of the model.
pub(super) fn read(fields: &mut Fields<'_>, faults: &Faults) -> Model {
    let place = fields.place;
    let mut n_layers = fields.size("n_layers", 1).unwrap_or(3);
    let in_channels = fields.size("in_channels", 1).unwrap_or(256);
    let hidden = fields.size("hidden_dim", 1).unwrap_or(128);
    let out_channels = fields.size("out_channels", 1).unwrap_or(10);
    let dropout = fields.positive("dropout").unwrap_or(0.0);
    let quant = Quant::read(fields.node("quant"), false, faults);
    let weights = read_weights(fields, faults);
    if n_layers > LAYERS_LIMIT {
        let d = Diagnostic::wrong_input("the model has too many layers");
        fields.fault(place, d.expected(format!("at most {LAYERS_LIMIT}")).found(n_layers));
        n_layers = 1;
    }
    let layer = |index: usize, kind| Layer { key: index.to_string(), label: format!("network.{index}"), place, kind };
    let dense = |inputs, outputs| {
        let (quant, bias) = (Some(quant.clone()), Bias::IfPresent);
        Kind::Dense(Dense { inputs: Some(inputs), outputs, bias, quant, norm: false })
    };
    let step = if dropout > 0.0 { 3 } else { 2 };
    let mut layers = Vec::new();
    for i in 0..n_layers {
        let inputs = if i == 0 { in_channels } else { hidden };
        let last = i + 1 == n_layers;
        layers.push(layer(step * i, dense(inputs, if last { out_channels } else { hidden })));
        if !last {
            layers.push(layer(step * i + 1, Kind::Unary(RELU)));
        }
    }
    let shape = Shape(vec![Dim::symbol("N"), Dim::from(in_channels)]);
    Model { input: "x".into(), shape, layers, weights }
}
