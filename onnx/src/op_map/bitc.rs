//! Operators of `ai.bitc`, which bitc itself writes: each is the operation that it was made of.
//!
//! They come with bodies as model-local functions; the operators are taken, the bodies are for others.

use bitc_ir::ops::conv2d::Window;
use bitc_ir::ops::quantize_act::{Floor, Form, Over, QuantizeAct};
use bitc_ir::ops::{BitConv2d, BitLinear, Dequantize, GroupSum, Lut, Thermometer, activation::Activation};
use bitc_ir::{Blob, DType, Tensor, ValueId};

use super::Rule::With;
use super::{Entry, Rule};
use crate::error::Cause;
use crate::export::DOMAIN;
use crate::export::pack::{transposed, unpack_bits, unpack_trits};
use crate::import::attrs::{invalid, required};
use crate::import::node::{NodeCx, Outputs};

const fn own(op: &'static str, rule: Rule) -> Entry {
    Entry { domain: DOMAIN, op, since: 1, rule }
}

pub(super) const TABLE: &[Entry] = &[
    own("QuantizeAct", With(|cx| quantize(cx, Form::Divide))),
    own("QuantizeActReciprocal", With(|cx| quantize(cx, Form::Reciprocal))),
    own("QuantizeActQuotient", With(|cx| quantize(cx, Form::Quotient))),
    own("RoundAct", With(|cx| quantize(cx, Form::Integer))),
    own("BitLinear", With(|cx| linear(cx, true))),
    own("BitLinearGrouped", With(grouped_linear)),
    own("IntLinear", With(|cx| linear(cx, false))),
    own("BitConv", With(|cx| conv(cx, true))),
    own("IntConv", With(|cx| conv(cx, false))),
    own("TernaryWeight", With(ternary_weight)),
    own("Encode", With(encode)),
    own("EncodeChosen", With(encode_chosen)),
    own("LutLayer", With(lut_layer)),
    own("LutLayerReal", With(lut_layer_real)),
    own("GroupSum", With(group_sum)),
];

/// The zero point of activations that are carried as bytes.
const ZERO_POINT: i32 = 128;

fn quantize(cx: &mut NodeCx<'_, '_>, form: Form) -> Outputs {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let mut op = QuantizeAct { form, ..QuantizeAct::default() };
    if form == Form::Integer {
        cx.attrs.ignore(&["scale_shape"]);
    } else {
        let axes = cx.attrs.ints("axes")?;
        let axes = cx.axes(required("axes", axes)?, rank)?;
        op.over = over(&axes, rank)?;
        op.levels = whole(cx, "levels", 127.0, 1.0, 127.0)? as u8;
        let floors =
            [("max_floor", Floor::ClipMax), ("scale_floor", Floor::ClipScale), ("divisor_add", Floor::AddToDivisor)];
        for (name, floor) in floors {
            let eps = cx.attrs.float_or(name, 0.0)?;
            if eps == 0.0 {
                continue;
            }
            if op.floor != Floor::None || !(eps.is_finite() && eps > 0.0) {
                return Err(invalid(name, "one positive number among the floors", eps));
            }
            (op.floor, op.eps) = (floor, eps);
        }
    }
    op.low = whole(cx, "low", -128.0, -128.0, 0.0)? as i8;
    op.high = whole(cx, "high", 127.0, 0.0, 127.0)? as i8;
    let [q, scale] = cx.build.add(op.into(), &[Some(x)])?[..] else {
        return Err(Cause::Type("a quantiser has two results".into()));
    };
    let wide = cx.cast(q, DType::I32)?;
    let zero = cx.constant(Tensor::scalar(ZERO_POINT));
    let shifted = cx.simple("add", &[wide, zero])?;
    let bytes = cx.cast(shifted, DType::U8)?;
    cx.build.carriers.insert(bytes, q);
    Ok(vec![bytes, scale])
}

