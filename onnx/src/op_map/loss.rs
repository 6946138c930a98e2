//! Losses, by their definitions.

use bitc_ir::ops::{Gather, GatherElements, Reduce, reduce::ReduceKind};
use bitc_ir::{DType, Dim, ValueId};

use super::Rule::With;
use super::norm::softmax_of;
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::invalid;
use crate::import::node::{NodeCx, Outputs};

pub(super) const TABLE: &[Entry] = &[
    std("NegativeLogLikelihoodLoss", With(negative_log_likelihood)),
    std("SoftmaxCrossEntropyLoss", With(softmax_cross_entropy)),
];

fn negative_log_likelihood(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let x = cx.input(0)?;
    Ok(vec![likelihood_loss(cx, x)?])
}

fn softmax_cross_entropy(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 3)?;
    let scores = cx.input(0)?;
    let logs = softmax_of(cx, scores, 1, true)?;
    Ok(vec![likelihood_loss(cx, logs)?, logs])
}

/// `-x[n, target[n, ..], ..]`, weighted by class and reduced; targets equal to `ignore_index` have no weight.
fn likelihood_loss(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Cause> {
    let reduction = cx.attrs.str_or("reduction", "mean")?;
    let ignored = cx.attrs.int("ignore_index")?;
    let (mut target, weights) = (cx.input(1)?, cx.opt(2));
    let dtype = cx.dtype(x);
    let mut factor = None;
    let mut kept = None;
    if let Some(ignored) = ignored {
        let marker = cx.scalar(cx.dtype(target), ignored as f64)?;
        let zero = cx.scalar(cx.dtype(target), 0.0)?;
        let differs = cx.simple("not_equal", &[target, marker])?;
        target = cx.simple("where", &[differs, target, zero])?;
        kept = Some(differs);
    }
    if let Some(weights) = weights {
        factor = Some(cx.add(Gather { axis: 0 }, &[weights, target])?);
    }
    if let Some(kept) = kept {
        let mask = cx.cast(kept, dtype)?;
        factor = Some(match factor {
            Some(weight) => cx.simple("mul", &[weight, mask])?,
            None => mask,
        });
    }
    let flat = cx.dims(target);
    let mut dims = flat.clone();
    dims.insert(1.min(flat.len()), Dim::from(1));
    let indices = cx.reshape(target, dims)?;
    let picked = cx.add(GatherElements { axis: 1 }, &[x, indices])?;
    let picked = cx.reshape(picked, flat)?;
    let mut loss = cx.simple("neg", &[picked])?;
    if let Some(factor) = factor {
        loss = cx.simple("mul", &[loss, factor])?;
    }
    let all = |cx: &mut NodeCx<'_, '_>, kind, v| cx.add(Reduce { kind, axes: Vec::new(), keep: false }, &[v]);
    match (reduction, factor) {
        ("none", _) => Ok(loss),
        ("sum", _) => all(cx, ReduceKind::Sum, loss),
        ("mean", None) => all(cx, ReduceKind::Mean, loss),
        ("mean", Some(factor)) => {
            let (total, weight) = (all(cx, ReduceKind::Sum, loss)?, all(cx, ReduceKind::Sum, factor)?);
            cx.simple("div", &[total, weight])
        }
        (other, _) => Err(invalid("reduction", "`none`, `sum` or `mean`", other)),
    }
}

/// A float type for accumulations: halves are widened.
pub(super) fn accumulator(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}
