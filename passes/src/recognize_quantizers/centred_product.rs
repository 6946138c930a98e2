//! Products of 8-bit integers with a zero point, as quantised models of other tools have them.
//!
//! `cast(matmul(u - z, c) + b) == bit_linear(u - m, c') + (m - z) * sum(c) + b`, where c is a constant matrix of integers, u
//! are integers of 8 bits, m moves them to those with a sign, and every sum is so small that `f32` holds it: then each
//! step is exact, also where z is found while running. Weights of 8 bits without a sign are moved likewise, and the sum
//! of a row of activations makes up for it.

use bitc_ir::ops::reduce::ReduceKind;
use bitc_ir::ops::{Activation, Binary, BinaryKind, BitLinear, Cast, MatMul, Reduce};
use bitc_ir::{DType, Dim, NodeId, Op, Tensor, ValueId};

use crate::integers::{binary, bytes_of, number};
use crate::rewrite::{Editor, Miss, Replacement};

/// Up to here `f32` holds every integer.
const EXACT: f64 = 16_777_216.0;

/// See the module.
pub(super) fn centred_product(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let Op::Cast(Cast { to: DType::F32 }) = g.node(node).op else { return Err(Miss::NoMatch) };
    let from = g.input(node, 0).ok_or(Miss::NoMatch)?;
    if g.ty(from).dtype != DType::I32 {
        return Err(Miss::NoMatch);
    }
    let (product, bias) = match binary(g, from) {
        Some((BinaryKind::Add, a, b)) if g.constant(b).is_some() => (a, Some(b)),
        Some((BinaryKind::Add, a, b)) if g.constant(a).is_some() => (b, Some(a)),
        _ => (from, None),
    };
    let Some((matmul, MatMul)) = g.producer::<MatMul>(product) else { return Err(Miss::NoMatch) };
    let (Some(a), Some(c)) = (g.input(matmul, 0), g.input(matmul, 1)) else { return Err(Miss::NoMatch) };
    let Activations { u, zero } = activations(g, a)?;
    let rank = g.ty(a).shape.rank();
    let matrix = g.constant(c).ok_or_else(|| Miss::blocked("its integer weights are not constant"))?;
    if matrix.rank() != 2 || rank < 2 || g.ty(product) != g.ty(from) {
        return Err(Miss::blocked("its integer weights are no matrix"));
    }
    let weights = Weights::of(matrix)?;
    let outputs = weights.sums.len();
    let bias = match bias {
        None => vec![0.0; outputs],
        Some(bias) => match g.constant(bias).map(Tensor::to_f64) {
            Some(one) if one.len() == 1 => vec![one[0]; outputs],
            Some(each) if each.len() == outputs && g.ty(bias).shape.0.last() == Some(&Dim::from(outputs)) => each,
            _ => return Err(Miss::blocked("what is added to its integers is not one per output")),
        },
    };
    let known = match zero {
        None => Some(0.0),
        Some(zero) => number(g, zero),
    };
    if weights.largest.iter().zip(&bias).any(|(m, b)| m + 2.0 * b.abs() > EXACT) {
        return Err(Miss::blocked("its integers are too large for sums in 32-bit floats"));
    }

    let (q, moved) = bytes_of(g, u)?;
    let one = g.add_const("", Tensor::new(&vec![1; rank], &[1f32]));
    let name = g.value(c).name.clone();
    let Weights { tensor, scale, sums, shifts, .. } = weights;
    let (w, scale) = (g.add_const(&name, tensor), g.add_const("", Tensor::scalar(scale)));
    // What is known of the correction is the bias of the layer.
    let fixed: Vec<f32> =
        sums.iter().zip(&bias).map(|(s, b)| (known.map_or(0.0, |zero| (moved - zero) * s) + b) as f32).collect();
    let fixed = match fixed.iter().any(|&v| v != 0.0) {
        true => Some(g.add_const("", Tensor::new(&[outputs], &fixed))),
        false => None,
    };
    let op = BitLinear { act: Activation::None, group: 0 };
    let mut y = g.add(op, &[Some(q), Some(one), Some(w), Some(scale), fixed])?;
    let mut add = |g: &mut Editor<'_>, factor: ValueId, each: &[f64]| -> Result<(), Miss> {
        let each: Vec<f32> = each.iter().map(|&v| v as f32).collect();
        let each = g.add_const("", Tensor::new(&[outputs], &each));
        let term = g.add(Binary(BinaryKind::Mul), &[Some(factor), Some(each)])?;
        y = g.add(Binary(BinaryKind::Add), &[Some(y), Some(term)])?;
        Ok(())
    };
    if let (Some(zero), None) = (zero, known) {
        let zero = g.add(Cast { to: DType::F32 }, &[Some(zero)])?;
        let by = g.add_const("", Tensor::scalar(moved as f32));
        let distance = g.add(Binary(BinaryKind::Sub), &[Some(by), Some(zero)])?;
        add(g, distance, &sums)?;
    }
    if let Some(shifts) = shifts {
        let floats = g.add(Cast { to: DType::F32 }, &[Some(q)])?;
        let rows = g.add(Reduce { kind: ReduceKind::Sum, axes: vec![-1], keep: true }, &[Some(floats)])?;
        add(g, rows, &shifts)?;
    }
    Ok(y.into())
}

