//! What calibration inputs tell: how the float layers answer, what reaches a layer now, and the refit of a layer.

use bitc_ir::eval::{EvalError, Flow, eval_with};
use bitc_ir::{Graph, Origin, Tensor};

use super::methods::Matrix;
use super::target::Target;
use crate::pass::PassError;

/// The outputs of the float layers for the calibration inputs, and these on their way through the rewritten graph.
pub(super) struct Calibration {
    outputs: Vec<Matrix>,
    flows: Vec<Flow>,
    rows: Option<usize>,
}

impl Calibration {
    /// Evaluates the float model once; nothing is known without calibration inputs.
    pub(super) fn of_float_layers(
        graph: &Graph,
        targets: &[Target],
        samples: &[Vec<Tensor>],
    ) -> Result<Self, PassError> {
        let values: Vec<_> = targets.iter().map(|t| graph.node(t.node).outputs[0]).collect();
        let wanted = graph.with_outputs(&values);
        let mut outputs: Vec<Option<Matrix>> = targets.iter().map(|_| None).collect();
        let mut rows = vec![0; targets.len()];
        for inputs in samples {
            let mut all_finite = true;
            let mut tap = |node, found: &mut [Tensor]| {
                let at = targets.iter().position(|t| t.node == node);
                let Some((i, y)) = at.zip(found.first()) else { return };
                rows[i] += targets[i].inputs_in(y);
                match targets[i].rows_of_output(y) {
                    Some(matrix) => append(&mut outputs[i], matrix),
                    None => all_finite = false,
                }
            };
            eval_with(&wanted, inputs, &mut tap).map_err(failed)?;
            if !all_finite {
                return Err(not_finite());
            }
        }
        let flows = samples.iter().map(|inputs| Flow::new(graph, inputs)).collect::<Result<_, _>>().map_err(failed)?;
        let rows = rows.into_iter().min().filter(|_| !samples.is_empty());
        Ok(Self { outputs: outputs.into_iter().flatten().collect(), flows, rows })
    }

    /// How many rows or images the layer that sees fewest of them has; `None` without calibration.
    pub(super) fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// How layer `position` answered in float.
    pub(super) fn outputs_of(&self, position: usize) -> Option<&Matrix> {
        self.outputs.get(position)
    }

    /// The quantised rows that reach a layer in the graph as it is now, a matrix for each group of its channels; `None`
    /// without calibration.
    pub(super) fn inputs_now(&mut self, graph: &Graph, target: &Target) -> Result<Option<Vec<Matrix>>, PassError> {
        let Some(x) = graph.input(target.node, 0) else { return Ok(None) };
        let mut all: Vec<Option<Matrix>> = (0..target.groups()).map(|_| None).collect();
        for flow in &mut self.flows {
            let x = flow.value(graph, x).map_err(failed)?;
            let groups = target.rows_of_input(&x).ok_or_else(not_finite)?;
            all.iter_mut().zip(groups).for_each(|(all, rows)| append(all, rows));
        }
        Ok(all.into_iter().collect())
    }
}

/// Puts rows below others.
fn append(all: &mut Option<Matrix>, more: Matrix) {
    match all {
        None => *all = Some(more),
        Some(all) => {
            all.rows += more.rows;
            all.values.extend(more.values);
        }
    }
}

fn failed(error: EvalError) -> PassError {
    PassError::Input { message: format!("calibration: {error}"), origin: Origin::default() }
}

fn not_finite() -> PassError {
    let message = "calibration: a layer sees values that are not finite".to_owned();
    PassError::Input { message, origin: Origin::default() }
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
