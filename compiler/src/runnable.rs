//! What can be run on arrays: an artifact on the runtime, or a graph on the reference evaluator.

use std::collections::BTreeMap;
use std::path::Path;

use bitc_format::{ErrorKind, FormatError};
use bitc_ir::eval::EvalError;
use bitc_ir::{Blob, DType, Dim, Graph, Tensor};
use bitc_runtime::kernels::{self, Kernels};
use bitc_runtime::{Limits, LoadError, PortDim, Program, RunError, Session, Trace, View, ViewMut, len_bytes};

use crate::compile;
use crate::error::{Diagnostic, Failure, quoted};
use crate::frontend::{self, Source};
use crate::npy::convert_exact;
use crate::random;

/// Something that turns inputs into outputs.
#[derive(Debug)]
pub enum Runnable {
    /// A graph, for the evaluator.
    Graph(Box<Graph>),
    /// An artifact, for the runtime.
    Program(Box<Program>),
}

/// An input or output as its caller sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions: a number, a symbol, or an expression.
    pub dims: Vec<String>,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.dtype, self.dims.join(", "))
    }
}

/// Whether bytes are an artifact, right or wrong.
pub fn is_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BITC")
}

impl Runnable {
    /// Reads an artifact or a model; with a model its warnings come along.
    ///
    /// # Errors
    /// If the file cannot be read or is neither.
    pub fn read(path: &Path, options: &frontend::Options) -> Result<(Self, Vec<Diagnostic>), Failure> {
        let source = Source::read(path)?;
        if is_artifact(source.bytes.bytes()) {
            if let Some(key) = options.overrides.keys().next() {
                let late = Diagnostic::usage(format!("an artifact has no setting {}", quoted(key)));
                return Err(late.hint("give it when the model is compiled").file(source.name()).into());
            }
            let program = load(source.bytes.bytes()).map_err(|d| d.file(source.name()))?;
            return Ok((Runnable::Program(Box::new(program)), Vec::new()));
        }
        let imported = compile::import(&source, options)?;
        Ok((Runnable::Graph(Box::new(imported.graph)), imported.warnings))
    }

    /// The inputs, in order.
    ///
    /// # Errors
    /// If an input has a type that no array has.
    pub fn inputs(&self) -> Result<Vec<Port>, Diagnostic> {
        match self {
            Runnable::Graph(graph) => Ok(graph.inputs().iter().map(|&v| graph_port(graph, v)).collect()),
            Runnable::Program(program) => program.inputs().iter().map(program_port).collect(),
        }
    }

    /// The outputs, in order.
    ///
    /// # Errors
    /// If an output has a type that no array has.
    pub fn outputs(&self) -> Result<Vec<Port>, Diagnostic> {
        match self {
            Runnable::Graph(graph) => {
                let port = |o: &bitc_ir::Output| Port { name: o.name.clone(), ..graph_port(graph, o.value) };
                Ok(graph.outputs().iter().map(port).collect())
            }
            Runnable::Program(program) => program.outputs().iter().map(program_port).collect(),
        }
    }

    /// The names of the outputs, in order.
    pub fn output_names(&self) -> Vec<String> {
        match self {
            Runnable::Graph(graph) => graph.outputs().iter().map(|o| o.name.clone()).collect(),
            Runnable::Program(program) => program.outputs().iter().map(|p| p.name.clone()).collect(),
        }
    }

    /// The symbolic dimensions.
    pub fn symbols(&self) -> Vec<String> {
        match self {
            Runnable::Graph(graph) => compile::symbols(graph),
            Runnable::Program(program) => program.symbols().to_vec(),
        }
    }

    /// The symbol that counts samples: of an artifact the one it says, of a graph the first dimension of the first input.
    pub fn batch_symbol(&self) -> Option<String> {
        match self {
            Runnable::Graph(graph) => {
                let first = graph.inputs().first()?;
                graph.ty(*first).shape.0.first()?.as_symbol().map(ToString::to_string)
            }
            Runnable::Program(program) => program.batch_symbol().map(str::to_owned),
        }
    }

