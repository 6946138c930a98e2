//! Every fault an artifact can have, what comes back from a round trip, and the example of FORMAT.md.

mod contracts;
mod instructions;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::image::Image;
use crate::inst::{Cast, Domain, Map, MapOp, ReduceOp, Slice, Softmax, Step};
use crate::read::kind;
use crate::{
    Artifact, ArtifactWriter, BufferId, ConstId, DType, DTypeSet, DimExpr, DimId, ErrorKind, Fault, Inst, Layer,
    Layout, Meta, Shared, SlotId, SymbolId,
};

/// `y = x * c` for f32 [N, 2].
fn scaler() -> ArtifactWriter {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    w.set_batch(n);
    let dims = [w.symbol_dim(n), w.fixed(2)];
    let (a, b) = (w.slot(), w.slot());
    let (x, y) = (w.buffer(DType::F32, &dims, 1, a), w.buffer(DType::F32, &dims, 1, b));
    let c: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let c = w.constant(DType::F32, Layout::Dense, &[2], &c);
    w.input("x", x, DTypeSet::of(&[DType::F32]));
    w.output("y", y, DTypeSet::of(&[DType::F32]));
    let steps = vec![Step { op: MapOp::Mul, args: [0, 1, 0] }];
    w.push(Map { y, domain: Domain::F32, xs: vec![x.into(), c.into()], consts: vec![], steps, result: 2 });
    w
}

fn error(writer: ArtifactWriter) -> ErrorKind {
    writer.finish().unwrap_err().kind
}

fn parse_error(bytes: &[u8]) -> ErrorKind {
    Artifact::parse(bytes).unwrap_err().kind
}

/// The bytes of the sections of an artifact.
fn sections(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    (0..word(16) as usize)
        .map(|i| {
            let entry = 64 + i * 32;
            let (start, len) = (word(entry + 8) as usize, word(entry + 16) as usize);
            (word(entry), bytes[start..start + len].to_vec())
        })
        .collect()
}

/// The file made of these sections.
fn assemble(sections: &[(u32, Vec<u8>)]) -> Vec<u8> {
    Image::assemble(sections.iter().map(|(kind, bytes)| (*kind, bytes.clone().into())).collect()).to_bytes()
}

/// The error after one section was replaced; its checksum is right.
fn with_section(kind: u32, change: impl FnOnce(&mut Vec<u8>)) -> ErrorKind {
    let mut sections = sections(&scaler().finish().unwrap());
    change(&mut sections.iter_mut().find(|s| s.0 == kind).unwrap().1);
    parse_error(&assemble(&sections))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn header_faults_are_told_apart() {
    let good = scaler().finish().unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        parse_error(&bytes)
    };
    assert!(matches!(parse_error(&good[..3]), ErrorKind::Truncated { needed: 4, found: 3 }));
    assert_eq!(changed(0, b'X'), ErrorKind::Magic);
    assert_eq!(changed(4, 9), ErrorKind::Version { major: 9 });
    let len = good.len() as u64;
    assert_eq!(parse_error(&good[..good.len() - 1]), ErrorKind::Length { stated: len, found: len - 1 });
    assert_eq!(changed(16, 255), ErrorKind::TooMany { what: "sections", max: 64, found: 255 });
    assert!(matches!(changed(20, 1), ErrorKind::NotZero { .. }));
    assert!(matches!(changed(63, 1), ErrorKind::NotZero { .. }));
    assert!(matches!(changed(64 + 24, 1), ErrorKind::NotZero { what: "the section table" }));
    assert!(matches!(changed(64 + 4, !good[64 + 4]), ErrorKind::Checksum { .. }));
    assert_eq!(changed(64 + 9, 0), ErrorKind::SectionOffset { expected: 256, found: 0 });
    // A newer minor version only has more of what may be skipped.
    let mut minor = good;
    minor[6] = 7;
    assert!(Artifact::parse(&minor).is_ok());
}

