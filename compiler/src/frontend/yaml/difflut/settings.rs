//! Settings of a DiffLUT model: what the configuration says beyond shapes, and what `--set` says on top.
//!
//! Few of them change inference. Each of the others is known here with the reason why it does not.

use super::super::document::{Node, Value};
use super::super::fields::{Faults, Fields};
use super::Options;
use crate::error::{Diagnostic, quoted};

/// What becomes of the image that the last convolution leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pooling {
    /// Every bit is a feature.
    Flatten,
    /// The mean of every channel is a feature.
    Mean,
}

/// How windows slide over an image.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Windows {
    pub(super) kernel: usize,
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    /// The channels of the input image, where somebody says.
    pub(super) channels: Option<usize>,
    pub(super) pooling: Option<Pooling>,
    /// Whether nodes are written out once per window.
    pub(super) unroll: Option<bool>,
}

/// Settings that are not in the weights.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Settings {
    pub(super) activation: String,
    pub(super) skip_interval: usize,
    pub(super) max_amplitude: f32,
    pub(super) tau: Option<f32>,
    pub(super) windows: Windows,
}

impl Default for Settings {
    fn default() -> Self {
        let windows =
            Windows { kernel: 5, stride: [1, 1], padding: [0, 0], channels: None, pooling: None, unroll: None };
        Self { activation: "relu".to_owned(), skip_interval: 2, max_amplitude: 0.5, tau: None, windows }
    }
}

/// Settings of every model that inference reads.
pub(super) const READ: [&str; 4] = ["output_tau", "activation", "skip_interval", "max_amplitude"];
/// Settings of convolutional models that inference reads.
pub(super) const WINDOWS: [&str; 6] =
    ["conv_kernel_size", "conv_stride", "conv_padding", "in_channels", "pooling", "unroll"];

const TRAINING: &str = "it acts in training only";
const SHAPES: &str = "shapes are those of the weights";
const DRAWN: &str = "connections are read from the weights";

/// Why other settings change nothing.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("temperature", "it scales what is compared with zero, and not its sign"),
    ("eval_mode", "the library evaluates the same table in every mode that configurations reach"),
    ("use_cuda", "the result does not depend on the device"),
    ("patch_chunk_size", "it only says how many windows the library evaluates at a time"),
    ("chunk_size", "it only says how many trees the library evaluates at a time"),
    ("seed", DRAWN),
    ("grouped_connections", DRAWN),
    ("ensure_full_coverage", DRAWN),
    ("flip_probability", TRAINING),
    ("grad_stabilization", TRAINING),
    ("grad_target_std", TRAINING),
    ("grad_subtract_mean", TRAINING),
    ("grad_epsilon", TRAINING),
    ("grad_factor", TRAINING),
    ("regularizers", TRAINING),
    ("dropout", TRAINING),
    ("init_fn", TRAINING),
    ("tau_start", TRAINING),
    ("tau_min", TRAINING),
    ("tau_decay_iters", TRAINING),
    ("ste", TRAINING),
    ("node_input_dim", SHAPES),
    ("layer_widths", SHAPES),
    ("conv_layer_widths", SHAPES),
    ("tree_depth", SHAPES),
    ("hidden_width", SHAPES),
    ("depth", SHAPES),
    ("degree", SHAPES),
    ("use_all_frequencies", SHAPES),
];

/// Whether inference reads a setting of that name, or is known not to.
pub(super) fn is_known(key: &str) -> bool {
    READ.contains(&key) || WINDOWS.contains(&key) || why_unread(key).is_some()
}

/// Why a setting changes nothing.
fn why_unread(key: &str) -> Option<&'static str> {
    let listed = WITHOUT_EFFECT.iter().find(|(name, _)| *name == key).map(|(_, why)| *why);
    listed.or_else(|| key.starts_with("init_").then_some(TRAINING))
}

