//! Float products and sliding windows.

use alloc::vec::Vec;

use super::{Contract, Field, codes, instruction};
use crate::contract::{attribute, same};
use crate::cursor::Cursor;
use crate::{BufferId, Cx, DType, ErrorKind, Fault, FormatError, Operand, Ty};

/// The largest kernel extent, stride, padding or dilation.
const MAX_WINDOW: u32 = 1 << 16;

/// What is applied to every element of a product before it is stored.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, lo), hi)`
    Clip {
        /// The lower bound.
        lo: f32,
        /// The upper bound.
        hi: f32,
    },
    /// `x * (1 + erf(x / sqrt 2)) / 2`
    GeluErf,
    /// The approximation of GELU by tanh.
    GeluTanh,
    /// `x * sigmoid(x)`
    Silu,
    /// Logistic function.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `max(x, 0)` squared.
    Relu2,
}

impl Field for Activation {
    fn put(&self, out: &mut Vec<u32>) {
        let (code, lo, hi) = match *self {
            Activation::None => (0, 0.0, 0.0),
            Activation::Relu => (1, 0.0, 0.0),
            Activation::Clip { lo, hi } => (2, lo, hi),
            Activation::GeluErf => (3, 0.0, 0.0),
            Activation::GeluTanh => (4, 0.0, 0.0),
            Activation::Silu => (5, 0.0, 0.0),
            Activation::Sigmoid => (6, 0.0, 0.0),
            Activation::Tanh => (7, 0.0, 0.0),
            Activation::Relu2 => (8, 0.0, 0.0),
        };
        out.extend([code, lo.to_bits(), hi.to_bits()]);
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let at = from.clone();
        let (code, lo, hi) = (from.u32()?, from.u32()?, from.u32()?);
        if code != 2 && (lo, hi) != (0, 0) {
            return Err(at.error(ErrorKind::NotZero { what: "the bounds of an activation" }));
        }
        Ok(match code {
            0 => Activation::None,
            1 => Activation::Relu,
            2 => Activation::Clip { lo: f32::from_bits(lo), hi: f32::from_bits(hi) },
            3 => Activation::GeluErf,
            4 => Activation::GeluTanh,
            5 => Activation::Silu,
            6 => Activation::Sigmoid,
            7 => Activation::Tanh,
            8 => Activation::Relu2,
            code => return Err(at.error(ErrorKind::Code { what: "activation", value: code.into() })),
        })
    }
}

instruction! {
    /// `y = activation(a @ b + bias)`; the dimensions before the last two broadcast. Types other than `f32` have neither
    /// bias nor activation; integers wrap.
    Matmul {
        /// The result, `[.., M, N]`.
        y: BufferId,
        /// The left factor, `[.., M, K]`.
        a: Operand,
        /// The right factor, `[.., K, N]`, or `[.., N, K]` where it is transposed.
        b: Operand,
        /// Added to every row: one value or `N`.
        bias: Option<Operand>,
        /// Whether `b` is stored transposed.
        transpose_b: bool,
        /// Applied last.
        activation: Activation,
    }
}

impl Contract for Matmul {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let types = [DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64];
        let y = cx.ty("y", self.y)?.dense()?.dtype(&types)?.rank(2, crate::MAX_RANK)?;
        let rank = y.shape.rank();
        let a = cx.ty("a", self.a)?.dense()?.dtype(&[y.dtype])?.rank(2, rank)?;
        let b = cx.ty("b", self.b)?.dense()?.dtype(&[y.dtype])?.rank(2, rank)?;
        if y.dtype != DType::F32 && (self.bias.is_some() || self.activation != Activation::None) {
            return Err(Fault::DType { operand: "y", found: y.dtype });
        }
        // The dimension `back` places from the end; 1 before the first.
        let from_end = |t: &Ty, back: usize| t.shape.rank().checked_sub(back).map_or(Some(1), |axis| t.dim(axis));
        let (b_rows, b_columns) = if self.transpose_b { (1, 2) } else { (2, 1) };
        same("the inner dimension of `b`", a.last(), from_end(&b, b_rows))?;
        same("a dimension of `y`", from_end(&a, 2), from_end(&y, 2))?;
        same("a dimension of `y`", from_end(&b, b_columns), y.last())?;
        for back in 3..=rank {
            let (da, db, dy) = (from_end(&a, back), from_end(&b, back), from_end(&y, back));
            let expected = if da == Some(1) { db } else { da };
            if da != Some(1) && db != Some(1) {
                same("a batch dimension of `b`", da, db)?;
            }
            same("a batch dimension of `y`", expected, dy)?;
        }
        if let Some(bias) = cx.optional("bias", self.bias)? {
            bias.f32()?.one_or(y.last())?;
        }
        Ok(())
    }
}

/// How a window of two dimensions slides; every pair is (height, width).
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) kernel: [Option<u64>; 2],
    pub(super) strides: [u32; 2],
    pub(super) pads: [u32; 4],
    pub(super) dilations: [u32; 2],
}

