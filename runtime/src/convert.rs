//! Conversion between element types: `cast`, and arrays of the caller that have another type than their port.
//!
//! Everything goes through tiles of `i64` or `f64`, both of which hold every value of the types that are loaded into
//! them, so one loop per type is enough.

use bitc_format::DType;

/// Elements of a tile.
const TILE: usize = 64;

/// Some elements on their way from one type to another.
enum Tile {
    Integers([i64; TILE]),
    /// The same bits, meaning `u64`.
    Unsigned([u64; TILE]),
    Floats([f64; TILE]),
}

/// Converts elements: floats to integers by rounding towards zero with saturation (NaN to 0), integers to narrower ones
/// by their low bits, anything to `bool` by whether it is not 0. Neither type is `bits`.
pub(crate) fn cast(to: DType, y: &mut [u8], from: DType, x: &[u8]) {
    let (Some(y_size), Some(x_size)) = (to.size_bytes(), from.size_bytes()) else { return };
    if to == from && to != DType::Bool {
        y.copy_from_slice(x);
        return;
    }
    for (y, x) in y.chunks_mut(TILE * y_size).zip(x.chunks(TILE * x_size)) {
        store(to, y, &load(from, x));
    }
}

fn load(dtype: DType, x: &[u8]) -> Tile {
    fn each<const N: usize, T: Copy + Default>(x: &[u8], f: impl Fn([u8; N]) -> T) -> [T; TILE] {
        let mut tile = [T::default(); TILE];
        for (t, &bytes) in tile.iter_mut().zip(x.as_chunks::<N>().0) {
            *t = f(bytes);
        }
        tile
    }
    match dtype {
        DType::Bits | DType::Bool => Tile::Integers(each(x, |[b]| i64::from(b != 0))),
        DType::U8 => Tile::Integers(each(x, |[b]| i64::from(b))),
        DType::I8 => Tile::Integers(each(x, |b| i64::from(i8::from_le_bytes(b)))),
        DType::I16 => Tile::Integers(each(x, |b| i64::from(i16::from_le_bytes(b)))),
        DType::U16 => Tile::Integers(each(x, |b| i64::from(u16::from_le_bytes(b)))),
        DType::I32 => Tile::Integers(each(x, |b| i64::from(i32::from_le_bytes(b)))),
        DType::U32 => Tile::Integers(each(x, |b| i64::from(u32::from_le_bytes(b)))),
        DType::I64 => Tile::Integers(each(x, i64::from_le_bytes)),
        DType::U64 => Tile::Unsigned(each(x, u64::from_le_bytes)),
        DType::F16 => Tile::Floats(each(x, |b| f64::from(f16_to_f32(u16::from_le_bytes(b))))),
        DType::BF16 => Tile::Floats(each(x, |b| f64::from(bf16_to_f32(u16::from_le_bytes(b))))),
        DType::F32 => Tile::Floats(each(x, |b| f64::from(f32::from_le_bytes(b)))),
        DType::F64 => Tile::Floats(each(x, f64::from_le_bytes)),
    }
}

fn store(dtype: DType, y: &mut [u8], tile: &Tile) {
    /// One loop per kind of tile; integers are cut to the low bits by `int`.
    fn each<const N: usize>(
        y: &mut [u8],
        tile: &Tile,
        int: impl Fn(i64) -> [u8; N],
        unsigned: impl Fn(u64) -> [u8; N],
        float: impl Fn(f64) -> [u8; N],
    ) {
        let places = y.as_chunks_mut::<N>().0.iter_mut();
        match tile {
            Tile::Integers(values) => places.zip(values).for_each(|(y, &v)| *y = int(v)),
            Tile::Unsigned(values) => places.zip(values).for_each(|(y, &v)| *y = unsigned(v)),
            Tile::Floats(values) => places.zip(values).for_each(|(y, &v)| *y = float(v)),
        }
    }
    macro_rules! integer {
        ($ty:ty) => {
            each(y, tile, |v| (v as $ty).to_le_bytes(), |v| (v as $ty).to_le_bytes(), |v| (v as $ty).to_le_bytes())
        };
    }
    match dtype {
        DType::Bits | DType::Bool => {
            each(y, tile, |v| [u8::from(v != 0)], |v| [u8::from(v != 0)], |v| [u8::from(v != 0.0)]);
        }
        DType::U8 => integer!(u8),
        DType::I8 => integer!(i8),
        DType::U16 => integer!(u16),
        DType::I16 => integer!(i16),
        DType::U32 => integer!(u32),
        DType::I32 => integer!(i32),
        DType::U64 => integer!(u64),
        DType::I64 => integer!(i64),
        DType::F32 => integer!(f32),
        DType::F64 => integer!(f64),
        DType::F16 => {
            let half = |v: f64| f64_to_f16(v).to_le_bytes();
            each(y, tile, |v| half(v as f64), |v| half(v as f64), half);
        }
        DType::BF16 => {
            let half = |v: f64| f64_to_bf16(v).to_le_bytes();
            each(y, tile, |v| half(v as f64), |v| half(v as f64), half);
        }
    }
}

