//! Recurrent networks, one step after the other: the length of the sequence must be known.

use bitc_ir::ops::{Concat, Expand, MatMul};
use bitc_ir::{Dim, Shape, ValueId};

use super::Rule::With;
use super::elementwise::with_scalar;
use super::layout::part;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::invalid;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("RNN", With(|cx| recurrent(cx, Cell::Rnn))),
    std("GRU", With(|cx| recurrent(cx, Cell::Gru))),
    std("LSTM", With(|cx| recurrent(cx, Cell::Lstm))),
];

/// What a step computes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cell {
    Rnn,
    Gru,
    Lstm,
}

impl Cell {
    /// Parts of the weights.
    fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// The activations, where none are given.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Rnn => &["Tanh"],
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// What holds for all steps of one direction.
struct Direction {
    cell: Cell,
    hidden: usize,
    activations: Vec<String>,
    clip: Option<f32>,
    /// LSTM: the forget gate is what the input gate leaves.
    coupled: bool,
    /// GRU: the reset gate applies to the product.
    reset_after: bool,
    /// `[hidden, gates * hidden]`
    weights: ValueId,
    /// Added to the recurrent product, `[gates * hidden]`.
    bias: Option<ValueId>,
    /// LSTM: what the gates see of the cell, `[3 * hidden]`.
    peepholes: Option<ValueId>,
}

/// The state between steps, each `[batch, hidden]`.
#[derive(Clone, Copy)]
struct State {
    hidden: ValueId,
    cell: ValueId,
}

fn recurrent(cx: &mut NodeCx<'_, '_>, cell: Cell) -> Outputs {
    cx.arity(3, if cell == Cell::Lstm { 8 } else { 6 })?;
    let by_batch = cx.attrs.flag("layout", false)?;
    let hidden = cx.attrs.int("hidden_size")?;
    let direction = cx.attrs.str_or("direction", "forward")?;
    let activations = activations(cx, cell, if direction == "bidirectional" { 2 } else { 1 })?;
    let clip = cx.attrs.float("clip")?;
    let coupled = cell == Cell::Lstm && cx.attrs.flag("input_forget", false)?;
    let reset_after = cell == Cell::Gru && cx.attrs.flag("linear_before_reset", false)?;
    cx.attrs.ignore(&["output_sequence"]);
    let backwards: &[bool] = match direction {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(invalid("direction", "`forward`, `reverse` or `bidirectional`", other)),
    };
    let (mut x, w, r) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    if cx.rank(x) != 3 || cx.rank(w) != 3 || cx.rank(r) != 3 {
        return Err(Cause::Type(format!(
            "tensors of rank 3 expected, found {}, {} and {}",
            cx.ty(x),
            cx.ty(w),
            cx.ty(r)
        )));
    }
    let width = cx.fixed(r, "R")?[2];
    if hidden.is_some_and(|h| usize::try_from(h) != Ok(width)) {
        return Err(invalid("hidden_size", &format!("{width} as in the weights"), hidden.unwrap_or(0)));
    }
    if by_batch {
        x = cx.transpose(x, vec![1, 0, 2])?;
    }
    let dims = cx.dims(x);
    let Some(steps) = dims[0].as_const() else {
        return Err(Cause::OpForm {
            detail: format!("{} over a sequence of symbolic length {}", cx.op, dims[0]),
            hint: Some("bind the length with --dim".into()),
        });
    };
    let batch = dims[1].clone();
    let mut sequences = Vec::new();
    let (mut last_hidden, mut last_cell) = (Vec::new(), Vec::new());
    for (d, &backward) in backwards.iter().enumerate() {
        let w = direction_of(cx, w, d)?;
        let w = cx.transpose(w, vec![1, 0])?;
        let r = direction_of(cx, r, d)?;
        let weights = cx.transpose(r, vec![1, 0])?;
        let mut gates = cx.add(MatMul, &[x, w])?;
        let mut bias = None;
        if let Some(both) = cx.opt(3) {
            let both = direction_of(cx, both, d)?;
            let middle = Dim::from(cell.gates() * width);
            let of_input = part(cx, both, 0, Dim::from(0), middle.clone())?;
            gates = cx.simple("add", &[gates, of_input])?;
            bias = Some(part(cx, both, 0, middle, Dim::from(2 * cell.gates() * width))?);
        }
        let peepholes = cx.opt(7).map(|p| direction_of(cx, p, d)).transpose()?;
        let activations = activations[d * cell.activations().len()..][..cell.activations().len()].to_vec();
        let direction =
            Direction { cell, hidden: width, activations, clip, coupled, reset_after, weights, bias, peepholes };
        let mut state = State {
            hidden: initial(cx, 5, d, by_batch, &batch, width)?,
            cell: initial(cx, 6, d, by_batch, &batch, width)?,
        };
        let mut outputs = vec![state.hidden; steps];
        let order: Vec<usize> = if backward { (0..steps).rev().collect() } else { (0..steps).collect() };
        for t in order {
            let now = part(cx, gates, 0, Dim::from(t), Dim::from(t + 1))?;
            let now = cx.reshape(now, vec![batch.clone(), Dim::from(cell.gates() * width)])?;
            let next = direction.step(cx, now, state)?;
            (state, outputs[t]) = masked(cx, t, state, next, &batch)?;
        }
        let mut stacked = Vec::new();
        for y in outputs {
            stacked.push(cx.reshape(y, vec![Dim::from(1), Dim::from(1), batch.clone(), Dim::from(width)])?);
        }
        sequences.push(if steps == 0 {
            let shape = Shape(vec![Dim::from(0), Dim::from(1), batch.clone(), Dim::from(width)]);
            let zero = cx.scalar(cx.dtype(x), 0.0)?;
            cx.add(Expand { shape }, &[zero])?
        } else {
            cx.add(Concat { axis: 0 }, &stacked)?
        });
        for (list, value) in [(&mut last_hidden, state.hidden), (&mut last_cell, state.cell)] {
            list.push(cx.reshape(value, vec![Dim::from(1), batch.clone(), Dim::from(width)])?);
        }
    }
    let mut y = cx.add(Concat { axis: 1 }, &sequences)?;
    let (mut h, mut c) = (cx.add(Concat { axis: 0 }, &last_hidden)?, cx.add(Concat { axis: 0 }, &last_cell)?);
    if by_batch {
        y = cx.transpose(y, vec![2, 0, 1, 3])?;
        h = cx.transpose(h, vec![1, 0, 2])?;
        c = cx.transpose(c, vec![1, 0, 2])?;
    }
    Ok(if cell == Cell::Lstm { vec![y, h, c] } else { vec![y, h] })
}

/// The names of the activations for all directions.
fn activations(cx: &mut NodeCx<'_, '_>, cell: Cell, directions: usize) -> Result<Vec<String>, Cause> {
    let given = cx.attrs.strs("activations")?;
    let has_parameters = cx.attrs.floats("activation_alpha")?.is_some() | cx.attrs.floats("activation_beta")?.is_some();
    let Some(given) = given.filter(|names| !names.is_empty()) else {
        return Ok(cell.activations().repeat(directions).into_iter().map(str::to_owned).collect());
    };
    if given.len() != cell.activations().len() * directions {
        let expected = format!("{} names", cell.activations().len() * directions);
        return Err(invalid("activations", &expected, given.len()));
    }
    for name in &given {
        let plain = ["sigmoid", "tanh", "relu", "softsign", "softplus"].contains(&name.to_ascii_lowercase().as_str());
        if !plain || has_parameters {
            return Err(unsupported(format!("the activation {name} of {}, or its parameters,", cx.op)));
        }
    }
    Ok(given)
}

/// The part of a tensor that belongs to one direction, without that axis.
fn direction_of(cx: &mut NodeCx<'_, '_>, x: ValueId, direction: usize) -> Result<ValueId, Cause> {
    let dims = cx.dims(x);
    let one = part(cx, x, 0, Dim::from(direction), Dim::from(direction + 1))?;
    cx.reshape(one, dims[1..].to_vec())
}

/// The state before the first step: input `i`, or zeros.
fn initial(
    cx: &mut NodeCx<'_, '_>,
    i: usize,
    direction: usize,
    by_batch: bool,
    batch: &Dim,
    width: usize,
) -> Result<ValueId, Cause> {
    if let Some(mut state) = cx.opt(i) {
        if by_batch {
            state = cx.transpose(state, vec![1, 0, 2])?;
        }
        return direction_of(cx, state, direction);
    }
    let zero = cx.scalar(cx.dtype(cx.input(0)?), 0.0)?;
    cx.add(Expand { shape: Shape(vec![batch.clone(), Dim::from(width)]) }, &[zero])
}

/// The state after step `t` and the output of that step: behind the end of its sequence a sample keeps its state and
/// puts out zeros.
fn masked(cx: &mut NodeCx<'_, '_>, t: usize, old: State, new: State, batch: &Dim) -> Result<(State, ValueId), Cause> {
    let Some(lengths) = cx.opt(4) else { return Ok((new, new.hidden)) };
    let lengths = cx.reshape(lengths, vec![batch.clone(), Dim::from(1)])?;
    let inside = with_scalar(cx, "greater", lengths, t as f64)?;
    let zero = cx.scalar(cx.dtype(new.hidden), 0.0)?;
    let output = cx.simple("where", &[inside, new.hidden, zero])?;
    let hidden = cx.simple("where", &[inside, new.hidden, old.hidden])?;
    let cell = if new.cell == old.cell { new.cell } else { cx.simple("where", &[inside, new.cell, old.cell])? };
    Ok((State { hidden, cell }, output))
}

impl Direction {
    /// One step; `now` is the product of the input with the weights of all gates.
    fn step(&self, cx: &mut NodeCx<'_, '_>, now: ValueId, state: State) -> Result<State, Cause> {
        let mut seen = cx.add(MatMul, &[state.hidden, self.weights])?;
        if let Some(bias) = self.bias {
            seen = cx.simple("add", &[seen, bias])?;
        }
        match self.cell {
            Cell::Rnn => {
                let sum = cx.simple("add", &[now, seen])?;
                Ok(State { hidden: self.activate(cx, 0, sum)?, ..state })
            }
            Cell::Gru => self.gru(cx, now, seen, state),
            Cell::Lstm => self.lstm(cx, now, seen, state),
        }
    }

