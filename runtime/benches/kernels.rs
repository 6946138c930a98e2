//! Speed of the kernels, each beside the limit of the machine that the same run measures.
//!
//! `cargo bench -p bitc-runtime -- [--isa NAME] [--only TEXT] [--seconds S]`
//!
//! Times are lower deciles of short samples in which the thread was not interrupted, since neighbours only ever add;
//! where a single run is too long to find such, of processor time. A case is sampled in turn with the limits it is held
//! against, so that all see the same frequency and the same neighbours. Percentages are of the products per second that
//! the multiply instruction of the instruction set allows (`mul`), or of the bytes per second of reading the same
//! weights (`read`).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bitc_format::Layout;
use bitc_format::inst::{Activation, Floor, MapOp, QuantizeKind, Step, Steps};
use bitc_runtime::kernels::{self, BitProduct, Codes, Kernels, Post, Probe, QuantizeRule, Quantized, Sharing, Tile};

const SHAPES: [(usize, usize); 7] =
    [(512, 64), (784, 512), (2048, 2048), (2560, 6912), (6912, 2560), (4096, 4096), (4096, 14_336)];
const TOKENS: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 13, 16, 64, 100, 512];

fn main() {
    let options = Options::parse();
    for isa in kernels::available() {
        if options.isa.as_ref().is_some_and(|name| name != isa.name()) {
            continue;
        }
        let bench = Bench { isa, options: &options };
        bench.limits();
        bench.quantize();
        bench.products();
        bench.requantized();
        #[cfg(not(feature = "minimal"))]
        bench.few_bits();
        #[cfg(not(feature = "minimal"))]
        bench.quads();
        bench.streamed();
    }
}

struct Options {
    isa: Option<String>,
    only: String,
    seconds: f64,
}

impl Options {
    /// Cargo adds `--bench`, which says nothing here.
    fn parse() -> Self {
        let mut options = Options { isa: None, only: String::new(), seconds: 0.1 };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_default();
            match arg.as_str() {
                "--isa" => options.isa = Some(value()),
                "--only" => options.only = value(),
                "--seconds" => options.seconds = value().parse().unwrap_or(options.seconds),
                _ => {}
            }
        }
        options
    }
}

/// Seconds that this thread has run; where the system does not say, seconds on the wall.
fn processor_seconds() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // The system brings its count up to date when a thread stops running.
    std::thread::sleep(Duration::from_nanos(1));
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = counts.and_then(|counts| counts.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed().as_secs_f64(), |n| n * 1e-9)
}

struct Bench<'a> {
    isa: &'static dyn Kernels,
    options: &'a Options,
}

