//! Float products, and products by weights that are stored in few bits.

use bitc_ir::ops::{Conv2d, Einsum, Linear};
use bitc_ir::{DType, Op, Tensor};
use bytes::Bytes;

use super::convert::{attr_int, attr_sizes, attr_str, raw};
use super::cx::{Cx, Names, No, no};
use super::elementwise::activation;
use super::pack::{packed, transposed};
use super::{Form, bodies};
use crate::proto::{AttributeProto, data_type};

pub(super) fn linear(cx: &mut Cx<'_, '_>, op: &Linear) -> Names {
    let (x, bias) = (cx.input(0)?, cx.opt(2)?);
    let rank = cx.ty(0)?.shape.rank();
    let y = match stored_weights(cx, 1) {
        Some(weights) if matches!(cx.form(), Form::Qdq | Form::Ort) => {
            let y = stored_matmul(cx, &x, &weights)?;
            if bias.is_empty() { y } else { cx.op("Add", &[&y, &bias], Vec::new()) }
        }
        _ if rank == 2 => {
            let w = cx.input(1)?;
            cx.op("Gemm", &[&x, &w, &bias], vec![attr_int("transB", 1)])
        }
        _ => {
            let w = cx.input(1)?;
            let w = cx.op("Transpose", &[&w], vec![super::convert::attr_ints("perm", &[1, 0])]);
            let y = cx.op("MatMul", &[&x, &w], Vec::new());
            if bias.is_empty() { y } else { cx.op("Add", &[&y, &bias], Vec::new()) }
        }
    };
    Ok(vec![activation(cx, op.act, y)])
}

pub(super) fn matmul(cx: &mut Cx<'_, '_>) -> Names {
    let dtype = cx.ty(0)?.dtype;
    match dtype {
        DType::I8 | DType::U8 if cx.ty(1)?.dtype == dtype => {
            return no(format!("a product of {dtype} by {dtype} with a result of {dtype}"));
        }
        DType::I16 | DType::U16 => return no(format!("a product of {dtype}")),
        _ => {}
    }
    cx.same("MatMul")
}

pub(super) fn einsum(cx: &mut Cx<'_, '_>, op: &Einsum) -> Names {
    let inputs = (0..cx.node.inputs.len()).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Ok(vec![cx.op("Einsum", &inputs, vec![attr_str("equation", &op.equation)])])
}

pub(super) fn conv2d(cx: &mut Cx<'_, '_>, op: &Conv2d) -> Names {
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.opt(2)?);
    let y = cx.op("Conv", &[&x, &w, &bias], conv_attrs(op));
    Ok(vec![activation(cx, op.act, y)])
}

/// The attributes of a convolution.
pub(super) fn conv_attrs(op: &Conv2d) -> Vec<AttributeProto> {
    vec![
        attr_sizes("strides", &op.window.strides),
        attr_sizes("pads", &op.window.pads),
        attr_sizes("dilations", &op.window.dilations),
        attr_int("group", op.groups as i64),
    ]
}

/// Weights of a fully connected layer as small integers with a scale.
pub(super) struct Stored {
    /// Row-major `[outputs, inputs]`.
    pub(super) weights: Vec<i8>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Whether all weights are -1, 0 or 1.
    pub(super) ternary: bool,
    /// One per output, or one in all; with groups one per output and group.
    pub(super) scale: Vec<f32>,
    /// How many inputs share a scale; 0 for all of an output.
    pub(super) group: usize,
    /// What constants are called after.
    pub(super) hint: String,
}

impl Stored {
    fn scale_of(&self, output: usize) -> f32 {
        if self.scale.len() == 1 { self.scale[0] } else { self.scale[output] }
    }

    /// The scale of every output, where inputs share one.
    fn scales(&self) -> Vec<f32> {
        (0..self.outputs).map(|n| self.scale_of(n)).collect()
    }

    /// One scale per block of inputs and output, block by block.
    fn block_scales(&self, block: usize) -> Tensor {
        let blocks = self.inputs.div_ceil(block);
        let scales =
            if self.group > 0 { transposed(&self.scale, self.outputs, blocks) } else { self.scales().repeat(blocks) };
        Tensor::new(&[blocks, self.outputs], &scales)
    }
}

/// The weights of a layer that are a constant of ternary numbers times a scale per row.
fn stored_weights(cx: &Cx<'_, '_>, i: usize) -> Option<Stored> {
    let graph = cx.w.graph;
    let node = graph.node(graph.producer_id(cx.value(i)?)?);
    if !matches!(node.op, Op::Dequantize(_)) {
        return None;
    }
    let (q, scale) = (node.inputs.first().copied()??, node.inputs.get(1).copied()??);
    let (tensor, scales) = (graph.constant(q)?, graph.constant(scale)?);
    let &[outputs, inputs] = tensor.dims() else { return None };
    let group = if let Op::Dequantize(op) = &node.op { op.group } else { 0 };
    let per_row = group > 0 || matches!(scales.dims(), &[n, 1] if n == outputs) || scales.numel() == 1;
    if tensor.dtype() != DType::T2 || !per_row || outputs * inputs == 0 {
        return None;
    }
    let (weights, scale) = (tensor.to_vec::<i8>()?, scales.to_vec::<f32>()?);
    Some(Stored { weights, outputs, inputs, ternary: true, scale, group, hint: graph.value(q).name.clone() })
}