/// Which elements share a scale, by the axes that are reduced.
fn over(axes: &[usize], rank: usize) -> Result<Over, Cause> {
    Ok(match axes {
        [only] if *only + 1 == rank => Over::Row,
        all if all.len() == rank => Over::Tensor,
        [1, ..] if axes.len() + 1 == rank => Over::Sample,
        [1] => Over::Channel,
        _ => return Err(invalid("axes", "the last, all, all but the first, or axis 1", format!("{axes:?}"))),
    })
}

/// A float attribute that is a whole number within bounds.
fn whole(cx: &mut NodeCx<'_, '_>, name: &'static str, default: f32, low: f32, high: f32) -> Result<f32, Cause> {
    let found = cx.attrs.float_or(name, default)?;
    let fits = (low..=high).contains(&found) && found.fract() == 0.0;
    if fits { Ok(found) } else { Err(invalid(name, &format!("a whole number from {low} to {high}"), found)) }
}

/// Activations that are carried as bytes, as integers; those that have their sign are so already.
fn integers(cx: &mut NodeCx<'_, '_>, bytes: ValueId) -> Result<ValueId, Cause> {
    if cx.ty(bytes).dtype == DType::I8 {
        return Ok(bytes);
    }
    if let Some(&q) = cx.build.carriers.get(&bytes) {
        return Ok(q);
    }
    let wide = cx.cast(bytes, DType::I32)?;
    let zero = cx.constant(Tensor::scalar(ZERO_POINT));
    let centred = cx.simple("sub", &[wide, zero])?;
    cx.cast(centred, DType::I8)
}

/// The attribute `shape` and its number of elements.
fn shape(cx: &mut NodeCx<'_, '_>) -> Result<(Vec<usize>, usize), Cause> {
    let dims = cx.attrs.ints("shape")?;
    let dims = required("shape", dims)?;
    let sizes: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let numel = sizes.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
    sizes.zip(numel).ok_or_else(|| invalid("shape", "sizes", format!("{dims:?}")))
}

/// A constant made of the one that input `i` is, under its name.
fn renamed(cx: &mut NodeCx<'_, '_>, i: usize, dtype: DType, dims: &[usize], bytes: Vec<u8>) -> Result<ValueId, Cause> {
    let name = cx.build.graph.value(cx.input(i)?).name.clone();
    let tensor = Tensor::from_blob(dtype, dims, Blob::new(bytes)).map_err(|e| Cause::Type(e.to_string()))?;
    Ok(cx.build.graph.add_const(&name, tensor))
}

/// The packed ternary weights of input `i`; a matrix comes with its axes exchanged.
fn ternary(cx: &mut NodeCx<'_, '_>, i: usize, is_product: bool) -> Result<ValueId, Cause> {
    let (dims, numel) = shape(cx)?;
    let packed = cx.build.known_tensor(cx.input(i)?, "w")?.clone();
    let fits = packed.dtype() == DType::U8 && packed.numel() == numel.div_ceil(4);
    if !fits {
        return Err(Cause::Type(format!(
            "{} bytes of packed weights expected, found {}",
            numel.div_ceil(4),
            packed.ty()
        )));
    }
    cx.build.budget.charge(2 * numel as u64, || "unpacked weights".into())?;
    let weights = unpack_trits(packed.bytes(), numel);
    let weights = weights.ok_or_else(|| Cause::Type("packed weights hold a code that is none".into()))?;
    let (dims, weights) = match (is_product, &dims[..]) {
        (true, &[rows, columns]) => (vec![columns, rows], transposed(&weights, rows, columns)),
        (true, _) => return Err(invalid("shape", "two sizes", format!("{dims:?}"))),
        (false, _) => (dims, weights),
    };
    renamed(cx, i, DType::T2, &dims, weights.into_iter().map(i8::cast_unsigned).collect())
}

