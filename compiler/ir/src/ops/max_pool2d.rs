//! `max_pool2d`: the largest element under a window; and the geometry pools share.

use std::borrow::Cow;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array};
use crate::ops::conv2d::Window;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_rank};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// A window that slides over the last two axes of `x[n, c, h, w]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Where the window goes.
    pub window: Window,
    /// Whether a window that reaches beyond the padded input counts.
    pub ceil: bool,
}

impl Pool {
    /// Reads `kernel`, the window and `ceil`.
    ///
    /// # Errors
    /// If one is malformed or the kernel is empty.
    pub fn read(op: &'static str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let kernel = attrs.sizes::<2>("kernel")?.ok_or(AttrError::Missing { op, attr: "kernel" })?;
        let pool = Self { kernel, window: Window::read(attrs)?, ceil: attrs.bool("ceil")?.unwrap_or(false) };
        if kernel.contains(&0) {
            return Err(attrs.invalid("kernel", "at least 1", format!("{kernel:?}")));
        }
        let pads = pool.window.pads;
        if (0..2).any(|i| pads[i] >= kernel[i] * pool.window.dilations[i] || pads[i + 2] >= kernel[i] * pool.window.dilations[i]) {
            return Err(attrs.invalid("pads", "smaller than the window", format!("{pads:?}")));
        }
        Ok(pool)
    }

    /// Adds what is not the default.
    pub fn write(&self, attrs: AttrWriter) -> AttrWriter {
        self.window.write(attrs.sizes("kernel", &self.kernel, &[])).put_unless("ceil", self.ceil, false)
    }

    pub(super) fn infer(&self, x: &TensorType, dtypes: &[DType]) -> Result<Vec<TensorType>, TypeError> {
        expect_dtype("x", x, dtypes)?;
        expect_rank("x", x, 4)?;
        let out = |axis: usize| self.window.output(axis, &x.shape.0[axis + 2], self.kernel[axis], self.ceil);
        let shape = Shape(vec![x.shape.0[0].clone(), x.shape.0[1].clone(), out(0)?, out(1)?]);
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    /// Applies `summary` to the elements under each window and the number of window elements inside the padded input.
    pub(super) fn eval(&self, x: &Tensor, summary: impl Fn(&[f64], usize) -> f64) -> Result<Vec<Tensor>, EvalError> {
        let values = array::floats(x);
        let &[batch, channels, height, width] = values.shape() else {
            return Err(EvalError::Undefined("a pool takes an array of rank 4".to_owned()));
        };
        let size = |axis: usize, input: usize| {
            let dim = self.window.output(axis, &Dim::from(input), self.kernel[axis], self.ceil)?;
            dim.as_const().ok_or_else(|| TypeError::new("an output size", dim))
        };
        let (h_out, w_out) = (size(0, height)?, size(1, width)?);
        let mut y = Vec::with_capacity(batch * channels * h_out * w_out);
        let padded = |axis: usize, out: usize, tap: usize, input: usize| {
            let at = out * self.window.strides[axis] + tap * self.window.dilations[axis];
            at < input + self.window.pads[axis] + self.window.pads[axis + 2]
        };
        for (n, c) in (0..batch).flat_map(|n| (0..channels).map(move |c| (n, c))) {
            for (oy, ox) in (0..h_out).flat_map(|y| (0..w_out).map(move |x| (y, x))) {
                let (mut under, mut inside) = (Vec::new(), 0);
                for (i, j) in (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| (i, j))) {
                    inside += usize::from(padded(0, oy, i, height) && padded(1, ox, j, width));
                    let at = (self.window.position(0, oy, i, height), self.window.position(1, ox, j, width));
                    if let (Some(iy), Some(ix)) = at {
                        under.push(values[[n, c, iy, ix]]);
                    }
                }
                y.push(summary(&under, inside) as f32);
            }
        }
        Ok(vec![Tensor::new(&[batch, channels, h_out, w_out], &y)])
    }
}

/// The largest element under each window.
#[derive(Clone, PartialEq, Debug)]
pub struct MaxPool2d(pub Pool);

impl OpDef for MaxPool2d {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "max_pool2d",
        inputs: &["x"],
        outputs: &["y"],
        doc: "y = the largest element of x, of f32 or i8, under each window of size `kernel`; padding never wins.",
    }];

    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        debug_assert_eq!(name, "max_pool2d");
        Ok(Self(Pool::read("max_pool2d", attrs)?))
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        self.0.write(AttrWriter::new()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        self.0.infer(inputs.at(0), &[DType::F32, DType::I8])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let larger = |a: f64, &b: &f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
        let y = self.0.eval(inputs.at(0), |under, _| under.iter().fold(f64::NEG_INFINITY, larger))?;
        if inputs.at(0).dtype() != DType::I8 {
            return Ok(y);
        }
        // Where a window sees nothing is the smallest number that there is.
        Ok(y.iter().map(|y| Tensor::new(y.dims(), &y.to_f64().iter().map(|&v| v as i8).collect::<Vec<_>>())).collect())
    }
}
