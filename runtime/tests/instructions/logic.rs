//! `logic`: networks of lookup tables over bits.

use bitc_format::inst::{Cast, Logic, LogicHead};
use bitc_format::logic::Encoder;
use bitc_format::{ArtifactWriter, DType, DTypeSet, Layout, Operand};
use bitc_runtime::{Limits, Program, RunError, Session, View, ViewMut, kernels};

use crate::harness::{Case, Random};

/// Of five inputs: an exclusive-or, a majority and a table of five, counted in two groups or answered as bits.
fn network(counted: bool) -> Vec<u8> {
    let mut e = Encoder::new(5, 8).unwrap();
    e.gate(0x66, [0, 1, 1], 5);
    e.gate(0xe8, [1, 2, 3], 6);
    e.lut(0x8001_7ffe, &[0, 1, 2, 3, 4], 7).unwrap();
    if counted {
        e.count(0, false, &[5, 6, 7]);
        e.count(1, true, &[7, 4]);
        e.finish(&[0, 1], &[]).unwrap()
    } else {
        e.finish(&[], &[5, 6, 7]).unwrap()
    }
}

fn answers(row: &[bool]) -> ([bool; 3], [u32; 2]) {
    let n = |i: usize| u32::from(row[i]);
    let address = (0..5).map(|i| n(i) << i).sum::<u32>();
    let bits = [row[0] != row[1], n(1) + n(2) + n(3) >= 2, 0x8001_7ffeu32 >> address & 1 == 1];
    let counts = [bits.iter().map(|&b| u32::from(b)).sum(), 1 + u32::from(!bits[2]) + u32::from(!row[4])];
    (bits, counts)
}

fn rows(n: usize) -> Vec<Vec<bool>> {
    let mut random = Random::new(3);
    (0..n).map(|_| (0..5).map(|_| random.below(2) == 1).collect()).collect()
}

fn push(case: &mut Case, x: Operand, y: bitc_format::BufferId, head: LogicHead, thresholds: Option<[Operand; 2]>) {
    let program = network(head != LogicHead::Bits);
    let program = case.constant(&[program.len()], &program);
    let (tau, beta) = if head == LogicHead::Bits { (1.0, 0.0) } else { (2.0, -0.5) };
    let [features, thresholds] = thresholds.map_or([None, None], |operands| operands.map(Some));
    case.push(Logic { y, x, program, features, thresholds, head, tau, beta });
}

#[test]
fn every_head_for_bytes_and_packed_bits() {
    for n in [1usize, 8, 70, 513] {
        let rows = rows(n);
        let bytes: Vec<u8> = rows.iter().flatten().map(|&b| if b { 0x40 } else { 0 }).collect();
        let packed: Vec<u8> = rows.iter().map(|row| (0..5).map(|i| u8::from(row[i]) << i).sum()).collect();
        let expected: Vec<_> = rows.iter().map(|row| answers(row)).collect();
        let mut case = Case::new();
        let x = case.input_bytes(DType::U8, &[n, 5], &bytes);
        let z = case.input_bytes(DType::Bits, &[n, 5], &packed);
        let bits = [case.output(DType::Bool, &[n, 3]), case.output(DType::Bits, &[n, 3])];
        let scores = case.output(DType::F32, &[n, 2]);
        let classes = [case.output(DType::I64, &[n]), case.output(DType::I64, &[n, 1])];
        push(&mut case, x, bits[0], LogicHead::Bits, None);
        push(&mut case, z, bits[1], LogicHead::Bits, None);
        push(&mut case, z, scores, LogicHead::Scores, None);
        push(&mut case, x, classes[0], LogicHead::Argmax, None);
        push(&mut case, z, classes[1], LogicHead::Argmax, None);
        let found = case.run();
        let as_bytes: Vec<u8> = expected.iter().flat_map(|(bits, _)| bits.map(u8::from)).collect();
        assert_eq!(found[0].bytes, as_bytes);
        let as_bits: Vec<u8> = expected.iter().map(|(b, _)| (0..3).map(|i| u8::from(b[i]) << i).sum()).collect();
        assert_eq!(found[1].bytes, as_bits);
        let want: Vec<f32> = expected.iter().flat_map(|(_, c)| c.map(|c| (c as f32 - 0.5) / 2.0)).collect();
        assert_eq!(found[2].to_vec::<f32>(), want);
        let want: Vec<i64> = expected.iter().map(|(_, c)| i64::from(c[1] > c[0])).collect();
        assert_eq!((found[3].to_vec::<i64>(), found[4].to_vec::<i64>()), (want.clone(), want));
    }
}

#[test]
fn floats_are_compared_with_the_thresholds_of_their_features() {
    let x = [0.5f32, -1.0, f32::NAN, 2.0, 0.0, 0.5, f32::INFINITY, -0.0, 1.0];
    let (features, thresholds) = ([2, 0, 0, 1, 2], [0.25f32, 0.5, f32::NEG_INFINITY, -0.0, f32::NAN]);
    let mut case = Case::new();
    let input = case.input(&[3, 3], &x);
    let cuts = [case.constant(&[5], &features), case.constant(&[5], &thresholds)];
    let y = case.output(DType::Bool, &[3, 3]);
    push(&mut case, input, y, LogicHead::Bits, Some(cuts));
    let want: Vec<u8> = x
        .chunks(3)
        .flat_map(|row| {
            let bits: Vec<bool> = features.iter().zip(thresholds).map(|(&f, t)| row[f as usize] > t).collect();
            answers(&bits).0.map(u8::from)
        })
        .collect();
    assert_eq!(case.run()[0].bytes, want);
}

