//! What an artifact holds, in numbers: parameters, bytes before and after, layers, sections, memory to run in.

use std::collections::BTreeMap;

use bitc_format::{Buffer, Contents, Inst, Operand};
use serde::Serialize;

use crate::notes::Notes;

/// The method of layers whose weights are floats.
const FLOAT: &str = "float";

/// The numbers of an artifact. The keys of the JSON form are part of the command line's contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The version of this form.
    pub schema: u32,
    /// The number of weights of all layers.
    pub total_params: u64,
    /// How many of them take few bits.
    pub quantized_params: u64,
    /// The fraction of the bytes of the weights that is saved.
    pub memory_reduction: f64,
    /// The bytes of the weights.
    pub bytes: Bytes,
    /// The layers with weights, in order.
    pub layers: Vec<Layer>,
    /// What was done to the model.
    #[serde(flatten)]
    pub notes: Notes,
    /// What the file is made of.
    pub artifact: File,
}

/// Bytes of weights before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// In the source model.
    pub original: u64,
    /// In the artifact, scales included.
    pub packed: u64,
}

/// A layer with weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// The name of the source node.
    pub name: String,
    /// The operation.
    pub op: String,
    /// How its weights came to take few bits: `trained`, the method of a rewrite, or `float`.
    pub method: String,
    /// How they are stored.
    pub layout: String,
    /// The number of weights.
    pub params: u64,
    /// Bits of the artifact per weight, scales included.
    pub bits_per_weight: f64,
    /// The fraction of the weights that is zero.
    pub sparsity: f64,
    /// The scales of the weights, where they have any.
    pub scale: Option<Scales>,
    /// Bytes in the source; 0 where it is a further plane of a layer, or shares its weights with an earlier one.
    pub original_bytes: u64,
    /// Bytes in the artifact.
    pub bytes: u64,
    /// Multiply-adds for one sample; 0 if they are not known.
    pub macs: u64,
}

/// Statistics of the scales of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scales {
    /// How many there are.
    pub count: u64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// Their mean.
    pub mean: f32,
}

impl Scales {
    /// The statistics of some little-endian floats.
    fn of(bytes: &[u8]) -> Option<Self> {
        let values = || bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let count = values().len();
        let sum: f64 = values().map(f64::from).sum();
        (count > 0).then(|| Self {
            count: count as u64,
            min: values().fold(f32::INFINITY, f32::min),
            max: values().fold(f32::NEG_INFINITY, f32::max),
            mean: (sum / count as f64) as f32,
        })
    }

    /// Those of the products of few-bit weights, in order.
    fn of_products(contents: &Contents, artifact: &[u8]) -> Vec<Option<Self>> {
        let operand = |inst: &Inst| match inst {
            Inst::BitLinear(inst) => Some(inst.scale),
            Inst::BitLinearQuantize(inst) => Some(inst.layer.scale),
            Inst::BitConv2d(inst) => Some(inst.scale),
            Inst::BitConv2dQuantize(inst) => Some(inst.layer.scale),
            Inst::DequantLinear(inst) => Some(inst.scale),
            _ => None,
        };
        let bytes = |scale| match scale {
            Operand::Const(id) => artifact.get(contents.const_range(contents.consts().get(id.index())?)),
            Operand::Buffer(_) => None,
        };
        contents.code().iter().filter_map(operand).map(|scale| bytes(scale).and_then(Self::of)).collect()
    }
}

/// The parts of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct File {
    /// Bytes in all.
    pub bytes: u64,
    /// The program that wrote it.
    pub producer: String,
    /// The machines that its layouts were chosen for.
    pub target: String,
    /// Sections and their bytes.
    pub sections: Vec<(&'static str, u64)>,
    /// How many instructions of each name.
    pub instructions: BTreeMap<&'static str, usize>,
    /// How many constants in each layout.
    pub layouts: BTreeMap<&'static str, usize>,
    /// Bytes of memory between inputs and outputs for one sample; `None` if sizes overflow.
    pub arena_bytes: Option<u64>,
}

