//! Options that several commands share: how a model is read, which passes run over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::console::Console;
use crate::compile;
use crate::error::{Diagnostic, Failure, quoted};
use crate::frontend::yaml::{is_model_setting, model_settings};
use crate::frontend::{self, Imported, Reals, Source};
use crate::input::is_standard_input;
use crate::pipeline::Pipeline;

/// How a model is read.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// State dict for a YAML model (.safetensors, .pt, .pth); wins over the model's own `weights:`.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Binds a symbolic dimension.
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = dimension)]
    dims: Vec<(String, usize)>,
    /// Where models live that are given by name; default: the variable BITC_MODELS.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Sets a pass parameter: PASS.NAME=VALUE, or NAME=VALUE for every pass that has it; or a setting of a DiffLUT model,
    /// such as output_tau=2.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Take real-valued nodes of a logic network for the bits they come nearest to.
    #[arg(long)]
    discretize: bool,
    /// Bytes that may be made beyond what the input files hold, such as 2G.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
}

impl ModelArgs {
    pub(super) fn options(&self) -> frontend::Options {
        let defaults = frontend::Options::default();
        frontend::Options {
            weights: self.weights.clone(),
            dims: self.dims(),
            overrides: self.settings.iter().filter(|(key, _)| is_model_setting(key)).cloned().collect(),
            reals: if self.discretize { Reals::Bits } else { Reals::Refused },
            max_memory: self.max_memory.unwrap_or(defaults.max_memory),
            ..defaults
        }
    }

    /// Sets the parameters of passes.
    pub(super) fn set_parameters(&self, pipeline: &mut Pipeline) -> Result<(), Diagnostic> {
        let mut parameters = self.settings.iter().filter(|(key, _)| !is_model_setting(key));
        parameters.try_for_each(|(key, value)| pipeline.set(key, value).map_err(|d| d.suggest(key, model_settings())))
    }

    /// For commands that run no passes: every setting must be one of the model.
    pub(super) fn settings_of_the_model(&self) -> Result<(), Diagnostic> {
        match self.settings.iter().find(|(key, _)| !is_model_setting(key)) {
            Some((key, _)) => Err(Diagnostic::usage(format!("no model has a setting {}", quoted(key)))
                .hint("parameters of passes are for commands that run them")
                .suggest(key, model_settings())),
            None => Ok(()),
        }
    }

    pub(super) fn dims(&self) -> BTreeMap<String, usize> {
        self.dims.iter().cloned().collect()
    }

    /// The file that the user means: the path itself, or the model of that name in the folder of models.
    pub(super) fn find(&self, path: &Path) -> Result<PathBuf, Diagnostic> {
        let folder = models_folder(self.models.as_deref());
        let (Some(folder), Some(name)) = (folder, path.to_str()) else { return Ok(path.to_path_buf()) };
        if is_standard_input(path) || path.exists() || name.contains(['/', '\\', '.']) {
            return Ok(path.to_path_buf());
        }
        let models = named_models(&folder)?;
        let mut found = models.iter().filter(|(n, _)| n == name).map(|(_, file)| file);
        match (found.next(), found.next()) {
            (Some(file), None) => return Ok(file.clone()),
            (Some(file), Some(other)) => {
                let several = Diagnostic::usage(format!("there are several models {}", quoted(name)));
                let files = format!("{} and {}", file.display(), other.display());
                return Err(several.found(files).hint("give the path of one of them"));
            }
            _ => {}
        }
        let missing = Diagnostic::wrong_input(format!("there is no file and no model {}", quoted(name)));
        Err(missing.file(folder.display().to_string()).suggest(name, models.iter().map(|(n, _)| n.as_str())))
    }

    /// As [`ModelArgs::options`], with dimensions left symbolic: for commands that take sizes from their inputs.
    pub(super) fn unbound(&self) -> frontend::Options {
        frontend::Options { dims: BTreeMap::new(), ..self.options() }
    }

    /// Reads the model at `path` and prints its warnings.
    pub(super) fn import(&self, path: &Path, console: &Console) -> Result<Imported, Failure> {
        console.step("reading the model");
        let imported = compile::import(&Source::read(&self.find(path)?)?, &self.options())?;
        imported.warnings.iter().for_each(|w| console.warn(w));
        Ok(imported)
    }

    /// For an artifact: nothing may be said about what a model's weights are.
    pub(super) fn expect_artifact(&self, file: &Path) -> Result<(), Diagnostic> {
        let given = [("--weights", self.weights.is_some()), ("--discretize", self.discretize)];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Diagnostic::usage(format!("`{option}` is for models, and this is an artifact"))
                .file(file.display().to_string())
                .hint("give it when the model is compiled")),
            None => Ok(()),
        }
    }

    /// Whether real-valued nodes are taken for bits.
    pub(super) fn discretizes(&self) -> bool {
        self.discretize
    }

    /// The model with its real-valued nodes taken for something else.
    pub(super) fn import_as(&self, path: &Path, reals: Reals) -> Result<Imported, Failure> {
        let options = frontend::Options { reals, ..self.options() };
        compile::import(&Source::read(&self.find(path)?)?, &options)
    }
}

