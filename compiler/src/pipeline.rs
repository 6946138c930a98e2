//! Pipelines: YAML lists of passes become a pass manager.
//!
//! ```yaml
//! goal: [frozen, lowerable]      # facts that must hold at the end
//! passes:
//!   - simplify
//!   - ternarize-weights: {tolerance: 1e-5}
//! ```
//! The built-in pipelines are the files of `configs/pipelines`, carried inside the program.

use std::path::Path;

use bitc_ir::{Attr, AttrError, Attrs, Facts};
use bitc_passes::registry::{self, PASSES};
use bitc_passes::{Options, Pass, PassManager};

use crate::error::{Diagnostic, Failure, quoted};
use crate::frontend::yaml::document::{self, Entry, Node, Value};
use crate::input;

/// Name and text of every built-in pipeline.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("default", include_str!("../../configs/pipelines/default.yaml")),
    ("debug", include_str!("../../configs/pipelines/debug.yaml")),
    ("small-memory", include_str!("../../configs/pipelines/small-memory.yaml")),
];

/// The longest pipeline file, in bytes.
const BYTES_LIMIT: u64 = 1 << 20;
const GOALS: [&str; 4] = ["canonical", "no-trainable", "frozen", "lowerable"];

/// An ordered list of passes with their parameters, and what they have to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// The name, or the path of the file.
    pub name: String,
    /// What must hold after the last pass.
    pub goal: Facts,
    /// The passes, in order.
    pub steps: Vec<Step>,
}

/// One pass of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The name of the pass.
    pub pass: &'static str,
    /// Its parameters.
    pub params: Attrs,
    /// Line and column in the file.
    place: Option<(u64, u64)>,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self { name: "empty".to_owned(), goal: Facts::NONE, steps: Vec::new() }
    }
}