#[test]
fn sections_ascend_and_are_known_or_skippable() {
    let good = sections(&scaler().finish().unwrap());
    let swapped: Vec<_> = [1, 0, 2, 3, 4, 5].iter().map(|&i| good[i].clone()).collect();
    assert_eq!(parse_error(&assemble(&swapped)), ErrorKind::SectionOrder { kind: kind::DIMS });
    let mut twice = good.clone();
    twice.insert(1, good[0].clone());
    assert_eq!(parse_error(&assemble(&twice)), ErrorKind::SectionOrder { kind: kind::DIMS });
    for i in 0..good.len() {
        let mut missing = good.clone();
        missing.remove(i);
        assert!(matches!(parse_error(&assemble(&missing)), ErrorKind::SectionMissing { .. }), "{i}");
    }
    let mut unknown = good.clone();
    unknown.push((7, vec![]));
    assert_eq!(parse_error(&assemble(&unknown)), ErrorKind::SectionUnknown { kind: 7 });
    let mut zero = good.clone();
    zero.insert(0, (0, vec![]));
    assert_eq!(parse_error(&assemble(&zero)), ErrorKind::SectionUnknown { kind: 0 });
    let mut skipped = good;
    skipped.push((0x9000, vec![1, 2, 3]));
    let bytes = assemble(&skipped);
    assert_eq!(Artifact::parse(&bytes).unwrap().contents().sections().last().unwrap().0, "unknown");
}

#[test]
fn there_are_no_holes() {
    let good = scaler().finish().unwrap();
    let mut longer = good.clone();
    longer.push(0);
    let len = longer.len() as u64;
    longer[8..16].copy_from_slice(&len.to_le_bytes());
    assert_eq!(parse_error(&longer), ErrorKind::Trailing { bytes: 1 });
    // The byte before the second section is padding.
    let mut dirty = good;
    let second = u32::from_le_bytes(dirty[96 + 8..96 + 12].try_into().unwrap()) as usize;
    dirty[second - 1] = 1;
    assert_eq!(parse_error(&dirty), ErrorKind::NotZero { what: "the padding of a section" });
}

#[test]
fn tables_end_where_they_say() {
    for kind in [kind::DIMS, kind::IO, kind::BUFFERS, kind::CONSTS, kind::CODE, kind::DATA] {
        assert_eq!(with_section(kind, |bytes| bytes.extend([0; 4])), ErrorKind::Trailing { bytes: 4 }, "{kind}");
        let cut = with_section(kind, |bytes| bytes.truncate(bytes.len() - 4));
        assert!(matches!(cut, ErrorKind::Truncated { .. }), "{kind}: {cut}");
    }
}

#[test]
fn counts_are_limited_before_anything_is_reserved() {
    for (kind, at) in [(kind::DIMS, 0), (kind::IO, 0), (kind::BUFFERS, 4), (kind::CONSTS, 0), (kind::CODE, 0)] {
        let found = with_section(kind, |bytes| put(bytes, at, u32::MAX));
        assert!(matches!(found, ErrorKind::TooMany { found: 0xffff_ffff, .. }), "{kind}: {found}");
        let found = with_section(kind, |bytes| put(bytes, at, 4000));
        assert!(matches!(found, ErrorKind::Truncated { needed: 16_000.., .. }), "{kind}: {found}");
    }
    let slots = with_section(kind::BUFFERS, |bytes| put(bytes, 0, 3));
    assert_eq!(slots, ErrorKind::TooMany { what: "slots", max: 2, found: 3 });
}

#[test]
fn dimension_faults_are_told_apart() {
    // dims: count, "N" (8 bytes), batch, count, then entries of 16 bytes: symbol 0, const 2.
    let dims = |at, value| with_section(kind::DIMS, |bytes| put(bytes, at, value));
    assert_eq!(with_section(kind::DIMS, |bytes| bytes[8] = 0xff), ErrorKind::Text);
    assert_eq!(with_section(kind::DIMS, |bytes| bytes[9] = 1), ErrorKind::NotZero { what: "the padding of a name" });
    assert_eq!(dims(4, 1 << 20), ErrorKind::TooMany { what: "bytes of a name", max: 1 << 16, found: 1 << 20 });
    assert_eq!(dims(12, 1), ErrorKind::Index { what: "symbol", value: 1, count: 1 });
    assert_eq!(dims(20, 9), ErrorKind::Code { what: "kind of dimension", value: 9 });
    assert_eq!(dims(24, 1), ErrorKind::Index { what: "symbol", value: 1, count: 1 });
    assert_eq!(dims(28, 1), ErrorKind::NotZero { what: "a dimension" });
    // The second entry as a sum of the first and itself, which is not an earlier one.
    assert_eq!(
        with_section(kind::DIMS, |bytes| {
            put(bytes, 36, 2);
            put(bytes, 44, 1);
        }),
        ErrorKind::Index { what: "earlier dimension", value: 1, count: 1 }
    );
    assert_eq!(
        with_section(kind::DIMS, |bytes| {
            put(bytes, 36, 5);
            put(bytes, 44, 0);
        }),
        ErrorKind::Code { what: "divisor of a dimension", value: 0 }
    );
    let twice = with_section(kind::DIMS, |bytes| {
        let name = bytes[4..12].to_vec();
        put(bytes, 0, 2);
        bytes.splice(4..4, name);
    });
    assert_eq!(twice, ErrorKind::Duplicate { what: "symbols" });
    let mut w = scaler();
    w.symbol("M");
    assert_eq!(error(w), ErrorKind::UnboundSymbol { symbol: 1 });
    let mut w = scaler();
    let big = w.fixed(i64::MAX);
    w.dim(DimExpr::Add(big, big));
    assert_eq!(error(w), ErrorKind::Size { what: "dimension", index: 3 });
}

