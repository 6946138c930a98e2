//! A run with sizes that were seen before allocates nothing.
#![cfg(not(feature = "minimal"))]

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;

use bitc_format::inst::{
    Activation, BitConv2d, BitLinear, Floor, Granularity, Logic, LogicHead, Map, MapOp, Quantize, QuantizeKind,
    Softmax, Step,
};
use bitc_format::logic::Encoder;
use bitc_format::{ArtifactWriter, DType, DTypeSet, Layout};
use bitc_runtime::{Limits, Program, Session, View, ViewMut, kernels};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    ALLOCATIONS.with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it is.
#[expect(unsafe_code, reason = "an allocator that counts is one")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: MemoryLayout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: MemoryLayout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// x bool [N, 48] -> logic -> y f32 [N, 3].
fn network() -> Program {
    let mut e = Encoder::new(48, 52).unwrap();
    e.gate(0xe8, [0, 20, 47], 48);
    e.lut(0x1234_5678_9abc_def0, &[1, 2, 3, 4, 5, 48], 49).unwrap();
    (0..3).for_each(|group| e.count(group, group == 1, &[48, 49, 0]));
    let bytes = e.finish(&[0; 3], &[]).unwrap();
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let (n, inputs, groups) = (w.symbol_dim(n), w.fixed(48), w.fixed(3));
    let (a, b) = (w.slot(), w.slot());
    let (x, y) = (w.buffer(DType::Bool, &[n, inputs], 1, a), w.buffer(DType::F32, &[n, groups], 1, b));
    w.input("x", x, DTypeSet::convertible_to(DType::Bool));
    w.output("y", y, DTypeSet::of(&[DType::F32]));
    let program = w.constant(DType::U8, Layout::Dense, &[bytes.len() as u64], &bytes).into();
    let head = LogicHead::Scores;
    w.push(Logic { y, x: x.into(), program, features: None, thresholds: None, head, tau: 1.0, beta: 0.0 });
    Program::from_bytes(&w.finish().unwrap_or_else(|error| panic!("{error}")), &Limits::default()).unwrap()
}

