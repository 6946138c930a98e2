//! Float products with weights of few bits on every instruction set, against plain loops: equal bits.
#![cfg(not(feature = "minimal"))]

use bitc_format::Layout;
use bitc_format::inst::Activation;
use bitc_runtime::kernels::{self, FewBits};

#[test]
fn float_products_with_weights_of_few_bits_add_the_scaled_weights_in_order() {
    let mut state = 0x5eed_0001u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    };
    let sizes = [(1, 0, 3), (0, 5, 3), (1, 1, 1), (1, 33, 17), (3, 64, 64), (4, 65, 70), (5, 520, 40), (9, 1100, 130)];
    for (rows, k, n) in sizes {
        for layout in [Layout::Trit2, Layout::Bit1, Layout::Int8] {
            let mut weight = || match layout {
                Layout::Int8 => next() as i8,
                Layout::Bit1 => (next() >> 8 & 1) as i8 * 2 - 1,
                _ => (next() >> 8) as i8 % 2,
            };
            let weights: Vec<i8> = (0..n * k).map(|_| weight()).collect();
            let w = layout.pack(n, k, &weights).unwrap();
            for (by_row, group) in [(false, 0), (true, 0), (true, 7), (false, 32)] {
                let scale_columns = if group == 0 { 1 } else { k.div_ceil(group) };
                let mut floats = |n: usize| (0..n).map(|_| next() as f32 / 1e9 - 1.0).collect::<Vec<f32>>();
                let (x, scale) = (floats(rows * k), floats(if by_row { n } else { 1 } * scale_columns));
                if scale_columns == 0 {
                    continue;
                }
                let bias = floats(n);
                let scale_of = |o: usize, i: usize| {
                    let column = i.checked_div(group).unwrap_or(0);
                    scale[if by_row { o * scale_columns } else { 0 } + column]
                };
                let value = |t: usize, o: usize| {
                    let term = |i: usize| x[t * k + i] * (f32::from(weights[o * k + i]) * scale_of(o, i));
                    ((0..k).fold(0.0, |sum, i| sum + term(i)) + bias[o]).max(0.0)
                };
                let expected: Vec<f32> = (0..rows * n).map(|i| value(i / n, i % n)).collect();
                let (bias, activation) = (Some(&*bias), Activation::Relu);
                let few = FewBits { x: &x, layout, w: &w, n, k, scale: &scale, scale_columns, group, bias, activation };
                for isa in kernels::available() {
                    // Memory for one panel is enough.
                    for len in [512 * 32, 1 << 17] {
                        let (mut packed, mut y) = (vec![f32::NAN; len], vec![f32::NAN; rows * n]);
                        isa.few_bits(few, &mut packed, &mut y);
                        assert!(y == expected, "{}: {layout:?} {rows} x {k} -> {n}, group {group}", isa.name());
                    }
                }
            }
        }
    }
}
