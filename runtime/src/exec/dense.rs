//! Float products and windows.

use bitc_format::inst::{Conv2d, Matmul, Pool2d, PoolKind};
use bitc_format::{DType, Operand};

use crate::RunError;
use crate::arena::{self, AlignedBytes, Pod};
use crate::bind::Binding;
use crate::frame::Frame;
use crate::kernels::Slide;
use crate::kernels::dense::Product;
use crate::kernels::math;
use crate::kernels::number::Number;
use crate::kernels::window::{self, Convolution};
use crate::program::Program;

/// Calls `multiply` with the factors of each pair of matrices and the place of their product; the sizes are columns and
/// inner dimension.
fn each_product<T: Pod>(
    frame: &mut Frame<'_, '_>,
    inst: &Matmul,
    mut multiply: impl FnMut(&Frame<'_, '_>, [usize; 2], [&[T]; 2], &mut AlignedBytes, &mut [T]) -> Result<(), RunError>,
) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [T], scratch| {
        let (a, b) = (frame.array::<T>(inst.a)?, frame.array::<T>(inst.b)?);
        let shape = frame.shape(inst.y);
        let rank = shape.len();
        let (m, n, k) = (shape[rank - 2], shape[rank - 1], a.shape.last_or_one());
        let (a_strides, b_strides) = (a.shape.broadcast_strides(shape), b.shape.broadcast_strides(shape));
        for (batch, y) in y.chunks_exact_mut(m * n).enumerate() {
            let (mut rest, mut a_at, mut b_at) = (batch, 0, 0);
            for axis in (0..rank - 2).rev() {
                let i = rest % shape[axis];
                a_at += i * a_strides[axis];
                b_at += i * b_strides[axis];
                rest /= shape[axis];
            }
            multiply(frame, [n, k], [&a.data[a_at..][..m * k], &b.data[b_at..][..k * n]], scratch, y)?;
        }
        Ok(())
    })
}

/// The shape of an operand before anything runs.
fn shape_of<'p>(program: &'p Program, binding: &'p Binding, operand: Operand) -> &'p [usize] {
    let (shapes, index) = match operand {
        Operand::Buffer(id) => (&binding.shapes[..], id.index()),
        Operand::Const(id) => (program.const_shapes(), id.index()),
    };
    shapes.get(index).map_or(&[], |shape| &shape[..])
}

/// Bytes for packed columns.
pub(crate) fn matmul_scratch(inst: &Matmul, program: &Program, binding: &Binding) -> usize {
    let (y, a) = (shape_of(program, binding, inst.y.into()), shape_of(program, binding, inst.a));
    let (&[.., m, n], Some(&k)) = (y, a.last()) else { return 0 };
    Product::packed_len(m, k, n).saturating_mul(size_of::<f32>())
}

/// Bytes for packed windows.
pub(crate) fn conv_scratch(inst: &Conv2d, program: &Program, binding: &Binding) -> usize {
    let (y, w) = (shape_of(program, binding, inst.y.into()), shape_of(program, binding, inst.w));
    let (&[_, outputs, height, width], [_, inner @ ..]) = (y, w) else { return 0 };
    let outputs = outputs / (inst.groups as usize).max(1);
    Convolution::packed_len(outputs, inner.iter().product(), height * width).saturating_mul(size_of::<f32>())
}

/// All of the scratch memory as elements.
fn packed(scratch: &mut AlignedBytes) -> Result<&mut [f32], RunError> {
    arena::elements_mut(scratch.bytes_mut()).ok_or(RunError::ProgramChanged)
}

pub(crate) fn matmul(frame: &mut Frame<'_, '_>, inst: &Matmul) -> Result<(), RunError> {
    match frame.dtype(inst.y) {
        DType::F64 => return plain_matmul::<f64>(frame, inst),
        DType::I64 => return plain_matmul::<i64>(frame, inst),
        DType::U64 => return plain_matmul::<u64>(frame, inst),
        DType::I32 => return plain_matmul::<i32>(frame, inst),
        DType::U32 => return plain_matmul::<u32>(frame, inst),
        _ => {}
    }
    each_product(frame, inst, |frame, [n, k], [a, b], scratch, y: &mut [f32]| {
        let (bias, transposed) = (frame.optional::<f32>(inst.bias)?, inst.transpose_b);
        let product = Product { a, b, k, n, transposed, bias, activation: inst.activation };
        frame.kernels.matmul(product, packed(scratch)?, y);
        Ok(())
    })
}

