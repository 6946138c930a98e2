//! `arg_reduce` and `gather`.

use bitc_format::DType;
use bitc_format::inst::{ArgReduce, Gather};
use bitc_runtime::RunError;

use crate::harness::{Case, indices, position};

#[test]
fn arg_reduce_breaks_ties_as_asked() {
    let x = [1.0f32, 5.0, 5.0, 0.0, -2.0, 0.0, 7.0, -2.0, 7.0];
    for axis in 0..2 {
        for min in [false, true] {
            for last in [false, true] {
                let mut case = Case::new();
                let input = case.input(&[3, 3], &x);
                let kept = case.output(DType::I64, &if axis == 0 { [1, 3] } else { [3, 1] });
                let dropped = case.output(DType::I64, &[3]);
                case.push(ArgReduce { y: kept, x: input, axis, min, last });
                case.push(ArgReduce { y: dropped, x: input, axis, min, last });
                let mut expected = Vec::new();
                for line in 0..3 {
                    let at = |i: usize| if axis == 0 { x[i * 3 + line] } else { x[line * 3 + i] };
                    let best = (0..3).map(at).reduce(|a, b| if min { a.min(b) } else { a.max(b) });
                    let mut places = (0..3).filter(|&i| Some(at(i)) == best);
                    expected.push(if last { places.next_back() } else { places.next() }.map(|i| i as i64));
                }
                let outputs = case.run();
                let expected: Vec<i64> = expected.into_iter().flatten().collect();
                assert_eq!(outputs[0].to_vec::<i64>(), expected, "axis {axis} min {min} last {last}");
                assert_eq!(outputs[1].to_vec::<i64>(), expected);
            }
        }
    }
}

#[test]
fn not_a_number_is_the_extreme() {
    for (min, last, expected) in [(false, false, 1), (true, false, 1), (false, true, 3), (true, true, 3)] {
        let mut case = Case::new();
        let input = case.input(&[5], &[1.0, f32::NAN, -9.0, f32::NAN, 9.0]);
        let y = case.output(DType::I64, &[]);
        case.push(ArgReduce { y, x: input, axis: 0, min, last });
        assert_eq!(case.run()[0].to_vec::<i64>(), [expected]);
    }
}

#[test]
fn gather_replaces_an_axis() {
    let shape = [3, 4, 2];
    let x: Vec<u32> = (0..24).collect();
    for (axis, rank) in [(0, 0), (0, 2), (1, 1), (2, 2), (1, 0)] {
        let index_shape = &[2, 3][..rank];
        let picked: Vec<i64> = (0..index_shape.iter().product::<usize>())
            .map(|i| if i % 2 == 0 { i as i64 % shape[axis] as i64 } else { -1 })
            .collect();
        let narrow: Vec<i32> = picked.iter().map(|&i| i as i32).collect();
        let y_shape = [&shape[..axis], index_shape, &shape[axis + 1..]].concat();
        let mut case = Case::new();
        let input = case.input(&shape, &x);
        let (wide, narrow) = (case.input(index_shape, &picked), case.input(index_shape, &narrow));
        let (a, b) = (case.output(DType::U32, &y_shape), case.output(DType::U32, &y_shape));
        case.push(Gather { y: a, x: input, indices: wide, axis: axis as u32 });
        case.push(Gather { y: b, x: input, indices: narrow, axis: axis as u32 });
        let mut expected = Vec::new();
        for index in indices(&y_shape) {
            let at = picked[position(index_shape, &index[axis..axis + rank])].rem_euclid(shape[axis] as i64) as usize;
            let from = [&index[..axis], &[at], &index[axis + rank..]].concat();
            expected.push(x[position(&shape, &from)]);
        }
        let outputs = case.run();
        assert_eq!(outputs[0].to_vec::<u32>(), expected, "axis {axis} rank {rank}");
        assert_eq!(outputs[1].to_vec::<u32>(), expected);
    }
}

#[test]
fn an_index_out_of_range_is_an_error() {
    for index in [3i64, -4, i64::MIN, i64::MAX] {
        let mut case = Case::new();
        let input = case.input(&[3], &[1u8, 2, 3]);
        let picked = case.input(&[1], &[index]);
        let y = case.output(DType::U8, &[1]);
        case.push(Gather { y, x: input, indices: picked, axis: 0 });
        assert_eq!(case.try_run().unwrap_err(), RunError::Index { inst: 0, index, size: 3 });
    }
}
