//! `transpose`, `concat`, `slice`, `pad`, `expand`, `iota` and `sizes`.

use bitc_format::DType;
use bitc_format::inst::{BitCast, Concat, Expand, Iota, Pad, PadMode, Sizes, Slice, Transpose};
use bitc_runtime::Element;

use crate::harness::{Case, indices, position};

/// 0, 1, 2 .. as elements of a type.
fn counted<T: Element + TryFrom<usize>>(n: usize) -> Vec<T> {
    (0..n).map(|i| T::try_from(i).unwrap_or_default()).collect()
}

#[test]
fn transpose_permutes_axes_of_any_element_size() {
    fn check<T: Element + TryFrom<usize> + PartialEq + std::fmt::Debug>(shape: &[usize], perm: &[u32]) {
        let x = counted::<T>(shape.iter().product());
        let y_shape: Vec<usize> = perm.iter().map(|&p| shape[p as usize]).collect();
        let mut case = Case::new();
        let input = case.input(shape, &x);
        let y = case.output(T::DTYPE, &y_shape);
        case.push(Transpose { y, x: input, perm: perm.to_vec() });
        let mut expected = Vec::new();
        for index in indices(&y_shape) {
            let mut from = vec![0; shape.len()];
            perm.iter().zip(index).for_each(|(&p, i)| from[p as usize] = i);
            expected.push(x[position(shape, &from)]);
        }
        assert_eq!(case.run()[0].to_vec::<T>(), expected, "{shape:?} by {perm:?}");
    }
    check::<u8>(&[3, 4], &[1, 0]);
    check::<i16>(&[3, 4], &[0, 1]);
    check::<u32>(&[2, 3, 4, 5], &[0, 3, 1, 2]);
    check::<i64>(&[2, 3, 4], &[2, 0, 1]);
    check::<u32>(&[2, 0, 4], &[2, 1, 0]);
    check::<u32>(&[], &[]);
    check::<u8>(&[1, 2, 1, 2, 1, 2, 1, 2], &[7, 5, 3, 1, 6, 4, 2, 0]);
}

#[test]
fn concat_joins_along_any_axis() {
    for (axis, parts) in [(0, [2, 0, 3]), (1, [1, 4, 0]), (2, [5, 2, 1])] {
        let shape = |n: usize| {
            let mut shape = [2, 3, 2];
            shape[axis] = n;
            shape
        };
        let mut case = Case::new();
        let mut xs = Vec::new();
        let mut values = Vec::new();
        for (i, &n) in parts.iter().enumerate() {
            let x: Vec<u32> = (0..shape(n).iter().product::<usize>()).map(|v| (i * 1000 + v) as u32).collect();
            xs.push(case.input(&shape(n), &x));
            values.push(x);
        }
        let y_shape = shape(parts.iter().sum());
        let y = case.output(DType::U32, &y_shape);
        case.push(Concat { y, xs, axis: axis as u32 });
        let mut expected = Vec::new();
        for mut index in indices(&y_shape) {
            let mut part = 0;
            while index[axis] >= parts[part] {
                index[axis] -= parts[part];
                part += 1;
            }
            expected.push(values[part][position(&shape(parts[part]), &index)]);
        }
        assert_eq!(case.run()[0].to_vec::<u32>(), expected, "axis {axis}");
    }
}

#[test]
fn slice_takes_steps_of_either_sign() {
    let cases: [([usize; 2], [i64; 2], [i32; 2]); 5] = [
        ([2, 3], [1, 2], [1, 1]),
        ([3, 2], [3, 4], [-1, -2]),
        ([4, 5], [0, 0], [1, 1]),
        ([1, 2], [3, 0], [7, 3]),
        ([0, 5], [2, 4], [1, -1]),
    ];
    let x = counted::<u32>(20);
    for (y_shape, starts, steps) in cases {
        let mut case = Case::new();
        let input = case.input(&[4, 5], &x);
        let y = case.output(DType::U32, &y_shape);
        let start_dims = starts.iter().map(|&s| case.writer.fixed(s)).collect();
        case.push(Slice { y, x: input, starts: start_dims, steps: steps.to_vec() });
        let at = |i: usize, axis: usize| (starts[axis] + i as i64 * i64::from(steps[axis])) as usize;
        let expected: Vec<u32> = indices(&y_shape).iter().map(|i| x[at(i[0], 0) * 5 + at(i[1], 1)]).collect();
        assert_eq!(case.run()[0].to_vec::<u32>(), expected, "{starts:?} {steps:?}");
    }
}

