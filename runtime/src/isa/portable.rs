//! Any machine: plain loops over small arrays, which compilers turn into whatever vectors the target has.

use bitc_format::Layout;

use super::{BLOCK, Isa, PanelSums, PlanesTile, TILE};

/// Needs nothing but Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Isa for Portable {
    const NAME: &'static str = "portable";

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn planes_tile(self, tile: PlanesTile<'_>, sums: &mut [PanelSums]) {
        let Some(sums) = sums.first_mut() else { return };
        match tile.layout {
            Layout::Bit1 => one_token::<1, 8>(tile, sums),
            _ => one_token::<2, 4>(tile, sums),
        }
    }
}

/// Column groups whose sums fit 16 bits: each adds at most 3 * 128 per plane, over `PLANES` planes.
const fn run(planes: usize) -> usize {
    32_767 / (3 * 128 * planes)
}

fn one_token<const BITS: u32, const PLANES: usize>(tile: PlanesTile<'_>, sums: &mut PanelSums) {
    for (index, sums) in sums.as_chunks_mut::<TILE>().0.iter_mut().enumerate().take(tile.n_tiles) {
        let blocks = tile.w.as_chunks::<BLOCK>().0.iter().skip(index).step_by(tile.n_tiles);
        let groups = tile.q.chunks_exact(4 * PLANES);
        let mut pairs = blocks.zip(groups);
        loop {
            // Lane by lane: byte `i` of a block is row `i / 4`, column `i % 4` of each plane.
            let mut lanes = [0i16; BLOCK];
            let mut n = 0;
            for (block, q) in pairs.by_ref().take(run(PLANES)) {
                n += 1;
                for p in 0..PLANES {
                    let x: [i16; 8] = std::array::from_fn(|i| i16::from(q[4 * p + i % 4]));
                    for (lanes, bytes) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(block.as_chunks::<8>().0) {
                        for ((lane, &byte), &x) in lanes.iter_mut().zip(bytes).zip(&x) {
                            let code = (i16::from(byte) >> (BITS * p as u32)) & ((1 << BITS) - 1);
                            *lane = lane.wrapping_add(code.wrapping_mul(x));
                        }
                    }
                }
            }
            for (sum, lanes) in sums.iter_mut().zip(lanes.as_chunks::<4>().0) {
                let lanes: i32 = lanes.iter().copied().map(i32::from).sum();
                // A bit stands for w + 1, which is 0 or 2.
                *sum = sum.wrapping_add(if BITS == 1 { 2 * lanes } else { lanes });
            }
            if n < run(PLANES) {
                break;
            }
        }
    }
}
