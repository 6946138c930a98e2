//! Covering a network of small tables with as few tables of three inputs as possible.
//!
//! For every node the best few *cuts* are kept: sets of at most three wires that determine it, with the function of
//! those wires. A first walk ranks cuts by area flow (the nodes of the cone, shared ones split between their readers),
//! then walks from the cover found so far rank them by the exact number of nodes they add and free. Nodes of more than
//! three inputs stay as they are: their wires are leaves for everything above.

use super::builder::{Builder, Literal};
use super::truth;
use bitc_ir::netlist::{MAX_FANIN, Netlist, Wire};

/// Inputs of the tables mapped to.
const K: usize = 3;
/// Cuts kept per node.
const KEPT: usize = 7;
/// Walks that rank by area flow, and walks that rank by exact area.
const FLOW_WALKS: usize = 2;
const EXACT_WALKS: usize = 2;

/// Wires that determine a node, ascending, and the node's function of them.
#[derive(Clone, Copy)]
struct Cut {
    leaves: [u32; K],
    n: u8,
    /// Over `leaves` as variables 0 to 2.
    table: u8,
    area: f32,
}

const NO_CUT: Cut = Cut { leaves: [u32::MAX; K], n: 0, table: 0, area: 0.0 };

struct Mapper<'n> {
    net: &'n Netlist,
    /// The kept cuts of a wire, best first: `cuts[wire * KEPT..]`, `n_cuts[wire]` of them.
    cuts: Vec<Cut>,
    n_cuts: Vec<u8>,
    flow: Vec<f32>,
    /// Readers of a wire: an estimate during the flow walks, exact for the current cover afterwards.
    readers: Vec<f32>,
    in_cover: Vec<u32>,
    /// Wires still to be visited by `claim` and `release`.
    pending: Vec<u32>,
}

/// Covers the nodes of up to three inputs by cuts, until a round no longer saves nodes.
pub(super) fn map(net: &Netlist) -> Netlist {
    let mut best = cover(net);
    for _ in 0..3 {
        let again = cover(&best);
        if again.n_nodes() >= best.n_nodes() {
            break;
        }
        best = again;
    }
    if best.n_nodes() <= net.n_nodes() { best } else { net.clone() }
}

fn cover(net: &Netlist) -> Netlist {
    let n = net.n_wires();
    let mut mapper = Mapper {
        net,
        cuts: vec![NO_CUT; n * KEPT],
        n_cuts: vec![0; n],
        flow: vec![0.0; n],
        readers: vec![0.0; n],
        in_cover: vec![0; n],
        pending: Vec::new(),
    };
    for (_, node) in net.nodes() {
        node.inputs.iter().for_each(|input| mapper.readers[input.index()] += 1.0);
    }
    net.outputs().iter().for_each(|output| mapper.readers[output.index()] += 1.0);
    for walk in 0..FLOW_WALKS {
        mapper.flow_walk();
        mapper.count_cover();
        if walk + 1 < FLOW_WALKS {
            for (estimate, &found) in mapper.readers.iter_mut().zip(&mapper.in_cover) {
                *estimate = 0.5 * (*estimate + found as f32);
            }
        }
    }
    for _ in 0..EXACT_WALKS {
        mapper.exact_walk();
    }
    mapper.build()
}

