//! Carrying cones through operations. An operation is never looked into: elements that it moves are followed by their
//! positions, and what it computes is computed by its own definition on every assignment of the bits.

use std::rc::Rc;

use bitc_ir::ops::reduce::ReduceKind;
use bitc_ir::ops::scatter::Combine;
use bitc_ir::ops::{EvalCx, Gather, GatherElements, Reduce};
use bitc_ir::{Blob, DType, Op, Tensor};

use super::cone::{Bits, Cone, MAX_SUPPORT, Traced, union};

/// The most assignments of all elements of one operation.
const MAX_ASSIGNMENTS: usize = 1 << 24;

/// An input of an operation.
#[derive(Clone)]
pub(super) enum Input {
    Absent,
    Constant(Tensor),
    Traced(Rc<Traced>),
}

impl Input {
    fn dims(&self) -> &[usize] {
        match self {
            Input::Absent => &[],
            Input::Constant(t) => t.dims(),
            Input::Traced(t) => &t.dims,
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Input::Absent => DType::Bool,
            Input::Constant(t) => t.dtype(),
            Input::Traced(t) => t.dtype,
        }
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Input::Absent => 0,
            input => input.dims().iter().product(),
        }
    }

    /// With elements of two values as bits of their own: what is gathered by constant indices are the inputs of a layer, and
    /// whatever is made of one of them then knows it as the same bit.
    fn of_bits(&self, bits: &mut Bits) -> Input {
        let Input::Traced(traced) = self else { return self.clone() };
        let size = traced.dtype.size_bytes();
        let elements = traced.elements.iter().map(|cone| bits.compressed(cone, size)).collect();
        Input::Traced(Rc::new(Traced { dtype: traced.dtype, dims: traced.dims.clone(), elements }))
    }

    fn element(&self, i: usize) -> Rc<Cone> {
        match self {
            Input::Absent => Rc::new(Cone::constant(&[])),
            Input::Constant(t) => {
                let size = t.dtype().size_bytes();
                Rc::new(Cone::constant(&t.bytes()[i * size..][..size]))
            }
            Input::Traced(t) => Rc::clone(&t.elements[i]),
        }
    }

    fn constant(&self) -> Option<&Tensor> {
        match self {
            Input::Constant(t) => Some(t),
            _ => None,
        }
    }

    fn is_traced(&self) -> bool {
        matches!(self, Input::Traced(_))
    }
}

/// Why an operation is where the trace ends.
pub(super) type Stop = String;

/// What an operation makes of inputs of which some are traced.
///
/// # Errors
/// Why its result is no array of cones.
pub(super) fn trace(op: &Op, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    match op {
        Op::Reshape(_) | Op::Flatten(_) | Op::Transpose(_) | Op::Expand(_) | Op::Slice(_) | Op::Reverse(_) => {
            moved(op, inputs, &[0], cx)
        }
        Op::Concat(_) => moved(op, inputs, &(0..inputs.len()).collect::<Vec<_>>(), cx),
        Op::Scatter(scatter) if scatter.combine == Combine::Replace => moved(op, inputs, &[0, 2], cx),
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) if inputs[1].constant().is_some() => {
            moved(op, &[inputs[0].of_bits(bits), inputs[1].clone()], &[0], cx)
        }
        Op::Gather(gather) if inputs[0].constant().is_some() => picked(gather, inputs, cx, bits),
        Op::GatherNd(_) if inputs[0].constant().is_some() => looked_up(op, inputs, cx, bits),
        Op::GatherElements(gather) if inputs[0].constant().is_some() => picked_one_by_one(gather, inputs, cx, bits),
        Op::Unary(_) | Op::Binary(_) | Op::Remainder(_) | Op::Compare(_) | Op::Logic(_) => {
            elementwise(op, inputs, cx, bits)
        }
        Op::Where(_) | Op::Cast(_) => elementwise(op, inputs, cx, bits),
        Op::Clip(_) if inputs[1..].iter().all(|i| !i.is_traced()) => clipped(op, inputs, cx, bits),
        Op::Reduce(reduce) => reduced(reduce, inputs, cx, bits),
        Op::Linear(_) | Op::MatMul(_) if inputs[1..].iter().all(|i| !i.is_traced()) => rows(op, inputs, cx, bits),
        _ => Err(format!("`{}` is not followed", op.name())),
    }
}

