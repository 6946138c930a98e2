//! Arrays in and out: `--input`, `--seed`, `--output`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitc_ir::Tensor;
use clap::Args;

use super::console::Console;
use crate::error::{Diagnostic, Failure, quoted};
use crate::runnable::{Port, Runnable, convert};
use crate::{npy, output};

/// Where inputs come from.
#[derive(Debug, Clone, Args)]
pub(super) struct InputArgs {
    /// An input array; without NAME the inputs are bound in order. Without any, inputs are random.
    #[arg(long = "input", value_name = "[NAME=]X.npy")]
    inputs: Vec<String>,
    /// Seed of random inputs.
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
}

impl InputArgs {
    /// Whether the user gave arrays.
    pub(super) fn given(&self) -> bool {
        !self.inputs.is_empty()
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The arrays of the user in the order of the ports, each converted to the type of its port.
    pub(super) fn read(&self, runnable: &Runnable) -> Result<Vec<Tensor>, Failure> {
        read(&self.inputs, runnable)
    }

    /// The arrays of the user, or random ones of these sizes.
    pub(super) fn read_or_random(
        &self,
        runnable: &Runnable,
        sizes: &BTreeMap<String, usize>,
    ) -> Result<Vec<Tensor>, Failure> {
        if self.given() { self.read(runnable) } else { Ok(runnable.random_inputs(sizes, self.seed)?) }
    }
}

/// What arrays are for.
#[derive(Clone, Copy)]
enum Side {
    Input,
    /// What the outputs should be.
    Expected,
}

impl Side {
    fn noun(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Expected => "output",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Side::Input => "--input",
            Side::Expected => "--expected",
        }
    }
}

/// The arrays that `[NAME=]FILE` texts name, in the order of the ports, each converted to the type of its port.
pub(super) fn read(texts: &[String], runnable: &Runnable) -> Result<Vec<Tensor>, Failure> {
    read_ports(texts, &runnable.inputs()?, Side::Input)
}

/// What the outputs should be, in their order.
pub(super) fn read_expected(texts: &[String], runnable: &Runnable) -> Result<Vec<Tensor>, Failure> {
    read_ports(texts, &runnable.outputs()?, Side::Expected)
}

fn read_ports(texts: &[String], ports: &[Port], side: Side) -> Result<Vec<Tensor>, Failure> {
    let mut faults = Vec::new();
    let mut tensors = Vec::new();
    for (port, path) in ports.iter().zip(bind(texts, ports, side)?) {
        let read = || fits(port, &npy::read(&path)?, side).and_then(|tensor| convert(&tensor, port));
        match read().map_err(|d| d.file(path.display().to_string())) {
            Ok(tensor) => tensors.push(tensor),
            Err(d) => faults.push(d),
        }
    }
    Failure::check(faults)?;
    Ok(tensors)
}

/// The file of each port.
fn bind(texts: &[String], ports: &[Port], side: Side) -> Result<Vec<PathBuf>, Failure> {
    let noun = side.noun();
    let mut faults = Vec::new();
    let mut named: BTreeMap<usize, &str> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for text in texts {
        let split = text.split_once('=').filter(|_| !Path::new(text).exists());
        let Some((name, path)) = split else {
            unnamed.push(text.as_str());
            continue;
        };
        match ports.iter().position(|p| p.name == name) {
            Some(i) => {
                if named.insert(i, path).is_some() {
                    faults.push(Diagnostic::usage(format!("{noun} {} is given twice", quoted(name))));
                }
            }
            None => {
                let names = ports.iter().map(|p| p.name.as_str());
                let unknown = Diagnostic::usage(format!("the model has no {noun} {}", quoted(name)));
                let unknown = unknown.expected(names.clone().collect::<Vec<_>>().join(", "));
                faults.push(unknown.suggest(name, names));
            }
        }
    }
    let mut rest = unnamed.into_iter();
    let mut paths = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        match named.get(&i).copied().or_else(|| rest.next()) {
            Some(path) => paths.push(PathBuf::from(path)),
            None if faults.is_empty() => {
                let missing = Diagnostic::usage(format!("{noun} {} is missing", quoted(&port.name)));
                faults.push(missing.expected(port).hint(format!("{} {}=FILE.npy", side.option(), port.name)));
            }
            None => {}
        }
    }
    let left = rest.count();
    if left > 0 {
        let many = Diagnostic::usage(format!("there are more arrays than {noun}s")).expected(ports.len());
        faults.push(many.found(ports.len() + left));
    }
    Failure::check(faults)?;
    Ok(paths)
}

