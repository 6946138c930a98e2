//! What the families of operations share while a graph is lowered: where values are, and how buffers, constants and
//! instructions are added.

use std::collections::{BTreeMap, BTreeSet};

use bitc_format::inst::{Activation, Cast};
use bitc_format::{BufferId, ConstId, DType, DTypeSet, DimId, Inst, Layout, MAX_RANK, Operand};
use bitc_ir::ops::activation;
use bitc_ir::{Dim, Graph, NodeId, Shape, Tensor, Uses, ValueId};

mod layers;

pub(super) use self::layers::LayerInfo;
use super::fuse::Groups;
use super::requantize::Chains;
use super::{Buffer, Const, Instruction, Port, Program, Target};
use crate::error::{Diagnostic, Failure};

/// Why a node was not lowered.
#[derive(Debug)]
pub(super) enum Refusal {
    /// For a reason of its own.
    Fault(Diagnostic),
    /// What it reads was refused already.
    Consequence,
}

impl From<Diagnostic> for Refusal {
    fn from(fault: Diagnostic) -> Self {
        Refusal::Fault(fault)
    }
}

/// Quantised activations as products want them: rows padded to 64 bytes, and the sum of each row.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaddedRows {
    pub(super) q: BufferId,
    pub(super) sums: BufferId,
}

/// A graph on its way to a program.
pub(super) struct Cx<'g> {
    graph: &'g Graph,
    uses: Uses,
    groups: Groups,
    chains: Chains,
    target: Target,
    program: Program,
    /// The buffer of each value that has one.
    places: Vec<Option<BufferId>>,
    /// The constants of the graph in the shapes they are read in.
    stored: BTreeMap<(ValueId, Vec<usize>), ConstId>,
    pub(super) padded: BTreeMap<ValueId, PaddedRows>,
    /// The weights that layers were noted for.
    weighed: BTreeSet<ValueId>,
    faults: Vec<Diagnostic>,
    /// The node that is being lowered.
    current: Option<NodeId>,
    /// The dimension that counts samples.
    batch: Option<Dim>,
}

impl<'g> Cx<'g> {
    pub(super) fn new(graph: &'g Graph, order: &[NodeId], target: Target) -> Self {
        let uses = graph.uses();
        let chains = Chains::new(graph, order, &uses);
        Self {
            groups: Groups::new(graph, order, &uses, &chains),
            chains,
            graph,
            uses,
            target,
            program: Program::default(),
            places: vec![None; graph.values().len()],
            stored: BTreeMap::new(),
            padded: BTreeMap::new(),
            weighed: BTreeSet::new(),
            faults: Vec::new(),
            current: None,
            batch: None,
        }
    }