/// x f32 [N, 2, 4, 4] -> bit_conv2d -> bits of a mask -> bit_linear -> softmax, with a converted bit port beside.
fn program() -> Program {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let n = w.symbol_dim(n);
    let [c1, c2, c3, c4, c48] = [1, 2, 3, 4, 48].map(|d| w.fixed(d));
    let f32s = DTypeSet::of(&[DType::F32]);
    let buffer = |w: &mut ArtifactWriter, dtype, dims: &[_], align| {
        let slot = w.slot();
        w.buffer(dtype, dims, align, slot)
    };
    let x = buffer(&mut w, DType::F32, &[n, c2, c4, c4], 1);
    let mask = buffer(&mut w, DType::Bool, &[n, c48], 1);
    let q1 = buffer(&mut w, DType::I8, &[n, c2, c4, c4], 1);
    let s1 = buffer(&mut w, DType::F32, &[c1], 1);
    let slot = w.slot();
    let conv = w.buffer(DType::F32, &[n, c3, c4, c4], 1, slot);
    let flat = w.buffer(DType::F32, &[n, c48], 1, slot);
    let masked = buffer(&mut w, DType::F32, &[n, c48], 1);
    let q2 = buffer(&mut w, DType::I8, &[n, c48], 64);
    let s2 = buffer(&mut w, DType::F32, &[n, c1], 1);
    let sums = buffer(&mut w, DType::I32, &[n], 1);
    let logits = buffer(&mut w, DType::F32, &[n, c3], 1);
    let y = buffer(&mut w, DType::F32, &[n, c3], 1);
    let conv_w: Vec<i8> = (0..3 * 18).map(|i| (i % 3) as i8 - 1).collect();
    let conv_w = w.constant(DType::I8, Layout::Trit2, &[3, 18], &Layout::Trit2.pack(3, 18, &conv_w).unwrap());
    let fc_w: Vec<i8> = (0..3 * 48).map(|i| (i * 7 % 3) as i8 - 1).collect();
    let fc_w = w.constant(DType::I8, Layout::Trit2, &[3, 48], &Layout::Trit2.pack(3, 48, &fc_w).unwrap());
    let half = w.constant(DType::F32, Layout::Dense, &[], View::of(&[], &[0.5f32]).bytes);
    w.input("x", x, f32s);
    w.input("mask", mask, DTypeSet::convertible_to(DType::Bool));
    w.output("y", y, f32s);
    let rule = Quantize {
        q: q1,
        scale: s1,
        sums: None,
        x: x.into(),
        kind: QuantizeKind::Divide,
        granularity: Granularity::Tensor,
        floor: Floor::Clip,
        eps: 1e-6,
        levels: 127.0,
        lo: -127,
        hi: 127,
    };
    w.push(rule.clone());
    w.push(BitConv2d {
        y: conv,
        q: q1.into(),
        q_scale: s1.into(),
        w: conv_w.into(),
        scale: half.into(),
        bias: None,
        kernel: [3, 3],
        strides: [1, 1],
        pads: [1; 4],
        dilations: [1, 1],
        activation: Activation::Relu,
    });
    let steps = vec![Step { op: MapOp::Mul, args: [0, 1, 0] }];
    let xs = vec![flat.into(), mask.into()];
    w.push(Map { y: masked, domain: bitc_format::inst::Domain::F32, xs, consts: vec![], steps, result: 2 });
    w.push(Quantize { q: q2, scale: s2, sums: Some(sums), x: masked.into(), granularity: Granularity::Row, ..rule });
    w.push(BitLinear {
        y: logits,
        q: q2.into(),
        q_scale: s2.into(),
        sums: sums.into(),
        w: fc_w.into(),
        scale: half.into(),
        bias: None,
        activation: Activation::None,
    });
    w.push(Softmax { y, x: logits.into(), axis: 1, log: false });
    Program::from_bytes(&w.finish().unwrap_or_else(|error| panic!("{error}")), &Limits::default()).unwrap()
}

#[test]
fn a_repeated_run_allocates_nothing() {
    let program = program();
    for kernels in kernels::available() {
        let mut session = Session::with_kernels(&program, kernels);
        let sizes = [3usize, 1, 20];
        let x: Vec<f32> = (0..20 * 32).map(|i| (i as f32).sin()).collect();
        let bits = [0xb7u8; 20 * 6];
        let mut y = [0.0f32; 60];
        let mut run = |n: usize| {
            let (xs, masks, ys) = ([n, 2, 4, 4], [n, 48], [n, 3]);
            let inputs = [View::of(&xs, &x[..n * 32]), View::new(DType::Bits, &masks, &bits[..n * 6])];
            session.run(&inputs, &mut [ViewMut::of(&ys, &mut y[..n * 3])]).unwrap();
        };
        sizes.into_iter().for_each(&mut run);
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 0..3 {
            sizes.into_iter().for_each(&mut run);
        }
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "{}", kernels.name());
        assert!((y.iter().sum::<f32>() - 20.0).abs() < 1e-4);
    }
}

#[test]
fn a_repeated_run_of_a_logic_network_allocates_nothing() {
    let program = network();
    for kernels in kernels::available() {
        let mut session = Session::with_kernels(&program, kernels);
        let bytes = [1u8; 700 * 48];
        let mut y = [0.0f32; 2100];
        let mut run = |n: usize, dtype: DType| {
            let (xs, ys) = ([n, 48], [n, 3]);
            let len = if dtype == DType::Bits { n * 6 } else { n * 48 };
            session.run(&[View::new(dtype, &xs, &bytes[..len])], &mut [ViewMut::of(&ys, &mut y[..n * 3])]).unwrap();
        };
        let cases = [(700, DType::Bool), (1, DType::U8), (513, DType::Bits)];
        cases.into_iter().for_each(|(n, dtype)| run(n, dtype));
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 0..3 {
            cases.into_iter().for_each(|(n, dtype)| run(n, dtype));
        }
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "{}", kernels.name());
    }
}