#[test]
fn buffer_faults_are_told_apart() {
    // buffers: slots, count, then entries dtype, align, slot, rank, dims.
    let buffers = |at, value| with_section(kind::BUFFERS, |bytes| put(bytes, at, value));
    assert_eq!(buffers(8, 99), ErrorKind::Code { what: "element type", value: 99 });
    for align in [0, 3, 128] {
        let value = u64::from(align);
        assert_eq!(buffers(12, align), ErrorKind::Code { what: "alignment of rows", value });
    }
    assert_eq!(buffers(16, 2), ErrorKind::Index { what: "slot", value: 2, count: 2 });
    assert_eq!(buffers(20, 9), ErrorKind::TooMany { what: "dimensions of a buffer", max: 8, found: 9 });
    assert_eq!(buffers(24, 2), ErrorKind::Index { what: "dimension", value: 2, count: 2 });
    for dims in [vec![-1], vec![i64::MAX, 2], vec![i64::MAX]] {
        let mut w = scaler();
        let dims: Vec<DimId> = dims.into_iter().map(|d| w.fixed(d)).collect();
        let slot = w.slot();
        w.buffer(DType::F32, &dims, 1, slot);
        assert_eq!(error(w), ErrorKind::Size { what: "buffer", index: 2 });
    }
}

#[test]
fn port_faults_are_told_apart() {
    // io: count, "x" (8 bytes), buffer, accepted types.
    let io = |at, value| with_section(kind::IO, |bytes| put(bytes, at, value));
    assert_eq!(io(12, 2), ErrorKind::Index { what: "buffer", value: 2, count: 2 });
    assert_eq!(io(16, 1 << 20), ErrorKind::Code { what: "set of types", value: 1 << 20 });
    assert_eq!(io(16, 0), ErrorKind::PortType { buffer: DType::F32, accepts: 0 });
    assert_eq!(io(16, 1 << 2), ErrorKind::PortType { buffer: DType::F32, accepts: 4 });
    let mut w = scaler();
    w.output("y", BufferId(1), DTypeSet::of(&[DType::F32]));
    assert_eq!(error(w), ErrorKind::Duplicate { what: "port names" });
    let mut w = scaler();
    w.output("z", BufferId(1), DTypeSet::of(&[DType::F32]));
    assert_eq!(error(w), ErrorKind::Duplicate { what: "slots of ports" });
}

#[test]
fn constant_faults_are_told_apart() {
    // consts: count, then dtype, layout, rank, dims (u64), offset (u64), length (u64).
    let consts = |at, value| with_section(kind::CONSTS, |bytes| put(bytes, at, value));
    assert_eq!(consts(4, 14), ErrorKind::Code { what: "element type", value: 14 });
    assert_eq!(consts(8, 77), ErrorKind::Code { what: "layout of a constant", value: 77 });
    assert_eq!(consts(16, 3), ErrorKind::ConstLength { expected: Some(12), found: 8 });
    assert_eq!(consts(20, u32::MAX), ErrorKind::ConstLength { expected: None, found: 8 });
    assert_eq!(consts(24, 64), ErrorKind::ConstOffset { expected: 0, found: 64 });
    // Packed weights have a type and a rank of their own.
    assert_eq!(consts(8, Layout::Trit2.code()), ErrorKind::ConstLength { expected: None, found: 8 });
    let mut w = scaler();
    w.constant(DType::I8, Layout::Trit2, &[1, 1], &[0; 63]);
    assert!(matches!(error(w), ErrorKind::ConstLength { expected: Some(_), found: 63 }));
    let mut w = scaler();
    w.constant(DType::U8, Layout::Dense, &[1], &[1]);
    let mut all = sections(&w.finish().unwrap());
    all[5].1[63] = 1;
    assert_eq!(parse_error(&assemble(&all)), ErrorKind::NotZero { what: "the padding of `data`" });
}

