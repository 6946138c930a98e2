//! Five ternary weights in a byte: the layout `trit5`.
//!
//! Five neighbouring weights of a row are the digits of a number in balanced ternary, `m = w[0] + 3 w[1] + 9 w[2] +
//! 27 w[3] + 81 w[4]`, from -121 to 121. A byte holds its magnitude in the low seven bits and its sign in the highest,
//! so that a table of 128 sums of five activations serves both signs. The byte of `m = 0` is 0; magnitudes above 121 and
//! 0x80 are not used.
//!
//! A tile is 64 rows and one group of five columns: 64 bytes. Its rows are permuted such that interleaving the low and
//! then the high halves of every 16 bytes with another vector puts rows 0 to 31 and 32 to 63 in order:
//!
//! ```text
//!  byte   0 .. 7    8 .. 15   16 .. 23   24 .. 31   32 .. 39   40 .. 47   48 .. 55   56 .. 63
//!  row    0 .. 7   32 .. 39    8 .. 15   40 .. 47   16 .. 23   48 .. 55   24 .. 31   56 .. 63
//! ```
//!
//! Four tiles make a panel of 256 rows; the last panel has as many tiles as are left. Groups are stored in runs of 48,
//! the last run having as many as are left. The order is run by run, in there panel by panel, in there group by group,
//! in there tile by tile.
//!
//! Before the tiles stands, for every row, the number of its groups with a negative number, in four little-endian bytes:
//! inverting the bits of a sum is one short of changing its sign, and this says how often. Rows are padded to 64 and
//! columns to five, with zero weights.

use super::LayoutError;

/// Rows of a tile.
const TILE: usize = 64;
/// Tiles of a panel.
const TILES: usize = 4;
/// Columns of a group.
const GROUP: usize = 5;
/// Groups of a run.
const RUN: usize = 48;
/// Bytes of the count of a row.
const COUNT: usize = 4;

/// The values of the digits.
const POWERS: [i16; GROUP] = [1, 3, 9, 27, 81];

pub(super) fn packed_len(rows: u64, columns: u64) -> Option<u64> {
    let rows = rows.checked_next_multiple_of(TILE.try_into().ok()?)?;
    let groups = columns.div_ceil(GROUP.try_into().ok()?);
    rows.checked_mul(groups.checked_add(COUNT.try_into().ok()?)?)
}

pub(super) fn pack(rows: usize, columns: usize, values: &[i8], packed: &mut [u8]) -> Result<(), LayoutError> {
    visit(rows, columns, |place| {
        let weights = values.iter().skip(place.value).take(place.len);
        let mut number = 0i16;
        for ((column, &weight), power) in (place.column..).zip(weights).zip(POWERS) {
            if !(-1..=1).contains(&weight) {
                return Err(LayoutError::Value { row: place.row, column, found: weight.into() });
            }
            number = number.saturating_add(power.saturating_mul(weight.into()));
        }
        let sign = u8::from(number < 0);
        if let (Some(byte), Ok(magnitude)) = (packed.get_mut(place.byte), u8::try_from(number.abs())) {
            *byte = magnitude | sign << 7;
        }
        if let Some(count) = packed.get_mut(place.count..).and_then(|bytes| bytes.first_chunk_mut()) {
            *count = u32::from_le_bytes(*count).saturating_add(sign.into()).to_le_bytes();
        }
        Ok(())
    })
}

pub(super) fn unpack(rows: usize, columns: usize, packed: &[u8], values: &mut [i8]) -> Result<(), LayoutError> {
    visit(rows, columns, |place| {
        let byte = packed.get(place.byte).copied().unwrap_or(0);
        let wrong = LayoutError::Value { row: place.row, column: place.column, found: byte.into() };
        let magnitude = i16::from(byte & 0x7f);
        if magnitude > 121 || byte == 0x80 {
            return Err(wrong);
        }
        let number = if byte > 0x7f { magnitude.saturating_neg() } else { magnitude };
        let mut digits = digits(number);
        // The weights past the last column are zero.
        if digits.by_ref().skip(place.len).any(|digit| digit != 0) {
            return Err(wrong);
        }
        for (slot, digit) in values.iter_mut().skip(place.value).take(place.len).zip(self::digits(number)) {
            *slot = digit;
        }
        Ok(())
    })
}

/// The five digits of a number in balanced ternary, the lowest first.
fn digits(number: i16) -> impl Iterator<Item = i8> {
    // Adding 1 to every digit gives an ordinary number in base 3.
    let shifted = number.saturating_add(POWERS.iter().sum());
    POWERS.into_iter().map(move |power| {
        let digit = shifted.checked_div(power).unwrap_or(0).checked_rem(3).unwrap_or(0);
        i8::try_from(digit).unwrap_or(0).saturating_sub(1)
    })
}

/// Calls `f` with the place of every group of every row. The caller has computed the packed length without overflow.
#[expect(clippy::arithmetic_side_effects, reason = "below the two lengths, which the caller has computed")]
fn visit(rows: usize, columns: usize, mut f: impl FnMut(Place) -> Result<(), LayoutError>) -> Result<(), LayoutError> {
    let mut tile_start = rows.next_multiple_of(TILE) * COUNT;
    for run in (0..columns).step_by(GROUP * RUN) {
        for panel in (0..rows).step_by(TILE * TILES) {
            for column in (run..columns).step_by(GROUP).take(RUN) {
                for tile in (panel..rows).step_by(TILE).take(TILES) {
                    for (i, row) in (tile..rows).take(TILE).enumerate() {
                        f(Place {
                            row,
                            column,
                            len: GROUP.min(columns - column),
                            value: row * columns + column,
                            byte: tile_start + i % 32 / 8 * 16 + i / 32 * 8 + i % 8,
                            count: row * COUNT,
                        })?;
                    }
                    tile_start += TILE;
                }
            }
        }
    }
    Ok(())
}

/// Where a group of weights lies.
struct Place {
    row: usize,
    /// Its first column.
    column: usize,
    /// Its columns, fewer than five at the end.
    len: usize,
    /// The index of its first weight among the values.
    value: usize,
    byte: usize,
    /// The first byte of the count of its row.
    count: usize,
}
