//! Weights in bit planes: the layouts `trit2`, `bit1` and `int8`.
//!
//! A weight is a code of `BITS` bits: for `trit2` the code is `w + 1` in two bits (3 is not used), for `bit1` it is
//! `(w + 1) / 2` in one bit, for `int8` it is `w + 128` in eight. A byte holds one weight of each of its `8 / BITS` planes, plane `p` in the bits from
//! `BITS * p` upwards.
//!
//! A block of 64 bytes holds 16 rows (a tile) and one group of `32 / BITS` columns, that is 16 for `trit2`, 32 for
//! `bit1` and 4 for `int8`, which has a single plane. For `trit2`:
//!
//! ```text
//!  byte    0        1        2        3       4 .. 7    ...   60 .. 63
//!       +--------+--------+--------+--------+---------+     +---------+
//!       | row 0                             | row 1   | ... | row 15  |
//!       +--------+--------+--------+--------+---------+     +---------+
//!  bits  1 0      column 0, 1, 2, 3           the same columns of the other rows
//!  bits  3 2      column 4, 5, 6, 7
//!  bits  5 4      column 8, 9, 10, 11
//!  bits  7 6      column 12, 13, 14, 15
//! ```
//!
//! So four columns of a row are a dword in every plane, and a plane is taken out by one AND. Four tiles make a panel of
//! 64 rows; the last panel has as many tiles as are left. Inside a panel the blocks are stored column group by column
//! group, the tiles of a group next to each other; panels follow each other. Rows are padded to 16 and columns to the
//! group, with zero bits.

use super::LayoutError;

/// Rows of a tile.
const TILE: usize = 16;
/// Tiles of a panel.
const TILES: usize = 4;
/// Bytes of a tile and column group.
const BLOCK: usize = 64;

/// A layout of this family.
pub(super) struct Planes {
    bits: u32,
    /// The value of code 0.
    low: i16,
    /// From the value of a code to that of the next.
    step: i16,
    /// How many codes stand for a value.
    codes: i16,
}

impl Planes {
    pub(super) const TRIT2: Planes = Planes { bits: 2, low: -1, step: 1, codes: 3 };
    pub(super) const BIT1: Planes = Planes { bits: 1, low: -1, step: 2, codes: 2 };
    pub(super) const INT8: Planes = Planes { bits: 8, low: -128, step: 1, codes: 256 };

    fn code(&self, value: i8) -> Option<u8> {
        let offset = i16::from(value).checked_sub(self.low)?;
        let code = offset.checked_div(self.step)?;
        let exact = offset.checked_rem(self.step) == Some(0) && (0..self.codes).contains(&code);
        u8::try_from(code).ok().filter(|_| exact)
    }

    fn value(&self, code: u8) -> Option<i8> {
        let known = i16::from(code) < self.codes;
        let value = i16::from(code).checked_mul(self.step)?.checked_add(self.low)?;
        i8::try_from(value).ok().filter(|_| known)
    }

    fn planes(&self) -> u32 {
        8u32.checked_div(self.bits).unwrap_or(0)
    }

    /// Columns of a block.
    fn group(&self) -> usize {
        self.planes().saturating_mul(4).try_into().unwrap_or(usize::MAX)
    }

    pub(super) fn packed_len(&self, rows: u64, columns: u64) -> Option<u64> {
        let tiles = rows.div_ceil(TILE.try_into().ok()?);
        let groups = columns.div_ceil(self.group().try_into().ok()?);
        tiles.checked_mul(groups)?.checked_mul(BLOCK.try_into().ok()?)
    }

    pub(super) fn pack(
        &self,
        rows: usize,
        columns: usize,
        values: &[i8],
        packed: &mut [u8],
    ) -> Result<(), LayoutError> {
        self.visit(rows, columns, |place| {
            let value = values.get(place.value).copied().unwrap_or(0);
            let code = self.code(value).ok_or(LayoutError::Value {
                row: place.row,
                column: place.column,
                found: value.into(),
            })?;
            if let Some(byte) = packed.get_mut(place.byte) {
                *byte |= code.wrapping_shl(place.shift);
            }
            Ok(())
        })
    }

    pub(super) fn unpack(
        &self,
        rows: usize,
        columns: usize,
        packed: &[u8],
        values: &mut [i8],
    ) -> Result<(), LayoutError> {
        let mask = u8::MAX.wrapping_shr(8u32.wrapping_sub(self.bits));
        self.visit(rows, columns, |place| {
            let code = packed.get(place.byte).copied().unwrap_or(0).wrapping_shr(place.shift) & mask;
            let value = self.value(code).ok_or(LayoutError::Value {
                row: place.row,
                column: place.column,
                found: code.into(),
            })?;
            if let Some(slot) = values.get_mut(place.value) {
                *slot = value;
            }
            Ok(())
        })
    }

    /// Calls `f` with the place of every weight. The caller has computed the lengths of both forms without overflow.
    #[expect(clippy::arithmetic_side_effects, reason = "below the two lengths, which the caller has computed")]
    fn visit(
        &self,
        rows: usize,
        columns: usize,
        mut f: impl FnMut(Place) -> Result<(), LayoutError>,
    ) -> Result<(), LayoutError> {
        let mut block = 0;
        for panel in (0..rows).step_by(TILE * TILES) {
            for group in (0..columns).step_by(self.group()) {
                for tile in (panel..rows).step_by(TILE).take(TILES) {
                    for (lane, row) in (tile..rows).take(TILE).enumerate() {
                        for (k, column) in (group..columns).take(self.group()).enumerate() {
                            f(Place {
                                row,
                                column,
                                value: row * columns + column,
                                byte: block + 4 * lane + k % 4,
                                shift: self.bits * u32::try_from(k / 4).unwrap_or(0),
                            })?;
                        }
                    }
                    block += BLOCK;
                }
            }
        }
        Ok(())
    }
}

/// Where a weight lies.
struct Place {
    row: usize,
    column: usize,
    /// Its index among the values.
    value: usize,
    /// Its byte and the position of its lowest bit in there.
    byte: usize,
    shift: u32,
}
