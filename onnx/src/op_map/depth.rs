//! Windows over three axes as windows over two: the first axis is taken apart into the planes under each of its taps.

use bitc_ir::ops::Slice;
use bitc_ir::{Dim, Shape, ValueId};

use crate::error::Cause;
use crate::import::node::{NodeCx, unsupported};

/// Where a window goes along the first of three spatial axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) pads: (usize, usize),
}

impl Depth {
    /// `x[n, c, d, h, w]` by planes: for each tap `plane` gets `[n * positions, c, h, w]`, and the results are combined.
    pub(super) fn fold(
        self,
        cx: &mut NodeCx<'_, '_>,
        x: ValueId,
        outside: f64,
        combine: &str,
        mut plane: impl FnMut(&mut NodeCx<'_, '_>, ValueId, usize) -> Result<ValueId, Cause>,
    ) -> Result<ValueId, Cause> {
        let large = || unsupported("an image that large");
        let mut x = x;
        if self.pads != (0, 0) {
            let mut pads = vec![0i64; 10];
            (pads[2], pads[7]) = (self.pads.0 as i64, self.pads.1 as i64);
            let value = cx.scalar(cx.dtype(x), outside)?;
            x = cx.named("pad", vec![("pads", pads.into())], &[x, value])?;
        }
        let dims = cx.dims(x);
        let [batch, channels, depth, height, width] = &dims[..] else {
            return Err(Cause::Type(format!("expected a tensor of rank 5, found {}", cx.ty(x))));
        };
        let span = (self.kernel.saturating_sub(1)).saturating_mul(self.dilation);
        let steps = depth.sub(&Dim::from(span.saturating_add(1))).and_then(|d| d.floor_div(self.stride));
        let positions = steps.and_then(|d| d.add(&Dim::from(1))).ok_or_else(large)?;
        if depth.as_const().is_some_and(|d| d <= span) {
            return Err(Cause::Type(format!(
                "a window of size {} that fits dimension 2 expected, found {depth}",
                self.kernel
            )));
        }
        let planes = batch.mul(&positions).ok_or_else(large)?;
        let reach = positions.sub(&Dim::from(1)).and_then(|d| d.mul(&Dim::from(self.stride))).ok_or_else(large)?;
        let mut total = None;
        for tap in 0..self.kernel {
            let start = Dim::from(tap.saturating_mul(self.dilation));
            let end = start.add(&reach).and_then(|d| d.add(&Dim::from(1))).ok_or_else(large)?;
            let slice =
                Slice { axes: vec![2], starts: Shape(vec![start]), ends: Shape(vec![end]), steps: vec![self.stride] };
            let part = cx.add(slice, &[x])?;
            let part = cx.transpose(part, vec![0, 2, 1, 3, 4])?;
            let part = cx.reshape(part, vec![planes.clone(), channels.clone(), height.clone(), width.clone()])?;
            let result = plane(cx, part, tap)?;
            total = Some(match total {
                Some(total) => cx.simple(combine, &[total, result])?,
                None => result,
            });
        }
        let total = total.ok_or_else(|| unsupported("an empty window"))?;
        let mut dims = cx.dims(total);
        dims.splice(0..1, [batch.clone(), positions]);
        let y = cx.reshape(total, dims)?;
        cx.transpose(y, vec![0, 2, 1, 3, 4])
    }
}
