//! Convolutions in quads on every instruction set, against plain loops over windows: equal sums.
#![cfg(not(feature = "minimal"))]

use bitc_format::Layout;
use bitc_runtime::kernels::{self, Kernels, PackedWeights, QuadWindows, Quads, Slide};

const SEED: u64 = 0x5eed_0001;
const LAYOUTS: [Layout; 3] = [Layout::Trit2, Layout::Bit1, Layout::Int8];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    /// A number from `low` to `high`.
    fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.next() as usize % (high - low + 1)
    }

    fn weight(&mut self, layout: Layout) -> i8 {
        match layout {
            Layout::Int8 => (self.next() >> 8) as i8,
            Layout::Bit1 => (self.next() >> 8 & 1) as i8 * 2 - 1,
            _ => (self.next() >> 8) as i8 % 2,
        }
    }
}

/// A window along one axis of an input, or none if it does not fit.
fn slide(kernel: usize, stride: usize, [pad, pad_end]: [usize; 2], dilation: usize, input: usize) -> Option<Slide> {
    let last = (input + pad + pad_end).checked_sub((kernel - 1) * dilation + 1)?;
    Some(Slide { kernel, stride, pad, pad_end, dilation, input, output: last / stride + 1 })
}

/// The planes of a group and the weights that meet them, tap by tap.
struct Case {
    windows: QuadWindows,
    layout: Layout,
    n: usize,
    x: Vec<i8>,
    w: Vec<i8>,
}

impl Case {
    fn k(&self) -> usize {
        let [down, right] = self.windows.slides;
        down.kernel * right.kernel * self.windows.channels
    }

    /// The sums of some rows of windows, output by output.
    fn expected(&self, [first, rows]: [usize; 2]) -> Vec<i32> {
        let QuadWindows { channels, slides: [down, right] } = self.windows;
        let mut sums = Vec::new();
        for o in 0..self.n {
            for oy in first..first + rows {
                for ox in 0..right.output {
                    let mut sum = 0i32;
                    for tap in 0..down.kernel * right.kernel {
                        let y = oy * down.stride + tap / right.kernel * down.dilation;
                        let x = ox * right.stride + tap % right.kernel * right.dilation;
                        let (y, x) = (y.wrapping_sub(down.pad), x.wrapping_sub(right.pad));
                        if y >= down.input || x >= right.input {
                            continue;
                        }
                        for c in 0..channels {
                            let q = self.x[(c * down.input + y) * right.input + x];
                            let w = self.w[o * self.k() + tap * channels + c];
                            sum = sum.wrapping_add(i32::from(q) * i32::from(w));
                        }
                    }
                    sums.push(sum);
                }
            }
        }
        sums
    }

    fn found(&self, kernels: &dyn Kernels, rows: [usize; 2]) -> Vec<i32> {
        let (windows, n, k) = (self.windows, self.n, self.k());
        // What is in memory before does not matter.
        let (mut plane, mut x) = (vec![77; windows.plane_len()], vec![77; windows.packed_len()]);
        kernels.quads_of_planes(windows, &self.x, &mut plane, &mut x);
        let packed = self.layout.pack(n, k, &self.w).unwrap();
        let padded = n.next_multiple_of(16);
        let (mut w, mut starts) = (vec![77; padded * k], vec![77; padded]);
        kernels.quads_of_weights(PackedWeights { layout: self.layout, w: &packed, n, k }, &mut w, &mut starts);
        let mut offsets = vec![77; windows.steps()];
        windows.offsets(&mut offsets);
        let ternary = self.layout != Layout::Int8;
        let (offsets, w, starts) = (&offsets[..], &w[..], &starts[..]);
        let quads = Quads { windows, x: &x, offsets, w, starts, ternary, outputs: n, rows };
        let mut places = vec![77; padded * windows.places(rows[1])];
        let mut sums = vec![77; n * rows[1] * windows.slides[1].output];
        kernels.quads(quads, &mut places, &mut sums);
        sums
    }

