//! Builds an artifact around a few instructions and runs it.

use bitc_format::{ArtifactWriter, BufferId, DType, DTypeSet, DimId, Inst, Layout, Operand};
use bitc_runtime::{Element, Limits, Program, RunError, Session, View, ViewMut, kernels, len_bytes};

/// An artifact under construction, with the inputs to run it on.
pub(crate) struct Case {
    pub(crate) writer: ArtifactWriter,
    inputs: Vec<Array>,
    outputs: Vec<Array>,
}

/// An array with its own bytes.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Array {
    /// The elements, whose bytes may lie anywhere.
    pub(crate) fn to_vec<T: Element>(&self) -> Vec<T> {
        assert_eq!(self.dtype, T::DTYPE);
        // An aligned copy, so that the bytes can be seen as elements.
        let size = size_of::<T>();
        let mut words = vec![0u64; self.bytes.len().div_ceil(8)];
        let shape = [words.len()];
        let view = ViewMut::of(&shape, &mut words);
        view.bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        let whole = self.bytes.len() / size;
        let shape = [whole];
        View::new(T::DTYPE, &shape, &view.bytes[..whole * size]).elements::<T>().expect("aligned to 8").to_vec()
    }
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { writer: ArtifactWriter::new(), inputs: Vec::new(), outputs: Vec::new() }
    }

    fn dims(&mut self, shape: &[usize]) -> Vec<DimId> {
        shape.iter().map(|&d| self.writer.fixed(d as i64)).collect()
    }

    pub(crate) fn internal(&mut self, dtype: DType, shape: &[usize], row_align: u32) -> BufferId {
        let dims = self.dims(shape);
        let slot = self.writer.slot();
        self.writer.buffer(dtype, &dims, row_align, slot)
    }

    pub(crate) fn input_bytes(&mut self, dtype: DType, shape: &[usize], bytes: &[u8]) -> Operand {
        let buffer = self.internal(dtype, shape, 1);
        let name = format!("x{}", self.inputs.len());
        self.writer.input(&name, buffer, DTypeSet::of(&[dtype]));
        self.inputs.push(Array { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() });
        buffer.into()
    }

    pub(crate) fn input<T: Element>(&mut self, shape: &[usize], data: &[T]) -> Operand {
        self.input_bytes(T::DTYPE, shape, View::of(shape, data).bytes)
    }

    pub(crate) fn constant<T: Element>(&mut self, shape: &[usize], data: &[T]) -> Operand {
        let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        self.writer.constant(T::DTYPE, Layout::Dense, &dims, View::of(shape, data).bytes).into()
    }

    /// Packed weights; `shape` is `[rows, columns]` or `[groups, rows, columns]`.
    pub(crate) fn weights(&mut self, layout: Layout, shape: &[usize], values: &[i8]) -> Operand {
        let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let mut packed = Vec::new();
        for group in values.chunks((rows * columns).max(1)) {
            packed.extend(layout.pack(rows, columns, group).expect("values fit the layout"));
        }
        self.writer.constant(DType::I8, layout, &dims, &packed).into()
    }

    pub(crate) fn output(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        let buffer = self.internal(dtype, shape, 1);
        self.output_buffer(buffer, dtype, shape);
        buffer
    }

    pub(crate) fn output_buffer(&mut self, buffer: BufferId, dtype: DType, shape: &[usize]) {
        let name = format!("y{}", self.outputs.len());
        self.writer.output(&name, buffer, DTypeSet::of(&[dtype]));
        let bytes = vec![0xa5; len_bytes(dtype, shape).expect("small")];
        self.outputs.push(Array { dtype, shape: shape.to_vec(), bytes });
    }

    pub(crate) fn push(&mut self, inst: impl Into<Inst>) {
        self.writer.push(inst);
    }

    /// Runs on every kernel set; the results have the same bits on all.
    pub(crate) fn run(self) -> Vec<Array> {
        self.try_run().expect("the program runs")
    }

    pub(crate) fn try_run(self) -> Result<Vec<Array>, RunError> {
        let bytes = self.writer.finish().unwrap_or_else(|error| panic!("{error}"));
        let program = Program::from_bytes(&bytes, &Limits::default()).expect("the artifact was just checked");
        let mut results: Option<Vec<Array>> = None;
        for kernels in kernels::available() {
            let mut outputs = self.outputs.clone();
            let mut session = Session::with_kernels(&program, kernels);
            let inputs: Vec<View<'_>> = self.inputs.iter().map(|a| View::new(a.dtype, &a.shape, &a.bytes)).collect();
            // Twice, so that what the first run left behind is seen.
            for _ in 0..2 {
                let mut views: Vec<ViewMut<'_>> =
                    outputs.iter_mut().map(|a| ViewMut::new(a.dtype, &a.shape, &mut a.bytes)).collect();
                session.run(&inputs, &mut views)?;
            }
            if let Some(first) = &results {
                for (a, b) in first.iter().zip(&outputs) {
                    assert_eq!(a.bytes, b.bytes, "{} differs from {}", kernels.name(), kernels::best().name());
                }
            } else {
                results = Some(outputs);
            }
        }
        Ok(results.unwrap_or_default())
    }
}

/// Numbers from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A whole number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    pub(crate) fn f32(&mut self) -> f32 {
        (self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0) * 3.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.f32()).collect()
    }

    pub(crate) fn trits(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.below(3) as i8 - 1).collect()
    }
}

/// Every difference is at most `bound` times the larger of 1 and the expected value.
pub(crate) fn assert_close(found: &[f32], expected: &[f64], bound: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let close = (f64::from(f) - e).abs() <= bound * e.abs().max(1.0);
        let same = f64::from(f) == e || (f.is_nan() && e.is_nan());
        assert!(close || same, "element {i}: found {f}, expected {e}");
    }
}

/// All index tuples of a shape, in row-major order.
pub(crate) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &d in shape {
        all = all.into_iter().flat_map(|i| (0..d).map(move |j| [&i[..], &[j]].concat())).collect();
    }
    all
}

/// The position of an index tuple.
pub(crate) fn position(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |at, (&d, &i)| at * d + i)
}
