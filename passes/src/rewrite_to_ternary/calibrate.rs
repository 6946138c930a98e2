//! What calibration inputs tell: how the float layers answer, what reaches a layer now, and the refit of a layer.

use bitc_ir::eval::{EvalError, eval};
use bitc_ir::{Graph, NodeId, Origin, Tensor, ValueId};

use super::methods::Matrix;
use crate::pass::PassError;

/// The outputs of the float layers for the calibration inputs; empty without any.
pub(super) struct Calibration {
    outputs: Vec<Matrix>,
}

impl Calibration {
    /// Evaluates the float model once.
    pub(super) fn of_float_layers(
        graph: &Graph,
        layers: &[NodeId],
        samples: &[Vec<Tensor>],
    ) -> Result<Self, PassError> {
        let values: Vec<ValueId> = layers.iter().map(|&n| graph.node(n).outputs[0]).collect();
        Ok(Self { outputs: if samples.is_empty() { Vec::new() } else { matrices(graph, &values, samples)? } })
    }

    /// How many rows the layer that sees fewest of them has; `None` without calibration.
    pub(super) fn rows(&self) -> Option<usize> {
        self.outputs.iter().map(|m| m.rows).min()
    }

    /// How layer `position` answered in float.
    pub(super) fn outputs_of(&self, position: usize) -> Option<&Matrix> {
        self.outputs.get(position)
    }

    /// What reaches a layer in the graph as it is now.
    pub(super) fn inputs_now(
        &self,
        graph: &Graph,
        layer: NodeId,
        samples: &[Vec<Tensor>],
    ) -> Result<Option<Matrix>, PassError> {
        let Some(x) = graph.input(layer, 0).filter(|_| !samples.is_empty()) else { return Ok(None) };
        Ok(matrices(graph, &[x], samples)?.pop())
    }
}

/// The rows of some values for all samples, one matrix per value.
fn matrices(graph: &Graph, values: &[ValueId], samples: &[Vec<Tensor>]) -> Result<Vec<Matrix>, PassError> {
    let failed =
        |message: String| PassError::Input { message: format!("calibration: {message}"), origin: Origin::default() };
    let wanted = graph.with_outputs(values);
    let mut found: Vec<Matrix> = Vec::new();
    for inputs in samples {
        let tensors = eval(&wanted, inputs).map_err(|e: EvalError| failed(e.to_string()))?;
        for (i, tensor) in tensors.iter().enumerate() {
            let matrix =
                Matrix::of(tensor).ok_or_else(|| failed("a layer sees values that are not finite".to_owned()))?;
            match found.get_mut(i) {
                None => found.push(matrix),
                Some(all) => {
                    all.rows += matrix.rows;
                    all.values.extend(matrix.values);
                }
            }
        }
    }
    Ok(found)
}

/// A gain and a shift per output that bring what a layer says now closest to what it should say.
pub(super) struct Refit {
    pub(super) gain: Vec<f64>,
    pub(super) shift: Vec<f64>,
    /// The relative error of the outputs without the refit, biases apart, and the one that is left; `None` where the
    /// outputs should be the same for every row.
    pub(super) error: Option<(f64, f64)>,
}

impl Refit {
    /// The least-squares fit of `gain * now + shift` to `wanted`, column by column.
    pub(super) fn of(now: &Matrix, wanted: &Matrix) -> Refit {
        let n = now.rows as f64;
        let (mut gain, mut shift) = (Vec::new(), Vec::new());
        let (mut before, mut after, mut norm) = (0.0, 0.0, 0.0);
        for column in 0..now.columns {
            let pairs = || {
                let at = move |m: &Matrix, r: usize| f64::from(m.values[r * m.columns + column]);
                (0..now.rows).map(move |r| (at(now, r), at(wanted, r)))
            };
            let (sum_x, sum_y) = pairs().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            let (mean_x, mean_y) = (sum_x / n, sum_y / n);
            let (mut xx, mut xy) = (0.0, 0.0);
            for (x, y) in pairs() {
                xx += (x - mean_x) * (x - mean_x);
                xy += (x - mean_x) * (y - mean_y);
            }
            // An output that never moves keeps its gain; the shift alone answers for it.
            let g = if xx > 0.0 { xy / xx } else { 1.0 };
            let s = mean_y - g * mean_x;
            for (x, y) in pairs() {
                before += (x - mean_x - (y - mean_y)).powi(2);
                after += (g * x + s - y).powi(2);
                norm += (y - mean_y).powi(2);
            }
            gain.push(g);
            shift.push(s);
        }
        let relative = |v: f64| (v / norm).sqrt();
        let error = (norm > 0.0).then(|| (relative(before), relative(after)));
        Refit { gain, shift, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refit_finds_the_gain_and_shift_of_each_output() {
        let now = Matrix { rows: 3, columns: 2, values: vec![1.0, 5.0, 2.0, 5.0, 4.0, 5.0] };
        let wanted = Matrix { rows: 3, columns: 2, values: vec![3.0, 7.0, 5.0, 7.0, 9.0, 7.0] };
        let refit = Refit::of(&now, &wanted);
        assert_eq!((refit.gain[0], refit.shift[0]), (2.0, 1.0));
        assert_eq!((refit.gain[1], refit.shift[1]), (1.0, 2.0), "an output that never moves");
        assert!(refit.error.is_some_and(|(before, after)| after < 1e-12 && before > 0.1));
        let still = Matrix { rows: 1, columns: 2, values: vec![3.0, 7.0] };
        assert_eq!(Refit::of(&still, &still).error, None);
    }
}
