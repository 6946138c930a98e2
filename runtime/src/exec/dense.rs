//! Float products and windows.

use bitc_format::inst::{Conv2d, Matmul, Pool2d};

use crate::RunError;
use crate::frame::Frame;
use crate::kernels::dense::Product;
use crate::kernels::post;
use crate::kernels::window::{self, Planes, Slide};

pub(crate) fn matmul(frame: &mut Frame<'_, '_>, inst: &Matmul) -> Result<(), RunError> {
    frame.fill(inst.y, |frame, y: &mut [f32]| {
        let (a, b) = (frame.array::<f32>(inst.a)?, frame.array::<f32>(inst.b)?);
        let bias = frame.optional::<f32>(inst.bias)?;
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
            let (a, b) = (&a.data[a_at..][..m * k], &b.data[b_at..][..k * n]);
            frame.kernels.matmul(Product { a, b, k, n, transposed: inst.transpose_b }, y);
            if let Some(bias) = bias {
                for y in y.chunks_exact_mut(n) {
                    if let [bias] = *bias {
                        y.iter_mut().for_each(|y| *y += bias);
                    } else {
                        y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
                    }
                }
            }
            post::activate(inst.activation, y);
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