/// The 8-bit weights of input `i`, which have the zero point of activations; a matrix comes with its axes exchanged.
fn bytes(cx: &mut NodeCx<'_, '_>, i: usize, is_product: bool) -> Result<ValueId, Cause> {
    let stored = cx.build.known_tensor(cx.input(i)?, "w")?.clone();
    let Some(values) = stored.to_vec::<u8>().filter(|_| stored.dtype() == DType::U8) else {
        return Err(Cause::Type(format!("weights of type u8 expected, found {}", stored.ty())));
    };
    cx.build.budget.charge(2 * values.len() as u64, || "weights".into())?;
    let (dims, values) = match (is_product, stored.dims()) {
        (true, &[rows, columns]) => (vec![columns, rows], transposed(&values, rows, columns)),
        (true, _) => return Err(Cause::Type(format!("weights of rank 2 expected, found {}", stored.ty()))),
        (false, dims) => (dims.to_vec(), values),
    };
    // Flipping the highest bit takes 128 off.
    renamed(cx, i, DType::I8, &dims, values.into_iter().map(|v| v ^ 0x80).collect())
}

/// The bias, unless it is the number that changes nothing when it is added.
fn bias(cx: &mut NodeCx<'_, '_>) -> Result<Option<ValueId>, Cause> {
    let bias = cx.input(4)?;
    let is_nothing = |t: &Tensor| t.to_vec::<f32>().is_some_and(|v| v.iter().all(|b| b.to_bits() == 1 << 31));
    Ok(if cx.build.graph.constant(bias).is_some_and(is_nothing) { None } else { Some(bias) })
}

fn linear(cx: &mut NodeCx<'_, '_>, is_ternary: bool) -> Outputs {
    cx.arity(5, 5)?;
    let q = cx.input(0)?;
    let q = integers(cx, q)?;
    let w = if is_ternary { ternary(cx, 2, true)? } else { bytes(cx, 2, true)? };
    let inputs = [Some(q), cx.opt(1), Some(w), cx.opt(3), bias(cx)?];
    Ok(vec![cx.add_opt(BitLinear { act: Activation::None, group: 0 }, &inputs)?])
}

fn grouped_linear(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(5, 5)?;
    let q = cx.input(0)?;
    let q = integers(cx, q)?;
    let (dims, numel) = shape(cx)?;
    let &[groups, group, outputs] = &dims[..] else {
        return Err(invalid("shape", "three sizes", format!("{dims:?}")));
    };
    let packed = cx.build.known_tensor(cx.input(2)?, "w")?.clone();
    let scales = cx.build.known_tensor(cx.input(3)?, "scale")?.clone();
    let values = scales.to_vec::<f32>().filter(|v| v.len() == groups.saturating_mul(outputs));
    let Some(values) = values.filter(|_| packed.dtype() == DType::U8 && packed.numel() == numel.div_ceil(4)) else {
        return Err(Cause::Type(format!(
            "weights and scales of {dims:?} expected, found {} and {}",
            packed.ty(),
            scales.ty()
        )));
    };
    cx.build.budget.charge(2 * numel as u64, || "unpacked weights".into())?;
    let weights = unpack_trits(packed.bytes(), numel);
    let weights = weights.ok_or_else(|| Cause::Type("packed weights hold a code that is none".into()))?;
    let inputs = groups.checked_mul(group).filter(|_| outputs > 0 && group > 0);
    let inputs = inputs.ok_or_else(|| invalid("shape", "three sizes that are not zero", format!("{dims:?}")))?;
    let rows = transposed(&weights, inputs, outputs);
    let w = renamed(cx, 2, DType::T2, &[outputs, inputs], rows.into_iter().map(i8::cast_unsigned).collect())?;
    let scale = transposed(&values, groups, outputs).iter().flat_map(|v| v.to_le_bytes()).collect();
    let scale = renamed(cx, 3, DType::F32, &[outputs, groups], scale)?;
    let inputs = [Some(q), cx.opt(1), Some(w), Some(scale), bias(cx)?];
    Ok(vec![cx.add_opt(BitLinear { act: Activation::None, group }, &inputs)?])
}