impl Bench<'_> {
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.options.only)
    }

    /// Seconds of each closure, sampled in turn.
    fn time<const N: usize>(&self, mut cases: [&mut dyn FnMut(); N]) -> [f64; N] {
        const SAMPLE: f64 = 3e-4;
        let repeats = cases.each_mut().map(|case| {
            case();
            let start = Instant::now();
            let mut n = 0;
            while n == 0 || start.elapsed().as_secs_f64() < SAMPLE {
                case();
                n += 1;
            }
            n
        });
        let mut samples = [const { Vec::new() }; N];
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < self.options.seconds || samples[0].len() < 7 {
            for ((case, n), samples) in cases.iter_mut().zip(repeats).zip(&mut samples) {
                let (start, ran) = (processor_seconds(), Instant::now());
                (0..n).for_each(|_| case());
                let wall = ran.elapsed().as_secs_f64();
                let processor = processor_seconds() - start;
                samples.push((processor > 0.97 * wall, wall / f64::from(n), processor / f64::from(n)));
            }
        }
        samples.map(|samples| {
            let calm = samples.iter().filter(|sample| sample.0).map(|sample| sample.1);
            let mut seconds: Vec<f64> = calm.collect();
            if seconds.len() < 5 {
                seconds = samples.iter().map(|sample| sample.2).collect();
            }
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 10]
        })
    }

    fn limits(&self) {
        if !self.wants("limit") {
            return;
        }
        let isa = self.isa;
        let mut products = 0;
        let [seconds] = self.time([&mut || products = isa.probe(Probe::Multiply(1000))]);
        println!("{:>9}/limit multiply {:>7.1} GOPS", isa.name(), 2e-9 * products as f64 / seconds);
        for kib in [16, 256, 1024, 4096, 16_384, 262_144] {
            let bytes = vec![1u8; kib << 10];
            let [seconds] = self.time([&mut || _ = black_box(isa.probe(Probe::Read(&bytes)))]);
            println!("{:>9}/limit read {kib:>7} KiB {:>7.1} GB/s", isa.name(), 1e-9 * bytes.len() as f64 / seconds);
        }
    }

    fn quantize(&self) {
        if !self.wants("quantize") {
            return;
        }
        let rule =
            QuantizeRule { kind: QuantizeKind::Divide, floor: Floor::None, eps: 0.0, levels: 127.0, lo: -128, hi: 127 };
        for (rows, columns) in [(1, 784usize), (1, 2048), (1, 6912), (64, 2048)] {
            let pitch = columns.next_multiple_of(64);
            let x: Vec<f32> = (0..rows * columns).map(|i| ((i * 37) % 255) as f32 - 127.0).collect();
            let (mut q, mut scale, mut sums) = (vec![0; rows * pitch], vec![0.0; rows], vec![0; rows]);
            let [seconds] = self.time([&mut || {
                let out = Quantized { q: &mut q, pitch, scale: &mut scale, sums: Some(&mut sums) };
                self.isa.quantize(black_box(&x), columns, &rule, Sharing::Rows(1), out);
            }]);
            let gbs = 4e-9 * x.len() as f64 / seconds;
            println!(
                "{:>9}/quantize {rows:>3} x {columns:<5} {:>9.3} us {gbs:>6.1} GB/s",
                self.isa.name(),
                seconds * 1e6
            );
        }
    }

    fn products(&self) {
        for layout in [Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8] {
            for (k, n) in SHAPES {
                let name = |tokens| format!("bit_linear {} {k}x{n} tokens {tokens} .", layout.name());
                let mut weights = None;
                for (tokens, name) in TOKENS.map(|tokens| (tokens, name(tokens))) {
                    if self.wants(&name) {
                        let weights = weights.get_or_insert_with(|| Weights::new(layout, k, n, 1));
                        self.product(&name, weights, tokens);
                    }
                }
            }
        }
    }

    /// Float activations with weights of few bits.
    #[cfg(not(feature = "minimal"))]
    fn few_bits(&self) {
        for layout in [Layout::Trit2, Layout::Bit1, Layout::Int8] {
            for (k, n) in [(784, 512), (2048, 2048)] {
                for tokens in [1, 8, 64] {
                    let name = format!("few_bits {} {k}x{n} tokens {tokens} .", layout.name());
                    if !self.wants(&name) {
                        continue;
                    }
                    let packed = Weights::new(layout, k, n, 1);
                    let (x, scale) = (vec![0.5f32; tokens * k], vec![0.2f32; n]);
                    let product = kernels::FewBits {
                        x: &x,
                        layout,
                        w: packed.bytes(),
                        n,
                        k,
                        scale: &scale,
                        scale_columns: 1,
                        group: 1,
                        bias: Some(&scale),
                        activation: Activation::None,
                    };
                    let (mut y, mut memory) = (vec![0.0; tokens * n], vec![0.0; 512 * 32]);
                    let [seconds] = self.time([&mut || self.isa.few_bits(black_box(product), &mut memory, &mut y)]);
                    let gops = 2e-9 * (n * k * tokens) as f64 / seconds;
                    println!("{:>9}/{name:<44} {:>10.2} us {gops:>7.1} GOPS", self.isa.name(), seconds * 1e6);
                }
            }
        }
    }

    /// Convolutions with windows of 3 x 3 or of one pixel: the planes and the weights laid out, and the sums.
    #[cfg(not(feature = "minimal"))]
    fn quads(&self) {
        use kernels::{PackedWeights, QuadWindows, Quads, Slide};

        for (channels, n, kernel, size) in [(16, 16, 3, 32), (64, 64, 3, 56), (128, 64, 3, 32), (128, 64, 1, 32)] {
            let name = format!("quads trit2 {channels}x{n} {kernel}x{kernel} on {size}x{size} .");
            if !self.wants(&name) {
                continue;
            }
            let (pad, k) = (kernel / 2, kernel * kernel * channels);
            let slide = Slide { kernel, stride: 1, pad, pad_end: pad, dilation: 1, input: size, output: size };
            let windows = QuadWindows { channels, slides: [slide; 2] };
            let weights = Weights::new(Layout::Trit2, k, n, 1);
            let q: Vec<i8> = (0..channels * size * size).map(|i| (i * 31) as u8 as i8).collect();
            let (mut plane, mut x) = (vec![0; windows.plane_len()], vec![0; windows.packed_len()]);
            let (mut w, mut starts) = (vec![0; n * k], vec![0; n]);
            let (mut places, mut sums) = (vec![0; n * windows.places(size)], vec![0; n * size * size]);
            let mut offsets = vec![0; windows.steps()];
            windows.offsets(&mut offsets);
            let mut peak = 0;
            let [seconds, peak_seconds] = self.time([
                &mut || {
                    self.isa.quads_of_planes(windows, black_box(&q), &mut plane, &mut x);
                    let packed = PackedWeights { layout: Layout::Trit2, w: weights.bytes(), n, k };
                    self.isa.quads_of_weights(black_box(packed), &mut w, &mut starts);
                    let (x, offsets, w, starts) = (&x[..], &offsets[..], &w[..], &starts[..]);
                    let rows = [0, size];
                    let quads = Quads { windows, x, offsets, w, starts, ternary: true, outputs: n, rows };
                    self.isa.quads(quads, &mut places, &mut sums);
                },
                &mut || peak = self.isa.probe(Probe::Multiply(2000)),
            ]);
            let gops = 2e-9 * (n * k * size * size) as f64 / seconds;
            let share = 100.0 * gops / (2e-9 * peak as f64 / peak_seconds);
            println!(
                "{:>9}/{name:<44} {:>10.2} us {gops:>7.1} GOPS  {share:>3.0}% mul",
                self.isa.name(),
                seconds * 1e6
            );
        }
    }

    /// A layer whose result is divided by a step and rounded: at once, and by an instruction for each with floats in memory.
    fn requantized(&self) {
        let rule = QuantizeRule {
            kind: QuantizeKind::Integer,
            floor: Floor::None,
            eps: 0.0,
            levels: 127.0,
            lo: -128,
            hi: 127,
        };
        let steps = Steps { step: 0.37, divide: true, offset: 0, lo: -128, hi: 127 };
        for (k, n) in [(128, 1024), (512, 512), (2048, 2048)] {
            for tokens in [1, 8, 64, 512] {
                let name = format!("requantized trit2 {k}x{n} tokens {tokens} .");
                if !self.wants(&name) {
                    continue;
                }
                let weights = Weights::new(Layout::Trit2, k, n, 1);
                let (pitch, out) = (k.next_multiple_of(64), n.next_multiple_of(64));
                let q: Vec<i8> = (0..tokens * pitch).map(|i| (i * 31) as u8 as i8).collect();
                let (sums, row_scale, scale) = (vec![1; tokens], vec![0.1; tokens], vec![0.2; n]);
                let post =
                    Post { row_scale: &row_scale, scale: &scale, bias: Some(&scale), activation: Activation::Relu };
                let layout = Layout::Trit2;
                let product = BitProduct { layout, w: weights.bytes(), n, k, q: &q, pitch, sums: &sums };
                let (mut y, mut codes, mut totals) = (vec![0.0; tokens * n], vec![0; tokens * out], vec![0; tokens]);
                let (mut codes_again, mut totals_again) = (codes.clone(), totals.clone());
                let mut registers: [Tile; 3] = [[steps.step; 256]; 3];
                let [once, twice] = self.time([
                    &mut || {
                        let out = Codes { q: &mut codes, pitch: out, sums: Some(&mut totals) };
                        self.isa.bit_linear_codes(black_box(product), &post, &steps, out);
                    },
                    &mut || {
                        self.isa.bit_linear(black_box(product), &post, &mut y);
                        for y in y.chunks_mut(registers[0].len()) {
                            registers[0][..y.len()].copy_from_slice(y);
                            self.isa.map(&mut registers, 2, &[Step { op: MapOp::Div, args: [0, 1, 0] }]);
                            y.copy_from_slice(&registers[2][..y.len()]);
                        }
                        let (q, sums) = (&mut codes_again[..], Some(&mut totals_again[..]));
                        let out = Quantized { q, pitch: out, scale: &mut [1.0], sums };
                        self.isa.quantize(&y, n, &rule, Sharing::Rows(tokens), out);
                    },
                ]);
                let (isa, ratio) = (self.isa.name(), twice / once);
                println!("{isa:>9}/{name:<44} {:>10.2} us, {:>10.2} us apart: {ratio:.2}", once * 1e6, twice * 1e6);
            }
        }
    }

    /// One token, with as many copies of the weights in turn as fill more than the caches.
    fn streamed(&self) {
        let shapes = [(4096, 4096), (4096, 14_336)];
        let cases = [Layout::Trit2, Layout::Trit5].into_iter().flat_map(|layout| shapes.map(|shape| (layout, shape)));
        for (layout, (k, n)) in cases {
            let name = format!("streamed {} {k}x{n} .", layout.name());
            if self.wants(&name) {
                self.product(&name, &Weights::new(layout, k, n, 160_000_000), 1);
            }
        }
    }

    fn product(&self, name: &str, weights: &Weights, tokens: usize) {
        let &Weights { layout, k, n, len, .. } = weights;
        let bytes = weights.bytes();
        let pitch = k.next_multiple_of(64);
        let q: Vec<i8> = (0..tokens * pitch).map(|i| (i * 31) as u8 as i8).collect();
        let sums = vec![1; tokens];
        let (row_scale, scale) = (vec![0.1; tokens], vec![0.2; n]);
        let post = Post { row_scale: &row_scale, scale: &scale, bias: Some(&scale), activation: Activation::Relu };
        let mut y = vec![0.0; tokens * n];
        let mut turn = 0;
        let mut peak = 0;
        let [seconds, peak_seconds, read_seconds] = self.time([
            &mut || {
                turn = (turn + len) % bytes.len();
                let w = &bytes[turn..][..len];
                let product = BitProduct { layout, w, n, k, q: &q, pitch, sums: &sums };
                self.isa.bit_linear(black_box(product), &post, &mut y);
            },
            &mut || peak = self.isa.probe(Probe::Multiply(2000)),
            &mut || _ = black_box(self.isa.probe(Probe::Read(bytes))),
        ]);
        let products = (n * k * tokens) as f64;
        let (gops, peak) = (2e-9 * products / seconds, 2e-9 * peak as f64 / peak_seconds);
        let (gbs, read) = (1e-9 * len as f64 / seconds, 1e-9 * bytes.len() as f64 / read_seconds);
        println!(
            "{:>9}/{name:<44} {:>10.2} us {gops:>7.1} GOPS {gbs:>6.1} GB/s  {:>3.0}% mul {:>3.0}% read",
            self.isa.name(),
            seconds * 1e6,
            100.0 * gops / peak,
            100.0 * gbs / read,
        );
    }
}

/// Packed weights, perhaps in several copies.
struct Weights {
    layout: Layout,
    k: usize,
    n: usize,
    /// The length of one copy.
    len: usize,
    padded: Vec<u8>,
    start: usize,
    end: usize,
}

/// Artifacts align constants so.
const ALIGN: usize = 64;

impl Weights {
    /// As many copies as fill `at_least` bytes.
    fn new(layout: Layout, k: usize, n: usize, at_least: usize) -> Self {
        let ternary = layout != Layout::Bit1;
        let weights: Vec<i8> = (0..n * k).map(|i| if ternary { (i * i % 3) as i8 - 1 } else { 1 }).collect();
        let packed = layout.pack(n, k, &weights).unwrap_or_default();
        let copies = at_least / packed.len() + 1;
        let mut padded = vec![0; packed.len() * copies + ALIGN];
        let start = padded.as_ptr().align_offset(ALIGN).min(ALIGN);
        padded[start..].chunks_exact_mut(packed.len()).for_each(|copy| copy.copy_from_slice(&packed));
        Self { layout, k, n, len: packed.len(), start, end: start + packed.len() * copies, padded }
    }

    fn bytes(&self) -> &[u8] {
        &self.padded[self.start..self.end]
    }
}
