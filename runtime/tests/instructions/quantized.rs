//! `quantize`, `bit_linear` and `bit_conv2d`.

use bitc_format::inst::{Activation, BitConv2d, BitLinear, Floor, Granularity, Quantize, QuantizeKind};
use bitc_format::{DType, Layout};

use crate::harness::{Case, Random, assert_close, indices, position};

/// The attributes of a BitLab layer that quantises each row.
fn rows() -> Quantize {
    Quantize {
        q: bitc_format::BufferId(0),
        scale: bitc_format::BufferId(0),
        sums: None,
        x: bitc_format::BufferId(0).into(),
        kind: QuantizeKind::Divide,
        granularity: Granularity::Row,
        floor: Floor::Clip,
        eps: 1e-6,
        levels: 127.0,
        lo: -127,
        hi: 127,
    }
}

/// What one group of values becomes.
fn quantized(rule: &Quantize, x: &[f32]) -> (Vec<i8>, f32) {
    let m = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let (scale, scaled): (f32, Box<dyn Fn(f32) -> f32>) = match rule.kind {
        QuantizeKind::Divide => {
            let s = m / rule.levels;
            let (scale, divisor) = match rule.floor {
                Floor::None => (s, s),
                Floor::Add => (s, s + rule.eps),
                Floor::Clip => (s.max(rule.eps), s.max(rule.eps)),
            };
            (scale, Box::new(move |v| v / divisor))
        }
        QuantizeKind::Reciprocal => {
            let s = (1.0 / m.max(rule.eps)) * rule.levels;
            (1.0 / s, Box::new(move |v| v * s))
        }
        QuantizeKind::Quotient => {
            let s = rule.levels / m.max(rule.eps);
            (1.0 / s, Box::new(move |v| v * s))
        }
        QuantizeKind::Integer => (1.0, Box::new(|v| v)),
    };
    let q = |v: &f32| {
        let rounded = scaled(*v).round_ties_even();
        if rounded.is_nan() { 0 } else { rounded.clamp(rule.lo as f32, rule.hi as f32) as i8 }
    };
    (x.iter().map(q).collect(), scale)
}

#[test]
fn quantize_follows_its_formula_for_every_kind_floor_and_granularity() {
    let shapes: [&[usize]; 7] = [&[1, 1], &[3, 5], &[2, 64], &[5, 65], &[2, 3, 17], &[0, 4], &[2, 3, 2, 130]];
    let mut random = Random::new(1);
    for shape in shapes {
        let mut x = random.floats(shape.iter().product());
        // A row of zeros, and halves that have to round to even.
        x.iter_mut().take(shape[shape.len() - 1]).for_each(|v| *v = 0.0);
        if let [.., a, b, c] = &mut x[..] {
            (*a, *b, *c) = (127.0, 2.5, -3.5);
        }
        for &kind in QuantizeKind::ALL {
            for floor in [Floor::None, Floor::Add, Floor::Clip] {
                for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Channel] {
                    let rule = Quantize { kind, floor, granularity, eps: 1e-5, ..rows() };
                    check_quantize(&rule, shape, &x);
                }
            }
        }
    }
}