    /// Seeded random inputs for these sizes; a symbol without a size is 1.
    ///
    /// # Errors
    /// If a size names no symbol, or a dimension has no size.
    pub fn random_inputs(&self, sizes: &BTreeMap<String, usize>, seed: u64) -> Result<Vec<Tensor>, Diagnostic> {
        let symbols = self.symbols();
        if let Some(name) = sizes.keys().find(|n| !symbols.contains(n)) {
            let unknown = Diagnostic::usage(format!("there is no dimension {}", quoted(name)));
            let unknown = if symbols.is_empty() { unknown } else { unknown.expected(symbols.join(", ")) };
            return Err(unknown.suggest(name, symbols.iter().map(String::as_str)));
        }
        let size = |name: &str| sizes.get(name).copied().unwrap_or(1);
        let shapes = match self {
            Runnable::Graph(graph) => {
                let of = |d: &Dim| d.eval(&|s| Some(size(s)));
                let shape = |v: &bitc_ir::ValueId| graph.ty(*v).shape.0.iter().map(of).collect::<Option<Vec<_>>>();
                let shapes: Option<Vec<_>> = graph.inputs().iter().map(shape).collect();
                shapes.ok_or_else(|| Diagnostic::wrong_input("the inputs are too large with these sizes"))?
            }
            Runnable::Program(program) => {
                let bound: Vec<(&str, usize)> = symbols.iter().map(|s| (s.as_str(), size(s))).collect();
                program.input_shapes(&bound).map_err(run_error)?
            }
        };
        let ports = self.inputs()?;
        let inputs = ports.iter().zip(&shapes).zip(0..);
        inputs.map(|((port, dims), i)| random::input(&port.name, port.dtype, dims, seed.wrapping_add(i))).collect()
    }

    /// The outputs for these inputs, which have the types of the ports; an artifact runs on these kernels.
    ///
    /// # Errors
    /// If an input does not fit or the run fails.
    pub fn run(&self, inputs: &[Tensor], kernels: &'static dyn Kernels) -> Result<Vec<Tensor>, Diagnostic> {
        match self {
            Runnable::Graph(graph) => bitc_ir::eval::eval(graph, inputs).map_err(|e| eval_error(&e)),
            Runnable::Program(program) => run(&mut Session::with_kernels(program, kernels), inputs, None),
        }
    }
}

/// A program from the bytes of an artifact.
///
/// # Errors
/// If they are none, or need what this build or version does not have.
pub fn load(bytes: &[u8]) -> Result<Program, Diagnostic> {
    Program::from_bytes(bytes, &Limits::default()).map_err(|error| match &error {
        LoadError::Format(e) => format_error(e),
        _ => Diagnostic::wrong_input(error.to_string()),
    })
}

/// A fault of an artifact.
pub fn format_error(error: &FormatError) -> Diagnostic {
    let text = error.kind.to_string();
    let newer =
        matches!(error.kind, ErrorKind::Version { .. } | ErrorKind::SectionUnknown { .. } | ErrorKind::Opcode { .. });
    if matches!(error.kind, ErrorKind::LeftOut { .. }) {
        return Diagnostic::unsupported(text).offset(error.offset);
    }
    if newer {
        return Diagnostic::unsupported(text)
            .offset(error.offset)
            .hint("the artifact may come from a newer bitc; compile the model again with this one");
    }
    Diagnostic::wrong_input(format!("the artifact is damaged: {text}")).offset(error.offset)
}

/// A fault of a run.
pub fn run_error(error: RunError) -> Diagnostic {
    Diagnostic::wrong_input(error.to_string())
}

/// A fault of the evaluator.
pub fn eval_error(error: &EvalError) -> Diagnostic {
    match error {
        EvalError::Node { source, origin, op, .. } => {
            let d = eval_error(source);
            let d = Diagnostic::new(d.kind, format!("`{op}`: {}", d.message));
            if origin.is_empty() { d } else { d.origin(origin.as_str()) }
        }
        EvalError::Unsupported(_) => Diagnostic::unsupported(error.to_string()),
        _ => Diagnostic::wrong_input(error.to_string()),
    }
}

