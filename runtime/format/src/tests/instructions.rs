//! Every instruction comes back from its words as it was.

use alloc::vec;
use alloc::vec::Vec;

use crate::inst::{
    Activation, ArgReduce, BitCast, BitConv2d, BitConv2dQuantize, BitLinear, BitLinearQuantize, Cast, Combine, Concat,
    Conv2d, DequantLinear, Domain, Expand, Floor, Gather, Granularity, Iota, LayerNorm, Logic, LogicHead, Map, MapOp,
    Matmul, Pad, PadMode, Pick, Pool2d, PoolKind, Quantize, QuantizeKind, Reduce, ReduceOp, RmsNorm, Scan, Scatter,
    Sizes, Slice, Softmax, Step, Steps, TopK, Transpose,
};
use crate::{BufferId, ConstId, DimId, Inst};

pub(super) fn quantize() -> Quantize {
    Quantize {
        q: BufferId(0),
        scale: BufferId(0),
        sums: None,
        x: BufferId(0).into(),
        kind: QuantizeKind::Divide,
        granularity: Granularity::Row,
        floor: Floor::Clip,
        eps: 1e-6,
        levels: 127.0,
        lo: -127,
        hi: 127,
    }
}

pub(super) fn bit_linear() -> BitLinear {
    BitLinear {
        y: BufferId(0),
        q: BufferId(0).into(),
        q_scale: ConstId(0).into(),
        sums: ConstId(0).into(),
        w: ConstId(0).into(),
        scale: ConstId(0).into(),
        bias: None,
        activation: Activation::None,
    }
}

/// One of each instruction, with values that make every field differ from its neighbours. They need not be valid.
fn every_instruction() -> Vec<Inst> {
    let (y, x, c) = (BufferId(3), BufferId(5), ConstId(7));
    let conv = BitConv2d {
        y,
        q: x.into(),
        q_scale: c.into(),
        w: c.into(),
        scale: c.into(),
        bias: None,
        kernel: [1, 2],
        strides: [3, 4],
        pads: [5, 6, 7, 8],
        dilations: [9, 10],
        activation: Activation::Sigmoid,
    };
    let steps = Steps { step: 0.25, divide: true, offset: -11, lo: -128, hi: 127 };
    vec![
        Map {
            y,
            domain: Domain::I64,
            xs: vec![x.into(), c.into()],
            consts: vec![u64::MAX, 1],
            steps: vec![Step { op: MapOp::Clip, args: [1, 2, 3] }],
            result: 4,
        }
        .into(),
        Cast { y, x: x.into() }.into(),
        Transpose { y, x: c.into(), perm: vec![1, 0] }.into(),
        Concat { y, xs: vec![x.into()], axis: 9 }.into(),
        Slice { y, x: x.into(), starts: vec![DimId(1)], steps: vec![-2] }.into(),
        Pad { y, x: x.into(), before: vec![DimId(4)], mode: PadMode::Wrap, value: 1 << 40 }.into(),
        Expand { y, x: x.into() }.into(),
        BitCast { y, x: x.into() }.into(),
        Iota { y }.into(),
        Sizes { y, dims: vec![DimId(2), DimId(6)] }.into(),
        Reduce { y, x: x.into(), op: ReduceOp::LogSumExp, axes: 5 }.into(),
        ArgReduce { y, x: x.into(), axis: 1, min: true, last: false }.into(),
        Scan { y, x: x.into(), axis: 1, product: true, exclusive: false, reverse: true }.into(),
        TopK { y, positions: BufferId(4), x: x.into(), axis: 2, largest: true }.into(),
        Softmax { y, x: x.into(), axis: 2, log: true }.into(),
        LayerNorm { y, x: x.into(), gamma: Some(c.into()), beta: None, axis: 1, eps: 0.5 }.into(),
        RmsNorm { y, x: x.into(), gamma: None, axis: 1, eps: 0.25 }.into(),
        Matmul {
            y,
            a: x.into(),
            b: c.into(),
            bias: None,
            transpose_b: true,
            activation: Activation::Clip { lo: -1.0, hi: 6.0 },
        }
        .into(),
        DequantLinear {
            y,
            x: x.into(),
            w: c.into(),
            scale: c.into(),
            group: 32,
            bias: None,
            activation: Activation::None,
        }
        .into(),
        Conv2d {
            y,
            x: x.into(),
            w: c.into(),
            bias: Some(x.into()),
            strides: [1, 2],
            pads: [3, 4, 5, 6],
            dilations: [7, 8],
            groups: 9,
            activation: Activation::Relu2,
        }
        .into(),
        Pool2d {
            y,
            x: x.into(),
            kind: PoolKind::Average,
            kernel: [1, 2],
            strides: [3, 4],
            pads: [5, 6, 7, 8],
            dilations: [9, 10],
        }
        .into(),
        Quantize { sums: Some(BufferId(8)), floor: Floor::Add, ..quantize() }.into(),
        BitLinear { bias: Some(c.into()), activation: Activation::Tanh, ..bit_linear() }.into(),
        BitLinearQuantize { layer: bit_linear(), row_sums: Some(BufferId(8)), steps: steps.clone() }.into(),
        conv.clone().into(),
        BitConv2dQuantize { layer: conv, steps }.into(),
        Logic {
            y,
            x: x.into(),
            program: c.into(),
            features: Some(ConstId(8).into()),
            thresholds: None,
            head: LogicHead::Argmax,
            tau: 2.5,
            beta: -1.0,
        }
        .into(),
        Gather { y, x: x.into(), indices: c.into(), axis: 3 }.into(),
        Pick { y, x: x.into(), indices: c.into(), axis: None, batch: 2 }.into(),
        Scatter { y, x: x.into(), indices: c.into(), updates: x.into(), axis: Some(1), combine: Combine::Max }.into(),
    ]
}

#[test]
fn every_instruction_comes_back() {
    let all = every_instruction();
    let opcodes: Vec<(u16, &str)> = all.iter().map(|inst| (inst.opcode(), inst.name())).collect();
    assert_eq!(opcodes, Inst::TABLE, "one of each, in the order of the table");
    assert!(opcodes.is_sorted_by_key(|(opcode, _)| *opcode));
    for inst in all {
        let mut bytes = Vec::new();
        inst.write(&mut bytes);
        let mut cursor = crate::cursor::Cursor::new(&bytes, 0);
        assert_eq!(Inst::read(&mut cursor).unwrap(), inst);
        assert!(cursor.finish().is_ok());
    }
}
