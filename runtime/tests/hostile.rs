//! Whatever the bytes, loading ends with a program or an error, and what loads runs without a panic.

use bitc_format::inst::{
    Activation, ArgReduce, BitCast, BitConv2d, BitConv2dQuantize, BitLinear, BitLinearQuantize, Cast, Combine, Concat,
    Conv2d, DequantLinear, Domain, Expand, Floor, Gather, Granularity, Iota, LayerNorm, Logic, LogicHead, Map, MapOp,
    Matmul, Pad, PadMode, Pick, Pool2d, PoolKind, Quantize, QuantizeKind, Reduce, ReduceOp, RmsNorm, Scan, Scatter,
    Sizes, Slice, Softmax, Step, Steps, TopK, Transpose,
};
use bitc_format::logic::Encoder;
use bitc_format::{
    Artifact, ArtifactWriter, BufferId, ConstId, DType, DTypeSet, DimExpr, DimId, FormatError, Layer, Layout, Meta,
};
use bitc_runtime::{Limits, Program, Session, View, ViewMut, len_bytes};

/// Small, so that no change of a size makes a run long.
const LIMITS: Limits = Limits { artifact_bytes: 1 << 20, arena_bytes: 1 << 18 };

/// Type, shape and bytes of an array.
type Array = (DType, Vec<usize>, Vec<u8>);

struct Sample {
    w: ArtifactWriter,
    n: DimId,
}

impl Sample {
    fn new() -> Self {
        let mut w = ArtifactWriter::new();
        let n = w.symbol("N");
        w.set_batch(n);
        let n = w.symbol_dim(n);
        Self { w, n }
    }

    /// A buffer of its own; 0 stands for the batch.
    fn buffer(&mut self, dtype: DType, shape: &[i64], align: u32) -> BufferId {
        let dims: Vec<DimId> = shape.iter().map(|&d| if d == 0 { self.n } else { self.w.fixed(d) }).collect();
        let slot = self.w.slot();
        self.w.buffer(dtype, &dims, align, slot)
    }

    fn f32(&mut self, shape: &[i64]) -> BufferId {
        self.buffer(DType::F32, shape, 1)
    }

    fn floats(&mut self, shape: &[u64]) -> ConstId {
        let n = shape.iter().product::<u64>() as usize;
        let values: Vec<f32> = (0..n).map(|i| i as f32 * 0.25 - 1.0).collect();
        self.w.constant(DType::F32, Layout::Dense, shape, View::of(&[n], &values).bytes)
    }

    fn trits(&mut self, layout: Layout, rows: usize, columns: usize) -> ConstId {
        let values: Vec<i8> = (0..rows * columns).map(|i| if i % 3 == 0 { -1 } else { 1 }).collect();
        let packed = layout.pack(rows, columns, &values).unwrap();
        self.w.constant(DType::I8, layout, &[rows as u64, columns as u64], &packed)
    }

    fn input(&mut self, name: &str, buffer: BufferId, dtype: DType) {
        self.w.input(name, buffer, DTypeSet::convertible_to(dtype));
    }