    pub(super) fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// A required input of a node.
    pub(super) fn input(&self, id: NodeId, i: usize) -> Result<ValueId, Refusal> {
        let absent = || Diagnostic::bug(format!("input {i} of `{}` is absent", self.graph.node(id).op.name()));
        Ok(self.graph.input(id, i).ok_or_else(absent)?)
    }

    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn chains(&self) -> &Chains {
        &self.chains
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// The program, if nothing was refused.
    pub(super) fn finish(self) -> Result<Program, Failure> {
        Failure::check(self.faults)?;
        Ok(self.program)
    }

    // Faults.

    /// A fault of a node: something that no instruction does.
    pub(super) fn unsupported(&self, id: NodeId, what: &str) -> Diagnostic {
        let node = self.graph.node(id);
        let fault = Diagnostic::unsupported(format!("cannot lower `{}`: {what}", node.op.name()));
        let name = node.outputs.first().map(|&v| self.graph.value(v).name.clone()).unwrap_or_default();
        let fault = if name.is_empty() { fault } else { fault.node(name) };
        if node.origin.names().is_empty() { fault } else { fault.origin(node.origin.to_string()) }
    }

    /// A fault of the node that is being lowered, or of a port.
    fn fault(&self, what: &str) -> Diagnostic {
        match self.current {
            Some(id) => self.unsupported(id, what),
            None => Diagnostic::unsupported(what),
        }
    }

    /// Lowers one node; what it refuses is noted.
    pub(super) fn lower_with(&mut self, id: NodeId, lower: impl FnOnce(&mut Self, NodeId) -> Result<(), Refusal>) {
        self.current = Some(id);
        if let Err(Refusal::Fault(fault)) = lower(self, id) {
            self.faults.push(fault);
        }
        self.current = None;
    }

    // Ports.

    /// Makes the inputs of the graph buffers, and their bare symbols those of the program.
    pub(super) fn define_inputs(&mut self) {
        for &input in self.graph.inputs() {
            for symbol in self.graph.ty(input).shape.0.iter().filter_map(Dim::as_symbol) {
                self.program.dims.add_symbol(symbol);
            }
        }
        let first = self.graph.inputs().first().and_then(|&v| self.graph.ty(v).shape.0.first());
        self.batch = first.filter(|d| d.as_symbol().is_some()).cloned();
        self.program.batch = first.and_then(Dim::as_symbol).and_then(|s| self.program.dims.symbol(s));
        for &input in self.graph.inputs() {
            let value = self.graph.value(input);
            match self.define(input) {
                Ok(buffer) => self.program.inputs.push(self.port(&value.name, buffer)),
                Err(Refusal::Fault(fault)) => self.faults.push(fault.node(value.name.clone())),
                Err(Refusal::Consequence) => {}
            }
        }
    }

    /// Gives every output of the graph a buffer that nothing else is; copies where a value is an input, a constant, or
    /// returned before.
    pub(super) fn define_outputs(&mut self) {
        let mut taken: Vec<usize> = self.program.inputs.iter().map(|p| self.storage(p.buffer)).collect();
        for output in self.graph.outputs() {
            let buffer = match self.operand(output.value) {
                Ok(Operand::Buffer(buffer)) if !taken.contains(&self.storage(buffer)) => Ok(buffer),
                Ok(x) => {
                    let ty = self.graph.ty(output.value);
                    self.buffer_of(ty.dtype, &ty.shape).inspect(|&y| self.emit(Cast { y, x }))
                }
                Err(refusal) => Err(refusal),
            };
            match buffer {
                Ok(buffer) => {
                    taken.push(self.storage(buffer));
                    self.program.outputs.push(self.port(&output.name, buffer));
                }
                Err(Refusal::Fault(fault)) => self.faults.push(fault.node(output.name.clone())),
                Err(Refusal::Consequence) => {}
            }
        }
    }

    fn port(&self, name: &str, buffer: BufferId) -> Port {
        let accepts = DTypeSet::convertible_to(self.program.buffers[buffer.index()].dtype);
        Port { name: name.to_owned(), buffer, accepts }
    }

    fn storage(&self, buffer: BufferId) -> usize {
        self.program.buffers[buffer.index()].storage
    }

    // Buffers.

    /// A new buffer with memory of its own.
    pub(super) fn buffer(&mut self, dtype: DType, shape: &Shape) -> Result<BufferId, Refusal> {
        self.padded_buffer(dtype, shape, 1)
    }

    /// A new buffer whose rows are padded to a multiple of `row_align` bytes.
    pub(super) fn padded_buffer(&mut self, dtype: DType, shape: &Shape, row_align: u32) -> Result<BufferId, Refusal> {
        let storage = self.program.n_storages;
        self.program.n_storages += 1;
        self.push_buffer(dtype, shape, row_align, storage)
    }

    /// The same bytes under other dimensions of the same product.
    pub(super) fn alias(&mut self, buffer: BufferId, shape: &Shape) -> Result<BufferId, Refusal> {
        let Buffer { dtype, row_align, storage, shape: old, .. } = self.program.buffers[buffer.index()].clone();
        if old == *shape {
            return Ok(buffer);
        }
        self.push_buffer(dtype, shape, row_align, storage)
    }

    fn push_buffer(
        &mut self,
        dtype: DType,
        shape: &Shape,
        row_align: u32,
        storage: usize,
    ) -> Result<BufferId, Refusal> {
        if shape.rank() > MAX_RANK {
            let fault = self.fault("an array has too many dimensions");
            return Err(fault.expected(format!("at most {MAX_RANK} dimensions")).found(shape).into());
        }
        let dims = shape.0.iter().map(|dim| self.dim(dim)).collect::<Result<_, _>>()?;
        let id = BufferId(self.program.buffers.len() as u32);
        self.program.buffers.push(Buffer { dtype, shape: shape.clone(), dims, row_align, storage });
        Ok(id)
    }

    /// The entry of a dimension in the table.
    pub(super) fn dim(&mut self, dim: &Dim) -> Result<DimId, Refusal> {
        let Some(id) = self.program.dims.dim(dim) else {
            let fault = self.fault(&format!("nothing says how large dimension `{dim}` is"));
            let hint = "every symbol must be a dimension of an input by itself; `--dim NAME=SIZE` binds one";
            return Err(fault.hint(hint).into());
        };
        Ok(id)
    }

    /// A new buffer for elements of a type of the IR.
    pub(super) fn buffer_of(&mut self, dtype: bitc_ir::DType, shape: &Shape) -> Result<BufferId, Refusal> {
        let Some(stored) = buffer_type(dtype) else {
            let fault = self.fault(&format!("values of type {dtype} cannot be computed while running"));
            return Err(fault.hint("only constants may have it").into());
        };
        self.buffer(stored, shape)
    }

    /// Gives a value a buffer of its own.
    pub(super) fn define(&mut self, value: ValueId) -> Result<BufferId, Refusal> {
        let ty = self.graph.ty(value);
        let buffer = self.buffer_of(ty.dtype, &ty.shape)?;
        self.place(value, buffer);
        Ok(buffer)
    }

    /// Says in which buffer a value is.
    pub(super) fn place(&mut self, value: ValueId, buffer: BufferId) {
        self.places[value.index()] = Some(buffer);
    }

    // Operands.

    /// Where a value can be read: its buffer, or a constant stored element by element.
    pub(super) fn operand(&mut self, value: ValueId) -> Result<Operand, Refusal> {
        if let Some(buffer) = self.places[value.index()] {
            return Ok(buffer.into());
        }
        match self.graph.constant(value) {
            Some(tensor) => Ok(self.const_as(value, tensor.dims())),
            None => Err(Refusal::Consequence),
        }
    }

    /// A value under other dimensions of the same product.
    pub(super) fn view(&mut self, value: ValueId, shape: &Shape) -> Result<Operand, Refusal> {
        match self.operand(value)? {
            Operand::Buffer(buffer) => Ok(self.alias(buffer, shape)?.into()),
            Operand::Const(same) => Ok(match shape.to_fixed() {
                Some(dims) => self.const_as(value, &dims),
                None => Operand::Const(same),
            }),
        }
    }

    /// A constant of the graph, stored element by element under these dimensions.
    fn const_as(&mut self, value: ValueId, dims: &[usize]) -> Operand {
        let key = (value, dims.to_vec());
        if let Some(&id) = self.stored.get(&key) {
            return Operand::Const(id);
        }
        let tensor = self.graph.constant(value).and_then(|t| t.reshaped(dims));
        let tensor = tensor.expect("callers name a constant and a shape of as many elements");
        let id = self.add_tensor(tensor);
        self.stored.insert(key, id);
        self.program.const_of.entry(value).or_insert(id);
        Operand::Const(id)
    }

    /// A new constant, stored element by element.
    pub(super) fn add_tensor(&mut self, tensor: Tensor) -> ConstId {
        let shape = tensor.dims().iter().map(|&d| d as u64).collect();
        let dtype = const_type(tensor.dtype());
        self.add_const(Const { dtype, layout: Layout::Dense, shape, data: tensor.blob().clone() })
    }

    /// A new constant of bytes.
    pub(super) fn add_bytes(&mut self, bytes: Vec<u8>) -> ConstId {
        let shape = vec![bytes.len() as u64];
        self.add_const(Const { dtype: DType::U8, layout: Layout::Dense, shape, data: bytes.into() })
    }

    fn add_const(&mut self, constant: Const) -> ConstId {
        self.program.consts.push(constant);
        ConstId(self.program.consts.len() as u32 - 1)
    }

    /// A constant of the graph in a layout for products; once, however many nodes read it.
    pub(super) fn add_packed(&mut self, value: ValueId, pack: impl FnOnce() -> Const) -> ConstId {
        if let Some(&id) = self.program.const_of.get(&value)
            && self.program.consts[id.index()].layout != Layout::Dense
        {
            return id;
        }
        let id = self.add_const(pack());
        self.program.const_of.insert(value, id);
        id
    }

    /// A value as `f32`, converted where it has another type.
    pub(super) fn f32_operand(&mut self, value: ValueId) -> Result<Operand, Refusal> {
        self.operand_as(value, DType::F32)
    }

    /// A value in a type, converted where it has another one.
    pub(super) fn operand_as(&mut self, value: ValueId, dtype: DType) -> Result<Operand, Refusal> {
        let x = self.operand(value)?;
        let ty = self.graph.ty(value);
        if const_type(ty.dtype) == dtype {
            return Ok(x);
        }
        let y = self.buffer(dtype, &ty.shape)?;
        self.emit(Cast { y, x });
        Ok(y.into())
    }

    /// Computes a float value as `f32`, by an instruction made for the buffer it writes, and converts it where its type
    /// is narrower.
    pub(super) fn compute_f32(&mut self, value: ValueId, inst: impl FnOnce(BufferId) -> Inst) -> Result<(), Refusal> {
        self.compute_as(value, DType::F32, inst)
    }

    /// Computes a value in a type, by an instruction made for the buffer it writes, and converts it where it has another
    /// one.
    pub(super) fn compute_as(
        &mut self,
        value: ValueId,
        dtype: DType,
        inst: impl FnOnce(BufferId) -> Inst,
    ) -> Result<(), Refusal> {
        let ty = self.graph.ty(value);
        let y = self.define(value)?;
        if const_type(ty.dtype) == dtype {
            self.emit(inst(y));
            return Ok(());
        }
        let wide = self.buffer(dtype, &ty.shape)?;
        self.emit(inst(wide));
        self.emit(Cast { y, x: wide.into() });
        Ok(())
    }

    // Instructions.

    /// Says which constant holds the program of a network.
    pub(super) fn note_network(&mut self, id: NodeId, program: ConstId) {
        self.program.network_of.insert(id, program);
    }

    /// Says which layer the instruction of a quantiser sums up.
    pub(super) fn note_sums(&mut self, quantizer: NodeId, layer: NodeId) {
        self.program.layer_of.insert(quantizer, layer);
    }

    /// Appends an instruction for several nodes, of which the one that is being lowered is the last.
    pub(super) fn emit_for(&mut self, members: &[NodeId], inst: impl Into<Inst>) {
        let names = members.iter().flat_map(|&member| self.names(member));
        let origin = names.collect::<bitc_ir::Origin>().names().to_vec();
        self.program.code.push(Instruction { inst: inst.into(), node: self.current, origin });
    }

    /// Appends an instruction for the node that is being lowered.
    pub(super) fn emit(&mut self, inst: impl Into<Inst>) {
        let members = match self.current {
            Some(id) => self.groups.members(id).to_vec(),
            None => Vec::new(),
        };
        let members = if members.is_empty() { self.current.into_iter().collect() } else { members };
        self.emit_for(&members, inst);
    }

    /// The names of the source nodes that a node stands for; the name of its value if there are none.
    pub(super) fn names(&self, id: NodeId) -> Vec<String> {
        let node = self.graph.node(id);
        if !node.origin.names().is_empty() {
            return node.origin.names().to_vec();
        }
        let value = node.outputs.iter().map(|&v| &self.graph.value(v).name).find(|n| !n.is_empty());
        value.cloned().into_iter().collect()
    }

    /// The bytes that a constant takes in the artifact.
    pub(super) fn const_len(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Const(id) => self.program.consts[id.index()].data.bytes().len() as u64,
            Operand::Buffer(_) => 0,
        }
    }
}

