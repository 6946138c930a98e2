//! Elementwise operations: a group of them is one `map` in `f32`; other types have one `map` each.

use std::collections::BTreeMap;

use bitc_format::inst::{Cast, Domain, MapOp};
use bitc_format::{DType, Operand};
use bitc_ir::eval::array::integers;
use bitc_ir::ops::Op;
use bitc_ir::{DType as IrType, NodeId, Shape, Tensor, ValueId};

use super::cx::{Cx, Refusal, const_type};
use super::fuse::is_loaded;
use super::map::{Builder, Register, binary_op, compare_op, has_unary, logic_op};
use super::shape;

/// `relu`, `add`, `where` and their like.
pub(super) fn elementwise(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    if cx.groups().root(id).is_some() { group(cx, id) } else { converted(cx, id) }
}

/// Conversions: within what a `map` loads and stores they are steps of one.
pub(super) fn cast(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    if cx.groups().root(id).is_some() {
        return group(cx, id);
    }
    let (x, y) = (cx.input(id, 0)?, cx.graph().node(id).outputs[0]);
    let (from, to) = (cx.graph().ty(x).dtype, cx.graph().ty(y).dtype);
    if from == to {
        return shape::reshape(cx, id);
    }
    let operand = cx.operand(x)?;
    let operand = if from.is_float() { low_bits(cx, operand, to, &cx.graph().ty(x).shape.clone())? } else { operand };
    let y = cx.define(y)?;
    cx.emit(Cast { y, x: operand });
    Ok(())
}

/// Floats on their way to an integer type, of which they keep the low bits: as `i64` where the type is narrower.
fn low_bits(cx: &mut Cx<'_>, x: Operand, to: IrType, shape: &Shape) -> Result<Operand, Refusal> {
    if !to.is_integer() || matches!(to, IrType::I64 | IrType::U64) {
        return Ok(x);
    }
    let wide = cx.buffer(DType::I64, shape)?;
    cx.emit(Cast { y: wide, x });
    Ok(wide.into())
}

/// `f32(q) * scale`.
pub(super) fn dequantize(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    if cx.graph().node(id).outputs.iter().all(|&v| super::consts::is_few_bit_weight(cx.graph(), v)) {
        // The products that read it take its parts.
        return Ok(());
    }
    if cx.groups().root(id).is_some() {
        return group(cx, id);
    }
    if matches!(cx.graph().node(id).op, Op::Dequantize(bitc_ir::ops::Dequantize { group: 1.. })) {
        return Err(cx.unsupported(id, "only weights have scales for groups").into());
    }
    // 32-bit integers: converted first, since a `map` does not load them.
    let (q, scale) = (cx.input(id, 0)?, cx.input(id, 1)?);
    let floats = cx.f32_operand(q)?;
    let scale = cx.operand(scale)?;
    let y = cx.define(cx.graph().node(id).outputs[0])?;
    let mut map = Builder::default();
    let (a, b) = (map.load(floats), map.load(scale));
    let result = map.step(MapOp::Mul, &[a, b]);
    cx.emit(map.finish(y, result));
    Ok(())
}

/// One elementwise operation in a type that `map` does not compute in `f32`.
fn converted(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let node = cx.graph().node(id);
    let y = node.outputs[0];
    let Some(domain) = domain(cx, id) else { return through_f32(cx, id) };
    let mut map = Builder::new(domain);
    let mut registers = Registers::default();
    let result = steps(cx, id, &mut map, &mut registers)?;
    let y = cx.define(y)?;
    cx.emit(map.finish(y, result));
    Ok(())
}

