//! Quantised activations and the products of them with few-bit weights.

use super::dense::{Activation, Window};
use super::{Contract, codes, instruction};
use crate::contract::{attribute, same};
use crate::{BufferId, Cx, DType, Fault, Layout, Operand};

codes! {
    /// How [`Quantize`] turns the largest absolute value `m` of a group into a scale.
    QuantizeKind ("kind of quantisation") {
        /// `scale = m / levels`, `q = round_half_even(x / scale)`.
        Divide = 0 "divide",
        /// `s = (1 / max(m, eps)) * levels`, `q = round_half_even(x * s)`, `scale = 1 / s`.
        Reciprocal = 1 "reciprocal",
        /// `q = round_half_even(x)`, `scale = 1`.
        Integer = 2 "integer",
        /// `s = levels / max(m, eps)`, `q = round_half_even(x * s)`, `scale = 1 / s`.
        Quotient = 3 "quotient",
    }
}

codes! {
    /// Which elements share a scale.
    Granularity ("granularity of a quantisation") {
        /// Those along the last axis.
        Row = 0 "row",
        /// All of them, the batch included.
        Tensor = 1 "tensor",
        /// Those along axis 1.
        Channel = 2 "channel",
    }
}

codes! {
    /// What keeps the divisor of [`QuantizeKind::Divide`] away from 0.
    Floor ("floor of a quantisation") {
        /// Nothing: where it is 0 or not finite, `x / scale` is taken as 0 for `x = 0`.
        None = 0 "none",
        /// `eps` is added to the divisor, not to the scale.
        Add = 1 "add",
        /// The scale is at least `eps`.
        Clip = 2 "clip",
    }
}

instruction! {
    /// Quantises `f32` activations to `i8`: rounded as [`QuantizeKind`] says, then limited to `[lo, hi]`. With
    /// [`QuantizeKind::Integer`] they may be `i8` already, to be limited and padded.
    Quantize {
        /// The quantised values, of the shape of `x`; the bytes that its `row_align` adds are zero.
        q: BufferId,
        /// The scales: of the shape of `x` with the shared axes 1.
        scale: BufferId,
        /// For each row (last axis) the sum of its quantised values.
        sums: Option<BufferId>,
        /// The activations.
        x: Operand,
        /// How the scale is found.
        kind: QuantizeKind,
        /// What shares a scale.
        granularity: Granularity,
        /// What keeps the divisor from 0.
        floor: Floor,
        /// The value that the floor uses.
        eps: f32,
        /// The quantised value of the largest absolute value.
        levels: f32,
        /// The smallest quantised value.
        lo: i32,
        /// The largest quantised value.
        hi: i32,
    }
}

impl Contract for Quantize {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let numbers: &[DType] =
            if self.kind == QuantizeKind::Integer { &[DType::F32, DType::I8] } else { &[DType::F32] };
        let x = cx.ty("x", self.x)?.dense()?.dtype(numbers)?.rank(1, crate::MAX_RANK)?;
        let rank = x.shape.rank();
        cx.ty("q", self.q)?.dtype(&[DType::I8])?.same_shape(&x)?;
        let scale = cx.ty("scale", self.scale)?.f32()?;
        match self.granularity {
            // One scale for all may be a scalar as well.
            Granularity::Tensor => drop(scale.elements(Some(1))?),
            Granularity::Row | Granularity::Channel => {
                let shared = if self.granularity == Granularity::Row { rank.saturating_sub(1) } else { 1 };
                attribute("granularity", self.granularity.code(), shared < rank)?;
                let scale = scale.rank(rank, rank)?;
                for axis in 0..rank {
                    let expected = if axis == shared { Some(1) } else { x.dim(axis) };
                    same("a dimension of `scale`", expected, scale.dim(axis))?;
                }
            }
        }
        if let Some(sums) = cx.optional("sums", self.sums)? {
            sums.dense()?.dtype(&[DType::I32])?.elements(x.rows()?)?;
        }
        attribute("eps", self.eps.to_bits(), self.eps >= 0.0 && self.eps.is_finite())?;
        attribute("levels", self.levels.to_bits(), (1.0..=128.0).contains(&self.levels))?;
        attribute("lo", self.lo, (-128..=0).contains(&self.lo))?;
        attribute("hi", self.hi, (0..=127).contains(&self.hi))
    }
}

/// The layouts of weights that the products take.
const WEIGHTS: &[Layout] = &[Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8];

/// Checks that the sums of a product with weights of `columns` columns fit 32 bits, whatever the activations.
fn sums_fit(layout: Layout, columns: Option<u64>) -> Result<(), Fault> {
    let fit = columns.is_none_or(|n| n <= layout.max_columns());
    if fit { Ok(()) } else { Err(Fault::Overflow { what: "w" }) }
}

