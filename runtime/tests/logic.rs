//! Logic kernels of every instruction set against the reference of the format crate.

use bitc_format::logic::{Encoder, Program, canonical_gate};
use bitc_runtime::kernels::{self, LogicInput, LogicOutput, logic_scratch_words};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
}

/// A program with every canonical gate, luts of each size and counts of both polarities.
fn program(n_inputs: u32, n_groups: u16, base: u32, seed: u64) -> Program {
    let mut random = Random(seed);
    let mut slots: Vec<u32> = (0..n_inputs).collect();
    let mut next = base.max(n_inputs);
    let n_slots = next + 400;
    let mut e = Encoder::new(n_inputs, n_slots).unwrap();
    for table in 0..=255u8 {
        if canonical_gate(table).0 != table {
            continue;
        }
        for _ in 0..1 + random.below(3) {
            let [a, b, c] = [(); 3].map(|()| slots[random.below(slots.len())]);
            e.gate(table, [a, b, c], next);
            slots.push(next);
            next += 1;
        }
    }
    for n in 4..=6 {
        for _ in 0..7 {
            let inputs: Vec<u32> = (0..n).map(|_| slots[random.below(slots.len())]).collect();
            e.lut(random.bits(), &inputs, next).unwrap();
            slots.push(next);
            next += 1;
        }
    }
    let mut offsets = Vec::new();
    for group in 0..n_groups {
        for _ in 0..4 {
            let n = random.below(50);
            let sources: Vec<u32> = (0..n).map(|_| slots[random.below(slots.len())]).collect();
            e.count(group, random.below(2) == 0, &sources);
        }
        offsets.push(random.below(1000) as u32);
    }
    let outputs: Vec<u32> = slots.iter().rev().take(77).copied().collect();
    Program::parse(&e.finish(&offsets, &outputs).unwrap()).unwrap()
}

/// The answers of the reference: bits row after row, counts row after row.
fn expected(program: &Program, rows: &[Vec<bool>]) -> (Vec<u8>, Vec<u32>) {
    let (mut bits, mut counts) = (Vec::new(), Vec::new());
    for rows in rows.chunks(64) {
        let words: Vec<u64> = (0..program.n_inputs())
            .map(|i| rows.iter().enumerate().map(|(r, row)| u64::from(row[i]) << r).sum())
            .collect();
        let answer = program.run_words(&words);
        for r in 0..rows.len() {
            bits.extend(answer.outputs.iter().map(|word| (word >> r & 1) as u8));
            counts.extend(answer.counts.iter().map(|counts| counts[r]));
        }
    }
    (bits, counts)
}