#[test]
fn code_faults_are_told_apart() {
    // code: count, then opcode | n << 16 and words: y, domain, xs, consts, steps, result.
    let code = |at, value| with_section(kind::CODE, |bytes| put(bytes, at, value));
    assert_eq!(code(4, 0x0100 | 8 << 16), ErrorKind::Truncated { needed: 4, found: 0 });
    assert!(matches!(code(4, 0x0100 | 10 << 16), ErrorKind::Truncated { .. }));
    assert!(matches!(code(4, 0xeeee | 9 << 16), ErrorKind::Opcode { opcode: 0xeeee }));
    assert_eq!(code(8, 2), ErrorKind::Index { what: "buffer", value: 2, count: 2 });
    assert_eq!(code(12, 9), ErrorKind::Code { what: "domain of a map", value: 9 });
    assert_eq!(code(16, 99), ErrorKind::Truncated { needed: 396, found: 24 });
    assert_eq!(code(16, 99_999), ErrorKind::TooMany { what: "entries of a list", max: 1 << 14, found: 99_999 });
    assert_eq!(code(24, 1 | 1 << 31), ErrorKind::Index { what: "constant", value: 1, count: 1 });
    assert_eq!(code(36, 199), ErrorKind::Code { what: "operation of a map", value: 199 });
    let longer = with_section(kind::CODE, |bytes| {
        put(bytes, 4, 0x0100 | 10 << 16);
        bytes.extend([0; 4]);
    });
    assert_eq!(longer, ErrorKind::Trailing { bytes: 4 });
    let mut w = scaler();
    let start = DimId(99);
    w.push(Slice { y: BufferId(1), x: BufferId(0).into(), starts: vec![start; 2], steps: vec![1; 2] });
    assert_eq!(error(w), ErrorKind::Index { what: "dimension", value: 99, count: 2 });
}

#[test]
fn data_flow_faults_are_told_apart() {
    let copy = |y, x: BufferId| Cast { y, x: x.into() };
    let extra = |w: &mut ArtifactWriter, slot| w.buffer(DType::F32, &[DimId(0), DimId(1)], 1, slot);
    let mut w = scaler();
    let slot = w.slot();
    let t = extra(&mut w, slot);
    w.push(copy(BufferId(1), t));
    assert_eq!(error(w), ErrorKind::ReadBeforeWrite { buffer: 2 });
    let mut w = scaler();
    w.push(copy(BufferId(0), BufferId(1)));
    assert_eq!(error(w), ErrorKind::InputWritten { buffer: 0 });
    let mut w = scaler();
    w.push(copy(BufferId(1), BufferId(1)));
    assert_eq!(error(w), ErrorKind::SlotConflict { buffer: 1 });
    let mut w = scaler();
    let t = extra(&mut w, SlotId(1));
    w.push(copy(t, BufferId(1)));
    assert_eq!(error(w), ErrorKind::SlotConflict { buffer: 2 });
    let mut w = scaler();
    let slot = w.slot();
    let z = extra(&mut w, slot);
    w.output("z", z, DTypeSet::of(&[DType::F32]));
    assert_eq!(error(w), ErrorKind::OutputNotWritten { output: 1 });
    // The slot of a port holds nothing of another type or size.
    let mut w = scaler();
    w.buffer(DType::I32, &[DimId(0), DimId(1)], 1, SlotId(0));
    assert_eq!(error(w), ErrorKind::Alias { buffer: 2 });
    // What is read differs in type, or in size, from what was written to its slot.
    for (dtype, n) in [(DType::U32, 2), (DType::F32, 3)] {
        let mut w = scaler();
        let (two, n) = (w.fixed(2), w.fixed(n));
        let slot = w.slot();
        let t = w.buffer(DType::F32, &[two], 1, slot);
        let other = w.buffer(dtype, &[n], 1, slot);
        let slot = w.slot();
        let copied = w.buffer(dtype, &[n], 1, slot);
        w.push(Cast { y: t, x: ConstId(0).into() });
        w.push(copy(copied, other));
        assert_eq!(error(w), ErrorKind::Alias { buffer: 3 });
    }
    // The rows of a port are not padded.
    let mut w = scaler();
    let (two, slot) = (w.fixed(2), w.slot());
    let x = w.buffer(DType::I8, &[two], 64, slot);
    w.input("p", x, DTypeSet::of(&[DType::I8]));
    assert_eq!(error(w), ErrorKind::Alias { buffer: 2 });
}

