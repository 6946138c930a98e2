//! What a trace is shown.
#![cfg(not(feature = "minimal"))]

use bitc_format::inst::{Activation, BitConv2d, BitLinear, Floor, Granularity, Quantize, QuantizeKind};
use bitc_format::{ArtifactWriter, DType, DTypeSet, Layout, Meta};
use bitc_runtime::{Executed, Limits, Program, Session, Trace, View, ViewMut, kernels};

#[derive(Default)]
struct Record {
    lines: Vec<String>,
    accumulators: Vec<Vec<i32>>,
    last: Vec<u8>,
}

impl Trace for Record {
    fn executed(&mut self, step: &Executed<'_>) {
        let outputs: Vec<String> = step.outputs.iter().map(|(_, v)| format!("{}{:?}", v.dtype, v.shape)).collect();
        self.lines.push(format!(
            "{} {} {} {}",
            step.index,
            step.inst.name(),
            step.origins.join("+"),
            outputs.join(" ")
        ));
        self.accumulators.extend(step.accumulators.clone());
        self.last = step.outputs.last().map(|(_, v)| v.bytes.to_vec()).unwrap_or_default();
    }

    fn wants_accumulators(&self) -> bool {
        true
    }
}

#[test]
fn a_trace_sees_every_instruction_its_outputs_and_integer_sums() {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let (n, k, o) = (w.symbol_dim(n), w.fixed(3), w.fixed(2));
    let one_dim = w.fixed(1);
    let slots = [w.slot(), w.slot(), w.slot(), w.slot(), w.slot()];
    let x = w.buffer(DType::F32, &[n, k], 1, slots[0]);
    let q = w.buffer(DType::I8, &[n, k], 64, slots[1]);
    let scale = w.buffer(DType::F32, &[n, one_dim], 1, slots[2]);
    let sums = w.buffer(DType::I32, &[n], 1, slots[3]);
    let y = w.buffer(DType::F32, &[n, o], 1, slots[4]);
    let packed = Layout::Trit2.pack(2, 3, &[1, 0, -1, 1, 1, 1]).unwrap();
    let weights = w.constant(DType::I8, Layout::Trit2, &[2, 3], &packed);
    let half = w.constant(DType::F32, Layout::Dense, &[], View::of(&[], &[0.5f32]).bytes);
    w.input("x", x, DTypeSet::of(&[DType::F32]));
    w.output("y", y, DTypeSet::of(&[DType::F32]));
    w.push(Quantize {
        q,
        scale,
        sums: Some(sums),
        x: x.into(),
        kind: QuantizeKind::Integer,
        granularity: Granularity::Row,
        floor: Floor::None,
        eps: 0.0,
        levels: 127.0,
        lo: -128,
        hi: 127,
    });
    w.push(BitLinear {
        y,
        q: q.into(),
        q_scale: scale.into(),
        sums: sums.into(),
        w: weights.into(),
        scale: half.into(),
        bias: None,
        activation: Activation::None,
    });
    let origins = vec![vec!["fc/quant".to_owned()], vec!["fc".to_owned(), "fc/scale".to_owned()]];
    w.set_meta(Meta { origins, ..Meta::default() });
    let program = Program::from_bytes(&w.finish().unwrap(), &Limits::default()).unwrap();
    let mut session = Session::new(&program);
    let mut record = Record::default();
    let mut y = [0.0f32; 2];
    let x = [3.0f32, 5.4, -2.6];
    session.run_traced(&[View::of(&[1, 3], &x)], &mut [ViewMut::of(&[1, 2], &mut y)], &mut record).unwrap();
    assert_eq!(record.lines, ["0 quantize fc/quant i8[1, 3] f32[1, 1] i32[1]", "1 bit_linear fc+fc/scale f32[1, 2]",]);
    assert_eq!(record.accumulators, [[6, 5]]);
    assert_eq!(y, [3.0, 2.5]);
    assert_eq!(record.last, View::of(&[2], &y).bytes);
}

#[test]
fn sums_of_a_convolution_are_ordered_by_image_group_pixel_and_channel() {
    let (images, groups, n, height, width) = (2usize, 2usize, 67usize, 30usize, 41usize);
    let (channels, pixels) = (4 * groups, height * width);
    let mut w = ArtifactWriter::new();
    let slots = [w.slot(), w.slot(), w.slot(), w.slot()];
    let mut shape = |dims: [usize; 4]| dims.map(|d| w.fixed(d as i64));
    let (x_shape, y_shape) = (shape([images, channels, height, width]), shape([images, groups * n, height, width]));
    let one = shape([1; 4]);
    let x = w.buffer(DType::F32, &x_shape, 1, slots[0]);
    let q = w.buffer(DType::I8, &x_shape, 1, slots[1]);
    let scale = w.buffer(DType::F32, &one, 1, slots[2]);
    let y = w.buffer(DType::F32, &y_shape, 1, slots[3]);
    let values: Vec<i8> = (0..groups * n * 4).map(|i| (i * i / 3 % 3) as i8 - 1).collect();
    let packed: Vec<u8> = values.chunks(n * 4).flat_map(|group| Layout::Trit2.pack(n, 4, group).unwrap()).collect();
    let weights = w.constant(DType::I8, Layout::Trit2, &[groups as u64, n as u64, 4], &packed);
    let whole = w.constant(DType::F32, Layout::Dense, &[], View::of(&[], &[1.0f32]).bytes);
    w.input("x", x, DTypeSet::of(&[DType::F32]));
    w.output("y", y, DTypeSet::of(&[DType::F32]));
    w.push(Quantize {
        q,
        scale,
        sums: None,
        x: x.into(),
        kind: QuantizeKind::Integer,
        granularity: Granularity::Tensor,
        floor: Floor::None,
        eps: 0.0,
        levels: 127.0,
        lo: -128,
        hi: 127,
    });
    w.push(BitConv2d {
        y,
        q: q.into(),
        q_scale: scale.into(),
        w: weights.into(),
        scale: whole.into(),
        bias: None,
        kernel: [1; 2],
        strides: [1; 2],
        pads: [0; 4],
        dilations: [1; 2],
        activation: Activation::None,
    });
    let program = Program::from_bytes(&w.finish().unwrap(), &Limits::default()).unwrap();
    let x: Vec<f32> = (0..images * channels * pixels).map(|i| (i * 37 % 256) as f32 - 128.0).collect();
    let (x_shape, y_shape) = ([images, channels, height, width], [images, groups * n, height, width]);
    for kernels in kernels::available() {
        let mut record = Record::default();
        let mut y = vec![0.0f32; images * groups * n * pixels];
        let mut session = Session::with_kernels(&program, kernels);
        session.run_traced(&[View::of(&x_shape, &x)], &mut [ViewMut::of(&y_shape, &mut y)], &mut record).unwrap();
        let mut sums = record.accumulators[0].iter();
        for group in 0..images * groups {
            for pixel in 0..pixels {
                for o in group * n..(group + 1) * n {
                    assert_eq!(sums.next().map(|&sum| sum as f32), Some(y[o * pixels + pixel]), "{kernels:?}");
                }
            }
        }
        assert_eq!(sums.next(), None);
    }
}
