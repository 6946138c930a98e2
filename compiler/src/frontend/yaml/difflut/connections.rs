//! The connections of layers: stored with the weights, never drawn again.

use bitc_ir::{DType, Tensor};

use crate::error::{Diagnostic, quoted};
use crate::npy;
use crate::weights::StateDict;

/// The connections of a layer: stored indices, or the strongest weight of each input of a learnable layer.
pub(super) fn mapping(
    dict: &StateDict,
    layer: &str,
    learnable: bool,
    width: usize,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Tensor, Diagnostic> {
    let stored = format!("{layer}._mapping_indices");
    let learned = format!("{layer}.mapping.W");
    let missing = |key: &str| {
        Diagnostic::wrong_input(format!("the weights have no tensor {}", quoted(key)))
            .hint("connections are drawn at random in training and must be stored with the weights")
    };
    if !learnable {
        let tensor = dict.get(&stored).ok_or_else(|| missing(&stored))?;
        if tensor.rank() != 2 {
            return Err(
                Diagnostic::wrong_input(format!("{} must be of shape [width, n]", quoted(&stored))).found(tensor.ty())
            );
        }
        return npy::convert_exact(tensor, DType::I32);
    }
    let w = dict.get(&learned).ok_or_else(|| missing(&learned))?;
    let (Some(values), &[rows, inputs]) = (w.to_vec::<f32>(), w.dims()) else {
        return Err(Diagnostic::wrong_input(format!("{} must be f32 of rank 2", quoted(&learned))).found(w.ty()));
    };
    if width == 0 || rows % width != 0 || inputs == 0 {
        return Err(Diagnostic::wrong_input(format!("{} does not fit {width} nodes", quoted(&learned))).found(w.ty()));
    }
    let first_max =
        |row: &[f32]| row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best }) as i32;
    let chosen: Vec<i32> = values.chunks(inputs).map(first_max).collect();
    let cached = dict.get(&format!("{layer}.mapping._cached_hard_indices")).and_then(|t| t.to_vec::<i32>());
    if cached.is_some_and(|c| c != chosen) {
        let d = Diagnostic::wrong_input(format!("the cached connections of {layer} differ from its weights"));
        warnings.push(d.hint("the weights decide"));
    }
    Ok(Tensor::new(&[width, rows / width], &chosen))
}