#[test]
fn origins_belong_to_instructions() {
    let mut w = scaler();
    w.set_meta(Meta { origins: vec![vec![]; 2], ..Meta::default() });
    assert_eq!(error(w), ErrorKind::Index { what: "origin", value: 2, count: 1 });
}

#[test]
fn messages_say_what_and_where() {
    let error = Artifact::parse(b"BITCx").unwrap_err();
    assert_eq!(error.to_string(), "expected 2 more bytes, found 1 (at byte 4)");
    let mut w = scaler();
    w.push(Cast { y: BufferId(1), x: ConstId(0).into() });
    let c = w.constant(DType::F32, Layout::Dense, &[], &[0; 4]);
    w.push(Softmax { y: BufferId(1), x: c.into(), axis: 0, log: false });
    let error = w.finish().unwrap_err();
    let message = error.kind.to_string();
    assert_eq!(message, "instruction 2 (`softmax`): `y` must have rank 0, found 2");
}

#[test]
fn an_artifact_comes_back() {
    let mut w = scaler();
    let n = w.symbol("N");
    let n = w.symbol_dim(n);
    let three = w.fixed(3);
    for expr in [DimExpr::Add(n, three), DimExpr::Sub(three, n), DimExpr::Mul(n, n), DimExpr::FloorDiv(n, 7)] {
        w.dim(expr);
    }
    let packed = Layout::Trit2.pack(2, 3, &[1, 0, -1, 0, 1, 1]).unwrap();
    w.constant(DType::I8, Layout::Trit2, &[1, 2, 3], &packed);
    let slot = w.slot();
    let y2 = w.buffer(DType::Bool, &[DimId(0), DimId(1)], 1, slot);
    w.output("mask", y2, DTypeSet::convertible_to(DType::Bool));
    w.push(Cast { y: y2, x: BufferId(0).into() });
    let layer = Layer {
        name: "fc1".into(),
        op: "bit_linear".into(),
        method: "trained".into(),
        layout: "trit2".into(),
        weights: 6,
        zeros: 2,
        source_bytes: 24,
        packed_bytes: 64,
        macs: 6,
    };
    let meta = Meta {
        producer: "bitc 0.1.0".into(),
        target: "any".into(),
        origins: vec![vec!["a".into(), "Äß".into()], vec![]],
        layers: vec![layer],
    };
    w.set_meta(meta.clone());
    w.set_ir(b"graph @g".to_vec());
    w.note("ai.bitc.made", "from\ntwo lines");
    let bytes = w.clone().finish().unwrap();
    assert_eq!(bytes, w.clone().finish().unwrap(), "the same tables give the same bytes");
    let artifact = Artifact::parse(&bytes).unwrap();
    let contents = artifact.contents();
    assert_eq!(contents.dims(), &w.dims);
    assert_eq!((contents.inputs(), contents.outputs()), (&w.inputs[..], &w.outputs[..]));
    assert_eq!((contents.buffers(), contents.consts()), (&w.buffers[..], &w.consts[..]));
    assert_eq!(contents.code(), w.code);
    assert_eq!(contents.n_slots(), 3);
    assert_eq!(contents.meta(), Some(&meta));
    assert_eq!(artifact.ir(), Some(&b"graph @g"[..]));
    assert_eq!(contents.notes(), [("ai.bitc.made".into(), "from\ntwo lines".into())]);
    assert_eq!(artifact.const_bytes(&w.consts[1]), packed);
    assert_eq!(contents.dims().batch(), Some(SymbolId(0)));
    let names: Vec<&str> = contents.sections().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["dims", "io", "buffers", "consts", "code", "data", "meta", "ir", "notes"]);
}