/// The element type of a buffer for values of that type; sub-byte types have none.
pub(super) fn buffer_type(dtype: bitc_ir::DType) -> Option<DType> {
    use bitc_ir::DType as Ir;
    match dtype {
        Ir::T2 | Ir::I2 | Ir::U2 | Ir::I4 | Ir::U4 => None,
        other => Some(const_type(other)),
    }
}

/// The element type of a constant of that type: one byte for sub-byte types.
pub(crate) fn const_type(dtype: bitc_ir::DType) -> DType {
    use bitc_ir::DType as Ir;
    match dtype {
        Ir::Bool => DType::Bool,
        Ir::T2 | Ir::I2 | Ir::I4 | Ir::I8 => DType::I8,
        Ir::U2 | Ir::U4 | Ir::U8 => DType::U8,
        Ir::I16 => DType::I16,
        Ir::U16 => DType::U16,
        Ir::I32 => DType::I32,
        Ir::U32 => DType::U32,
        Ir::I64 => DType::I64,
        Ir::U64 => DType::U64,
        Ir::F16 => DType::F16,
        Ir::BF16 => DType::BF16,
        Ir::F32 => DType::F32,
        Ir::F64 => DType::F64,
    }
}

/// The type that a value is computed in by instructions that take numbers as they are: its own, or double precision for
/// the 16-bit floats.
pub(super) fn number_type(dtype: bitc_ir::DType) -> DType {
    match dtype {
        bitc_ir::DType::F16 | bitc_ir::DType::BF16 => DType::F64,
        other => const_type(other),
    }
}

/// The activation of an instruction.
pub(super) fn activation(act: activation::Activation) -> Activation {
    match act {
        activation::Activation::None => Activation::None,
        activation::Activation::Relu => Activation::Relu,
        activation::Activation::Relu2 => Activation::Relu2,
        activation::Activation::Gelu => Activation::GeluErf,
        activation::Activation::GeluTanh => Activation::GeluTanh,
        activation::Activation::Silu => Activation::Silu,
        activation::Activation::Sigmoid => Activation::Sigmoid,
        activation::Activation::Tanh => Activation::Tanh,
    }
}