    fn check(&self, rows: [usize; 2]) {
        let expected = self.expected(rows);
        for kernels in kernels::available() {
            let found = self.found(kernels, rows);
            let Self { windows, layout, n, .. } = self;
            assert!(found == expected, "{kernels:?}: {layout:?} {windows:?} {n} outputs, rows {rows:?}");
        }
    }
}

fn random_case(random: &mut Random, layout: Layout, sizes: [usize; 2], n: usize) -> Option<Case> {
    let mut axis = |input| {
        let pads = [random.within(0, 3), random.within(0, 3)];
        slide(random.within(1, 4), random.within(1, 4), pads, random.within(1, 3), input)
    };
    let slides = [axis(sizes[0])?, axis(sizes[1])?];
    let windows = QuadWindows { channels: 4 * random.within(1, 6), slides };
    let x = (0..windows.channels * sizes[0] * sizes[1]).map(|_| (random.next() >> 8) as i8).collect();
    let mut case = Case { windows, layout, n, x, w: Vec::new() };
    case.w = (0..n * case.k()).map(|_| random.weight(layout)).collect();
    Some(case)
}

#[test]
fn windows_that_move_by_any_steps_meet_what_they_should() {
    let mut random = Random(SEED);
    let mut cases = 0;
    for round in 0..150 {
        let sizes = [random.within(1, 12), random.within(1, 20)];
        let n = random.within(1, 64);
        let Some(case) = random_case(&mut random, LAYOUTS[round % 3], sizes, n) else { continue };
        let height = case.windows.slides[0].output;
        let first = random.within(0, height - 1);
        case.check([first, random.within(1, height - first)]);
        cases += 1;
    }
    assert!(cases > 100, "{cases} windows fit");
}

#[test]
fn sums_are_exact_for_every_number_of_places_and_outputs() {
    let mut random = Random(SEED);
    let pixel = |input| Slide { kernel: 1, stride: 1, pad: 0, pad_end: 0, dilation: 1, input, output: input };
    for layout in LAYOUTS {
        for (width, n) in (1..70).map(|width| (width, 3)).chain((1..=64).map(|n| (49, n))) {
            let windows = QuadWindows { channels: 8, slides: [pixel(1), pixel(width)] };
            let x = (0..8 * width).map(|_| (random.next() >> 8) as i8).collect();
            let w = (0..n * 8).map(|_| random.weight(layout)).collect();
            Case { windows, layout, n, x, w }.check([0, 1]);
        }
    }
}

#[test]
fn long_windows_of_extreme_values_stay_exact() {
    let pixel = |input| Slide { kernel: 1, stride: 1, pad: 0, pad_end: 0, dilation: 1, input, output: input };
    for layout in LAYOUTS {
        let (low, high) = if layout == Layout::Int8 { (-128, 127) } else { (-1, 1) };
        // Sums of 64 and of 256 steps, and what is left of them.
        for channels in [252, 256, 260, 1020, 1024, 1028, 65_536, 131_068] {
            let windows = QuadWindows { channels, slides: [pixel(1), pixel(2)] };
            for (q, w) in [(127, high), (-128, high), (127, low), (-128, low)] {
                let x = vec![q; 2 * channels];
                Case { windows, layout, n: 2, x, w: vec![w; 2 * channels] }.check([0, 1]);
            }
        }
    }
}

#[cfg(feature = "threads")]
#[test]
fn sums_do_not_depend_on_the_number_of_threads() {
    let mut random = Random(SEED);
    for n in [64, 50, 17, 16, 1] {
        let slides = [40, 60].map(|size| slide(3, 1, [1, 1], 1, size).unwrap());
        let windows = QuadWindows { channels: 64, slides };
        let x = (0..64 * 2400).map(|_| (random.next() >> 8) as i8).collect();
        let w = (0..n * 64 * 9).map(|_| random.weight(Layout::Trit2)).collect();
        let case = Case { windows, layout: Layout::Trit2, n, x, w };
        let expected = case.found(kernels::best(), [0, 40]);
        for threads in [2, 3, 7] {
            let threaded = kernels::with_threads(kernels::best(), threads).unwrap();
            assert!(threaded.has_quads() == kernels::best().has_quads());
            assert!(case.found(threaded, [0, 40]) == expected, "{threads} threads, {n} outputs");
        }
    }
}
