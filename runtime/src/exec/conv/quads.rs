//! `bit_conv2d` where channels come in fours: with pixels in lanes, so that neither windows are gathered nor channels and
//! pixels change places.

use bitc_format::Layout;
use bitc_format::inst::BitConv2d;

use super::super::quantized::weights;
use super::{Block, Geometry, Products};
use crate::RunError;
use crate::arena::{self, AlignedBytes};
use crate::frame::Frame;
use crate::isa::{PANEL, TILE};
use crate::kernels::{PackedWeights, QuadWindows, Quads};

/// Places of which the sums are there at a time, about.
const PLACES: usize = 1024;

/// Whether the windows are worked on in quads, where one scale does for all that a window holds.
pub(super) fn is_quads(g: &Geometry, layout: Layout) -> bool {
    let windows = windows(g);
    let elements = g.plane().saturating_mul(g.channels);
    // Planes with far more zeros around them than elements are not worth copying.
    let near = windows.packed_len() <= elements.saturating_mul(8).saturating_add(4096).min(u32::MAX as usize);
    let packed = matches!(layout, Layout::Trit2 | Layout::Bit1 | Layout::Int8);
    packed && near && g.k > 0 && g.channels.is_multiple_of(4) && is_worthwhile(g, &windows)
}

/// Whether unpacking the weights and multiplying them with places between windows takes less time than moving windows
/// and results. Counted in products of a weight and a pixel, as measured.
fn is_worthwhile(g: &Geometry, windows: &QuadWindows) -> bool {
    const UNPACK: usize = 64;
    const GATHER: usize = 27;
    const RESULT: usize = 200;
    let between = windows.places(windows.slides[0].output).saturating_sub(g.pixels());
    let quads = g.n.max(4).saturating_mul(g.k).saturating_mul(between.saturating_add(UNPACK));
    let moved = g.k.saturating_mul(GATHER).saturating_add(g.n.saturating_mul(RESULT));
    quads <= g.pixels().saturating_mul(moved)
}

fn windows(g: &Geometry) -> QuadWindows {
    QuadWindows { channels: g.channels, slides: g.slides }
}

/// Rows of windows whose sums are there at a time.
fn rows(windows: &QuadWindows) -> usize {
    (PLACES / windows.pitch().max(1)).clamp(1, windows.slides[0].output.max(1))
}

/// Bytes of the quads of a plane and of a group, of their places in a window, of the weights of a panel, of what sums begin with, and
/// of the sums of places and of windows.
pub(super) fn parts(g: &Geometry, layout: Layout) -> [usize; 7] {
    if !is_quads(g, layout) {
        return [0; 7];
    }
    let whole = |bytes: usize| bytes.checked_next_multiple_of(64).unwrap_or(usize::MAX);
    let words = |n: usize| whole(n.saturating_mul(4));
    let windows = windows(g);
    let rows = rows(&windows);
    let pixels = rows.saturating_mul(windows.slides[1].output);
    [
        whole(windows.plane_len()),
        whole(windows.packed_len()),
        words(windows.steps()),
        g.k.saturating_mul(PANEL.min(g.n.next_multiple_of(TILE))),
        words(PANEL),
        words(windows.places(rows).saturating_mul(PANEL)),
        words(pixels.saturating_mul(PANEL)),
    ]
}

/// Multiplies the quads of all images group by group, panel by panel of the weights, and shows the sums.
pub(super) fn products(
    frame: &Frame<'_, '_>,
    inst: &BitConv2d,
    g: &Geometry,
    scratch: &mut AlignedBytes,
    show: &mut dyn FnMut(Block, Products<'_>),
) -> Result<(), RunError> {
    let q = frame.array::<i8>(inst.q)?;
    let (layout, packed) = weights(frame, inst.w)?;
    let [plane_len, x_len, offsets_len, w_len, starts_len, places_len, sums_len] = parts(g, layout);
    let (plane, rest) = scratch.bytes_mut().split_at_mut(plane_len);
    let (x, rest) = rest.split_at_mut(x_len);
    let (offsets, rest) = rest.split_at_mut(offsets_len);
    let (w, rest) = rest.split_at_mut(w_len);
    let (starts, rest) = rest.split_at_mut(starts_len);
    let (places, rest) = rest.split_at_mut(places_len);
    let windows = windows(g);
    let plane = &mut plane[..windows.plane_len()];
    let (x, steps) = (&mut x[..windows.packed_len()], windows.steps());
    let offsets = &mut arena::elements_mut::<u32>(offsets).ok_or(RunError::ProgramChanged)?[..steps];
    let w = arena::elements_mut::<i8>(w).ok_or(RunError::ProgramChanged)?;
    let starts = arena::elements_mut::<i32>(starts).ok_or(RunError::ProgramChanged)?;
    let places = arena::elements_mut::<i32>(places).ok_or(RunError::ProgramChanged)?;
    let sums = arena::elements_mut::<i32>(&mut rest[..sums_len]).ok_or(RunError::ProgramChanged)?;
    windows.offsets(offsets);
    let (area, group_len) = (g.plane() * g.channels, packed.len() / g.groups.max(1));
    let row_len = packed.len() / (g.groups * g.n.next_multiple_of(TILE)).max(1);
    let [height, width] = windows.slides.map(|slide| slide.output);
    let rows = rows(&windows);
    // Outputs that are worked on together: few stay in the cache, several threads need more.
    let together = if frame.kernels.threads() > 1 { PANEL } else { TILE };
    for image in 0..q.shape[0] {
        for group in 0..g.groups {
            let planes = &q.data[(image * g.groups + group) * area..][..area];
            frame.kernels.quads_of_planes(windows, planes, plane, x);
            for panel in (0..g.n).step_by(PANEL) {
                let n = PANEL.min(g.n - panel);
                let padded = n.next_multiple_of(TILE);
                let packed = &packed[group * group_len + panel * row_len..][..padded * row_len];
                let (w, starts) = (&mut w[..padded * g.k], &mut starts[..padded]);
                frame.kernels.quads_of_weights(PackedWeights { layout, w: packed, n, k: g.k }, w, starts);
                for first in (0..n).step_by(together) {
                    let outputs = together.min(n - first);
                    let padded = outputs.next_multiple_of(TILE);
                    let (w, starts) = (&w[first * g.k..][..padded * g.k], &starts[first..][..padded]);
                    for row in (0..height).step_by(rows) {
                        let rows = [row, rows.min(height - row)];
                        let ternary = layout != Layout::Int8;
                        let part = Quads { windows, x, offsets, w, starts, ternary, outputs, rows };
                        let places = &mut places[..padded * windows.places(rows[1])];
                        let sums = &mut sums[..outputs * rows[1] * width];
                        frame.kernels.quads(part, places, sums);
                        let first = group * g.n + panel + first;
                        let block = Block { image, first, pixel: row * width, rows: rows[1] * width };
                        show(block, Products::Exact(sums));
                    }
                }
            }
        }
    }
    Ok(())
}