#[test]
fn sizes_are_checked_when_they_are_known() {
    let mut w = scaler();
    let n = w.symbol("N");
    let n = w.symbol_dim(n);
    let (five, slot) = (w.fixed(5), w.slot());
    let y = w.buffer(DType::F32, &[five], 1, slot);
    w.push(Slice { y, x: ConstId(0).into(), starts: vec![n], steps: vec![1] });
    // While N is unknown nothing can be said; afterwards elements N to N + 4 of two are asked for.
    let bytes = w.finish().unwrap();
    let artifact = Artifact::parse(&bytes).unwrap();
    let values = artifact.contents().dims().evaluate(&[Some(1)]).unwrap();
    let e = artifact.contents().check(&values).unwrap_err();
    let fault = Fault::Attribute { name: "starts", value: 5 };
    assert_eq!(e.kind, ErrorKind::Contract { index: 1, inst: "slice", fault });
    let bytes = scaler().finish().unwrap();
    let artifact = Artifact::parse(&bytes).unwrap();
    let contents = artifact.contents();
    let values = contents.dims().evaluate(&[Some(u64::from(u32::MAX))]).unwrap();
    assert!(contents.check(&values).is_ok());
    assert!(contents.dims().evaluate(&[Some(u64::MAX)]).is_err());
    let values = contents.dims().evaluate(&[Some(1 << 62)]).unwrap();
    assert_eq!(contents.check(&values).unwrap_err().kind, ErrorKind::Size { what: "buffer", index: 0 });
}

/// Sixteen bytes to a line; a line that repeats the one before is left out, with one `*` for all of them.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut last: Option<&[u8]> = None;
    let mut skipping = false;
    for (i, line) in bytes.chunks(16).enumerate() {
        if last == Some(line) && (i + 1) * 16 < bytes.len() {
            if !skipping {
                text.push_str("*\n");
            }
            skipping = true;
            continue;
        }
        skipping = false;
        last = Some(line);
        let hex: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        let shown: String = line.iter().map(|&b| if (32..127).contains(&b) { char::from(b) } else { '.' }).collect();
        text.push_str(&format!("{:08x}  {:<47}  |{shown}|\n", i * 16, hex.join(" ")));
    }
    text
}

#[test]
fn the_specification_shows_real_bytes_and_every_instruction() {
    let specification = include_str!("../FORMAT.md");
    let bytes = scaler().finish().unwrap();
    assert!(specification.contains(&dump(&bytes)), "FORMAT.md must contain:\n{}", dump(&bytes));
    for (opcode, name) in Inst::TABLE {
        assert!(specification.contains(&format!("| {opcode:#06x} | `{name}` |")), "{name}");
    }
    for op in MapOp::ALL {
        assert!(specification.contains(&format!("{} `{}`", op.code(), op.name())), "{}", op.name());
    }
    for op in ReduceOp::ALL {
        assert!(specification.contains(&format!("{} `{}`", op.code(), op.name())), "{}", op.name());
    }
    for dtype in DType::ALL {
        assert!(specification.contains(&format!("{} `{dtype}`", dtype.code())), "{dtype}");
    }
    for layout in Layout::ALL {
        assert!(specification.contains(&format!("{} `{}`", layout.code(), layout.name())), "{}", layout.name());
    }
}

#[test]
fn an_image_is_the_file_in_pieces() {
    let large = vec![7u8; 10_000];
    let with = |len: u64| {
        let mut w = scaler();
        w.shared_constant(DType::U8, Layout::Dense, &[len], Shared::new(large.clone()));
        w.constant(DType::U8, Layout::Dense, &[3], &[1, 2, 3]);
        w.shared_constant(DType::U8, Layout::Dense, &[10_000], Shared::new(large.clone()));
        w.set_ir(b"graph".to_vec());
        w
    };
    let (image, file) = (with(10_000).image().unwrap(), with(10_000).finish().unwrap());
    assert_eq!(image.len_bytes(), file.len() as u64);
    assert_eq!(image.to_bytes(), file);
    assert!(image.pieces().filter(|piece| *piece == large).count() == 2, "large constants are not copied");
    let (image, file) = (with(9_999).image().unwrap_err(), with(9_999).finish().unwrap_err());
    assert_eq!(image, file);
}
