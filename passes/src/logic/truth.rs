//! Truth tables of up to six variables in a 64-bit word.
//!
//! A function of fewer variables is stored repeated over the whole word, so that every operation may treat it as one
//! of six. Bit `a` is the value at address `a`, variable `j` is bit `j` of the address.

/// Variable `j` as a table.
pub(crate) const VARIABLES: [u64; 6] = [
    0xaaaa_aaaa_aaaa_aaaa,
    0xcccc_cccc_cccc_cccc,
    0xf0f0_f0f0_f0f0_f0f0,
    0xff00_ff00_ff00_ff00,
    0xffff_0000_ffff_0000,
    0xffff_ffff_0000_0000,
];

/// The table of `n` variables in its low bits, repeated over the word.
pub(crate) fn repeat(table: u64, n: usize) -> u64 {
    let mut table = table;
    for j in n..6 {
        table |= table << (1u32 << j);
    }
    table
}

/// The function where variable `j` is 0.
pub(crate) fn cofactor0(table: u64, j: usize) -> u64 {
    let low = table & !VARIABLES[j];
    low | low << (1u32 << j)
}

/// The function where variable `j` is 1.
pub(crate) fn cofactor1(table: u64, j: usize) -> u64 {
    let high = table & VARIABLES[j];
    high | high >> (1u32 << j)
}

/// Whether the function depends on variable `j`.
pub(crate) fn depends(table: u64, j: usize) -> bool {
    cofactor0(table, j) != cofactor1(table, j)
}

/// The function with variable `j` negated.
pub(crate) fn negate_input(table: u64, j: usize) -> u64 {
    (table & VARIABLES[j]) >> (1u32 << j) | (table & !VARIABLES[j]) << (1u32 << j)
}

/// The function where variable `j` is replaced by variable `i`.
pub(crate) fn merge_inputs(table: u64, j: usize, i: usize) -> u64 {
    cofactor1(table, j) & VARIABLES[i] | cofactor0(table, j) & !VARIABLES[i]
}

/// The function with variables `i < j` exchanged.
pub(crate) fn swap_inputs(table: u64, i: usize, j: usize) -> u64 {
    let shift = (1u32 << j) - (1 << i);
    let up = VARIABLES[i] & !VARIABLES[j];
    let down = VARIABLES[j] & !VARIABLES[i];
    table & !(up | down) | (table & up) << shift | (table & down) >> shift
}

/// The function `f(g_0, g_1, ...)` for `f` of as many variables as there are `inputs`.
pub(crate) fn compose(table: u64, inputs: &[u64]) -> u64 {
    match inputs.split_last() {
        None => (table & 1).wrapping_neg(),
        Some((&select, rest)) => {
            let j = rest.len();
            select & compose(cofactor1(table, j), rest) | !select & compose(cofactor0(table, j), rest)
        }
    }
}

/// The smallest of the tables that differ from a table of three inputs by their order only.
pub(crate) fn canonical_of_three(table: u8) -> u8 {
    let swaps: [&[(usize, usize)]; 6] = [&[], &[(0, 1)], &[(0, 2)], &[(1, 2)], &[(0, 1), (0, 2)], &[(0, 1), (1, 2)]];
    let permuted = swaps
        .iter()
        .map(|swaps| swaps.iter().fold(repeat(u64::from(table), 3), |table, &(i, j)| swap_inputs(table, i, j)) as u8);
    permuted.min().unwrap_or(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(table: u64, address: usize) -> u64 {
        table >> (address & 63) & 1
    }

    #[test]
    fn agrees_with_address_arithmetic() {
        let mut state = 1u64;
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let t = state ^ state >> 29;
            for a in 0..64usize {
                for j in 0..6 {
                    let bit = 1 << j;
                    assert_eq!(value(cofactor0(t, j), a), value(t, a & !bit));
                    assert_eq!(value(cofactor1(t, j), a), value(t, a | bit));
                    assert_eq!(value(negate_input(t, j), a), value(t, a ^ bit));
                    for i in 0..j {
                        let copied = a & !bit | (a >> i & 1) << j;
                        assert_eq!(value(merge_inputs(t, j, i), a), value(t, copied));
                        let differ = (a >> i ^ a >> j) & 1;
                        assert_eq!(value(swap_inputs(t, i, j), a), value(t, a ^ (differ << i | differ << j)));
                    }
                }
            }
            assert_eq!(compose(t, &VARIABLES), t);
            let inputs = [VARIABLES[3] ^ VARIABLES[1], VARIABLES[0] & VARIABLES[5]];
            let want = !(VARIABLES[3] ^ VARIABLES[1]) | VARIABLES[0] & VARIABLES[5];
            assert_eq!(compose(repeat(0b1101, 2), &inputs), want);
        }
    }

    #[test]
    fn eighty_tables_of_three_differ_by_more_than_order() {
        let mut all: Vec<u8> = (0..=255).map(canonical_of_three).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 80);
        assert_eq!(canonical_of_three(0xd8), canonical_of_three(0xe4), "a multiplexer by its first or last input");
    }

    #[test]
    fn repeats_small_tables() {
        assert_eq!(repeat(0b10, 1), VARIABLES[0]);
        assert_eq!(repeat(1, 0), u64::MAX);
        assert!(!depends(repeat(0b1000, 2), 2));
        assert!(depends(repeat(0b1000, 2), 1));
    }
}
