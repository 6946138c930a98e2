//! What each instruction asks of its operands, and the fault where one does not comply.

use alloc::vec;
use alloc::vec::Vec;

use super::instructions::{bit_linear, quantize};
use super::scaler;
use crate::inst::{Activation, BitLinear, Cast, Domain, Map, MapOp, Matmul, Quantize, Softmax, Step};
use crate::{ArtifactWriter, BufferId, ConstId, DType, DTypeSet, DimId, ErrorKind, Fault, Inst, Layout};

/// An artifact without inputs and outputs that matter: `add` builds buffers and returns the instruction to check.
fn contract(add: impl FnOnce(&mut Bench) -> Inst) -> Result<(), Fault> {
    let mut bench = Bench { w: scaler() };
    let inst = add(&mut bench);
    bench.w.push(inst);
    match bench.w.finish() {
        Ok(_) => Ok(()),
        Err(e) => match e.kind {
            ErrorKind::Contract { fault, .. } => Err(fault),
            other => panic!("{other}"),
        },
    }
}

struct Bench {
    w: ArtifactWriter,
}

impl Bench {
    fn typed(&mut self, dtype: DType, shape: &[i64], align: u32) -> BufferId {
        let dims: Vec<DimId> = shape.iter().map(|&d| self.w.fixed(d)).collect();
        let slot = self.w.slot();
        self.w.buffer(dtype, &dims, align, slot)
    }

    fn y(&mut self, shape: &[i64]) -> BufferId {
        self.typed(DType::F32, shape, 1)
    }

    /// A constant, which needs no instruction to be there.
    fn x(&mut self, shape: &[u64]) -> ConstId {
        let bytes = vec![0; shape.iter().product::<u64>() as usize * 4];
        self.w.constant(DType::F32, Layout::Dense, shape, &bytes)
    }
}