/// Weights that share a scale, counted along the inputs: what engines have kernels for.
const BLOCK: usize = 128;

/// The sizes of blocks that `MatMulNBits` takes.
const MATMUL_BLOCKS: [usize; 5] = [16, 32, 64, 128, 256];

/// The product of floats by stored weights, in the operators of the form.
pub(super) fn stored_matmul(cx: &mut Cx<'_, '_>, x: &str, w: &Stored) -> Result<String, No> {
    if cx.form() == Form::Ort && w.ternary && (w.group == 0 || MATMUL_BLOCKS.contains(&w.group)) {
        return Ok(matmul_n_bits(cx, x, w));
    }
    let columns = transposed(&w.weights, w.outputs, w.inputs);
    let dims = [w.inputs, w.outputs];
    let weights = if w.group > 0 || (w.ternary && w.inputs >= BLOCK) {
        let block = if w.group > 0 { w.group } else { BLOCK };
        let axis = vec![attr_int("axis", 0), attr_int("block_size", block as i64)];
        dequantized(cx, &columns, &dims, w.ternary, &w.block_scales(block), axis, &w.hint)
    } else {
        let scale = Tensor::new(&[w.outputs], &w.scales());
        dequantized(cx, &columns, &dims, w.ternary, &scale, vec![attr_int("axis", 1)], &w.hint)
    };
    Ok(cx.op("MatMul", &[x, &weights], Vec::new()))
}

/// A constant of small integers through `DequantizeLinear`.
pub(super) fn dequantized(
    cx: &mut Cx<'_, '_>,
    values: &[i8],
    dims: &[usize],
    ternary: bool,
    scale: &Tensor,
    attrs: Vec<AttributeProto>,
    hint: &str,
) -> String {
    // onnxruntime 1.31 takes rows of 2-bit weights that do not fill whole bytes for rows that do.
    let fills_bytes = dims.last().is_none_or(|&row| row % 4 == 0);
    let (r#type, width) = match ternary {
        true if cx.opset() >= 25 && fills_bytes => (data_type::INT2, 2),
        true => (data_type::INT4, 4),
        false => (data_type::INT8, 8),
    };
    let bytes = if width == 8 {
        values.iter().map(|v| v.cast_unsigned()).collect()
    } else {
        packed(values.iter().map(|v| v.cast_unsigned() & ((1 << width) - 1)), width)
    };
    let weights = cx.s().constant(hint, raw(r#type, dims, Bytes::from(bytes)));
    let scale = cx.s().tensor_as(&scale_hint(hint), scale);
    cx.op("DequantizeLinear", &[&weights, &scale], attrs)
}

fn scale_hint(hint: &str) -> String {
    if hint.is_empty() { "scale".into() } else { format!("{hint}.scale") }
}

/// `com.microsoft::MatMulNBits`: rows of blocks of two-bit codes, zero point 1.
fn matmul_n_bits(cx: &mut Cx<'_, '_>, x: &str, w: &Stored) -> String {
    let block = if w.group > 0 { w.group } else { w.inputs.next_power_of_two().clamp(16, BLOCK) };
    let blocks = w.inputs.div_ceil(block);
    let mut bytes = Vec::new();
    for row in w.weights.chunks_exact(w.inputs) {
        let padding = std::iter::repeat_n(1u8, blocks * block - w.inputs);
        bytes.extend(packed(row.iter().map(|v| (v + 1).cast_unsigned()).chain(padding), 2));
    }
    let scales = if w.group > 0 {
        w.scale.clone()
    } else {
        w.scales().iter().flat_map(|&s| std::iter::repeat_n(s, blocks)).collect()
    };
    // The zero point 1 four times in a byte.
    let zeros = vec![0x55u8; w.outputs * blocks.div_ceil(4)];
    let weights = cx.s().constant(&w.hint, raw(data_type::UINT8, &[w.outputs, blocks, block / 4], Bytes::from(bytes)));
    let scales = cx.s().tensor_as(&scale_hint(&w.hint), &Tensor::new(&[w.outputs * blocks], &scales));
    let zeros = cx.s().tensor(&Tensor::new(&[zeros.len()], &zeros));
    let attrs = vec![
        attr_int("K", w.inputs as i64),
        attr_int("N", w.outputs as i64),
        attr_int("bits", 2),
        attr_int("block_size", block as i64),
        attr_int("accuracy_level", 4),
    ];
    cx.s().ops("com.microsoft", "MatMulNBits", &[x, &weights, &scales, &zeros], attrs, 1).swap_remove(0)
}

/// The carrier of quantised activations in a form whose activations are floats, times its scale.
pub(super) fn dequantized_activations(cx: &mut Cx<'_, '_>) -> Result<String, No> {
    let (q, scale) = (cx.carried(0, bodies::Carrier::Floats)?, cx.input(1)?);
    Ok(cx.op("Mul", &[&q, &scale], Vec::new()))
}