/// Operations that move elements: the positions of their elements are moved instead.
fn moved(op: &Op, inputs: &[Input], data: &[usize], cx: &EvalCx<'_>) -> Result<Traced, Stop> {
    let mut elements: Vec<(usize, usize)> = Vec::new();
    let mut tensors: Vec<Option<Tensor>> = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        tensors.push(match input {
            Input::Absent => None,
            _ if data.contains(&i) => {
                let n: usize = input.dims().iter().product();
                let first = elements.len();
                elements.extend((0..n).map(|at| (i, at)));
                let positions: Vec<i64> = (first..first + n).map(|p| p as i64).collect();
                Some(Tensor::new(input.dims(), &positions))
            }
            Input::Constant(t) => Some(t.clone()),
            Input::Traced(_) => return Err("it moves elements to places that depend on bits".to_owned()),
        });
    }
    let y = op.eval(tensors.iter().map(Option::as_ref).collect(), cx).map_err(|e| e.to_string())?;
    let y = y.into_iter().next().ok_or("it has no result")?;
    let positions = y.to_vec::<i64>().ok_or("it changes what it moves")?;
    let element = |&p: &i64| {
        let (input, at) = *elements.get(usize::try_from(p).ok()?)?;
        Some(inputs[input].element(at))
    };
    let found: Option<Vec<_>> = positions.iter().map(element).collect();
    let dtype = inputs[data[0]].dtype();
    Ok(Traced { dtype, dims: y.dims().to_vec(), elements: found.ok_or("it adds elements")? })
}

/// Groups of cones, each of as many; for all assignments of each group the values of every place.
struct Columns {
    groups: Vec<(Option<u32>, Vec<u32>)>,
    /// One per place in a group.
    columns: Vec<Vec<u8>>,
    total: usize,
}

impl Columns {
    fn new(groups: Vec<Vec<Rc<Cone>>>, sizes: &[usize], bits: &mut Bits) -> Result<Self, Stop> {
        let mut result = Self { groups: Vec::new(), columns: vec![Vec::new(); sizes.len()], total: 0 };
        for mut cones in groups {
            let (row, support) = bits.unify(&mut cones, sizes)?;
            result.total += 1 << support.len();
            if result.total > MAX_ASSIGNMENTS {
                return Err("its tables are too large".to_owned());
            }
            for ((cone, column), &size) in cones.iter().zip(&mut result.columns).zip(sizes) {
                cone.expanded(&support, size, column);
            }
            result.groups.push((row, support));
        }
        Ok(result)
    }

    /// The columns side by side, as an array `[assignments, places]`.
    fn side_by_side(&self, dtype: DType) -> Result<Tensor, Stop> {
        let size = dtype.size_bytes();
        let mut bytes = Vec::with_capacity(self.total * self.columns.len() * size);
        for row in 0..self.total {
            self.columns.iter().for_each(|c| bytes.extend_from_slice(&c[row * size..][..size]));
        }
        array(dtype, &[self.total, self.columns.len()], bytes)
    }

    /// The cones of results `[assignments, width]`, group after group.
    fn cones(&self, results: &Tensor) -> Vec<Rc<Cone>> {
        let size = results.dtype().size_bytes();
        let width = results.numel().checked_div(self.total).unwrap_or(0);
        let (mut cones, mut first) = (Vec::new(), 0);
        for (row, support) in &self.groups {
            let n = 1usize << support.len();
            for at in 0..width {
                let value = |a: usize| &results.bytes()[((first + a) * width + at) * size..][..size];
                let values = (0..n).flat_map(|a| value(a).to_vec()).collect();
                cones.push(Rc::new(Cone { row: *row, support: support.clone(), values }.reduced(size)));
            }
            first += n;
        }
        cones
    }
}

fn array(dtype: DType, dims: &[usize], bytes: Vec<u8>) -> Result<Tensor, Stop> {
    Tensor::from_blob(dtype, dims, Blob::new(bytes)).map_err(|e| e.to_string())
}

fn result(op: &Op, inputs: Vec<Option<&Tensor>>, cx: &EvalCx<'_>) -> Result<Tensor, Stop> {
    let y = op.eval(inputs, cx).map_err(|e| e.to_string())?;
    y.into_iter().next().ok_or_else(|| "it has no result".to_owned())
}

