//! The kernels: what instructions compute, over slices, without knowing of programs.
//!
//! [`Kernels`] is what the rest of the runtime sees: one object per instruction set, chosen once. Every method gives the
//! same bits on every instruction set. Methods check the lengths of their slices once, at the top, and panic where they
//! do not fit: that is a mistake of the caller, never of the data.

#[cfg(not(feature = "minimal"))]
mod blocked;
pub(crate) mod codes;
#[cfg(not(feature = "minimal"))]
pub(crate) mod dense;
pub(crate) mod elementwise;
#[cfg(not(feature = "minimal"))]
mod few_bits;
mod float;
pub(crate) mod logic;
pub(crate) mod math;
#[cfg(not(feature = "minimal"))]
pub(crate) mod moves;
#[cfg(not(feature = "minimal"))]
pub(crate) mod norm;
#[cfg(not(feature = "minimal"))]
pub(crate) mod number;
pub(crate) mod post;
mod probe;
pub(crate) mod product;
#[cfg(not(feature = "minimal"))]
pub(crate) mod quads;
pub(crate) mod quantize;
#[cfg(not(feature = "minimal"))]
pub(crate) mod reduce;
mod slide;
#[cfg(not(feature = "minimal"))]
pub(crate) mod taps;
#[cfg(feature = "threads")]
mod threaded;
#[cfg(not(feature = "minimal"))]
pub(crate) mod wide;
#[cfg(not(feature = "minimal"))]
pub(crate) mod window;

#[cfg(feature = "threads")]
use alloc::boxed::Box;
use core::{fmt, iter};

use bitc_format::Layout;
use bitc_format::inst::Steps;
use bitc_format::logic::Program;

pub use codes::Codes;
#[cfg(not(feature = "minimal"))]
pub use dense::Product;
pub use elementwise::Tile;
#[cfg(not(feature = "minimal"))]
pub use few_bits::FewBits;
pub use float::FloatKernels;
pub use logic::{LogicInput, LogicOutput, logic_scratch_words};
#[cfg(not(feature = "minimal"))]
pub use norm::Norm;
pub use post::Post;
pub use probe::Probe;
#[cfg(not(feature = "minimal"))]
pub use quads::{PackedWeights, QuadWindows, Quads};
pub use quantize::{QuantizeRule, Quantized, Sharing};
pub use slide::Slide;
#[cfg(not(feature = "minimal"))]
pub use taps::Taps;
#[cfg(not(feature = "minimal"))]
pub use window::Convolution;

use self::product::Sink as _;
use crate::isa::bits::Samples;
use crate::isa::portable::Portable;

/// The product of quantised rows ("tokens") with packed weights.
#[derive(Clone, Copy, Debug)]
pub struct BitProduct<'a> {
    /// How the weights are packed, not [`Layout::Dense`].
    pub layout: Layout,
    /// The packed weights, `n` x `k`.
    pub w: &'a [u8],
    /// The number of outputs.
    pub n: usize,
    /// The number of inputs.
    pub k: usize,
    /// The tokens; what lies past `k` in each is zero.
    pub q: &'a [i8],
    /// From one token to the next: a multiple of 64, at least `k`.
    pub pitch: usize,
    /// The sum of each token.
    pub sums: &'a [i32],
}

/// The kernels of one instruction set.
pub trait Kernels: FloatKernels {
    /// The name of the instruction set, as users choose it.
    fn name(&self) -> &'static str;

    /// How many threads share a call.
    fn threads(&self) -> usize {
        1
    }

