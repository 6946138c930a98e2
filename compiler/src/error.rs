//! Diagnostics: everything the driver tells a user about what went wrong.
//!
//! Every reader and importer of this crate returns a [`Diagnostic`]; work that can find several faults returns a
//! [`Failure`], which holds at least one. The three printers (text, one line, JSON) show the same facts. Names and
//! messages may come from hostile files, so every printer escapes control characters and cuts names.

mod names;

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::Serialize;

use self::names::{NAME_LIMIT, shorten};
pub use self::names::{escape, nearest, quoted};

/// The longest message, in characters, that any printer shows.
const MESSAGE_LIMIT: usize = 2000;
/// The longest line of the short format, in bytes.
const SHORT_LIMIT: usize = 500;

/// What sort of failure this is; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The input breaks the rules of its format.
    WrongInput,
    /// Two computations that should agree do not.
    ValuesDiffer,
    /// The command line asks for something that makes no sense.
    Usage,
    /// The input is valid, but something in it is not supported.
    Unsupported,
    /// A fault of bitc itself.
    Bug,
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::WrongInput | Kind::ValuesDiffer => 1,
            Kind::Usage => 2,
            Kind::Unsupported => 3,
            Kind::Bug => 4,
        }
    }

    /// The rank by which the kind of several diagnostics is chosen: the larger wins.
    fn severity(self) -> u8 {
        match self {
            Kind::Unsupported => 0,
            Kind::ValuesDiffer => 1,
            Kind::WrongInput => 2,
            Kind::Usage => 3,
            Kind::Bug => 4,
        }
    }
}

/// The facts of one diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// What sort of failure this is.
    pub kind: Kind,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The file it is about.
    pub file: Option<String>,
    /// The line in that file, counted from 1.
    pub line: Option<u64>,
    /// The column in that line, counted from 1.
    pub column: Option<u64>,
    /// The byte offset in that file.
    pub offset: Option<u64>,
    /// The node, layer or tensor it is about.
    pub node: Option<String>,
    /// Where that node came from, by the names of the source.
    pub origin: Option<String>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What was there instead.
    pub found: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// One fault: what, where, what was expected and found, and what to do.
///
/// ```
/// use bitc::error::{Diagnostic, Format};
/// let d = Diagnostic::wrong_input("weight `fc1` must be rank 2").file("m.yaml").line(3, 5).found("f32[2, 3, 4]");
/// assert_eq!(d.to_string(), "error: m.yaml:3:5: weight `fc1` must be rank 2\n  found: f32[2, 3, 4]");
/// assert_eq!(d.print(Format::Short), "error: m.yaml:3:5: weight `fc1` must be rank 2; found f32[2, 3, 4]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic(Box<Details>);

