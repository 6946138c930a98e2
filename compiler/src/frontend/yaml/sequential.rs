//! `model: sequential`: a list of layers, one after the other.

use std::collections::BTreeMap;

use bitc_ir::Shape;

use super::document::Place;
use super::fields::{Faults, Fields};
use super::layer::{Kind, Layer, read_list, read_shape};
use super::{Model, read_weights};
use crate::error::{Diagnostic, quoted};

/// Reads the fields of the model.
pub(super) fn read(fields: &mut Fields<'_>, faults: &Faults) -> Model {
    let (input, shape) = read_input(fields, faults);
    let layers = match fields.node("layers") {
        Some(node) => read_list(node, "", faults),
        None => {
            fields.missing("layers");
            Vec::new()
        }
    };
    check_names(&layers, &mut BTreeMap::new(), faults);
    Model { input, shape, layers, weights: read_weights(fields, faults) }
}

fn read_input(fields: &mut Fields<'_>, faults: &Faults) -> (String, Shape) {
    let Some(node) = fields.node("input") else {
        fields.missing("input");
        return ("x".into(), Shape::default());
    };
    let mut input = Fields::of(node, "`input`", faults);
    let name = input.text("name").unwrap_or_else(|| "x".into());
    let shape = match input.node("shape") {
        Some(node) => read_shape(node, faults),
        None => {
            input.missing("shape");
            None
        }
    };
    input.finish();
    (name, shape.unwrap_or_default())
}

/// Reports layers that would share their tensors.
fn check_names<'a>(layers: &'a [Layer], seen: &mut BTreeMap<&'a str, Place>, faults: &Faults) {
    for layer in layers {
        if let Some(first) = seen.insert(&layer.key, layer.place) {
            let d = Diagnostic::wrong_input(format!("two layers are named {}", quoted(&layer.key)));
            faults.borrow_mut().push(layer.place.at(d.found(format!("the first one in line {}", first.line))));
        }
        if let Kind::Residual(inner) = &layer.kind {
            check_names(inner, seen, faults);
        }
    }
}