/// Operations that compute each element from those of the same place, with broadcasting.
fn elementwise(op: &Op, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let present: Vec<&Input> = inputs.iter().filter(|i| !matches!(i, Input::Absent)).collect();
    let rank = present.iter().map(|i| i.dims().len()).max().unwrap_or(0);
    let mut dims = vec![1usize; rank];
    for input in &present {
        for (d, &n) in dims.iter_mut().rev().zip(input.dims().iter().rev()) {
            *d = if *d == 1 { n } else { *d };
        }
    }
    let n: usize = dims.iter().product();
    let strides: Vec<Vec<usize>> = present.iter().map(|input| broadcast_strides(input.dims(), &dims)).collect();
    let mut index = vec![0usize; rank];
    let mut groups = Vec::with_capacity(n);
    for _ in 0..n {
        let at = |strides: &Vec<usize>| index.iter().zip(strides).map(|(i, s)| i * s).sum();
        groups.push(present.iter().zip(&strides).map(|(input, s)| input.element(at(s))).collect());
        for (i, &d) in index.iter_mut().zip(&dims).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
    }
    let sizes: Vec<usize> = present.iter().map(|i| i.dtype().size_bytes()).collect();
    let mut columns = Columns::new(groups, &sizes, bits)?;
    let taken = std::mem::take(&mut columns.columns);
    let tensors: Vec<Tensor> = taken
        .into_iter()
        .zip(&present)
        .map(|(column, input)| array(input.dtype(), &[columns.total], column))
        .collect::<Result<_, _>>()?;
    let mut flat = tensors.iter();
    let arguments = inputs.iter().map(|i| if matches!(i, Input::Absent) { None } else { flat.next() }).collect();
    let y = result(op, arguments, cx)?;
    if y.numel() != columns.total {
        return Err("its result has another shape".to_owned());
    }
    Ok(Traced { dtype: y.dtype(), dims, elements: columns.cones(&y) })
}

/// A clip between constants, which are the same for all elements.
fn clipped(op: &Op, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let x = &inputs[0];
    let groups = (0..x.len()).map(|i| vec![x.element(i)]).collect();
    let columns = Columns::new(groups, &[x.dtype().size_bytes()], bits)?;
    let all = columns.side_by_side(x.dtype())?;
    let mut arguments = vec![Some(&all)];
    arguments.extend(inputs[1..].iter().map(Input::constant));
    let y = result(op, arguments, cx)?;
    Ok(Traced { dtype: y.dtype(), dims: x.dims().to_vec(), elements: columns.cones(&y) })
}

fn broadcast_strides(dims: &[usize], to: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for (axis, &d) in dims.iter().enumerate().rev() {
        strides[axis + to.len() - dims.len()] = if d == 1 { 0 } else { stride };
        stride *= d;
    }
    strides
}

/// Whether a table of the sum is much larger than those of what is added, of which some takes more than two values.
fn outgrows(group: &[Rc<Cone>], size: usize) -> bool {
    let entries = |support: usize| 1usize << support.min(MAX_SUPPORT + 1);
    let separate: usize = group.iter().map(|cone| entries(cone.support.len())).sum();
    let is_real = |cone: &Rc<Cone>| cone.support.len() > 1 && cone.two_values(size).is_none();
    group.iter().any(is_real) && entries(union(group).len()) > 4 * separate
}

/// Why the trace ends at sums of bits, which the runtime counts.
const COUNTS: &str = "it counts bits";