/// bool [N, 5] -> scores, and a copy of the input where `shared`.
fn artifact(shared: bool) -> Program {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let (n, five, two) = (w.symbol_dim(n), w.fixed(5), w.fixed(2));
    let buffer = |w: &mut ArtifactWriter, dtype, dims: &[_]| {
        let slot = w.slot();
        w.buffer(dtype, dims, 1, slot)
    };
    let x = buffer(&mut w, DType::Bool, &[n, five]);
    let y = buffer(&mut w, DType::F32, &[n, two]);
    let bytes = network(true);
    let program = w.constant(DType::U8, Layout::Dense, &[bytes.len() as u64], &bytes).into();
    w.input("x", x, DTypeSet::convertible_to(DType::Bool));
    w.output("y", y, DTypeSet::of(&[DType::F32]));
    let head = LogicHead::Scores;
    w.push(Logic { y, x: x.into(), program, features: None, thresholds: None, head, tau: 1.0, beta: 0.0 });
    if shared {
        let copy = buffer(&mut w, DType::Bool, &[n, five]);
        w.output("copy", copy, DTypeSet::convertible_to(DType::Bool));
        w.push(Cast { y: copy, x: x.into() });
    }
    Program::from_bytes(&w.finish().unwrap_or_else(|e| panic!("{e}")), &Limits::default()).unwrap()
}

#[test]
fn an_input_takes_bits_in_every_form() {
    let program = artifact(false);
    for n in [1usize, 100, 600, 1500] {
        let rows = rows(n);
        let want: Vec<f32> = rows.iter().flat_map(|row| answers(row).1.map(|c| c as f32)).collect();
        let bytes: Vec<u8> = rows.iter().flatten().map(|&b| if b { 3 } else { 0 }).collect();
        let bits: Vec<u8> = rows.iter().map(|row| (0..5).map(|i| u8::from(row[i]) << i).sum()).collect();
        let mut words = vec![[0u64; 8]; n.div_ceil(512) * 5];
        for (r, row) in rows.iter().enumerate() {
            for (i, &bit) in row.iter().enumerate() {
                words[r / 512 * 5 + i][r % 512 / 64] |= u64::from(bit) << (r % 64);
            }
        }
        let shape = [n, 5];
        let views = [
            View::new(DType::Bool, &shape, &bytes),
            View::new(DType::U8, &shape, &bytes),
            View::new(DType::Bits, &shape, &bits),
            View::words(&shape, &words),
        ];
        for set in kernels::available() {
            let mut session = Session::with_kernels(&program, set);
            for view in views {
                let (mut y, y_shape) = (vec![f32::NAN; 2 * n], [n, 2]);
                session.run(&[view], &mut [ViewMut::of(&y_shape, &mut y)]).unwrap();
                assert_eq!(y, want, "{} {:?} {n}", set.name(), view.dtype);
            }
        }
    }
}

#[test]
fn words_are_for_networks_only_and_have_their_length() {
    let words = [[0u64; 8]; 10];
    let shape = [600, 5];
    let run = |program: &Program, view: View<'_>| {
        let (mut y, mut copy) = ([0f32; 1200], [0u8; 3000]);
        let (y_shape, copy_shape) = ([600, 2], [600, 5]);
        let mut outputs = vec![ViewMut::of(&y_shape, &mut y)];
        if program.outputs().len() > 1 {
            outputs.push(ViewMut::of(&copy_shape, &mut copy));
        }
        Session::new(program).run(&[view], &mut outputs)
    };
    let (alone, shared) = (artifact(false), artifact(true));
    assert_eq!(run(&alone, View::words(&shape, &words)), Ok(()));
    assert_eq!(run(&shared, View::words(&shape, &words)), Err(RunError::Words { port: "x".into() }));
    let short = RunError::Length { port: "x".into(), expected: Some(640), found: 576 };
    assert_eq!(run(&alone, View::words(&shape, &words[..9])), Err(short));
    // A copy of the input has 0 and 1 only, and the network sees the same.
    assert_eq!(run(&shared, View::new(DType::Bool, &shape, &[7; 3000])), Ok(()));
}

#[cfg(feature = "threads")]
#[test]
fn threads_share_the_rows() {
    let program = artifact(false);
    let set = kernels::with_threads(kernels::best(), 3).unwrap();
    for n in [1usize, 511, 512, 513, 1024, 5000] {
        let rows = rows(n);
        let bytes: Vec<u8> = rows.iter().flatten().map(|&b| u8::from(b)).collect();
        let (shape, y_shape) = ([n, 5], [n, 2]);
        let mut y = vec![f32::NAN; 2 * n];
        let mut session = Session::with_kernels(&program, set);
        session.run(&[View::of(&shape, &bytes)], &mut [ViewMut::of(&y_shape, &mut y)]).unwrap();
        let want: Vec<f32> = rows.iter().flat_map(|row| answers(row).1.map(|c| c as f32)).collect();
        assert_eq!(y, want, "{n} rows");
    }
}
