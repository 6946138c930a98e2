//! Kernels that split one call over threads: tokens where there are several, else the rows of the weights.
//!
//! Every output is computed by one thread in the order of the single thread, so results do not depend on the number of
//! threads.

use core::fmt;
use core::sync::atomic::{AtomicI32, Ordering};

use bitc_format::Layout;
use bitc_format::inst::{Step, Steps};
use bitc_format::logic::Program;

use super::logic::BLOCK_ROWS;
use super::{BitProduct, FloatKernels, Kernels, LogicInput, LogicOutput, Post, Probe, logic_scratch_words};
use super::{Codes, QuantizeRule, Quantized, Sharing, Tile};
#[cfg(not(feature = "minimal"))]
use super::{Convolution, FewBits, Norm, PackedWeights, Product, QuadWindows, Quads, Taps};
use crate::isa::{BLOCK, PANEL, TILE};
use crate::pool::Pool;

/// The most parts of a call.
const PARTS: usize = 64;
/// Products below which a call is not worth waking anybody.
const WORTHWHILE: usize = 1 << 21;

/// Kernels of one instruction set on several threads.
pub(super) struct Threaded {
    pub(super) kernels: &'static dyn Kernels,
    pub(super) pool: Pool,
}

/// A part of a product and where its results go.
struct Part<'a, R> {
    product: BitProduct<'a>,
    /// The tokens and the rows of weights before it.
    tokens: usize,
    rows: usize,
    out: R,
}

impl<R> Part<'_, R> {
    /// What belongs to the part of what is done to the sums.
    fn post<'a>(&self, post: &Post<'a>) -> Post<'a> {
        let (n, tokens) = (self.product.n, self.product.sums.len());
        let row_scale =
            if post.row_scale.len() > 1 { &post.row_scale[self.tokens..][..tokens] } else { post.row_scale };
        let scale = if post.scale.len() > 1 { &post.scale[self.rows..][..n] } else { post.scale };
        let bias = post.bias.map(|bias| &bias[self.rows..][..n]);
        Post { row_scale, scale, bias, ..*post }
    }
}

/// Results that can be handed out in parts.
trait Results: Send + Default {
    /// Whether these are all results of a product.
    fn fit(&self, product: BitProduct<'_>) -> bool;

    /// Those of the first tokens, or of the first outputs where there is one token, and the others.
    fn split(self, tokens: usize, n: usize) -> (Self, Self);
}

impl<T: Send> Results for &mut [T] {
    fn fit(&self, product: BitProduct<'_>) -> bool {
        self.len() == product.sums.len() * product.n
    }

    fn split(self, tokens: usize, n: usize) -> (Self, Self) {
        self.split_at_mut(tokens * n)
    }
}

/// Rows of integers, with room behind each.
impl Results for Codes<'_> {
    fn fit(&self, product: BitProduct<'_>) -> bool {
        let tokens = product.sums.len();
        self.q.len() == tokens * self.pitch && self.sums.as_ref().is_none_or(|sums| sums.len() == tokens)
    }

    fn split(self, tokens: usize, _: usize) -> (Self, Self) {
        let pitch = self.pitch;
        let (q, next_q) = self.q.split_at_mut(tokens * pitch);
        let (sums, next_sums) = self.sums.map(|sums| sums.split_at_mut(tokens)).unzip();
        (Self { q, pitch, sums }, Self { q: next_q, pitch, sums: next_sums })
    }
}

/// Rows for a logic program, where the answers go, how many there are, and scratch.
type Rows<'a> = (LogicInput<'a>, LogicOutput<'a>, usize, &'a mut [u64]);

/// A part of a convolution in quads, memory to work in, and where the sums go.
#[cfg(not(feature = "minimal"))]
type QuadsPart<'a> = (Quads<'a>, &'a mut [i32], &'a mut [i32]);

impl Threaded {
    /// Calls `work` with the parts of a product, on all threads.
    fn split<R: Results>(&self, product: BitProduct<'_>, out: R, work: impl Fn(Part<'_, R>) + Sync) {
        let tokens = product.sums.len();
        let parts = self.pool.threads().min(PARTS);
        let size = tokens.saturating_mul(product.n).saturating_mul(product.k);
        // The rows of trit5 are not next to each other.
        let by_rows = tokens == 1 && product.layout != Layout::Trit5;
        let units = if by_rows { product.n.div_ceil(PANEL) } else { tokens };
        if parts < 2 || units < 2 || size < WORTHWHILE || !out.fit(product) {
            return work(Part { product, tokens: 0, rows: 0, out });
        }
        let panel_len = PANEL / TILE * BLOCK * product.k.div_ceil(product.layout.columns());
        let mut rest = out;
        let mut items: [Option<Part<'_, R>>; PARTS] = core::array::from_fn(|part| {
            let (first, end) = (units * part / parts, units * (part + 1) / parts);
            if part >= parts || first == end {
                return None;
            }
            let (tokens, rows, product) = if by_rows {
                let rows = first * PANEL..(end * PANEL).min(product.n);
                let w = &product.w[first * panel_len..(end * panel_len).min(product.w.len())];
                (0, rows.start, BitProduct { w, n: rows.len(), ..product })
            } else {
                let q = &product.q[first * product.pitch..end * product.pitch];
                (first, 0, BitProduct { q, sums: &product.sums[first..end], ..product })
            };
            let (out, others) = core::mem::take(&mut rest).split(product.sums.len(), product.n);
            rest = others;
            Some(Part { product, tokens, rows, out })
        });
        self.pool.each(&mut items[..parts], |part| {
            if let Some(part) = part.take() {
                work(part);
            }
        });
    }
}

