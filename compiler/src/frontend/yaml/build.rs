//! Layers and their tensors to a graph.
//!
//! A ternary layer is spelt out as its training meant it, and no rewriting is anticipated:
//!
//! ```text
//! q, s  = quantize_act(x)          x' = dequantize(q, s)
//! t, sw = ternarize(param w)       w' = dequantize(t, sw)      or t and sw are constants, where they were saved
//! y     = linear(x', w', bias)                                  or conv2d
//! ```
//! `linear-to-bit-linear` makes one integer operation of it, once `ternarize` has been folded.

use bitc_ir::ops::max_pool2d;
use bitc_ir::ops::unary::UnaryKind;
use bitc_ir::ops::{
    AvgPool2d, BatchNorm, Binary, Conv2d, Dequantize, Flatten, LayerNorm, Linear, MaxPool2d, QuantizeAct, Reshape,
    RmsNorm, Softmax, Unary, activation::Activation, binary::BinaryKind,
};
use bitc_ir::{Dim, Graph, Op, Origin, Shape, Tensor, ValueId};

use super::layer::{Bias, Conv, Dense, Extent, Kind, Layer, Pool};
use super::parameters::{Draw, Parameters};
use super::quant::{Quant, Semantics};
use super::ternary::{self, Weights};
use crate::error::{Diagnostic, quoted};

/// A graph that grows layer by layer.
pub(super) struct Builder {
    pub(super) graph: Graph,
    pub(super) parameters: Parameters,
    pub(super) warnings: Vec<Diagnostic>,
}

impl Builder {
    /// Adds layers one after the other.
    pub(super) fn layers(&mut self, layers: &[Layer], mut x: ValueId) -> Result<ValueId, Diagnostic> {
        for layer in layers {
            x = self.layer(layer, x).map_err(|d| {
                let d = if d.node.is_none() { d.node(layer.label.as_str()) } else { d };
                if d.line.is_none() { layer.place.at(d) } else { d }
            })?;
        }
        Ok(x)
    }

    fn layer(&mut self, layer: &Layer, x: ValueId) -> Result<ValueId, Diagnostic> {
        let label = &layer.label;
        match &layer.kind {
            Kind::Dense(dense) => self.dense(layer, dense, x),
            Kind::Conv(conv) => self.conv(layer, conv, x),
            Kind::Unary(kind) => self.add(label, label, Unary(*kind), &[x]),
            Kind::Softmax { axis } => self.add(label, label, Softmax { axis: *axis, log: false }, &[x]),
            Kind::RmsNorm { eps } => self.rms_norm(layer, x, *eps),
            Kind::LayerNorm { eps } => self.layer_norm(layer, x, *eps),
            Kind::BatchNorm { eps } => self.batch_norm(layer, x, *eps),
            Kind::MaxPool(pool) => self.add(label, label, MaxPool2d(op_pool(pool)), &[x]),
            Kind::AvgPool { pool, count_padding } => {
                let op = AvgPool2d { pool: op_pool(pool), count_padding: *count_padding };
                self.add(label, label, op, &[x])
            }
            Kind::Flatten { start } => self.flatten(label, x, *start),
            Kind::Reshape { shape } => self.reshape(label, x, shape),
            Kind::Dropout => Ok(x),
            Kind::Residual(layers) => {
                let y = self.layers(layers, x)?;
                self.add(label, label, Binary(BinaryKind::Add), &[x, y])
            }
        }
    }

    /// Adds a node with one output whose inputs are all there.
    fn add(&mut self, label: &str, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Diagnostic> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.add_all(label, &[name], op, &inputs).map(|values| values[0])
    }

