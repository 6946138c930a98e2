//! Every instruction set of this machine against plain loops over unpacked weights: equal bits, whatever the sizes.

use bitc_format::Layout;
use bitc_format::inst::{Activation, Floor, QuantizeKind, Steps};
use bitc_runtime::kernels::{self, BitProduct, Codes, Kernels, Post, QuantizeRule, Quantized, Sharing};

const SEED: u64 = 0x5eed_0001;

/// A small generator of uniform numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 31) as u32
    }

    fn byte(&mut self) -> i8 {
        self.below(256) as u8 as i8
    }

    /// A float of any magnitude up to 2^`exponent`, sometimes a special one.
    fn float(&mut self, exponent: i32) -> f32 {
        let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-40, f32::MAX, 0.5, -2.5];
        match self.below(40) {
            0 => special[self.below(special.len() as u32) as usize],
            _ => {
                let mantissa = self.next() as f32 / (1u32 << 30) as f32 - 1.0;
                mantissa * 2f32.powi(exponent - self.below(8) as i32)
            }
        }
    }

    fn weights(&mut self, layout: Layout, len: usize) -> Vec<i8> {
        let mut weight = || match layout {
            Layout::Int8 => self.byte(),
            Layout::Bit1 => self.below(2) as i8 * 2 - 1,
            _ => self.below(3) as i8 - 1,
        };
        (0..len).map(|_| weight()).collect()
    }
}

/// Tokens, laid out as kernels want them.
struct Tokens {
    k: usize,
    pitch: usize,
    q: Vec<i8>,
    sums: Vec<i32>,
}

impl Tokens {
    fn new(tokens: usize, k: usize, mut value: impl FnMut() -> i8) -> Self {
        let pitch = k.next_multiple_of(64);
        let mut q = vec![0; tokens * pitch];
        for i in 0..tokens * k {
            q[i / k * pitch + i % k] = value();
        }
        let sums = (0..tokens).map(|t| q[t * pitch..][..pitch].iter().map(|&q| i32::from(q)).sum()).collect();
        Self { k, pitch, q, sums }
    }

    fn product<'a>(&'a self, layout: Layout, n: usize, w: &'a [u8]) -> BitProduct<'a> {
        BitProduct { layout, w, n, k: self.k, q: &self.q, pitch: self.pitch, sums: &self.sums }
    }

    fn expected(&self, n: usize, weights: &[i8]) -> Vec<i32> {
        let mut acc = Vec::new();
        for t in 0..self.sums.len() {
            for n in 0..n {
                let row = &weights[n * self.k..][..self.k];
                let q = &self.q[t * self.pitch..][..self.k];
                acc.push(q.iter().zip(row).map(|(&q, &w)| i32::from(q) * i32::from(w)).sum());
            }
        }
        acc
    }
}

const LAYOUTS: [Layout; 4] = [Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8];

fn check_product(layout: Layout, weights: &[i8], n: usize, tokens: &Tokens) {
    let w = layout.pack(n, tokens.k, weights).unwrap();
    let product = tokens.product(layout, n, &w);
    let expected = tokens.expected(n, weights);
    for isa in kernels::available() {
        let mut acc = vec![i32::MIN; expected.len()];
        isa.bit_product(product, &mut acc);
        let (t, k) = (tokens.sums.len(), tokens.k);
        assert!(acc == expected, "{}: {} {t} x {k} -> {n}, seed {SEED:#x}", isa.name(), layout.name());
    }
}

#[test]
fn products_are_exact_for_every_size_around_the_blocks() {
    let mut random = Random(SEED);
    let sizes = [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 80, 127, 128, 129, 300];
    for layout in LAYOUTS {
        for n in sizes {
            for k in sizes {
                let tokens = Tokens::new(1 + random.below(3) as usize, k, || random.byte());
                let weights = Random((n * k) as u64 + SEED).weights(layout, n * k);
                check_product(layout, &weights, n, &tokens);
            }
        }
    }
}