impl Mapper<'_> {
    fn is_mapped(&self, wire: usize) -> bool {
        self.n_cuts[wire] > 0
    }

    /// Finds cuts bottom up and orders them by area flow.
    fn flow_walk(&mut self) {
        let mut found: Vec<Cut> = Vec::new();
        for (wire, node) in self.net.nodes() {
            let (wire, inputs) = (wire.index(), node.inputs);
            if inputs.is_empty() || inputs.len() > K {
                let leaves: f32 = inputs.iter().map(|input| self.flow[input.index()]).sum();
                self.flow[wire] = (leaves + 1.0) / self.readers[wire].max(1.0);
                continue;
            }
            found.clear();
            self.merge_cuts(inputs, &mut [NO_CUT; K], 0, node.table, &mut found);
            for cut in &mut found {
                cut.area = 1.0 + cut.leaves[..cut.n as usize].iter().map(|&l| self.flow[l as usize]).sum::<f32>();
            }
            found.sort_by(|a, b| a.area.total_cmp(&b.area).then(a.n.cmp(&b.n)).then(a.leaves.cmp(&b.leaves)));
            let kept = &mut self.cuts[wire * KEPT..(wire + 1) * KEPT];
            let mut n = 0;
            for cut in &found {
                if n < KEPT && kept[..n].iter().all(|k| k.leaves != cut.leaves) {
                    kept[n] = *cut;
                    n += 1;
                }
            }
            self.n_cuts[wire] = n as u8;
            self.flow[wire] = kept[0].area / self.readers[wire].max(1.0);
        }
    }

    /// Every union of one cut per input that has at most `K` leaves.
    fn merge_cuts(&self, inputs: &[Wire], chosen: &mut [Cut; K], depth: usize, table: u64, found: &mut Vec<Cut>) {
        if depth == inputs.len() {
            found.push(compose(table, &chosen[..depth], chosen_leaves(&chosen[..depth])));
            return;
        }
        let wire = inputs[depth].index();
        let kept = &self.cuts[wire * KEPT..wire * KEPT + self.n_cuts[wire] as usize];
        let itself = Cut { leaves: [wire as u32, u32::MAX, u32::MAX], n: 1, table: 0b10, area: 0.0 };
        for cut in kept.iter().chain(std::iter::once(&itself)) {
            chosen[depth] = *cut;
            if chosen_leaves(&chosen[..=depth]).1 <= K {
                self.merge_cuts(inputs, chosen, depth + 1, table, found);
            }
        }
    }

    /// Counts the readers of every wire in the cover of best cuts.
    fn count_cover(&mut self) {
        self.in_cover.fill(0);
        self.net.outputs().iter().for_each(|output| self.in_cover[output.index()] += 1);
        for (wire, node) in self.net.nodes().rev() {
            let wire = wire.index();
            if self.in_cover[wire] == 0 {
                continue;
            }
            if self.is_mapped(wire) {
                let cut = self.cuts[wire * KEPT];
                cut.leaves[..cut.n as usize].iter().for_each(|&leaf| self.in_cover[leaf as usize] += 1);
            } else {
                node.inputs.iter().for_each(|input| self.in_cover[input.index()] += 1);
            }
        }
    }

    /// Replaces, bottom up, the best cut of each node in the cover by the one that adds the fewest nodes.
    fn exact_walk(&mut self) {
        for wire in self.net.n_inputs() as usize..self.net.n_wires() {
            if !self.is_mapped(wire) || self.in_cover[wire] == 0 {
                continue;
            }
            let at = wire * KEPT;
            self.release(at);
            let mut best = (u32::MAX, u8::MAX, 0);
            for i in 0..usize::from(self.n_cuts[wire]) {
                let area = self.claim(at + i);
                self.release(at + i);
                best = best.min((area, self.cuts[at + i].n, i));
            }
            self.cuts.swap(at, at + best.2);
            self.claim(at);
        }
    }

    /// Counts a cut's leaves as read; answers how many nodes below it that adds to the cover.
    fn claim(&mut self, cut: usize) -> u32 {
        let mut added = 0;
        self.push_cut(cut);
        while let Some(leaf) = self.pending.pop() {
            self.in_cover[leaf as usize] += 1;
            if self.in_cover[leaf as usize] == 1 && leaf >= self.net.n_inputs() {
                added += 1;
                self.push_leaves(leaf);
            }
        }
        added
    }

    /// Undoes `claim`.
    fn release(&mut self, cut: usize) {
        self.push_cut(cut);
        while let Some(leaf) = self.pending.pop() {
            self.in_cover[leaf as usize] -= 1;
            if self.in_cover[leaf as usize] == 0 && leaf >= self.net.n_inputs() {
                self.push_leaves(leaf);
            }
        }
    }

    fn push_cut(&mut self, cut: usize) {
        let Cut { leaves, n, .. } = self.cuts[cut];
        self.pending.extend_from_slice(&leaves[..usize::from(n)]);
    }

    /// The wires a node of the cover reads: the leaves of its best cut, or its inputs when it stays as it is.
    fn push_leaves(&mut self, wire: u32) {
        if self.is_mapped(wire as usize) {
            self.push_cut(wire as usize * KEPT);
        } else if let Some(node) = self.net.node(Wire::new(wire)) {
            self.pending.extend(node.inputs.iter().map(|input| input.id()));
        }
    }

    /// The network of the nodes in the cover.
    fn build(mut self) -> Netlist {
        self.count_cover();
        let mut builder = Builder::new(self.net.n_inputs());
        let mut map: Vec<Literal> = (0..self.net.n_inputs()).map(|i| Literal::new(Wire::new(i), false)).collect();
        for (wire, node) in self.net.nodes() {
            let wire = wire.index();
            let literal = if self.in_cover[wire] == 0 {
                Literal::FALSE
            } else if self.is_mapped(wire) {
                let cut = self.cuts[wire * KEPT];
                let mut inputs = [Literal::FALSE; K];
                for (input, &leaf) in inputs.iter_mut().zip(&cut.leaves[..cut.n as usize]) {
                    *input = map[leaf as usize];
                }
                builder.node(truth::repeat(u64::from(cut.table), K), &inputs)
            } else {
                builder.copy(node.table, node.inputs, &map)
            };
            map.push(literal);
        }
        let outputs: Vec<Literal> = self.net.outputs().iter().map(|wire| map[wire.index()]).collect();
        builder.finish(&outputs)
    }
}