/// Runs a session on arrays; `trace` is shown every instruction.
///
/// # Errors
/// If an array does not fit or the run fails.
pub fn run(
    session: &mut Session<'_>,
    inputs: &[Tensor],
    trace: Option<&mut dyn Trace>,
) -> Result<Vec<Tensor>, Diagnostic> {
    let program = session.program();
    let views = views(inputs)?;
    let shapes = session.output_shapes(&views).map_err(run_error)?;
    let mut buffers = output_buffers(program, &shapes)?;
    let mut outputs = output_views(program, &shapes, &mut buffers);
    match trace {
        None => session.run(&views, &mut outputs),
        Some(trace) => session.run_traced(&views, &mut outputs, trace),
    }
    .map_err(run_error)?;
    drop(outputs);
    let tensor = |((bytes, dims), port): ((Vec<u8>, &Vec<usize>), &bitc_runtime::Port)| {
        let wrong = |e: bitc_ir::TensorError| Diagnostic::bug(format!("output {}: {e}", quoted(&port.name)));
        Tensor::from_blob(ir_dtype(port.dtype)?, dims, Blob::new(bytes)).map_err(wrong)
    };
    buffers.into_iter().zip(&shapes).zip(program.outputs()).map(tensor).collect()
}

/// Arrays as the runtime wants them.
///
/// # Errors
/// If an array has a type that the runtime does not know.
pub fn views(inputs: &[Tensor]) -> Result<Vec<View<'_>>, Diagnostic> {
    inputs.iter().map(|t| Ok(View::new(runtime_dtype(t.dtype())?, t.dims(), t.bytes()))).collect()
}

/// Memory for outputs of these shapes.
///
/// # Errors
/// If a size overflows or there is no memory.
pub fn output_buffers(program: &Program, shapes: &[Vec<usize>]) -> Result<Vec<Vec<u8>>, Diagnostic> {
    let buffer = |(port, shape): (&bitc_runtime::Port, &Vec<usize>)| {
        let too_large = || {
            Diagnostic::wrong_input(format!("output {} is too large", quoted(&port.name))).found(format!("{shape:?}"))
        };
        let len = len_bytes(port.dtype, shape).ok_or_else(too_large)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| too_large())?;
        bytes.resize(len, 0);
        Ok(bytes)
    };
    program.outputs().iter().zip(shapes).map(buffer).collect()
}

/// Output memory as the runtime wants it.
pub fn output_views<'a>(program: &Program, shapes: &'a [Vec<usize>], buffers: &'a mut [Vec<u8>]) -> Vec<ViewMut<'a>> {
    let ports = program.outputs().iter().zip(shapes).zip(buffers);
    ports.map(|((port, shape), bytes)| ViewMut::new(port.dtype, shape, bytes)).collect()
}

/// Each array with the element type of its port, converted only where nothing is lost.
///
/// # Errors
/// If an array cannot be converted; the diagnostic names the port.
pub fn convert(tensor: &Tensor, port: &Port) -> Result<Tensor, Diagnostic> {
    convert_exact(tensor, port.dtype).map_err(|d| d.node(port.name.as_str()))
}

/// The kernels of a name, or the best ones.
///
/// # Errors
/// If this machine has none of that name.
pub fn kernels_for(name: Option<&str>) -> Result<&'static dyn Kernels, Diagnostic> {
    let Some(name) = name else { return Ok(kernels::best()) };
    if let Some(kernels) = kernels::by_name(name) {
        return Ok(kernels);
    }
    let here: Vec<_> = kernels::available().map(|k| k.name()).collect();
    if ISAS.contains(&name) {
        let missing = Diagnostic::unsupported(format!("this machine or build has no kernels for {}", quoted(name)));
        return Err(missing.expected(here.join(", ")));
    }
    let unknown = Diagnostic::usage(format!("there is no instruction set {}", quoted(name)));
    Err(unknown.expected(here.join(", ")).suggest(name, ISAS))
}