impl Deref for Diagnostic {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Diagnostic {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Diagnostic {
    /// A diagnostic with nothing but a kind and a message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind,
            message: message.into(),
            file: None,
            line: None,
            column: None,
            offset: None,
            node: None,
            origin: None,
            expected: None,
            found: None,
            hint: None,
        }))
    }

    /// The input breaks the rules of its format.
    pub fn wrong_input(message: impl Into<String>) -> Self {
        Self::new(Kind::WrongInput, message)
    }

    /// Two computations disagree.
    pub fn values_differ(message: impl Into<String>) -> Self {
        Self::new(Kind::ValuesDiffer, message)
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The input is valid, but asks for something bitc does not do.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// A fault of bitc itself.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message).hint("this is a bug in bitc; please report it with the input that shows it")
    }

    /// Sets the file, unless a more precise one is known already.
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.0.file.get_or_insert_with(|| file.into());
        self
    }

    /// Sets the file to that of the weights, unless the place in the model is known.
    pub fn of_weights(self, file: &str) -> Self {
        if self.line.is_some() { self } else { self.file(file) }
    }

    /// Sets line and column, both counted from 1.
    pub fn line(mut self, line: u64, column: u64) -> Self {
        (self.0.line, self.0.column) = (Some(line), Some(column));
        self
    }

    /// Sets the byte offset.
    pub fn offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Sets the node, layer or tensor.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.0.node = Some(node.into());
        self
    }

    /// Sets the names in the source.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.0.origin = Some(origin.into());
        self
    }

    /// Sets what would have been right.
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// Sets what was there instead.
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.0.found = Some(found.to_string());
        self
    }

    /// Sets what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the hint "did you mean `x`?" if one of the known names is near.
    pub fn suggest<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, known) {
            Some(near) => self.hint(format!("did you mean {}?", quoted(near))),
            None => self,
        }
    }

    /// The text of one format. No format ends with a newline.
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Short => self.short(""),
            Format::Json => self.json(&[]),
        }
    }

    /// The text of a doubt that stops nothing: as the text format, but it begins with `warning:`.
    pub fn warning(&self) -> String {
        self.text().replacen("error:", "warning:", 1)
    }

    /// `file:line:column`, as far as known.
    fn place(&self) -> Option<String> {
        let mut place = escape(self.file.as_deref()?);
        for n in [self.line, self.column].into_iter().flatten() {
            place.push_str(&format!(":{n}"));
        }
        Some(place)
    }

    /// The first line of the text format, which all human formats share.
    fn headline(&self) -> String {
        let message = escape(&shorten(&self.message, MESSAGE_LIMIT));
        match self.place() {
            Some(place) => format!("error: {place}: {message}"),
            None => format!("error: {message}"),
        }
    }

    /// The facts below the first line, in the order every format shows them.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let name = |s: &Option<String>| s.as_deref().map(|s| escape(&shorten(s, NAME_LIMIT)));
        let prose = |s: &Option<String>| s.as_deref().map(|s| escape(&shorten(s, MESSAGE_LIMIT)));
        let line = if self.file.is_none() { self.line.map(|n| n.to_string()) } else { None };
        let facts = [
            ("line", line),
            ("offset", self.offset.map(|n| n.to_string())),
            ("node", name(&self.node).map(|n| format!("`{n}`"))),
            ("origin", name(&self.origin)),
            ("expected", prose(&self.expected)),
            ("found", prose(&self.found)),
            ("hint", prose(&self.hint)),
        ];
        facts.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn text(&self) -> String {
        self.facts().iter().fold(self.headline(), |text, (key, value)| format!("{text}\n  {key}: {value}"))
    }

    /// One line of at most [`SHORT_LIMIT`] bytes that ends with `tail`.
    fn short(&self, tail: &str) -> String {
        let mut line = self.headline();
        for (key, value) in self.facts() {
            line.push_str(&format!("; {key} {value}"));
        }
        let room = SHORT_LIMIT - tail.len();
        if line.len() > room {
            line.truncate(line.floor_char_boundary(room - "...".len()));
            line.push_str("...");
        }
        line + tail
    }

    fn json(&self, more: &[Diagnostic]) -> String {
        let object = Json { schema: 1, fields: Fields::of(self), more: more.iter().map(Fields::of).collect() };
        serde_json::to_string(&object).unwrap_or_else(|e| format!("{{\"schema\":1,\"message\":\"{e}\"}}"))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl std::error::Error for Diagnostic {}

/// How diagnostics are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A headline and indented facts.
    #[default]
    Text,
    /// Exactly one line of at most 500 bytes.
    Short,
    /// One JSON object; with several faults the others are in its list `more`.
    Json,
}

/// One or more diagnostics, in the order they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Vec<Diagnostic>);

impl Failure {
    /// `Ok` if nothing was found, so that a check can end with `Failure::check(faults)?`.
    ///
    /// # Errors
    /// If there is at least one fault.
    pub fn check(faults: Vec<Diagnostic>) -> Result<(), Failure> {
        if faults.is_empty() { Ok(()) } else { Err(Failure(faults)) }
    }

    /// All diagnostics; there is at least one.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }

    /// Names the file in every diagnostic that names none.
    pub fn file(self, file: &str) -> Self {
        Self(self.0.into_iter().map(|d| d.file(file)).collect())
    }

