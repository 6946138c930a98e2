//! `ternarize-weights`: finds weights that are ternary by their values.
//!
//! `w == f32(t) * s` with t in {-1, 0, 1}: the weight becomes `dequantize(t, s)`. A model trained with quantisation is
//! imported faithfully here; choosing ternary weights for a float model is another pass. A scale holds for the whole weight,
//! a row, a column, or a group of neighbouring inputs of a row whose size divides the row or is a power of two. Evidence is needed: a quantiser
//! in front of the layer, or the parameter `weight_only`. A tensor of a single value is no ternary weight.
//!
//! Where a quantiser stands in front, weights of more values that are 8-bit integers times a scale, for the whole weight or
//! for a row, are split likewise: `w == f32(i) * s`.

mod grid;

use bitc_ir::ops::Dequantize;
use bitc_ir::{AttrError, AttrReader, DType, Graph, NodeId, Op, Tensor, ValueId};

use crate::integers::is_rounded;
use crate::moves::Moves;
use crate::pass::{Changed, Pass, PassCx, PassError, Values};
use crate::rewrite::{Editor, Miss, Replacement, Rule, rewrite};

/// How far magnitudes of one scale are apart by default, relative to it: the rounding of `f32`.
const TOLERANCE: f32 = 1e-6;

/// The fewest neighbouring inputs that count as a group with a scale of its own.
const SMALLEST_GROUP: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct TernarizeWeights {
    /// How far a magnitude may be from its scale, relative to it.
    tolerance: f64,
    /// Whether a layer counts without a quantiser in front of it.
    weight_only: bool,
}

impl TernarizeWeights {
    pub(crate) const NAME: &'static str = "ternarize-weights";
    pub(crate) const DOC: &'static str =
        "Finds weights that are a scale times -1, 0 or 1, or times 8-bit integers, and splits them into the two.";

    pub(crate) fn from_params(params: &mut AttrReader) -> Result<Self, AttrError> {
        let tolerance = f64::from(params.float("tolerance")?.unwrap_or(TOLERANCE));
        if !(0.0..0.1).contains(&tolerance) {
            return Err(params.invalid("tolerance", "from 0 to 0.1", tolerance));
        }
        Ok(Self { tolerance, weight_only: params.bool("weight_only")?.unwrap_or(false) })
    }
}

impl Pass for TernarizeWeights {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        // A wider tolerance is a choice of other weights.
        if self.tolerance > f64::from(TOLERANCE) { Values::Free } else { Values::Rounding }
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let split = |g: &mut Editor<'_>, node| self.split(g, node);
        rewrite(graph, &[Rule { name: "split", apply: &split }], Self::NAME, cx)
    }
}

impl TernarizeWeights {
    fn split(&self, g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
        let at = g.node(node).clone();
        if !matches!(at.op, Op::Linear(_) | Op::Conv2d(_)) {
            return Err(Miss::NoMatch);
        }
        let (x, w) = (at.inputs[0].ok_or(Miss::NoMatch)?, at.inputs[1].ok_or(Miss::NoMatch)?);
        if g.producer::<Dequantize>(w).is_some() {
            return Err(Miss::NoEffect);
        }
        let Some(tensor) = g.constant(w) else { return Err(Miss::blocked("its weight is not a constant")) };
        let moved = if matches!(at.op, Op::Conv2d(_)) { Moves::of(g, x).map(drop) } else { Err(Miss::NoMatch) };
        let quantized = is_quantized(g, x) || is_rounded(g, x) || moved.is_ok();
        let ternary = split_ternary(tensor, self.tolerance);
        if ternary.is_some() && !self.weight_only && !quantized {
            if let Err(Miss::Blocked(why)) = moved {
                return Err(Miss::Blocked(why));
            }
            return Err(Miss::blocked(
                "its weights are ternary but nothing quantises its activations (see --weight-only)",
            ));
        }
        let split = ternary.or_else(|| if quantized { grid::split_grid(tensor, self.tolerance) } else { None });
        let Some(Split { integers, scale, group }) = split else {
            return Err(Miss::blocked("its weights are not ternary"));
        };
        let name = g.value(w).name.clone();
        let t = g.add_const(&name, integers);
        let s = g.add_const(&format!("{name}.scale"), scale);
        let new = g.add(Dequantize { group }, &[Some(t), Some(s)])?;
        let mut inputs = at.inputs.clone();
        inputs[1] = Some(new);
        Ok(g.add(at.op, &inputs)?.into())
    }
}