/// Which passes run.
#[derive(Debug, Clone, Args)]
pub(super) struct PipelineArgs {
    /// The passes: a built-in pipeline (`bitc list pipelines`) or a .yaml file.
    #[arg(long, value_name = "NAME|FILE.yaml", default_value = "default")]
    pipeline: String,
    /// Take ternary weights as such even where nothing quantises their activations.
    #[arg(long)]
    weight_only: bool,
}

impl PipelineArgs {
    /// The passes, with the parameters that the user set.
    pub(super) fn pipeline(&self, model: &ModelArgs) -> Result<Pipeline, Failure> {
        let mut pipeline = Pipeline::load(&self.pipeline)?;
        if self.weight_only {
            pipeline.set("weight_only", "true")?;
        }
        model.set_parameters(&mut pipeline)?;
        Ok(pipeline)
    }
}

/// The folder of models: the one given, or the one that the environment names.
pub(super) fn models_folder(given: Option<&Path>) -> Option<PathBuf> {
    given.map(Path::to_path_buf).or_else(|| std::env::var_os("BITC_MODELS").map(PathBuf::from))
}

/// How deep models lie at most: a collection may have folders for families, models and versions.
const FOLDER_DEPTH: usize = 4;

/// The models in a folder and those below it, by name; of models of one name the one that is not as deep comes first.
pub(super) fn named_models(folder: &Path) -> Result<Vec<(String, PathBuf)>, Diagnostic> {
    let mut models = Vec::new();
    collect_models(folder, FOLDER_DEPTH, &mut models)?;
    models
        .sort_by_cached_key(|(name, path): &(String, PathBuf)| (name.clone(), path.components().count(), path.clone()));
    Ok(models)
}

fn collect_models(folder: &Path, depth: usize, models: &mut Vec<(String, PathBuf)>) -> Result<(), Diagnostic> {
    let cannot = |e: std::io::Error| {
        Diagnostic::wrong_input(format!("cannot list the folder: {e}")).file(folder.display().to_string())
    };
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Links to folders are not followed, since they may lead back.
        if depth > 1 && !hidden && entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_models(&path, depth - 1, models)?;
            continue;
        }
        let is_model = path.extension().is_some_and(|e| ["yaml", "yml", "onnx", "bir"].iter().any(|m| e == *m));
        if let Some(name) = path.file_stem().and_then(|s| s.to_str()).filter(|_| is_model && path.is_file()) {
            models.push((name.to_owned(), path));
        }
    }
    Ok(())
}

/// `NAME=SIZE`.
pub(super) fn dimension(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').filter(|(n, _)| !n.is_empty()).ok_or("expected NAME=SIZE, such as N=64")?;
    let size = size.parse().map_err(|_| format!("{} is not a size", quoted(size)))?;
    Ok((name.to_owned(), size))
}

pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(k, _)| !k.is_empty()).ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A number of bytes, with a suffix k, M or G (powers of 1024) or without.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{} is not a number of bytes, such as 160000000, 64M or 2G", quoted(text));
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A number that is allowed to be zero or more, however large.
pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| format!("{} is no number of 0 or more", quoted(text)))
}

/// A part of a whole.
pub(super) fn part(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n| (0.0..=1.0).contains(n));
    number.ok_or_else(|| format!("{} is no number from 0 to 1", quoted(text)))
}

/// A time to measure for, in seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n| (0.0..=3600.0).contains(n));
    number.ok_or_else(|| format!("{} is no time from 0 to 3600", quoted(text)))
}

/// Numbers separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sizes(pub(super) Vec<usize>);

/// A list of numbers separated by commas.
pub(super) fn sizes(text: &str) -> Result<Sizes, String> {
    let size = |t: &str| t.trim().parse().map_err(|_| format!("{} is not a size", quoted(t)));
    text.split(',').map(size).collect::<Result<_, _>>().map(Sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read() {
        assert_eq!((bytes("12"), bytes("3k"), bytes("2G")), (Ok(12), Ok(3072), Ok(2 << 30)));
        assert!(bytes("").is_err() && bytes("k").is_err() && bytes("-1").is_err() && bytes("99999999999G").is_err());
        assert_eq!(sizes("1, 64"), Ok(Sizes(vec![1, 64])));
        assert!(sizes("1,,2").is_err());
        assert_eq!((not_negative("1e-3"), part("1"), seconds("0.5")), (Ok(1e-3), Ok(1.0), Ok(0.5)));
        for text in ["nan", "-1", "inf", "x", ""] {
            assert!(not_negative(text).is_err() && part(text).is_err() && seconds(text).is_err(), "{text}");
        }
        assert_eq!(dimension("N=4"), Ok(("N".to_owned(), 4)));
        assert!(dimension("N").is_err() && dimension("=4").is_err() && dimension("N=x").is_err());
    }
}
