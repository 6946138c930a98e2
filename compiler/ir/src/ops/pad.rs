//! `pad`: a border around a tensor.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::choice;
use crate::eval::{EvalError, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

choice! {
    /// What a border is made of.
    pub enum PadMode {
        /// One value.
        Constant = "constant",
        /// The elements inside, mirrored at the outermost.
        Reflect = "reflect",
        /// The outermost elements.
        Edge = "edge",
        /// The elements of the opposite side.
        Wrap = "wrap",
    }
}

/// `x` with positions added before and behind every axis.
#[derive(Clone, PartialEq, Debug)]
pub struct Pad {
    /// Positions added before each axis, then behind each.
    pub pads: Vec<usize>,
    /// What they are made of.
    pub mode: PadMode,
}

impl OpDef for Pad {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "pad",
        inputs: &["x", "value?"],
        outputs: &["y"],
        doc: "y = x with `pads` positions added before each axis, then behind each, of `value` (default 0) or, by `mode` \
              (constant, reflect, edge, wrap), of elements of x.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let list = attrs.ints("pads")?.unwrap_or_default();
        let pads: Vec<usize> = list.iter().filter_map(|&p| usize::try_from(p).ok().filter(|&p| p < 1 << 40)).collect();
        if pads.len() != list.len() || !pads.len().is_multiple_of(2) {
            return Err(attrs.invalid("pads", "two sizes per axis", format!("{list:?}")));
        }
        Ok(Self { pads, mode: attrs.choice("mode")?.unwrap_or(PadMode::Constant) })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        let pads: Vec<i64> = self.pads.iter().map(|&p| p as i64).collect();
        AttrWriter::new().put("pads", pads).word("mode", self.mode, PadMode::Constant).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let x = inputs.at(0);
        let rank = x.shape.rank();
        if self.pads.len() != 2 * rank {
            return Err(TypeError::new(format!("`x` of rank {}", self.pads.len() / 2), x));
        }
        if let Some(value) = inputs.get(1)
            && (value.dtype != x.dtype || !value.shape.0.iter().all(Dim::is_one))
        {
            return Err(TypeError::new(format!("one element of type {} as `value`", x.dtype), value));
        }
        let mut y = x.clone();
        for (i, dim) in y.shape.0.iter_mut().enumerate() {
            let added = self.pads[i] + self.pads[i + rank];
            let empty = dim.as_const() == Some(0) && added > 0 && self.mode != PadMode::Constant;
            let sum = dim.add(&Dim::from(added)).filter(|_| !empty);
            *dim = sum.ok_or_else(|| TypeError::new("`x` that has elements to pad with", x))?;
        }
        Ok(vec![y])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = inputs.at(0);
        let rank = x.rank();
        let dims: Vec<usize> = (0..rank).map(|i| self.pads[i] + x.dims()[i] + self.pads[i + rank]).collect();
        let source = |(i, at): (usize, &usize)| {
            let (before, size) = (self.pads[i], x.dims()[i]);
            match at.checked_sub(before).filter(|&p| p < size) {
                Some(inside) => Some(inside),
                None if size == 0 => None,
                None => match self.mode {
                    PadMode::Constant => None,
                    PadMode::Edge => Some(if *at < before { 0 } else { size - 1 }),
                    PadMode::Wrap => Some((at + size * before.div_ceil(size) - before) % size),
                    PadMode::Reflect if size == 1 => Some(0),
                    PadMode::Reflect => {
                        let period = 2 * (size - 1);
                        let phase = (at + period * before.div_ceil(period) - before) % period;
                        Some(phase.min(period - phase))
                    }
                },
            }
        };
        let positions = select::indices(&dims).map(|index| {
            let inner: Option<Vec<usize>> = index.iter().enumerate().map(source).collect();
            inner.map(|inner| select::flatten(&inner, x.dims()))
        });
        let zero = [0; 8];
        let fill = inputs.get(1).map_or(&zero[..x.dtype().size_bytes()], Tensor::bytes);
        Ok(vec![select::select_or(x, &dims, positions, fill)?])
    }
}