fn check_quantize(rule: &Quantize, shape: &[usize], x: &[f32]) {
    let mut case = Case::new();
    let columns = shape[shape.len() - 1];
    let n_rows: usize = shape[..shape.len() - 1].iter().product();
    let mut scale_shape = shape.to_vec();
    match rule.granularity {
        Granularity::Row => *scale_shape.last_mut().unwrap() = 1,
        Granularity::Tensor => scale_shape.fill(1),
        Granularity::Channel => scale_shape[1] = 1,
    }
    let input = case.input(shape, x);
    let q = case.internal(DType::I8, shape, 64);
    let dense = case.output(DType::I8, shape);
    let scale = case.output(DType::F32, &scale_shape);
    let sums = case.output(DType::I32, &[n_rows]);
    case.push(Quantize { q, scale, sums: Some(sums), x: input, ..rule.clone() });
    case.push(Quantize { q: dense, scale, sums: None, x: input, ..rule.clone() });
    let outputs = case.run();

    // Which elements share a scale, in the order of the scales.
    let n_scales: usize = scale_shape.iter().product();
    let mut groups = vec![Vec::new(); n_scales];
    for index in indices(shape) {
        let of: Vec<usize> = index.iter().zip(&scale_shape).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
        groups[position(&scale_shape, &of)].push(position(shape, &index));
    }
    let mut expected_q = vec![0i8; x.len()];
    let mut expected_scale = Vec::new();
    for group in groups {
        let (q, scale) = quantized(rule, &group.iter().map(|&at| x[at]).collect::<Vec<_>>());
        group.iter().zip(q).for_each(|(&at, q)| expected_q[at] = q);
        expected_scale.push(scale);
    }
    assert_eq!(outputs[0].to_vec::<i8>(), expected_q, "{rule:?} {shape:?}");
    assert_eq!(outputs[1].to_vec::<f32>(), expected_scale, "{rule:?} {shape:?}");
    let sum = |row: &[i8]| row.iter().map(|&q| i32::from(q)).sum::<i32>();
    let expected: Vec<i32> = expected_q.chunks(columns).map(sum).collect();
    assert_eq!(outputs[2].to_vec::<i32>(), expected);
}

#[test]
fn integers_are_limited_and_padded() {
    for shape in [&[1, 1][..], &[3, 5], &[2, 64], &[2, 3, 65], &[0, 4], &[2, 0]] {
        let x: Vec<i8> = (0..shape.iter().product::<usize>()).map(|i| (i * 37 % 256) as u8 as i8).collect();
        let columns = shape[shape.len() - 1];
        let mut case = Case::new();
        let input = case.input(shape, &x);
        let q = case.internal(DType::I8, shape, 64);
        let (dense, scale) = (case.output(DType::I8, shape), case.output(DType::F32, &[]));
        let sums = case.output(DType::I32, &shape[..shape.len() - 1]);
        let (kind, granularity) = (QuantizeKind::Integer, Granularity::Tensor);
        let rule = Quantize { q, scale, sums: Some(sums), x: input, kind, granularity, lo: -100, hi: 90, ..rows() };
        case.push(rule.clone());
        case.push(Quantize { q: dense, sums: None, ..rule });
        let outputs = case.run();
        let expected: Vec<i8> = x.iter().map(|&v| v.clamp(-100, 90)).collect();
        assert_eq!(outputs[0].to_vec::<i8>(), expected, "{shape:?}");
        assert_eq!(outputs[1].to_vec::<f32>(), [1.0]);
        let row_sums: Vec<i32> = (0..shape[..shape.len() - 1].iter().product())
            .map(|r: usize| expected[r * columns..][..columns].iter().map(|&q| i32::from(q)).sum())
            .collect();
        assert_eq!(outputs[2].to_vec::<i32>(), row_sums, "{shape:?}");
    }
}