    fn finish(mut self, output: BufferId) -> Vec<u8> {
        self.w.output("y", output, DTypeSet::of(&[DType::F32]));
        let layer = Layer { name: "fc".into(), op: "bit_linear".into(), weights: 12, ..Layer::default() };
        let meta = Meta { producer: "test".into(), layers: vec![layer], ..Meta::default() };
        self.w.set_meta(meta);
        self.w.set_ir(b"graph".to_vec());
        self.w.finish().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Quantised products of a small image.
fn quantized() -> Vec<u8> {
    let mut s = Sample::new();
    let x = s.f32(&[0, 2, 4, 3]);
    s.input("x", x, DType::F32);
    let (q, scale) = (s.buffer(DType::I8, &[0, 2, 4, 3], 1), s.f32(&[0, 1, 4, 3]));
    let rule = Quantize {
        q,
        scale,
        sums: None,
        x: x.into(),
        kind: QuantizeKind::Divide,
        granularity: Granularity::Channel,
        floor: Floor::Clip,
        eps: 1e-6,
        levels: 127.0,
        lo: -127,
        hi: 127,
    };
    s.w.push(rule.clone());
    let conv = s.f32(&[0, 3, 4, 3]);
    let (w, half) = (s.trits(Layout::Trit2, 3, 18), s.floats(&[1]));
    let layer = BitConv2d {
        y: conv,
        q: q.into(),
        q_scale: scale.into(),
        w: w.into(),
        scale: half.into(),
        bias: None,
        kernel: [3, 3],
        strides: [1, 1],
        pads: [1; 4],
        dilations: [1, 1],
        activation: Activation::Relu,
    };
    let again = s.buffer(DType::I8, &[0, 3, 4, 3], 1);
    let steps = Steps { step: 0.5, divide: true, offset: 3, lo: -128, hi: 127 };
    s.w.push(BitConv2dQuantize { layer: BitConv2d { y: again, ..layer.clone() }, steps: steps.clone() });
    s.w.push(layer);
    let flat_dims = [s.n, s.w.fixed(36)];
    let slot = s.w.slot();
    let flat = s.w.buffer(DType::F32, &flat_dims, 1, slot);
    s.w.push(Cast { y: flat, x: conv.into() });
    let (q, scale, sums) = (s.buffer(DType::I8, &[0, 36], 64), s.f32(&[0, 1]), s.buffer(DType::I32, &[0], 1));
    let granularity = Granularity::Row;
    s.w.push(Quantize { q, scale, sums: Some(sums), x: flat.into(), granularity, ..rule });
    let y = s.f32(&[0, 5]);
    let (w, scale5, bias) = (s.trits(Layout::Bit1, 5, 36), s.floats(&[5]), s.floats(&[5]));
    let layer = BitLinear {
        y,
        q: q.into(),
        q_scale: scale.into(),
        sums: sums.into(),
        w: w.into(),
        scale: scale5.into(),
        bias: Some(bias.into()),
        activation: Activation::Clip { lo: -1.0, hi: 6.0 },
    };
    let (again, row_sums) = (s.buffer(DType::I8, &[0, 5], 64), s.buffer(DType::I32, &[0], 1));
    s.w.push(BitLinearQuantize { layer: BitLinear { y: again, ..layer.clone() }, row_sums: Some(row_sums), steps });
    s.w.push(layer);
    // The same activations in groups of 16, the last one shorter.
    let bytes: Vec<i8> = (0..5 * 16).map(|i| (i * 7) as u8 as i8).collect();
    let packed = Layout::Int8.pack(5, 16, &bytes).unwrap().repeat(3);
    let w = s.w.constant(DType::I8, Layout::Int8, &[3, 5, 16], &packed);
    let scale_bytes: Vec<u8> = (0..15).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let scales = s.w.constant(DType::F32, Layout::Dense, &[5, 3], &scale_bytes);
    let grouped = s.f32(&[0, 5]);
    s.w.push(BitLinear {
        y: grouped,
        q: q.into(),
        q_scale: scale.into(),
        sums: sums.into(),
        w: w.into(),
        scale: scales.into(),
        bias: None,
        activation: Activation::None,
    });
    s.finish(grouped)
}

/// A float product with weights of few bits.
fn float_by_trits() -> Vec<u8> {
    let mut s = Sample::new();
    let x = s.f32(&[0, 5]);
    s.input("x", x, DType::F32);
    let (w, scales) = (s.trits(Layout::Trit2, 3, 5), s.floats(&[3, 1]));
    let last = s.f32(&[0, 3]);
    s.w.push(DequantLinear {
        y: last,
        x: x.into(),
        w: w.into(),
        scale: scales.into(),
        group: 5,
        bias: None,
        activation: Activation::Tanh,
    });
    s.finish(last)
}

/// A network over bits that are packed, given as bytes, and compared.
fn logic() -> Vec<u8> {
    let mut encoder = Encoder::new(4, 7).unwrap();
    encoder.gate(0xe8, [0, 1, 2], 4);
    encoder.gate(0xff, [0; 3], 5);
    encoder.lut(0x1234_5678_9abc_def0, &[0, 1, 2, 3, 4, 5], 6).unwrap();
    let mut counting = encoder.clone();
    let bits = encoder.finish(&[], &[6, 4, 0, 5]).unwrap();
    counting.count(0, false, &[4, 6, 1]);
    counting.count(1, true, &[6, 3]);
    let counts = counting.finish(&[0, 2], &[]).unwrap();
    let mut s = Sample::new();
    let x = s.f32(&[0, 3]);
    s.input("x", x, DType::F32);
    let (middle, y) = (s.buffer(DType::Bits, &[0, 4], 1), s.f32(&[0, 2]));
    let features = s.w.constant(DType::I32, Layout::Dense, &[4], View::of(&[4], &[2, 0, 0, 1]).bytes);
    let thresholds = s.floats(&[4]);
    let program = s.w.constant(DType::U8, Layout::Dense, &[bits.len() as u64], &bits);
    s.w.push(Logic {
        y: middle,
        x: x.into(),
        program: program.into(),
        features: Some(features.into()),
        thresholds: Some(thresholds.into()),
        head: LogicHead::Bits,
        tau: 1.0,
        beta: 0.0,
    });
    let program = s.w.constant(DType::U8, Layout::Dense, &[counts.len() as u64], &counts);
    s.w.push(Logic {
        y,
        x: middle.into(),
        program: program.into(),
        features: None,
        thresholds: None,
        head: LogicHead::Scores,
        tau: 0.5,
        beta: 1.0,
    });
    s.finish(y)
}

/// A chain through the float instructions.
fn floats() -> Vec<u8> {
    let mut s = Sample::new();
    let x = s.f32(&[0, 2, 5, 4]);
    s.input("x", x, DType::F32);
    let (w, bias) = (s.floats(&[2, 1, 2, 2]), s.floats(&[2]));
    let conv = s.f32(&[0, 2, 4, 5]);
    s.w.push(Conv2d {
        y: conv,
        x: x.into(),
        w: w.into(),
        bias: Some(bias.into()),
        strides: [1, 1],
        pads: [0, 1, 0, 1],
        dilations: [1, 1],
        groups: 2,
        activation: Activation::Silu,
    });
    let pool = s.f32(&[0, 2, 2, 3]);
    s.w.push(Pool2d {
        y: pool,
        x: conv.into(),
        kind: PoolKind::AverageWithPad,
        kernel: [2, 2],
        strides: [2, 2],
        pads: [0, 0, 0, 1],
        dilations: [1, 1],
    });
    let moved = s.f32(&[2, 0, 3, 2]);
    s.w.push(Transpose { y: moved, x: pool.into(), perm: vec![1, 0, 3, 2] });
    let (gamma, beta) = (s.floats(&[3, 2]), s.floats(&[6]));
    let norm = s.f32(&[2, 0, 3, 2]);
    let (g, eps) = (Some(gamma.into()), 1e-5);
    s.w.push(LayerNorm { y: norm, x: moved.into(), gamma: g, beta: Some(beta.into()), axis: 2, eps });
    let rms = s.f32(&[2, 0, 3, 2]);
    s.w.push(RmsNorm { y: rms, x: norm.into(), gamma: g, axis: 2, eps });
    let product = s.f32(&[2, 0, 3, 4]);
    let (b, bias) = (s.floats(&[4, 2]), s.floats(&[4]));
    s.w.push(Matmul {
        y: product,
        a: rms.into(),
        b: b.into(),
        bias: Some(bias.into()),
        transpose_b: true,
        activation: Activation::GeluErf,
    });
    let soft = s.f32(&[2, 0, 3, 4]);
    s.w.push(Softmax { y: soft, x: product.into(), axis: 2, log: false });
    let mean = s.f32(&[2, 0, 1, 4]);
    s.w.push(Reduce { y: mean, x: soft.into(), op: ReduceOp::LogSumExp, axes: 4 });
    s.finish(mean)
}

/// Moves, indices, bits and symbolic sizes.
fn moves() -> Vec<u8> {
    let mut s = Sample::new();
    let (x, mask) = (s.f32(&[0, 4]), s.buffer(DType::Bits, &[0, 4], 1));
    s.input("x", x, DType::F32);
    s.input("mask", mask, DType::Bits);
    let bools = s.buffer(DType::Bool, &[0, 4], 1);
    s.w.push(Cast { y: bools, x: mask.into() });
    let masked = s.f32(&[0, 4]);
    let steps = vec![
        Step { op: MapOp::Where, args: [1, 0, 2] },
        Step { op: MapOp::Tanh, args: [3, 0, 0] },
        Step { op: MapOp::Pow, args: [4, 2, 0] },
    ];
    let consts = vec![u64::from(2.0f32.to_bits())];
    let xs = vec![x.into(), bools.into()];
    s.w.push(Map { y: masked, domain: Domain::F32, xs, consts, steps, result: 5 });
    let twice = s.w.dim(DimExpr::Add(s.n, s.n));
    let (one, four) = (s.w.fixed(1), s.w.fixed(4));
    let (zero, two) = (s.w.fixed(0), s.w.fixed(2));
    let slot = s.w.slot();
    let joined = s.w.buffer(DType::F32, &[twice, four], 1, slot);
    s.w.push(Concat { y: joined, xs: vec![x.into(), masked.into()], axis: 0 });
    let half = s.w.dim(DimExpr::FloorDiv(twice, 2));
    let last = s.w.dim(DimExpr::Sub(twice, one));
    let slot = s.w.slot();
    let reversed = s.w.buffer(DType::F32, &[half, two], 1, slot);
    s.w.push(Slice { y: reversed, x: joined.into(), starts: vec![last, zero], steps: vec![-1, 3] });
    let slot = s.w.slot();
    let more = s.w.dim(DimExpr::Add(half, two));
    let padded = s.w.buffer(DType::F32, &[more, four], 1, slot);
    s.w.push(Pad { y: padded, x: reversed.into(), before: vec![one, one], mode: PadMode::Edge, value: 0 });
    let slot = s.w.slot();
    let best = s.w.buffer(DType::I64, &[more], 1, slot);
    s.w.push(ArgReduce { y: best, x: padded.into(), axis: 1, min: false, last: true });
    let slot = s.w.slot();
    let picked = s.w.buffer(DType::F32, &[s.n, more], 1, slot);
    s.w.push(Gather { y: picked, x: x.into(), indices: best.into(), axis: 1 });
    let slot = s.w.slot();
    let wide = s.w.buffer(DType::F32, &[two, s.n, more], 1, slot);
    s.w.push(Expand { y: wide, x: picked.into() });
    let (slot, other) = (s.w.slot(), s.w.slot());
    let bits = s.w.buffer(DType::I32, &[two, s.n, more], 1, slot);
    s.w.push(BitCast { y: bits, x: wide.into() });
    let floats = s.w.buffer(DType::F32, &[two, s.n, more], 1, other);
    s.w.push(BitCast { y: floats, x: bits.into() });
    s.finish(floats)
}

/// Sorting, access by index, and integers.
fn positions() -> Vec<u8> {
    let mut s = Sample::new();
    let x = s.f32(&[0, 4]);
    s.input("x", x, DType::F32);
    let (sorted, order) = (s.f32(&[0, 3]), s.buffer(DType::I64, &[0, 3], 1));
    s.w.push(TopK { y: sorted, positions: order, x: x.into(), axis: 1, largest: true });
    let sums = s.buffer(DType::I64, &[0, 3], 1);
    s.w.push(Scan { y: sums, x: order.into(), axis: 1, product: false, exclusive: true, reverse: true });
    let mixed = s.buffer(DType::I64, &[0, 3], 1);
    let steps = vec![
        Step { op: MapOp::Mod, args: [0, 2, 0] },
        Step { op: MapOp::ShiftLeft, args: [1, 3, 0] },
        Step { op: MapOp::BitAnd, args: [4, 2, 0] },
    ];
    let xs = vec![sums.into(), order.into()];
    s.w.push(Map { y: mixed, domain: Domain::I64, xs, consts: vec![4], steps, result: 5 });
    let picked = s.f32(&[0, 3]);
    s.w.push(Pick { y: picked, x: x.into(), indices: order.into(), axis: Some(1), batch: 0 });
    let (zeros, four, zero) = (s.buffer(DType::I64, &[0], 1), s.w.fixed(4), s.w.fixed(0));
    s.w.push(Iota { y: zeros });
    let sizes = s.buffer(DType::I64, &[2], 1);
    s.w.push(Sizes { y: sizes, dims: vec![four, zero] });
    let (rows, slices) = (s.buffer(DType::I64, &[0, 1], 1), s.f32(&[0, 3]));
    s.w.push(Cast { y: rows, x: zeros.into() });
    s.w.push(Pick { y: slices, x: picked.into(), indices: rows.into(), axis: None, batch: 0 });
    let updated = s.f32(&[0, 4]);
    let (indices, updates) = (order.into(), slices.into());
    let combine = Combine::Add;
    s.w.push(Scatter { y: updated, x: x.into(), indices, updates, axis: Some(1), combine });
    s.finish(updated)
}

fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![quantized(), logic()];
    if cfg!(not(feature = "minimal")) {
        samples.extend([float_by_trits(), floats(), moves(), positions()]);
    }
    samples
}

/// Loads the bytes and, if they are a program, runs it on one and on three samples.
fn load_and_run(bytes: &[u8]) -> bool {
    let Ok(program) = Program::from_bytes(bytes, &LIMITS) else { return false };
    let mut session = Session::new(&program);
    for n in [3usize, 0, 1] {
        let symbols: Vec<(&str, usize)> = program.symbols().iter().map(|s| (s.as_str(), n)).collect();
        let Ok(shapes) = program.input_shapes(&symbols) else { continue };
        let arrays: Option<Vec<Array>> = program
            .inputs()
            .iter()
            .zip(shapes)
            .map(|(port, shape)| {
                let dtype = port.accepts.iter().next()?;
                let len = len_bytes(dtype, &shape).filter(|&len| len < 1 << 16)?;
                Some((dtype, shape, (0..len).map(|i| (i * 37 % 64) as u8).collect()))
            })
            .collect();
        let Some(arrays) = arrays else { continue };
        let inputs: Vec<View<'_>> = arrays.iter().map(|(d, s, b)| View::new(*d, s, b)).collect();
        let Ok(shapes) = session.output_shapes(&inputs) else { continue };
        let outputs: Option<Vec<Array>> = program
            .outputs()
            .iter()
            .zip(shapes)
            .map(|(port, shape)| {
                let dtype = port.accepts.iter().next()?;
                let len = len_bytes(dtype, &shape).filter(|&len| len < 1 << 20)?;
                Some((dtype, shape, vec![0; len]))
            })
            .collect();
        let Some(mut outputs) = outputs else { continue };
        let mut views: Vec<ViewMut<'_>> = outputs.iter_mut().map(|(d, s, b)| ViewMut::new(*d, s, b)).collect();
        // An error is fine; a panic is not.
        let _ = session.run(&inputs, &mut views);
    }
    true
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &b| (0..8).fold(crc ^ u32::from(b), step))
}

