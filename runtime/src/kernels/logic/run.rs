//! Running a logic program over slots.
//!
//! The table of a gate is a constant of its loop, so that it is one instruction where the instruction set has one; a run
//! of gates therefore costs one jump, and nothing per gate but loads, the gate and a store. Tables of more inputs come
//! as data: the sixteen functions of the first two inputs are laid out in a small array, the table picks eight or
//! sixteen of them, and multiplexers on the other inputs reduce those to one.
//!
//! Slots are as many as a power of two, so that a number from the program is masked instead of compared (`Slots`): it is
//! one of them already.
//!
//! Where a closure would do, macros stand: a closure is compiled without the instructions of its surroundings until it
//! is inlined, and the methods of an instruction set cannot be inlined into it before that.

use bitc_format::logic::{Program, Run, lut_words};

use crate::isa::bits::{Bits, Slots};

/// Bit planes that counting keeps in registers; a group has at least these.
pub(super) const PLANES_IN_REGISTERS: usize = 4;
/// The multiplexer: the second input where the first is 0, the third where it is 1.
const SELECT: i32 = 0xe4;
/// Sources counted at once.
const SOURCES: usize = 16;
/// The numbers below `SOURCES`, as the words of a program name them.
const REST: [u64; 4] = [0x0003_0002_0001_0000, 0x0007_0006_0005_0004, 0x000b_000a_0009_0008, 0x000f_000e_000d_000c];
const REST_WIDE: [u64; 8] = [
    0x0000_0001_0000_0000,
    0x0000_0003_0000_0002,
    0x0000_0005_0000_0004,
    0x0000_0007_0000_0006,
    0x0000_0009_0000_0008,
    0x0000_000b_0000_000a,
    0x0000_000d_0000_000c,
    0x0000_000f_0000_000e,
];

/// Runs all of `program`: gates read and write `slots`, as many as a power of two, counts go to `planes`, `n_planes` per
/// group.
#[inline(always)]
pub(super) fn run<I: Bits<N>, const N: usize>(
    isa: I,
    program: &Program,
    slots: &mut [[u64; N]],
    planes: &mut [[u64; N]],
    n_planes: usize,
) {
    // Loops that know the width of slot numbers, and whether they count complements, are faster and more code.
    if cfg!(feature = "minimal") {
        run_as(isa, program, program.is_wide(), slots, planes, n_planes);
    } else if program.is_wide() {
        run_as(isa, program, true, slots, planes, n_planes);
    } else {
        run_as(isa, program, false, slots, planes, n_planes);
    }
}

/// See [`run`].
#[inline(always)]
fn run_as<I: Bits<N>, const N: usize>(
    isa: I,
    program: &Program,
    wide: bool,
    slots: &mut [[u64; N]],
    planes: &mut [[u64; N]],
    n_planes: usize,
) {
    let slots = &mut Slots::new(slots);
    let mut rest = [[0; N]; SOURCES];
    for run in program.runs() {
        match run {
            // A loop for each table is a lot of code.
            Run::Gates { table, records } if cfg!(feature = "minimal") && !I::TABLE_IS_ONE_INSTRUCTION => {
                gates_by_data(isa, wide, table, records, slots);
            }
            Run::Gates { table, records } => gates(isa, wide, table, records, slots),
            Run::Luts { records, .. } => luts(isa, wide, records, slots),
            Run::Count { group, negated, n, sources } => {
                let planes = &mut planes[usize::from(group) * n_planes..][..n_planes];
                if cfg!(feature = "minimal") {
                    count(isa, wide, negated, (sources, n as usize), slots, planes, &mut rest);
                } else if negated {
                    count(isa, wide, true, (sources, n as usize), slots, planes, &mut rest);
                } else {
                    count(isa, wide, false, (sources, n as usize), slots, planes, &mut rest);
                }
            }
        }
    }
}

/// The canonical tables, by how many inputs they read, each with a loop of its own.
macro_rules! dispatch {
    ($run:expr, $wide:expr, $table:expr, $records:expr, $slots:expr, [$($t0:literal)*] [$($t1:literal)*] [$($t2:literal)*] [$($t3:literal)*]) => {
        match $table {
            $($t0 => gates_of::<I, N, $t0, 0>($run, $wide, $records, $slots),)*
            $($t1 => gates_of::<I, N, $t1, 1>($run, $wide, $records, $slots),)*
            $($t2 => gates_of::<I, N, $t2, 2>($run, $wide, $records, $slots),)*
            $($t3 => gates_of::<I, N, $t3, 3>($run, $wide, $records, $slots),)*
            // A checked program has canonical tables only.
            _ => {}
        }
    };
}