/// Rank and fixed dimensions of an array are those of its port, or one of them has as many elements per row in one axis.
/// What symbols stand for is checked where it is run.
fn fits(port: &Port, tensor: &Tensor, side: Side) -> Result<Tensor, Diagnostic> {
    let same = |(want, have): (&String, &usize)| want.parse::<usize>().map_or(true, |n| n == *have);
    if port.dims.len() == tensor.rank() && port.dims.iter().zip(tensor.dims()).all(same) {
        return Ok(tensor.clone());
    }
    if let Some(tensor) = rows(port, tensor) {
        return Ok(tensor);
    }
    let wrong = Diagnostic::wrong_input(format!("the array does not fit {} {}", side.noun(), quoted(&port.name)));
    Err(wrong.expected(port).found(tensor.ty()))
}

/// Images as rows, or rows as images: the same elements of each sample, where one side has them in a single axis.
fn rows(port: &Port, tensor: &Tensor) -> Option<Tensor> {
    let (batch, have) = tensor.dims().split_first()?;
    let (first, want) = port.dims.split_first()?;
    let want = want.iter().map(|d| d.parse::<usize>().ok()).collect::<Option<Vec<_>>>()?;
    let product = |dims: &[usize]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let one_axis = have.len().min(want.len()) == 1 && have.len() != want.len();
    if !one_axis || product(have) != product(&want) || first.parse::<usize>().is_ok_and(|n| n != *batch) {
        return None;
    }
    tensor.reshaped(&[&[*batch], &want[..]].concat())
}

/// Where outputs go.
#[derive(Debug, Clone, Args)]
pub(super) struct OutputArgs {
    /// A folder for out0.npy, out1.npy .. and outputs.json (their names), or a .npy file for the only output.
    #[arg(long, short, value_name = "DIR|FILE.npy")]
    output: Option<PathBuf>,
}

impl OutputArgs {
    /// Fails early where the outputs cannot go where they should.
    pub(super) fn check(&self, names: &[String]) -> Result<(), Diagnostic> {
        let Some(path) = self.file() else { return Ok(()) };
        if names.len() == 1 {
            return Ok(());
        }
        let several = Diagnostic::usage("one file cannot hold several outputs").file(path.display().to_string());
        Err(several.found(names.join(", ")).hint("give a folder: --output DIR"))
    }

    /// Writes the outputs, or shows their heads.
    pub(super) fn write(&self, names: &[String], outputs: &[Tensor], console: &Console) -> Result<(), Diagnostic> {
        let Some(path) = &self.output else {
            let lines: Vec<String> = names.iter().zip(outputs).map(|(n, t)| head(n, t) + "\n").collect();
            return console.print(&lines.concat());
        };
        if self.file().is_some() {
            let [only] = outputs else { return Err(Diagnostic::bug("one file for several outputs")) };
            return output::write(path, &npy::encode(only));
        }
        if path.exists() && !path.is_dir() {
            let taken =
                Diagnostic::wrong_input("outputs go to a folder, and this is a file").file(path.display().to_string());
            return Err(taken.hint("give a folder, or a file that ends in .npy for a single output"));
        }
        std::fs::create_dir_all(path).map_err(|e| {
            Diagnostic::wrong_input(format!("cannot make the folder: {e}")).file(path.display().to_string())
        })?;
        for (i, tensor) in outputs.iter().enumerate() {
            output::write(&path.join(format!("out{i}.npy")), &npy::encode(tensor))?;
        }
        let json = serde_json::to_string(names).map_err(|e| Diagnostic::bug(e.to_string()))?;
        output::write(&path.join("outputs.json"), (json + "\n").as_bytes())
    }

