//! Splitting tables of four to six inputs into tables of three, where that is cheaper than evaluating them as they are.
//!
//! Two ways are weighed at every step. A *bound set* {a, b, c} of inputs whose eight cofactors take at most two values
//! can be computed on its own: f(a, b, c, rest) == g(h(a, b, c), rest); with two bound inputs and a shared one it is
//! f(a, b, x, rest) == g(h(a, b, x), x, rest). Otherwise a multiplexer splits on one input:
//! f(x, rest) == x ? f1(rest) : f0(rest).

use super::builder::{Builder, FastMap, Literal};
use super::truth;
use bitc_ir::netlist::{MAX_FANIN, Netlist, Wire};

/// The most nodes of three inputs a table may become, by number of inputs; a table that needs more stays whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitLimits(pub [u8; MAX_FANIN + 1]);

impl Default for SplitLimits {
    fn default() -> Self {
        Self([0, 0, 0, 0, 3, 5, 5])
    }
}

/// Remembered answers; emptied when it grows past this.
const MEMO_LIMIT: usize = 1 << 18;

/// How a table is split best.
#[derive(Clone, Copy, Debug)]
enum Split {
    /// At most three inputs: a node as it is.
    Leaf,
    /// A multiplexer on this variable.
    Select(u8),
    /// An inner function of three variables, read by the outer one in place of variable `a`.
    Bound { a: u8, inner: u64, outer: u64 },
}

/// Splits every table whose nodes of three inputs are within `limits`.
pub(super) fn decompose(net: &Netlist, limits: SplitLimits) -> Netlist {
    let mut builder = Builder::new(net.n_inputs());
    let mut splitter = Splitter::default();
    let mut map: Vec<Literal> = (0..net.n_inputs()).map(|i| Literal::new(Wire::new(i), false)).collect();
    for (_, node) in net.nodes() {
        let n = node.inputs.len();
        let table = truth::repeat(node.table, n);
        let cost = if n > 3 { splitter.best(table, limits.0[n]) } else { None };
        let literal = if let Some((cost, _)) = cost {
            let mut inputs = [Literal::FALSE; MAX_FANIN];
            for (input, wire) in inputs.iter_mut().zip(node.inputs) {
                *input = map[wire.index()];
            }
            splitter.emit(&mut builder, table, cost, &inputs)
        } else {
            builder.copy(node.table, node.inputs, &map)
        };
        map.push(literal);
    }
    let outputs: Vec<Literal> = net.outputs().iter().map(|wire| map[wire.index()]).collect();
    builder.finish(&outputs)
}

/// How many gates of three inputs tables become.
#[derive(Default)]
pub(super) struct Gates(Splitter);

impl Gates {
    /// The gates of a table, repeated over the word, if they are at most `limit`.
    pub(super) fn of(&mut self, table: u64, limit: u8) -> Option<u8> {
        Some(self.0.best(table, limit)?.0)
    }
}

/// The fewest nodes of three inputs for a function of `n` variables: a node takes two of them away at most.
pub(super) fn fewest(n: usize) -> u8 {
    n.saturating_sub(1).div_ceil(2) as u8
}

/// What is known of a table.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Its number of nodes and the first step towards them.
    Best(u8, Split),
    /// It needs more nodes than these.
    MoreThan(u8),
}

/// The best split so far, and how many nodes a better one may have.
struct Search {
    best: Option<(u8, Split)>,
    left: u8,
}

impl Search {
    fn keep(&mut self, cost: u8, split: Split) {
        if cost <= self.left {
            self.best = Some((cost, split));
            self.left = cost - 1;
        }
    }
}

#[derive(Default)]
struct Splitter {
    memo: FastMap<u64, Known>,
}

/// The variables a table depends on.
fn support(table: u64) -> ([u8; MAX_FANIN], usize) {
    let mut support = [0u8; MAX_FANIN];
    let mut n = 0;
    for j in 0..MAX_FANIN as u8 {
        if truth::depends(table, j as usize) {
            support[n] = j;
            n += 1;
        }
    }
    (support, n)
}