/// Makes the checksums right again, where the section table still makes sense.
fn repair(bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    for entry in (0..word(bytes, 16).min(64)).map(|i| 64 + i * 32) {
        if entry + 32 > bytes.len() {
            return;
        }
        let (start, len) = (word(bytes, entry + 8), word(bytes, entry + 16));
        if let Some(section) = bytes.get(start..start.saturating_add(len)) {
            let crc = crc32(section).to_le_bytes();
            bytes[entry + 4..entry + 8].copy_from_slice(&crc);
        }
    }
}

#[test]
fn the_samples_run() {
    for sample in samples() {
        assert!(load_and_run(&sample));
    }
}

#[cfg(not(feature = "minimal"))]
#[test]
fn every_instruction_is_in_a_sample() {
    let mut missing: Vec<&str> = bitc_format::Inst::TABLE.iter().map(|(_, name)| *name).collect();
    for sample in samples() {
        let artifact = Artifact::parse(&sample).unwrap();
        missing.retain(|name| artifact.contents().code().iter().all(|inst| inst.name() != *name));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    for sample in samples() {
        let mut accepted = Vec::new();
        for at in 0..sample.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = sample.clone();
                bytes[at] ^= mask;
                if load_and_run(&bytes) {
                    accepted.push(at);
                }
            }
        }
        // Only the minor version may differ, and the kind of a section that may be skipped.
        assert!(accepted.iter().all(|&at| (6..8).contains(&at) || (64..576).contains(&at)), "{accepted:?}");
        assert!(accepted.len() < 30, "{accepted:?}");
    }
}

