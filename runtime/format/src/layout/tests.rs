//! The packed layouts: a worked example each, round trips over ragged sizes, and every error.

use alloc::vec;
use alloc::vec::Vec;

use super::{Layout, LayoutError};

const SIZES: [usize; 14] = [0, 1, 2, 5, 15, 16, 17, 31, 33, 64, 65, 130, 241, 300];

fn random_weights(layout: Layout, len: usize, seed: u64) -> Vec<i8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    };
    let mut weight = || match layout {
        Layout::Int8 => next() as i8,
        Layout::Bit1 => (next() as i8 & 2) - 1,
        _ => (next() % 3) as i8 - 1,
    };
    (0..len).map(|_| weight()).collect()
}

#[test]
fn unpack_inverts_pack_for_ragged_sizes() {
    for layout in [Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8] {
        for rows in SIZES {
            for columns in SIZES {
                let seed = (rows * 1000 + columns) as u64;
                let values = random_weights(layout, rows * columns, seed);
                let packed = layout.pack(rows, columns, &values).unwrap();
                assert_eq!(Some(packed.len() as u64), layout.packed_len(rows as u64, columns as u64));
                let back = layout.unpack(rows, columns, &packed).unwrap();
                assert_eq!(back, values, "{} {rows} x {columns}, seed {seed}", layout.name());
            }
        }
    }
}

#[test]
fn trit2_places_rows_in_lanes_and_columns_in_planes() {
    let (rows, columns) = (100, 40);
    let at = |row: usize, column: usize| {
        let mut values = vec![-1; rows * columns];
        values[row * columns + column] = 1;
        let packed = Layout::Trit2.pack(rows, columns, &values).unwrap();
        let byte = packed.iter().position(|&b| b != 0).unwrap();
        (byte, packed[byte])
    };
    // Three column groups; four tiles in the first panel, three in the second.
    assert_eq!(at(0, 0), (0, 2));
    assert_eq!(at(0, 5), (1, 2 << 2));
    assert_eq!(at(3, 14), (3 * 4 + 2, 2 << 6));
    assert_eq!(at(17, 0), (64 + 4, 2));
    assert_eq!(at(0, 16), (4 * 64, 2));
    assert_eq!(at(64, 0), (3 * 4 * 64, 2));
    assert_eq!(at(64, 16), (3 * 4 * 64 + 3 * 64, 2));
    assert_eq!(at(99, 39), (3 * 4 * 64 + 2 * 3 * 64 + 2 * 64 + 3 * 4 + 3, 2 << 2));
}

#[test]
fn bit1_holds_eight_planes_in_a_byte() {
    let mut values = vec![-1; 64];
    values[32 + 29] = 1;
    let packed = Layout::Bit1.pack(2, 32, &values).unwrap();
    assert_eq!(packed.len(), 64);
    assert_eq!(packed.iter().position(|&b| b != 0), Some(4 + 1));
    assert_eq!(packed[5], 1 << 7);
}

#[test]
fn int8_holds_four_columns_of_sixteen_rows_in_a_block() {
    let values: Vec<i8> = (0..17 * 5).map(|i| (i * 3 - 128) as i8).collect();
    let packed = Layout::Int8.pack(17, 5, &values).unwrap();
    // Two tiles next to each other for each of two groups of columns.
    assert_eq!(packed.len(), 4 * 64);
    assert_eq!(packed[..8], [0, 3, 6, 9, 15, 18, 21, 24]);
    assert_eq!(packed[64..69], [240, 243, 246, 249, 0]);
    assert_eq!(packed[2 * 64..2 * 64 + 5], [12, 0, 0, 0, 27]);
    let extremes = Layout::Int8.pack(1, 3, &[-128, 0, 127]).unwrap();
    assert_eq!(extremes[..4], [0, 128, 255, 0]);
}

