//! `arg_reduce`, `top_k`, `gather`, `pick` and `scatter`.

use bitc_format::DType;
use bitc_format::inst::{ArgReduce, Combine, Gather, Pick, Scatter, TopK};
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

#[test]
fn top_k_sorts_along_an_axis() {
    let x = [3.0f32, 1.0, f32::NAN, 3.0, -1.0, 7.0, 2.0, 2.0, 2.0, -0.0, 0.0, 9.0];
    for (axis, largest) in [(0, true), (0, false), (1, true), (1, false)] {
        let shape = [4, 3];
        let k = 2;
        let y_shape = if axis == 0 { [k, 3] } else { [4, k] };
        let mut case = Case::new();
        let input = case.input(&shape, &x);
        let (y, positions) = (case.output(DType::F32, &y_shape), case.output(DType::I64, &y_shape));
        case.push(TopK { y, positions, x: input, axis: axis as u32, largest });
        let outputs = case.run();
        let (values, places) = (outputs[0].to_vec::<f32>(), outputs[1].to_vec::<i64>());
        for index in indices(&y_shape) {
            let at = |i: usize| if axis == 0 { x[i * 3 + index[1]] } else { x[index[0] * 3 + i] };
            // NaN is the largest; equal ones keep their order.
            let key = |v: f32| if v.is_nan() { f32::INFINITY } else { v };
            let mut order: Vec<usize> = (0..shape[axis]).collect();
            order.sort_by(|&a, &b| {
                if largest {
                    key(at(b)).total_cmp(&(key(at(a)) + 0.0))
                } else {
                    (key(at(a)) + 0.0).total_cmp(&(key(at(b)) + 0.0))
                }
            });
            let expected = order[index[axis]];
            let place = position(&y_shape, &index);
            assert_eq!(at(places[place] as usize).to_bits(), values[place].to_bits());
            assert_eq!(key(values[place]), key(at(expected)), "axis {axis} largest {largest} {index:?}");
        }
    }
    let mut case = Case::new();
    let input = case.input(&[5], &[2i8, 7, 2, 7, -1]);
    let (y, positions) = (case.output(DType::I8, &[5]), case.output(DType::I64, &[5]));
    case.push(TopK { y, positions, x: input, axis: 0, largest: true });
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<i8>(), [7, 7, 2, 2, -1]);
    assert_eq!(outputs[1].to_vec::<i64>(), [1, 3, 0, 2, 4]);
}

#[test]
fn pick_takes_elements_along_an_axis() {
    let mut case = Case::new();
    let x = case.input(&[3, 3], &[1i16, 2, 3, 4, 5, 6, 7, 8, 9]);
    let along = case.input(&[2, 2], &[1i64, -1, 0, 0]);
    let (rows, columns) = (case.output(DType::I16, &[2, 2]), case.output(DType::I16, &[2, 2]));
    case.push(Pick { y: rows, x, indices: along, axis: Some(0), batch: 0 });
    case.push(Pick { y: columns, x, indices: along, axis: Some(1), batch: 0 });
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<i16>(), [4, 8, 1, 2]);
    assert_eq!(outputs[1].to_vec::<i16>(), [2, 3, 4, 4]);
}

#[test]
fn pick_takes_slices_behind_shared_axes() {
    let x: Vec<i32> = (0..12).collect();
    let mut case = Case::new();
    let input = case.input(&[2, 3, 2], &x);
    let one = case.input(&[2, 1], &[1i64, -1]);
    let (slices, shared) = (case.output(DType::I32, &[2, 3, 2]), case.output(DType::I32, &[2, 2]));
    case.push(Pick { y: slices, x: input, indices: one, axis: None, batch: 0 });
    case.push(Pick { y: shared, x: input, indices: one, axis: None, batch: 1 });
    let all = case.input(&[1, 3], &[1i32, 2, 0]);
    let element = case.output(DType::I32, &[1]);
    case.push(Pick { y: element, x: input, indices: all, axis: None, batch: 0 });
    let outputs = case.run();
    assert_eq!(outputs[0].to_vec::<i32>(), [6, 7, 8, 9, 10, 11, 6, 7, 8, 9, 10, 11]);
    assert_eq!(outputs[1].to_vec::<i32>(), [2, 3, 10, 11]);
    assert_eq!(outputs[2].to_vec::<i32>(), [10]);
}

#[test]
fn scatter_combines_in_order() {
    let ways = [
        (Combine::Replace, [5.0f32, 9.0, 7.0]),
        (Combine::Add, [6.0, 2.0 + 4.0 + 9.0, 10.0]),
        (Combine::Mul, [5.0, 72.0, 21.0]),
        (Combine::Max, [5.0, 9.0, 7.0]),
        (Combine::Min, [1.0, 2.0, 3.0]),
    ];
    for (combine, expected) in ways {
        let mut case = Case::new();
        let x = case.input(&[3], &[1.0f32, 2.0, 3.0]);
        let indices = case.input(&[4], &[0i64, 1, -1, 1]);
        let updates = case.input(&[4], &[5.0f32, 4.0, 7.0, 9.0]);
        let y = case.output(DType::F32, &[3]);
        case.push(Scatter { y, x, indices, updates, axis: Some(0), combine });
        assert_eq!(case.run()[0].to_vec::<f32>(), expected, "{combine:?}");
    }
    let mut case = Case::new();
    let x = case.input(&[3, 2], &[0u64; 6]);
    let indices = case.input(&[2, 1], &[2i64, 0]);
    let updates = case.input(&[2, 2], &[1u64, 2, 3, 4]);
    let y = case.output(DType::U64, &[3, 2]);
    case.push(Scatter { y, x, indices, updates, axis: None, combine: Combine::Replace });
    assert_eq!(case.run()[0].to_vec::<u64>(), [3, 4, 0, 0, 1, 2]);
}

#[test]
fn a_slice_out_of_range_is_an_error() {
    let mut case = Case::new();
    let x = case.input(&[3, 2], &[0u8; 6]);
    let picked = case.input(&[1, 2], &[0i64, 2]);
    let y = case.output(DType::U8, &[1]);
    case.push(Pick { y, x, indices: picked, axis: None, batch: 0 });
    assert_eq!(case.try_run().unwrap_err(), RunError::Index { inst: 0, index: 2, size: 2 });
}
