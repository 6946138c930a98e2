//! What the machine can do at most: the figures that benchmarks hold kernels against.

/// One measure of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Probe<'a> {
    /// That many rounds of the instructions that a product is made of, on registers only.
    Multiply(u32),
    /// Reads every byte.
    Read(&'a [u8]),
}

/// Reads every byte, some streams at once; the result only keeps the loads alive.
#[inline(always)]
pub(super) fn read(bytes: &[u8]) -> u64 {
    let mut acc = [0u64; 64];
    for chunk in bytes.as_chunks::<512>().0 {
        for (acc, bytes) in acc.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *acc ^= u64::from_le_bytes(*bytes);
        }
    }
    acc.iter().fold(0, |a, b| a ^ b)
}