impl Pipeline {
    /// The pipeline of a built-in name, or in the file at a path.
    ///
    /// # Errors
    /// If there is neither, or the file is not a pipeline.
    pub fn load(name: &str) -> Result<Self, Failure> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(n, _)| *n == name) {
            return Self::parse(text.as_bytes(), name);
        }
        let path = Path::new(name);
        let is_path = name.contains('/') || path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if !is_path {
            let names = BUILT_IN.iter().map(|(n, _)| *n);
            let unknown = Diagnostic::usage(format!("no pipeline is called {}", quoted(name)))
                .expected(format!("{} or a file that ends in .yaml", names.clone().collect::<Vec<_>>().join(", ")));
            return Err(unknown.suggest(name, names).into());
        }
        Self::parse(input::read(path, BYTES_LIMIT)?.bytes(), name)
    }

    /// Reads the text of a pipeline; `name` is what messages call it.
    ///
    /// # Errors
    /// Every unknown key, fact, pass and parameter, with its line.
    pub fn parse(text: &[u8], name: &str) -> Result<Self, Failure> {
        let mut pipeline = Self { name: name.to_owned(), ..Self::default() };
        let mut faults = Vec::new();
        let node = document::parse(text).map_err(|d| d.file(name))?;
        match &node.value {
            Value::Map(entries) => entries.iter().for_each(|entry| pipeline.read_key(entry, &mut faults)),
            other => faults.push(at(&node, wrong("a pipeline is a map").found(other.describe()))),
        }
        if pipeline.steps.is_empty() && faults.is_empty() {
            faults.push(wrong("the pipeline has no passes").expected("a list under the key `passes`"));
        }
        for step in &pipeline.steps {
            faults.extend(step.build().err().map(|d| step.at(d)));
        }
        Failure::check(faults).map_err(|f| f.file(name))?;
        Ok(pipeline)
    }

    /// A pipeline of passes separated by commas, without parameters and without a goal.
    ///
    /// # Errors
    /// Every name that is no pass.
    pub fn of_passes(list: &str) -> Result<Self, Failure> {
        let names: Vec<&str> = list.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
        if names.is_empty() {
            return Err(Diagnostic::usage("no pass is named").hint("`bitc list passes` shows them").into());
        }
        let mut faults = Vec::new();
        let mut steps = Vec::new();
        for name in names {
            match find_pass(name, Diagnostic::usage) {
                Ok(pass) => steps.push(Step { pass, params: Attrs::new(), place: None }),
                Err(d) => faults.push(d),
            }
        }
        Failure::check(faults)?;
        Ok(Self { name: "--passes".to_owned(), goal: Facts::NONE, steps })
    }

    /// Puts a pass in front of the first of some others.
    ///
    /// # Errors
    /// If the pipeline has none of them.
    pub fn insert_before(&mut self, pass: &str, others: &[&str]) -> Result<(), Diagnostic> {
        let pass = find_pass(pass, Diagnostic::usage)?;
        let position = self.steps.iter().position(|s| others.contains(&s.pass)).ok_or_else(|| {
            Diagnostic::usage(format!("pipeline `{}` has no place for pass `{pass}`", self.name))
                .expected(format!("one of the passes {}", others.join(", ")))
        })?;
        self.steps.insert(position, Step { pass, params: Attrs::new(), place: None });
        Ok(())
    }

    /// Sets a parameter: `PASS.NAME` for one pass, `NAME` for every pass that has it.
    ///
    /// # Errors
    /// If no pass of the pipeline has it or the value does not fit.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Diagnostic> {
        self.set_by(&format!("--set {key}"), key, value)
    }

    /// As [`Pipeline::set`], for an option of its own that stands for the parameter.
    ///
    /// # Errors
    /// As [`Pipeline::set`].
    pub fn set_by(&mut self, option: &str, key: &str, value: &str) -> Result<(), Diagnostic> {
        let (pass, param) = match key.split_once('.') {
            Some((pass, param)) => (Some(pass), param),
            None => (None, key),
        };
        if let Some(pass) = pass.filter(|p| !self.steps.iter().any(|s| s.pass == *p)) {
            let here = self.steps.iter().map(|s| s.pass);
            return Err(
                Diagnostic::usage(format!("pipeline `{}` has no pass {}", self.name, quoted(pass))).suggest(pass, here)
            );
        }
        let mut taken = false;
        for step in self.steps.iter_mut().filter(|s| pass.is_none_or(|p| s.pass == p)) {
            let mut changed = step.clone();
            changed.params.insert(param.to_owned(), scalar(value));
            match changed.try_build() {
                Ok(_) => {
                    taken = true;
                    *step = changed;
                }
                Err(AttrError::Unknown { .. }) => {}
                Err(AttrError::Invalid { expected, found, .. }) => {
                    let wrong = Diagnostic::usage(format!("`{option}` cannot be {found}"));
                    return Err(wrong.expected(expected));
                }
                Err(error) => return Err(Diagnostic::usage(format!("`{option}`: {error}"))),
            }
        }
        if taken {
            return Ok(());
        }
        let whose =
            pass.map_or_else(|| format!("no pass of pipeline `{}`", self.name), |p| format!("pass `{p}` does not"));
        let message = match pass {
            Some(_) => format!("{whose} have a parameter {}", quoted(param)),
            None => format!("{whose} has a parameter {}", quoted(param)),
        };
        Err(Diagnostic::usage(message).hint("`bitc list passes` shows what each pass takes"))
    }

    /// The manager that runs this pipeline.
    ///
    /// # Errors
    /// If the passes do not fit together.
    pub fn manager(&self, options: Options) -> Result<PassManager, Failure> {
        let mut faults = Vec::new();
        let mut passes = Vec::new();
        for step in &self.steps {
            match step.build() {
                Ok(pass) => passes.push(pass),
                Err(d) => faults.push(step.at(d).file(self.name.as_str())),
            }
        }
        Failure::check(faults)?;
        let built = PassManager::new(passes, self.goal, options);
        Ok(built.map_err(|e| match &e {
            bitc_passes::PipelineError::StopAfter { .. } => Diagnostic::usage(e.to_string()),
            _ => wrong(e.to_string()).file(self.name.as_str()),
        })?)
    }

    fn read_key(&mut self, entry: &Entry, faults: &mut Vec<Diagnostic>) {
        match entry.key.as_str() {
            "goal" => self.goal = read_goal(&entry.value, faults),
            "passes" => self.steps = read_steps(&entry.value, faults),
            key => {
                let unknown = wrong(format!("a pipeline has no key {}", quoted(key))).expected("goal, passes");
                let unknown = unknown.suggest(key, ["goal", "passes"]);
                faults.push(unknown.line(entry.place.line, entry.place.column));
            }
        }
    }
}

impl Step {
    fn try_build(&self) -> Result<Box<dyn Pass>, AttrError> {
        let entry = registry::find(self.pass);
        let unknown = || AttrError::UnknownOp { name: self.pass.to_owned(), nearest: None };
        entry.ok_or_else(unknown)?.build(self.params.clone()).map_err(|e| e.error)
    }