/// Whether a value is a dequantised 8-bit integer.
pub(crate) fn is_quantized(g: &Editor<'_>, x: ValueId) -> bool {
    g.producer::<Dequantize>(x).is_some_and(|(n, _)| g.input(n, 0).is_some_and(|q| g.ty(q).dtype == DType::I8))
}

/// A weight as integers times a scale.
struct Split {
    integers: Tensor,
    /// One in all (rank 0), one per row (`[n, 1, ..]`), one per column (`[1, k]`), or one per group of a row.
    scale: Tensor,
    /// How many neighbouring inputs share a scale, where groups of them do; else 0.
    group: usize,
}

/// Splits a weight whose values are ternary; the coarsest scale that fits wins.
///
/// Magnitudes within the tolerance of each other are one scale, their mean.
fn split_ternary(w: &Tensor, tolerance: f64) -> Option<Split> {
    if !may_be_ternary(w, tolerance) {
        return None;
    }
    let values = w.to_vec::<f32>()?;
    let rows = *w.dims().first()?;
    let first = *values.first()?;
    if values.iter().all(|&v| v == first) || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let ternary: Vec<i8> = values.iter().map(|&v| if v > 0.0 { 1 } else { -i8::from(v < 0.0) }).collect();
    let ternary = Tensor::with_dtype(DType::T2, w.dims(), &ternary);
    if let Some(scale) = common_magnitude(values.iter(), tolerance) {
        return Some(Split { integers: ternary, scale: Tensor::scalar(scale), group: 0 });
    }
    let columns = values.len() / rows;
    // One distinct magnitude per row or column proves nothing where it has a single element.
    let mut dims = vec![1; w.rank()];
    dims[0] = rows;
    let by_row = values.chunks(columns).map(|row| common_magnitude(row.iter(), tolerance)).collect::<Option<Vec<_>>>();
    if let Some(scales) = by_row.filter(|_| columns > 1) {
        return Some(Split { integers: ternary, scale: Tensor::new(&dims, &scales), group: 0 });
    }
    if w.rank() != 2 {
        return None;
    }
    let column = |c: usize| common_magnitude(values.iter().skip(c).step_by(columns), tolerance);
    if let Some(scales) = (0..columns).map(column).collect::<Option<Vec<_>>>().filter(|_| rows > 1) {
        return Some(Split { integers: ternary, scale: Tensor::new(&[1, columns], &scales), group: 0 });
    }
    group_sizes(columns).find_map(|group| {
        let groups = values.chunks(columns).flat_map(|row| row.chunks(group));
        let scales: Vec<f32> = groups.map(|part| common_magnitude(part.iter(), tolerance)).collect::<Option<_>>()?;
        let scale = Tensor::new(&[rows, columns.div_ceil(group)], &scales);
        Some(Split { integers: ternary.clone(), scale, group })
    })
}

/// Whether the first values of the first row, or of the first column, share a magnitude, as they do with every kind of
/// scale. What is not ternary is seldom copied to find that out.
fn may_be_ternary(w: &Tensor, tolerance: f64) -> bool {
    let (Some(values), Some(&rows)) = (w.iter::<f32>(), w.dims().first()) else { return false };
    let Some(columns) = values.len().checked_div(rows).filter(|&n| n > 0) else { return false };
    let shared = |values: Vec<f32>| common_magnitude(values.iter(), 3.0 * tolerance).is_some();
    shared(values.clone().take(columns.min(SMALLEST_GROUP)).collect())
        || shared(values.step_by(columns).take(SMALLEST_GROUP).collect())
}

/// The sizes that groups of a row can have, the largest first: what divides a row evenly, and powers of two, which leave
/// a shorter group at its end.
fn group_sizes(columns: usize) -> impl Iterator<Item = usize> {
    let fits = move |&size: &usize| size.is_power_of_two() || columns.is_multiple_of(size);
    (SMALLEST_GROUP..columns).rev().filter(fits)
}

/// The magnitude that all values but the zeros share; 0 where there are only zeros.
fn common_magnitude<'a>(values: impl Iterator<Item = &'a f32> + Clone, tolerance: f64) -> Option<f32> {
    let magnitudes = || values.clone().filter(|v| **v != 0.0).map(|v| f64::from(v.abs()));
    let (count, sum) = magnitudes().fold((0usize, 0.0), |(n, s), v| (n + 1, s + v));
    if count == 0 {
        return Some(0.0);
    }
    let mean = sum / count as f64;
    magnitudes().all(|v| (v - mean).abs() <= tolerance * mean).then_some(mean as f32)
}
