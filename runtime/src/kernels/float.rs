//! The float kernels of an instruction set: plain loops, compiled once for each.
//!
//! The order of all additions is fixed and nothing is fused, so these too give the same bits on every instruction set.

use bitc_format::inst::Step;

use super::elementwise::{self, Tile};
#[cfg(not(feature = "minimal"))]
use super::{
    dense::{self, Product},
    few_bits::{self, FewBits},
    norm::{self, Norm},
    window::{self, Convolution},
};
use crate::isa::Isa;

/// The float kernels of one instruction set.
pub trait FloatKernels: Sync {
    /// Runs the steps of a `map` on one tile; the first `loaded` registers are filled.
    fn map(&self, registers: &mut [Tile], loaded: usize, steps: &[Step]);

    /// `y = activation(a @ b + bias)` for one pair of matrices; `packed` is scratch memory.
    #[cfg(not(feature = "minimal"))]
    fn matmul(&self, product: Product<'_>, packed: &mut [f32], y: &mut [f32]);

    /// `y = activation(x @ weights^T + bias)` with weights of few bits; `packed` is scratch memory.
    #[cfg(not(feature = "minimal"))]
    fn few_bits(&self, product: FewBits<'_>, packed: &mut [f32], y: &mut [f32]);

    /// The outputs of a convolution, plane after plane; `packed` is scratch memory.
    #[cfg(not(feature = "minimal"))]
    fn convolve(&self, convolution: Convolution<'_>, packed: &mut [f32], y: &mut [f32]);

    /// Softmax, or its logarithm, of every row of `n` elements, in place.
    #[cfg(not(feature = "minimal"))]
    fn softmax(&self, y: &mut [f32], n: usize, log: bool);

    /// Normalises the rows of `x` into those of `y`.
    #[cfg(not(feature = "minimal"))]
    fn normalize(&self, x: &[f32], norm: Norm<'_>, y: &mut [f32]);
}

impl<I: Isa> FloatKernels for I {
    fn map(&self, registers: &mut [Tile], loaded: usize, steps: &[Step]) {
        self.vectorize(
            #[inline(always)]
            || elementwise::steps(registers, loaded, steps),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn matmul(&self, product: Product<'_>, packed: &mut [f32], y: &mut [f32]) {
        let isa = *self;
        isa.vectorize(
            #[inline(always)]
            || dense::matmul(isa, product, packed, y),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn few_bits(&self, product: FewBits<'_>, packed: &mut [f32], y: &mut [f32]) {
        let isa = *self;
        isa.vectorize(
            #[inline(always)]
            || few_bits::product(isa, product, packed, y),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn convolve(&self, convolution: Convolution<'_>, packed: &mut [f32], y: &mut [f32]) {
        let isa = *self;
        isa.vectorize(
            #[inline(always)]
            || window::convolve(isa, convolution, packed, y),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn softmax(&self, y: &mut [f32], n: usize, log: bool) {
        self.vectorize(
            #[inline(always)]
            || norm::softmax_rows(y, n, log),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn normalize(&self, x: &[f32], norm: Norm<'_>, y: &mut [f32]) {
        self.vectorize(
            #[inline(always)]
            || norm::rows(x, norm, y),
        );
    }
}