    /// The part of one gate.
    fn gate(&self, cx: &mut NodeCx<'_, '_>, x: ValueId, gate: usize) -> Result<ValueId, Cause> {
        let axis = cx.rank(x) - 1;
        part(cx, x, axis, Dim::from(gate * self.hidden), Dim::from((gate + 1) * self.hidden))
    }

    fn activate(&self, cx: &mut NodeCx<'_, '_>, which: usize, mut x: ValueId) -> Result<ValueId, Cause> {
        if let Some(clip) = self.clip {
            let bounds = [-clip, clip].map(|bound| cx.scalar(cx.dtype(x), f64::from(bound)));
            let [low, high] = bounds;
            x = cx.add(bitc_ir::ops::Clip, &[x, low?, high?])?;
        }
        match self.activations[which].to_ascii_lowercase().as_str() {
            "softsign" => {
                let magnitude = cx.simple("abs", &[x])?;
                let divisor = with_scalar(cx, "add", magnitude, 1.0)?;
                cx.simple("div", &[x, divisor])
            }
            name => cx.simple(name, &[x]),
        }
    }

    fn gru(&self, cx: &mut NodeCx<'_, '_>, now: ValueId, seen: ValueId, state: State) -> Result<State, Cause> {
        let mut gates = Vec::new();
        for gate in 0..2 {
            let (a, b) = (self.gate(cx, now, gate)?, self.gate(cx, seen, gate)?);
            let sum = cx.simple("add", &[a, b])?;
            gates.push(self.activate(cx, 0, sum)?);
        }
        let (update, reset) = (gates[0], gates[1]);
        let own = self.gate(cx, now, 2)?;
        let recurrent = if self.reset_after {
            let product = self.gate(cx, seen, 2)?;
            cx.simple("mul", &[reset, product])?
        } else {
            let kept = cx.simple("mul", &[reset, state.hidden])?;
            let weights = self.gate(cx, self.weights, 2)?;
            let product = cx.add(MatMul, &[kept, weights])?;
            match self.bias {
                Some(bias) => {
                    let bias = self.gate(cx, bias, 2)?;
                    cx.simple("add", &[product, bias])?
                }
                None => product,
            }
        };
        let sum = cx.simple("add", &[own, recurrent])?;
        let candidate = self.activate(cx, 1, sum)?;
        let one = cx.scalar(cx.dtype(update), 1.0)?;
        let rest = cx.simple("sub", &[one, update])?;
        let new = cx.simple("mul", &[rest, candidate])?;
        let old = cx.simple("mul", &[update, state.hidden])?;
        Ok(State { hidden: cx.simple("add", &[new, old])?, ..state })
    }