#[test]
fn contracts_name_what_is_broken() {
    let wrong_size = |what, expected, found| Err(Fault::Size { what, expected, found });
    assert_eq!(contract(|b| Cast { y: b.y(&[4]), x: b.x(&[2, 2]).into() }.into()), Ok(()));
    assert_eq!(contract(|b| Cast { y: b.y(&[4]), x: b.x(&[3]).into() }.into()), wrong_size("y", 3, 4));
    assert_eq!(
        contract(|b| Cast { y: b.typed(DType::F32, &[4], 64), x: b.x(&[4]).into() }.into()),
        Err(Fault::RowAlign { operand: "y", found: 64 })
    );
    assert_eq!(
        contract(|b| Softmax { y: b.typed(DType::I8, &[4], 1), x: b.x(&[4]).into(), axis: 0, log: false }.into()),
        Err(Fault::DType { operand: "y", found: DType::I8 })
    );
    assert_eq!(
        contract(|b| Softmax { y: b.y(&[4, 1]), x: b.x(&[4]).into(), axis: 0, log: false }.into()),
        Err(Fault::Rank { operand: "y", expected: 1, found: 2 })
    );
    assert_eq!(
        contract(|b| Softmax { y: b.y(&[4]), x: b.x(&[4]).into(), axis: 1, log: false }.into()),
        Err(Fault::Attribute { name: "axis", value: 1 })
    );
    let packed = Layout::Trit2.pack(2, 4, &[1; 8]).unwrap();
    assert_eq!(
        contract(|b| {
            let x = b.w.constant(DType::I8, Layout::Trit2, &[2, 4], &packed);
            Cast { y: b.y(&[8]), x: x.into() }.into()
        }),
        Err(Fault::Layout { operand: "x", found: Layout::Trit2 })
    );
    let map = |domain, steps: Vec<Step>, result| {
        contract(|b| {
            let xs = vec![b.x(&[4]).into()];
            Map { y: b.y(&[2, 4]), domain, xs, consts: vec![0], steps, result }.into()
        })
    };
    assert_eq!(map(Domain::F32, vec![], 1), Ok(()));
    assert_eq!(map(Domain::U64, vec![], 0), Err(Fault::DType { operand: "y", found: DType::F32 }));
    assert_eq!(map(Domain::F32, vec![], 2), Err(Fault::Attribute { name: "result", value: 2 }));
    let step = |args| vec![Step { op: MapOp::Add, args }];
    let register = |value| Err(Fault::Attribute { name: "register of a step", value });
    assert_eq!(map(Domain::F32, step([0, 1, 0]), 2), Ok(()));
    assert_eq!(map(Domain::F32, step([0, 2, 0]), 2), register(2));
    assert_eq!(map(Domain::F32, step([0, 1, 1]), 2), register(1));
    let many = vec![Step { op: MapOp::Abs, args: [0, 0, 0] }; 63];
    assert_eq!(map(Domain::F32, many, 2), Err(Fault::Attribute { name: "registers", value: 65 }));
    let wide = |op, x, y| {
        contract(|b| {
            let mut buffer = |dtype| {
                let (dims, slot) = ([b.w.fixed(4)], b.w.slot());
                b.w.buffer(dtype, &dims, 1, slot)
            };
            let (x, y) = (buffer(x), buffer(y));
            let port = DTypeSet::convertible_to(b.w.buffers[x.index()].dtype);
            b.w.input("wide", x, port);
            let steps = vec![Step { op, args: [0, 0, 0] }];
            Map { y, domain: Domain::I64, xs: vec![x.into()], consts: vec![], steps, result: 1 }.into()
        })
    };
    assert_eq!(wide(MapOp::BitAnd, DType::U32, DType::I8), Ok(()));
    assert_eq!(wide(MapOp::BitAnd, DType::U64, DType::I8), Err(Fault::DType { operand: "xs", found: DType::U64 }));
    assert_eq!(wide(MapOp::BitAnd, DType::I8, DType::F32), Err(Fault::DType { operand: "y", found: DType::F32 }));
    let sine = Err(Fault::Attribute { name: "operation of a step", value: 96 });
    assert_eq!(wide(MapOp::Sin, DType::I8, DType::I8), sine);
    let matmul = |a: &[u64], b_shape: &[u64], y: &[i64]| {
        contract(|b| {
            let (a, bm, y) = (b.x(a).into(), b.x(b_shape).into(), b.y(y));
            Matmul { y, a, b: bm, bias: None, transpose_b: false, activation: Activation::None }.into()
        })
    };
    assert_eq!(matmul(&[2, 3], &[3, 4], &[2, 4]), Ok(()));
    assert_eq!(matmul(&[2, 3], &[4, 4], &[2, 4]), wrong_size("the inner dimension of `b`", 3, 4));
    assert_eq!(matmul(&[5, 2, 3], &[6, 3, 4], &[5, 2, 4]), wrong_size("a batch dimension of `b`", 5, 6));
    assert_eq!(
        contract(|b| {
            let q = b.typed(DType::I8, &[1, 4], 64);
            let (scale, sums) = (b.y(&[1, 1]), b.typed(DType::I32, &[1], 1));
            let x = b.x(&[1, 4]).into();
            b.w.push(Quantize { q, scale, sums: Some(sums), x, ..quantize() });
            let w = b.x(&[2, 4]).into();
            BitLinear { y: b.y(&[1, 2]), q: q.into(), q_scale: scale.into(), sums: sums.into(), w, ..bit_linear() }
                .into()
        }),
        Err(Fault::Layout { operand: "w", found: Layout::Dense })
    );
    assert_eq!(
        contract(|b| {
            let q = b.typed(DType::I8, &[1, 4], 64);
            let (scale, x) = (b.y(&[1, 1]), b.x(&[1, 4]).into());
            b.w.push(Quantize { q, scale, sums: None, x, ..quantize() });
            BitLinear { y: b.y(&[1, 2]), q: q.into(), w: q.into(), ..bit_linear() }.into()
        }),
        Err(Fault::NotConst { operand: "w" })
    );
    assert_eq!(
        contract(|b| {
            let large = b.w.constant(DType::U8, Layout::Dense, &[1 << 40, 1 << 40, 0], &[]);
            Cast { y: b.typed(DType::U8, &[0], 1), x: large.into() }.into()
        }),
        Err(Fault::Overflow { what: "x" })
    );
}