/// The type that one operation is computed in: integers wrap in 64 bits like in their own, floats are rounded once from
/// double precision.
fn domain(cx: &Cx<'_>, id: NodeId) -> Option<Domain> {
    let node = cx.graph().node(id);
    let values = node.inputs.iter().flatten().chain(&node.outputs);
    let types: Vec<DType> = values.map(|&v| const_type(cx.graph().ty(v).dtype)).collect();
    let (stored, loaded) = types.split_last()?;
    let has = |domain: Domain| match &node.op {
        Op::Unary(op) => has_unary(domain, op.0),
        Op::Logic(_) => matches!(domain, Domain::I64 | Domain::U64),
        Op::BatchNorm(_) | Op::Dequantize(_) => false,
        _ => true,
    };
    let fits =
        |domain: &Domain| has(*domain) && domain.stores(*stored) && loaded.iter().all(|&dtype| domain.loads(dtype));
    [Domain::I64, Domain::U64, Domain::F64].into_iter().find(fits)
}

/// One operation on 16-bit floats that only `f32` has, computed in that and rounded again.
fn through_f32(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    let node = cx.graph().node(id);
    let y = node.outputs[0];
    let narrow = |t: IrType| is_loaded(t) || matches!(t, IrType::F16 | IrType::BF16);
    let types = || node.inputs.iter().flatten().map(|&v| cx.graph().ty(v).dtype);
    if let Some(wide) = types().find(|&t| !narrow(t)) {
        let fault = cx.unsupported(id, "no instruction computes it in this type");
        return Err(fault.expected("f32, f16 or bf16").found(wide).into());
    }
    let mut map = Builder::default();
    let mut registers = Registers::default();
    for input in node.inputs.iter().flatten() {
        let operand = cx.f32_operand(*input)?;
        registers.0.insert(*input, map.load(operand));
    }
    let result = steps(cx, id, &mut map, &mut registers)?;
    cx.compute_f32(y, |y| map.finish(y, result).into())
}

/// The instruction of a group, when its root is reached.
fn group(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    if cx.groups().root(id) != Some(id) {
        return Ok(());
    }
    let y = cx.graph().node(id).outputs[0];
    let mut map = Builder::default();
    let mut registers = Registers::default();
    for member in cx.groups().members(id).to_vec() {
        let result = steps(cx, member, &mut map, &mut registers)?;
        registers.0.insert(cx.graph().node(member).outputs[0], result);
    }
    let result = registers.0[&y];
    let y = cx.define(y)?;
    cx.emit(map.finish(y, result));
    Ok(())
}

/// The values that a `map` has in registers.
#[derive(Default)]
struct Registers(BTreeMap<ValueId, Register>);

impl Registers {
    /// The register of a value; loads it if it is in none. `rank` is that of the result.
    fn get(&mut self, cx: &mut Cx<'_>, map: &mut Builder, value: ValueId, rank: usize) -> Result<Register, Refusal> {
        if let Some(&register) = self.0.get(&value) {
            return Ok(register);
        }
        let ty = cx.graph().ty(value);
        let one = ty.shape.0.iter().all(|d| d.is_one());
        let constant = cx.graph().constant(value).filter(|_| one);
        let register = match constant.and_then(|t| scalar_bits(map.domain(), t)) {
            Some(bits) => map.constant_bits(bits),
            // One element may have more axes than the result where it is a bound.
            None if one && ty.shape.rank() > rank => map.load(cx.view(value, &Shape::default())?),
            None => map.load(cx.operand(value)?),
        };
        self.0.insert(value, register);
        Ok(register)
    }
}

/// The bits of a single element in the type of a domain that loads it.
fn scalar_bits(domain: Domain, tensor: &Tensor) -> Option<u64> {
    if !domain.loads(const_type(tensor.dtype())) {
        return None;
    }
    match domain {
        Domain::F32 => tensor.to_f64().first().map(|&v| u64::from((v as f32).to_bits())),
        Domain::F64 => tensor.to_f64().first().map(|v| v.to_bits()),
        Domain::I64 | Domain::U64 => integers(tensor)?.first().map(|&v| v as u64),
    }
}