    fn build(&self) -> Result<Box<dyn Pass>, Diagnostic> {
        self.try_build().map_err(|e| wrong(format!("pass `{}`: {e}", self.pass)))
    }

    fn at(&self, d: Diagnostic) -> Diagnostic {
        match self.place {
            Some((line, column)) => d.line(line, column),
            None => d,
        }
    }
}

fn wrong(message: impl Into<String>) -> Diagnostic {
    Diagnostic::wrong_input(message)
}

fn at(node: &Node, d: Diagnostic) -> Diagnostic {
    d.line(node.place.line, node.place.column)
}

/// The entry of the table of passes, or what to say about a name that is in none.
fn find_pass(name: &str, make: fn(String) -> Diagnostic) -> Result<&'static str, Diagnostic> {
    let unknown = || {
        make(format!("no pass is called {}", quoted(name)))
            .hint("`bitc list passes` shows them all")
            .suggest(name, PASSES.iter().map(|p| p.name))
    };
    registry::find(name).map(|p| p.name).ok_or_else(unknown)
}

fn read_goal(node: &Node, faults: &mut Vec<Diagnostic>) -> Facts {
    let items = match &node.value {
        Value::List(items) => items.iter().collect(),
        Value::Text(_) => vec![node],
        other => {
            faults.push(at(node, wrong("`goal` is a list of facts").found(other.describe())));
            return Facts::NONE;
        }
    };
    let mut goal = Facts::NONE;
    for item in items {
        let name = match &item.value {
            Value::Text(name) => name.as_str(),
            _ => "",
        };
        match Facts::from_name(name) {
            Some(fact) => goal |= fact,
            None => {
                let unknown = wrong("there is no such fact").expected(GOALS.join(", ")).found(item.value.describe());
                faults.push(at(item, unknown.suggest(name, GOALS)));
            }
        }
    }
    goal
}

fn read_steps(node: &Node, faults: &mut Vec<Diagnostic>) -> Vec<Step> {
    let Value::List(items) = &node.value else {
        faults.push(at(node, wrong("`passes` is a list").found(node.value.describe())));
        return Vec::new();
    };
    items.iter().filter_map(|item| read_step(item, faults)).collect()
}

fn read_step(node: &Node, faults: &mut Vec<Diagnostic>) -> Option<Step> {
    let (name, params): (&str, &[Entry]) = match &node.value {
        Value::Text(name) => (name, &[]),
        Value::Map(entries) => match entries.as_slice() {
            [Entry { key, value: Node { value: Value::Map(params), .. }, .. }] => (key, params),
            [Entry { key, value: Node { value: Value::Null, .. }, .. }] => (key, &[]),
            _ => {
                let shape = wrong("a pass with parameters is one key and a map").expected("- PASS: {NAME: VALUE}");
                faults.push(at(node, shape));
                return None;
            }
        },
        other => {
            faults.push(at(node, wrong("a pass is a name").found(other.describe())));
            return None;
        }
    };
    let pass = find_pass(name, Diagnostic::wrong_input).map_err(|d| faults.push(at(node, d))).ok()?;
    let mut attrs = Attrs::new();
    for entry in params {
        match attr(&entry.value.value) {
            Some(value) => {
                attrs.insert(entry.key.clone(), value);
            }
            None => {
                let message = format!("parameter {} has the wrong kind of value", quoted(&entry.key));
                faults.push(at(&entry.value, wrong(message).found(entry.value.value.describe())));
            }
        }
    }
    Some(Step { pass, params: attrs, place: Some((node.place.line, node.place.column)) })
}

/// A YAML value as a parameter.
fn attr(value: &Value) -> Option<Attr> {
    Some(match value {
        Value::Bool(v) => Attr::Bool(*v),
        Value::Int(v) => Attr::Int(*v),
        Value::Float(v) => Attr::Float(*v as f32),
        Value::Text(v) => Attr::Str(v.clone()),
        Value::List(items) => {
            let each =
                |read: fn(&Value) -> Option<Attr>| items.iter().map(|n| read(&n.value)).collect::<Option<Vec<_>>>();
            let ints = each(|v| if let Value::Int(_) = v { attr(v) } else { None });
            let texts = each(|v| if let Value::Text(_) = v { attr(v) } else { None });
            let strings =
                |list: Vec<Attr>| list.into_iter().filter_map(|a| if let Attr::Str(s) = a { Some(s) } else { None });
            let numbers =
                |list: Vec<Attr>| list.into_iter().filter_map(|a| if let Attr::Int(n) = a { Some(n) } else { None });
            match (ints, texts) {
                (Some(list), _) => Attr::Ints(numbers(list).collect()),
                (_, Some(list)) => Attr::Strs(strings(list).collect()),
                _ => return None,
            }
        }
        Value::Null | Value::Map(_) => return None,
    })
}

