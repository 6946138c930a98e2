//! Constants: what depends on constants only is computed here, weights are packed, and packed weights are read back.

use bitc_format::{Artifact, ConstId, Layout};
use bitc_ir::netlist::Netlist;
use bitc_ir::ops::QuantizeAct;
use bitc_ir::ops::quantize_act::Form;
use bitc_ir::text::{Reference, Resolver};
use bitc_ir::{Blob, DType, Graph, Node, Op, Tensor, TensorType, Uses, ValueDef, ValueId};

use super::Const;
use super::cx::const_type;
use super::dense::few_bit_weights;

/// The graph with every node whose inputs are all constant replaced by its value, unless that is much larger, and compact.
///
/// Passes have done this already but for weights that they keep in two parts, as `dequantize(ternary, scale)`. What no
/// quantised product took by now is a float weight.
pub(super) fn fold(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let mut uses = graph.uses();
    for id in graph.live_order().unwrap_or_default() {
        let node = graph.node(id);
        if let Some(sizes) = known_sizes(&graph, node) {
            let old = node.outputs[0];
            replace_by_constant(&mut graph, &mut uses, old, sizes);
            continue;
        }
        // Integers are their own quantisation: the scale is 1 whatever they are.
        if let (Op::QuantizeAct(QuantizeAct { form: Form::Integer, .. }), &[_, scale]) = (&node.op, &node.outputs[..]) {
            let ones = Tensor::new(&vec![1; graph.ty(scale).shape.rank()], &[1f32]);
            replace_by_constant(&mut graph, &mut uses, scale, ones);
            continue;
        }
        let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(|v| v.and_then(|v| graph.constant(v))).collect();
        let constant = node.inputs.iter().zip(&inputs).all(|(v, t)| v.is_some() == t.is_some());
        if !constant || inputs.iter().all(Option::is_none) {
            continue;
        }
        if grows(&graph, node, &inputs) {
            continue;
        }
        // Float products take weights in few bits as well.
        if node.outputs.iter().any(|&v| is_few_bit_weight(&graph, v)) {
            continue;
        }
        let cx = bitc_ir::ops::EvalCx { bind: &|_| None };
        let Ok(values) = node.op.eval(inputs, &cx) else { continue };
        for (old, tensor) in node.outputs.clone().into_iter().zip(values) {
            replace_by_constant(&mut graph, &mut uses, old, tensor);
        }
    }
    graph.compact();
    graph
}

/// Whether the results of a node are so much larger than what they are made from that the runtime had better make them.
fn grows(graph: &Graph, node: &Node, inputs: &[Option<&Tensor>]) -> bool {
    const SMALL: usize = 64 << 20;
    const TIMES: usize = 16;
    let read: usize = inputs.iter().flatten().map(|t| t.bytes().len()).sum();
    let made = node.outputs.iter().try_fold(0usize, |sum, &v| {
        let ty = graph.ty(v);
        let numel = ty.shape.to_fixed()?.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        sum.checked_add(numel.checked_mul(ty.dtype.size_bytes())?)
    });
    made.is_none_or(|made| made > SMALL.max(read.saturating_mul(TIMES)))
}

/// A value whose type has symbols stays; nothing of the kind depends on constants only.
fn replace_by_constant(graph: &mut Graph, uses: &mut Uses, old: ValueId, tensor: Tensor) {
    let new = graph.add_const("", tensor);
    uses.grow(graph);
    if uses.replace(graph, old, new).is_ok() {
        graph.take_name(old, new);
    }
}

/// Whether a value is weights of few bits that only float products read.
pub(super) fn is_few_bit_weight(graph: &Graph, value: ValueId) -> bool {
    if few_bit_weights(graph, value).is_none() {
        return false;
    }
    let reads = |(id, node): (bitc_ir::NodeId, &Node)| {
        let inputs = node.inputs.iter().flatten().filter(|&&v| v == value).count();
        let as_weight = matches!(node.op, Op::Linear(_)) && graph.input(id, 1) == Some(value);
        (inputs, if as_weight { 1 } else { 0 })
    };
    let (all, weights) = graph.nodes().map(reads).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    let is_output = graph.outputs().iter().any(|o| o.value == value);
    all > 0 && all == weights && !is_output
}

/// What a `shape` gives where no symbol is in it.
fn known_sizes(graph: &Graph, node: &Node) -> Option<Tensor> {
    let Op::ShapeOf(op) = &node.op else { return None };
    let dims = graph.ty(node.inputs.first().copied().flatten()?).shape.0.get(op.start..op.end)?;
    let sizes: Option<Vec<i64>> = dims.iter().map(|d| d.as_const().and_then(|n| i64::try_from(n).ok())).collect();
    sizes.map(|sizes| Tensor::new(&[sizes.len()], &sizes))
}

/// The values of a tensor whose elements are single signed bytes, as ternary ones are.
pub(super) fn bytes(tensor: &Tensor) -> Vec<i8> {
    tensor.bytes().iter().map(|b| b.cast_signed()).collect()
}

/// Weights `[rows, columns]`, or `[groups, rows, columns]`, packed; `None` where the layout has no packing.
pub(super) fn pack(layout: Layout, shape: &[usize], values: &[i8]) -> Option<Const> {
    let (&columns, outer) = shape.split_last()?;
    let (&rows, groups) = outer.split_last()?;
    let per_group = rows.checked_mul(columns)?;
    let mut packed = Vec::new();
    for group in 0..groups.iter().product() {
        let values = values.get(group * per_group..)?.get(..per_group)?;
        packed.extend(layout.pack(rows, columns, values).ok()?);
    }
    let shape = shape.iter().map(|&d| d as u64).collect();
    Some(Const { dtype: bitc_format::DType::I8, layout, shape, data: packed.into() })
}