#[test]
fn products_are_exact_for_many_rows() {
    let mut random = Random(SEED);
    for layout in LAYOUTS {
        for n in [511, 512, 513, 575, 577, 2047, 2048, 2049, 2112, 2113, 2500, 4100] {
            for (tokens, k) in [(1, 1), (1, 16), (1, 90), (2, 17)] {
                let weights = random.weights(layout, n * k);
                check_product(layout, &weights, n, &Tokens::new(tokens, k, || random.byte()));
            }
        }
    }
}

#[test]
fn products_are_exact_for_every_number_of_tokens() {
    let mut random = Random(SEED);
    for layout in LAYOUTS {
        for tokens in (0..40).chain([63, 64, 65]) {
            let (n, k) = (1 + random.below(150) as usize, 1 + random.below(150) as usize);
            let weights = random.weights(layout, n * k);
            check_product(layout, &weights, n, &Tokens::new(tokens, k, || random.byte()));
        }
    }
}

#[test]
fn sums_do_not_overflow_for_the_longest_rows_of_extreme_values() {
    for layout in LAYOUTS {
        let (low, high, longest) = if layout == Layout::Int8 { (-128, 127, 131_071) } else { (-1, 1, 300_000) };
        for k in [1024, 1025, 4096, 65_536, longest] {
            for (w, q) in [(high, 127), (high, -128), (low, 127), (low, -128)] {
                check_product(layout, &vec![w; 81 * k], 81, &Tokens::new(1, k, || q));
            }
            let mut sign = 1;
            let mut alternate = || {
                sign = -sign;
                if sign > 0 { 127 } else { -128 }
            };
            check_product(layout, &vec![high; 2 * k], 2, &Tokens::new(13, k, &mut alternate));
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect()
}

const ACTIVATIONS: [Activation; 9] = [
    Activation::None,
    Activation::Relu,
    Activation::Clip { lo: -0.5, hi: 6.0 },
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Relu2,
];

#[test]
fn post_scales_then_adds_then_activates_on_every_instruction_set() {
    let mut random = Random(SEED);
    for n in [1, 2, 15, 16, 17, 64, 65, 130] {
        for (case, activation) in ACTIVATIONS.into_iter().enumerate() {
            let rows = 3;
            let acc: Vec<i32> = (0..rows * n).map(|_| random.next() as i32 >> random.below(24)).collect();
            let mut floats = |len: usize| -> Vec<f32> { (0..len).map(|_| random.float(-3)).collect() };
            let row_scale = floats(if case % 2 == 0 { 1 } else { rows });
            let scale = floats(if case % 3 == 0 { 1 } else { n });
            let bias = (case % 4 != 1).then(|| floats(n));
            let post = Post { row_scale: &row_scale, scale: &scale, bias: bias.as_deref(), activation };
            let mut expected = vec![0.0; rows * n];
            kernels::by_name("portable").unwrap().post(&acc, n, &post, &mut expected);
            if activation == Activation::None {
                for (i, y) in expected.iter().enumerate() {
                    let scaled = (acc[i] as f32 * row_scale[i / n % row_scale.len()]) * scale[i % n % scale.len()];
                    let exact = bias.as_ref().map_or(scaled, |bias| scaled + bias[i % n]);
                    assert_eq!(bits(&[*y]), bits(&[exact]));
                }
            }
            for isa in kernels::available() {
                let mut y = vec![0.0; rows * n];
                isa.post(&acc, n, &post, &mut y);
                assert_eq!(bits(&y), bits(&expected), "{}: {activation:?} {n}, seed {SEED:#x}", isa.name());
            }
        }
    }
}

#[test]
fn bit_linear_is_the_product_followed_by_post() {
    let mut random = Random(SEED);
    for layout in LAYOUTS {
        for (case, activation) in ACTIVATIONS.into_iter().enumerate() {
            let (n, k) = (1 + random.below(150) as usize, random.below(300) as usize);
            let tokens = Tokens::new(1 + case * 2, k, || random.byte());
            let w = layout.pack(n, k, &random.weights(layout, n * k)).unwrap();
            let product = tokens.product(layout, n, &w);
            let mut floats = |len: usize| -> Vec<f32> { (0..len).map(|_| random.float(-3)).collect() };
            let (row_scale, scale, bias) = (floats(tokens.sums.len()), floats(n), floats(n));
            let post = Post { row_scale: &row_scale, scale: &scale, bias: Some(&bias), activation };
            let mut acc = vec![0; tokens.sums.len() * n];
            let mut expected = vec![0.0; acc.len()];
            kernels::best().bit_product(product, &mut acc);
            kernels::best().post(&acc, n, &post, &mut expected);
            for isa in kernels::available() {
                let mut y = vec![0.0; acc.len()];
                isa.bit_linear(product, &post, &mut y);
                assert_eq!(bits(&y), bits(&expected), "{}: {activation:?} {n} x {k}, seed {SEED:#x}", isa.name());
            }
        }
    }
}

/// The integer of one value, by the definition.
fn quantized(rule: &QuantizeRule, max: f32, x: f32) -> (i8, f32) {
    let (scaled, scale) = match (rule.kind, rule.floor) {
        (QuantizeKind::Divide, Floor::None) => (x / (max / rule.levels), max / rule.levels),
        (QuantizeKind::Divide, Floor::Add) => (x / (max / rule.levels + rule.eps), max / rule.levels),
        (QuantizeKind::Divide, Floor::Clip) => {
            let scale = (max / rule.levels).max(rule.eps);
            (x / scale, scale)
        }
        (QuantizeKind::Reciprocal, _) => {
            let factor = (1.0 / max.max(rule.eps)) * rule.levels;
            (x * factor, 1.0 / factor)
        }
        (QuantizeKind::Quotient, _) => {
            let factor = rule.levels / max.max(rule.eps);
            (x * factor, 1.0 / factor)
        }
        (QuantizeKind::Integer, _) => (x, 1.0),
    };
    let q = scaled.round_ties_even().clamp(f32::from(rule.lo), f32::from(rule.hi));
    (if q.is_nan() { 0 } else { q as i8 }, scale)
}

fn rules() -> Vec<QuantizeRule> {
    let rule = |kind, floor, eps, levels, lo, hi| QuantizeRule { kind, floor, eps, levels, lo, hi };
    vec![
        rule(QuantizeKind::Divide, Floor::None, 0.0, 127.0, -128, 127),
        rule(QuantizeKind::Divide, Floor::Add, 1e-6 / 127.0, 127.0, -128, 127),
        rule(QuantizeKind::Divide, Floor::Clip, 1e-6, 127.0, -127, 127),
        rule(QuantizeKind::Divide, Floor::None, 0.0, 7.0, -8, 7),
        rule(QuantizeKind::Reciprocal, Floor::None, 1e-5, 127.0, -128, 127),
        rule(QuantizeKind::Reciprocal, Floor::None, 0.0, 127.0, -128, 127),
        rule(QuantizeKind::Quotient, Floor::None, 1e-5, 127.0, -128, 127),
        rule(QuantizeKind::Integer, Floor::None, 0.0, 127.0, -128, 127),
    ]
}

/// For each value the index of its scale; the shape is of rank 4.
fn scale_indices(sharing: Sharing, rows: usize, columns: usize) -> Vec<usize> {
    let place = |i: usize| match sharing {
        Sharing::Rows(shared) => i / columns / shared,
        Sharing::Channels { channels, rows } => i / (channels * rows * columns) * rows * columns + i % (rows * columns),
    };
    (0..rows * columns).map(place).collect()
}

fn check_quantize(isa: &dyn Kernels, x: &[f32], columns: usize, rule: &QuantizeRule, sharing: Sharing) {
    let rows = x.len().checked_div(columns).unwrap_or(2);
    let pitch = columns.next_multiple_of(64).max(64);
    let index = scale_indices(sharing, rows, columns);
    let n_scales = match sharing {
        Sharing::Rows(shared) => rows / shared,
        Sharing::Channels { channels, .. } => x.len() / channels,
    };
    let mut max = vec![0f32; n_scales];
    for (&x, &i) in x.iter().zip(&index) {
        max[i] = max[i].max(x.abs());
    }
    let (mut q, mut scale, mut sums) = (vec![99; rows * pitch], vec![-1.0; n_scales], vec![99; rows]);
    isa.quantize(x, columns, rule, sharing, Quantized { q: &mut q, pitch, scale: &mut scale, sums: Some(&mut sums) });
    let what = format!("{}: {rule:?} {sharing:?} {rows} x {columns}, seed {SEED:#x}", isa.name());
    let expected: Vec<f32> = max.iter().map(|&max| quantized(rule, max, 0.0).1).collect();
    assert_eq!(bits(&scale), bits(&expected), "{what}");
    for row in 0..rows {
        let found = &q[row * pitch..][..pitch];
        for (column, &found) in found.iter().enumerate() {
            let at = row * columns + column;
            let expected = if column < columns { quantized(rule, max[index[at]], x[at]).0 } else { 0 };
            assert_eq!(found, expected, "{what}: row {row}, column {column}");
        }
        assert_eq!(sums[row], found.iter().map(|&q| i32::from(q)).sum::<i32>(), "{what}");
    }
}

#[test]
fn quantisation_follows_its_definition_on_every_instruction_set() {
    let mut random = Random(SEED);
    for isa in kernels::available() {
        for rule in rules() {
            for columns in [0, 1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 100, 257] {
                let rows = if columns == 0 { 2 } else { 6 };
                let exponent = random.below(30) as i32 - 20;
                let x: Vec<f32> = (0..rows * columns).map(|_| random.float(exponent)).collect();
                for sharing in [Sharing::Rows(1), Sharing::Rows(rows / 2), Sharing::Rows(rows)] {
                    check_quantize(isa, &x, columns, &rule, sharing);
                }
                if columns > 0 {
                    for (channels, rows) in [(3, 2), (2, 1), (6, 1), (1, 6)] {
                        check_quantize(isa, &x, columns, &rule, Sharing::Channels { channels, rows });
                    }
                }
            }
        }
    }
}

#[test]
fn quotients_next_to_a_half_round_as_a_division_does() {
    let mut random = Random(SEED);
    let rule = rules()[0];
    for exponent in [-149, -126, -100, -61, -60, -30, -1, 0, 1, 30, 60, 61, 66, 67, 100, 127] {
        for _ in 0..60 {
            // A number of numbers: no special ones, so that the shortest way is taken.
            let max = (1.0 + random.next() as f32 / (1u32 << 31) as f32) * 2f32.powi(exponent);
            let step = max / rule.levels;
            let mut x = vec![if max.is_finite() { max } else { f32::MAX }];
            for _ in 0..40 {
                let half = (random.below(254) as f32 - 127.0 + 0.5) * step;
                let bits = half.to_bits();
                x.extend([bits.saturating_sub(1), bits, bits + 1].map(f32::from_bits));
                x.push(half * random.float(0).abs().min(1.0) * 1e-30);
            }
            x.retain(|x| x.abs() <= max);
            for isa in kernels::available() {
                check_quantize(isa, &x, x.len(), &rule, Sharing::Rows(1));
            }
        }
    }
}

#[test]
fn quantisation_rounds_halves_to_even_and_keeps_extreme_rows() {
    let rule = rules()[0];
    for isa in kernels::available() {
        // The largest magnitude is 127, so the scale is 1.
        let halves: Vec<f32> = (-127..=127).map(|i| i as f32 / 2.0).chain([127.0]).collect();
        check_quantize(isa, &halves, halves.len(), &rule, Sharing::Rows(1));
        for x in [0.0, -0.0, f32::NAN, f32::INFINITY, 1e-45, f32::MAX, f32::MIN_POSITIVE] {
            for rule in rules() {
                check_quantize(isa, &[x; 70], 70, &rule, Sharing::Rows(1));
                check_quantize(isa, &[x, 1.0, -x], 3, &rule, Sharing::Rows(1));
            }
        }
    }
}

#[test]
fn the_list_of_instruction_sets_ends_with_portable() {
    let names: Vec<_> = kernels::available().map(|isa| isa.name()).collect();
    assert_eq!(names.last(), Some(&"portable"));
    assert_eq!(kernels::best().name(), names[0]);
    assert!(kernels::by_name("sse9").is_none());
    for name in names {
        assert_eq!(kernels::by_name(name).map(|isa| isa.name()), Some(name));
    }
}

#[cfg(feature = "threads")]
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Random(SEED);
    let isa = kernels::best();
    for threads in [2, 3, 7] {
        let threaded = kernels::with_threads(isa, threads).unwrap();
        assert_eq!(threaded.name(), isa.name());
        for (layout, tokens, n, k) in LAYOUTS.iter().flat_map(|&layout| {
            [(1, 1000, 2500), (2, 900, 1300), (5, 700, 700), (13, 130, 1600)].map(|(t, n, k)| (layout, t, n, k))
        }) {
            let tokens = Tokens::new(tokens, k, || random.byte());
            let w = layout.pack(n, k, &random.weights(layout, n * k)).unwrap();
            let product = tokens.product(layout, n, &w);
            let mut floats = |len: usize| -> Vec<f32> { (0..len).map(|_| random.float(-3)).collect() };
            let (row_scale, scale, bias) = (floats(tokens.sums.len()), floats(n), floats(n));
            let post = Post { row_scale: &row_scale, scale: &scale, bias: Some(&bias), activation: Activation::Relu };
            let (mut y, mut expected) = (vec![0.0; tokens.sums.len() * n], vec![1.0; tokens.sums.len() * n]);
            isa.bit_linear(product, &post, &mut expected);
            threaded.bit_linear(product, &post, &mut y);
            assert_eq!(bits(&y), bits(&expected), "{threads} threads, {} {n} x {k}", layout.name());
            let (mut acc, mut expected) = (vec![0; y.len()], vec![1; y.len()]);
            isa.bit_product(product, &mut expected);
            threaded.bit_product(product, &mut acc);
            assert_eq!(acc, expected, "{threads} threads, {} {n} x {k}", layout.name());
        }
        let x: Vec<f32> = (0..50 * 1000).map(|_| random.float(3)).collect();
        check_quantize(threaded, &x, 1000, &rules()[0], Sharing::Rows(1));
        check_quantize(threaded, &x, 1000, &rules()[0], Sharing::Rows(50));
    }
}

/// One integer of one float, by the words of [`Steps`].
fn code(x: f32, steps: &Steps) -> i8 {
    let v = if steps.divide { x / steps.step } else { x * steps.step };
    if v.is_nan() {
        return 0;
    }
    (v.round_ties_even() + steps.offset as f32).clamp(steps.lo as f32, steps.hi as f32) as i8
}

#[test]
fn results_that_become_integers_are_those_of_a_layer_and_a_quantiser() {
    let mut random = Random(SEED);
    let sets: Vec<&dyn Kernels> = kernels::available().map(|isa| isa as &dyn Kernels).collect();
    #[cfg(feature = "threads")]
    let sets = [sets, vec![kernels::with_threads(kernels::best(), 3).unwrap()]].concat();
    let sizes = [(0, 3, 5), (1, 0, 4), (1, 1, 1), (2, 65, 63), (5, 64, 64), (14, 130, 65), (1, 300, 600), (3, 40, 513)];
    // Large enough for several threads, by rows of weights and by tokens.
    let sizes = sizes.into_iter().chain([(1, 2000, 1100), (7, 1024, 320), (2, 1500, 1000)]);
    for (tokens, k, n) in sizes {
        for layout in LAYOUTS {
            let rows = Tokens::new(tokens, k, || random.byte());
            let weights = random.weights(layout, n * k);
            let w = layout.pack(n, k, &weights).unwrap();
            let product = rows.product(layout, n, &w);
            let mut floats = |n: usize, exponent| (0..n).map(|_| random.float(exponent)).collect::<Vec<f32>>();
            let (row_scale, scale, bias) = (floats(tokens, 1), floats(n, 1), floats(n, 4));
            for (divide, step, offset, lo, hi) in [
                (true, 0.75, 0, -128, 127),
                (false, 0.125, -11, -128, 127),
                (true, -3.0, 128, -8, 7),
                (false, 1.0, 1 << 20, 0, 15),
                (true, 0.0, -(1 << 20), -127, 127),
                (false, f32::INFINITY, 1, -1, 1),
                (true, f32::NAN, 5, -1, 1),
                (false, 1e-45, 0, 0, 0),
            ] {
                let steps = Steps { step, divide, offset, lo, hi };
                let activation = if divide { Activation::Relu } else { Activation::None };
                let bias = (offset != 128).then_some(&bias[..]);
                let post = Post { row_scale: &row_scale, scale: &scale, bias, activation };
                let mut y = vec![0.0; tokens * n];
                kernels::by_name("portable").unwrap().bit_linear(product, &post, &mut y);
                let expected: Vec<i8> = y.iter().map(|&y| code(y, &steps)).collect();
                let pitch = n.next_multiple_of(64);
                for &isa in &sets {
                    let (mut q, mut sums) = (vec![99; tokens * pitch], vec![99; tokens]);
                    isa.bit_linear_codes(product, &post, &steps, Codes { q: &mut q, pitch, sums: Some(&mut sums) });
                    let context = format!("{isa:?}: {layout:?} {tokens} x {k} -> {n}, {steps:?}");
                    for t in 0..tokens {
                        let (row, expected) = (&q[t * pitch..][..pitch], &expected[t * n..][..n]);
                        assert!(row[..n] == *expected && row[n..].iter().all(|&q| q == 0), "{context}");
                        assert_eq!(sums[t], expected.iter().map(|&q| i32::from(q)).sum::<i32>(), "{context}");
                    }
                    let mut plain = vec![99; tokens * n];
                    isa.bit_linear_codes(product, &post, &steps, Codes { q: &mut plain, pitch: n, sums: None });
                    assert!(plain == expected, "{context}");
                    isa.codes(&y, &steps, &mut plain);
                    assert!(plain == expected, "{context}");
                }
            }
        }
    }
}

#[test]
fn quotients_next_to_the_middle_of_two_integers_are_rounded_as_divisions_are() {
    for step in [0.1, 0.3f32, 0.037, 7.0, -1.1, 1e-29, 3e28, 1e-31, 1e-40, 2.0f32.powi(-20)] {
        let near = (-300..300).flat_map(|i| {
            let tie = (i as f32 + 0.5) * step;
            [-3, -2, -1, 0, 1, 2, 3].map(|ulps: i32| f32::from_bits(tie.to_bits().wrapping_add_signed(ulps)))
        });
        // In panels among others, so that one value decides how a panel is computed.
        let x: Vec<f32> = near.flat_map(|x| [x, 3.0 * step, x, f32::NAN, 900.0 * step]).collect();
        for (offset, lo, hi) in [(0, -128, 127), (-100, -128, 127), (70_000, -128, 127), (3, -2, 1)] {
            for divide in [true, false] {
                let steps = Steps { step, divide, offset, lo, hi };
                let expected: Vec<i8> = x.iter().map(|&x| code(x, &steps)).collect();
                for isa in kernels::available() {
                    let mut q = vec![99; x.len()];
                    isa.codes(&x, &steps, &mut q);
                    assert!(q == expected, "{}: {steps:?}", isa.name());
                }
            }
        }
    }
}