impl Window {
    /// The attributes are in range, and the window fits `x` and `y`, both `[N, C, H, W]`. Where `ceil` is set, a last
    /// position that reaches past the padding counts too, if it does not begin there.
    pub(super) fn check(&self, x: &Ty, y: &Ty, ceil: bool) -> Result<(), Fault> {
        same("the batch dimension of `y`", x.dim(0), y.dim(0))?;
        let [top, left, bottom, right] = self.pads;
        for (axis, before, after) in [(0, top, bottom), (1, left, right)] {
            let stride = self.strides.get(axis).copied().unwrap_or(0);
            let dilation = self.dilations.get(axis).copied().unwrap_or(0);
            attribute("strides", stride, (1..=MAX_WINDOW).contains(&stride))?;
            attribute("dilations", dilation, (1..=MAX_WINDOW).contains(&dilation))?;
            attribute("pads", before, before <= MAX_WINDOW)?;
            attribute("pads", after, after <= MAX_WINDOW)?;
            let kernel = self.kernel.get(axis).copied().flatten();
            let Some(kernel) = kernel else { continue };
            attribute("kernel", kernel, (1..=u64::from(MAX_WINDOW)).contains(&kernel))?;
            let (size_axis, stride) = (axis.saturating_add(2), u64::from(stride));
            let (Some(size), Some(found)) = (x.dim(size_axis), y.dim(size_axis)) else { continue };
            let reach = kernel.saturating_sub(1).saturating_mul(dilation.into()).saturating_add(1);
            let padded = size.checked_add(before.into()).and_then(|n| n.checked_add(after.into()));
            let free = padded.ok_or(Fault::Overflow { what: "x" })?.checked_sub(reach);
            let Some(free) = free else { return Err(Fault::Size { what: "a dimension of `y`", expected: 0, found }) };
            let floor = free.checked_div(stride).unwrap_or(0).saturating_add(1);
            let last_start = floor.saturating_mul(stride);
            let overhang =
                ceil && free.checked_rem(stride) != Some(0) && last_start < size.saturating_add(before.into());
            if !(overhang && found == floor.saturating_add(1)) {
                same("a dimension of `y`", Some(floor), Some(found))?;
            }
        }
        Ok(())
    }
}

instruction! {
    /// Two-dimensional convolution (cross-correlation) with bias and activation.
    Conv2d {
        /// The result, `[N, O, OH, OW]`.
        y: BufferId,
        /// The images, `[N, C, H, W]`.
        x: Operand,
        /// The weights, `[O, C / groups, KH, KW]`.
        w: Operand,
        /// Added to every output channel: `[O]`.
        bias: Option<Operand>,
        /// Distance of neighbouring windows: height, width.
        strides: [u32; 2],
        /// Zeros around the image: top, left, bottom, right.
        pads: [u32; 4],
        /// Distance of neighbouring taps: height, width.
        dilations: [u32; 2],
        /// How many groups the channels fall into.
        groups: u32,
        /// Applied last.
        activation: Activation,
    }
}

impl Contract for Conv2d {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let y = cx.ty("y", self.y)?.f32()?.rank(4, 4)?;
        let x = cx.ty("x", self.x)?.f32()?.rank(4, 4)?;
        let w = cx.ty("w", self.w)?.f32()?.rank(4, 4)?;
        let groups = u64::from(self.groups);
        attribute("groups", self.groups, groups >= 1)?;
        same("the channels of `x`", w.dim(1).and_then(|n| n.checked_mul(groups)), x.dim(1))?;
        if let Some(channels) = w.dim(0) {
            attribute("groups", self.groups, channels.checked_rem(groups) == Some(0))?;
        }
        same("the channels of `y`", w.dim(0), y.dim(1))?;
        if let Some(bias) = cx.optional("bias", self.bias)? {
            bias.f32()?.elements(w.dim(0))?;
        }
        let kernel = [w.dim(2), w.dim(3)];
        Window { kernel, strides: self.strides, pads: self.pads, dilations: self.dilations }.check(&x, &y, false)
    }
}

codes! {
    /// What a [`Pool2d`] computes of each window.
    PoolKind ("kind of pooling") {
        /// The largest element, padding left out.
        Max = 0 "max",
        /// The mean of the elements, padding left out.
        Average = 1 "average",
        /// The mean of the elements, padding counted as zeros.
        AverageWithPad = 2 "average_with_pad",
    }
}

instruction! {
    /// Pooling over two-dimensional windows of `f32`, or of `i8` where the largest element is looked for. Whether the
    /// number of windows was rounded up shows in the shape of `y`.
    Pool2d {
        /// The result, `[N, C, OH, OW]`.
        y: BufferId,
        /// The images, `[N, C, H, W]`.
        x: Operand,
        /// What is computed.
        kind: PoolKind,
        /// Extent of the window: height, width.
        kernel: [u32; 2],
        /// Distance of neighbouring windows: height, width.
        strides: [u32; 2],
        /// Padding around the image: top, left, bottom, right; less than the reach of the window.
        pads: [u32; 4],
        /// Distance of neighbouring elements of a window: height, width.
        dilations: [u32; 2],
    }
}

impl Contract for Pool2d {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let numbers: &[DType] = if self.kind == PoolKind::Max { &[DType::F32, DType::I8] } else { &[DType::F32] };
        let x = cx.ty("x", self.x)?.dense()?.dtype(numbers)?.rank(4, 4)?;
        let y = cx.ty("y", self.y)?.dense()?.dtype(&[x.dtype])?.rank(4, 4)?;
        same("the channels of `y`", x.dim(1), y.dim(1))?;
        let [height, width] = self.kernel;
        let kernel = [Some(u64::from(height)), Some(u64::from(width))];
        Window { kernel, strides: self.strides, pads: self.pads, dilations: self.dilations }.check(&x, &y, true)?;
        let [top, left, bottom, right] = self.pads;
        let reach = |axis: usize| {
            let (k, d) = (self.kernel.get(axis).copied(), self.dilations.get(axis).copied());
            k.unwrap_or(0).saturating_sub(1).saturating_mul(d.unwrap_or(0))
        };
        for (pad, axis) in [(top, 0), (bottom, 0), (left, 1), (right, 1)] {
            attribute("pads", pad, pad <= reach(axis))?;
        }
        Ok(())
    }
}
