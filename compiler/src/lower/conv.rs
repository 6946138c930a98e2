//! Convolutions and pools: windows that slide over images.

use bitc_format::BufferId;
use bitc_format::inst::{BitConv2d, Conv2d, Pool2d, PoolKind};
use bitc_ir::ops::conv2d::Window;
use bitc_ir::ops::max_pool2d::Pool;
use bitc_ir::{NodeId, ops};

use super::bit_linear::{Weights, scale_and_bias};
use super::consts;
use super::cx::{Cx, LayerInfo, Refusal, activation};

/// `conv2d`.
pub(super) fn conv2d(cx: &mut Cx<'_>, id: NodeId, op: &ops::Conv2d) -> Result<(), Refusal> {
    let (x, w) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let places = Places::new(cx, id, &op.window)?;
    let groups = fit(cx, id, "groups", op.groups)?;
    let (x, weights) = (cx.operand(x)?, cx.operand(w)?);
    let bias = cx.graph().input(id, 2).map(|v| cx.operand(v)).transpose()?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    let Places { strides, pads, dilations } = places;
    let activation = activation(op.act);
    cx.emit(Conv2d { y, x, w: weights, bias, strides, pads, dilations, groups, activation });
    let inner = cx.graph().ty(w).shape.0[1..].iter().map(|d| d.as_const().unwrap_or(0) as u64).product();
    let packed = cx.const_len(weights);
    cx.add_layer(id, w, packed, inner, LayerInfo::float());
    Ok(())
}

/// `bit_conv2d`.
pub(super) fn bit_conv2d(cx: &mut Cx<'_>, id: NodeId, op: &ops::BitConv2d) -> Result<(), Refusal> {
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    let inst = product(cx, id, op, y)?;
    cx.emit(inst);
    Ok(())
}

/// The instruction that stores the layer in `y`, and its line in the table of layers.
pub(super) fn product(cx: &mut Cx<'_>, id: NodeId, op: &ops::BitConv2d, y: BufferId) -> Result<BitConv2d, Refusal> {
    let (q, q_scale, w) = (cx.input(id, 0)?, cx.input(id, 1)?, cx.input(id, 2)?);
    let places = Places::new(cx, id, &op.window)?;
    let weights = Weights::new(cx, id, w)?;
    let &[outputs, channels, height, width] = weights.tensor.dims() else {
        return Err(cx.unsupported(id, "its weights have not four dimensions").into());
    };
    let kernel = [fit(cx, id, "kernel", height)?, fit(cx, id, "kernel", width)?];
    let (q, q_scale) = (cx.operand(q)?, cx.operand(q_scale)?);
    let (scale, bias) = scale_and_bias(cx, id)?;
    let columns = height * width * channels;
    let shape = match op.groups {
        1 => vec![outputs, columns],
        groups => vec![groups, outputs / groups, columns],
    };
    let (packed, info) = weights.pack(cx, id, cx.target(), &shape, |tensor| {
        let plain = consts::bytes(tensor);
        consts::taps_first(&[outputs, channels, height, width]).map(|i| plain[i]).collect()
    })?;
    let Places { strides, pads, dilations } = places;
    let (w_const, activation) = (packed.into(), activation(op.act));
    let bytes = cx.const_len(w_const) + cx.const_len(scale);
    cx.add_layer(id, w, bytes, columns as u64, info);
    Ok(BitConv2d { y, q, q_scale, w: w_const, scale, bias, kernel, strides, pads, dilations, activation })
}

/// `max_pool2d`.
pub(super) fn max_pool2d(cx: &mut Cx<'_>, id: NodeId, op: &ops::MaxPool2d) -> Result<(), Refusal> {
    pool(cx, id, &op.0, PoolKind::Max)
}

/// `avg_pool2d`.
pub(super) fn avg_pool2d(cx: &mut Cx<'_>, id: NodeId, op: &ops::AvgPool2d) -> Result<(), Refusal> {
    pool(cx, id, &op.pool, if op.count_padding { PoolKind::AverageWithPad } else { PoolKind::Average })
}

fn pool(cx: &mut Cx<'_>, id: NodeId, pool: &Pool, kind: PoolKind) -> Result<(), Refusal> {
    let x = cx.input(id, 0)?;
    let Places { strides, pads, dilations } = Places::new(cx, id, &pool.window)?;
    let kernel = [fit(cx, id, "kernel", pool.kernel[0])?, fit(cx, id, "kernel", pool.kernel[1])?];
    // A window wholly in the padding sees nothing.
    let reach = [0, 1].map(|axis| (pool.kernel[axis] - 1) * pool.window.dilations[axis]);
    if (0..4).any(|side| pool.window.pads[side] > reach[side % 2]) {
        let fault = cx.unsupported(id, "its padding is wider than its window reaches");
        return Err(fault.expected(format!("at most {reach:?}")).found(format!("{:?}", pool.window.pads)).into());
    }
    let x = cx.operand(x)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    cx.emit(Pool2d { y, x, kind, kernel, strides, pads, dilations });
    Ok(())
}

/// A window in the numbers of an instruction.
struct Places {
    strides: [u32; 2],
    pads: [u32; 4],
    dilations: [u32; 2],
}

impl Places {
    fn new(cx: &Cx<'_>, id: NodeId, window: &Window) -> Result<Self, Refusal> {
        let mut places = Self { strides: [0; 2], pads: [0; 4], dilations: [0; 2] };
        for (place, &n) in places.strides.iter_mut().zip(&window.strides) {
            *place = fit(cx, id, "strides", n)?;
        }
        for (place, &n) in places.pads.iter_mut().zip(&window.pads) {
            *place = fit(cx, id, "pads", n)?;
        }
        for (place, &n) in places.dilations.iter_mut().zip(&window.dilations) {
            *place = fit(cx, id, "dilations", n)?;
        }
        Ok(places)
    }
}

/// A number that instructions take.
fn fit(cx: &Cx<'_>, id: NodeId, what: &str, n: usize) -> Result<u32, Refusal> {
    const MAX: usize = 1 << 16;
    match u32::try_from(n) {
        Ok(fits) if n <= MAX => Ok(fits),
        _ => {
            let fault = cx.unsupported(id, &format!("its `{what}` are too large"));
            Err(fault.expected(format!("at most {MAX}")).found(n).into())
        }
    }
}
