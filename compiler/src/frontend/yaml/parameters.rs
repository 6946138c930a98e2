//! The tensors of a model's layers: from a state dict, or random.

use std::collections::BTreeSet;

use bitc_ir::random::Random;
use bitc_ir::{DType, Tensor};

use crate::error::{Diagnostic, quoted};
use crate::npy;
use crate::weights::StateDict;

/// Where tensors come from.
pub(super) enum Parameters {
    /// A file of weights.
    File {
        dict: StateDict,
        /// The path, for messages.
        path: String,
        /// What stands before the names of the model.
        prefix: String,
        /// The full names that were asked for.
        used: BTreeSet<String>,
    },
    /// Numbers that depend on the seed and the name only.
    Random {
        seed: u64,
        /// How many bytes may still be made.
        room: u64,
    },
}

/// How random values are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draw {
    /// Uniform between minus and plus this.
    Within(f32),
    /// Uniform between one half and three halves.
    AboutOne,
}

impl Parameters {
    /// Tensors of a state dict, for the layers with these keys.
    pub(super) fn from_dict(dict: StateDict, path: String, layers: &[&str]) -> Result<Self, Diagnostic> {
        let prefix = dict.prefix_of(layers).map_err(|d| d.file(path.as_str()))?;
        Ok(Self::File { dict, path, prefix, used: BTreeSet::new() })
    }

    /// Random tensors.
    pub(super) fn random(seed: u64, max_memory: u64) -> Self {
        Self::Random { seed, room: max_memory }
    }

    /// The name in the file.
    pub(super) fn full_name(&self, name: &str) -> String {
        match self {
            Self::File { prefix, .. } => format!("{prefix}{name}"),
            Self::Random { .. } => name.to_string(),
        }
    }

    /// Whether a layer can have the tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::File { dict, .. } => dict.get(&self.full_name(name)).is_some(),
            Self::Random { .. } => true,
        }
    }

    /// Says in a diagnostic about a tensor which file it is from.
    pub(super) fn blame(&self, d: Diagnostic) -> Diagnostic {
        match self {
            Self::File { path, .. } if d.origin.is_none() => d.origin(path.as_str()),
            _ => d,
        }
    }

    /// That a tensor is not there.
    pub(super) fn missing(&self, name: &str) -> Diagnostic {
        let name = self.full_name(name);
        let d = Diagnostic::wrong_input(format!("the weights lack the tensor {}", quoted(&name)));
        let Self::File { dict, .. } = self else { return d };
        self.blame(d.suggest(&name, dict.iter().map(|(n, _)| n)))
    }

    /// The tensor of a file as it is; `None` for random parameters.
    pub(super) fn stored(&mut self, name: &str) -> Option<Tensor> {
        let Self::File { dict, prefix, used, .. } = self else { return None };
        let full = format!("{prefix}{name}");
        let tensor = dict.get(&full).cloned();
        used.insert(full);
        tensor
    }

    /// A float tensor that the file may lack; random parameters have it if `when_random` says so.
    pub(super) fn optional(
        &mut self,
        name: &str,
        dims: &[usize],
        draw: Draw,
        when_random: bool,
    ) -> Result<Option<Tensor>, Diagnostic> {
        match self {
            Self::Random { .. } if !when_random => Ok(None),
            Self::Random { seed, room } => random(*seed, room, name, dims, draw).map(Some),
            Self::File { .. } => {
                let Some(tensor) = self.stored(name) else { return Ok(None) };
                let name = self.full_name(name);
                let checked = check_dims(&name, &tensor, dims).and_then(|()| floats(&name, &tensor));
                checked.map(Some).map_err(|d| self.blame(d))
            }
        }
    }

    /// A float tensor that must be there.
    pub(super) fn required(&mut self, name: &str, dims: &[usize], draw: Draw) -> Result<Tensor, Diagnostic> {
        let found = self.optional(name, dims, draw, true)?;
        found.ok_or_else(|| self.missing(name))
    }

    /// The tensors under the prefix that no layer asked for.
    pub(super) fn unused(&self) -> Vec<&str> {
        let Self::File { dict, prefix, used, .. } = self else { return Vec::new() };
        let kept =
            |n: &&str| n.starts_with(prefix.as_str()) && !used.contains(*n) && !n.ends_with(".num_batches_tracked");
        dict.iter().map(|(n, _)| n).filter(kept).collect()
    }
}

/// Checks the dimensions of a tensor.
pub(super) fn check_dims(name: &str, tensor: &Tensor, dims: &[usize]) -> Result<(), Diagnostic> {
    if tensor.dims() == dims {
        return Ok(());
    }
    Err(Diagnostic::wrong_input(format!("the tensor {} has the wrong shape", quoted(name)))
        .expected(format!("{dims:?}"))
        .found(format!("{} {:?}", tensor.dtype(), tensor.dims())))
}

/// The tensor as finite f32 values; half precision is widened and doubles must be floats.
pub(super) fn floats(name: &str, tensor: &Tensor) -> Result<Tensor, Diagnostic> {
    if !tensor.dtype().is_float() {
        return Err(Diagnostic::unsupported(format!("the tensor {} is not of a float type", quoted(name)))
            .expected("f32, f16 or bf16")
            .found(tensor.dtype()));
    }
    let tensor = npy::convert_exact(tensor, DType::F32).map_err(|d| {
        Diagnostic::unsupported(format!("the tensor {}: {}", quoted(name), d.message))
            .hint("save the weights as float32")
    })?;
    let bad = tensor.iter::<f32>().and_then(|mut v| v.position(|v| !v.is_finite()));
    if let Some(index) = bad {
        let value = tensor.to_f64()[index];
        return Err(Diagnostic::wrong_input(format!("the tensor {} holds {value} at index {index}", quoted(name)))
            .expected("finite numbers"));
    }
    Ok(tensor)
}

fn random(seed: u64, room: &mut u64, name: &str, dims: &[usize], draw: Draw) -> Result<Tensor, Diagnostic> {
    let len = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
    let bytes = len.and_then(|n| n.checked_mul(4));
    *room = bytes.and_then(|b| room.checked_sub(b)).ok_or_else(|| {
        Diagnostic::unsupported(format!("random weights for {} take too much memory", quoted(name)))
            .found(format!("shape {dims:?}"))
            .hint("allow more with `--max-memory`")
    })?;
    // A hash of the name (FNV-1a), so that a tensor does not depend on those before it.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = Random::new(seed ^ hash);
    let values: Vec<f32> = (0..len.unwrap_or(0))
        .map(|_| match draw {
            Draw::Within(bound) => random.signed_unit() * bound,
            Draw::AboutOne => 1.0 + 0.5 * random.signed_unit(),
        })
        .collect();
    Ok(Tensor::new(dims, &values))
}
