//! Tables of which only some entries matter, and the cheapest full table that agrees with one.
//!
//! Inputs are left out as long as no entry that matters contradicts. What then has more than three inputs is tried as
//! gates of three, like `decompose` but with the choice that free entries leave: a bound set, or a multiplexer.

use super::decompose::fewest;
use super::truth;
use bitc_ir::netlist::MAX_FANIN;

/// A table of six variables whose entries must be 1, must be 0, or may be either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Partial {
    ones: u64,
    zeros: u64,
}

impl Partial {
    /// The entries of `table` at these addresses; both are repeated over the word.
    pub(super) fn new(table: u64, addresses: u64) -> Self {
        Self { ones: table & addresses, zeros: !table & addresses }
    }

    /// Whether all entries matter, so that one table agrees.
    pub(super) fn is_full(self) -> bool {
        self.ones | self.zeros == u64::MAX
    }

    /// The value of all entries that matter, if they have only one; with none of them it is 0.
    #[cfg(test)]
    fn constant(self) -> Option<bool> {
        match (self.ones, self.zeros) {
            (0, _) => Some(false),
            (_, 0) => Some(true),
            _ => None,
        }
    }

    /// Whether a full table agrees.
    #[cfg(test)]
    fn admits(self, table: u64) -> bool {
        table & self.zeros == 0 && !table & self.ones == 0
    }

    /// The same without variable `j`; `None` where entries contradict then.
    fn without(self, j: usize) -> Option<Self> {
        let both = |entries: u64| truth::cofactor0(entries, j) | truth::cofactor1(entries, j);
        let (ones, zeros) = (both(self.ones), both(self.zeros));
        (ones & zeros == 0).then_some(Self { ones, zeros })
    }

    fn half(self, j: usize, one: bool) -> Self {
        let cofactor = if one { truth::cofactor1 } else { truth::cofactor0 };
        Self { ones: cofactor(self.ones, j), zeros: cofactor(self.zeros, j) }
    }

    /// Both at once, where they do not contradict.
    fn and(self, other: Self) -> Option<Self> {
        let (ones, zeros) = (self.ones | other.ones, self.zeros | other.zeros);
        (ones & zeros == 0).then_some(Self { ones, zeros })
    }

    /// Over as few variables as possible, of those in `left`; of equal choices the one that leaves most entries free.
    /// Answers with the variables that are left.
    pub(super) fn smallest(self, left: u8) -> (Self, u8) {
        let mut best = (self, left);
        self.leave_out(0, left, &mut best);
        best
    }

    fn leave_out(self, from: usize, left: u8, best: &mut (Self, u8)) {
        let rank = |of: &(Self, u8)| (of.1.count_ones(), (of.0.ones | of.0.zeros).count_ones());
        if rank(&(self, left)) < rank(best) {
            *best = (self, left);
        }
        for j in (from..MAX_FANIN).filter(|j| left >> j & 1 == 1) {
            if let Some(less) = self.without(j) {
                less.leave_out(j + 1, left & !(1 << j), best);
            }
        }
    }

    /// A full table: free entries are as most of the entries of `like` that stand for them, where `left` are the variables
    /// that are left.
    pub(super) fn filled_like(self, like: u64, left: u8) -> u64 {
        let left = usize::from(left);
        let mut more_ones = [0i8; 1 << MAX_FANIN];
        for address in 0..more_ones.len() {
            more_ones[address & left] += if like >> address & 1 == 1 { 1 } else { -1 };
        }
        let mut filled = self.ones;
        for address in (0..more_ones.len()).filter(|a| (self.ones | self.zeros) >> a & 1 == 0) {
            let stands_for = address & left;
            let tie = more_ones[stands_for] == 0 && like >> stands_for & 1 == 1;
            filled |= u64::from(more_ones[stands_for] > 0 || tie) << address;
        }
        filled
    }