#[inline(always)]
fn gates<I: Bits<N>, const N: usize>(isa: I, wide: bool, table: u8, records: &[u64], slots: &mut Slots<'_, N>) {
    dispatch!(isa, wide, table, records, slots,
        [
            0x00 0xff]
        [
            0x55 0xaa]
        [
            0x11 0x22 0x66 0x77 0x88 0x99 0xbb 0xee]
        [
            0x01 0x02 0x06 0x07 0x08 0x09 0x0b 0x0e 0x16 0x17 0x18 0x19 0x1a 0x1b 0x1e 0x1f
            0x28 0x29 0x2a 0x2b 0x2c 0x2d 0x2e 0x2f 0x3d 0x3e 0x68 0x69 0x6a 0x6b 0x6e 0x6f
            0x7e 0x7f 0x80 0x81 0x82 0x83 0x86 0x87 0x89 0x8a 0x8b 0x8e 0x8f 0x96 0x97 0x98
            0x9a 0x9b 0x9e 0x9f 0xa8 0xa9 0xab 0xac 0xad 0xae 0xbc 0xbd 0xbe 0xbf 0xe8 0xe9
            0xea 0xeb 0xef 0xfe]
    );
}

/// One table over many records; `READS` says how many of its inputs it reads.
#[inline(always)]
fn gates_of<I: Bits<N>, const N: usize, const TABLE: i32, const READS: usize>(
    isa: I,
    wide: bool,
    records: &[u64],
    slots: &mut Slots<'_, N>,
) {
    macro_rules! gate {
        ($record:expr) => {{
            let record: &[u64] = $record;
            let a = isa.load(slots.field::<0>(wide, record));
            let b = if READS > 1 { isa.load(slots.field::<1>(wide, record)) } else { a };
            let c = if READS > 2 { isa.load(slots.field::<2>(wide, record)) } else { b };
            isa.store(isa.table::<TABLE>(a, b, c), slots.field_mut::<3>(wide, record));
        }};
    }
    let mut rest = records;
    if I::TABLE_IS_ONE_INSTRUCTION && !wide && !cfg!(feature = "minimal") {
        let (fours, last) = records.as_chunks::<4>();
        for [a, b, c, d] in fours {
            gate!(&[*a]);
            gate!(&[*b]);
            gate!(&[*c]);
            gate!(&[*d]);
        }
        rest = last;
    }
    for record in rest.chunks_exact(gate_words(wide)) {
        gate!(record);
    }
}

/// One table over many records, as data: multiplexers on the inputs pick one of its eight bits.
#[inline(always)]
fn gates_by_data<I: Bits<N>, const N: usize>(isa: I, wide: bool, table: u8, records: &[u64], slots: &mut Slots<'_, N>) {
    let bits: [[u64; N]; 8] = core::array::from_fn(|i| [0u64.wrapping_sub(u64::from(table >> i & 1)); N]);
    for record in records.chunks_exact(gate_words(wide)) {
        let a = isa.load(slots.field::<0>(wide, record));
        let b = isa.load(slots.field::<1>(wide, record));
        let c = isa.load(slots.field::<2>(wide, record));
        macro_rules! half {
            ($i:literal $j:literal $k:literal $l:literal) => {{
                let low = isa.table::<SELECT>(a, isa.load(&bits[$i]), isa.load(&bits[$j]));
                let high = isa.table::<SELECT>(a, isa.load(&bits[$k]), isa.load(&bits[$l]));
                isa.table::<SELECT>(b, low, high)
            }};
        }
        isa.store(isa.table::<SELECT>(c, half!(0 1 2 3), half!(4 5 6 7)), slots.field_mut::<3>(wide, record));
    }
}

/// Tables of four to six inputs, all evaluated as six.
#[inline(always)]
fn luts<I: Bits<N>, const N: usize>(isa: I, wide: bool, records: &[u64], slots: &mut Slots<'_, N>) {
    // The sixteen functions of two inputs, by their tables; two sets, so that the next record need not wait.
    let mut sets = [[[0u64; N]; 16]; 2];
    for set in &mut sets {
        set[15] = [u64::MAX; N];
    }
    let mut odd = 0;
    for record in records.chunks_exact(lut_words(wide)) {
        let set = &mut sets[odd];
        odd ^= 1;
        let table = record[lut_words(wide) - 1];
        let a = isa.load(slots.field::<0>(wide, record));
        let b = isa.load(slots.field::<1>(wide, record));
        let c = isa.load(slots.field::<2>(wide, record));
        let d = isa.load(slots.field::<3>(wide, record));
        let e = isa.load(slots.field::<4>(wide, record));
        let f = isa.load(slots.field::<5>(wide, record));
        macro_rules! fill {
            ($($i:literal $table:literal,)*) => {
                $(isa.store(isa.table::<$table>(a, b, b), &mut set[$i]);)*
            };
        }
        fill!(1 0x11, 2 0x22, 3 0x33, 4 0x44, 5 0x55, 6 0x66, 7 0x77, 8 0x88, 9 0x99, 10 0xaa, 11 0xbb, 12 0xcc, 13 0xdd,
            14 0xee,);
        macro_rules! leaf {
            ($i:literal) => {
                isa.load(&set[(table >> (4 * $i) & 15) as usize])
            };
        }
        macro_rules! select {
            ($by:ident, $low:expr, $high:expr) => {
                isa.table::<SELECT>($by, $low, $high)
            };
        }
        macro_rules! quarter {
            ($i:literal $j:literal $k:literal $l:literal) => {
                select!(d, select!(c, leaf!($i), leaf!($j)), select!(c, leaf!($k), leaf!($l)))
            };
        }
        let low = select!(e, quarter!(0 1 2 3), quarter!(4 5 6 7));
        let high = select!(e, quarter!(8 9 10 11), quarter!(12 13 14 15));
        isa.store(select!(f, low, high), slots.field_mut::<6>(wide, record));
    }
}

