//! The layers that can be rewritten: linear layers and convolutions, both as products of rows by a matrix of weights.
//!
//! The rows of a convolution are its windows, `c * kh * kw` elements in the order of the weights, one for each place of the
//! output; each group of channels is a product of its own. There are many more windows than a fit needs, so of a great
//! number only some are looked at: a drawn one out of each of so many equal stretches.

use bitc_ir::ops::conv2d::Window;
use bitc_ir::ops::quantize_act::{Over, QuantizeAct};
use bitc_ir::ops::{Activation, Conv2d};
use bitc_ir::random::Random;
use bitc_ir::{DType, Dim, Graph, NodeId, Op, Tensor, TypeError};

use super::methods::{Matrix, Plane};

/// The most windows of one set of calibration inputs that are looked at.
const MOST_WINDOWS: usize = 1 << 14;

/// A float layer with constant weights and nothing after the sum yet.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) node: NodeId,
    /// The name by which a user knows it: its origin, else its result.
    pub(super) name: String,
    /// The operation, a linear layer or a convolution.
    pub(super) op: Op,
    /// The dimensions of its weights.
    pub(super) dims: Vec<usize>,
}

impl Target {
    /// The layers of a graph, in its order.
    pub(super) fn all(graph: &Graph) -> Vec<Target> {
        graph.nodes().filter_map(|(id, _)| Self::of(graph, id)).collect()
    }

    fn of(graph: &Graph, node: NodeId) -> Option<Target> {
        let at = graph.node(node);
        let act = match &at.op {
            Op::Linear(op) => op.act,
            Op::Conv2d(op) => op.act,
            _ => return None,
        };
        let constant = |i: usize| graph.input(node, i).and_then(|v| graph.constant(v));
        let no_bias = at.inputs.get(2).copied().flatten().is_none();
        let weights = constant(1).filter(|w| w.dtype() == DType::F32 && w.numel() > 0)?;
        let fits = act == Activation::None && (no_bias || constant(2).is_some());
        let name = at.origin.names().first().cloned().unwrap_or_else(|| graph.value(at.outputs[0]).name.clone());
        fits.then(|| Target { node, name, op: at.op.clone(), dims: weights.dims().to_vec() })
    }

    pub(super) fn is_conv(&self) -> bool {
        matches!(self.op, Op::Conv2d(_))
    }

    /// Whether each output sees a single channel.
    pub(super) fn is_depthwise(&self) -> bool {
        self.groups() > 1 && self.dims.get(1) == Some(&1)
    }

    /// How many products of their own it is made of.
    pub(super) fn groups(&self) -> usize {
        if let Op::Conv2d(op) = &self.op { op.groups } else { 1 }
    }

    /// What the activations in front of it are quantised by: a scale per row, or per image.
    pub(super) fn quantizer(&self) -> QuantizeAct {
        let over = if self.is_conv() { Over::Sample } else { Over::Row };
        QuantizeAct { over, ..QuantizeAct::default() }
    }

    /// Its weights, a row for each output; `None` if some are not finite.
    pub(super) fn weights(&self, graph: &Graph) -> Option<Matrix> {
        let weights = graph.input(self.node, 1).and_then(|v| graph.constant(v))?;
        Matrix::of_rows(weights, *self.dims.first()?)
    }

    /// The integers and the scales of a plane in the dimensions of its weights, the scales times a gain for each output.
    pub(super) fn tensors(&self, plane: &Plane, gains: &[f64]) -> Result<(Tensor, Tensor), TypeError> {
        let scale = plane.scale_tensor(gains);
        let mut dims = scale.dims().to_vec();
        if !dims.is_empty() {
            dims.resize(self.dims.len(), 1);
        }
        let integers = plane.tensor().reshaped(&self.dims);
        let both = integers.zip(scale.reshaped(&dims));
        both.ok_or_else(|| TypeError::new(format!("weights of dimensions {:?}", self.dims), plane.tensor().ty()))
    }

    /// How many inputs of its own a tensor holds that reaches it: rows, or images.
    pub(super) fn inputs_in(&self, x: &Tensor) -> usize {
        let outer = x.dims().len().saturating_sub(if self.is_conv() { 3 } else { 1 });
        x.dims()[..outer].iter().product()
    }

    /// The quantised rows that its products take of an input, a matrix for each group; `None` if some values are not finite.
    pub(super) fn rows_of_input(&self, x: &Tensor) -> Option<Vec<Matrix>> {
        let op = match &self.op {
            Op::Conv2d(op) => op,
            _ => return Some(vec![Matrix::of(x)?.quantized(&self.quantizer())]),
        };
        let images = Images::of(x, &self.quantizer())?;
        let &[_, _, kh, kw] = &self.dims[..] else { return None };
        let size = |axis: usize, kernel: usize| {
            let out = op.window.output(axis, &Dim::from(images.dims[2 + axis]), kernel, false).ok()?;
            out.as_const()
        };
        let out = [size(0, kh)?, size(1, kw)?];
        let at = looked_at(images.dims[0] * out[0] * out[1]);
        Some((0..op.groups).map(|group| images.windows(op, &self.dims, out, group, &at)).collect())
    }