fn conv(cx: &mut NodeCx<'_, '_>, is_ternary: bool) -> Outputs {
    cx.arity(5, 5)?;
    let q = cx.input(0)?;
    let q = integers(cx, q)?;
    let w = if is_ternary { ternary(cx, 2, false)? } else { bytes(cx, 2, false)? };
    let window =
        Window { strides: sizes(cx, "strides")?, pads: sizes(cx, "pads")?, dilations: sizes(cx, "dilations")? };
    let groups = cx.attrs.int_or("group", 1)?;
    let groups =
        usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(|| invalid("group", "at least 1", groups))?;
    if window.strides.contains(&0) || window.dilations.contains(&0) {
        return Err(invalid("strides", "at least 1, as dilations are", 0));
    }
    let inputs = [Some(q), cx.opt(1), Some(w), cx.opt(3), bias(cx)?];
    Ok(vec![cx.add_opt(BitConv2d { window, groups, act: Activation::None }, &inputs)?])
}

/// An attribute of so many sizes.
fn sizes<const N: usize>(cx: &mut NodeCx<'_, '_>, name: &'static str) -> Result<[usize; N], Cause> {
    const LARGEST: i64 = 1 << 31;
    let list = cx.attrs.ints(name)?;
    let list = required(name, list)?;
    let sizes: Option<Vec<usize>> = list.iter().map(|&v| usize::try_from(v).ok().filter(|_| v < LARGEST)).collect();
    let wrong = || invalid(name, &format!("{N} sizes"), format!("{list:?}"));
    sizes.and_then(|s| s.try_into().ok()).ok_or_else(wrong)
}

fn ternary_weight(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let w = ternary(cx, 0, false)?;
    let scale = cx.input(1)?;
    Ok(vec![cx.add(Dequantize::default(), &[w, scale])?])
}

fn encode(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let (x, thresholds) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![cx.add(Thermometer, &[x, thresholds])?])
}

fn encode_chosen(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let inputs = cx.all()?;
    Ok(vec![cx.add(Thermometer, &inputs)?])
}

fn lut_layer(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let (bits, connections) = (cx.input(0)?, cx.input(1)?);
    let fan_in = match cx.fixed(connections, "connections")?[..] {
        [_, n] if n <= bitc_ir::netlist::MAX_WIDE_FANIN => n,
        _ => {
            return Err(Cause::Type(format!(
                "connections of few inputs per node expected, found {}",
                cx.ty(connections)
            )));
        }
    };
    let packed = cx.build.known_tensor(cx.input(2)?, "tables")?.clone();
    let size = 1usize << fan_in;
    let &[nodes, row_bytes] = packed.dims() else {
        return Err(Cause::Type(format!("tables of rank 2 expected, found {}", packed.ty())));
    };
    if packed.dtype() != DType::U8 || row_bytes != size.div_ceil(8) {
        return Err(Cause::Type(format!("{} bytes per table expected, found {}", size.div_ceil(8), packed.ty())));
    }
    cx.build.budget.charge(2 * (nodes as u64).saturating_mul(size as u64), || "tables".into())?;
    let entries = packed.bytes().chunks_exact(row_bytes).filter_map(|row| unpack_bits(row, size)).flatten().collect();
    let tables = renamed(cx, 2, DType::Bool, &[nodes, size], entries)?;
    Ok(vec![cx.add(Lut, &[bits, connections, tables])?])
}

fn lut_layer_real(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let inputs = cx.all()?;
    Ok(vec![cx.add(Lut, &inputs)?])
}

fn group_sum(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(1, 1)?;
    let groups = cx.attrs.int("groups")?;
    let groups = required("groups", groups)?;
    let groups =
        usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(|| invalid("groups", "at least 1", groups))?;
    let (tau, beta) = (cx.attrs.float_or("tau", 1.0)?, cx.attrs.float_or("beta", 0.0)?);
    if !tau.is_finite() || tau == 0.0 {
        return Err(invalid("tau", "a number that is not zero", tau));
    }
    let x = cx.input(0)?;
    Ok(vec![cx.add(GroupSum { groups, tau, beta }, &[x])?])
}