/// Adds sources to the bit planes of a group, sixteen at a time through a tree of full adders.
#[inline(always)]
fn count<I: Bits<N>, const N: usize>(
    isa: I,
    wide: bool,
    negated: bool,
    (sources, n): (&[u64], usize),
    slots: &mut Slots<'_, N>,
    planes: &mut [[u64; N]],
    rest: &mut [[u64; N]; SOURCES],
) {
    let per_word = 4 / gate_words(wide);
    let complement = [0u64.wrapping_sub(u64::from(negated)); N];
    let (low, high) = planes.split_at_mut(PLANES_IN_REGISTERS);
    let [ones, twos, fours, eights] = low else { return };
    let (mut s1, mut s2, mut s4, mut s8) = (isa.load(ones), isa.load(twos), isa.load(fours), isa.load(eights));
    let names: &[u64] = if wide { &REST_WIDE } else { &REST };
    let chunks = sources.chunks(SOURCES / per_word).take(n.div_ceil(SOURCES));
    for (i, chunk) in chunks.enumerate() {
        let left = n - i * SOURCES;
        let few;
        let (words, slots) = if left >= SOURCES {
            (chunk, &*slots)
        } else {
            // What is left of the last sixteen is counted with slots that add nothing.
            rest.fill(complement);
            for (i, to) in rest.iter_mut().enumerate().take(left) {
                // The fields of a word, one after the other.
                let word = chunk[i / per_word] >> (i % per_word * (64 / per_word));
                isa.store(isa.load(slots.field::<0>(wide, &[word, 0])), to);
            }
            few = Slots::new(&mut *rest);
            (names, &few)
        };
        macro_rules! source {
            ($i:expr) => {{
                let bits = isa.load(slots.field::<{ $i }>(wide, words));
                if cfg!(feature = "minimal") {
                    let flip = isa.load(&complement);
                    isa.table::<0x66>(bits, flip, flip)
                } else {
                    bits
                }
            }};
        }
        macro_rules! two {
            ($i:expr) => {{
                let (a, b) = (source!($i), source!($i + 1));
                if negated && !cfg!(feature = "minimal") {
                    add_complements(isa, &mut s1, a, b)
                } else {
                    add(isa, &mut s1, a, b)
                }
            }};
        }
        macro_rules! four {
            ($i:expr) => {{
                let (a, b) = (two!($i), two!($i + 2));
                add(isa, &mut s2, a, b)
            }};
        }
        let (a, b) = (four!(0), four!(4));
        let (c, d) = (four!(8), four!(12));
        let (a, b) = (add(isa, &mut s4, a, b), add(isa, &mut s4, c, d));
        let carry = add(isa, &mut s8, a, b);
        ripple(isa, carry, high);
    }
    isa.store(s1, ones);
    isa.store(s2, twos);
    isa.store(s4, fours);
    isa.store(s8, eights);
}

/// A full adder: `sum` becomes the low bit of `sum + a + b`; answers the high bit.
#[inline(always)]
fn add<I: Bits<N>, const N: usize>(isa: I, sum: &mut I::Slot, a: I::Slot, b: I::Slot) -> I::Slot {
    let carry = isa.table::<0xe8>(*sum, a, b);
    *sum = isa.table::<0x96>(*sum, a, b);
    carry
}

/// [`add`] of the complements of `a` and `b`, which leave the low bit as it is.
#[inline(always)]
fn add_complements<I: Bits<N>, const N: usize>(isa: I, sum: &mut I::Slot, a: I::Slot, b: I::Slot) -> I::Slot {
    let carry = isa.table::<0x2b>(*sum, a, b);
    *sum = isa.table::<0x96>(*sum, a, b);
    carry
}

/// Adds a bit to planes, lowest first.
#[inline(always)]
fn ripple<I: Bits<N>, const N: usize>(isa: I, mut carry: I::Slot, planes: &mut [[u64; N]]) {
    for plane in planes {
        let bits = isa.load(plane);
        isa.store(isa.table::<0x66>(bits, carry, carry), plane);
        carry = isa.table::<0x88>(bits, carry, carry);
    }
}

/// Words of a gate.
#[inline(always)]
fn gate_words(wide: bool) -> usize {
    if wide { 2 } else { 1 }
}
