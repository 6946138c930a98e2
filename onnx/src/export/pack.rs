//! Packed weights: four ternary codes or eight bits to a byte, the first in the lowest bits.
//!
//! Elements are taken in row-major order without regard to rows; the last byte is filled up with zero bits. The code of
//! a ternary weight is the weight plus one.

/// Packs ternary weights.
pub(crate) fn trits(weights: impl Iterator<Item = i8>) -> Vec<u8> {
    packed(weights.map(|w| (w + 1).cast_unsigned()), 2)
}

/// The first `numel` ternary weights; `None` if there are fewer bytes or a code is none.
pub(crate) fn unpack_trits(bytes: &[u8], numel: usize) -> Option<Vec<i8>> {
    let codes = unpacked(bytes, numel, 2)?;
    codes.into_iter().map(|c| (c < 3).then_some(c.cast_signed() - 1)).collect()
}

/// Packs bits.
pub(crate) fn bits(values: impl Iterator<Item = u8>) -> Vec<u8> {
    packed(values, 1)
}

/// The first `numel` bits; `None` if there are fewer bytes.
pub(crate) fn unpack_bits(bytes: &[u8], numel: usize) -> Option<Vec<u8>> {
    unpacked(bytes, numel, 1)
}

/// Packs codes of `width` bits, which divides 8.
pub(super) fn packed(codes: impl Iterator<Item = u8>, width: usize) -> Vec<u8> {
    let per_byte = 8 / width;
    let mut bytes = Vec::new();
    for (i, code) in codes.enumerate() {
        if i % per_byte == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= code << (i % per_byte * width);
        }
    }
    bytes
}

fn unpacked(bytes: &[u8], numel: usize, width: usize) -> Option<Vec<u8>> {
    let per_byte = 8 / width;
    if bytes.len() != numel.div_ceil(per_byte) {
        return None;
    }
    let mask = (1u8 << width) - 1;
    let all = bytes.iter().flat_map(|&b| (0..per_byte).map(move |i| (b >> (i * width)) & mask));
    Some(all.take(numel).collect())
}

/// A matrix `[rows, columns]` with its axes exchanged.
pub(crate) fn transposed<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| values[r * columns + c]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        for n in 0..10usize {
            let trits_in: Vec<i8> = (0..n).map(|i| (i % 3) as i8 - 1).collect();
            let bytes = trits(trits_in.iter().copied());
            assert_eq!(bytes.len(), n.div_ceil(4));
            assert_eq!(unpack_trits(&bytes, n).unwrap(), trits_in);
            let bits_in: Vec<u8> = (0..n).map(|i| u8::from(i % 3 == 1)).collect();
            assert_eq!(unpack_bits(&bits(bits_in.iter().copied()), n).unwrap(), bits_in);
        }
        assert_eq!(trits([-1, 0, 1, 1, -1].into_iter()), [0b10_10_01_00, 0]);
        assert_eq!(unpack_trits(&[3], 1), None, "3 is no code");
        assert_eq!(unpack_trits(&[0, 0], 4), None, "too long");
    }

    #[test]
    fn a_transposed_matrix_is_the_matrix_again_when_transposed() {
        let m = [1, 2, 3, 4, 5, 6];
        assert_eq!(transposed(&m, 2, 3), [1, 4, 2, 5, 3, 6]);
        assert_eq!(transposed(&transposed(&m, 2, 3), 3, 2), m);
    }
}
