//! `bit_conv2d` where few channels meet few outputs: plane by plane.

use bitc_format::inst::BitConv2d;

use super::super::quantized::weights;
use super::{Block, Geometry, Products};
use crate::RunError;
use crate::arena::{self, AlignedBytes};
use crate::frame::Frame;
use crate::kernels::Taps;

/// Pairs of a channel and an output of a group up to which their planes are multiplied tap by tap.
const FEW: usize = 64;

/// Whether planes are multiplied tap by tap, where one scale does for all that a window holds.
pub(super) fn is_few(g: &Geometry) -> bool {
    let elements = g.plane().saturating_mul(g.channels);
    // Planes with far more zeros around them than elements are not worth copying.
    let near = taps(g).padded_len() <= elements.saturating_mul(8).saturating_add(4096);
    g.n.saturating_mul(g.channels) <= FEW && near
}

/// What does not depend on the input.
fn taps(g: &Geometry) -> Taps<'static> {
    Taps { x: &[], w: &[], channels: g.channels, outputs: g.n, slides: g.slides }
}

/// Bytes of the weights, of the planes of a group with zeros around them, and of the sums of all places and windows.
pub(super) fn parts(g: &Geometry) -> [usize; 4] {
    if !is_few(g) {
        return [0; 4];
    }
    let whole = |bytes: usize| bytes.checked_next_multiple_of(64).unwrap_or(usize::MAX);
    let taps = taps(g);
    let sums = g.pixels().saturating_mul(g.n);
    let words = |n: usize| whole(n.saturating_mul(4));
    [
        whole(g.groups.saturating_mul(g.n).saturating_mul(g.k)),
        whole(taps.padded_len()),
        words(taps.places_len()),
        words(sums),
    ]
}

/// Multiplies the planes of all images group by group, tap by tap, and shows the sums.
pub(super) fn planes(
    frame: &Frame<'_, '_>,
    inst: &BitConv2d,
    g: &Geometry,
    scratch: &mut AlignedBytes,
    show: &mut dyn FnMut(Block, Products<'_>),
) -> Result<(), RunError> {
    let q = frame.array::<i8>(inst.q)?;
    let (layout, packed) = weights(frame, inst.w)?;
    let group_len = (packed.len() / g.groups.max(1)).max(1);
    let taps = taps(g);
    let [w_len, padded_len, places_len, sums_len] = parts(g);
    let (w, rest) = scratch.bytes_mut().split_at_mut(w_len);
    let (padded, rest) = rest.split_at_mut(padded_len);
    let (places, rest) = rest.split_at_mut(places_len);
    let w = arena::elements_mut::<i8>(w).ok_or(RunError::ProgramChanged)?;
    let padded = arena::elements_mut::<i8>(padded).ok_or(RunError::ProgramChanged)?;
    let places = arena::elements_mut::<i32>(places).ok_or(RunError::ProgramChanged)?;
    let sums = arena::elements_mut::<i32>(&mut rest[..sums_len]).ok_or(RunError::ProgramChanged)?;
    let pixels = g.pixels();
    let (w, sums) = (&mut w[..g.groups * g.n * g.k], &mut sums[..pixels * g.n]);
    let (padded, places) = (&mut padded[..taps.padded_len()], &mut places[..taps.places_len()]);
    let area = g.plane().saturating_mul(g.channels);
    for (packed, w) in packed.chunks_exact(group_len).zip(w.chunks_exact_mut(g.n * g.k)) {
        layout.unpack_into(g.n, g.k, packed, w).map_err(|_| RunError::ProgramChanged)?;
    }
    for image in 0..q.shape[0] {
        for (group, w) in w.chunks_exact(g.n * g.k).enumerate() {
            let x = &q.data[(image * g.groups + group) * area..][..area];
            frame.kernels.taps(Taps { x, w, ..taps }, padded, places, sums);
            show(Block { image, first: group * g.n, pixel: 0, rows: pixels }, Products::Exact(sums));
        }
    }
    Ok(())
}