/// Integers of 8 bits and what is subtracted from them.
struct Activations {
    u: ValueId,
    zero: Option<ValueId>,
}

fn activations(g: &Editor<'_>, a: ValueId) -> Result<Activations, Miss> {
    let none = || Miss::blocked("its activations are not integers of 8 bits");
    let (wide, zero) = match binary(g, a) {
        Some((BinaryKind::Sub, wide, zero)) => (wide, Some(zero)),
        _ => (a, None),
    };
    let byte = |v: ValueId| {
        let (node, _) = g.producer::<Cast>(v)?;
        g.input(node, 0).filter(|&u| matches!(g.ty(u).dtype, DType::I8 | DType::U8))
    };
    let u = byte(wide).filter(|_| g.ty(wide) == g.ty(a)).ok_or_else(none)?;
    if let Some(zero) = zero {
        let (low, high) = if g.ty(u).dtype == DType::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
        let fixed = number(g, zero).is_some_and(|z| z.fract() == 0.0 && (low..=high).contains(&z));
        if !fixed && byte(zero).is_none_or(|z| g.ty(z).dtype != g.ty(u).dtype) {
            return Err(none());
        }
        let (shape, rows) = (&g.ty(zero).shape, &g.ty(a).shape);
        let common = shape.0.iter().all(Dim::is_one) && shape.rank() <= rows.rank();
        let by_row = shape.rank() == rows.rank() && shape.0.last().is_some_and(Dim::is_one);
        if !common && !by_row {
            return Err(Miss::blocked("the zero point of its activations is neither one in all nor one per row"));
        }
    }
    Ok(Activations { u, zero })
}

/// A matrix of integers as the weights of a layer.
struct Weights {
    /// `[outputs, inputs]`.
    tensor: Tensor,
    scale: f32,
    /// For each output what its weights were moved by to fit 8 bits with a sign; none if all fit.
    shifts: Option<Vec<f64>>,
    /// For each output the sum of its integers, and a bound for the magnitude of all that is computed with them.
    sums: Vec<f64>,
    largest: Vec<f64>,
}

impl Weights {
    fn of(matrix: &Tensor) -> Result<Self, Miss> {
        let (values, &[inputs, outputs]) = (matrix.to_f64(), matrix.dims()) else { return Err(Miss::NoMatch) };
        if values.is_empty() {
            return Err(Miss::NoMatch);
        }
        let column = |o: usize| values.iter().skip(o).step_by(outputs).copied();
        let mut shifts = Vec::with_capacity(outputs);
        for o in 0..outputs {
            let (low, high) = column(o).fold((0f64, 0f64), |(low, high), v| (low.min(v), high.max(v)));
            match () {
                () if low >= -128.0 && high <= 127.0 => shifts.push(0.0),
                () if high - low <= 255.0 => shifts.push(low + 128.0),
                () => return Err(Miss::blocked("its integer weights take more than 8 bits")),
            }
        }
        let sums = (0..outputs).map(|o| column(o).sum()).collect();
        // With u - z from -255 to 255 the parts that the signs of weights make are seldom as large as their sum: z is one
        // of the numbers that u may be. What is moved is less than 128, and so is what makes up for it.
        let largest = |o: usize| {
            let part = |sign: f64| column(o).map(|v| (sign * v).max(0.0)).sum::<f64>();
            let (plus, minus) = (part(1.0), part(-1.0));
            let moved = |v: f64| (v - shifts[o]).abs();
            let shift = shifts[o].abs() * inputs as f64 * 128.0;
            let first = 128.0 * column(o).map(moved).sum::<f64>();
            let then = if shift > 0.0 { first + 128.0 * (plus - minus).abs() + shift } else { 0.0 };
            (255.0 * plus.max(minus)).max(first).max(then)
        };
        let largest = (0..outputs).map(largest).collect();
        // A single magnitude makes ternary weights and a scale.
        let size = values.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let ternary = size > 0.0 && values.iter().all(|&v| v == 0.0 || v.abs() == size) && size <= 127.0;
        let unit = if ternary { size } else { 1.0 };
        let rows = (0..outputs).flat_map(|o| column(o).map(move |v| (o, v)));
        let integers: Vec<i8> = rows.map(|(o, v)| ((v - shifts[o]) / unit) as i8).collect();
        let dtype = if ternary { DType::T2 } else { DType::I8 };
        let tensor = Tensor::with_dtype(dtype, &[outputs, inputs], &integers);
        let shifts = shifts.iter().any(|&s| s != 0.0).then_some(shifts);
        Ok(Self { tensor, scale: unit as f32, shifts, sums, largest })
    }
}
