//! Logic kernels on a network like those that `optimize` leaves of six layers of random gates: packed words and bytes
//! in, class scores out, and the latency of one row. `cargo bench -p bitc-runtime --bench logic [NODES]`.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::time::{Duration, Instant};

use bitc_format::logic::{Encoder, Program, canonical_gate};
use bitc_runtime::kernels::{self, Kernels, LogicInput, LogicOutput, logic_scratch_words};

const INPUTS: u32 = 400;
const LAYERS: u32 = 6;
const GROUPS: u16 = 10;
const ROWS: usize = 8192;

/// A multiplicative generator; the same numbers in every run.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32
}

/// Layers of gates on random values of the layer before, equal tables together, the last layer counted in groups.
fn program(n_nodes: u32) -> Program {
    let tables: Vec<u8> =
        (0..=255).filter(|&t| canonical_gate(t).0 == t && t & 1 == 0 && t != 0 && t != 0xaa).collect();
    let per_layer = n_nodes / LAYERS;
    let mut e = Encoder::new(INPUTS, INPUTS + 2 * per_layer).expect("slots");
    let mut state = 1;
    let (mut first, mut n) = (0, INPUTS);
    for layer in 0..LAYERS {
        let to = INPUTS + layer % 2 * per_layer;
        for i in 0..per_layer {
            let table = tables[i as usize * tables.len() / per_layer as usize];
            let inputs = [(); 3].map(|()| first + random(&mut state) % n);
            e.gate(table, inputs, to + i);
        }
        (first, n) = (to, per_layer);
    }
    for group in 0..GROUPS {
        let size = n / u32::from(GROUPS);
        let start = first + u32::from(group) * size;
        e.count(group, false, &(start..start + size).collect::<Vec<_>>());
    }
    Program::parse(&e.finish(&[0; GROUPS as usize], &[]).expect("a program")).expect("a program")
}

/// The median time of a run, over about half a second.
fn median(mut run: impl FnMut()) -> Duration {
    run();
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) || times.len() < 5 {
        let start = Instant::now();
        run();
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

fn bench(isa: &dyn Kernels, program: &Program) {
    let n_inputs = program.n_inputs();
    let mut state = 7;
    let bytes: Vec<u8> = (0..ROWS * n_inputs).map(|_| (random(&mut state) & 1) as u8).collect();
    let words: Vec<[u64; 8]> =
        (0..ROWS / 512 * n_inputs).map(|_| [(); 8].map(|()| u64::from(random(&mut state)) << 32)).collect();
    // Slots begin at a cache line.
    let mut lines = vec![[0u64; 8]; logic_scratch_words(program).expect("scratch") / 8 + 1];
    let scratch = lines.as_flattened_mut();
    let skip = scratch.as_ptr().align_offset(64).min(7);
    let scratch = &mut scratch[skip..];
    let mut y = vec![0f32; ROWS * program.n_groups()];
    let mut time = |input: LogicInput<'_>, n_rows: usize| {
        median(|| {
            let output = LogicOutput::Scores { y: &mut y, tau: 1.0, beta: 0.0 };
            isa.logic(program, input, output, n_rows, scratch);
        })
    };
    let packed = time(LogicInput::Packed(&words), ROWS).as_secs_f64();
    let unpacked = time(LogicInput::Bytes(&bytes), ROWS).as_secs_f64();
    let one = time(LogicInput::Bytes(&bytes), 1);
    println!(
        "{:9} packed {:7.2} M rows/s   bytes {:7.2} M rows/s   one row {:7.2} us",
        isa.name(),
        ROWS as f64 / packed / 1e6,
        ROWS as f64 / unpacked / 1e6,
        one.as_secs_f64() * 1e6
    );
}

fn main() {
    let n_nodes = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_800).clamp(600, 100_000);
    let program = program(n_nodes);
    println!("{n_nodes} gates, {} slots", program.n_slots());
    for isa in kernels::available() {
        bench(isa, &program);
    }
}