    /// The cheapest full table of at most `limit` gates of three inputs, with their number.
    pub(super) fn cheapest(self, limit: u8) -> Option<(u8, u64)> {
        let (small, left) = self.smallest(0x3f);
        let n = left.count_ones() as u8;
        if n <= 3 {
            let cost = u8::from(n > 1);
            return (cost <= limit).then_some((cost, small.filled_like(0, left)));
        }
        if fewest(usize::from(n)) > limit {
            return None;
        }
        let variables: Vec<usize> = (0..MAX_FANIN).filter(|j| left >> j & 1 == 1).collect();
        let mut best = None;
        let mut limit = limit;
        let mut keep = |found: (u8, u64), limit: &mut u8| {
            *limit = found.0.saturating_sub(1);
            best = Some(found);
        };
        for &c in &variables {
            for (i, &a) in variables.iter().enumerate() {
                for &b in variables[i + 1..].iter().filter(|&&b| a != c && b != c) {
                    for shared in [false, true] {
                        // With all three bound the order does not matter, so one order is enough.
                        if !shared && c < b {
                            continue;
                        }
                        if let Some((inner, outer)) = small.bind([a, b, c], shared)
                            && let Some((cost, full)) = limit.checked_sub(1).and_then(|l| outer.cheapest(l))
                        {
                            let joined = truth::cofactor1(full, a) & inner | truth::cofactor0(full, a) & !inner;
                            keep((cost + 1, joined), &mut limit);
                        }
                    }
                }
            }
        }
        for &j in &variables {
            let Some(low) = limit.checked_sub(1).and_then(|l| small.half(j, false).cheapest(l)) else { continue };
            let Some(high) = small.half(j, true).cheapest(limit - 1 - low.0) else { continue };
            let full = truth::VARIABLES[j] & high.1 | !truth::VARIABLES[j] & low.1;
            keep((1 + low.0 + high.0, full), &mut limit);
        }
        best
    }

    /// An inner function of `a`, `b`, `c` and an outer one that reads it in place of `a`, and no longer `b`; nor `c`, unless
    /// it is shared. `None` where the cofactors are found to take more than two values.
    fn bind(self, [a, b, c]: [usize; 3], shared: bool) -> Option<(u64, Self)> {
        const FREE: Partial = Partial { ones: 0, zeros: 0 };
        let mut inner = 0;
        let mut outer = FREE;
        let mut values = [FREE; 2];
        for one_of_c in [false, true] {
            let half = self.half(c, one_of_c);
            let literal = |j: usize, one: bool| if one { truth::VARIABLES[j] } else { !truth::VARIABLES[j] };
            if shared {
                values = [FREE; 2];
            }
            for (one_of_a, one_of_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let quarter = half.half(a, one_of_a).half(b, one_of_b);
                if let Some(both) = values[0].and(quarter) {
                    values[0] = both;
                } else {
                    values[1] = values[1].and(quarter)?;
                    inner |= literal(a, one_of_a) & literal(b, one_of_b) & literal(c, one_of_c);
                }
            }
            let at = |one: bool, entries: fn(Self) -> u64| literal(a, one) & entries(values[usize::from(one)]);
            let of = |entries: fn(Self) -> u64| at(false, entries) | at(true, entries);
            let merged = Self { ones: of(|p| p.ones), zeros: of(|p| p.zeros) };
            let place = literal(c, one_of_c);
            outer = if shared {
                Self { ones: outer.ones | merged.ones & place, zeros: outer.zeros | merged.zeros & place }
            } else {
                merged
            };
        }
        Some((inner, outer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state ^ *state >> 31
    }

    #[test]
    fn as_few_inputs_as_the_entries_allow() {
        // Parity of six, seen only where all variables are equal to the first: one variable says it all.
        let parity: u64 = (0..64u64).map(|a| u64::from(a.count_ones() & 1) << a).sum();
        let (table, left) = Partial::new(parity, 1 | 1 << 63).smallest(0x3f);
        assert_eq!((table.constant(), left), (Some(false), 0));
        // Seen where only the first two vary, the others are not needed.
        let (table, left) = Partial::new(parity, 0b1111).smallest(0x3f);
        assert_eq!((left, table.filled_like(0, left)), (0b11, truth::repeat(0b0110, 2)));
        // The whole table needs all.
        assert_eq!(Partial::new(parity, u64::MAX).smallest(0x3f).1, 0x3f);
    }

    #[test]
    fn full_tables_agree_where_it_matters_and_are_cheaper() {
        let mut state = 3;
        let mut gates = super::super::decompose::Gates::default();
        let (mut found, mut cheaper) = (0, 0);
        for round in 0..600 {
            let table = random(&mut state);
            let mut addresses = random(&mut state);
            for _ in 0..round % 4 {
                addresses &= random(&mut state);
            }
            let partial = Partial::new(table, addresses);
            let (small, left) = partial.smallest(0x3f);
            let filled = small.filled_like(table, left);
            assert!(partial.admits(filled) && partial.admits(table));
            assert!((0..6).all(|j| left >> j & 1 == 1 || !truth::depends(filled, j)));
            if left == 0x3f {
                assert_eq!(filled, table, "what gains nothing stays as it was trained");
            }
            let Some((cost, full)) = partial.cheapest(5) else { continue };
            assert!(partial.admits(full) && cost <= 5);
            found += 1;
            cheaper += u32::from(gates.of(full, 99) < gates.of(table, 99));
        }
        assert!(found > 300 && cheaper > 300, "{found} {cheaper}");
    }
}
