//! From a model to an artifact: import, passes, lowering. The same steps one by one, for commands that stop in between.

use std::collections::BTreeMap;

use bitc_ir::{Dim, Facts, Graph, Origin, Tensor};
use bitc_passes::{CheckValues, PassError, Report};

use crate::backend::{self, Content};
use crate::error::{Diagnostic, Failure};
use crate::frontend::{self, Imported, Source};
use crate::lower::Target;
use crate::observe::{self, Seen, Watch};
use crate::pipeline::Pipeline;
use crate::random;

/// Everything a compilation may be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the model is read.
    pub import: frontend::Options,
    /// The passes.
    pub pipeline: Pipeline,
    /// How they are run.
    pub passes: bitc_passes::Options,
    /// The machines that layouts are chosen for.
    pub target: Target,
    /// Leave the frozen graph out of the artifact.
    pub strip: bool,
}

impl Default for Options {
    /// The pipeline `default`, for every machine.
    fn default() -> Self {
        Self {
            import: frontend::Options::default(),
            pipeline: Pipeline::load("default").expect("the built-in pipelines are checked by a test"),
            passes: bitc_passes::Options::default(),
            target: Target::Any,
            strip: false,
        }
    }
}

/// What a compilation made.
#[derive(Debug)]
pub struct Compiled {
    /// The graph as it was imported.
    pub source: Graph,
    /// The graph that was lowered.
    pub graph: Graph,
    /// The bytes of the artifact.
    pub artifact: Vec<u8>,
    /// What the passes did.
    pub seen: Seen,
    /// Doubts about the source.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles a model.
///
/// # Errors
/// Everything that is wrong with the model, or that no instruction takes, by node.
pub fn compile(source: &Source, options: &Options) -> Result<Compiled, Failure> {
    let Imported { graph: mut imported, warnings } = import(source, &options.import)?;
    let quiet = observe::Options::default();
    let mut nowhere = std::io::sink();
    let mut watch = Watch::new(&quiet, &mut nowhere, &|_| {});
    name_origins(&mut imported);
    let mut graph = imported.clone();
    run_passes(&mut graph, &options.pipeline, options.passes.clone(), &mut watch)
        .map_err(|f| f.file(&source.name()))?;
    let seen = watch.finish()?;
    let settings = backend::Options { target: options.target, strip: options.strip, full: true };
    let artifact = export(&graph, "bit", &settings).map_err(|f| f.file(&source.name()))?.into_bytes();
    Ok(Compiled { source: imported, graph, artifact, seen, warnings })
}

/// Reads a model and binds the dimensions that are known.
///
/// # Errors
/// As [`frontend::import_source`], and if a dimension that is to be bound is not in the model.
pub fn import(source: &Source, options: &frontend::Options) -> Result<Imported, Failure> {
    if frontend::importer_for(source).is_ok_and(|importer| importer.name.starts_with("ONNX")) {
        // This importer binds dimensions itself, since shapes that the model computes depend on them.
        return frontend::import_source(source, options);
    }
    let imported = frontend::import_source(source, &frontend::Options { dims: BTreeMap::new(), ..options.clone() })?;
    let symbols = symbols(&imported.graph);
    if let Some(name) = options.dims.keys().find(|name| !symbols.contains(name)) {
        let unknown = Diagnostic::usage(format!("the model has no dimension {}", crate::error::quoted(name)));
        let unknown = if symbols.is_empty() { unknown } else { unknown.expected(symbols.join(", ")) };
        return Err(unknown.suggest(name, symbols.iter().map(String::as_str)).file(source.name()).into());
    }
    if options.dims.is_empty() {
        return Ok(imported);
    }
    let graph = bind_dims(&imported.graph, &options.dims).map_err(|d| d.file(source.name()))?;
    Ok(Imported { graph, warnings: imported.warnings })
}

/// Gives nodes without an origin the name of their value, so that what follows can speak of them.
pub fn name_origins(graph: &mut Graph) {
    let nameless: Vec<_> = graph.nodes().filter(|(_, n)| n.origin.names().is_empty()).map(|(id, _)| id).collect();
    for id in nameless {
        let node = graph.node(id);
        let named = node.outputs.iter().map(|&v| graph.value(v).name.clone()).find(|n| !n.is_empty());
        let name = named.unwrap_or_else(|| format!("{}#{}", node.op.name(), id.index()));
        *graph.origin_mut(id) = Origin::of(name);
    }
}

/// Runs a pipeline over a graph.
///
/// # Errors
/// If the pipeline is not sound, the graph cannot be compiled, or a pass misbehaves.
pub fn run_passes(
    graph: &mut Graph,
    pipeline: &Pipeline,
    mut options: bitc_passes::Options,
    watch: &mut Watch<'_>,
) -> Result<Report, Failure> {
    if options.check_values != CheckValues::Off && options.samples.is_empty() {
        options.samples = vec![sample(graph, 0)?];
    }
    let manager = pipeline.manager(options)?;
    manager.run(graph, watch).map_err(|error| describe(&error))
}

/// Writes a graph in the format of that name.
///
/// # Errors
/// Everything that the format cannot hold.
pub fn export(graph: &Graph, format: &str, options: &backend::Options) -> Result<Content, Failure> {
    let exporter =
        backend::by_name(format).ok_or_else(|| Diagnostic::usage(format!("there is no format `{format}`")))?;
    exporter.export(graph, options)
}

/// The symbols of a graph's inputs, each once, in order.
pub fn symbols(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for symbol in graph.inputs().iter().flat_map(|&v| &graph.ty(v).shape.0).flat_map(Dim::symbols) {
        let name = symbol.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Seeded random inputs for a graph; symbolic dimensions become 2, which tells rows apart and stays small.
///
/// # Errors
/// If a dimension has no size, or an input is too large.
pub fn sample(graph: &Graph, seed: u64) -> Result<Vec<Tensor>, Diagnostic> {
    let mut inputs = Vec::new();
    for (i, &input) in graph.inputs().iter().enumerate() {
        let value = graph.value(input);
        let size = |d: &Dim| d.eval(&|_| Some(2));
        let dims: Option<Vec<usize>> = value.ty.shape.0.iter().map(size).collect();
        let dims = dims.ok_or_else(|| {
            Diagnostic::wrong_input("nothing says how large this input is").node(&value.name).found(&value.ty)
        })?;
        inputs.push(random::input(&value.name, value.ty.dtype, &dims, seed.wrapping_add(i as u64))?);
    }
    Ok(inputs)
}

/// The graph with symbols replaced by numbers: built anew, so that every type is inferred again.
fn bind_dims(graph: &Graph, dims: &BTreeMap<String, usize>) -> Result<Graph, Diagnostic> {
    let known = |name: &str| dims.get(name).map(|&n| Dim::from(n));
    let bind_shape = |shape: &bitc_ir::Shape| -> Option<bitc_ir::Shape> {
        shape.0.iter().map(|d| d.substitute(&known)).collect::<Option<Vec<_>>>().map(Into::into)
    };
    let overflow = || Diagnostic::wrong_input("a dimension is too large with these sizes");
    let mut bound = Graph::new(graph.name.clone());
    bound.meta = graph.meta.clone();
    let mut values = vec![None; graph.values().len()];
    for (id, value) in graph.values() {
        values[id.index()] = match &value.def {
            bitc_ir::ValueDef::Const(tensor) => Some(bound.add_const(&value.name, tensor.clone())),
            bitc_ir::ValueDef::Param(tensor) => Some(bound.add_param(&value.name, tensor.clone())),
            bitc_ir::ValueDef::Input | bitc_ir::ValueDef::Node(..) => None,
        };
    }
    for &input in graph.inputs() {
        let value = graph.value(input);
        let shape = bind_shape(&value.ty.shape).ok_or_else(overflow)?;
        values[input.index()] = Some(bound.add_input(&value.name, bitc_ir::TensorType::new(value.ty.dtype, shape)));
    }
    let order = graph.live_order().ok_or_else(|| Diagnostic::bug("an imported graph has a cycle"))?;
    for id in order {
        let node = graph.node(id);
        let mut attrs = bitc_ir::Attrs::new();
        for (name, attr) in node.op.attrs() {
            let attr = match &attr {
                bitc_ir::Attr::Shape(shape) => bitc_ir::Attr::from(&bind_shape(shape).ok_or_else(overflow)?),
                _ => attr,
            };
            attrs.insert(name.into_owned(), attr);
        }
        let failed = |e: &dyn std::fmt::Display| {
            Diagnostic::wrong_input(format!("`{}` does not fit these sizes: {e}", node.op.name()))
                .node(node.outputs.first().map_or("", |&v| &graph.value(v).name))
                .origin(node.origin.to_string())
        };
        let op = bitc_ir::Op::from_attrs(node.op.name(), attrs).map_err(|e| failed(&e))?;
        let inputs: Vec<_> = node.inputs.iter().map(|v| v.and_then(|v| values[v.index()])).collect();
        let names: Vec<&str> = node.outputs.iter().map(|&v| graph.value(v).name.as_str()).collect();
        let mark = bound.mark();
        let outputs = bound.add_nodes(&names, op, &inputs).map_err(|e| failed(&e))?;
        for new in bound.nodes_since(mark).collect::<Vec<_>>() {
            *bound.origin_mut(new) = node.origin.clone();
        }
        for (&old, new) in node.outputs.iter().zip(outputs) {
            values[old.index()] = Some(new);
        }
    }
    for output in graph.outputs() {
        let value = values[output.value.index()].ok_or_else(|| Diagnostic::bug("an output was not rebuilt"))?;
        bound.add_output(output.name.clone(), value);
    }
    bound.frozen = graph.frozen;
    bound.compact();
    Ok(bound)
}

/// A pass error as diagnostics: a fault of bitc, of the model, or of what nothing supports.
pub(crate) fn describe(error: &PassError) -> Failure {
    let many = |faults: &[bitc_ir::Fault], make: fn(String) -> Diagnostic| {
        let all = faults.iter().map(|f| make(f.message.clone())).collect();
        Failure::check(all).err().unwrap_or_else(|| Diagnostic::bug(error.to_string()).into())
    };
    match error {
        PassError::InvalidInput(faults) => many(faults, Diagnostic::wrong_input),
        PassError::Goal { goal, faults } if goal.contains(Facts::LOWERABLE) => many(faults, |message| {
            Diagnostic::unsupported(message).hint("`bitc list ops` shows what the runtime executes")
        }),
        PassError::Goal { faults, .. } => many(faults, Diagnostic::wrong_input),
        PassError::Input { message, origin } => {
            let d = Diagnostic::wrong_input(message.clone());
            if origin.names().is_empty() { d.into() } else { d.origin(origin.to_string()).into() }
        }
        PassError::Values { pass, output, difference, allowed } => {
            Diagnostic::values_differ(format!("pass `{pass}` changed output {}", crate::error::quoted(output)))
                .expected(format!("a relative difference of at most {allowed:e}"))
                .found(format!("{difference:e}"))
                .hint("`bitc bisect` finds the rewrite; `--dump-dir` keeps the graphs")
                .into()
        }
        _ if error.is_bug() => Diagnostic::bug(error.to_string()).into(),
        _ => Diagnostic::wrong_input(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(text: &str) -> Graph {
        bitc_ir::text::parse(text, &bitc_ir::text::NoReferences).unwrap()
    }

    #[test]
    fn binding_a_dimension_infers_every_type_again() {
        let g = graph(
            "graph @g(%x: f32[N, T, 4]) { %f = reshape(%x) {shape = [N*T, 4]} : f32[N*T, 4]  %y = relu(%f) return %y }",
        );
        let bound = bind_dims(&g, &BTreeMap::from([("N".to_owned(), 3)])).unwrap();
        assert_eq!(bound.ty(bound.outputs()[0].value).to_string(), "f32[3*T, 4]");
        assert_eq!(symbols(&bound), ["T"]);
        let fixed = bind_dims(&bound, &BTreeMap::from([("T".to_owned(), 2)])).unwrap();
        assert_eq!(fixed.ty(fixed.outputs()[0].value).to_string(), "f32[6, 4]");
        assert_eq!(fixed.nodes().next().unwrap().1.origin.names().len(), 0);
    }

    #[test]
    fn nodes_without_an_origin_get_one() {
        let mut g = graph("graph @g(%x: f32[2]) { %0 = relu(%x)  %y = neg(%0)  return %y }");
        name_origins(&mut g);
        let names: Vec<_> = g.nodes().map(|(_, n)| n.origin.to_string()).collect();
        assert_eq!(names[1], "y");
        assert!(!names[0].is_empty());
    }
}
