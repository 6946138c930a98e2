//! Operators that the compiler makes a program of: the node becomes a model of its own, which is compiled for the sizes
//! that it is called with.
//!
//! What such an operator computes is therefore said once, where bitc reads models.

use std::ffi::{CStr, c_int};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bitc::frontend::Source;
use bitc_ir::Blob;
use bitc_onnx::export::{DOMAIN, DOMAIN_VERSION, encode};
use bitc_onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, attribute_type,
};
use bitc_runtime::{DType, Limits, Program, View};

use super::ZERO_POINT;
use crate::abi::element::{ANY, BOOL, F32, I8, I32, U8};
use crate::api::{Call, Info, Tensor, dtype_of};
use crate::operator::Operator;
use crate::program::Shared;
use crate::scratch::with_rows;

/// An attribute of an operator.
enum Attribute {
    Float(&'static CStr),
    Int(&'static CStr),
    Ints(&'static CStr),
}

impl Attribute {
    /// The attribute of a node, if it is there.
    fn read(&self, info: &Info<'_>) -> Option<AttributeProto> {
        let named = |name: &CStr, r#type| AttributeProto {
            name: name.to_string_lossy().into_owned(),
            r#type,
            ..AttributeProto::default()
        };
        Some(match *self {
            Attribute::Float(name) => {
                AttributeProto { f: Some(info.float(name)?), ..named(name, attribute_type::FLOAT) }
            }
            Attribute::Int(name) => AttributeProto { i: Some(info.int(name)?), ..named(name, attribute_type::INT) },
            Attribute::Ints(name) => {
                AttributeProto { ints: info.ints(name).ok()?, ..named(name, attribute_type::INTS) }
            }
        })
    }
}

/// What a program is compiled for: of every input that is no constant its element type and its dimensions, `None` for a
/// leading one that counts the rows of the batch.
type Sizes = Vec<(DType, Vec<Option<usize>>)>;

/// How many programs a node keeps. A model calls a node with the same sizes but for the batch, as a rule.
const MAX_PROGRAMS: usize = 8;

/// A node of a model.
struct Node {
    node: NodeProto,
    constants: Vec<TensorProto>,
    /// The places of the inputs that are no constants.
    variable: Vec<usize>,
    /// Whether the first input is quantised activations, which the program takes as signed integers.
    is_quantised: bool,
    outputs: Vec<DType>,
    /// The newest last.
    programs: Mutex<Vec<(Sizes, Arc<Shared>)>>,
}

fn input_name(i: usize) -> String {
    format!("x{i}")
}

fn output_name(i: usize) -> String {
    format!("y{i}")
}

impl Node {
    fn new<O: Operator>(info: &Info<'_>, attributes: &[Attribute]) -> Result<Self, String> {
        let (mut constants, mut variable) = (Vec::new(), Vec::new());
        for i in 0..O::INPUTS.len() {
            match info.constant_if(i)? {
                Some(tensor) => constants.push(constant(i, &tensor)?),
                None => variable.push(i),
            }
        }
        let outputs: Option<Vec<DType>> = O::OUTPUTS.iter().map(|&o| dtype_of(o)).collect();
        let node = NodeProto {
            op_type: O::NAME.to_string_lossy().into_owned(),
            domain: DOMAIN.to_owned(),
            input: (0..O::INPUTS.len()).map(input_name).collect(),
            output: (0..O::OUTPUTS.len()).map(output_name).collect(),
            attribute: attributes.iter().filter_map(|a| a.read(info)).collect(),
            ..NodeProto::default()
        };
        let outputs = outputs.ok_or("an output of a type without arrays")?;
        let is_quantised = O::INPUTS.first() == Some(&U8) && variable.first() == Some(&0);
        Ok(Self { node, constants, variable, is_quantised, outputs, programs: Mutex::default() })
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        let tensors = self.variable.iter().map(|&i| call.input(i)).collect::<Result<Vec<_>, _>>()?;
        let views = tensors.iter().map(|t| Ok(View::new(t.dtype()?, t.dims(), t.bytes()?)));
        let views = views.collect::<Result<Vec<_>, String>>()?;
        let mut run = |views: &[View<'_>]| {
            let program = self.program(views)?;
            program.run(views, &self.outputs, |i, dtype, dims| call.output_bytes(i, dtype, dims))
        };
        let Some(first) = views.first().copied().filter(|_| self.is_quantised) else { return run(&views) };
        with_rows(first.bytes.len(), 0, |signed, _| {
            signed.iter_mut().zip(first.bytes).for_each(|(q, byte)| *q = (byte ^ ZERO_POINT).cast_signed());
            let others = views[1..].iter().copied();
            run(&[View::of(first.shape, signed)].into_iter().chain(others).collect::<Vec<_>>())
        })
    }

    /// The program for inputs of these sizes, compiled now if it is new.
    fn program(&self, inputs: &[View<'_>]) -> Result<Arc<Shared>, String> {
        let rows = inputs.first().and_then(|x| x.shape.first()).copied();
        let dims = |x: &View<'_>| {
            let is_batch = |(axis, &d): (usize, &usize)| if axis == 0 && Some(d) == rows { None } else { Some(d) };
            (x.dtype, x.shape.iter().enumerate().map(is_batch).collect())
        };
        let sizes: Sizes = inputs.iter().map(dims).collect();
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = programs.iter().rev().find(|(of, _)| *of == sizes) {
            return Ok(known.clone());
        }
        let program = Arc::new(Shared::new(self.compile(&sizes)?));
        if programs.len() == MAX_PROGRAMS {
            programs.remove(0);
        }
        programs.push((sizes, program.clone()));
        Ok(program)
    }

    fn compile(&self, sizes: &Sizes) -> Result<Program, String> {
        let input = |(&i, (dtype, dims)): (&usize, &(DType, Vec<Option<usize>>))| {
            port(input_name(i), element_of(*dtype), Some(dims))
        };
        let output = |(i, &dtype): (usize, &DType)| port(output_name(i), element_of(dtype), None);
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
        let model = ModelProto {
            ir_version: 10,
            opset_import: vec![opset("", 21), opset(DOMAIN, DOMAIN_VERSION)],
            graph: Some(GraphProto {
                name: self.node.op_type.clone(),
                node: vec![self.node.clone()],
                initializer: self.constants.clone(),
                input: self.variable.iter().zip(sizes).map(input).collect(),
                output: self.outputs.iter().enumerate().map(output).collect(),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let source = Source { path: PathBuf::from("node.onnx"), bytes: Blob::new(encode(&model)) };
        let options = bitc::Options { strip: true, ..bitc::Options::default() };
        let compiled = bitc::compile(&source, &options).map_err(|e| e.to_string())?;
        Program::from_bytes(&compiled.artifact, &Limits::default()).map_err(|e| e.to_string())
    }
}

/// A constant of the model as one of the model of the node.
fn constant(i: usize, tensor: &Tensor<'_>) -> Result<TensorProto, String> {
    Ok(TensorProto {
        name: input_name(i),
        dims: tensor.dims().iter().map(|&d| d as i64).collect(),
        data_type: element_of(tensor.dtype()?),
        raw_data: Some(tensor.bytes()?.to_vec().into()),
        ..TensorProto::default()
    })
}

/// The number of an element type; it is the same in models and in the interface of onnxruntime.
fn element_of(dtype: DType) -> c_int {
    let all = [F32, U8, I8, I32, BOOL];
    all.into_iter().find(|&e| dtype_of(e) == Some(dtype)).unwrap_or(ANY)
}

/// An input or output. The rows of a batch are a symbol.
fn port(name: String, elem_type: c_int, dims: Option<&Vec<Option<usize>>>) -> ValueInfoProto {
    let value = |d: &Option<usize>| match d {
        Some(d) => DimensionValue::Value(*d as i64),
        None => DimensionValue::Param("N".to_owned()),
    };
    let dim = |d: &Option<usize>| Dimension { value: Some(value(d)) };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(TensorTypeProto { elem_type, shape })) });
    ValueInfoProto { name, r#type, ..ValueInfoProto::default() }
}

macro_rules! compiled {
    ($($(#[$doc:meta])* $name:ident $text:literal $inputs:expr => $outputs:expr, [$($kind:ident $attribute:literal),*];)*) => {$(
        $(#[$doc])*
        pub(super) struct $name(Node);

        impl Operator for $name {
            const NAME: &'static CStr = $text;
            const INPUTS: &'static [c_int] = &$inputs;
            const OUTPUTS: &'static [c_int] = &$outputs;

            fn new(info: &Info<'_>) -> Result<Self, String> {
                Node::new::<Self>(info, &[$(Attribute::$kind($attribute)),*]).map(Self)
            }

            fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
                self.0.compute(call)
            }
        }
    )*};
}

compiled! {
    /// Activations that are whole numbers already.
    RoundAct c"RoundAct" [F32] => [U8, F32], [Ints c"scale_shape", Float c"low", Float c"high"];
    /// A product by ternary weights with a scale for each so many inputs.
    BitLinearGrouped c"BitLinearGrouped" [U8, F32, U8, F32, F32] => [F32], [Ints c"shape"];
    /// A convolution by ternary weights.
    BitConv c"BitConv" [U8, F32, U8, F32, F32] => [F32],
        [Ints c"shape", Ints c"strides", Ints c"pads", Ints c"dilations", Int c"group"];
    /// A convolution by weights of eight bits.
    IntConv c"IntConv" [U8, F32, U8, F32, F32] => [F32],
        [Ints c"strides", Ints c"pads", Ints c"dilations", Int c"group"];
    /// Thresholds for every feature.
    Encode c"Encode" [F32, F32] => [BOOL], [];
    /// Thresholds for features that are chosen.
    EncodeChosen c"EncodeChosen" [F32, F32, I32] => [BOOL], [];
    /// A layer of tables of bits.
    LutLayer c"LutLayer" [BOOL, I32, U8] => [BOOL], [];
    /// A layer of tables of floats.
    LutLayerReal c"LutLayerReal" [BOOL, I32, F32] => [F32], [];
    /// Sums of groups of bits or floats.
    GroupSum c"GroupSum" [ANY] => [F32], [Int c"groups", Float c"tau", Float c"beta"];
}
