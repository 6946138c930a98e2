//! Float products and windows.

use bitc_format::DType;
use bitc_format::inst::{Conv2d, Matmul, Pool2d};

use crate::RunError;
use crate::arena::Pod;
use crate::frame::Frame;
use crate::kernels::dense::Product;
use crate::kernels::number::Number;
use crate::kernels::post;
use crate::kernels::window::{self, Planes, Slide};

/// Calls `multiply` with the factors of each pair of matrices and the place of their product; the sizes are rows,
/// columns and inner dimension.
fn each_product<T: Pod>(
    frame: &mut Frame<'_, '_>,
    inst: &Matmul,
    mut multiply: impl FnMut(&Frame<'_, '_>, [usize; 3], &[T], &[T], &mut [T]) -> Result<(), RunError>,
) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [T]| {
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
            multiply(frame, [m, n, k], &a.data[a_at..][..m * k], &b.data[b_at..][..k * n], y)?;
        }
        Ok(())
    })
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
    each_product(frame, inst, |frame, [_, n, k], a, b, y: &mut [f32]| {
        frame.kernels.matmul(Product { a, b, k, n, transposed: inst.transpose_b }, y);
        if let Some(bias) = frame.optional::<f32>(inst.bias)? {
            for y in y.chunks_exact_mut(n) {
                if let [bias] = *bias {
                    y.iter_mut().for_each(|y| *y += bias);
                } else {
                    y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
                }
            }
        }
        post::activate(inst.activation, y);
        Ok(())
    })
}

/// The product in a type that models multiply rarely: row by row, so that the rows of `b` are read in order.
fn plain_matmul<T: Number>(frame: &mut Frame<'_, '_>, inst: &Matmul) -> Result<(), RunError> {
    each_product(frame, inst, |_, [_, n, k], a: &[T], b, y| {
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

/// The movement of a window along height and width.
fn slides(
    kernel: [usize; 2],
    strides: [u32; 2],
    pads: [u32; 4],
    dilations: [u32; 2],
    input: &[usize],
    output: &[usize],
) -> [Slide; 2] {
    [0, 1].map(|axis| Slide {
        kernel: kernel[axis],
        stride: strides[axis] as usize,
        pad: pads[axis] as usize,
        pad_end: pads[axis + 2] as usize,
        dilation: dilations[axis] as usize,
        input: input[axis + 2],
        output: output[axis + 2],
    })
}

pub(crate) fn conv2d(frame: &mut Frame<'_, '_>, inst: &Conv2d) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let (x, w) = (frame.array::<f32>(inst.x)?, frame.array::<f32>(inst.w)?);
        let bias = frame.optional::<f32>(inst.bias)?;
        let shape = frame.shape(inst.y);
        let [rows, columns] = slides([w.shape[2], w.shape[3]], inst.strides, inst.pads, inst.dilations, x.shape, shape);
        let (out_channels, in_channels) = (shape[1], w.shape[1]);
        let (x_plane, w_plane) = (rows.input * columns.input, rows.kernel * columns.kernel);
        let group_size = out_channels / inst.groups as usize;
        for (i, y) in y.chunks_exact_mut(rows.output * columns.output).enumerate() {
            let (image, o) = (i / out_channels, i % out_channels);
            y.fill(bias.map_or(0.0, |bias| bias[o]));
            let first = image * x.shape[1] + o / group_size * in_channels;
            let x = &x.data[first * x_plane..][..in_channels * x_plane];
            let w = &w.data[o * in_channels * w_plane..][..in_channels * w_plane];
            frame.kernels.convolve(Planes { x, w, rows, columns }, y);
            post::activate(inst.activation, y);
        }
        Ok(())
    })
}

pub(crate) fn pool2d(frame: &mut Frame<'_, '_>, inst: &Pool2d) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let x = frame.array::<f32>(inst.x)?;
        let kernel = inst.kernel.map(|extent| extent as usize);
        let shape = frame.shape(inst.y);
        let [rows, columns] = slides(kernel, inst.strides, inst.pads, inst.dilations, x.shape, shape);
        let plane = rows.input * columns.input;
        for (i, y) in y.chunks_exact_mut(rows.output * columns.output).enumerate() {
            window::pool(y, &x.data[i * plane..][..plane], inst.kind, &rows, &columns);
        }
        Ok(())
    })
}