impl Summary {
    /// The numbers of an artifact.
    pub fn of(contents: &Contents, artifact: &[u8]) -> Self {
        let meta = contents.meta().cloned().unwrap_or_default();
        let mut layers: Vec<Layer> = meta.layers.iter().map(layer).collect();
        // The table of layers is in the order of their instructions.
        let mut products: Vec<_> = layers.iter_mut().filter(|l| l.method != FLOAT).collect();
        let scales = Scales::of_products(contents, artifact);
        if products.len() == scales.len() {
            products.iter_mut().zip(scales).for_each(|(layer, scale)| layer.scale = scale);
        }
        let sum = |f: fn(&Layer) -> u64| layers.iter().map(f).fold(0u64, u64::saturating_add);
        // What stands for no bytes of the source is a part of another layer, or stored with one.
        let params = |counts: fn(&Layer) -> bool| {
            let own = layers.iter().filter(|l| l.original_bytes > 0 && counts(l));
            own.map(|l| l.params).fold(0u64, u64::saturating_add)
        };
        let bytes = Bytes { original: sum(|l| l.original_bytes), packed: sum(|l| l.bytes) };
        let mut instructions = BTreeMap::new();
        for inst in contents.code() {
            *instructions.entry(inst.name()).or_insert(0) += 1;
        }
        let mut layouts = BTreeMap::new();
        for constant in contents.consts() {
            *layouts.entry(constant.layout.name()).or_insert(0) += 1;
        }
        let sections = contents.sections().iter().map(|(name, range)| (*name, range.len() as u64)).collect();
        Self {
            schema: 1,
            total_params: params(|_| true),
            quantized_params: params(|l| l.method != FLOAT),
            memory_reduction: if bytes.original > 0 { 1.0 - bytes.packed as f64 / bytes.original as f64 } else { 0.0 },
            bytes,
            notes: Notes::of_artifact(contents.notes()),
            artifact: File {
                bytes: artifact.len() as u64,
                producer: crate::error::escape(&meta.producer),
                target: crate::error::escape(&meta.target),
                sections,
                instructions,
                layouts,
                arena_bytes: arena_bytes(contents),
            },
            layers,
        }
    }
}

fn layer(layer: &bitc_format::Layer) -> Layer {
    let per_weight = |n: f64| if layer.weights > 0 { n / layer.weights as f64 } else { 0.0 };
    Layer {
        name: crate::error::escape(&layer.name),
        op: crate::error::escape(&layer.op),
        method: crate::error::escape(&layer.method),
        layout: crate::error::escape(&layer.layout),
        params: layer.weights,
        bits_per_weight: per_weight(8.0 * layer.packed_bytes as f64),
        sparsity: per_weight(layer.zeros as f64),
        scale: None,
        original_bytes: layer.source_bytes,
        bytes: layer.packed_bytes,
        macs: layer.macs,
    }
}

/// The bytes of all slots that are neither input nor output, for one sample.
fn arena_bytes(contents: &Contents) -> Option<u64> {
    let dims = contents.dims();
    let values = dims.evaluate(&vec![Some(1); dims.symbols().len()]).ok()?;
    let ports = contents.inputs().iter().chain(contents.outputs());
    let outside: Vec<usize> =
        ports.filter_map(|p| contents.buffers().get(p.buffer.index())).map(|b| b.slot.index()).collect();
    let mut slots: BTreeMap<usize, u64> = BTreeMap::new();
    for buffer in contents.buffers().iter().filter(|b| !outside.contains(&b.slot.index())) {
        let slot = slots.entry(buffer.slot.index()).or_insert(0);
        *slot = (*slot).max(buffer_bytes(buffer, &values)?);
    }
    slots.values().try_fold(0u64, |sum, &n| sum.checked_add(n))
}

fn buffer_bytes(buffer: &Buffer, values: &[Option<i64>]) -> Option<u64> {
    let sizes = buffer.dims.iter().map(|d| u64::try_from(values.get(d.index()).copied().flatten()?).ok());
    let sizes: Vec<u64> = sizes.collect::<Option<_>>()?;
    let (last, outer) = match sizes.split_last() {
        Some((&last, outer)) => (last, outer),
        None => (1, &sizes[..]),
    };
    let row = buffer.dtype.row_bytes(last)?.checked_next_multiple_of(u64::from(buffer.row_align.max(1)))?;
    outer.iter().try_fold(row, |n, &d| n.checked_mul(d))
}

/// A reduction in words: `93.7 % less`, or `0.7 % more` where it is none.
pub fn reduction_text(reduction: f64) -> String {
    let word = if reduction < 0.0 { "more" } else { "less" };
    format!("{:.1} % {word}", 100.0 * reduction.abs())
}
