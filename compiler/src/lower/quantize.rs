//! Quantised activations.
//!
//! Products of rows want them padded to 64 bytes with the sum of each row; everything else reads them as plain arrays.
//! A quantiser is computed once for each of the two that is asked for, however many nodes read it.

use bitc_format::inst::{self, Granularity, Quantize, QuantizeKind};
use bitc_format::{BufferId, DType, Operand};
use bitc_ir::ops::quantize_act::{Floor, Form, Over};
use bitc_ir::ops::{Op, QuantizeAct};
use bitc_ir::{Dim, Graph, NodeId, Shape, Uses, ValueId};

use super::cx::{Cx, PaddedRows, Refusal};
use super::requantize;

/// `quantize_act`.
pub(super) fn quantize_act(cx: &mut Cx<'_>, id: NodeId, op: &QuantizeAct) -> Result<(), Refusal> {
    if let Some(chain) = cx.chains().ending(id).cloned() {
        return requantize::requantized(cx, id, op, &chain);
    }
    let input = cx.input(id, 0)?;
    let [q, scale] = cx.graph().node(id).outputs[..] else {
        return Err(cx.unsupported(id, "it has not two outputs").into());
    };
    let shape = cx.graph().ty(input).shape.clone();
    let (viewed, granularity) = grouping(op, &shape);
    let x = cx.view(input, &viewed)?;
    let viewed_scale = scale_shape(&viewed, granularity);

    let Readers { padded, plain } = readers(cx.graph(), cx.uses(), q);
    // Rows of a view are not the rows that a product wants.
    let padded_here = padded && viewed == shape;
    let scale_buffer = cx.buffer(DType::F32, &viewed_scale)?;
    let placed = cx.alias(scale_buffer, &cx.graph().ty(scale).shape.clone())?;
    cx.place(scale, placed);
    if padded_here {
        let rows = padded_rows(cx, &shape)?;
        cx.emit(quantizer(op, granularity, x, rows.q, scale_buffer, Some(rows.sums)));
        cx.padded.insert(q, rows);
    }
    if plain || !padded_here {
        let scale_again = if padded_here { cx.buffer(DType::F32, &viewed_scale)? } else { scale_buffer };
        let values = cx.buffer(DType::I8, &viewed)?;
        cx.emit(quantizer(op, granularity, x, values, scale_again, None));
        let placed = cx.alias(values, &shape)?;
        cx.place(q, placed);
    }
    Ok(())
}

/// The rows of quantised values and their sums, as products take them.
pub(super) fn rows_of(cx: &mut Cx<'_>, q: ValueId) -> Result<PaddedRows, Refusal> {
    if let Some(&rows) = cx.padded.get(&q) {
        return Ok(rows);
    }
    // Integers that lie there without padding.
    let values = cx.operand(q)?;
    let shape = cx.graph().ty(q).shape.clone();
    let rows = padded_rows(cx, &shape)?;
    let scale = cx.buffer(DType::F32, &Shape::default())?;
    let op = QuantizeAct { form: Form::Integer, ..QuantizeAct::default() };
    cx.emit(quantizer(&op, Granularity::Tensor, values, rows.q, scale, Some(rows.sums)));
    cx.padded.insert(q, rows);
    Ok(rows)
}

/// Buffers for rows of that shape.
pub(super) fn padded_rows(cx: &mut Cx<'_>, shape: &Shape) -> Result<PaddedRows, Refusal> {
    let q = cx.padded_buffer(DType::I8, shape, 64)?;
    let outer = shape.0.split_last().map(|(_, outer)| outer.to_vec()).unwrap_or_default();
    Ok(PaddedRows { q, sums: cx.buffer(DType::I32, &Shape(outer))? })
}

/// How quantised values are read.
pub(super) struct Readers {
    /// As padded rows.
    pub(super) padded: bool,
    /// As a plain array.
    pub(super) plain: bool,
}

/// Who reads quantised values.
pub(super) fn readers(graph: &Graph, uses: &Uses, q: ValueId) -> Readers {
    let readers = uses.of(q);
    let is_product = |&&id: &&NodeId| {
        let node = graph.node(id);
        let reads = node.inputs.iter().filter(|&&v| v == Some(q)).count();
        matches!(node.op, Op::BitLinear(_)) && node.inputs[0] == Some(q) && reads == 1
    };
    let products = readers.iter().filter(is_product).count();
    Readers { padded: products > 0, plain: products < uses.count(q) }
}

/// The shape under which activations are quantised, and which of their axes share a scale.
fn grouping(op: &QuantizeAct, shape: &Shape) -> (Shape, Granularity) {
    match op.over {
        _ if op.form == Form::Integer => (shape.clone(), Granularity::Tensor),
        Over::Row => (shape.clone(), Granularity::Row),
        Over::Tensor => (shape.clone(), Granularity::Tensor),
        Over::Channel => (shape.clone(), Granularity::Channel),
        // A sample is a row of a matrix of samples.
        Over::Sample => {
            let rest = Shape(shape.0[1..].to_vec()).numel();
            let whole = rest.map(|rest| Shape(vec![shape.0[0].clone(), rest]));
            (whole.unwrap_or_else(|| shape.clone()), Granularity::Row)
        }
    }
}

fn scale_shape(x: &Shape, granularity: Granularity) -> Shape {
    let shared = |axis: usize| match granularity {
        Granularity::Row => axis + 1 == x.rank(),
        Granularity::Tensor => true,
        Granularity::Channel => axis == 1,
    };
    Shape(x.0.iter().enumerate().map(|(i, d)| if shared(i) { Dim::from(1) } else { d.clone() }).collect())
}

/// The instruction of a quantiser. A floor of the largest magnitude is one of the scale:
/// `max(m, eps) / levels == max(m / levels, eps / levels)`, rounded alike since rounding keeps order.
fn quantizer(
    op: &QuantizeAct,
    granularity: Granularity,
    x: Operand,
    q: BufferId,
    scale: BufferId,
    sums: Option<BufferId>,
) -> Quantize {
    let levels = f32::from(op.levels);
    let kind = match op.form {
        Form::Divide => QuantizeKind::Divide,
        Form::Reciprocal => QuantizeKind::Reciprocal,
        Form::Quotient => QuantizeKind::Quotient,
        Form::Integer => QuantizeKind::Integer,
    };
    let (floor, eps) = match (op.form, op.floor) {
        (Form::Reciprocal | Form::Quotient, Floor::ClipMax) => (inst::Floor::None, op.eps),
        (Form::Reciprocal | Form::Quotient | Form::Integer, _) | (Form::Divide, Floor::None) => {
            (inst::Floor::None, 0.0)
        }
        (Form::Divide, Floor::AddToDivisor) => (inst::Floor::Add, op.eps),
        (Form::Divide, Floor::ClipScale) => (inst::Floor::Clip, op.eps),
        (Form::Divide, Floor::ClipMax) => (inst::Floor::Clip, op.eps / levels),
    };
    let (lo, hi) = (i32::from(op.low), i32::from(op.high));
    Quantize { q, scale, sums, x, kind, granularity, floor, eps, levels, lo, hi }
}
