//! What this CPU has, and what its system lets programs use. The runtime asks the CPU itself, so that it needs no
//! standard library.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU8, Ordering};

/// The instruction sets of this CPU that the runtime knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found(u8);

const LOOKED: u8 = 1;
const AVX2: u8 = 2;
const AVX512: u8 = 4;
const LOOKUP: u8 = 8;
const AVX_VNNI: u8 = 16;

impl Found {
    /// AVX2.
    pub(crate) fn avx2(self) -> bool {
        self.0 & AVX2 != 0
    }

    /// AVX2 and AVX-VNNI, which a minimal build makes no use of.
    pub(crate) fn avx_vnni(self) -> bool {
        !cfg!(feature = "minimal") && self.0 & AVX_VNNI != 0
    }

    /// AVX2, FMA and AVX-512 F, BW, VL, DQ and VNNI.
    pub(crate) fn avx512(self) -> bool {
        self.0 & AVX512 != 0
    }

    /// AVX-512 VBMI and GFNI beside all that.
    pub(crate) fn lookup(self) -> bool {
        self.0 & LOOKUP != 0
    }
}

/// Looks, the first time.
pub(crate) fn found() -> Found {
    static FOUND: AtomicU8 = AtomicU8::new(0);
    let mut found = FOUND.load(Ordering::Relaxed);
    if found == 0 {
        found = look();
        // Whoever looks sees the same.
        FOUND.store(found, Ordering::Relaxed);
    }
    Found(found)
}

/// Bits as numbered in the manuals of the makers.
fn look() -> u8 {
    let all = |register: u32, bits: &[u32]| bits.iter().all(|bit| register >> bit & 1 != 0);
    let highest_leaf = __cpuid(0).eax;
    let general = __cpuid(1);
    // XSAVE in use by the system, and AVX.
    if highest_leaf < 7 || !all(general.ecx, &[27, 28]) {
        return LOOKED;
    }
    // SAFETY: the system has enabled XSAVE, which brings the instruction.
    let saved = unsafe { _xgetbv(0) } as u32;
    let extended = __cpuid_count(7, 0);
    let mut found = LOOKED;
    // The system saves the lower halves of the vectors, and the upper.
    if all(saved, &[1, 2]) && all(extended.ebx, &[5]) {
        found |= AVX2;
        // The first leaf says whether there is a second one.
        if extended.eax >= 1 && all(__cpuid_count(7, 1).eax, &[4]) {
            found |= AVX_VNNI;
        }
        // Masks and both parts of the wider vectors; then FMA; F, DQ, BW, VL; and VNNI.
        let wide = all(saved, &[5, 6, 7]) && all(general.ecx, &[12]);
        if wide && all(extended.ebx, &[16, 17, 30, 31]) && all(extended.ecx, &[11]) {
            found |= AVX512;
            // VBMI and GFNI.
            if all(extended.ecx, &[1, 8]) {
                found |= LOOKUP;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::arch::is_x86_feature_detected as detected;

    use super::found;

    #[test]
    fn finds_what_the_standard_library_finds() {
        let avx512 = detected!("avx2")
            && detected!("fma")
            && detected!("avx512f")
            && detected!("avx512bw")
            && detected!("avx512vl")
            && detected!("avx512dq")
            && detected!("avx512vnni");
        let expected = (detected!("avx2"), avx512, avx512 && detected!("avx512vbmi") && detected!("gfni"));
        let found = found();
        assert_eq!((found.avx2(), found.avx512(), found.lookup()), expected);
        let vnni = detected!("avx2") && detected!("avxvnni") && !cfg!(feature = "minimal");
        assert_eq!(found.avx_vnni(), vnni);
    }
}