/// The union of the leaves, ascending, and how many there are; `K + 1` stands for more than `K`.
fn chosen_leaves(cuts: &[Cut]) -> ([u32; K], usize) {
    let mut union = [u32::MAX; K];
    let mut n = 0;
    for cut in cuts {
        for &leaf in &cut.leaves[..cut.n as usize] {
            let at = union[..n].partition_point(|&u| u < leaf);
            if at < n && union[at] == leaf {
                continue;
            }
            if n == K {
                return (union, K + 1);
            }
            union.copy_within(at..n, at + 1);
            union[at] = leaf;
            n += 1;
        }
    }
    (union, n)
}

/// The cut with these leaves, with `table` applied to the functions of the chosen cuts; unread leaves are left out.
fn compose(table: u64, chosen: &[Cut], (leaves, n): ([u32; K], usize)) -> Cut {
    let mut functions = [0u64; MAX_FANIN];
    for (function, cut) in functions.iter_mut().zip(chosen) {
        let mut variables = [0u64; K];
        for (variable, leaf) in variables.iter_mut().zip(&cut.leaves[..cut.n as usize]) {
            let position = leaves[..n].iter().position(|l| l == leaf);
            *variable = position.map_or(0, |p| truth::VARIABLES[p]);
        }
        *function = truth::compose(truth::repeat(u64::from(cut.table), K), &variables);
    }
    let mut table = truth::compose(truth::repeat(table, chosen.len()), &functions[..chosen.len()]);
    let mut cut = Cut { leaves, n: 0, table: 0, area: 0.0 };
    for j in 0..n {
        if !truth::depends(table, j) {
            continue;
        }
        let to = usize::from(cut.n);
        if to != j {
            table = truth::swap_inputs(table, to, j);
            cut.leaves.swap(to, j);
        }
        cut.n += 1;
    }
    cut.leaves[usize::from(cut.n)..].fill(u32::MAX);
    cut.table = table as u8;
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, n_nodes: usize) {
        let net: Netlist = text.parse().unwrap();
        let got = map(&net);
        bitc_ir::netlist::compare(&net, &got, 1 << 12, 1).unwrap();
        assert_eq!(got.n_nodes(), n_nodes, "{got}");
    }

    #[test]
    fn joins_two_gates_of_two_inputs() {
        check("netlist {\n inputs 3\n %3 = 8(%0, %1)\n %4 = 6(%2, %3)\n outputs %4\n}", 1);
    }

    #[test]
    fn keeps_a_gate_that_others_read() {
        check("netlist {\n inputs 4\n %4 = 8(%0, %1)\n %5 = 6(%2, %4)\n %6 = e(%3, %4)\n outputs %4, %5, %6\n}", 3);
    }

    #[test]
    fn sees_through_reconvergence() {
        // A full adder's carry from five gates of two inputs.
        check(
            "netlist {\n inputs 3\n %3 = 6(%0, %1)\n %4 = 8(%0, %1)\n %5 = 8(%3, %2)\n %6 = e(%4, %5)\n \
             %7 = 6(%3, %2)\n outputs %6, %7\n}",
            2,
        );
    }

    #[test]
    fn goes_around_wide_tables() {
        check(
            "netlist {\n inputs 6\n %6 = 8(%0, %1)\n %7 = 123456789abcdef0(%0, %1, %2, %3, %4, %6)\n \
             %8 = 6(%7, %5)\n %9 = 8(%8, %0)\n outputs %9\n}",
            3,
        );
    }
}