    /// Adds a node with the outputs that are named.
    fn add_all(
        &mut self,
        label: &str,
        names: &[&str],
        op: impl Into<Op>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, Diagnostic> {
        let op = op.into();
        let kind = op.name();
        let values = self.graph.add_nodes(names, op, inputs).map_err(|e| {
            let d = Diagnostic::wrong_input(format!("{} does not fit what comes before it (`{kind}`)", quoted(label)));
            d.node(label).expected(e.expected).found(e.found)
        })?;
        if let Some(node) = self.graph.producer_id(values[0]) {
            *self.graph.origin_mut(node) = Origin::of(label);
        }
        Ok(values)
    }

    /// A dimension of a value that must be a number.
    fn fixed(&self, x: ValueId, axis: Option<usize>) -> Result<usize, Diagnostic> {
        let shape = &self.graph.ty(x).shape;
        let dim = axis.map_or_else(|| shape.last(), |axis| shape.0.get(axis));
        dim.and_then(Dim::as_const).ok_or_else(|| {
            let what = axis.map_or("last dimension".to_string(), |a| format!("dimension {a}"));
            Diagnostic::wrong_input(format!("the {what} of the input must be a known number")).found(self.graph.ty(x))
        })
    }

    fn param(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.graph.add_param(name, tensor)
    }

    fn bias(
        &mut self,
        layer: &Layer,
        bias: Bias,
        outputs: usize,
        fan_in: usize,
        scale: Option<Tensor>,
    ) -> Result<Option<ValueId>, Diagnostic> {
        let (name, dims) = (format!("{}.bias", layer.key), [outputs]);
        let draw = Draw::Within(1.0 / (fan_in.max(1) as f32).sqrt());
        let tensor = match bias {
            Bias::Always => Some(self.parameters.required(&name, &dims, draw)?),
            Bias::IfPresent => self.parameters.optional(&name, &dims, draw, true)?,
            Bias::Never => None,
        };
        let scaled = |bias: Tensor, scale: Tensor| {
            let scales = scale.to_f64();
            let values = bias.to_f64().into_iter().enumerate();
            let times = values.map(|(i, b)| (b * scales.get(i).or(scales.first()).copied().unwrap_or(1.0)) as f32);
            Tensor::new(bias.dims(), &times.collect::<Vec<_>>())
        };
        let tensor = match (tensor, scale) {
            (Some(bias), Some(scale)) => Some(scaled(bias, scale)),
            (tensor, _) => tensor,
        };
        Ok(tensor.map(|t| self.param(&format!("{}.bias", layer.label), t)))
    }

    fn dense(&mut self, layer: &Layer, dense: &Dense, x: ValueId) -> Result<ValueId, Diagnostic> {
        let inputs = self.fixed(x, None)?;
        if let Some(expected) = dense.inputs.filter(|&n| n != inputs) {
            let d = Diagnostic::wrong_input(format!("{} has the wrong number of inputs", quoted(&layer.label)));
            let d = d.expected(inputs).found(expected);
            let flat = self.graph.ty(x).shape.rank() <= 2;
            return Err(if flat { d } else { d.hint("a `flatten` layer makes one row of each sample") });
        }
        let (dims, outputs) = ([dense.outputs, inputs], dense.outputs);
        let draw = Draw::Within((6.0 / (inputs + outputs) as f32).sqrt());
        let (x, (w, bias_scale)) = match &dense.quant {
            None => {
                let w = self.parameters.required(&format!("{}.weight", layer.key), &dims, draw)?;
                (x, (self.param(&format!("{}.weight", layer.label), w), None))
            }
            Some(quant) => {
                let x = self.inner_norm(layer, dense, quant, x, inputs)?;
                let x = self.quantized(layer, &quant.activations, x)?;
                (x, self.ternary(layer, &dims, quant, draw)?)
            }
        };
        let bias = self.bias(layer, dense.bias, outputs, inputs, bias_scale)?;
        let op = Linear { act: Activation::None };
        self.add_all(&layer.label, &[&layer.label], op, &[Some(x), Some(w), bias]).map(|v| v[0])
    }

    /// The norm inside a BitNet layer, if it always has one or the weights hold its gain.
    fn inner_norm(
        &mut self,
        layer: &Layer,
        dense: &Dense,
        quant: &Quant,
        x: ValueId,
        inputs: usize,
    ) -> Result<ValueId, Diagnostic> {
        if quant.semantics != Semantics::Bitnet {
            return Ok(x);
        }
        let mut gain = None;
        for name in ["norm.weight", "rms_norm.weight"] {
            let name = format!("{}.{name}", layer.key);
            gain = gain.or(self.parameters.optional(&name, &[inputs], Draw::AboutOne, false)?);
        }
        if gain.is_none() && !dense.norm {
            return Ok(x);
        }
        if dense.norm {
            // NeuroPress saves a bias that its layer never adds.
            self.parameters.stored(&format!("{}.bias", layer.key));
        }
        let gain = gain.map(|g| self.param(&format!("{}.norm.weight", layer.label), g));
        let op = RmsNorm { axis: -1, eps: quant.norm_eps };
        self.add_all(&layer.label, &[&format!("{}.norm", layer.label)], op, &[Some(x), gain]).map(|v| v[0])
    }

    /// `x` as integers times their scale.
    fn quantized(&mut self, layer: &Layer, op: &QuantizeAct, x: ValueId) -> Result<ValueId, Diagnostic> {
        let label = &layer.label;
        let names = [&*format!("{label}.q"), &*format!("{label}.q_scale")];
        let q = self.add_all(label, &names, op.clone(), &[Some(x)])?;
        self.add(label, &format!("{label}.x"), Dequantize::default(), &q)
    }

    /// Ternary weights times their scale; and the scale once more, if the bias is to be multiplied by it.
    fn ternary(
        &mut self,
        layer: &Layer,
        dims: &[usize],
        quant: &Quant,
        draw: Draw,
    ) -> Result<(ValueId, Option<Tensor>), Diagnostic> {
        let mut of_bias = None;
        let label = &layer.label;
        let (weights, warning) =
            ternary::load(&mut self.parameters, &layer.key, dims, quant, draw).map_err(|d| self.parameters.blame(d))?;
        self.warnings.extend(warning.map(|w| layer.place.at(w)));
        let t = match weights {
            Weights::Trained(w) => {
                let w = self.param(&format!("{label}.weight"), w);
                let names = [&*format!("{label}.qweight"), &*format!("{label}.scale")];
                self.add_all(label, &names, quant.weights.clone(), &[Some(w)])?
            }
            Weights::Quantised { ternary, scale, bias_is_scaled } => {
                of_bias = bias_is_scaled.then(|| scale.clone());
                let t = self.graph.add_const(&format!("{label}.qweight"), ternary);
                vec![t, self.graph.add_const(&format!("{label}.scale"), scale)]
            }
        };
        Ok((self.add(label, &format!("{label}.w"), Dequantize::default(), &t)?, of_bias))
    }

    fn conv(&mut self, layer: &Layer, conv: &Conv, x: ValueId) -> Result<ValueId, Diagnostic> {
        if self.graph.ty(x).shape.rank() != 4 {
            let d = Diagnostic::wrong_input(format!("{} needs an input of rank 4", quoted(&layer.label)));
            return Err(d.expected("[N, channels, height, width]").found(self.graph.ty(x)));
        }
        let channels = self.fixed(x, Some(1))?;
        if !channels.is_multiple_of(conv.groups) || !conv.outputs.is_multiple_of(conv.groups) {
            let d = Diagnostic::wrong_input("`groups` divides the channels and the outputs of a convolution");
            return Err(d.found(format!("{} groups, {channels} channels, {} outputs", conv.groups, conv.outputs)));
        }
        let dims = [conv.outputs, channels / conv.groups, conv.kernel[0], conv.kernel[1]];
        let fan_in = dims[1..].iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        let draw = Draw::Within(1.0 / (fan_in as f32).sqrt());
        let (x, (w, bias_scale)) = match &conv.quant {
            None => {
                let w = self.parameters.required(&format!("{}.weight", layer.key), &dims, draw)?;
                (x, (self.param(&format!("{}.weight", layer.label), w), None))
            }
            Some(quant) => {
                let x = self.quantized(layer, &quant.conv_activations(), x)?;
                (x, self.ternary(layer, &dims, quant, draw)?)
            }
        };
        let bias = self.bias(layer, conv.bias, conv.outputs, fan_in, bias_scale)?;
        let op = Conv2d { window: conv.window.clone(), groups: conv.groups, act: Activation::None };
        self.add_all(&layer.label, &[&layer.label], op, &[Some(x), Some(w), bias]).map(|v| v[0])
    }

    fn rms_norm(&mut self, layer: &Layer, x: ValueId, eps: f32) -> Result<ValueId, Diagnostic> {
        let last = self.fixed(x, None)?;
        let gain = self.parameters.optional(&format!("{}.weight", layer.key), &[last], Draw::AboutOne, true)?;
        let gain = gain.map(|g| self.param(&format!("{}.weight", layer.label), g));
        let op = RmsNorm { axis: -1, eps };
        self.add_all(&layer.label, &[&layer.label], op, &[Some(x), gain]).map(|v| v[0])
    }

    /// A norm over as many trailing axes as its gain has; over the last one if it has no gain.
    fn layer_norm(&mut self, layer: &Layer, x: ValueId, eps: f32) -> Result<ValueId, Diagnostic> {
        let (weight, bias) = (format!("{}.weight", layer.key), format!("{}.bias", layer.key));
        let rank = self.graph.ty(x).shape.rank();
        let axes = self.parameters.stored(&weight).map_or(1, |g| g.rank()).clamp(1, rank.max(1));
        let mut dims = Vec::new();
        for axis in rank.saturating_sub(axes)..rank {
            dims.push(self.fixed(x, Some(axis))?);
        }
        let gain = self.parameters.optional(&weight, &dims, Draw::AboutOne, true)?;
        let gain = gain.map(|g| self.param(&format!("{}.weight", layer.label), g));
        let shift = self.parameters.optional(&bias, &dims, Draw::Within(0.5), true)?;
        let shift = shift.map(|b| self.param(&format!("{}.bias", layer.label), b));
        // At most the rank, which is small.
        let op = LayerNorm { axis: -(axes as i64), eps };
        self.add_all(&layer.label, &[&layer.label], op, &[Some(x), gain, shift]).map(|v| v[0])
    }

    fn batch_norm(&mut self, layer: &Layer, x: ValueId, eps: f32) -> Result<ValueId, Diagnostic> {
        let dims = [self.fixed(x, Some(1))?];
        let key = |name: &str| format!("{}.{name}", layer.key);
        let mean = self.parameters.required(&key("running_mean"), &dims, Draw::Within(0.5))?;
        let var = self.parameters.required(&key("running_var"), &dims, Draw::AboutOne)?;
        let negative = var.iter::<f32>().and_then(|mut v| v.position(|v| v < 0.0));
        if let Some(index) = negative {
            let name = self.parameters.full_name(&key("running_var"));
            let d = Diagnostic::wrong_input(format!("the variance {} is negative", quoted(&name)));
            return Err(d.found(format!("{} at index {index}", var.to_f64()[index])));
        }
        // Without learned ones the gain is 1 and the shift 0, as in torch.
        let gain = self.parameters.optional(&key("weight"), &dims, Draw::AboutOne, true)?;
        let shift = self.parameters.optional(&key("bias"), &dims, Draw::Within(0.5), true)?;
        let gain = gain.unwrap_or_else(|| Tensor::splat(&dims, 1f32));
        let shift = shift.unwrap_or_else(|| Tensor::splat(&dims, 0f32));
        let mut inputs = vec![x];
        for (name, tensor) in [("weight", gain), ("bias", shift), ("running_mean", mean), ("running_var", var)] {
            inputs.push(self.param(&format!("{}.{name}", layer.label), tensor));
        }
        self.add(&layer.label, &layer.label, BatchNorm { eps }, &inputs)
    }

    fn flatten(&mut self, label: &str, x: ValueId, start: usize) -> Result<ValueId, Diagnostic> {
        if start == 1 {
            return self.add(label, label, Flatten { axis: 1 }, &[x]);
        }
        let dims = &self.graph.ty(x).shape.0;
        let Some((kept, flat)) = dims.split_at_checked(start).filter(|(_, flat)| !flat.is_empty()) else {
            let d = Diagnostic::wrong_input("`start_dim` is one of the dimensions of the input");
            return Err(d.expected(format!("less than {}", dims.len())).found(start));
        };
        let too_large = || Diagnostic::wrong_input("the input is too large to be flattened");
        let flat = Shape(flat.to_vec()).numel().ok_or_else(too_large)?;
        let shape = Shape(kept.iter().cloned().chain([flat]).collect());
        self.add(label, label, Reshape { shape }, &[x])
    }

    fn reshape(&mut self, label: &str, x: ValueId, extents: &[Extent]) -> Result<ValueId, Diagnostic> {
        let ty = self.graph.ty(x).clone();
        let known = Shape(
            extents.iter().filter_map(|e| if let Extent::Known(d) = e { Some(d.clone()) } else { None }).collect(),
        );
        let rest = match (ty.shape.numel(), known.numel()) {
            (Some(all), Some(known)) => all.div_exact(&known),
            _ => None,
        };
        let dims = extents.iter().map(|extent| match extent {
            Extent::Known(dim) => Ok(dim.clone()),
            Extent::Rest => rest.clone().ok_or_else(|| {
                let d = Diagnostic::wrong_input("the sizes of `shape` do not divide the number of elements");
                d.expected(format!("a divisor of the size of {ty}")).found(known.to_string())
            }),
        });
        let shape = Shape(dims.collect::<Result<_, _>>()?);
        self.add(label, label, Reshape { shape }, &[x])
    }
}

fn op_pool(pool: &Pool) -> max_pool2d::Pool {
    max_pool2d::Pool { kernel: pool.kernel, window: pool.window.clone(), ceil: pool.ceil }
}

/// The activation between the layers of a plain network.
pub(super) const RELU: UnaryKind = UnaryKind::Relu;