/// A parameter from the command line: what reads as a bool or a number is one.
fn scalar(text: &str) -> Attr {
    match text {
        "true" => return Attr::Bool(true),
        "false" => return Attr::Bool(false),
        _ => {}
    }
    let number = text.parse().map(Attr::Int).or_else(|_| text.parse().map(Attr::Float));
    number.unwrap_or_else(|_| Attr::Str(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Format;

    fn faults(text: &str) -> Vec<String> {
        let failure = Pipeline::parse(text.as_bytes(), "p.yaml").unwrap_err();
        failure.diagnostics().iter().map(|d| d.print(Format::Short)).collect()
    }

    #[test]
    fn every_built_in_pipeline_is_sound() {
        for (name, _) in BUILT_IN {
            let pipeline = Pipeline::load(name).unwrap();
            assert!(pipeline.goal.contains(Facts::FROZEN | Facts::LOWERABLE), "{name}");
            pipeline.manager(Options::default()).unwrap();
        }
    }

    #[test]
    fn all_faults_are_reported_with_their_places() {
        let text = "goal: [frozn]\nstages: 1\npasses:\n  - simplfy\n  - ternarize-weights: {tolerence: 1}\n  - 3\n";
        let found = faults(text);
        assert!(found[0].starts_with("error: p.yaml:1:8: there is no such fact"), "{found:?}");
        assert!(found[1].contains("p.yaml:2:1") && found[1].contains("no key `stages`"), "{found:?}");
        assert!(found[2].contains("p.yaml:4:5") && found[2].contains("did you mean `simplify`?"), "{found:?}");
        assert!(found[3].contains("p.yaml:6:5") && found[3].contains("a pass is a name"), "{found:?}");
        assert!(found[4].contains("p.yaml:5:5") && found[4].contains("`tolerence`"), "{found:?}");
        assert_eq!(found.len(), 5);
        assert!(faults("passes: []")[0].contains("no passes"));
        assert!(faults("- simplify")[0].contains("is a map"));
    }

    #[test]
    fn passes_that_miss_a_fact_are_refused() {
        let pipeline = Pipeline::parse(b"goal: [frozen]\npasses: [simplify]", "p.yaml").unwrap();
        let error = pipeline.manager(Options::default()).unwrap_err().to_string();
        assert!(error.contains("p.yaml") && error.contains("establishes frozen"), "{error}");
    }

    #[test]
    fn parameters_are_set_where_they_exist() {
        let mut pipeline = Pipeline::load("default").unwrap();
        pipeline.set("tolerance", "1e-5").unwrap();
        pipeline.set("ternarize-weights.weight_only", "true").unwrap();
        let step = pipeline.steps.iter().find(|s| s.pass == "ternarize-weights").unwrap();
        assert_eq!(step.params.get("tolerance"), Some(&Attr::Float(1e-5)));
        assert_eq!(step.params.get("weight_only"), Some(&Attr::Bool(true)));
        let error = |p: &mut Pipeline, key, value| p.set(key, value).unwrap_err().print(Format::Short);
        assert!(error(&mut pipeline, "tolerance", "7").contains("from 0 to 0.1"));
        assert!(error(&mut pipeline, "colour", "red").contains("no pass of pipeline `default` has a parameter"));
        assert!(error(&mut pipeline, "simplify.colour", "red").contains("pass `simplify` does not have a parameter"));
        assert!(error(&mut pipeline, "simplfy.colour", "red").contains("did you mean `simplify`?"));
    }

    #[test]
    fn a_list_on_the_command_line_is_a_pipeline() {
        let pipeline = Pipeline::of_passes("simplify, cse").unwrap();
        assert_eq!(pipeline.steps.iter().map(|s| s.pass).collect::<Vec<_>>(), ["simplify", "cse"]);
        let error = Pipeline::of_passes("simplify,cze,frieze").unwrap_err();
        assert_eq!((error.diagnostics().len(), error.exit_code()), (2, 2));
        assert_eq!(Pipeline::load("defualt").unwrap_err().exit_code(), 2);
    }
}
