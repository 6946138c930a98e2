//! `matmul`, `conv2d` and `pool2d`.

use bitc_format::DType;
use bitc_format::inst::{Activation, Conv2d, Matmul, Pool2d, PoolKind};

use crate::harness::{Case, Random, assert_close, indices, position};

#[test]
fn matmul_broadcasts_batches_and_transposes() {
    let mut random = Random::new(30);
    type Shapes = (&'static [usize], &'static [usize], &'static [usize]);
    // Batch dimensions of a, b and y.
    let batches: [Shapes; 5] =
        [(&[], &[], &[]), (&[3], &[], &[3]), (&[], &[2], &[2]), (&[2, 1], &[1, 3], &[2, 3]), (&[0], &[], &[0])];
    for (a_batch, b_batch, y_batch) in batches {
        for (m, k, n) in [(1, 1, 1), (2, 17, 3), (5, 33, 20), (3, 0, 2), (0, 4, 3), (1, 64, 7)] {
            for transpose_b in [false, true] {
                let a_shape = [a_batch, &[m, k]].concat();
                let b_shape = [b_batch, &if transpose_b { [n, k] } else { [k, n] }].concat();
                let y_shape = [y_batch, &[m, n]].concat();
                let a = random.floats(a_shape.iter().product());
                let b = random.floats(b_shape.iter().product());
                let bias = random.floats(if transpose_b { n } else { 1 });
                let mut case = Case::new();
                let (ao, bo) = (case.input(&a_shape, &a), case.constant(&b_shape, &b));
                let bias_operand = case.constant(&[bias.len()], &bias);
                let y = case.output(DType::F32, &y_shape);
                let activation = if m == 2 { Activation::Relu } else { Activation::None };
                case.push(Matmul { y, a: ao, b: bo, bias: Some(bias_operand), transpose_b, activation });
                let mut expected = Vec::new();
                for index in indices(&y_shape) {
                    let (batch, [row, column]) = index.split_at(y_batch.len()) else { unreachable!() };
                    let of = |own: &[usize], tail: [usize; 2]| {
                        let skipped = batch.len() - own.len();
                        let head = batch[skipped..].iter().zip(own).map(|(&i, &d)| if d == 1 { 0 } else { i });
                        head.chain(tail).collect::<Vec<_>>()
                    };
                    let mut sum = 0.0;
                    for i in 0..k {
                        let at_a = position(&a_shape, &of(a_batch, [*row, i]));
                        let at_b = if transpose_b { [*column, i] } else { [i, *column] };
                        sum += f64::from(a[at_a]) * f64::from(b[position(&b_shape, &of(b_batch, at_b))]);
                    }
                    let sum = sum + f64::from(bias[if bias.len() == 1 { 0 } else { *column }]);
                    expected.push(if activation == Activation::Relu { sum.max(0.0) } else { sum });
                }
                // The terms are below 9 and at most 64 of them are added.
                assert_close(&case.run()[0].to_vec(), &expected, 2e-5);
            }
        }
    }
}

/// Positions of a window's taps in the input, those in the padding as `None`.
struct Geometry {
    size: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 4],
    dilations: [usize; 2],
}

impl Geometry {
    fn out(&self, ceil: bool) -> [usize; 2] {
        [0, 1].map(|a| {
            let reach = (self.kernel[a] - 1) * self.dilations[a] + 1;
            let free = self.size[a] + self.pads[a] + self.pads[a + 2] - reach;
            let up = free.div_ceil(self.strides[a]) + 1;
            let down = free / self.strides[a] + 1;
            // A window that begins in the padding at the end is left out.
            if ceil && (up - 1) * self.strides[a] < self.size[a] + self.pads[a] { up } else { down }
        })
    }

    fn tap(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        (output * self.strides[axis] + tap * self.dilations[axis])
            .checked_sub(self.pads[axis])
            .filter(|&i| i < self.size[axis])
    }
}