/// Reductions: all elements that meet in one are a group. Sums and means of bits are not followed where they are counts.
fn reduced(op: &Reduce, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let x = &inputs[0];
    let rank = x.dims().len();
    let axes = op.resolved(rank).map_err(|e| e.to_string())?;
    let kept: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
    let dims: Vec<usize> = if op.keep {
        (0..rank).map(|a| if axes.contains(&a) { 1 } else { x.dims()[a] }).collect()
    } else {
        kept.iter().map(|&a| x.dims()[a]).collect()
    };
    let strides = broadcast_strides(x.dims(), x.dims());
    let positions = |axes: &[usize]| {
        axes.iter().fold(vec![0usize], |at, &axis| {
            at.iter()
                .flat_map(|&p| (0..x.dims()[axis]).map(move |i| (p, i)))
                .map(|(p, i)| p + i * strides[axis])
                .collect()
        })
    };
    let (outer, inner) = (positions(&kept), positions(&axes));
    let groups: Vec<Vec<Rc<Cone>>> = outer.iter().map(|o| inner.iter().map(|i| x.element(o + i)).collect()).collect();
    let size = x.dtype().size_bytes();
    let counts = matches!(op.kind, ReduceKind::Sum | ReduceKind::Mean)
        && inner.len() > 1
        && groups.iter().flatten().all(|c| is_binary(c, x.dtype()));
    if counts && groups.iter().any(|group| union(group).len() > MAX_SUPPORT) {
        return Err(COUNTS.to_owned());
    }
    if op.kind == ReduceKind::Sum && groups.iter().any(|group| outgrows(group, size)) {
        return Err("it adds up real numbers".to_owned());
    }
    let columns = Columns::new(groups, &vec![size; inner.len()], bits)?;
    let along = Op::from(Reduce { kind: op.kind, axes: vec![1], keep: false });
    let y = result(&along, vec![Some(&columns.side_by_side(x.dtype())?)], cx)?;
    let elements = columns.cones(&y);
    // Where at most one of the bits is 1, as where one of many entries is selected, the sum is a bit again.
    if counts && !elements.iter().all(|c| is_binary(c, y.dtype())) {
        return Err(COUNTS.to_owned());
    }
    Ok(Traced { dtype: y.dtype(), dims, elements })
}

/// Whether a cone takes no value but 0 and 1.
pub(super) fn is_binary(cone: &Cone, dtype: DType) -> bool {
    let size = dtype.size_bytes();
    let (zero, one) = (number(dtype, 0), number(dtype, 1));
    cone.values.chunks_exact(size).all(|v| Some(v) == zero.as_deref() || Some(v) == one.as_deref())
}

/// The bytes of a small number.
pub(super) fn number(dtype: DType, value: i64) -> Option<Vec<u8>> {
    let cast = Op::from(bitc_ir::ops::Cast { to: dtype });
    let y = cast.eval(vec![Some(&Tensor::scalar(value))], &EvalCx { bind: &|_| None }).ok()?;
    Some(y.first()?.bytes().to_vec())
}

/// Slices of a constant by indices that depend on bits, each made of as many numbers as the last axis has.
fn looked_up(op: &Op, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let (data, indices) = (inputs[0].constant(), &inputs[1]);
    let Some((&width, outer)) = indices.dims().split_last() else { return Err("its indices have no axis".to_owned()) };
    let n: usize = outer.iter().product();
    let groups = (0..n).map(|g| (0..width).map(|i| indices.element(g * width + i)).collect()).collect();
    let columns = Columns::new(groups, &vec![indices.dtype().size_bytes(); width], bits)?;
    let y = result(op, vec![data, Some(&columns.side_by_side(indices.dtype())?)], cx)?;
    let dims = [outer, &y.dims()[1..]].concat();
    Ok(Traced { dtype: y.dtype(), dims, elements: columns.cones(&y) })
}

/// Slices of a constant along an axis, by indices that depend on bits.
fn picked(op: &Gather, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let (Some(data), indices) = (inputs[0].constant(), &inputs[1]) else {
        return Err("its table is no constant".to_owned());
    };
    let rank = data.rank();
    let axis = usize::try_from(if op.axis < 0 { op.axis + rank as i64 } else { op.axis });
    let axis = axis.ok().filter(|&a| a < rank).ok_or("its axis does not exist")?;
    let n = indices.len();
    let columns =
        Columns::new((0..n).map(|i| vec![indices.element(i)]).collect(), &[indices.dtype().size_bytes()], bits)?;
    let all = columns.side_by_side(indices.dtype())?.reshaped(&[columns.total]).ok_or("its shape")?;
    let y = result(&Op::from(op.clone()), vec![Some(data), Some(&all)], cx)?;
    // The picked axis goes to the front, for the cones, and back.
    let (before, after) = (&data.dims()[..axis], &data.dims()[axis + 1..]);
    let (p, q): (usize, usize) = (before.iter().product(), after.iter().product());
    let size = y.dtype().size_bytes();
    let mut front = Vec::with_capacity(y.bytes().len());
    for t in 0..columns.total {
        for i in 0..p {
            front.extend_from_slice(&y.bytes()[(i * columns.total + t) * q * size..][..q * size]);
        }
    }
    let cones = columns.cones(&array(y.dtype(), &[columns.total, p * q], front)?);
    let place = |i: usize| {
        let (outer, rest) = (i / (n * q).max(1), i % (n * q).max(1));
        (rest / q.max(1)) * p * q + outer * q + rest % q.max(1)
    };
    let elements = (0..p * n * q).map(|i| Rc::clone(&cones[place(i)])).collect();
    Ok(Traced { dtype: y.dtype(), dims: [before, indices.dims(), after].concat(), elements })
}