/// The kernels of a name, or the best ones, on this many threads.
///
/// # Errors
/// As [`kernels_for`], and if the number of threads is not one that can be had.
pub fn kernels_on(name: Option<&str>, threads: usize) -> Result<&'static dyn Kernels, Diagnostic> {
    let kernels = kernels_for(name)?;
    match threads {
        1 => Ok(kernels),
        2..=MAX_THREADS => kernels::with_threads(kernels, threads)
            .map_err(|e| Diagnostic::wrong_input(format!("cannot start {threads} threads: {e}"))),
        _ => {
            Err(Diagnostic::usage("`--threads` is out of range").expected(format!("1 to {MAX_THREADS}")).found(threads))
        }
    }
}

/// The most threads that a run takes.
const MAX_THREADS: usize = 256;

/// Every instruction set that bitc has or may have kernels for.
pub const ISAS: [&str; 5] = ["avx512", "avx2", "avx2-plain", "neon", "portable"];

fn graph_port(graph: &Graph, value: bitc_ir::ValueId) -> Port {
    let value = graph.value(value);
    let dims = value.ty.shape.0.iter().map(ToString::to_string).collect();
    Port { name: value.name.clone(), dtype: value.ty.dtype, dims }
}

fn program_port(port: &bitc_runtime::Port) -> Result<Port, Diagnostic> {
    let dim = |d: &PortDim| match d {
        PortDim::Fixed(n) => n.to_string(),
        PortDim::Symbol(name) => name.clone(),
        PortDim::Computed => "?".to_owned(),
    };
    Ok(Port { name: port.name.clone(), dtype: ir_dtype(port.dtype)?, dims: port.shape.iter().map(dim).collect() })
}

/// The type of the IR for one of the runtime; their names are the same.
///
/// # Errors
/// If the IR has no such type, which is so for packed bits.
pub fn ir_dtype(dtype: bitc_format::DType) -> Result<DType, Diagnostic> {
    let unknown = || Diagnostic::unsupported(format!("arrays of type {dtype} cannot be read or written"));
    DType::from_name(dtype.name()).ok_or_else(unknown)
}

/// The type of the runtime for one of the IR.
fn runtime_dtype(dtype: DType) -> Result<bitc_format::DType, Diagnostic> {
    let found = bitc_format::DType::ALL.into_iter().find(|t| t.name() == dtype.name());
    found.ok_or_else(|| Diagnostic::unsupported(format!("the runtime takes no arrays of type {dtype}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_runs_on_random_inputs_of_the_sizes_asked_for() {
        let text = "graph @g(%x: f32[N, 2], %m: bool[N]) { %y = relu(%x)  return %y }";
        let graph = bitc_ir::text::parse(text, &bitc_ir::text::NoReferences).unwrap();
        let runnable = Runnable::Graph(Box::new(graph));
        let inputs = runnable.random_inputs(&BTreeMap::from([("N".to_owned(), 3)]), 1).unwrap();
        assert_eq!((inputs[0].dims(), inputs[1].dims()), (&[3, 2][..], &[3][..]));
        assert_eq!(runnable.inputs().unwrap()[1].to_string(), "bool[N]");
        let y = runnable.run(&inputs, kernels::best()).unwrap();
        assert_eq!(y[0].dims(), [3, 2]);
        let error = runnable.random_inputs(&BTreeMap::from([("M".to_owned(), 3)]), 1).unwrap_err();
        assert!(error.message.contains("no dimension `M`"), "{error}");
    }

    #[test]
    fn instruction_sets_are_found_or_refused_by_name() {
        assert_eq!(kernels_for(Some("portable")).unwrap().name(), "portable");
        assert_eq!(kernels_for(Some("neon")).map(|k| k.name()).map_err(|d| d.kind.exit_code()), Err(3));
        let error = kernels_for(Some("avx521")).unwrap_err();
        assert_eq!((error.kind.exit_code(), error.hint.as_deref()), (2, Some("did you mean `avx512`?")));
    }
}
