//! Runs the commands of a file test.

use std::fmt::Write as _;

use bitc::pipeline::Pipeline;
use bitc_ir::eval::eval;
use bitc_ir::text::{NoReferences, ParseError, PrintOptions, parse, print_with};
use bitc_ir::verify::verify;
use bitc_ir::{Attrs, Facts, Graph, Tensor, TensorType};
use bitc_passes::manager::relative_difference;
use bitc_passes::pass::Values;
use bitc_passes::{Changed, Observer, Options, Pass, PassManager, Remark, registry};

use crate::case::{Case, Command, Expected, Run, Section};
use crate::machine::Machine;
use crate::{literal, sample};

/// What roundings in another order may come to, relative to the largest output.
const ROUNDING: f64 = 1e-5;

pub(crate) fn run(case: &Case) -> Result<Option<String>, String> {
    let mut wrong = Vec::new();
    let mut snapshot = None;
    for command in &case.commands {
        for section in &case.sections {
            match section_command(case, command, section) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => {
                    let snapshot = snapshot.get_or_insert_with(String::new);
                    *snapshot += if snapshot.is_empty() { "" } else { "\n" };
                    *snapshot += &text;
                }
                Err(message) => wrong.push(format!("line {}: {message}", section.line)),
            }
        }
    }
    if wrong.is_empty() { Ok(snapshot) } else { Err(wrong.join("\n")) }
}