fn geometries() -> Vec<Geometry> {
    let base = || Geometry { size: [6, 7], kernel: [3, 2], strides: [1, 1], pads: [0; 4], dilations: [1, 1] };
    vec![
        base(),
        Geometry { pads: [1, 1, 1, 0], ..base() },
        Geometry { strides: [2, 3], pads: [2, 1, 0, 1], ..base() },
        Geometry { dilations: [2, 3], ..base() },
        Geometry { strides: [2, 2], dilations: [2, 1], pads: [2, 0, 3, 1], ..base() },
        Geometry { size: [1, 1], kernel: [1, 1], ..base() },
        Geometry { size: [5, 5], kernel: [2, 2], strides: [2, 2], ..base() },
        Geometry { size: [2, 9], kernel: [2, 2], strides: [3, 4], pads: [1, 1, 1, 1], ..base() },
    ]
}

#[test]
fn conv2d_follows_its_definition() {
    let mut random = Random::new(31);
    for (i, g) in geometries().iter().enumerate() {
        for (n, channels, outputs, groups) in [(1, 1, 1, 1), (2, 4, 6, 2), (1, 3, 3, 3), (0, 2, 2, 1)] {
            let out = g.out(false);
            let x_shape = [n, channels, g.size[0], g.size[1]];
            let w_shape = [outputs, channels / groups, g.kernel[0], g.kernel[1]];
            let y_shape = [n, outputs, out[0], out[1]];
            let x = random.floats(x_shape.iter().product());
            let w = random.floats(w_shape.iter().product());
            let bias = random.floats(outputs);
            let mut case = Case::new();
            let (xo, wo) = (case.input(&x_shape, &x), case.constant(&w_shape, &w));
            let bias_operand = case.constant(&[outputs], &bias);
            let y = case.output(DType::F32, &y_shape);
            let activation = if i % 2 == 0 { Activation::None } else { Activation::Clip { lo: -1.0, hi: 2.0 } };
            case.push(Conv2d {
                y,
                x: xo,
                w: wo,
                bias: Some(bias_operand),
                strides: g.strides.map(|v| v as u32),
                pads: g.pads.map(|v| v as u32),
                dilations: g.dilations.map(|v| v as u32),
                groups: groups as u32,
                activation,
            });
            let mut expected = Vec::new();
            for index in indices(&y_shape) {
                let mut sum = f64::from(bias[index[1]]);
                for tap in indices(&w_shape[1..]) {
                    let (row, column) = (g.tap(0, index[2], tap[1]), g.tap(1, index[3], tap[2]));
                    let Some((row, column)) = row.zip(column) else { continue };
                    let channel = index[1] / (outputs / groups) * (channels / groups) + tap[0];
                    let w = w[position(&w_shape, &[index[1], tap[0], tap[1], tap[2]])];
                    sum += f64::from(w) * f64::from(x[position(&x_shape, &[index[0], channel, row, column])]);
                }
                expected.push(if i % 2 == 0 { sum } else { sum.clamp(-1.0, 2.0) });
            }
            assert_close(&case.run()[0].to_vec(), &expected, 1e-5);
        }
    }
}

#[test]
fn pool2d_follows_its_definition() {
    let mut random = Random::new(32);
    for g in geometries() {
        let reach = [0, 1].map(|a| (g.kernel[a] - 1) * g.dilations[a]);
        let pads = [0, 1, 2, 3].map(|a| g.pads[a].min(reach[a % 2]));
        let g = Geometry { pads, ..g };
        for ceil in [false, true] {
            for &kind in PoolKind::ALL {
                let out = g.out(ceil);
                let (x_shape, y_shape) = ([2, 3, g.size[0], g.size[1]], [2, 3, out[0], out[1]]);
                let x = random.floats(x_shape.iter().product());
                let mut case = Case::new();
                let xo = case.input(&x_shape, &x);
                let y = case.output(DType::F32, &y_shape);
                case.push(Pool2d {
                    y,
                    x: xo,
                    kind,
                    kernel: g.kernel.map(|v| v as u32),
                    strides: g.strides.map(|v| v as u32),
                    pads: g.pads.map(|v| v as u32),
                    dilations: g.dilations.map(|v| v as u32),
                });
                let mut expected = Vec::new();
                for index in indices(&y_shape) {
                    let mut values = Vec::new();
                    let mut padded = 0;
                    for tap in indices(&g.kernel) {
                        let inside = |a: usize| {
                            index[a + 2] * g.strides[a] + tap[a] * g.dilations[a]
                                < g.size[a] + g.pads[a] + g.pads[a + 2]
                        };
                        padded += usize::from(inside(0) && inside(1));
                        let (row, column) = (g.tap(0, index[2], tap[0]), g.tap(1, index[3], tap[1]));
                        let Some((row, column)) = row.zip(column) else { continue };
                        values.push(f64::from(x[position(&x_shape, &[index[0], index[1], row, column])]));
                    }
                    let sum: f64 = values.iter().sum();
                    expected.push(match kind {
                        PoolKind::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                        PoolKind::Average => sum / values.len() as f64,
                        PoolKind::AverageWithPad => sum / padded as f64,
                    });
                }
                assert_close(&case.run()[0].to_vec(), &expected, 1e-6);
            }
        }
    }
}