impl Splitter {
    /// The number of nodes `table` needs, and the first step towards them, if it needs at most `limit`.
    fn best(&mut self, table: u64, limit: u8) -> Option<(u8, Split)> {
        let (support, n) = support(table);
        if n <= 3 {
            let cost = u8::from(n > 1);
            return (cost <= limit).then_some((cost, Split::Leaf));
        }
        if fewest(n) > limit {
            return None;
        }
        match self.memo.get(&table) {
            Some(&Known::Best(cost, split)) => return (cost <= limit).then_some((cost, split)),
            Some(&Known::MoreThan(cost)) if limit <= cost => return None,
            _ => {}
        }
        let mut search = Search { best: None, left: limit };
        self.try_bound_sets(table, &support[..n], &mut search);
        // Any split on a variable costs at least one node for each half that is no wire.
        for &j in &support[..n] {
            let (low, high) = (truth::cofactor0(table, j as usize), truth::cofactor1(table, j as usize));
            let least_high = if low == !high { 0 } else { fewest(self::support(high).1) };
            let Some(left) = search.left.checked_sub(1 + least_high) else { continue };
            let Some((cost_low, _)) = self.best(low, left) else { continue };
            let cost_high = if low == !high { Some(0) } else { self.cost(high, search.left - 1 - cost_low) };
            if let Some(cost_high) = cost_high {
                search.keep(1 + cost_low + cost_high, Split::Select(j));
            }
        }
        if self.memo.len() > MEMO_LIMIT {
            self.memo.clear();
        }
        let known = search.best.map_or(Known::MoreThan(limit), |(cost, split)| Known::Best(cost, split));
        self.memo.insert(table, known);
        search.best
    }

    fn cost(&mut self, table: u64, limit: u8) -> Option<u8> {
        Some(self.best(table, limit)?.0)
    }

    fn try_bound_sets(&mut self, table: u64, support: &[u8], search: &mut Search) {
        let n = support.len();
        for &c in support {
            for (i, &a) in support.iter().enumerate() {
                for &b in &support[i + 1..] {
                    if a == c || b == c {
                        continue;
                    }
                    // With all three bound the order does not matter, so one order is enough.
                    if c > b && fewest(n - 2) < search.left {
                        self.try_bound_set(table, [a, b, c], false, search);
                    }
                    if fewest(n - 1) < search.left {
                        self.try_bound_set(table, [a, b, c], true, search);
                    }
                }
            }
        }
    }

    fn try_bound_set(&mut self, table: u64, [a, b, c]: [u8; 3], shared: bool, search: &mut Search) {
        let Some((inner, outer)) = bind(table, a, b, c, shared) else { return };
        if let Some(cost) = self.cost(outer, search.left - 1) {
            search.keep(1 + cost, Split::Bound { a, inner, outer });
        }
    }

    /// Adds the nodes of `table` over `inputs`, which are at most `limit`.
    fn emit(&mut self, builder: &mut Builder, table: u64, limit: u8, inputs: &[Literal; MAX_FANIN]) -> Literal {
        match self.best(table, limit) {
            None | Some((_, Split::Leaf)) => builder.node(table, inputs),
            Some((cost, Split::Select(j))) => {
                let low = self.emit(builder, truth::cofactor0(table, j as usize), cost - 1, inputs);
                let high = self.emit(builder, truth::cofactor1(table, j as usize), cost - 1, inputs);
                builder.node(truth::repeat(0xe4, 3), &[inputs[j as usize], low, high])
            }
            Some((cost, Split::Bound { a, inner, outer })) => {
                let mut inputs = *inputs;
                inputs[a as usize] = builder.node(inner, &inputs);
                self.emit(builder, outer, cost - 1, &inputs)
            }
        }
    }
}