impl FloatKernels for Threaded {
    fn map(&self, registers: &mut [Tile], loaded: usize, steps: &[Step]) {
        self.kernels.map(registers, loaded, steps);
    }

    #[cfg(not(feature = "minimal"))]
    fn matmul(&self, product: Product<'_>, packed: &mut [f32], y: &mut [f32]) {
        self.kernels.matmul(product, packed, y);
    }

    #[cfg(not(feature = "minimal"))]
    fn few_bits(&self, product: FewBits<'_>, packed: &mut [f32], y: &mut [f32]) {
        self.kernels.few_bits(product, packed, y);
    }

    #[cfg(not(feature = "minimal"))]
    fn convolve(&self, convolution: Convolution<'_>, packed: &mut [f32], y: &mut [f32]) {
        self.kernels.convolve(convolution, packed, y);
    }

    #[cfg(not(feature = "minimal"))]
    fn softmax(&self, y: &mut [f32], n: usize, log: bool) {
        self.kernels.softmax(y, n, log);
    }

    #[cfg(not(feature = "minimal"))]
    fn normalize(&self, x: &[f32], norm: Norm<'_>, y: &mut [f32]) {
        self.kernels.normalize(x, norm, y);
    }
}

impl Kernels for Threaded {
    fn name(&self) -> &'static str {
        self.kernels.name()
    }

    fn threads(&self) -> usize {
        self.pool.threads().min(PARTS)
    }

    fn quantize(&self, x: &[f32], columns: usize, rule: &QuantizeRule, sharing: Sharing, out: Quantized<'_>) {
        let Quantized { q, pitch, scale, sums } = out;
        let (parts, rows) = (self.pool.threads().min(PARTS), scale.len());
        let fits =
            x.len() == rows * columns && q.len() == rows * pitch && sums.as_ref().is_none_or(|s| s.len() == rows);
        if parts < 2 || rows < 2 || x.len() < WORTHWHILE / 64 || sharing != Sharing::Rows(1) || !fits {
            return self.kernels.quantize(x, columns, rule, sharing, Quantized { q, pitch, scale, sums });
        }
        let mut rest = (x, q, scale, sums);
        let mut items: [Option<(&[f32], Quantized<'_>)>; PARTS] = core::array::from_fn(|part| {
            if part >= parts {
                return None;
            }
            let len = rows * (part + 1) / parts - rows * part / parts;
            let (x, q, scale, sums) = core::mem::take(&mut rest);
            let (x, next_x) = x.split_at(len * columns);
            let (q, next_q) = q.split_at_mut(len * pitch);
            let (scale, next_scale) = scale.split_at_mut(len);
            let (sums, next_sums) = sums.map(|sums| sums.split_at_mut(len)).unzip();
            rest = (next_x, next_q, next_scale, next_sums);
            Some((x, Quantized { q, pitch, scale, sums }))
        });
        self.pool.each(&mut items[..parts], |item| {
            if let Some((x, out)) = item.take() {
                self.kernels.quantize(x, columns, rule, sharing, out);
            }
        });
    }

    fn bit_product(&self, product: BitProduct<'_>, acc: &mut [i32]) {
        self.split(product, acc, |part| self.kernels.bit_product(part.product, part.out));
    }

    fn bit_linear(&self, product: BitProduct<'_>, post: &Post<'_>, y: &mut [f32]) {
        self.split(product, y, |part| {
            let post = part.post(post);
            self.kernels.bit_linear(part.product, &post, part.out);
        });
    }

    fn bit_linear_codes(&self, product: BitProduct<'_>, post: &Post<'_>, steps: &Steps, out: Codes<'_>) {
        if product.sums.len() != 1 || out.pitch < product.n {
            return self.split(product, out, |part| {
                let post = part.post(post);
                self.kernels.bit_linear_codes(part.product, &post, steps, part.out);
            });
        }
        // One row in parts, of which each has a sum.
        let (q, tail) = out.q.split_at_mut(product.n);
        tail.fill(0);
        let total = AtomicI32::new(0);
        self.split(product, q, |part| {
            let post = part.post(post);
            let (mut sum, pitch) = ([0], part.out.len());
            let out = Codes { q: part.out, pitch, sums: Some(&mut sum) };
            self.kernels.bit_linear_codes(part.product, &post, steps, out);
            total.fetch_add(sum[0], Ordering::Relaxed);
        });
        if let Some([sum]) = out.sums {
            *sum = total.into_inner();
        }
    }

    fn codes(&self, x: &[f32], steps: &Steps, q: &mut [i8]) {
        self.kernels.codes(x, steps, q);
    }

    fn post(&self, acc: &[i32], n: usize, post: &Post<'_>, y: &mut [f32]) {
        self.kernels.post(acc, n, post, y);
    }

    #[cfg(not(feature = "minimal"))]
    fn taps(&self, taps: Taps<'_>, padded: &mut [i8], places: &mut [i32], sums: &mut [i32]) {
        self.kernels.taps(taps, padded, places, sums);
    }

    #[cfg(not(feature = "minimal"))]
    fn has_quads(&self) -> bool {
        self.kernels.has_quads()
    }

    #[cfg(not(feature = "minimal"))]
    fn quads_of_planes(&self, windows: QuadWindows, x: &[i8], plane: &mut [u8], quads: &mut [u8]) {
        self.kernels.quads_of_planes(windows, x, plane, quads);
    }

    #[cfg(not(feature = "minimal"))]
    fn quads_of_weights(&self, weights: PackedWeights<'_>, w: &mut [i8], starts: &mut [i32]) {
        self.kernels.quads_of_weights(weights, w, starts);
    }

    #[cfg(not(feature = "minimal"))]
    fn quads(&self, quads: Quads<'_>, places: &mut [i32], sums: &mut [i32]) {
        let tiles = quads.outputs.div_ceil(TILE);
        let parts = self.pool.threads().min(PARTS).min(tiles);
        let size = quads.pixels().saturating_mul(quads.outputs).saturating_mul(4 * quads.offsets.len());
        // A convolution is many calls, and between them the others may have gone to sleep.
        if parts < 2 || size < 8 * WORTHWHILE || !quads.fit(places, sums) {
            return self.kernels.quads(quads, places, sums);
        }
        let (pixels, n_places) = (quads.pixels(), places.len() / tiles);
        let mut rest = (places, sums);
        let mut items: [Option<QuadsPart<'_>>; PARTS] = core::array::from_fn(|part| {
            if part >= parts {
                return None;
            }
            let part = quads.tiles(tiles * part / parts..tiles * (part + 1) / parts);
            let (places, sums) = core::mem::take(&mut rest);
            let (places, next_places) = places.split_at_mut(part.outputs.div_ceil(TILE) * n_places);
            let (sums, next_sums) = sums.split_at_mut(part.outputs * pixels);
            rest = (next_places, next_sums);
            Some((part, places, sums))
        });
        self.pool.each(&mut items[..parts], |item| {
            if let Some((quads, places, sums)) = item.take() {
                self.kernels.quads(quads, places, sums);
            }
        });
    }

    fn probe(&self, probe: Probe<'_>) -> u64 {
        self.kernels.probe(probe)
    }

    fn logic(
        &self,
        program: &Program,
        input: LogicInput<'_>,
        output: LogicOutput<'_>,
        n_rows: usize,
        scratch: &mut [u64],
    ) {
        let blocks = n_rows.div_ceil(BLOCK_ROWS);
        let words = scratch.len() / self.threads() / 8 * 8;
        // As many parts as there are whole blocks, each with scratch of its own.
        let parts = self.threads().min(blocks);
        if parts < 2 || logic_scratch_words(program).is_none_or(|needed| words < needed) {
            return self.kernels.logic(program, input, output, n_rows, scratch);
        }
        let mut rest = Some((output, scratch));
        let mut items: [Option<Rows<'_>>; PARTS] = core::array::from_fn(|part| {
            let (first, end) = (blocks * part / parts * BLOCK_ROWS, blocks * (part + 1) / parts * BLOCK_ROWS);
            let (output, scratch) = rest.take().filter(|_| part < parts)?;
            let (scratch, next_scratch) = scratch.split_at_mut(words);
            let n = end.min(n_rows) - first;
            let (output, next) = output.split_at_row(program, n);
            rest = Some((next, next_scratch));
            Some((input.skip_rows(program, first), output, n, scratch))
        });
        self.pool.each(&mut items[..parts], |item| {
            if let Some((input, output, n, scratch)) = item.take() {
                self.kernels.logic(program, input, output, n, scratch);
            }
        });
    }
}

impl fmt::Debug for Threaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threaded({}, {})", self.kernels.name(), self.pool.threads())
    }
}
