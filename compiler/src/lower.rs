//! Lowering: a frozen graph becomes instructions over buffers.
//!
//! One exhaustive `match` over [`Op`] sends every node to its family under `lower/`. Nothing is decided here about
//! memory: every buffer names a storage of its own, except that a reshape names that of its source, and
//! [`crate::plan`] gives storages slots. Every fault is collected, so one attempt tells all that is not supported.

mod bit_linear;
mod consts;
mod conv;
mod cx;
mod dense;
mod dims;
mod elementwise;
mod fuse;
mod index;
mod layouts;
mod logic;
mod map;
mod norm;
mod quantize;
mod requantize;
mod shape;

pub use consts::PackedConsts;
pub(crate) use consts::unstored;
pub(crate) use cx::const_type as stored_type;
pub use dims::DimTable;
pub use layouts::{Choice, Target, choose};

use std::collections::BTreeMap;

use bitc_format::{BufferId, ConstId, DType, DTypeSet, DimId, Inst, Layer, Layout, SymbolId};
use bitc_ir::ops::Op;
use bitc_ir::{Blob, Facts, Graph, NodeId, Shape, ValueId};

use crate::error::{Diagnostic, Failure};
use cx::{Cx, Refusal};

/// A graph and the program it became.
#[derive(Debug)]
pub struct Lowered {
    /// The graph that was lowered: that of the caller with what depends on constants only computed, and compact.
    pub graph: Graph,
    /// The instructions and all they refer to.
    pub program: Program,
}

/// Instructions, and the tables they refer to by index.
#[derive(Debug, Default)]
pub struct Program {
    /// Dimension expressions.
    pub dims: DimTable,
    /// The symbol that counts the samples of a batch: the leading one of the first input.
    pub batch: Option<SymbolId>,
    /// What instructions read and write.
    pub buffers: Vec<Buffer>,
    /// The number of storages.
    pub n_storages: usize,
    /// Constants.
    pub consts: Vec<Const>,
    /// The instructions, in order.
    pub code: Vec<Instruction>,
    /// The inputs of the model.
    pub inputs: Vec<Port>,
    /// The outputs of the model.
    pub outputs: Vec<Port>,
    /// The layers with weights.
    pub layers: Vec<Layer>,
    /// Where the constants of the graph went.
    pub const_of: BTreeMap<ValueId, ConstId>,
    /// Where the programs of networks went.
    pub network_of: BTreeMap<NodeId, ConstId>,
    /// The layers whose sums the instructions of quantisers have as well.
    pub layer_of: BTreeMap<NodeId, NodeId>,
}

/// An array that instructions read and write.
#[derive(Clone, PartialEq, Debug)]
pub struct Buffer {
    /// The element type.
    pub dtype: DType,
    /// The dimensions, as the graph has them.
    pub shape: Shape,
    /// The dimensions in the table.
    pub dims: Vec<DimId>,
    /// What the length of a row is rounded up to, in bytes.
    pub row_align: u32,
    /// The memory it lives in; buffers with the same storage are views of the same bytes.
    pub storage: usize,
}

/// A constant with its bytes.
#[derive(Clone, Debug)]
pub struct Const {
    /// The type of the logical values.
    pub dtype: DType,
    /// How they are stored.
    pub layout: Layout,
    /// The dimensions.
    pub shape: Vec<u64>,
    /// The bytes as the artifact has them: those of a tensor of the graph, or packed ones.
    pub data: Blob,
}

/// An instruction and the nodes it computes.
#[derive(Clone, PartialEq, Debug)]
pub struct Instruction {
    /// The instruction.
    pub inst: Inst,
    /// The node whose value it completes or prepares; `None` for the copy of an output.
    pub node: Option<NodeId>,
    /// The names of the source nodes.
    pub origin: Vec<String>,
}

/// An input or output of the model.
#[derive(Clone, PartialEq, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its buffer.
    pub buffer: BufferId,
    /// The element types that are accepted.
    pub accepts: DTypeSet,
}

/// Lowers a graph that is frozen and whose operations all have instructions.
///
/// # Errors
/// Everything that stands in the way, by node: operations, types or attributes that no instruction takes.
pub fn lower(graph: &Graph, target: Target) -> Result<Lowered, Failure> {
    check(graph)?;
    let graph = consts::fold(graph);
    let order = graph.live_order().ok_or_else(|| Diagnostic::bug("the nodes of the graph form a cycle"))?;
    let mut cx = Cx::new(&graph, &order, target);
    cx.define_inputs();
    for id in order {
        if cx.chains().holds(id) {
            continue;
        }
        cx.lower_with(id, node);
    }
    cx.define_outputs();
    let program = cx.finish()?;
    Ok(Lowered { graph, program })
}