/// Converts between the types that a port accepts: equal ones, and the three ways to hold 0 and 1. A row has `row`
/// elements; rows of bits end at a byte.
pub(crate) fn port(to: DType, y: &mut [u8], from: DType, x: &[u8], row: usize) {
    let bytes = row.div_ceil(8);
    if row == 0 {
        return;
    }
    match (to, from) {
        (DType::Bits, DType::Bits) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x),
        (DType::Bits, _) => {
            for (y, x) in y.chunks_exact_mut(bytes).zip(x.chunks_exact(row)) {
                for (y, x) in y.iter_mut().zip(x.chunks(8)) {
                    *y = x.iter().enumerate().fold(0, |byte, (i, &x)| byte | u8::from(x != 0) << i);
                }
            }
        }
        (_, DType::Bits) => {
            for (y, x) in y.chunks_exact_mut(row).zip(x.chunks_exact(bytes)) {
                for (i, y) in y.iter_mut().enumerate() {
                    *y = (x[i / 8] >> (i % 8)) & 1;
                }
            }
        }
        (DType::Bool, _) | (_, DType::Bool) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = u8::from(x != 0)),
        _ => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x),
    }
}

/// The value of a half-precision number.
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    match exponent {
        // Below the normal numbers: fraction * 2^-24, exactly.
        0 => f32::from_bits(sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The value of a bfloat16 number.
pub(crate) fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// The nearest half-precision number, halves to even.
fn f64_to_f16(value: f64) -> u16 {
    round_float(value, 10, -14, 15)
}

/// The nearest bfloat16 number, halves to even.
fn f64_to_bf16(value: f64) -> u16 {
    round_float(value, 7, -126, 127)
}

/// Rounds to a float of 16 bits with that many bits of fraction and that range of exponents.
fn round_float(value: f64, fraction_bits: u32, min_exponent: i32, max_exponent: i32) -> u16 {
    let infinity = ((max_exponent - min_exponent + 2) as u16) << fraction_bits;
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    if value.is_nan() {
        return sign | infinity | 1 << (fraction_bits - 1);
    }
    let magnitude = value.abs();
    let exponent = (((magnitude.to_bits() >> 52) as i32) - 1023).max(min_exponent);
    if exponent > max_exponent {
        return sign | infinity;
    }
    // In units of the last place the number is a whole one after rounding; a carry runs into the exponent by itself.
    let unit = f64::from_bits(((1023 + exponent - fraction_bits as i32) as u64) << 52);
    // 2^52 has no room for a fraction, so adding it rounds half to even.
    const ROUND: f64 = 4_503_599_627_370_496.0;
    let units = ((magnitude / unit + ROUND) - ROUND) as u64;
    let stored_exponent = (exponent - min_exponent) as u64;
    // A normal number's units contain the leading one, which stands for one exponent step.
    let bits = (stored_exponent << fraction_bits) + units;
    sign | bits as u16
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_half_comes_back() {
        for half in 0..=u16::MAX {
            let value = f16_to_f32(half);
            if value.is_nan() {
                assert!(f16_to_f32(f64_to_f16(f64::from(value))).is_nan());
            } else {
                assert_eq!(f64_to_f16(f64::from(value)), half, "{value}");
            }
            let value = bf16_to_f32(half);
            if value.is_nan() {
                assert!(bf16_to_f32(f64_to_bf16(f64::from(value))).is_nan());
            } else {
                assert_eq!(f64_to_bf16(f64::from(value)), half, "{value}");
            }
        }
        assert_eq!(f16_to_f32(0x3c00), 1.0);
        assert_eq!(f16_to_f32(0x7bff), 65504.0);
        assert_eq!(f16_to_f32(1), 5.960_464_5e-8);
    }

    #[test]
    fn halves_round_to_even_and_overflow_to_infinity() {
        assert_eq!(f64_to_f16(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(f64_to_f16(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(f64_to_f16(65519.0), 0x7bff);
        assert_eq!(f64_to_f16(65520.0), 0x7c00);
        assert_eq!(f64_to_f16(-1e300), 0xfc00);
        assert_eq!(f64_to_f16(2.98e-8), 0);
        assert_eq!(f64_to_bf16(3.4e38), 0x7f80);
    }

    #[test]
    fn floats_saturate_and_integers_wrap() {
        let mut y = [0u8; 4];
        let x: Vec<u8> = [300.7f32, -5.0, f32::NAN, 2.9].iter().flat_map(|v| v.to_le_bytes()).collect();
        cast(DType::U8, &mut y, DType::F32, &x);
        assert_eq!(y, [255, 0, 0, 2]);
        let x: Vec<u8> = [300i32, -1, 0, 2].iter().flat_map(|v| v.to_le_bytes()).collect();
        cast(DType::U8, &mut y, DType::I32, &x);
        assert_eq!(y, [44, 255, 0, 2]);
        cast(DType::Bool, &mut y, DType::I32, &x);
        assert_eq!(y, [1, 1, 0, 1]);
        let mut y = [0u8; 8];
        cast(DType::F64, &mut y, DType::U64, &u64::MAX.to_le_bytes());
        assert_eq!(f64::from_le_bytes(y), 18_446_744_073_709_551_616.0);
    }

    #[test]
    fn bits_fill_bytes_from_the_lowest_and_rows_end_at_one() {
        let x = [1, 0, 0, 7, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let mut bits = [0u8; 4];
        port(DType::Bits, &mut bits, DType::U8, &x, 9);
        assert_eq!(bits, [0b1001, 1, 0b10, 0]);
        let mut back = [9u8; 18];
        port(DType::Bool, &mut back, DType::Bits, &bits, 9);
        assert_eq!(back, x.map(|v| u8::from(v != 0)));
    }
}