    /// The path, if it names a single array.
    fn file(&self) -> Option<&Path> {
        let path = self.output.as_deref()?;
        let named = path == Path::new("-") || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
        let is_device = path.exists() && !path.is_file();
        ((named || is_device) && !path.is_dir()).then_some(path)
    }
}

/// Name, type and the first elements of an array.
fn head(name: &str, tensor: &Tensor) -> String {
    const SHOWN: usize = 8;
    let shown = tensor.to_f64().into_iter().take(SHOWN);
    let values: Vec<String> =
        if tensor.dtype().is_float() { shown.map(short).collect() } else { shown.map(|v| v.to_string()).collect() };
    let more = if tensor.numel() > SHOWN { ", .." } else { "" };
    format!("{}: {} [{}{more}]", crate::error::escape(name), tensor.ty(), values.join(", "))
}

/// A float in at most about ten characters.
fn short(v: f64) -> String {
    if v == 0.0 || (1e-4..1e7).contains(&v.abs()) {
        let text = format!("{v:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return text.to_owned();
    }
    if v.is_finite() { format!("{v:.4e}") } else { v.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitc_ir::DType;

    fn ports() -> Vec<Port> {
        let port = |name: &str| Port { name: name.into(), dtype: DType::F32, dims: vec!["N".into(), "4".into()] };
        vec![port("a"), port("b")]
    }

    fn bound(texts: &[&str]) -> Result<Vec<PathBuf>, String> {
        let texts: Vec<String> = texts.iter().map(|&t| t.to_owned()).collect();
        bind(&texts, &ports(), Side::Input).map_err(|f| f.print(crate::error::Format::Short))
    }

    #[test]
    fn arrays_are_bound_by_name_then_in_order() {
        assert_eq!(bound(&["x.npy", "y.npy"]).unwrap(), [Path::new("x.npy"), Path::new("y.npy")]);
        assert_eq!(bound(&["b=x.npy", "y.npy"]).unwrap(), [Path::new("y.npy"), Path::new("x.npy")]);
        assert!(bound(&["x.npy"]).unwrap_err().contains("input `b` is missing"));
        assert!(bound(&["c=x.npy", "y"]).unwrap_err().contains("no input `c`"));
        assert!(bound(&["a=x", "a=y", "z"]).unwrap_err().contains("`a` is given twice"));
        assert!(bound(&["x", "y", "z"]).unwrap_err().contains("more arrays than inputs"));
    }

    #[test]
    fn shapes_are_compared_where_they_are_numbers() {
        let port = &ports()[0];
        assert!(fits(port, &Tensor::splat(&[7, 4], 0f32), Side::Input).is_ok());
        let wrong = fits(port, &Tensor::splat(&[7, 5], 0f32), Side::Input);
        let text = wrong.unwrap_err().print(crate::error::Format::Short);
        assert!(text.contains("expected f32[N, 4]; found f32[7, 5]"), "{text}");
        assert!(fits(port, &Tensor::splat(&[4], 0f32), Side::Input).is_err());
    }

    #[test]
    fn heads_are_short() {
        let t = Tensor::new(&[9], &[0.5f32, 1.0, -0.001, 1e-9, 3e8, 0.0, 7.25, 8.0, 9.0]);
        assert_eq!(head("y", &t), "y: f32[9] [0.5, 1, -0.001, 1.0000e-9, 3.0000e8, 0, 7.25, 8, ..]");
        assert_eq!(head("y", &Tensor::scalar(7i64)), "y: i64 [7]");
    }
}