/// Splits `table` into an inner function of `a`, `b`, `c` and an outer one that reads the inner one in place of `a`, and
/// no longer `b`; nor `c`, unless it is shared. `None` when the cofactors take more than two values.
fn bind(table: u64, a: u8, b: u8, c: u8, shared: bool) -> Option<(u64, u64)> {
    let (a, b, c) = (usize::from(a), usize::from(b), usize::from(c));
    let halves = [truth::cofactor0(table, c), truth::cofactor1(table, c)];
    let quarter = |half: u64, address: usize| {
        let half = if address & 1 == 1 { truth::cofactor1(half, a) } else { truth::cofactor0(half, a) };
        if address & 2 == 2 { truth::cofactor1(half, b) } else { truth::cofactor0(half, b) }
    };
    let minterm = |address: usize| {
        let pick = |j: usize, one: bool| if one { truth::VARIABLES[j] } else { !truth::VARIABLES[j] };
        pick(a, address & 1 == 1) & pick(b, address & 2 == 2)
    };
    let mut inner = 0;
    let mut outer = 0;
    let mut values: [Option<u64>; 2] = [None; 2];
    for (value_of_c, half) in halves.into_iter().enumerate() {
        let half_of_c = if value_of_c == 1 { truth::VARIABLES[c] } else { !truth::VARIABLES[c] };
        if shared {
            values = [None; 2];
        }
        for address in 0..4 {
            let value = quarter(half, address);
            match values {
                [Some(zero), _] if zero == value => {}
                [None, _] => values[0] = Some(value),
                [_, Some(one)] if one == value => inner |= minterm(address) & half_of_c,
                [_, None] => {
                    values[1] = Some(value);
                    inner |= minterm(address) & half_of_c;
                }
                _ => return None,
            }
        }
        let zero = values[0].unwrap_or(0);
        let one = values[1].unwrap_or(zero);
        let merged = zero & !truth::VARIABLES[a] | one & truth::VARIABLES[a];
        outer = if shared { outer | merged & half_of_c } else { merged };
    }
    Some((inner, outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_table(table: u64, n: usize) -> Netlist {
        let mut net = Netlist::new(n as u32);
        let inputs: Vec<Wire> = (0..n as u32).map(Wire::new).collect();
        let out = net.add(table & bitc_ir::netlist::table_mask(n), &inputs).unwrap();
        net.add_output(out).unwrap();
        net
    }

    fn n_nodes(table: u64, n: usize) -> usize {
        let net = one_table(table, n);
        let got = decompose(&net, SplitLimits([u8::MAX; 7]));
        bitc_ir::netlist::compare(&net, &got, 0, 1).unwrap();
        assert!(got.nodes().all(|(_, node)| node.inputs.len() <= 3));
        got.n_nodes()
    }

    #[test]
    fn finds_functions_of_functions() {
        assert_eq!(n_nodes(0x8000, 4), 2, "and of four");
        assert_eq!(n_nodes(0x6996, 4), 2, "parity of four");
        let parity6 = (0..64u64).map(|a| u64::from(a.count_ones() & 1) << a).sum();
        assert_eq!(n_nodes(parity6, 6), 3, "parity of six");
        assert_eq!(n_nodes(u64::MAX >> 1, 6), 3, "nand of six");
        let mux4 = (0..64u64).map(|a| (a >> (2 + (a & 3)) & 1) << a).sum();
        assert!(n_nodes(mux4, 6) <= 3, "multiplexer of four");
    }

    #[test]
    fn every_table_of_four_inputs_needs_at_most_three_nodes() {
        for table in (0..1u64 << 16).step_by(37) {
            assert!(n_nodes(table, 4) <= 3, "{table:x}");
        }
    }

    #[test]
    fn random_tables_keep_their_meaning() {
        let mut state = 7u64;
        for n in [5, 6] {
            for _ in 0..40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                assert!(n_nodes(state ^ state >> 31, n) <= if n == 5 { 7 } else { 15 });
            }
        }
    }

    #[test]
    fn leaves_tables_above_the_limit_whole() {
        let net = one_table(0x6fd1_5c3a_91e2_b847, 6);
        let got = decompose(&net, SplitLimits::default());
        assert_eq!(got, net);
    }
}