#[test]
fn pad_fills_as_its_mode_says() {
    let x = counted::<u32>(6);
    let at = |mode: PadMode, i: i64, n: i64| match mode {
        _ if (0..n).contains(&i) => Some(i),
        PadMode::Constant => None,
        PadMode::Edge => Some(i.clamp(0, n - 1)),
        PadMode::Reflect => Some(if i < 0 { -i } else { 2 * (n - 1) - i }),
        PadMode::Wrap => Some((i + n) % n),
    };
    for &mode in PadMode::ALL {
        for (before, after) in [([0, 0], [0, 0]), ([1, 2], [0, 1]), ([0, 1], [1, 2])] {
            let y_shape = [2 + before[0] + after[0], 3 + before[1] + after[1]];
            let mut case = Case::new();
            let input = case.input(&[2, 3], &x);
            let y = case.output(DType::U32, &y_shape);
            let dims = before.iter().map(|&b| case.writer.fixed(b as i64)).collect();
            let value = if mode == PadMode::Constant { 77 } else { 0 };
            case.push(Pad { y, x: input, before: dims, mode, value });
            let expected: Vec<u32> = indices(&y_shape)
                .iter()
                .map(|i| {
                    let row = at(mode, i[0] as i64 - before[0] as i64, 2);
                    let column = at(mode, i[1] as i64 - before[1] as i64, 3);
                    row.zip(column).map_or(77, |(row, column)| x[(row * 3 + column) as usize])
                })
                .collect();
            assert_eq!(case.run()[0].to_vec::<u32>(), expected, "{mode:?} {before:?} {after:?}");
        }
    }
}

#[test]
fn pad_of_nothing_is_all_padding() {
    let mut case = Case::new();
    let input = case.input::<u8>(&[0, 2], &[]);
    let y = case.output(DType::U8, &[2, 3]);
    let before = vec![case.writer.fixed(1), case.writer.fixed(0)];
    case.push(Pad { y, x: input, before, mode: PadMode::Constant, value: 9 });
    assert_eq!(case.run()[0].bytes, [9; 6]);
}

#[test]
fn expand_repeats_along_axes_of_one() {
    let mut case = Case::new();
    let input = case.input(&[3, 1], &[1i64, 2, 3]);
    let y = case.output(DType::I64, &[2, 3, 2]);
    case.push(Expand { y, x: input });
    assert_eq!(case.run()[0].to_vec::<i64>(), [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn bits_are_read_as_another_type() {
    let mut case = Case::new();
    let (x, h) = (case.input(&[2], &[1.0f32, -2.0]), case.input(&[2], &[-1i16, 256]));
    let (y, g) = (case.output(DType::U32, &[2]), case.output(DType::U16, &[2]));
    case.push(BitCast { y, x });
    case.push(BitCast { y: g, x: h });
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<u32>(), [0x3f80_0000, 0xc000_0000]);
    assert_eq!(outputs[1].to_vec::<u16>(), [0xffff, 256]);
}

#[test]
fn positions_and_sizes_are_written() {
    let mut case = Case::new();
    let (iota, sizes) = (case.output(DType::I64, &[4]), case.output(DType::I64, &[3]));
    case.push(Iota { y: iota });
    let dims = [5, 0, 7].map(|n| case.writer.fixed(n)).to_vec();
    case.push(Sizes { y: sizes, dims });
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<i64>(), [0, 1, 2, 3]);
    assert_eq!(outputs[1].to_vec::<i64>(), [5, 0, 7]);
}