/// The product in a type that models multiply rarely: row by row, so that the rows of `b` are read in order.
fn plain_matmul<T: Number>(frame: &mut Frame<'_, '_>, inst: &Matmul) -> Result<(), RunError> {
    each_product(frame, inst, |_, [n, k], [a, b]: [&[T]; 2], _, y| {
        y.fill(T::default());
        for (row, y) in y.chunks_exact_mut(n).enumerate() {
            for (i, &a) in a[row * k..][..k].iter().enumerate() {
                for (j, y) in y.iter_mut().enumerate() {
                    *y = T::multiply_add(*y, a, b[if inst.transpose_b { j * k + i } else { i * n + j }]);
                }
            }
        }
        Ok(())
    })
}

pub(crate) fn conv2d(frame: &mut Frame<'_, '_>, inst: &Conv2d) -> Result<(), RunError> {
    frame.fill_with_scratch(inst.y, |frame, y: &mut [f32], scratch| {
        let (x, w) = (frame.array::<f32>(inst.x)?, frame.array::<f32>(inst.w)?);
        let bias = frame.optional::<f32>(inst.bias)?;
        let shape = frame.shape(inst.y);
        let [rows, columns] =
            Slide::both([w.shape[2], w.shape[3]], inst.strides, inst.pads, inst.dilations, x.shape, shape);
        let groups = inst.groups as usize;
        let (outputs, channels) = (shape[1] / groups, w.shape[1]);
        let (x_len, w_len) = (channels * rows.input * columns.input, w.data.len() / groups);
        let scratch = packed(scratch)?;
        for (i, y) in y.chunks_exact_mut(outputs * rows.output * columns.output).enumerate() {
            // Groups of one image are neighbours.
            let group = i % groups;
            let convolution = Convolution {
                x: &x.data[i * x_len..][..x_len],
                w: &w.data[group * w_len..][..w_len],
                bias: bias.map(|bias| &bias[group * outputs..][..outputs]),
                outputs,
                rows,
                columns,
                activation: inst.activation,
            };
            frame.kernels.convolve(convolution, scratch, y);
        }
        Ok(())
    })
}

pub(crate) fn pool2d(frame: &mut Frame<'_, '_>, inst: &Pool2d) -> Result<(), RunError> {
    match frame.dtype(inst.y) {
        DType::I8 => pool_planes(frame, inst, |y: &mut [i8], x, rows, columns| {
            window::max_pool(y, x, i8::MIN, core::cmp::max, rows, columns);
        }),
        _ => pool_planes(frame, inst, |y: &mut [f32], x, rows, columns| match inst.kind {
            PoolKind::Max => window::max_pool(y, x, f32::NEG_INFINITY, math::max, rows, columns),
            kind => window::average_pool(y, x, kind == PoolKind::AverageWithPad, rows, columns),
        }),
    }
}

/// Pools the planes of an image by themselves.
fn pool_planes<T: Pod>(
    frame: &mut Frame<'_, '_>,
    inst: &Pool2d,
    pool: impl Fn(&mut [T], &[T], &Slide, &Slide),
) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [T]| {
        let x = frame.array::<T>(inst.x)?;
        let kernel = inst.kernel.map(|extent| extent as usize);
        let shape = frame.shape(inst.y);
        let [rows, columns] = Slide::both(kernel, inst.strides, inst.pads, inst.dilations, x.shape, shape);
        let plane = rows.input * columns.input;
        for (i, y) in y.chunks_exact_mut(rows.output * columns.output).enumerate() {
            pool(y, &x.data[i * plane..][..plane], &rows, &columns);
        }
        Ok(())
    })
}
