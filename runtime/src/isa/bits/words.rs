//! Slots as small arrays of words.

use core::array;

use super::{Bits, FEW, MANY, Samples, plain};
#[cfg(target_arch = "x86_64")]
use crate::isa::avx2::Avx2;
use crate::isa::portable::Portable;

macro_rules! words {
    ($isa:ident: $($n:ident)*) => {$(
        impl Bits<$n> for $isa {
            type Slot = [u64; $n];

            #[inline(always)]
            fn load(self, from: &[u64; $n]) -> [u64; $n] {
                *from
            }

            #[inline(always)]
            fn store(self, slot: [u64; $n], to: &mut [u64; $n]) {
                *to = slot;
            }

            #[inline(always)]
            fn table<const TABLE: i32>(self, a: [u64; $n], b: [u64; $n], c: [u64; $n]) -> [u64; $n] {
                array::from_fn(|i| plain::table::<TABLE, u64>(a[i], b[i], c[i]))
            }
        }
    )*};
}
words!(Portable: MANY FEW);
#[cfg(target_arch = "x86_64")]
words!(Avx2: FEW);

impl Samples for Portable {
    const HOLDS_MANY: bool = false;
}