/// Elements of a constant, each from its own line along an axis, by indices that depend on bits.
fn picked_one_by_one(op: &GatherElements, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let (Some(data), indices) = (inputs[0].constant(), &inputs[1]) else {
        return Err("its table is no constant".to_owned());
    };
    let rank = data.rank();
    let axis = usize::try_from(if op.axis < 0 { op.axis + rank as i64 } else { op.axis });
    let axis = axis.ok().filter(|&a| a < rank && indices.dims().len() == rank).ok_or("its axis does not exist")?;
    let columns = Columns::new(
        (0..indices.len()).map(|i| vec![indices.element(i)]).collect(),
        &[indices.dtype().size_bytes()],
        bits,
    )?;
    if indices.len().saturating_mul(data.dims()[axis]) > MAX_ASSIGNMENTS {
        return Err("its lines are too long".to_owned());
    }
    let (size, stride) = (data.dtype().size_bytes(), data.dims()[axis + 1..].iter().product::<usize>());
    let (line, mut picked, mut first) = (Op::from(Gather { axis: 0 }), Vec::new(), 0);
    let (steps, data_steps) =
        (broadcast_strides(indices.dims(), indices.dims()), broadcast_strides(data.dims(), data.dims()));
    for (i, (_, support)) in columns.groups.iter().enumerate() {
        // Where the line begins: the place of the index, but for its axis.
        let along = |a: usize| i / steps[a].max(1) % indices.dims()[a] * data_steps[a];
        let start: usize = (0..rank).filter(|&a| a != axis).map(along).sum();
        let at =
            |j: usize| data.bytes().get((start + j * stride) * size..).and_then(|b| b.get(..size)).unwrap_or_default();
        let values = array(data.dtype(), &[data.dims()[axis]], (0..data.dims()[axis]).flat_map(at).copied().collect())?;
        let n = 1usize << support.len();
        let index_size = indices.dtype().size_bytes();
        let places = columns.columns[0][first * index_size..][..n * index_size].to_vec();
        let y = result(&line, vec![Some(&values), Some(&array(indices.dtype(), &[n], places)?)], cx)?;
        picked.extend_from_slice(y.bytes());
        first += n;
    }
    let y = array(data.dtype(), &[columns.total, 1], picked)?;
    Ok(Traced { dtype: data.dtype(), dims: indices.dims().to_vec(), elements: columns.cones(&y) })
}

/// Products with constants: each row of the first input is a group.
fn rows(op: &Op, inputs: &[Input], cx: &EvalCx<'_>, bits: &mut Bits) -> Result<Traced, Stop> {
    let x = &inputs[0];
    let (Some((&k, outer)), true) = (x.dims().split_last(), x.is_traced()) else {
        return Err("its first input is constant".to_owned());
    };
    let n: usize = outer.iter().product();
    let groups = (0..n).map(|r| (0..k).map(|i| x.element(r * k + i)).collect()).collect();
    let columns = Columns::new(groups, &vec![x.dtype().size_bytes(); k], bits)?;
    let all = columns.side_by_side(x.dtype())?;
    // A matrix may have axes of length 1 before it, as many as the rows have; a vector is a matrix of one column.
    let vector = matches!(op, Op::MatMul(_)) && inputs[1].dims().len() == 1;
    let matrix = inputs[1].constant().and_then(|t| {
        if vector {
            return t.reshaped(&[t.numel(), 1]);
        }
        let (outer, matrix) = t.dims().split_at_checked(t.rank().checked_sub(2)?)?;
        (outer.iter().all(|&d| d == 1) && t.rank() <= x.dims().len()).then(|| t.reshaped(matrix))?
    });
    let matrix = matrix.ok_or("its second input is no matrix")?;
    let mut arguments = vec![Some(&all), Some(&matrix)];
    arguments.extend(inputs[2..].iter().map(Input::constant));
    let y = result(op, arguments, cx)?;
    let dims = if vector { outer.to_vec() } else { [outer, &y.dims()[1..]].concat() };
    Ok(Traced { dtype: y.dtype(), dims, elements: columns.cones(&y) })
}
