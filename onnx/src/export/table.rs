//! What each operation becomes: the exhaustive match. The forms are in the file of each family.

use bitc_ir::Op;

use super::cx::{Cx, Names, no};
use super::{bits, elementwise, layout, logic, norm, product, quantized, reduce, shape};

/// Writes the nodes of one operation and gives the names of its outputs.
pub(super) fn emit(cx: &mut Cx<'_, '_>) -> Names {
    match &cx.node.op {
        Op::Unary(op) => elementwise::unary(cx, op.0),
        Op::Binary(op) => elementwise::binary(cx, op.0),
        Op::Remainder(op) => elementwise::remainder(cx, op),
        Op::Compare(op) => elementwise::compare(cx, op.0),
        Op::Logic(op) => bits::logic(cx, op.0),
        Op::Clip(_) => elementwise::clip(cx),
        Op::Where(_) => elementwise::choose(cx),
        Op::Cast(op) => bits::cast(cx, op.to),
        Op::BitCast(_) => bits::bit_cast(),
        Op::Linear(op) => product::linear(cx, op),
        Op::MatMul(_) => product::matmul(cx),
        Op::Conv2d(op) => product::conv2d(cx, op),
        Op::Einsum(op) => product::einsum(cx, op),
        Op::QuantizeAct(op) => quantized::quantize_act(cx, op),
        Op::Dequantize(op) => quantized::dequantize(cx, op),
        Op::BitLinear(op) => quantized::bit_linear(cx, op),
        Op::BitConv2d(op) => quantized::bit_conv2d(cx, op),
        Op::Ternarize(_) => no("weights that training may still change; freeze the graph first"),
        Op::BatchNorm(op) => norm::batch_norm(cx, op),
        Op::LayerNorm(op) => norm::layer_norm(cx, op),
        Op::RmsNorm(op) => norm::rms_norm(cx, op),
        Op::Softmax(op) => norm::softmax(cx, op),
        Op::MaxPool2d(op) => norm::max_pool(cx, op),
        Op::AvgPool2d(op) => norm::avg_pool(cx, op),
        Op::Reduce(op) => reduce::reduce(cx, op),
        Op::ArgMax(op) => reduce::arg_max(cx, op),
        Op::Cumulate(op) => reduce::cumulate(cx, op),
        Op::TopK(op) => reduce::top_k(cx, op),
        Op::Reshape(_) => shape::reshape(cx),
        Op::Flatten(op) => shape::flatten(cx, op),
        Op::Expand(op) => shape::expand(cx, op),
        Op::ShapeOf(op) => shape::shape_of(cx, op),
        Op::Iota(op) => shape::iota(cx, op),
        Op::Transpose(op) => layout::transpose(cx, op),
        Op::Concat(op) => layout::concat(cx, op),
        Op::Slice(op) => layout::slice(cx, op),
        Op::Reverse(op) => layout::reverse(cx, op),
        Op::Gather(op) => layout::gather(cx, "Gather", op.axis),
        Op::GatherElements(op) => layout::gather(cx, "GatherElements", op.axis),
        Op::GatherNd(op) => layout::gather_nd(cx, op),
        Op::Scatter(op) => layout::scatter(cx, op),
        Op::Pad(op) => layout::pad(cx, op),
        Op::Thermometer(_) => logic::thermometer(cx),
        Op::Lut(_) => logic::lut(cx),
        Op::LogicNet(op) => logic::logic_net(cx, op),
        Op::GroupSum(op) => logic::group_sum(cx, op),
        Op::Custom(op) => shape::custom(cx, op),
    }
}