#[test]
fn the_largest_of_integers_is_that_of_the_same_floats() {
    let mut random = Random::new(33);
    for g in geometries() {
        let reach = [0, 1].map(|a| (g.kernel[a] - 1) * g.dilations[a]);
        let g = Geometry { pads: [0, 1, 2, 3].map(|a| g.pads[a].min(reach[a % 2])), ..g };
        let out = g.out(true);
        let (x_shape, y_shape) = ([2, 3, g.size[0], g.size[1]], [2, 3, out[0], out[1]]);
        let x: Vec<i8> = random.floats(x_shape.iter().product()).iter().map(|v| (v * 90.0) as i8).collect();
        let mut case = Case::new();
        let floats: Vec<f32> = x.iter().map(|&v| f32::from(v)).collect();
        let (integers, floats) = (case.input(&x_shape, &x), case.input(&x_shape, &floats));
        let (y, z) = (case.output(DType::I8, &y_shape), case.output(DType::F32, &y_shape));
        let pool = Pool2d {
            y,
            x: integers,
            kind: PoolKind::Max,
            kernel: g.kernel.map(|v| v as u32),
            strides: g.strides.map(|v| v as u32),
            pads: g.pads.map(|v| v as u32),
            dilations: g.dilations.map(|v| v as u32),
        };
        case.push(pool.clone());
        case.push(Pool2d { y: z, x: floats, ..pool });
        let outputs = case.run();
        // A window that sees nothing has the smallest integer, as a cast of minus infinity has.
        let expected: Vec<i8> = outputs[1].to_vec::<f32>().iter().map(|&v| v as i8).collect();
        assert_eq!(outputs[0].to_vec::<i8>(), expected);
    }
}

#[test]
fn matmul_of_other_types_is_exact() {
    fn check<T: bitc_runtime::Element + PartialEq + std::fmt::Debug>(a: [T; 4], b: [T; 4], product: [T; 4]) {
        for transpose_b in [false, true] {
            let b = if transpose_b { [b[0], b[2], b[1], b[3]] } else { b };
            let mut case = Case::new();
            let (a, b) = (case.input(&[1, 2, 2], &a), case.input(&[2, 2], &b));
            let y = case.output(T::DTYPE, &[1, 2, 2]);
            case.push(Matmul { y, a, b, bias: None, transpose_b, activation: Activation::None });
            assert_eq!(case.run()[0].to_vec::<T>(), product);
        }
    }
    check([i32::MAX, 1, -2, 3], [2, 0, 5, -1], [3, -1, 11, -3]);
    check([u32::MAX, 1, 2, 3], [2, 0, 5, 1], [3, 1, 19, 3]);
    check([i64::MIN, 1, -2, 3], [1, 0, 5, -1], [i64::MIN + 5, -1, 13, -3]);
    check([u64::MAX, 1, 2, 3], [2, 0, 5, 1], [3, 1, 19, 3]);
    check([0.1, 1e300, 2.0, 3.0], [2.0, 0.0, 1e-300, -1.0], [0.1 * 2.0 + 1e300 * 1e-300, -1e300, 4.0, -3.0]);
}