/// Reads the settings: of `runtime`, of the configuration itself, and of the command line, the later winning.
pub(super) fn read(
    fields: &mut Fields<'_>,
    convolutional: bool,
    options: &Options,
    faults: &Faults,
    warnings: &mut Vec<Diagnostic>,
) -> Settings {
    let mut settings = Settings::default();
    if let Some(node) = fields.node("runtime") {
        let mut runtime = Fields::of(node, "`runtime`", faults);
        settings.tau = runtime.positive("output_tau");
        settings.activation = runtime.text("activation").unwrap_or(settings.activation);
        settings.skip_interval = runtime.size("skip_interval", 0).unwrap_or(settings.skip_interval);
        settings.max_amplitude = runtime.positive("max_amplitude").unwrap_or(settings.max_amplitude);
        if convolutional {
            settings.windows.read(&mut runtime);
        }
        note_unread(&runtime, "`runtime`", warnings);
    }
    if convolutional {
        settings.windows.read(fields);
    }
    for (key, value) in &options.overrides {
        let wrong = || Diagnostic::usage(format!("--set {key}={value} is no value of that setting"));
        let known = READ.contains(&key.as_str()) || WINDOWS.contains(&key.as_str());
        if WINDOWS.contains(&key.as_str()) && !convolutional {
            let d =
                Diagnostic::wrong_input(format!("{} does not change inference: the model has no windows", quoted(key)));
            warnings.push(d);
        } else if known {
            if settings.set(key, value).is_none() {
                faults.borrow_mut().push(wrong());
            }
        } else if let Some(why) = why_unread(key) {
            warnings.push(Diagnostic::wrong_input(format!("{} does not change inference: {why}", quoted(key))));
        } else {
            let names = READ.into_iter().chain(WINDOWS).chain(WITHOUT_EFFECT.iter().map(|(k, _)| *k));
            let d = Diagnostic::usage(format!("there is no setting {}", quoted(key)));
            faults.borrow_mut().push(d.suggest(key, names));
        }
    }
    settings
}

impl Settings {
    /// Takes a setting of the command line; `None` where the value is none of that setting.
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let number = || value.parse::<f32>().ok().filter(|v| v.is_finite() && *v >= 0.0);
        let size = |low: usize| value.parse::<usize>().ok().filter(|v| (low..=1 << 31).contains(v));
        match key {
            "output_tau" => self.tau = Some(number().filter(|v| *v > 0.0)?),
            "max_amplitude" => self.max_amplitude = number()?,
            "skip_interval" => self.skip_interval = size(0)?,
            "activation" => self.activation = value.to_owned(),
            "conv_kernel_size" => self.windows.kernel = size(1)?,
            "conv_stride" => self.windows.stride = [size(1)?; 2],
            "conv_padding" => self.windows.padding = [size(0)?; 2],
            "in_channels" => self.windows.channels = Some(size(1)?),
            "unroll" => self.windows.unroll = Some(value.parse().ok()?),
            "pooling" => {
                let pooling = POOLINGS.iter().find(|(name, _)| *name == value)?.1;
                self.windows.pooling = Some(pooling);
            }
            _ => return None,
        }
        Some(())
    }
}

/// What may become of the last image, by name.
const POOLINGS: [(&str, Pooling); 2] = [("none", Pooling::Flatten), ("mean", Pooling::Mean)];

impl Windows {
    fn read(&mut self, fields: &mut Fields<'_>) {
        self.kernel = fields.size("conv_kernel_size", 1).unwrap_or(self.kernel);
        self.stride = fields.pair("conv_stride", 1).unwrap_or(self.stride);
        self.padding = fields.pair("conv_padding", 0).unwrap_or(self.padding);
        self.channels = fields.size("in_channels", 1).or(self.channels);
        self.pooling = fields.choice("pooling", &POOLINGS).or(self.pooling);
    }
}

/// The length of a list of sizes, one per layer.
pub(super) fn sizes(fields: &mut Fields<'_>, key: &'static str) -> Option<Vec<usize>> {
    let node = fields.node(key)?;
    let size = |n: &Node| match n.value {
        Value::Int(v) => usize::try_from(v).ok().filter(|v| (1..=1 << 31).contains(v)),
        _ => None,
    };
    let list = match &node.value {
        Value::List(items) if !items.is_empty() => items.iter().map(size).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    if list.is_none() {
        let d = Diagnostic::wrong_input(format!("{} is a list of sizes", quoted(key)));
        fields.fault(node.place, d.found(node.value.describe()));
    }
    list
}

/// Notes keys that nobody knows; those that are known to act in training only are no news.
pub(super) fn note_unread(fields: &Fields<'_>, what: &str, warnings: &mut Vec<Diagnostic>) {
    let names: Vec<_> = fields.unread().into_iter().filter(|key| why_unread(key).is_none()).map(quoted).collect();
    if !names.is_empty() {
        let d = Diagnostic::wrong_input(format!("keys of {what} that inference does not read"));
        warnings.push(d.found(names.join(", ")));
    }
}
