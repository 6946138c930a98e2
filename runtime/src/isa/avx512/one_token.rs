//! One token and a panel of ternary weights, in instructions that are laid out by hand.
//!
//! Each register of weights needs four AND and four products. A core such as AMD's Zen 5 has four vector pipes, two of
//! which multiply, so all of them are full and the loop runs at their rate only if nothing else delays them. What a compiler makes of the same steps
//! loses time to where the loop begins and to requests for memory that come in a bunch. Here the loop begins with a line
//! of code, a tile's ANDs come before its products, and a line is asked for after the products of the one at its distance.

use core::arch::asm;
use core::arch::x86_64::{__m512i, _mm512_set1_epi8, _mm512_setzero_si512};

use super::{BLOCK, PANEL, PlanesPart, add, all_planes};

/// Tiles of a panel.
const TILES: usize = 4;
/// Weights in a byte.
const PLANES: usize = 4;

/// A tile at `offset` from the weights, with the registers of its sums, plane by plane. What lies 2 KiB after it is
/// asked for: as far as the third level of cache takes to answer.
macro_rules! tile {
    ($offset:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            "vmovdqu64 zmm0, [{w} + ",
            $offset,
            "]\n",
            "vpandd zmm1, zmm0, zmm8\n",
            "vpandd zmm2, zmm0, zmm9\n",
            "vpandd zmm3, zmm0, zmm10\n",
            "vpandd zmm0, zmm0, zmm11\n",
            "vpdpbusd zmm",
            $a,
            ", zmm1, zmm4\n",
            "vpdpbusd zmm",
            $b,
            ", zmm2, zmm5\n",
            "vpdpbusd zmm",
            $c,
            ", zmm3, zmm6\n",
            "vpdpbusd zmm",
            $d,
            ", zmm0, zmm7\n",
            "prefetcht0 [{w} + ",
            $offset,
            " + 2048]\n",
        )
    };
}

/// Adds the products of every panel of four tiles to the sums of the token. Returns how many such panels there are.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn panels(part: PlanesPart<'_>, sums: &mut [i32]) -> usize {
    let q = part.q.as_chunks::<{ PLANES * 4 }>().0;
    let panels = part.w.chunks_exact(part.panel_len).zip(sums.as_chunks_mut::<PANEL>().0);
    let n_panels = panels.len();
    for (w, sums) in panels {
        let w = w.as_chunks::<{ TILES * BLOCK }>().0.get(part.before..).unwrap_or_default();
        for (acc, sums) in panel(w, q).iter().zip(sums.as_chunks_mut().0) {
            add::<PLANES>(sums, part.starts.first(), all_planes(acc));
        }
    }
    n_panels
}

/// The sums of each tile and plane; a plane is not shifted down.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn panel(w: &[[u8; TILES * BLOCK]], q: &[[i8; PLANES * 4]]) -> [[__m512i; PLANES]; TILES] {
    let steps = w.len().min(q.len());
    let mut acc = [[_mm512_setzero_si512(); PLANES]; TILES];
    let masks = [0x03, 0x0c, 0x30, 0xc0_u8 as i8].map(|mask| _mm512_set1_epi8(mask));
    let [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]] = &mut acc;
    // SAFETY: there are `steps` groups of weights and of activations, by the slices; the loop reads each of them once
    // and nothing else, since a request for memory that is not there does nothing. It writes registers only, all of
    // which are named.
    unsafe {
        asm!(
            "cmp {q}, {end}",
            "je 3f",
            ".p2align 6",
            "2:",
            "vpbroadcastd zmm4, [{q}]",
            "vpbroadcastd zmm5, [{q} + 4]",
            "vpbroadcastd zmm6, [{q} + 8]",
            "vpbroadcastd zmm7, [{q} + 12]",
            tile!("0", "16", "17", "18", "19"),
            tile!("64", "20", "21", "22", "23"),
            tile!("128", "24", "25", "26", "27"),
            tile!("192", "28", "29", "30", "31"),
            "add {w}, 256",
            "add {q}, 16",
            "cmp {q}, {end}",
            "jne 2b",
            "3:",
            w = inout(reg) w.as_ptr() => _,
            q = inout(reg) q.as_ptr() => _,
            end = in(reg) q.as_ptr().wrapping_add(steps),
            inout("zmm16") *a0, inout("zmm17") *a1, inout("zmm18") *a2, inout("zmm19") *a3,
            inout("zmm20") *b0, inout("zmm21") *b1, inout("zmm22") *b2, inout("zmm23") *b3,
            inout("zmm24") *c0, inout("zmm25") *c1, inout("zmm26") *c2, inout("zmm27") *c3,
            inout("zmm28") *d0, inout("zmm29") *d1, inout("zmm30") *d2, inout("zmm31") *d3,
            in("zmm8") masks[0], in("zmm9") masks[1], in("zmm10") masks[2], in("zmm11") masks[3],
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            options(nostack, readonly),
        );
    }
    acc
}