    /// The kind that decides the exit code: a bug before wrong usage, wrong input before unsupported.
    pub fn kind(&self) -> Kind {
        self.0.iter().map(|d| d.kind).max_by_key(|k| k.severity()).unwrap_or(Kind::Bug)
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    /// The text of one format, without a newline at the end. The text format shows every diagnostic; the short one shows
    /// the most severe and counts the others; JSON is one object, the most severe, with the others in `more`.
    pub fn print(&self, format: Format) -> String {
        let kind = self.kind();
        let Some(first) = self.0.iter().position(|d| d.kind == kind) else { return String::new() };
        let others =
            || self.0.iter().enumerate().filter(|(i, _)| *i != first).map(|(_, d)| d.clone()).collect::<Vec<_>>();
        match format {
            Format::Text => self.0.iter().map(Diagnostic::text).collect::<Vec<_>>().join("\n"),
            Format::Short if self.0.len() == 1 => self.0[first].short(""),
            Format::Short => self.0[first].short(&format!(" (and {} more)", self.0.len() - 1)),
            Format::Json => self.0[first].json(&others()),
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Self {
        Self(vec![d])
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(Format::Text))
    }
}

impl std::error::Error for Failure {}

/// The JSON object; its keys and their order are part of the command line's contract.
#[derive(Serialize)]
struct Json {
    schema: u32,
    #[serde(flatten)]
    fields: Fields,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<Fields>,
}

#[derive(Serialize)]
struct Fields {
    kind: Kind,
    file: Option<String>,
    line: Option<u64>,
    column: Option<u64>,
    offset: Option<u64>,
    node: Option<String>,
    origin: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
    message: String,
}

impl Fields {
    fn of(d: &Diagnostic) -> Self {
        let text = |s: &Option<String>, limit| s.as_deref().map(|s| escape(&shorten(s, limit)));
        Self {
            kind: d.kind,
            file: text(&d.file, MESSAGE_LIMIT),
            line: d.line,
            column: d.column,
            offset: d.offset,
            node: text(&d.node, NAME_LIMIT),
            origin: text(&d.origin, NAME_LIMIT),
            expected: text(&d.expected, MESSAGE_LIMIT),
            found: text(&d.found, MESSAGE_LIMIT),
            hint: text(&d.hint, MESSAGE_LIMIT),
            message: escape(&shorten(&d.message, MESSAGE_LIMIT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Diagnostic {
        Diagnostic::wrong_input("weight `a` has the wrong shape")
            .file("m.yaml")
            .line(3, 7)
            .offset(40)
            .node("fc1")
            .origin("fc1/Gemm")
            .expected("f32[2, 3]")
            .found("f32[3, 2]")
            .hint("transpose it")
    }

    #[test]
    fn text_has_a_headline_and_indented_facts() {
        let expected = "error: m.yaml:3:7: weight `a` has the wrong shape\n  offset: 40\n  node: `fc1`\n  origin: fc1/Gemm\n  \
                        expected: f32[2, 3]\n  found: f32[3, 2]\n  hint: transpose it";
        assert_eq!(full().print(Format::Text), expected);
    }

    #[test]
    fn short_is_one_line_within_the_limit_whatever_the_content() {
        let d = full().hint("é".repeat(900)).expected("a\nb\u{1b}[31m\u{202e}");
        let line = d.print(Format::Short);
        assert!(line.len() <= 500 && !line.contains('\n') && line.ends_with("..."), "{line}");
        assert!(line.contains("a\\nb\\u{1b}[31m\\u{202e}"), "{line}");
        let failure = Failure(vec![d.clone(), d.clone(), d]);
        let line = failure.print(Format::Short);
        assert!(line.len() <= 500 && line.ends_with("... (and 2 more)"), "{line}");
    }

    #[test]
    fn json_has_the_keys_of_the_contract_in_order() {
        let one = r#"{"schema":1,"kind":"wrong_input","file":"m.yaml","line":3,"column":7,"offset":40,"node":"fc1","origin":"fc1/Gemm","expected":"f32[2, 3]","found":"f32[3, 2]","hint":"transpose it","message":"weight `a` has the wrong shape"}"#;
        assert_eq!(full().print(Format::Json), one);
        let several = Failure(vec![Diagnostic::unsupported("x"), full()]).print(Format::Json);
        let value: serde_json::Value = serde_json::from_str(&several).unwrap();
        assert_eq!(value["kind"], "wrong_input");
        assert_eq!(value["more"][0]["kind"], "unsupported");
    }

    #[test]
    fn names_are_cut_and_escaped_in_every_format() {
        let d = Diagnostic::wrong_input(format!("no weight {}", quoted(&"x\u{7}".repeat(100)))).node("n\r".repeat(100));
        for format in [Format::Text, Format::Short, Format::Json] {
            let text = d.print(format);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
            assert!(text.len() < 700, "{text}");
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_fault() {
        let code = |kinds: &[Kind]| Failure(kinds.iter().map(|&k| Diagnostic::new(k, "x")).collect()).exit_code();
        assert_eq!(code(&[Kind::Unsupported]), 3);
        assert_eq!(code(&[Kind::Unsupported, Kind::WrongInput]), 1);
        assert_eq!(code(&[Kind::ValuesDiffer]), 1);
        assert_eq!(code(&[Kind::WrongInput, Kind::Usage]), 2);
        assert_eq!(code(&[Kind::Bug, Kind::Usage]), 4);
        assert!(Failure::check(vec![]).is_ok());
    }

    #[test]
    fn a_more_precise_file_is_kept() {
        let failure = Failure(vec![Diagnostic::wrong_input("x").file("a"), Diagnostic::wrong_input("y")]).file("b");
        assert_eq!(failure.to_string(), "error: a: x\nerror: b: y");
    }
}