    /// The rows of an output that belong to those of the input; `None` if some values are not finite.
    pub(super) fn rows_of_output(&self, y: &Tensor) -> Option<Matrix> {
        if !self.is_conv() {
            return Matrix::of(y);
        }
        let &[images, outputs, height, width] = y.dims() else { return None };
        let all = Matrix::of_rows(y, images)?;
        let at = looked_at(images * height * width);
        let plane = height * width;
        let mut values = Vec::with_capacity(at.len() * outputs);
        for &i in &at {
            let image = all.row(i / plane);
            values.extend((0..outputs).map(|o| image[o * plane + i % plane]));
        }
        Some(Matrix { rows: at.len(), columns: outputs, values })
    }
}

/// Images, one to a row, and their dimensions.
struct Images {
    pixels: Matrix,
    dims: [usize; 4],
}

impl Images {
    fn of(x: &Tensor, quantizer: &QuantizeAct) -> Option<Images> {
        let dims = <[usize; 4]>::try_from(x.dims()).ok()?;
        Some(Images { pixels: Matrix::of_rows(x, dims[0])?.quantized(quantizer), dims })
    }

    /// The windows at some places of the output, of the channels that a group sees; zeros lie beyond the border.
    fn windows(&self, op: &Conv2d, weights: &[usize], out: [usize; 2], group: usize, at: &[usize]) -> Matrix {
        let [_, _, height, width] = self.dims;
        let (channels, kernel) = (weights[1], [weights[2], weights[3]]);
        let columns = channels * kernel[0] * kernel[1];
        let mut values = Vec::with_capacity(at.len() * columns);
        for &i in at {
            let image = self.pixels.row(i / (out[0] * out[1]));
            let (oy, ox) = (i / out[1] % out[0], i % out[1]);
            let (rows, places) =
                (under(&op.window, 0, oy, kernel[0], height), under(&op.window, 1, ox, kernel[1], width));
            for channel in 0..channels {
                let plane = &image[(group * channels + channel) * height * width..][..height * width];
                for y in &rows {
                    let pixel = |x: &Option<usize>| y.zip(*x).map_or(0.0, |(y, x)| plane[y * width + x]);
                    values.extend(places.iter().map(pixel));
                }
            }
        }
        Matrix { rows: at.len(), columns, values }
    }
}

/// Where the elements of a window lie along one axis; `None` beyond the border.
fn under(window: &Window, axis: usize, out: usize, kernel: usize, input: usize) -> Vec<Option<usize>> {
    (0..kernel).map(|tap| window.position(axis, out, tap, input)).collect()
}

/// Which of so many windows are looked at, in order.
fn looked_at(windows: usize) -> Vec<usize> {
    if windows <= MOST_WINDOWS {
        return (0..windows).collect();
    }
    let mut draw = Random::new(windows as u64);
    let stretch = |i: usize| (i as u128 * windows as u128 / MOST_WINDOWS as u128) as usize;
    (0..MOST_WINDOWS).map(|i| stretch(i) + draw.below((stretch(i + 1) - stretch(i)) as u64) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitc_ir::TensorType;
    use bitc_ir::eval::eval;
    use bitc_ir::random;

    /// A graph of one convolution, and the layer in it.
    fn convolution(op: Conv2d, x: &[usize], w: &[usize]) -> (Graph, Target) {
        let mut graph = Graph::new("g");
        let ty = TensorType::new(DType::F32, bitc_ir::Shape::fixed(x));
        let x = graph.add_input("x", ty);
        let w = graph.add_const("w", random::tensor(DType::F32, w, 2));
        let y = graph.add_node("y", op, &[Some(x), Some(w)]).unwrap();
        graph.add_output("y", y);
        let target = Target::all(&graph).remove(0);
        (graph, target)
    }

    #[test]
    fn windows_times_weights_are_the_convolution() {
        let window = Window { strides: [2, 1], pads: [1, 0, 2, 1], dilations: [1, 2] };
        for (groups, x, w) in
            [(1, [2, 4, 7, 6], [6, 4, 3, 2]), (2, [1, 4, 5, 8], [6, 2, 2, 3]), (4, [3, 4, 4, 4], [4, 1, 1, 1])]
        {
            let op = Conv2d { window: window.clone(), groups, act: Activation::None };
            let (graph, target) = convolution(op, &x, &w);
            // Integers up to 127 in every image are their own quantised values.
            let mut pixels: Vec<f32> =
                random::tensor(DType::I8, &x, 3).to_f64().iter().map(|&v| v.max(-127.0) as f32).collect();
            pixels.chunks_mut(x[1] * x[2] * x[3]).for_each(|image| image[0] = 127.0);
            let x = Tensor::new(&x, &pixels);
            let y = eval(&graph, std::slice::from_ref(&x)).unwrap().remove(0);
            let wanted = target.rows_of_output(&y).unwrap();
            let rows = target.rows_of_input(&x).unwrap();
            let found = target.weights(&graph).unwrap().products_of(&rows);
            assert_eq!((found.rows, found.columns), (wanted.rows, w[0]));
            assert!(found.relative_error(&wanted) < 1e-6, "{groups} {}", found.relative_error(&wanted));
        }
    }

    #[test]
    fn of_many_windows_one_of_each_stretch_is_looked_at() {
        assert_eq!(looked_at(5), [0, 1, 2, 3, 4]);
        let some = looked_at(3 * MOST_WINDOWS + 5);
        assert_eq!(some.len(), MOST_WINDOWS);
        assert!(some.windows(2).all(|pair| pair[0] < pair[1]) && some[MOST_WINDOWS - 1] < 3 * MOST_WINDOWS + 5);
        // Not every third of them, which could be one column of every image.
        assert!([0, 1, 2].iter().all(|&r| some.iter().filter(|&&i| i % 3 == r).count() > MOST_WINDOWS / 4));
    }
}