/// Adds the steps of one node; returns the register of its result.
fn steps(cx: &mut Cx<'_>, id: NodeId, map: &mut Builder, registers: &mut Registers) -> Result<Register, Refusal> {
    let node = cx.graph().node(id);
    let rank = cx.graph().ty(node.outputs[0]).shape.rank();
    if let Op::BatchNorm(op) = &node.op {
        let x = registers.get(cx, map, cx.input(id, 0)?, rank)?;
        return batch_norm(cx, id, op.eps, map, x);
    }
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        inputs.push(input.map(|v| registers.get(cx, map, v, rank)).transpose()?);
    }
    let present: Vec<Register> = inputs.iter().flatten().copied().collect();
    let first = present[0];
    let result = match &node.op {
        Op::Unary(op) => map.unary(op.0, first),
        Op::Binary(op) => Some(map.step(binary_op(op.0), &present)),
        Op::Compare(op) => Some(map.step(compare_op(op.0), &present)),
        Op::Logic(op) => {
            let truth = cx.graph().ty(node.outputs[0]).dtype == IrType::Bool;
            Some(map.step(logic_op(op.0, truth), &present))
        }
        Op::Remainder(op) => Some(map.step(if op.floored { MapOp::Mod } else { MapOp::Rem }, &present)),
        Op::Where(_) => Some(map.step(MapOp::Where, &present)),
        Op::Dequantize(_) => Some(map.step(MapOp::Mul, &present)),
        Op::Clip(_) => {
            let low = inputs.get(1).copied().flatten();
            let high = inputs.get(2).copied().flatten();
            let raised = low.map_or(first, |low| map.step(MapOp::Max, &[first, low]));
            Some(high.map_or(raised, |high| map.step(MapOp::Min, &[raised, high])))
        }
        Op::Cast(op) if op.to == IrType::Bool => {
            let zero = map.constant(0.0);
            Some(map.step(MapOp::Ne, &[first, zero]))
        }
        Op::Cast(_) => Some(first),
        _ => None,
    };
    Ok(result.ok_or_else(|| cx.unsupported(id, "no instruction computes this formula"))?)
}

/// Where the statistics are constants:
/// `(x - mean) / sqrt(var + eps) * gamma + beta == (x - mean) * (gamma / sqrt(var + eps)) + beta`.
fn batch_norm(cx: &mut Cx<'_>, id: NodeId, eps: f32, map: &mut Builder, x: Register) -> Result<Register, Refusal> {
    let [gamma, beta, mean, var] = [cx.input(id, 1)?, cx.input(id, 2)?, cx.input(id, 3)?, cx.input(id, 4)?];
    let x_shape = &cx.graph().ty(cx.input(id, 0)?).shape;
    // One parameter per channel broadcasts along the axes after axis 1.
    let mut shape = bitc_ir::Shape(vec![bitc_ir::Dim::from(1); x_shape.rank() - 1]);
    shape.0[0] = x_shape.0[1].clone();
    let mean = cx.view(mean, &shape)?;
    let mean = map.load(mean);
    let centred = map.step(MapOp::Sub, &[x, mean]);
    let constants = (cx.graph().constant(gamma), cx.graph().constant(var), shape.to_fixed());
    let scaled = if let (Some(gamma), Some(var), Some(dims)) = constants {
        let factor = |(g, v): (f64, f64)| (g / (v + f64::from(eps)).sqrt()) as f32;
        let factors: Vec<f32> = gamma.to_f64().into_iter().zip(var.to_f64()).map(factor).collect();
        let factors = map.load(Operand::Const(cx.add_tensor(Tensor::new(&dims, &factors))));
        map.step(MapOp::Mul, &[centred, factors])
    } else {
        let var = cx.view(var, &shape)?;
        let (var, eps) = (map.load(var), map.constant(eps));
        let spread = map.step(MapOp::Add, &[var, eps]);
        let spread = map.step(MapOp::Sqrt, &[spread]);
        let normal = map.step(MapOp::Div, &[centred, spread]);
        let gamma = cx.view(gamma, &shape)?;
        let gamma = map.load(gamma);
        map.step(MapOp::Mul, &[normal, gamma])
    };
    let beta = cx.view(beta, &shape)?;
    let beta = map.load(beta);
    Ok(map.step(MapOp::Add, &[scaled, beta]))
}
