//! Times runs of an artifact in this process: warm, by wall clock and by processor time.
//!
//! A run may take microseconds, less than reading a clock can be trusted with, so runs are timed in groups that last at
//! least `GROUP`. Quantiles are over groups, each value the mean of its group.

use std::time::{Duration, Instant};

use bitc_ir::{DType, Tensor};
use bitc_runtime::kernels::Kernels;
use bitc_runtime::{Program, Session, View};
use serde::Serialize;

use crate::clock;
use crate::error::Diagnostic;
use crate::runnable;

/// The shortest time that is measured at once.
const GROUP: Duration = Duration::from_micros(200);
/// The fewest groups that quantiles are taken from.
const MIN_GROUPS: usize = 5;

/// Nanoseconds per run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of the groups took less.
    pub median: f64,
    /// A tenth took less.
    pub p10: f64,
    /// Nine tenths took less.
    pub p90: f64,
    /// The fastest.
    pub min: f64,
}

/// Measured times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// By wall clock.
    pub wall: Quantiles,
    /// Processor time of the process; as `wall` where the system cannot tell.
    pub cpu: Quantiles,
    /// How many runs were timed.
    pub iterations: u64,
}

/// How bits are given to a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As arrays: rows of bytes.
    Rows,
    /// Packed across rows already.
    Words,
}

/// Bits packed across rows, 512 rows in eight words per element of a row; `None` for an array of something else.
pub fn words_of(tensor: &Tensor) -> Option<Vec<[u64; 8]>> {
    let (&columns, outer) = tensor.dims().split_last()?;
    if tensor.dtype() != DType::Bool {
        return None;
    }
    let rows: usize = outer.iter().product();
    let mut words = vec![[0u64; 8]; rows.div_ceil(512) * columns];
    for (row, bits) in tensor.bytes().chunks_exact(columns.max(1)).enumerate() {
        for (word, &bit) in words[row / 512 * columns..].iter_mut().zip(bits) {
            word[row % 512 / 64] |= u64::from(bit != 0) << (row % 64);
        }
    }
    Some(words)
}

/// Copies of one program, each with memory of its own, run in turn.
pub struct Copies {
    programs: Vec<Program>,
}

impl Copies {
    /// As many copies of an artifact as fill `bytes` bytes, at least one.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn new(artifact: &[u8], bytes: u64) -> Result<Self, Diagnostic> {
        let count = bytes.div_ceil((artifact.len() as u64).max(1)).max(1);
        Ok(Self { programs: (0..count).map(|_| runnable::load(artifact)).collect::<Result<_, _>>()? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.programs.len()
    }

    /// The first program.
    pub fn first(&self) -> &Program {
        &self.programs[0]
    }

    /// Times runs on these inputs for at least `time`, after warming up; `expected` is what every copy must answer.
    ///
    /// # Errors
    /// If a run fails, or an output is not as expected.
    pub fn time(
        &self,
        inputs: &[Tensor],
        form: Form,
        expected: &[Tensor],
        kernels: &'static dyn Kernels,
        time: Duration,
    ) -> Result<Times, Diagnostic> {
        let mut sessions: Vec<_> = self.programs.iter().map(|p| Session::with_kernels(p, kernels)).collect();
        let words: Vec<_> = inputs.iter().map(|t| if form == Form::Words { words_of(t) } else { None }).collect();
        let mut views = runnable::views(inputs)?;
        for ((view, words), input) in views.iter_mut().zip(&words).zip(inputs) {
            if let Some(words) = words {
                *view = View::words(input.dims(), words);
            }
        }
        let shapes = sessions[0].output_shapes(&views).map_err(runnable::run_error)?;
        let mut buffers = runnable::output_buffers(self.first(), &shapes)?;
        let mut outputs = runnable::output_views(self.first(), &shapes, &mut buffers);
        for session in &mut sessions {
            session.run(&views, &mut outputs).map_err(runnable::run_error)?;
            for (view, expected) in outputs.iter().zip(expected) {
                if *view.bytes != *expected.bytes() {
                    return Err(Diagnostic::bug("a timed run answers differently from an ordinary one"));
                }
            }
        }
        let mut at = 0;
        let mut run = |n: u64| {
            for _ in 0..n {
                sessions[at].run(&views, &mut outputs)?;
                at = (at + 1) % sessions.len();
            }
            Ok(())
        };
        let times = measure(time, &mut run).map_err(runnable::run_error)?;
        Ok(times)
    }
}

/// Calls `run` with numbers of runs until `time` has passed and there are enough groups.
///
/// # Errors
/// What `run` fails with.
pub fn measure<E>(time: Duration, run: &mut dyn FnMut(u64) -> Result<(), E>) -> Result<Times, E> {
    // The size of a group: doubled until it lasts long enough.
    let mut group = 1u64;
    loop {
        let begun = Instant::now();
        run(group)?;
        if begun.elapsed() >= GROUP || group >= 1 << 30 {
            break;
        }
        group *= 2;
    }
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    let end = Instant::now() + time;
    while wall.len() < MIN_GROUPS || Instant::now() < end {
        let begun_cpu = clock::process_cpu();
        let begun = Instant::now();
        run(group)?;
        let elapsed = begun.elapsed();
        let used = clock::process_cpu().zip(begun_cpu).map_or(elapsed, |(now, then)| now.saturating_sub(then));
        wall.push(elapsed.as_nanos() as f64 / group as f64);
        cpu.push(used.as_nanos() as f64 / group as f64);
    }
    Ok(Times { iterations: group * wall.len() as u64, wall: quantiles(wall), cpu: quantiles(cpu) })
}

/// The quantiles of values, of which there is at least one.
fn quantiles(mut values: Vec<f64>) -> Quantiles {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let position = q * (values.len() - 1) as f64;
        let (low, high) = (values[position.floor() as usize], values[position.ceil() as usize]);
        low + (high - low) * position.fract()
    };
    Quantiles { median: at(0.5), p10: at(0.1), p90: at(0.9), min: values[0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let q = quantiles(vec![5.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!((q.median, q.min), (3.0, 1.0));
        assert!((q.p10 - 1.4).abs() < 1e-12 && (q.p90 - 4.6).abs() < 1e-12);
        assert_eq!(quantiles(vec![7.0]).p90, 7.0);
    }

    #[test]
    fn bits_are_packed_across_rows() {
        let bits: Vec<u8> = (0..600 * 3).map(|i| u8::from(i % 7 == 0)).collect();
        let words = words_of(&Tensor::with_dtype(DType::Bool, &[600, 3], &bits)).unwrap();
        assert_eq!(words.len(), 6);
        for (i, &bit) in bits.iter().enumerate() {
            let (row, column) = (i / 3, i % 3);
            assert_eq!(words[row / 512 * 3 + column][row % 512 / 64] >> (row % 64) & 1, u64::from(bit));
        }
        assert_eq!(words_of(&Tensor::splat(&[2, 3], 1f32)), None);
    }

    #[test]
    fn short_work_is_timed_in_groups() {
        let mut calls = 0u64;
        let times = measure(Duration::from_millis(2), &mut |n| {
            calls += n;
            std::thread::sleep(Duration::from_micros(50 * n.min(10)));
            Ok::<(), ()>(())
        });
        let times = times.unwrap();
        assert!(times.iterations >= 5 && calls > times.iterations);
        assert!(times.wall.min > 0.0 && times.wall.min <= times.wall.median && times.wall.median <= times.wall.p90);
    }
}