    fn lstm(&self, cx: &mut NodeCx<'_, '_>, now: ValueId, seen: ValueId, state: State) -> Result<State, Cause> {
        let sums = cx.simple("add", &[now, seen])?;
        // Gates lie in the order input, output, forget, cell; peepholes in that of the first three.
        let gate = |cx: &mut NodeCx<'_, '_>, which: usize, cell: ValueId| -> Result<ValueId, Cause> {
            let mut sum = self.gate(cx, sums, which)?;
            if let Some(peepholes) = self.peepholes {
                let peephole = self.gate(cx, peepholes, which)?;
                let view = cx.simple("mul", &[peephole, cell])?;
                sum = cx.simple("add", &[sum, view])?;
            }
            self.activate(cx, 0, sum)
        };
        let input = gate(cx, 0, state.cell)?;
        let forget = if self.coupled {
            let one = cx.scalar(cx.dtype(input), 1.0)?;
            cx.simple("sub", &[one, input])?
        } else {
            gate(cx, 2, state.cell)?
        };
        let candidate = self.gate(cx, sums, 3)?;
        let candidate = self.activate(cx, 1, candidate)?;
        let kept = cx.simple("mul", &[forget, state.cell])?;
        let added = cx.simple("mul", &[input, candidate])?;
        let cell = cx.simple("add", &[kept, added])?;
        let output = gate(cx, 1, cell)?;
        let shown = self.activate(cx, 2, cell)?;
        Ok(State { hidden: cx.simple("mul", &[output, shown])?, cell })
    }
}
