//! Any machine: slots are small arrays of words.

use std::array;

use super::{Bits, FEW, MANY, plain};
use crate::isa::portable::Portable;

macro_rules! words {
    ($($n:ident)*) => {$(
        impl Bits<$n> for Portable {
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
                array::from_fn(|i| plain::table::<TABLE>(a[i], b[i], c[i]))
            }
        }
    )*};
}
words!(MANY FEW);