instruction! {
    /// `y = activation((q @ w^T) * q_scale * scale + bias)` with an exact integer product.
    ///
    /// Per element `((f32(sum) * q_scale[row]) * scale[output]) + bias[output]`, in this order, nothing fused. Where
    /// groups of inputs have scales of their own, the sum of each group is scaled by `q_scale` and then by its scale, and
    /// these are added one after the other, beginning with 0, before the bias.
    BitLinear {
        /// The result, `[.., N]`.
        y: BufferId,
        /// The quantised activations, `[.., K]`, rows aligned to 64 bytes.
        q: Operand,
        /// Their scales: one, or one per row.
        q_scale: Operand,
        /// For each row the sum of its quantised values.
        sums: Operand,
        /// The weights, a packed constant `[N, K]`, or `[G, N, g]` where each `g` neighbouring inputs have scales of their
        /// own; the last group may reach past K, where activations are zero.
        w: Operand,
        /// The scales of the weights, a constant: one, or one per output, or `[N, G]`.
        scale: Operand,
        /// Added last, a constant: one per output.
        bias: Option<Operand>,
        /// Applied to the sum.
        activation: Activation,
    }
}

impl Contract for BitLinear {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        self.check_layer(cx, DType::F32)
    }
}

impl BitLinear {
    /// The contract for a result of that type.
    pub(super) fn check_layer(&self, cx: &Cx<'_>, result: DType) -> Result<(), Fault> {
        let q = cx.ty("q", self.q)?.aligned(64)?.dtype(&[DType::I8])?.rank(1, crate::MAX_RANK)?;
        let w = cx.ty("w", self.w)?.constant()?.rank(2, 3)?;
        if !WEIGHTS.contains(&w.layout) {
            return Err(Fault::Layout { operand: "w", found: w.layout });
        }
        let (groups, outputs, inputs) = match w.shape.rank() {
            2 => (None, w.dim(0), w.dim(1)),
            _ => (w.dim(0), w.dim(1), w.dim(2)),
        };
        sums_fit(w.layout, inputs)?;
        let rank = q.shape.rank();
        let y = cx.ty("y", self.y)?.dtype(&[result])?.rank(rank, rank)?;
        let y = if result == DType::F32 { y.dense()? } else { y };
        for axis in 0..rank.saturating_sub(1) {
            same("a dimension of `y`", q.dim(axis), y.dim(axis))?;
        }
        match (groups, inputs, q.last()) {
            (Some(_), Some(size), last) => {
                attribute("group", 0, size > 0)?;
                same("the groups of `w`", last.map(|k| k.div_ceil(size.max(1))), groups)?;
            }
            _ => same("the last dimension of `q`", inputs, q.last())?,
        }
        same("the last dimension of `y`", outputs, y.last())?;
        let rows = q.rows()?;
        cx.ty("q_scale", self.q_scale)?.f32()?.one_or(rows)?;
        cx.ty("sums", self.sums)?.dense()?.dtype(&[DType::I32])?.elements(rows)?;
        let scale = cx.ty("scale", self.scale)?.constant()?.f32()?;
        match groups {
            None => drop(scale.one_or(outputs)?),
            Some(_) => {
                let scale = scale.rank(2, 2)?;
                same("the outputs of `scale`", outputs, scale.dim(0))?;
                same("the groups of `scale`", groups, scale.dim(1))?;
            }
        }
        if let Some(bias) = cx.optional("bias", self.bias)? {
            bias.constant()?.f32()?.elements(outputs)?;
        }
        Ok(())
    }
}

instruction! {
    /// `y = activation(x @ (w * scale)^T + bias)` with weights of few bits that become floats while it runs.
    ///
    /// A weight is `f32(w) * scale`, rounded to `f32`; the sums are those of a float product.
    DequantLinear {
        /// The result, `[.., N]`.
        y: BufferId,
        /// The activations, `[.., K]`.
        x: Operand,
        /// The weights, a packed constant `[N, K]` that is not `trit5`.
        w: Operand,
        /// The scales, a constant: one, `[1 or N, 1]`, or `[1 or N, C]` with one column for each `group` inputs.
        scale: Operand,
        /// How many neighbouring inputs share a column of the scales, at least 1.
        group: u32,
        /// Added to the sum, a constant: one per output.
        bias: Option<Operand>,
        /// Applied last.
        activation: Activation,
    }
}