    /// Quantises `x`, rows of `columns` values, by `rule`; `sharing` says which values share a scale.
    ///
    /// NaN never counts as the largest magnitude, and its quantised value is 0. The tail of each row of `q` is zeroed.
    ///
    /// # Panics
    /// If the lengths do not fit.
    fn quantize(&self, x: &[f32], columns: usize, rule: &QuantizeRule, sharing: Sharing, out: Quantized<'_>);

    /// `acc[t][n] = sum over k of q[t][k] * w[n][k]`, exact.
    ///
    /// # Panics
    /// If the lengths do not fit.
    fn bit_product(&self, product: BitProduct<'_>, acc: &mut [i32]);

    /// [`Kernels::bit_product`] and [`Kernels::post`] in one pass: `y[t][n]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    fn bit_linear(&self, product: BitProduct<'_>, post: &Post<'_>, y: &mut [f32]);

    /// `y[t][n] = activation((f32(acc[t][n]) * row_scale[t]) * scale[n] + bias[n])`, rounded after each step.
    ///
    /// # Panics
    /// If the lengths do not fit.
    fn post(&self, acc: &[i32], n: usize, post: &Post<'_>, y: &mut [f32]);

    /// [`Kernels::bit_linear`] and [`Kernels::codes`] in one pass, without a float in memory. The tail of each row of
    /// integers is zeroed.
    ///
    /// # Panics
    /// If the lengths do not fit.
    fn bit_linear_codes(&self, product: BitProduct<'_>, post: &Post<'_>, steps: &Steps, out: Codes<'_>);

    /// Makes integers of floats as `steps` says.
    ///
    /// # Panics
    /// If the lengths differ.
    fn codes(&self, x: &[f32], steps: &Steps, q: &mut [i8]);

    /// The sums of a convolution, output by output, exact; `padded` and `places` are memory to work in.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[cfg(not(feature = "minimal"))]
    fn taps(&self, taps: Taps<'_>, padded: &mut [i8], places: &mut [i32], sums: &mut [i32]);

    /// Whether convolutions take less time by [`Kernels::quads`] than as products with rows of windows.
    #[cfg(not(feature = "minimal"))]
    fn has_quads(&self) -> bool;

    /// Lays four channels of `x` side by side, as [`Kernels::quads`] wants them. `plane` is memory to work in.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[cfg(not(feature = "minimal"))]
    fn quads_of_planes(&self, windows: QuadWindows, x: &[i8], plane: &mut [u8], quads: &mut [u8]);

    /// Unpacks weights as [`Kernels::quads`] wants them, and says what the sums of each output begin with.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[cfg(not(feature = "minimal"))]
    fn quads_of_weights(&self, weights: PackedWeights<'_>, w: &mut [i8], starts: &mut [i32]);

    /// The sums of a convolution, output by output, exact; `places` is memory to work in.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[cfg(not(feature = "minimal"))]
    fn quads(&self, quads: Quads<'_>, places: &mut [i32], sums: &mut [i32]);

    /// For benchmarks: does what `probe` says and returns the number of products or bytes.
    fn probe(&self, probe: Probe<'_>) -> u64;

    /// Runs a logic program over rows. `scratch` has [`logic_scratch_words`] for each thread, best aligned to 64 bytes;
    /// what is in it does not matter.
    ///
    /// # Panics
    /// If the lengths do not fit.
    fn logic(
        &self,
        program: &Program,
        input: LogicInput<'_>,
        output: LogicOutput<'_>,
        n_rows: usize,
        scratch: &mut [u64],
    );
}

impl fmt::Debug for dyn Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernels({})", self.name())
    }
}

impl<I: Samples> Kernels for I {
    fn name(&self) -> &'static str {
        crate::isa::Isa::name(*self)
    }

    fn quantize(&self, x: &[f32], columns: usize, rule: &QuantizeRule, sharing: Sharing, out: Quantized<'_>) {
        self.vectorize(
            #[inline(always)]
            || quantize::quantize(*self, x, columns, rule, sharing, out),
        );
    }

    fn bit_product(&self, product: BitProduct<'_>, acc: &mut [i32]) {
        product::run(self, product, &mut product::Sums::new(product, acc));
    }

    fn bit_linear(&self, product: BitProduct<'_>, post: &Post<'_>, y: &mut [f32]) {
        let mut values = product::Values::new(*self, product.sums.len(), product.n, post, y);
        product::run(self, product, &mut values);
    }

    fn post(&self, acc: &[i32], n: usize, post: &Post<'_>, y: &mut [f32]) {
        assert!(acc.len() == y.len() && (n == 0) <= acc.is_empty(), "as many results as sums");
        if acc.is_empty() {
            return;
        }
        let mut values = product::Values::new(*self, acc.len() / n, n, post, y);
        acc.chunks(n).enumerate().for_each(|(token, sums)| values.put(token, 0, sums));
    }

    fn bit_linear_codes(&self, product: BitProduct<'_>, post: &Post<'_>, steps: &Steps, out: Codes<'_>) {
        product::integers(self, or_portable(*self), product, post, steps, out);
    }

    fn codes(&self, x: &[f32], steps: &Steps, q: &mut [i8]) {
        codes::all(or_portable(*self), x, steps, q);
    }

    #[cfg(not(feature = "minimal"))]
    fn taps(&self, taps: Taps<'_>, padded: &mut [i8], places: &mut [i32], sums: &mut [i32]) {
        self.vectorize(
            #[inline(always)]
            || taps::taps(taps, padded, places, sums),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn has_quads(&self) -> bool {
        I::QUADS
    }

    #[cfg(not(feature = "minimal"))]
    fn quads_of_planes(&self, windows: QuadWindows, x: &[i8], plane: &mut [u8], quads: &mut [u8]) {
        self.vectorize(
            #[inline(always)]
            || quads::of_planes(windows, x, plane, quads),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn quads_of_weights(&self, weights: PackedWeights<'_>, w: &mut [i8], starts: &mut [i32]) {
        self.vectorize(
            #[inline(always)]
            || quads::of_weights(weights, w, starts),
        );
    }

    #[cfg(not(feature = "minimal"))]
    fn quads(&self, quads: Quads<'_>, places: &mut [i32], sums: &mut [i32]) {
        quads::quads(*self, quads, places, sums);
    }

    fn probe(&self, probe: Probe<'_>) -> u64 {
        match probe {
            Probe::Multiply(rounds) => {
                let (products, value) = self.multiply(rounds);
                core::hint::black_box(value);
                products * u64::from(rounds)
            }
            Probe::Read(bytes) => {
                core::hint::black_box(self.vectorize(
                    #[inline(always)]
                    || probe::read(bytes),
                ));
                bytes.len() as u64
            }
        }
    }

    fn logic(
        &self,
        program: &Program,
        input: LogicInput<'_>,
        output: LogicOutput<'_>,
        n_rows: usize,
        scratch: &mut [u64],
    ) {
        let isa = *self;
        isa.vectorize(
            #[inline(always)]
            || logic::logic(isa, program, input, output, n_rows, scratch),
        );
    }
}

/// Where little code counts for more than speed, what is not a product is compiled once for all instruction sets.
#[cfg(feature = "minimal")]
fn or_portable<I: Samples>(_: I) -> Portable {
    Portable
}

/// Everything is compiled for every instruction set.
#[cfg(not(feature = "minimal"))]
fn or_portable<I: Samples>(isa: I) -> I {
    isa
}

/// The kernels that this machine can run, fastest first and `portable` last.
pub fn available() -> impl Iterator<Item = &'static dyn Kernels> {
    #[cfg(target_arch = "x86_64")]
    let vectors = [
        crate::isa::avx512::Avx512::detect().map(|isa| isa as &dyn Kernels),
        crate::isa::avx2::Avx2::detect().map(|isa| isa as &dyn Kernels),
        crate::isa::avx2::Avx2::detect_plain().map(|isa| isa as &dyn Kernels),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = [];
    vectors.into_iter().flatten().chain(iter::once(&Portable as &dyn Kernels))
}

/// The fastest kernels of this machine.
pub fn best() -> &'static dyn Kernels {
    available().next().unwrap_or(&Portable)
}

/// The kernels of that name, if this machine can run them.
pub fn by_name(name: &str) -> Option<&'static dyn Kernels> {
    available().find(|kernels| kernels.name() == name)
}

/// `kernels` on `threads` threads: those that share the work with the caller stay until the process ends. Results do
/// not depend on the number of threads.
///
/// # Errors
/// If the system starts no more threads.
#[cfg(feature = "threads")]
pub fn with_threads(kernels: &'static dyn Kernels, threads: usize) -> std::io::Result<&'static dyn Kernels> {
    if threads < 2 {
        return Ok(kernels);
    }
    let pool = crate::pool::Pool::new(threads)?;
    Ok(Box::leak(Box::new(threaded::Threaded { kernels, pool })))
}