fn check(n_inputs: u32, n_groups: u16, base: u32, row_counts: &[usize]) {
    let program = program(n_inputs, n_groups, base, u64::from(n_inputs) + u64::from(base));
    let n_max = row_counts.iter().copied().max().unwrap();
    let mut random = Random(u64::from(n_inputs));
    let rows: Vec<Vec<bool>> = (0..n_max).map(|_| (0..n_inputs).map(|_| random.bits() & 1 == 1).collect()).collect();
    let (bits, counts) = expected(&program, &rows);
    // Dividing by a power of two takes another way.
    let (tau, beta) = if n_inputs % 2 == 1 { (3.0f32, 0.5f32) } else { (0.25, -2.0) };
    let scores: Vec<f32> = counts.iter().map(|&c| (c as f32 + beta) / tau).collect();
    let n_groups = usize::from(n_groups);
    let classes: Vec<i64> = scores
        .chunks(n_groups)
        .map(|row| (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as i64)
        .collect();

    let bytes: Vec<u8> = rows.iter().flatten().map(|&b| if b { 1 << random.below(8) } else { 0 } as u8).collect();
    // Bits that belong to no input and words that belong to no row hold anything.
    let mut packed_rows: Vec<u8> = rows.iter().flat_map(|row| pack_row(row)).collect();
    if !n_inputs.is_multiple_of(8) {
        let last = packed_rows.iter_mut().skip(n_inputs as usize / 8).step_by(n_inputs.div_ceil(8) as usize);
        last.for_each(|byte| *byte |= (random.bits() as u8) << (n_inputs % 8));
    }
    let mut sliced: Vec<[u64; 8]> = Vec::new();
    for rows in rows.chunks(512) {
        for i in 0..n_inputs as usize {
            let mut words: [u64; 8] = std::array::from_fn(|_| random.bits());
            for (r, row) in rows.iter().enumerate() {
                words[r / 64] = words[r / 64] & !(1 << (r % 64)) | u64::from(row[i]) << (r % 64);
            }
            sliced.push(words);
        }
    }
    // Two inputs share a feature, in features of falling order.
    let n_features = n_inputs.div_ceil(2) as usize;
    let features: Vec<i32> = (0..n_inputs).map(|i| ((n_inputs - 1 - i) / 2) as i32).collect();
    let thresholds: Vec<f32> = (0..n_inputs).map(|i| if i % 2 == 0 { 0.25 } else { -1.5 }).collect();

    for isa in kernels::available() {
        for &n in row_counts {
            let what = format!("{} with {n} rows of {n_inputs} inputs", isa.name());
            let mut scratch = vec![u64::MAX; logic_scratch_words(&program).unwrap()];
            // Nothing lies behind the last row.
            let bytes = &bytes[..n * n_inputs as usize];
            let packed_rows = &packed_rows[..n * n_inputs.div_ceil(8) as usize];
            let sliced = &sliced[..n.div_ceil(512) * n_inputs as usize];
            for input in [LogicInput::Bytes(bytes), LogicInput::Bits(packed_rows), LogicInput::Packed(sliced)] {
                let mut y = vec![f32::NAN; n * n_groups];
                let output = LogicOutput::Scores { y: &mut y, tau, beta };
                isa.logic(&program, input, output, n, &mut scratch);
                assert_eq!(y, scores[..n * n_groups], "scores, {what}");
            }
            let mut y = vec![-1; n];
            let output = LogicOutput::Argmax { y: &mut y, tau, beta };
            isa.logic(&program, LogicInput::Bytes(bytes), output, n, &mut scratch);
            assert_eq!(y, classes[..n], "classes, {what}");
            let n_outputs = program.outputs().len();
            let mut y = vec![9; n * n_outputs];
            isa.logic(&program, LogicInput::Bytes(bytes), LogicOutput::Bytes(&mut y), n, &mut scratch);
            assert_eq!(y, bits[..n * n_outputs], "bits, {what}");
            let mut y = vec![9; n * n_outputs.div_ceil(8)];
            isa.logic(&program, LogicInput::Bytes(bytes), LogicOutput::Bits(&mut y), n, &mut scratch);
            let want: Vec<u8> = bits[..n * n_outputs]
                .chunks(n_outputs)
                .flat_map(|row| pack_row(&row.iter().map(|&b| b == 1).collect::<Vec<_>>()))
                .collect();
            assert_eq!(y, want, "packed bits, {what}");
        }
        // Floats: with two cuts per feature not every pair of bits can occur, so the rows are made from floats.
        let n = n_max;
        let x: Vec<f32> = (0..n * n_features)
            .map(|i| if i % 97 == 5 { f32::NAN } else { [-1.5f32, -2.0, 0.25, 0.3, -0.0, 7.0][random.below(6)] })
            .collect();
        let float_rows: Vec<Vec<bool>> = (0..n)
            .map(|r| {
                let row = &x[r * n_features..][..n_features];
                features.iter().zip(&thresholds).map(|(&feature, &t)| row[feature as usize] > t).collect()
            })
            .collect();
        let want: Vec<f32> = expected(&program, &float_rows).1.iter().map(|&c| (c as f32 + beta) / tau).collect();
        let mut scratch = vec![7; logic_scratch_words(&program).unwrap()];
        let mut y = vec![f32::NAN; n * n_groups];
        let input = LogicInput::Floats { x: &x, n_features, features: &features, thresholds: &thresholds };
        isa.logic(&program, input, LogicOutput::Scores { y: &mut y, tau, beta }, n, &mut scratch);
        assert_eq!(y, want, "floats, {}", isa.name());
    }
}

fn pack_row(row: &[bool]) -> Vec<u8> {
    row.chunks(8).map(|bits| bits.iter().enumerate().map(|(i, &b)| u8::from(b) << i).sum()).collect()
}

#[test]
fn small_networks_of_any_number_of_rows() {
    let rows: Vec<usize> = (0..=70).chain([127, 128, 129, 191, 511, 512, 513, 640, 1200]).collect();
    check(5, 3, 0, &rows);
}

#[test]
fn inputs_around_the_width_of_a_packing_step() {
    for n_inputs in [1, 31, 63, 64, 65, 127, 128, 130] {
        check(n_inputs, 10, 0, &[1, 8, 9, 64, 65, 72, 100, 130, 576, 700]);
    }
}

#[test]
fn slots_named_by_32_bits() {
    check(9, 2, 70_000, &[1, 100, 600]);
}

#[test]
fn one_group_and_many_groups() {
    check(4, 1, 0, &[3, 513]);
    check(4, 33, 0, &[3, 513]);
}