#[test]
fn bit_linear_is_exact_for_every_shape_and_layout() {
    let mut random = Random::new(2);
    for (tokens, k, n) in [(1, 1, 1), (0, 16, 4), (1, 64, 16), (3, 65, 17), (2, 130, 70), (13, 15, 33), (1, 784, 10)] {
        for layout in [Layout::Trit2, Layout::Bit1, Layout::Int8] {
            for (per_row, per_output, activation) in
                [(true, true, Activation::None), (false, false, Activation::Relu), (true, false, Activation::Tanh)]
            {
                let mut w = random.trits(n * k);
                if layout == Layout::Bit1 {
                    w.iter_mut().filter(|v| **v == 0).for_each(|v| *v = 1);
                }
                if layout == Layout::Int8 {
                    w.iter_mut().enumerate().for_each(|(i, v)| *v = (*v).wrapping_mul(127).wrapping_sub((i % 2) as i8));
                }
                let x = random.floats(tokens * k);
                let scales = random.floats(if per_output { n } else { 1 });
                let bias = per_row.then(|| random.floats(n));

                let mut case = Case::new();
                let input = case.input(&[tokens, k], &x);
                let granularity = if per_row { Granularity::Row } else { Granularity::Tensor };
                let q = case.internal(DType::I8, &[tokens, k], 64);
                let q_scale = case.internal(DType::F32, &[if per_row { tokens } else { 1 }, 1], 1);
                let sums = case.internal(DType::I32, &[tokens], 1);
                let rule = Quantize { q, scale: q_scale, sums: Some(sums), x: input, granularity, ..rows() };
                case.push(rule.clone());
                let y = case.output(DType::F32, &[tokens, n]);
                let w_const = case.weights(layout, &[n, k], &w);
                let scale = case.constant(&[scales.len()], &scales);
                let bias_const = bias.as_ref().map(|bias| case.constant(&[n], bias));
                case.push(BitLinear {
                    y,
                    q: q.into(),
                    q_scale: q_scale.into(),
                    sums: sums.into(),
                    w: w_const,
                    scale,
                    bias: bias_const,
                    activation,
                });
                let found = case.run()[0].to_vec::<f32>();

                let shared = if per_row { k } else { (tokens * k).max(1) };
                let mut expected = Vec::new();
                for t in 0..tokens {
                    let group = &x[t * k / shared * shared..][..shared];
                    let (q, q_scale) = quantized(&rule, group);
                    let q = &q[t * k % shared..][..k];
                    for o in 0..n {
                        let sum: i32 = (0..k).map(|i| i32::from(q[i]) * i32::from(w[o * k + i])).sum();
                        let y = (sum as f32 * q_scale) * scales[if per_output { o } else { 0 }];
                        expected.push(match (activation, &bias) {
                            (Activation::Relu, None) => y.max(0.0),
                            (Activation::Tanh, Some(bias)) => (y + bias[o]).tanh(),
                            (_, Some(bias)) => y + bias[o],
                            (_, None) => y,
                        });
                    }
                }
                if activation == Activation::Tanh {
                    let expected: Vec<f64> = expected.iter().map(|&v| f64::from(v)).collect();
                    assert_close(&found, &expected, 3e-7);
                } else {
                    assert_eq!(found, expected, "{tokens} x {k} x {n} {layout:?}");
                }
            }
        }
    }
}

/// A convolution of quantised images, by definition.
struct Conv {
    n: usize,
    channels: usize,
    size: [usize; 2],
    outputs: usize,
    groups: usize,
    kernel: [usize; 2],
    stride: usize,
    pad: usize,
    dilation: usize,
    scales: Granularity,
    layout: Layout,
}

#[test]
fn bit_conv2d_is_exact_for_every_geometry() {
    let base = Conv {
        n: 1,
        channels: 3,
        size: [6, 5],
        outputs: 4,
        groups: 1,
        kernel: [3, 3],
        stride: 1,
        pad: 1,
        dilation: 1,
        scales: Granularity::Tensor,
        layout: Layout::Trit2,
    };
    check_conv(&base, 1);
    check_conv(&Conv { n: 2, size: [9, 11], outputs: 17, ..base }, 2);
    check_conv(&Conv { channels: 4, groups: 2, stride: 2, pad: 0, ..base }, 3);
    check_conv(&Conv { channels: 6, groups: 6, outputs: 6, dilation: 2, pad: 2, ..base }, 4);
    check_conv(&Conv { kernel: [1, 1], pad: 0, channels: 70, ..base }, 5);
    check_conv(&Conv { n: 0, ..base }, 6);
    check_conv(&Conv { scales: Granularity::Channel, n: 2, ..base }, 7);
    check_conv(&Conv { scales: Granularity::Channel, kernel: [1, 1], pad: 0, stride: 2, ..base }, 8);
    check_conv(&Conv { kernel: [2, 4], pad: 3, stride: 3, ..base }, 9);
    // Single channels.
    for layout in [Layout::Trit2, Layout::Int8] {
        check_conv(&Conv { channels: 2, groups: 2, size: [20, 23], layout, ..base }, 15);
        check_conv(&Conv { channels: 1, outputs: 2, kernel: [16, 16], size: [16, 35], pad: 2, layout, ..base }, 16);
    }
    // Enough windows for channels in fours, for several panels of outputs and more rows than are worked on at a time.
    let fours = Conv { channels: 8, size: [13, 17], ..base };
    for layout in [Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8] {
        check_conv(&Conv { n: 2, groups: 2, outputs: 134, layout, ..fours }, 10);
        check_conv(&Conv { kernel: [1, 1], pad: 0, outputs: 67, size: [37, 41], layout, ..fours }, 11);
        check_conv(&Conv { kernel: [1, 3], pad: 1, stride: 2, dilation: 2, layout, ..fours }, 12);
    }
    check_conv(&Conv { size: [1, 2100], groups: 2, pad: 2, dilation: 2, ..fours }, 13);
    check_conv(&Conv { scales: Granularity::Channel, ..fours }, 14);
}

