//! A file test as it is written: commands, graphs, expected faults, runs.

use bitc_ir::text::parse_attrs;
use bitc_ir::{Attrs, Facts};

/// One file.
#[derive(Debug)]
pub struct Case {
    /// What to do with each graph.
    pub commands: Vec<Command>,
    /// Whether passes must keep values.
    pub values: bool,
    /// Calibration inputs of the passes, as written; empty without any.
    pub calibration: String,
    /// The graphs.
    pub sections: Vec<Section>,
}

/// What to do with a graph.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Print it and read the print.
    Print,
    /// Check it and some facts.
    Verify(Facts),
    /// Run passes and show graph and remarks.
    Pass(Vec<(String, Attrs)>),
    /// Run passes and show the remarks.
    Explain(Vec<(String, Attrs)>),
    /// Run the passes of a pipeline and show graph and remarks.
    Pipeline(String),
    /// Only run it.
    Eval,
    /// Lower it, and run it on seeded inputs by the evaluator and the runtime.
    Runtime,
}

/// One graph with what is said about it.
#[derive(Debug)]
pub struct Section {
    /// The text, with empty lines in front so that line numbers are those of the file.
    pub text: String,
    /// The line where the graph begins.
    pub line: usize,
    /// Expected faults by line.
    pub errors: Vec<(usize, String)>,
    /// Expected results.
    pub runs: Vec<Run>,
}

/// One `// run:` line.
#[derive(Debug)]
pub struct Run {
    /// Its line.
    pub line: usize,
    /// The name of the graph.
    pub graph: String,
    /// The inputs as written.
    pub inputs: String,
    /// What comes out.
    pub expected: Expected,
}

/// What comes out of a run.
#[derive(Debug)]
pub enum Expected {
    /// These outputs, equal as numbers; NaN equals NaN.
    Equal(String),
    /// These outputs, equal bit by bit.
    Identical(String),
    /// These outputs but for rounding.
    Close(String),
    /// An error whose text ends like that.
    Failure(String),
}

impl Case {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The line that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut case = Case { commands: Vec::new(), values: true, calibration: String::new(), sections: Vec::new() };
        for (number, line) in (1..).zip(text.lines()) {
            let at = |message: &str| format!("line {number}: {message}");
            if line.starts_with("graph") || line.starts_with("frozen") {
                let text = "\n".repeat(number - 1);
                case.sections.push(Section { text, line: number, errors: Vec::new(), runs: Vec::new() });
            }
            if let Some((key, value)) = line.strip_prefix("// ").and_then(directive) {
                match (key, case.sections.last_mut()) {
                    ("test", None) => case.commands.push(command(value).map_err(|e| at(&e))?),
                    ("values", None) if value == "off" => case.values = false,
                    ("calibration", None) => case.calibration = value.to_owned(),
                    ("run", Some(section)) => section.runs.push(parse_run(number, value).ok_or_else(|| at("no run"))?),
                    _ => return Err(at("no such directive here; known are test, values, calibration, error and run")),
                }
            }
            if let Some(section) = case.sections.last_mut() {
                section.text.push_str(line);
                section.text.push('\n');
                let errors = line.split("// error: ").skip(1).map(|e| (number, e.trim().to_owned()));
                section.errors.extend(errors);
            }
        }
        match (case.commands.is_empty(), case.sections.is_empty()) {
            (false, false) => Ok(case),
            _ => Err("no `// test:` line or no graph".to_owned()),
        }
    }
}

/// `word: rest` where the word is one that could be a directive.
fn directive(comment: &str) -> Option<(&str, &str)> {
    let (key, value) = comment.split_once(':')?;
    (key != "error" && key.chars().all(|c| c.is_ascii_lowercase())).then_some((key, value.trim()))
}

fn command(text: &str) -> Result<Command, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (word, rest) {
        ("print", "") => Ok(Command::Print),
        ("eval", "") => Ok(Command::Eval),
        ("runtime", "") => Ok(Command::Runtime),
        ("verify", _) => {
            let mut facts = Facts::NONE;
            for name in rest.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                facts |= Facts::from_name(name).ok_or_else(|| format!("no fact is called `{name}`"))?;
            }
            Ok(Command::Verify(facts))
        }
        ("pass", _) => Ok(Command::Pass(passes(rest)?)),
        ("explain", _) => Ok(Command::Explain(passes(rest)?)),
        ("pipeline", name) if !name.is_empty() => Ok(Command::Pipeline(name.to_owned())),
        _ => Err(format!("`{text}` is no command")),
    }
}

/// `name {params}, name`.
fn passes(text: &str) -> Result<Vec<(String, Attrs)>, String> {
    let mut passes = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let name_end = rest.find([' ', ',', '{']).unwrap_or(rest.len());
        let name = rest[..name_end].to_owned();
        rest = rest[name_end..].trim_start();
        let mut params = Attrs::new();
        if rest.starts_with('{') {
            let end = rest.find('}').ok_or("the parameters are not closed")? + 1;
            params = parse_attrs(&rest[..end]).map_err(|e| e[0].to_string())?;
            rest = &rest[end..];
        }
        passes.push((name, params));
        rest = rest.trim_start().trim_start_matches(',').trim_start();
    }
    if passes.is_empty() { Err("no pass is named".to_owned()) } else { Ok(passes) }
}

/// `@g(inputs) == outputs`.
fn parse_run(line: usize, text: &str) -> Option<Run> {
    let (graph, rest) = text.strip_prefix('@')?.split_once('(')?;
    let (inputs, result) = rest.split_once(')')?;
    let result = result.trim();
    let (sign, value) = result.split_once(' ')?;
    let value = value.trim().to_owned();
    let expected = match sign {
        "==" => Expected::Equal(value),
        "===" => Expected::Identical(value),
        "~=" => Expected::Close(value),
        "fails:" => Expected::Failure(value),
        _ => return None,
    };
    Some(Run { line, graph: graph.to_owned(), inputs: inputs.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_lines() {
        let text = "// test: pass a {x = 1}, b\n// values: off\n\ngraph @g(%x: f32) {\n  return %x // error: e\n}\n// run: @g(1) == 1\n";
        let case = Case::parse(text).unwrap();
        let Command::Pass(passes) = &case.commands[0] else { panic!("{case:?}") };
        assert_eq!(passes.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(passes[0].1.len(), 1);
        assert!(!case.values);
        let section = &case.sections[0];
        assert_eq!(section.errors, [(5, "e".to_owned())]);
        assert_eq!(section.text.lines().position(|l| l.starts_with("graph")), Some(3));
        assert_eq!((section.runs[0].line, section.runs[0].inputs.as_str()), (7, "1"));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "graph @g() { return }",
            "// test: verify",
            "// test: dance\ngraph @g() { return }",
            "// test: verify happy\ngraph @g() { return }",
            "// test: eval\n// values: maybe\ngraph @g() { return }",
            "// test: eval\ngraph @g() { return }\n// rnu: @g() == 1",
            "// test: eval\ngraph @g() { return }\n// run: g() == 1",
            "// test: pass\ngraph @g() { return }",
        ] {
            assert!(Case::parse(text).is_err(), "{text}");
        }
    }
}
