//! Programs and sessions from outside: ports, symbols, slots, errors.

use bitc_format::inst::{Cast, Domain, Map, MapOp, Slice, Step};
use bitc_format::{ArtifactWriter, BufferId, DType, DTypeSet, DimExpr};
use bitc_runtime::{Limits, LoadError, PortDim, Program, RunError, Session, View, ViewMut};

fn load(writer: ArtifactWriter) -> Program {
    let bytes = writer.finish().unwrap_or_else(|error| panic!("{error}"));
    Program::from_bytes(&bytes, &Limits::default()).unwrap()
}

fn one(dtype: DType) -> DTypeSet {
    DTypeSet::of(&[dtype])
}

/// `y = x + x`, f32 [N, 3].
fn doubler() -> ArtifactWriter {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    w.set_batch(n);
    let dims = [w.symbol_dim(n), w.fixed(3)];
    let (a, b) = (w.slot(), w.slot());
    let (x, y) = (w.buffer(DType::F32, &dims, 1, a), w.buffer(DType::F32, &dims, 1, b));
    w.input("x", x, one(DType::F32));
    w.output("y", y, one(DType::F32));
    w.push(sum(y, x, x));
    w
}

fn sum(y: BufferId, a: BufferId, b: BufferId) -> Map {
    let steps = vec![Step { op: MapOp::Add, args: [0, 1, 0] }];
    Map { y, domain: Domain::F32, xs: vec![a.into(), b.into()], consts: vec![], steps, result: 2 }
}

fn run_doubler(shape: &[usize], x: &[f32], y: &mut [f32]) -> Result<(), RunError> {
    let program = load(doubler());
    Session::new(&program).run(&[View::of(shape, x)], &mut [ViewMut::of(shape, y)])
}

#[test]
fn a_program_describes_its_ports() {
    let program = load(doubler());
    let [port] = program.inputs() else { panic!() };
    assert_eq!((port.name.as_str(), port.dtype), ("x", DType::F32));
    assert_eq!(port.shape, [PortDim::Symbol("N".into()), PortDim::Fixed(3)]);
    assert_eq!(program.batch_symbol(), Some("N"));
    assert_eq!(program.output_shapes(&[("N", 7)]).unwrap(), [[7, 3]]);
    assert_eq!(program.output_shapes(&[]).unwrap_err(), RunError::Symbol { name: "N".into() });
    assert_eq!(program.output_shapes(&[("M", 7)]).unwrap_err(), RunError::Symbol { name: "M".into() });
}