fn section_command(case: &Case, command: &Command, section: &Section) -> Result<String, String> {
    if let Command::Verify(facts) = command {
        check_faults(section, *facts)?;
        if !section.errors.is_empty() {
            return Ok(String::new());
        }
    }
    let graph = parse(&section.text, &NoReferences).map_err(|e| join(&e))?;
    runs(&graph, &section.runs)?;
    match command {
        Command::Print => printed(&graph),
        Command::Verify(_) | Command::Eval => Ok(String::new()),
        Command::Runtime => runtime(&graph).map(|()| String::new()),
        Command::Pass(passes) => rewritten(case, section, &graph, &|| build(passes)).map(|(text, _)| text),
        Command::Explain(passes) => rewritten(case, section, &graph, &|| build(passes)).map(|(_, remarks)| remarks),
        Command::Pipeline(name) => rewritten(case, section, &graph, &|| pipeline(name)).map(|(text, _)| text),
    }
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn full(graph: &Graph) -> String {
    print_with(graph, &PrintOptions::full())
}

fn printed(graph: &Graph) -> Result<String, String> {
    let text = full(graph);
    let again = parse(&text, &NoReferences).map_err(|e| format!("the print cannot be read: {}", join(&e)))?;
    if full(&again) == text { Ok(text) } else { Err(format!("the print changes when it is read:\n{text}")) }
}

/// The faults of a graph, each at a line, against those the file expects.
fn check_faults(section: &Section, facts: Facts) -> Result<(), String> {
    let found: Vec<(usize, String)> = match parse(&section.text, &NoReferences) {
        Err(faults) => faults.into_iter().map(|ParseError { at, message }| (at.line as usize, message)).collect(),
        Ok(graph) => {
            let nodes: Vec<usize> = node_lines(section);
            let line = |fault: &bitc_ir::Fault| fault.node.and_then(|n| nodes.get(n.index()).copied());
            let faults = verify(&graph, facts).err().unwrap_or_default();
            faults.into_iter().map(|f| (line(&f).unwrap_or(section.line), f.message)).collect()
        }
    };
    let list = |faults: &[(usize, String)]| faults.iter().fold(String::new(), |s, (l, m)| format!("{s}\n  {l}: {m}"));
    let sorted = |faults: &[(usize, String)]| {
        let mut faults = faults.to_vec();
        faults.sort();
        faults
    };
    if sorted(&found) == sorted(&section.errors) {
        return Ok(());
    }
    Err(format!("expected the faults{}\nfound{}", list(&section.errors), list(&found)))
}

/// The lines of nodes in text order, which is the order of their ids; one node a line.
fn node_lines(section: &Section) -> Vec<usize> {
    let is_node = |line: &str| line.trim_start().starts_with('%') && line.contains(" = ");
    (1..).zip(section.text.lines()).filter(|(_, line)| is_node(line)).map(|(n, _)| n).collect()
}

fn runs(graph: &Graph, runs: &[Run]) -> Result<(), String> {
    let mut wrong = Vec::new();
    // A graph that cannot be lowered is only evaluated; `// test: runtime` is for those that must.
    let machine = if runs.is_empty() { None } else { Machine::of(graph)?.ok() };
    for run in runs {
        if let Err(message) = evaluate(graph, run, machine.as_ref()) {
            wrong.push(format!("run at line {}: {message}", run.line));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn evaluate(graph: &Graph, run: &Run, machine: Option<&Machine>) -> Result<(), String> {
    if run.graph != graph.name {
        return Err(format!("runs @{}, the graph above is @{}", run.graph, graph.name));
    }
    let types: Vec<TensorType> = graph.inputs().iter().map(|&v| graph.ty(v).clone()).collect();
    let inputs = literal::tensors(&run.inputs, &types)?;
    let outputs = eval(graph, &inputs).map_err(|e| e.to_string());
    if let Some(machine) = machine {
        machine.compare(&inputs, outputs.as_deref().map_err(String::as_str))?;
    }
    compare_run(graph, run, outputs)
}

/// The artifact of a graph computes what the graph means.
fn runtime(graph: &Graph) -> Result<(), String> {
    let machine = Machine::of(graph)??;
    let mut compared = 0;
    for inputs in sample::inputs(graph, false) {
        let outputs = eval(graph, &inputs).map_err(|e| e.to_string());
        machine.compare(&inputs, outputs.as_deref().map_err(String::as_str))?;
        compared += outputs.map_or(0, |o| o.iter().map(Tensor::numel).sum());
    }
    if compared > 0 { Ok(()) } else { Err("no values were compared".to_owned()) }
}

/// Checks what came out of a run.
fn compare_run(graph: &Graph, run: &Run, outputs: Result<Vec<Tensor>, String>) -> Result<(), String> {
    let types: Vec<TensorType> = graph.outputs().iter().map(|o| graph.ty(o.value).clone()).collect();
    let (text, same): (_, fn(&Tensor, &Tensor) -> bool) = match (&run.expected, &outputs) {
        (Expected::Failure(expected), Err(found)) if found.ends_with(expected) => return Ok(()),
        (Expected::Failure(expected), Err(found)) => return Err(format!("fails with `{found}`, not `{expected}`")),
        (Expected::Failure(_), Ok(_)) => return Err("does not fail".to_owned()),
        (_, Err(found)) => return Err(found.clone()),
        (Expected::Equal(text), _) => (text, |a, b| relative_difference(a, b) == 0.0),
        (Expected::Identical(text), _) => (text, |a, b| a == b),
        (Expected::Close(text), _) => (text, |a, b| relative_difference(a, b) <= 1e-6),
    };
    let expected = literal::tensors(text, &types)?;
    for ((a, b), output) in expected.iter().zip(outputs.iter().flatten()).zip(graph.outputs()) {
        let empty = a.numel() == 0 && b.numel() == 0 && a.dtype() == b.dtype();
        if !empty && !same(a, b) {
            let number = |t: &Tensor| t.to_f64().iter().map(|&v| shown(v, t)).collect::<Vec<_>>().join(", ");
            let (found, expected) = (number(b), number(a));
            return Err(format!("`{}` is {} [{found}], not {} [{expected}]", output.name, b.ty(), a.ty()));
        }
    }
    Ok(())
}

/// A number with as many digits as its type needs.
fn shown(v: f64, tensor: &Tensor) -> String {
    if tensor.dtype() == bitc_ir::DType::F32 { format!("{:?}", v as f32) } else { format!("{v:?}") }
}

/// The passes of that name and parameters.
fn build(passes: &[(String, Attrs)]) -> Result<Vec<Box<dyn Pass>>, String> {
    let one = |(name, params): &(String, Attrs)| {
        let entry = registry::find(name).ok_or_else(|| format!("no pass is called `{name}`"))?;
        entry.build(params.clone()).map_err(|e| e.to_string())
    };
    passes.iter().map(one).collect()
}

/// The passes of a pipeline file.
fn pipeline(name: &str) -> Result<Vec<Box<dyn Pass>>, String> {
    let path = crate::workspace().join("configs/pipelines").join(format!("{name}.yaml"));
    let text = std::fs::read(&path).map_err(|e| format!("{name}: {e}"))?;
    let pipeline = Pipeline::parse(&text, name).map_err(|e| e.to_string())?;
    build(&pipeline.steps.into_iter().map(|step| (step.pass.to_owned(), step.params)).collect::<Vec<_>>())
}

/// Collects remarks.
#[derive(Default)]
struct Remarks(Vec<String>);

impl Observer for Remarks {
    fn remark(&mut self, remark: &Remark) {
        self.0.push(remark.to_string());
    }
}

type Build<'a> = &'a dyn Fn() -> Result<Vec<Box<dyn Pass>>, String>;

/// Runs passes over a graph and checks what any pass must keep. Returns graph and remarks as text, and remarks alone.
fn rewritten(case: &Case, section: &Section, input: &Graph, build: Build<'_>) -> Result<(String, String), String> {
    let passes = build()?;
    let loosest = passes.iter().map(|p| p.values()).fold(Values::Exact, loosest);
    let mut before = input.clone();
    before.compact();
    let header = format!("// {}\n", graph_line(section));
    let mut graph = input.clone();
    let mut remarks = Remarks::default();
    let mut options = Options::default();
    if !case.calibration.is_empty() {
        let types: Vec<TensorType> = input.inputs().iter().map(|&v| input.ty(v).clone()).collect();
        options.calibration = vec![literal::tensors(&case.calibration, &types)?];
    }
    let manager_of = PassManager::new(build()?, Facts::NONE, options).map_err(|e| e.to_string())?;
    let report = manager_of.run(&mut graph, &mut remarks);
    let said: String = remarks.0.iter().fold(String::new(), |text, r| format!("{text}// {r}\n"));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let failed = format!("{header}{said}// error: {error}\n");
            return Ok((failed.clone(), failed));
        }
    };

    let text = full(&graph);
    let changed = report.passes.iter().any(|p| p.changed == Changed::Yes);
    if changed != (text != full(&before)) {
        return Err(format!("the passes say changed = {changed}:\n{text}"));
    }
    interface(input, &graph)?;
    verify(&graph, Facts::CANONICAL).map_err(|f| join(&f))?;
    printed(&graph)?;
    if loosest != Values::Free {
        settled(&graph, build)?;
    }
    if case.values && loosest != Values::Free {
        values(input, &graph, loosest)?;
        runs(&graph, &section.runs)?;
        let rewrites: u64 = report.passes.iter().map(|p| p.rewrites).sum();
        for limit in 0..rewrites {
            let mut part = input.clone();
            let some = manager(build()?, Some(limit))?.run(&mut part, &mut Remarks::default());
            some.map_err(|e| format!("after {limit} rewrites: {e}"))?;
            interface(input, &part)?;
            values(input, &part, loosest).map_err(|e| format!("after {limit} rewrites: {e}\n{}", full(&part)))?;
        }
    }
    Ok((format!("{said}{text}"), format!("{header}{said}")))
}

/// A second run finds nothing more to do.
fn settled(graph: &Graph, build: Build<'_>) -> Result<(), String> {
    let mut again = graph.clone();
    manager(build()?, None)?.run(&mut again, &mut Remarks::default()).map_err(|e| format!("second run: {e}"))?;
    let (before, after) = (full(graph), full(&again));
    if before == after { Ok(()) } else { Err(format!("a second run changes the graph again:\n{before}{after}")) }
}

/// The line that opens the graph.
fn graph_line(section: &Section) -> &str {
    section.text.lines().nth(section.line - 1).unwrap_or_default().trim_end_matches(" {")
}

fn manager(passes: Vec<Box<dyn Pass>>, rewrite_limit: Option<u64>) -> Result<PassManager, String> {
    let options = Options { rewrite_limit, ..Options::default() };
    PassManager::new(passes, Facts::NONE, options).map_err(|e| e.to_string())
}

fn loosest(a: Values, b: Values) -> Values {
    match (a, b) {
        (Values::Free, _) | (_, Values::Free) => Values::Free,
        (Values::Rounding, _) | (_, Values::Rounding) => Values::Rounding,
        (Values::Exact, Values::Exact) => Values::Exact,
    }
}

/// Inputs and outputs keep their names, order and types.
fn interface(before: &Graph, after: &Graph) -> Result<(), String> {
    let ports = |g: &Graph| {
        let inputs = g.inputs().iter().map(|&v| format!("{}: {}", g.value(v).name, g.ty(v)));
        let outputs = g.outputs().iter().map(|o| format!("{}: {}", o.name, g.ty(o.value)));
        (inputs.collect::<Vec<_>>(), outputs.collect::<Vec<_>>())
    };
    let (before, after) = (ports(before), ports(after));
    if before == after { Ok(()) } else { Err(format!("the interface was {before:?} and is {after:?}")) }
}

/// Two graphs compute the same on seeded inputs, as far as the passes promise.
fn values(before: &Graph, after: &Graph, bound: Values) -> Result<(), String> {
    let allowed = if bound == Values::Exact { 0.0 } else { ROUNDING };
    let mut compared = 0;
    for inputs in sample::inputs(before, bound == Values::Exact) {
        // A batch of this size may be nothing the graph is defined on.
        let Ok(expected) = eval(before, &inputs) else { continue };
        let found = eval(after, &inputs).map_err(|e| format!("only the input graph can be evaluated: {e}"))?;
        for ((a, b), output) in expected.iter().zip(&found).zip(before.outputs()) {
            let difference = relative_difference(a, b);
            if difference > allowed {
                let mut message = format!("`{}` moves by {difference:e}, allowed is {allowed:e}", output.name);
                for tensor in inputs.iter().chain([a, b]) {
                    let _ = write!(message, "\n  {} {:?}", tensor.ty(), tensor.to_f64());
                }
                return Err(message);
            }
        }
        compared += expected.iter().map(Tensor::numel).sum::<usize>();
    }
    if compared > 0 { Ok(()) } else { Err("no values were compared; say `// values: off` if none can be".to_owned()) }
}
