//! `scatter_elements` and `scatter_nd`: a copy with some elements or slices overwritten, added to or otherwise combined.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::choice;
use crate::eval::{EvalError, array};
use crate::ops::binary::BinaryKind;
use crate::ops::gather::expect_indices;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, gather_elements, gather_nd};
use crate::tensor::{Blob, Tensor};
use crate::types::{DType, Shape, TensorType};

choice! {
    /// What happens where an update meets an element.
    pub enum Combine {
        /// The update takes its place.
        Replace = "replace",
        /// Their sum.
        Add = "add",
        /// Their product.
        Mul = "mul",
        /// The larger.
        Max = "max",
        /// The smaller.
        Min = "min",
    }
}

impl Combine {
    fn binary(self) -> Option<BinaryKind> {
        match self {
            Combine::Replace => None,
            Combine::Add => Some(BinaryKind::Add),
            Combine::Mul => Some(BinaryKind::Mul),
            Combine::Max => Some(BinaryKind::Max),
            Combine::Min => Some(BinaryKind::Min),
        }
    }
}

/// Which elements an update goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Single elements, by their position along an axis; negative counts from the end.
    Elements {
        /// The axis.
        axis: i64,
    },
    /// Slices, by the last axis of the indices.
    Slices,
}

/// A copy of `x` with updates. Where several updates meet one element they are applied in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Scatter {
    /// Where updates go.
    pub target: Target,
    /// How they combine with what is there.
    pub combine: Combine,
}

impl OpDef for Scatter {
    const INFO: &'static [OpInfo] = &[
        OpInfo {
            name: "scatter_elements",
            inputs: &["x", "indices", "updates"],
            outputs: &["y"],
            doc: "y = x, but y[.., indices[.., i, ..], ..] along `axis` (default 0) combined with updates[.., i, ..] by \
                  `combine` (replace, add, mul, max, min), in row-major order of the updates.",
        },
        OpInfo {
            name: "scatter_nd",
            inputs: &["x", "indices", "updates"],
            outputs: &["y"],
            doc: "y = x, but the slice at indices[i.., :] combined with updates[i.., s..] by `combine` (replace, add, mul, \
                  max, min), in row-major order.",
        },
    ];

    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let target = match name {
            "scatter_nd" => Target::Slices,
            _ => Target::Elements { axis: attrs.int("axis")?.unwrap_or(0) },
        };
        Ok(Self { target, combine: attrs.choice("combine")?.unwrap_or(Combine::Replace) })
    }

    fn info(&self) -> &'static OpInfo {
        &Self::INFO[usize::from(self.target == Target::Slices)]
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let attrs = AttrWriter::new();
        let attrs = match self.target {
            Target::Elements { axis } => attrs.put_unless("axis", axis, 0),
            Target::Slices => attrs,
        };
        attrs.word("combine", self.combine, Combine::Replace).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices, updates) = (inputs.at(0), inputs.at(1), inputs.at(2));
        expect_indices(indices)?;
        let expected = match self.target {
            Target::Elements { axis } => {
                gather_elements::fit(x, indices, axis)?;
                indices.shape.clone()
            }
            Target::Slices => {
                let width = indices.shape.last().and_then(|d| d.as_const()).filter(|&w| w <= x.shape.rank());
                let width = width.ok_or_else(|| TypeError::new(format!("indices that fit {x}"), indices))?;
                let lead = &indices.shape.0[..indices.shape.rank() - 1];
                Shape([lead, &x.shape.0[width..]].concat())
            }
        };
        if updates.dtype != x.dtype || updates.shape != expected {
            return Err(TypeError::new(format!("`updates` of type {}{expected}", x.dtype), updates));
        }
        if self.combine != Combine::Replace && x.dtype == DType::Bool {
            return Err(TypeError::new("`x` of a number type", x));
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices, updates) = (inputs.at(0), inputs.at(1), inputs.at(2));
        let places: Vec<usize> = match self.target {
            Target::Elements { axis } => gather_elements::positions(x, indices, axis)?,
            Target::Slices => {
                let starts = gather_nd::starts(x, indices, 0)?;
                let inner = if starts.is_empty() { 0 } else { updates.numel() / starts.len() };
                starts.into_iter().flat_map(|s| s..s + inner).collect()
            }
        };
        if places.len() != updates.numel() || places.iter().any(|&p| p >= x.numel()) {
            return Err(EvalError::Undefined(format!("updates {} do not fit indices {}", updates.ty(), indices.ty())));
        }
        let Some(kind) = self.combine.binary() else {
            let size = x.dtype().size_bytes();
            let mut bytes = x.bytes().to_vec();
            for (&place, update) in places.iter().zip(updates.bytes().chunks_exact(size)) {
                bytes[place * size..][..size].copy_from_slice(update);
            }
            let y = Tensor::from_blob(x.dtype(), x.dims(), Blob::new(bytes));
            return Ok(vec![y.map_err(|e| EvalError::Undefined(e.to_string()))?]);
        };
        if let (Some(mut y), Some(updates)) = (array::integers(x), array::integers(updates)) {
            let overflow = || EvalError::Undefined("an update overflows".to_owned());
            let slots = y.as_slice_mut().ok_or_else(overflow)?;
            for (&place, &update) in places.iter().zip(&updates) {
                slots[place] = kind.integer(slots[place], update).ok_or_else(overflow)?;
            }
            return Ok(vec![array::store_integers(x.dtype(), &y)]);
        }
        // Rounded after every update, as an implementation in the type itself does.
        let mut slots = x.to_f64();
        let round = |v: f64| if x.dtype() == DType::F64 { v } else { f64::from(v as f32) };
        for (place, update) in places.into_iter().zip(updates.to_f64()) {
            slots[place] = round(kind.float(slots[place], update));
        }
        let y = ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(x.dims()), slots);
        let y = y.map_err(|e| EvalError::Undefined(e.to_string()))?;
        Ok(vec![array::store_floats(x.dtype(), &y)])
    }
}