#[test]
fn batches_of_any_size_run_in_one_session() {
    let program = load(doubler());
    let mut session = Session::new(&program);
    for n in [2usize, 0, 5, 1, 2, 100, 3, 4, 6, 7, 8, 9, 2] {
        let x: Vec<f32> = (0..n * 3).map(|i| i as f32).collect();
        let mut y = vec![-1.0f32; n * 3];
        session.run(&[View::of(&[n, 3], &x)], &mut [ViewMut::of(&[n, 3], &mut y)]).unwrap();
        assert!(x.iter().zip(&y).all(|(x, y)| x + x == *y));
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused_by_name() {
    let mut y = [0.0f32; 6];
    let port = || "x".to_owned();
    let error = |result: Result<(), RunError>| result.unwrap_err();
    assert_eq!(
        error(run_doubler(&[2, 4], &[0.0; 8], &mut y)),
        RunError::Shape { port: port(), axis: 1, expected: 3, found: 4 }
    );
    assert_eq!(error(run_doubler(&[6], &[0.0; 6], &mut y)), RunError::Rank { port: port(), expected: 2, found: 1 });
    assert_eq!(
        error(run_doubler(&[2, 3], &[0.0; 5], &mut y)),
        RunError::Length { port: port(), expected: Some(24), found: 20 }
    );
    let program = load(doubler());
    let mut session = Session::new(&program);
    assert_eq!(
        error(session.run(&[View::of(&[2, 3], &[0i32; 6])], &mut [ViewMut::of(&[2, 3], &mut y)])),
        RunError::Type { port: port(), accepts: vec![DType::F32], found: DType::I32 }
    );
    assert_eq!(
        error(session.run(&[], &mut [ViewMut::of(&[2, 3], &mut y)])),
        RunError::Count { what: "input", expected: 1, found: 0 }
    );
    assert_eq!(
        error(session.run(&[View::of(&[2, 3], &[0f32; 6])], &mut [])),
        RunError::Count { what: "output", expected: 1, found: 0 }
    );
    assert_eq!(
        error(session.run(&[View::of(&[1, 3], &[0f32; 3])], &mut [ViewMut::of(&[2, 3], &mut y)])),
        RunError::Shape { port: "y".into(), axis: 0, expected: 1, found: 2 }
    );
}

#[test]
fn one_symbol_has_one_value() {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let n = w.symbol_dim(n);
    let slots = [w.slot(), w.slot(), w.slot()];
    let [a, b, y] = slots.map(|slot| w.buffer(DType::F32, &[n], 1, slot));
    w.input("a", a, one(DType::F32));
    w.input("b", b, one(DType::F32));
    w.output("y", y, one(DType::F32));
    w.push(sum(y, a, b));
    let program = load(w);
    let (x, mut y) = ([0.0f32; 3], [0.0f32; 2]);
    let inputs = [View::of(&[2], &x[..2]), View::of(&[3], &x)];
    let error = Session::new(&program).run(&inputs, &mut [ViewMut::of(&[2], &mut y)]).unwrap_err();
    assert_eq!(error, RunError::Shape { port: "b".into(), axis: 0, expected: 2, found: 3 });
}

/// The last `T - T / 2` elements of f32 [T].
fn second_half() -> ArtifactWriter {
    let mut w = ArtifactWriter::new();
    let t = w.symbol("T");
    let t = w.symbol_dim(t);
    let half = w.dim(DimExpr::FloorDiv(t, 2));
    let rest = w.dim(DimExpr::Sub(t, half));
    let (a, b) = (w.slot(), w.slot());
    let (x, y) = (w.buffer(DType::F32, &[t], 1, a), w.buffer(DType::F32, &[rest], 1, b));
    w.input("x", x, one(DType::F32));
    w.output("y", y, one(DType::F32));
    w.push(Slice { y, x: x.into(), starts: vec![half], steps: vec![1] });
    w
}

/// The build for embedding leaves most instructions out, and says which one it misses.
#[test]
fn a_build_refuses_what_it_cannot_run_by_name() {
    // The writer reads what it wrote.
    let bytes = second_half().finish();
    if cfg!(feature = "minimal") {
        let message = bytes.unwrap_err().to_string();
        assert!(message.contains("instruction `slice` is left out of this build"), "{message}");
    } else {
        assert_eq!(Program::from_bytes(&bytes.unwrap(), &Limits::default()).unwrap().outputs().len(), 1);
    }
}

#[cfg(not(feature = "minimal"))]
#[test]
fn dimensions_are_computed_when_inputs_are_bound() {
    let program = load(second_half());
    assert_eq!(program.output_shapes(&[("T", 7)]).unwrap(), [[4]]);
    let mut session = Session::new(&program);
    let x = [0.0f32, 1.0, 2.0, 3.0, 4.0];
    assert_eq!(session.output_shapes(&[View::of(&[5], &x)]).unwrap(), [[3]]);
    let mut y = [0.0f32; 3];
    session.run(&[View::of(&[5], &x)], &mut [ViewMut::of(&[3], &mut y)]).unwrap();
    assert_eq!(y, [2.0, 3.0, 4.0]);
}

#[cfg(not(feature = "minimal"))]
#[test]
fn contracts_that_depend_on_sizes_are_checked_when_binding() {
    // y[i] = x[i + 3]: reads past the end unless N >= 5.
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let (n, two, three) = (w.symbol_dim(n), w.fixed(2), w.fixed(3));
    let (a, b) = (w.slot(), w.slot());
    let (x, y) = (w.buffer(DType::F32, &[n], 1, a), w.buffer(DType::F32, &[two], 1, b));
    w.input("x", x, one(DType::F32));
    w.output("y", y, one(DType::F32));
    w.push(Slice { y, x: x.into(), starts: vec![three], steps: vec![1] });
    let program = load(w);
    let mut y = [0.0f32; 2];
    let mut run = |x: &[f32]| {
        let shape = [x.len()];
        Session::new(&program).run(&[View::of(&shape, x)], &mut [ViewMut::of(&[2], &mut y)])
    };
    run(&[0.0; 5]).unwrap();
    let Err(RunError::Sizes(error)) = run(&[0.0; 4]) else { panic!() };
    assert!(matches!(error.kind, bitc_format::ErrorKind::Contract { index: 0, inst: "slice", .. }), "{error}");
}

#[test]
fn slots_are_shared_over_time_and_by_reshapes() {
    // x [N, 2] -> t = x + x in slot b -> seen as [2 * N] -> y = t + t, with another slot reused in between.
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let n = w.symbol_dim(n);
    let two = w.fixed(2);
    let flat = w.dim(DimExpr::Mul(n, two));
    let (sx, sb, sc, sy) = (w.slot(), w.slot(), w.slot(), w.slot());
    let x = w.buffer(DType::F32, &[n, two], 1, sx);
    let t = w.buffer(DType::F32, &[n, two], 1, sb);
    let t_flat = w.buffer(DType::F32, &[flat], 1, sb);
    let u = w.buffer(DType::F32, &[flat], 1, sc);
    let again = w.buffer(DType::F32, &[flat], 1, sb);
    let y = w.buffer(DType::F32, &[n, two], 1, sy);
    let y_flat = w.buffer(DType::F32, &[flat], 1, sy);
    w.input("x", x, one(DType::F32));
    w.output("y", y, one(DType::F32));
    w.push(sum(t, x, x));
    w.push(sum(u, t_flat, t_flat));
    w.push(sum(again, u, u));
    w.push(sum(y_flat, again, again));
    let program = load(w);
    let mut y = [0.0f32; 4];
    Session::new(&program)
        .run(&[View::of(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0])], &mut [ViewMut::of(&[2, 2], &mut y)])
        .unwrap();
    assert_eq!(y, [16.0, 32.0, 48.0, 64.0]);
}

/// Copies a port of 0 and 1 to another one, both of the given types.
fn bit_copy(x: DType, y: DType) -> Program {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let dims = [w.symbol_dim(n), w.fixed(11)];
    let (a, b) = (w.slot(), w.slot());
    let (xb, yb) = (w.buffer(x, &dims, 1, a), w.buffer(y, &dims, 1, b));
    w.input("x", xb, DTypeSet::convertible_to(x));
    w.output("y", yb, DTypeSet::convertible_to(y));
    w.push(Cast { y: yb, x: xb.into() });
    load(w)
}

#[test]
fn ports_of_bits_take_bits_bytes_and_bools() {
    let bytes: Vec<u8> = (0..22).map(|i| u8::from(i % 3 == 0 || i == 10)).collect();
    let bits = [0b0100_1001, 0b110, 0b1001_0010, 0b100];
    let loud: Vec<u8> = bytes.iter().map(|b| b * 200).collect();
    for x in [DType::Bits, DType::Bool] {
        for y in [DType::Bits, DType::Bool] {
            let program = bit_copy(x, y);
            let mut session = Session::new(&program);
            for input in [
                View::new(DType::Bits, &[2, 11], &bits),
                View::new(DType::Bool, &[2, 11], &bytes),
                View::new(DType::U8, &[2, 11], &loud),
                View::new(DType::Bool, &[2, 11], &loud),
            ] {
                let (mut as_bits, mut as_bytes) = ([0xffu8; 4], [0xffu8; 22]);
                session.run(&[input], &mut [ViewMut::new(DType::Bits, &[2, 11], &mut as_bits)]).unwrap();
                assert_eq!(as_bits, bits, "{x} to {y} from {input:?}");
                for dtype in [DType::U8, DType::Bool] {
                    session.run(&[input], &mut [ViewMut::new(dtype, &[2, 11], &mut as_bytes)]).unwrap();
                    assert_eq!(as_bytes, bytes[..], "{x} to {y} from {input:?}");
                }
            }
        }
    }
}

#[test]
fn arrays_at_odd_addresses_are_copied() {
    let program = load(doubler());
    let mut memory = [0u8; 13];
    memory[1..].copy_from_slice(View::of(&[3], &[1.0f32, 2.0, 3.0]).bytes);
    let mut out = [0u8; 15];
    let mut session = Session::new(&program);
    session
        .run(&[View::new(DType::F32, &[1, 3], &memory[1..])], &mut [ViewMut::new(DType::F32, &[1, 3], &mut out[3..])])
        .unwrap();
    assert_eq!(&out[3..], View::of(&[3], &[2.0f32, 4.0, 6.0]).bytes);
}

#[test]
fn limits_hold() {
    let bytes = doubler().finish().unwrap();
    let small = Limits { artifact_bytes: 100, ..Limits::default() };
    let error = Program::from_bytes(&bytes, &small).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { bytes: bytes.len() as u64, limit: 100 });

    let mut w = doubler();
    let n = w.symbol("N");
    let (n, slot) = (w.symbol_dim(n), w.slot());
    w.buffer(DType::F32, &[n, n], 1, slot);
    let limits = Limits { arena_bytes: 5000, ..Limits::default() };
    let program = Program::from_bytes(&w.finish().unwrap(), &limits).unwrap();
    let mut session = Session::new(&program);
    let (x, mut y) = ([0.0f32; 90], [0.0f32; 90]);
    session.run(&[View::of(&[2, 3], &x[..6])], &mut [ViewMut::of(&[2, 3], &mut y[..6])]).unwrap();
    let error = session.run(&[View::of(&[30, 3], &x)], &mut [ViewMut::of(&[30, 3], &mut y)]).unwrap_err();
    assert!(matches!(error, RunError::Limit { limit: 5000, .. }), "{error}");
}