#[test]
fn every_cut_is_noticed() {
    for sample in samples() {
        for len in 0..sample.len() {
            let mut bytes = sample[..len].to_vec();
            assert!(Artifact::parse(&bytes).is_err(), "{len} bytes");
            if len >= 16 {
                bytes[8..16].copy_from_slice(&(len as u64).to_le_bytes());
                assert!(Artifact::parse(&bytes).is_err(), "{len} bytes with that length in the header");
            }
        }
    }
}

#[test]
fn changed_bytes_with_right_checksums_never_panic() {
    let mut ran = 0;
    for sample in samples() {
        for at in 0..sample.len() {
            for mask in [0x01, 0x02, 0x04, 0x80] {
                let mut bytes = sample.clone();
                bytes[at] ^= mask;
                repair(&mut bytes);
                ran += usize::from(load_and_run(&bytes));
            }
        }
    }
    assert!(ran > 100, "only {ran} changed artifacts were loaded");
}

#[test]
fn changed_words_with_right_checksums_never_panic() {
    let values = [0u32, 1, 2, 3, 64, 65536, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, u32::MAX - 1, u32::MAX];
    for sample in samples() {
        for at in (0..sample.len() - 3).step_by(4) {
            for value in values {
                let mut bytes = sample.clone();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                repair(&mut bytes);
                load_and_run(&bytes);
            }
        }
    }
}

#[test]
fn random_changes_with_right_checksums_never_panic() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut next = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) as usize % n
    };
    for sample in samples() {
        // Numbers that occur somewhere in the file are likelier to mean something.
        for _ in 0..4000 {
            let mut bytes = sample.clone();
            for _ in 0..1 + next(3) {
                let (to, from) = (64 + next(sample.len() / 4 - 17) * 4, next(sample.len() / 4) * 4);
                let word: [u8; 4] = sample[from..from + 4].try_into().unwrap();
                if to + 4 <= bytes.len() {
                    bytes[to..to + 4].copy_from_slice(&word);
                }
            }
            repair(&mut bytes);
            load_and_run(&bytes);
        }
    }
}

#[test]
fn bytes_of_anything_are_refused() {
    let refused = |bytes: &[u8]| -> FormatError { Artifact::parse(bytes).unwrap_err() };
    for len in 0..600 {
        refused(&vec![0; len]);
        refused(&vec![0xff; len]);
        let mut bytes = vec![0x42; len];
        bytes.iter_mut().zip(b"BITC\x01\0\0\0").for_each(|(b, &m)| *b = m);
        refused(&bytes);
    }
}