fn check_conv(c: &Conv, seed: u64) {
    let mut random = Random::new(seed);
    let out = [0, 1].map(|a| (c.size[a] + 2 * c.pad - (c.kernel[a] - 1) * c.dilation - 1) / c.stride + 1);
    let (taps, per_group) = (c.kernel[0] * c.kernel[1], c.channels / c.groups);
    let group_outputs = c.outputs / c.groups;
    let k = taps * per_group;
    let x_shape = [c.n, c.channels, c.size[0], c.size[1]];
    let x = random.floats(x_shape.iter().product());
    let mut weight = || match c.layout {
        Layout::Int8 => random.next() as i8,
        Layout::Bit1 => random.below(2) as i8 * 2 - 1,
        _ => random.below(3) as i8 - 1,
    };
    let w: Vec<i8> = (0..c.outputs * k).map(|_| weight()).collect();
    let (scales, bias) = (random.floats(c.outputs), random.floats(c.outputs));

    let mut case = Case::new();
    let input = case.input(&x_shape, &x);
    let q = case.output(DType::I8, &x_shape);
    let pixel_scales = c.scales == Granularity::Channel;
    let scale_shape = if pixel_scales { [c.n, 1, c.size[0], c.size[1]] } else { [1; 4] };
    let q_scale = case.output(DType::F32, &scale_shape);
    let y_shape = [c.n, c.outputs, out[0], out[1]];
    let y = case.output(DType::F32, &y_shape);
    case.push(Quantize { q, scale: q_scale, sums: None, x: input, granularity: c.scales, ..rows() });
    let w_shape = [c.groups, group_outputs, k];
    let pad = c.pad as u32;
    let w_const = case.weights(c.layout, if c.groups == 1 { &w_shape[1..] } else { &w_shape }, &w);
    let scale = case.constant(&[c.outputs], &scales);
    let bias_const = case.constant(&[c.outputs], &bias);
    case.push(BitConv2d {
        y,
        q: q.into(),
        q_scale: q_scale.into(),
        w: w_const,
        scale,
        bias: Some(bias_const),
        kernel: c.kernel.map(|v| v as u32),
        strides: [c.stride as u32; 2],
        pads: [pad; 4],
        dilations: [c.dilation as u32; 2],
        activation: Activation::Relu,
    });
    let outputs = case.run();
    let (q, q_scale) = (outputs[0].to_vec::<i8>(), outputs[1].to_vec::<f32>());

    let mut expected = Vec::new();
    for index in indices(&y_shape) {
        let [n, o, oy, ox] = index[..] else { unreachable!() };
        let (mut exact, mut scaled) = (0i32, 0f32);
        for tap in 0..taps {
            let iy = (oy * c.stride + tap / c.kernel[1] * c.dilation).wrapping_sub(c.pad);
            let ix = (ox * c.stride + tap % c.kernel[1] * c.dilation).wrapping_sub(c.pad);
            if iy >= c.size[0] || ix >= c.size[1] {
                continue;
            }
            let mut sum = 0;
            for channel in 0..per_group {
                let from = [n, o / group_outputs * per_group + channel, iy, ix];
                let weight = w[o * k + tap * per_group + channel];
                sum += i32::from(q[position(&x_shape, &from)]) * i32::from(weight);
            }
            exact += sum;
            if pixel_scales {
                scaled += sum as f32 * q_scale[(n * c.size[0] + iy) * c.size[1] + ix];
            }
        }
        let sum = if pixel_scales { scaled } else { exact as f32 * q_scale[0] };
        expected.push((sum * scales[o] + bias[o]).max(0.0));
    }
    assert_eq!(outputs[2].to_vec::<f32>(), expected);
}