/// Rows of `columns` weights as `[groups, rows, group]`; what the last group lacks is zero.
pub(super) fn in_groups(values: &[i8], columns: usize, group: usize) -> Vec<i8> {
    let rows = || values.chunks_exact(columns.max(1));
    let parts =
        (0..columns.div_ceil(group)).flat_map(|g| rows().map(move |row| &row[g * group..columns.min((g + 1) * group)]));
    parts.flat_map(|part| part.iter().copied().chain(std::iter::repeat_n(0, group - part.len()))).collect()
}

/// The inverse of [`in_groups`].
fn out_of_groups(values: &[u8], shape: [usize; 3], columns: usize) -> Vec<u8> {
    let [_, rows, group] = shape;
    let at = |row: usize, column: usize| (column / group * rows + row) * group + column % group;
    (0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column))).map(|i| values[i]).collect()
}

/// The positions in `[o, c, kh, kw]` of the elements of `[o, kh, kw, c]`, in order: products want the channels of a tap
/// to be neighbours.
pub(super) fn taps_first(dims: &[usize; 4]) -> impl Iterator<Item = usize> {
    let &[outputs, channels, height, width] = dims;
    let taps = height * width;
    (0..outputs)
        .flat_map(move |o| (0..taps).flat_map(move |tap| (0..channels).map(move |c| (o * channels + c) * taps + tap)))
}

/// Reads the constants that the text of an artifact's graph refers to as `packed(index)`.
pub struct PackedConsts<'a> {
    artifact: &'a Artifact<'a>,
}

impl<'a> PackedConsts<'a> {
    /// The constants of an artifact.
    pub fn new(artifact: &'a Artifact<'a>) -> Self {
        Self { artifact }
    }

    fn unpacked(&self, constant: &bitc_format::Const, ty: &TensorType, dims: &[usize]) -> Result<Vec<u8>, String> {
        let mismatch = || format!("a packed constant of shape {:?} is not {ty}", constant.shape);
        let shape: Option<Vec<usize>> = constant.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let shape = shape.ok_or_else(mismatch)?;
        let numel = |dims: &[usize]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let kept = if constant.layout == Layout::Int8 { DType::I8 } else { DType::T2 };
        let in_groups = match (&shape[..], dims) {
            (&[groups, rows, size], &[outputs, columns]) => {
                rows == outputs && size > 0 && groups == columns.div_ceil(size)
            }
            _ => false,
        };
        if ty.dtype != kept || numel(&shape).is_none() || (!in_groups && numel(&shape) != numel(dims)) {
            return Err(mismatch());
        }
        let (groups, rows, columns) = match *shape {
            [rows, columns] => (1, rows, columns),
            [groups, rows, columns] => (groups, rows, columns),
            _ => return Err(mismatch()),
        };
        let bytes = self.artifact.const_bytes(constant);
        let mut values = Vec::with_capacity(groups * rows * columns);
        for group in bytes.chunks_exact((bytes.len() / groups.max(1)).max(1)).take(groups) {
            let unpacked = constant.layout.unpack(rows, columns, group);
            values.extend(unpacked.map_err(|_| mismatch())?.into_iter().map(i8::cast_unsigned));
        }
        if in_groups {
            return Ok(out_of_groups(&values, [groups, rows, columns], dims[1]));
        }
        if let Ok(dims) = <&[usize; 4]>::try_from(dims) {
            let mut plain = vec![0; values.len()];
            for (position, value) in taps_first(dims).zip(values) {
                plain[position] = value;
            }
            return Ok(plain);
        }
        Ok(values)
    }
}

impl Resolver for PackedConsts<'_> {
    fn resolve(&self, reference: &Reference, ty: &TensorType) -> Result<Tensor, String> {
        let Reference::Packed(index) = *reference else {
            return Err("the graph of an artifact may only refer to the constants of that artifact".to_owned());
        };
        let constants = self.artifact.contents().consts();
        let constant = usize::try_from(index).ok().and_then(|i| constants.get(i));
        let constant = constant.ok_or_else(|| format!("there is no constant {index}, only {}", constants.len()))?;
        let dims = ty.shape.to_fixed().ok_or_else(|| format!("a constant cannot have the symbolic type {ty}"))?;
        let bytes = match constant.layout {
            Layout::Dense if constant.dtype == const_type(ty.dtype) => self.artifact.const_bytes(constant).to_vec(),
            Layout::Dense => return Err(format!("constant {index} holds {}, not {}", constant.dtype, ty.dtype)),
            _ => self.unpacked(constant, ty, &dims)?,
        };
        Tensor::from_blob(ty.dtype, &dims, Blob::new(bytes)).map_err(|e| e.to_string())
    }

    fn netlist(&self, index: u32) -> Result<Netlist, String> {
        let program = self.artifact.contents().network(ConstId(index));
        let program = program.ok_or_else(|| format!("constant {index} is no network that an instruction runs"))?;
        super::logic::decode(program).map_err(|e| e.to_string())
    }
}

/// The constants of a graph that an artifact does not hold but its text would have to spell out.
pub(crate) fn unstored(graph: &Graph, stored: impl Fn(ValueId) -> bool) -> impl Iterator<Item = (ValueId, &Tensor)> {
    /// The most elements that are spelled out.
    const SPELLED_OUT: usize = 16;
    graph.values().filter_map(move |(id, value)| match &value.def {
        ValueDef::Const(tensor) if tensor.numel() > SPELLED_OUT && !stored(id) => Some((id, tensor)),
        _ => None,
    })
}