/// Lowers one node.
fn node(cx: &mut Cx<'_>, id: NodeId) -> Result<(), Refusal> {
    match &cx.graph().node(id).op {
        Op::Linear(op) => dense::linear(cx, id, op),
        Op::MatMul(_) => dense::matmul(cx, id),
        Op::QuantizeAct(op) => quantize::quantize_act(cx, id, op),
        Op::Dequantize(_) => elementwise::dequantize(cx, id),
        Op::Ternarize(_) => Err(cx
            .unsupported(id, "weights cannot be quantised while running")
            .hint("run the pass `freeze` first")
            .into()),
        Op::BitLinear(op) => bit_linear::bit_linear(cx, id, op),
        Op::Conv2d(op) => conv::conv2d(cx, id, op),
        Op::BitConv2d(op) => conv::bit_conv2d(cx, id, op),
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Logic(_) | Op::Remainder(_) => {
            elementwise::elementwise(cx, id)
        }
        Op::Clip(_) | Op::Where(_) | Op::BatchNorm(_) => elementwise::elementwise(cx, id),
        Op::Cast(_) => elementwise::cast(cx, id),
        Op::BitCast(_) => shape::bit_cast(cx, id),
        Op::LayerNorm(op) => norm::layer_norm(cx, id, op),
        Op::RmsNorm(op) => norm::rms_norm(cx, id, op),
        Op::Softmax(op) => norm::softmax(cx, id, op),
        Op::MaxPool2d(op) => conv::max_pool2d(cx, id, op),
        Op::AvgPool2d(op) => conv::avg_pool2d(cx, id, op),
        Op::Reduce(op) => norm::reduce(cx, id, op),
        Op::ArgMax(op) => logic::argmax(cx, id).unwrap_or_else(|| norm::argmax(cx, id, op)),
        Op::Reshape(_) | Op::Flatten(_) => shape::reshape(cx, id),
        Op::Transpose(op) => shape::transpose(cx, id, op),
        Op::Concat(op) => shape::concat(cx, id, op),
        Op::Expand(_) => shape::expand(cx, id),
        Op::Pad(op) => shape::pad(cx, id, op),
        Op::Slice(op) => shape::slice(cx, id, op),
        Op::Reverse(op) => shape::reverse(cx, id, op),
        Op::Thermometer(_) => logic::thermometer(cx, id),
        Op::Lut(_) => logic::lut(cx, id),
        Op::LogicNet(op) => logic::logic_net(cx, id, op),
        Op::GroupSum(op) => logic::group_sum(cx, id, op),
        Op::Gather(op) => index::gather(cx, id, op),
        Op::GatherElements(op) => index::gather_elements(cx, id, op),
        Op::GatherNd(op) => index::gather_nd(cx, id, op),
        Op::Scatter(op) => index::scatter(cx, id, op),
        Op::ShapeOf(op) => index::shape_of(cx, id, op),
        Op::Iota(_) => index::iota(cx, id),
        Op::Cumulate(op) => norm::cumulate(cx, id, op),
        Op::TopK(op) => norm::top_k(cx, id, op),
        Op::Einsum(_) => Err(cx.unsupported(id, "no instruction does this").into()),
        Op::Custom(op) => Err(cx
            .unsupported(id, &format!("`{}` has no instruction", op.qualified_name()))
            .hint("`bitc list ops` shows what the runtime executes")
            .into()),
    }
}

/// Whether the operation of that name has an instruction; [`lower`] may still refuse some of its types and attributes.
pub fn has_instruction(name: &str) -> bool {
    !matches!(name, "ternarize" | "einsum" | "custom")
}

/// The graph is well formed and frozen.
fn check(graph: &Graph) -> Result<(), Failure> {
    let faults = |facts, make: fn(String) -> Diagnostic| {
        let faults = bitc_ir::verify::verify(graph, facts).err().unwrap_or_default();
        Failure::check(faults.into_iter().map(|fault| make(fault.message)).collect())
    };
    faults(Facts::NONE, Diagnostic::bug)?;
    faults(Facts::FROZEN, |message| {
        Diagnostic::wrong_input(message).hint("run the pass `freeze` before an artifact is made")
    })
}