#[test]
fn trit5_holds_sign_and_magnitude_and_counts_the_signs() {
    let (rows, columns) = (300, 245);
    let at = |row: usize, column: usize, weights: &[i8]| {
        let mut values = vec![0; rows * columns];
        values[row * columns + column..][..weights.len()].copy_from_slice(weights);
        let packed = Layout::Trit5.pack(rows, columns, &values).unwrap();
        let set = packed.iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, &b)| (i, b));
        set.collect::<Vec<_>>()
    };
    // Counts for 320 rows; 48 groups in the first run and one in the second; four tiles in the first panel, then one.
    let tiles = 320 * 4;
    assert_eq!(at(0, 0, &[1, 0, -1, 1, 1]), [(tiles, 1 + 27 + 81 - 9)]);
    assert_eq!(at(2, 5, &[0, 0, 0, 1, -1]), [(2 * 4, 1), (tiles + 256 + 2, 0x80 | 54)]);
    assert_eq!(at(33, 10, &[1]), [(tiles + 2 * 256 + 9, 1)]);
    assert_eq!(at(64 + 8, 0, &[1]), [(tiles + 64 + 16, 1)]);
    assert_eq!(at(256, 5, &[1]), [(tiles + 48 * 256 + 64, 1)]);
    assert_eq!(at(299, 240, &[0, 1]), [(tiles + 48 * 320 + 256 + 16 + 8 + 3, 3)]);
}

#[test]
fn trit5_refuses_bytes_that_stand_for_no_weights() {
    // The second group has two columns, so magnitudes above 4 reach past them.
    for (group, byte, fine) in [(0, 121, true), (0, 122, false), (0, 0x80, false), (1, 4, true), (1, 5, false)] {
        let mut packed = vec![0; 64 * 6];
        packed[64 * 4 + 64 * group + 1] = byte;
        let wrong = LayoutError::Value { row: 1, column: 5 * group, found: byte.into() };
        assert_eq!(Layout::Trit5.unpack(2, 7, &packed).map(drop), if fine { Ok(()) } else { Err(wrong) });
    }
}

#[test]
fn lengths_overflow_to_none() {
    for layout in [Layout::Trit2, Layout::Trit5, Layout::Bit1, Layout::Int8] {
        assert_eq!(layout.packed_len(u64::MAX, u64::MAX), None);
        assert_eq!(layout.packed_len(u64::MAX, 1), None);
        assert_eq!(layout.packed_len(0, u64::MAX - 9), Some(0));
    }
    assert_eq!(Layout::Trit5.packed_len(1, 6), Some(64 * (4 + 2)));
    assert_eq!(Layout::Trit2.packed_len(1, 1), Some(64));
    assert_eq!(Layout::Dense.packed_len(1, 1), None);
}

#[test]
fn every_error_is_told_apart() {
    let (rows, columns) = (2, usize::MAX);
    assert_eq!(Layout::Trit2.pack(rows, columns, &[]), Err(LayoutError::Overflow { rows, columns }));
    assert_eq!(Layout::Dense.pack(1, 1, &[0]), Err(LayoutError::NotPacked { layout: Layout::Dense }));
    assert_eq!(Layout::Trit2.pack(1, 2, &[0]), Err(LayoutError::Len { expected: 2, found: 1 }));
    assert_eq!(Layout::Trit2.unpack(1, 2, &[0]), Err(LayoutError::Len { expected: 64, found: 1 }));
    assert_eq!(Layout::Trit2.pack(1, 2, &[0, 2]), Err(LayoutError::Value { row: 0, column: 1, found: 2 }));
    assert_eq!(Layout::Bit1.pack(1, 2, &[1, 0]), Err(LayoutError::Value { row: 0, column: 1, found: 0 }));
    let mut packed = [0; 64];
    packed[4] = 3 << 2;
    assert_eq!(Layout::Trit2.unpack(2, 5, &packed), Err(LayoutError::Value { row: 1, column: 4, found: 3 }));
}
