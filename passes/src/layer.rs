//! The four layers (linear, conv2d and their bit forms) seen as one thing, for the passes that fold into them.

use bitc_ir::ops::Activation;
use bitc_ir::{Graph, NodeId, Op, Tensor, ValueId};

use crate::rewrite::{Editor, Miss};

/// A layer: something with weights, an optional bias per output, and an activation.
pub(crate) struct Layer {
    op: Op,
    inputs: Vec<Option<ValueId>>,
    /// The position of the input that is multiplied into every sum of one output: weights, or the scale of a bit layer.
    gain_at: usize,
    bias_at: usize,
    /// The axis of the output that counts outputs.
    axis: usize,
    /// The number of outputs.
    outputs: usize,
}

impl Layer {
    /// The layer that a node is.
    pub(crate) fn of(graph: &Graph, node: NodeId) -> Option<Layer> {
        let at = graph.node(node);
        let rank = graph.ty(at.outputs[0]).shape.rank();
        let (gain_at, bias_at, axis) = match at.op {
            Op::Linear(_) => (1, 2, rank - 1),
            Op::Conv2d(_) => (1, 2, 1),
            Op::BitLinear(_) => (3, 4, rank - 1),
            Op::BitConv2d(_) => (3, 4, 1),
            _ => return None,
        };
        let outputs = graph.ty(at.outputs[0]).shape.0[axis].as_const()?;
        Some(Layer { op: at.op.clone(), inputs: at.inputs.clone(), gain_at, bias_at, axis, outputs })
    }

    /// The layer that defines a value which nobody else reads.
    pub(crate) fn only_for(editor: &Editor<'_>, value: ValueId) -> Result<Layer, Miss> {
        let producer = editor.producer_id(value).ok_or(Miss::NoMatch)?;
        let layer = Layer::of(editor, producer).ok_or(Miss::NoMatch)?;
        if editor.only_use(value) {
            Ok(layer)
        } else {
            Err(Miss::blocked("the result of the layer is also used elsewhere"))
        }
    }

    /// The activation.
    pub(crate) fn act(&self) -> Activation {
        match &self.op {
            Op::Linear(op) => op.act,
            Op::Conv2d(op) => op.act,
            Op::BitLinear(op) => op.act,
            Op::BitConv2d(op) => op.act,
            _ => Activation::None,
        }
    }

    /// Whether nothing happens to the sums after the bias.
    pub(crate) fn expect_no_act(&self) -> Result<(), Miss> {
        match self.act() {
            Activation::None => Ok(()),
            _ => Err(Miss::blocked("the layer already applies an activation")),
        }
    }

    /// The name of an input, for the constants a pass derives from it.
    fn name_of(&self, graph: &Graph, input: usize) -> String {
        self.inputs[input].map_or_else(String::new, |v| graph.value(v).name.clone())
    }

    /// A constant that broadcasts to the output, as one number per output; `None` if it differs within an output.
    pub(crate) fn per_output(&self, graph: &Graph, value: ValueId, rank: usize) -> Option<Vec<f32>> {
        let tensor = graph.constant(value)?;
        let values = tensor.to_vec::<f32>()?;
        if let [one] = values[..] {
            return (tensor.rank() <= rank).then(|| vec![one; self.outputs]);
        }
        let axis = (self.axis + tensor.rank()).checked_sub(rank)?;
        let other_axes_are_one =
            tensor.dims().iter().enumerate().all(|(i, &d)| d == if i == axis { self.outputs } else { 1 });
        other_axes_are_one.then_some(values)
    }

    /// The same layer with another activation.
    pub(crate) fn add_with_act(self, editor: &mut Editor<'_>, act: Activation) -> Result<ValueId, Miss> {
        let mut op = self.op;
        match &mut op {
            Op::Linear(op) => op.act = act,
            Op::Conv2d(op) => op.act = act,
            Op::BitLinear(op) => op.act = act,
            Op::BitConv2d(op) => op.act = act,
            _ => return Err(Miss::NoMatch),
        }
        editor.add(op, &self.inputs)
    }

    /// The layer that computes `gain[o] * y + shift[o]` for this layer's `y`; both have one number per output.
    ///
    /// Products and sums are taken in f64 and rounded once.
    pub(crate) fn add_affine(mut self, editor: &mut Editor<'_>, gain: &[f64], shift: &[f64]) -> Result<ValueId, Miss> {
        self.expect_no_act()?;
        let numbers = gain.iter().chain(shift).map(|&v| v as f32);
        expect_finite(&numbers.collect::<Vec<_>>())?;
        if gain.iter().any(|&g| g != 1.0) {
            let old = self.inputs[self.gain_at].ok_or(Miss::NoMatch)?;
            let folded = self.scaled_gain(
                editor.constant(old).ok_or_else(|| Miss::blocked("its weights are not constant"))?,
                gain,
            )?;
            let name = self.name_of(editor, self.gain_at);
            self.inputs[self.gain_at] = Some(editor.add_const(&name, folded));
        }
        let bias = match self.inputs.get(self.bias_at).copied().flatten() {
            None => vec![0.0; self.outputs],
            Some(old) => editor.constant(old).ok_or_else(|| Miss::blocked("its bias is not constant"))?.to_f64(),
        };
        let had_bias = self.inputs.get(self.bias_at).copied().flatten();
        if had_bias.is_some() || shift.iter().any(|&s| s != 0.0) {
            let folded: Vec<f32> = bias.iter().zip(gain).zip(shift).map(|((b, g), s)| (b * g + s) as f32).collect();
            expect_finite(&folded)?;
            // The weights stand right before the bias, or before the scale that does.
            let weights = self.gain_at.min(2);
            let bias_name = match had_bias {
                Some(v) => editor.value(v).name.clone(),
                None => format!("{}.bias", self.name_of(editor, weights)),
            };
            let folded = editor.add_const(&bias_name, Tensor::new(&[self.outputs], &folded));
            self.inputs.resize(self.bias_at, None);
            self.inputs.push(Some(folded));
        }
        editor.add(self.op, &self.inputs)
    }

    fn scaled_gain(&self, old: &Tensor, gain: &[f64]) -> Result<Tensor, Miss> {
        let values = old.to_vec::<f32>().ok_or(Miss::NoMatch)?;
        let scaled = |v: f32, g: f64| (f64::from(v) * g) as f32;
        // One scale for all outputs stays one if the gain is the same for all.
        if let ([one], [first, ..]) = (&values[..], gain)
            && old.rank() == 0
        {
            let folded: Vec<f32> = gain.iter().map(|&g| scaled(*one, g)).collect();
            expect_finite(&folded)?;
            let same = gain.iter().all(|g| g == first);
            return Ok(if same { Tensor::scalar(folded[0]) } else { Tensor::new(&[self.outputs], &folded) });
        }
        let per_output = values.len().checked_div(self.outputs).unwrap_or(0);
        let folded: Vec<f32> = values.iter().enumerate().map(|(i, &v)| scaled(v, gain[i / per_output])).collect();
        expect_finite(&folded)?;
        Ok(Tensor::new(old.dims(), &folded))
    }
}

/// Whether `f32` holds what was folded.
fn expect_finite(folded: &[f32]) -> Result<(), Miss> {
    match folded.iter().all(|v| v.is_finite()) {
        true => Ok(()),
        false => Err(Miss::blocked("the folded numbers would not be finite")),
    }
}