#[test]
fn a_program_may_lie_in_memory_of_the_caller() {
    #[repr(align(64))]
    struct Aligned([u8; 8192]);
    struct Owner(Box<Aligned>, usize, usize);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0.0[self.1..self.2]
        }
    }
    let bytes = doubler().finish().unwrap();
    let owner = |at: usize| {
        let mut memory = Box::new(Aligned([0; 8192]));
        memory.0[at..at + bytes.len()].copy_from_slice(&bytes);
        Box::new(Owner(memory, at, at + bytes.len()))
    };
    let program = Program::from_owner(owner(64), &Limits::default()).unwrap();
    let mut y = [0.0f32; 3];
    Session::new(&program).run(&[View::of(&[1, 3], &[1.0f32; 3])], &mut [ViewMut::of(&[1, 3], &mut y)]).unwrap();
    assert_eq!(y, [2.0; 3]);
    assert_eq!(Program::from_owner(owner(4), &Limits::default()).unwrap_err(), LoadError::Unaligned);
}

#[test]
fn programs_and_errors_pass_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Program>();
    check::<LoadError>();
    check::<RunError>();
    let program = load(doubler());
    std::thread::scope(|scope| {
        for n in 1..3usize {
            let program = &program;
            scope.spawn(move || {
                let (x, mut y) = (vec![1.0f32; n * 3], vec![0.0f32; n * 3]);
                let mut session = Session::new(program);
                session.run(&[View::of(&[n, 3], &x)], &mut [ViewMut::of(&[n, 3], &mut y)]).unwrap();
                assert!(y.iter().all(|&v| v == 2.0));
            });
        }
    });
}