impl Contract for DequantLinear {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let x = cx.ty("x", self.x)?.dense()?.f32()?.rank(1, crate::MAX_RANK)?;
        let w = cx.ty("w", self.w)?.constant()?.rank(2, 2)?;
        if !WEIGHTS.contains(&w.layout) || w.layout == Layout::Trit5 {
            return Err(Fault::Layout { operand: "w", found: w.layout });
        }
        let rank = x.shape.rank();
        let y = cx.ty("y", self.y)?.dense()?.f32()?.rank(rank, rank)?;
        for axis in 0..rank.saturating_sub(1) {
            same("a dimension of `y`", x.dim(axis), y.dim(axis))?;
        }
        same("the last dimension of `x`", w.dim(1), x.last())?;
        same("the last dimension of `y`", w.dim(0), y.last())?;
        attribute("group", self.group, self.group > 0)?;
        let scale = cx.ty("scale", self.scale)?.constant()?.dense()?.f32()?.rank(0, 2)?;
        let (rows, columns) = match scale.shape.rank() {
            2 => (scale.dim(0), scale.dim(1)),
            1 => (Some(1), scale.dim(0)),
            _ => (Some(1), Some(1)),
        };
        if rows != Some(1) {
            same("the rows of `scale`", w.dim(0), rows)?;
        }
        if columns != Some(1) {
            same("the columns of `scale`", w.dim(1).map(|k| k.div_ceil(u64::from(self.group.max(1)))), columns)?;
        }
        if let Some(bias) = cx.optional("bias", self.bias)? {
            bias.constant()?.f32()?.elements(w.dim(0))?;
        }
        Ok(())
    }
}

instruction! {
    /// Two-dimensional convolution of quantised images with few-bit weights; padding is zero.
    ///
    /// With one scale per image or for all, per element `((f32(sum) * q_scale) * scale[output]) + bias[output]` with an
    /// exact integer sum. With one scale per pixel the integer sum of each tap is multiplied by the scale of its pixel
    /// and the taps are added in `f32`, row by row of the kernel, before the weight's scale is applied.
    BitConv2d {
        /// The result, `[N, O, OH, OW]`.
        y: BufferId,
        /// The quantised images, `[N, C, H, W]`, rows not padded.
        q: Operand,
        /// Their scales: one, or one per image, or one per pixel.
        q_scale: Operand,
        /// The weights, a packed constant `[groups, O / groups, KH * KW * C / groups]`: the channels of a tap are
        /// neighbours. Without the first dimension where there is one group.
        w: Operand,
        /// The scales of the weights, a constant: one, or one per output channel.
        scale: Operand,
        /// Added last, a constant: one per output channel.
        bias: Option<Operand>,
        /// Extent of the window: height, width.
        kernel: [u32; 2],
        /// Distance of neighbouring windows: height, width.
        strides: [u32; 2],
        /// Zeros around the image: top, left, bottom, right.
        pads: [u32; 4],
        /// Distance of neighbouring taps: height, width.
        dilations: [u32; 2],
        /// Applied to the sum.
        activation: Activation,
    }
}

impl Contract for BitConv2d {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        self.check_layer(cx, DType::F32)
    }
}

impl BitConv2d {
    /// The contract for a result of that type.
    pub(super) fn check_layer(&self, cx: &Cx<'_>, result: DType) -> Result<(), Fault> {
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[result])?.rank(4, 4)?;
        let q = cx.ty("q", self.q)?.dense()?.dtype(&[DType::I8])?.rank(4, 4)?;
        let w = cx.ty("w", self.w)?.constant()?.rank(2, 3)?;
        if !WEIGHTS.contains(&w.layout) {
            return Err(Fault::Layout { operand: "w", found: w.layout });
        }
        let (groups, rows, columns) = match w.shape.rank() {
            2 => (Some(1), w.dim(0), w.dim(1)),
            _ => (w.dim(0), w.dim(1), w.dim(2)),
        };
        sums_fit(w.layout, columns)?;
        let product = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => a.checked_mul(b).map(Some).ok_or(Fault::Overflow { what: "w" }),
            _ => Ok(None),
        };
        let channels = product(groups, rows)?;
        same("the channels of `y`", channels, y.dim(1))?;
        let [height, width] = self.kernel;
        let taps = u64::from(height).checked_mul(width.into());
        // Per group: columns = taps * channels / groups.
        same("the inner size of `w`", product(taps, q.dim(1))?, product(columns, groups)?)?;
        let pixels = product(product(q.dim(0), q.dim(2))?, q.dim(3))?;
        let q_scale = cx.ty("q_scale", self.q_scale)?.f32()?;
        if q_scale.numel()? != q.dim(0) {
            q_scale.one_or(pixels)?;
        }
        cx.ty("scale", self.scale)?.constant()?.f32()?.one_or(channels)?;
        if let Some(bias) = cx.optional("bias", self.bias)? {
            bias.constant()?.f32()?.elements(channels)?;
        }
        let kernel = [Some(u64::from(height)), Some(u64::from(width))];
        Window { kernel, strides: self.strides, pads: self.pads, dilations: self.dilations }.check(&q, &y, false)
    }
}