#[cfg(not(feature = "minimal"))]
#[test]
fn after_an_error_the_session_still_works() {
    let mut w = ArtifactWriter::new();
    let n = w.symbol("N");
    let n = w.symbol_dim(n);
    let slots = [w.slot(), w.slot(), w.slot()];
    let x = w.buffer(DType::F32, &[n], 1, slots[0]);
    let i = w.buffer(DType::I64, &[n], 1, slots[1]);
    let y = w.buffer(DType::F32, &[n], 1, slots[2]);
    w.input("x", x, one(DType::F32));
    w.input("i", i, one(DType::I64));
    w.output("y", y, one(DType::F32));
    w.push(bitc_format::inst::Gather { y, x: x.into(), indices: i.into(), axis: 0 });
    let program = load(w);
    let mut session = Session::new(&program);
    let mut y = [0.0f32; 2];
    let mut run = |i: &[i64]| {
        let inputs = [View::of(&[2], &[5.0f32, 6.0]), View::of(&[2], i)];
        session.run(&inputs, &mut [ViewMut::of(&[2], &mut y)])
    };
    assert_eq!(run(&[0, 2]).unwrap_err(), RunError::Index { inst: 0, index: 2, size: 2 });
    run(&[1, 0]).unwrap();
    assert_eq!(y, [6.0, 5.0]);
}
