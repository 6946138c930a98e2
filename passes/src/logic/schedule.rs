//! Putting a network in an order of execution and its values into slots.
//!
//! What an executor pays for is moving values: a word per slot goes through the caches for every read and write, and
//! every change of operation costs a jump. So nodes are ordered to keep the live values few and near, with equal tables
//! together (`order`), and a slot is reused, the most recently freed first, as soon as its value has been read for the
//! last time.

use super::{order, polarity};
use bitc_ir::netlist::{Netlist, Wire, table_mask};

/// What happens to the outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// They are the answer.
    Bits,
    /// Consecutive outputs are counted together.
    Groups {
        /// The number of groups.
        groups: u16,
        /// Outputs per group; the last groups may have fewer, or none.
        size: u32,
    },
}

/// An operation on slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// A table of at most three inputs, written for three: bit `a + 2b + 4c` goes to `to`.
    Gate {
        /// The table.
        table: u8,
        /// Slots read; unread ones repeat the first.
        inputs: [u32; 3],
        /// Slot written.
        to: u32,
    },
    /// A table of four to six inputs.
    Lut {
        /// The table.
        table: u64,
        /// The number of inputs.
        n: u8,
        /// Slots read; the first `n` count.
        inputs: [u32; 6],
        /// Slot written.
        to: u32,
    },
    /// Adds sources to a group's count.
    Count {
        /// The group.
        group: u16,
        /// Whether the complements are counted.
        negated: bool,
        /// The first source in `Schedule::counted`.
        first: u32,
        /// The number of sources.
        n: u32,
    },
}

/// A network as a sequence of operations on slots. Input `i` is in slot `i` at the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// Inputs of the network.
    pub n_inputs: u32,
    /// Slots needed.
    pub n_slots: u32,
    /// The operations in order.
    pub ops: Vec<Op>,
    /// Slots named by count operations.
    pub counted: Vec<u32>,
    /// For each group what it counts without looking at a slot.
    pub offsets: Vec<u32>,
    /// The slots of the outputs, when they are the answer.
    pub outputs: Vec<u32>,
}

/// What a network's values are worth to the head.
pub(super) struct Uses {
    /// For each group the wires counted, with the polarity that counts.
    pub(super) counted: Vec<Vec<(Wire, bool)>>,
    pub(super) offsets: Vec<u32>,
    /// Whether a node is needed other than as an inverter or constant that only the head reads.
    pub(super) needed: Vec<bool>,
}

/// Orders a network and assigns slots.
pub fn schedule(net: &Netlist, head: Head) -> Schedule {
    let net = &polarity::unify(net, head, &uses(net, head));
    let uses = uses(net, head);
    let items = order::order(net, &uses);
    assign_slots(net, head, &uses, &items)
}

/// Which wires the head reads: inverters and constants in front of a count are seen through.
pub(super) fn uses(net: &Netlist, head: Head) -> Uses {
    let mut uses = Uses { counted: Vec::new(), offsets: Vec::new(), needed: vec![false; net.n_wires()] };
    match head {
        Head::Bits => net.outputs().iter().for_each(|wire| uses.needed[wire.index()] = true),
        Head::Groups { groups, size } => {
            uses.counted.resize(usize::from(groups), Vec::new());
            uses.offsets.resize(usize::from(groups), 0);
            for (i, &output) in net.outputs().iter().enumerate() {
                let group = (i / size.max(1) as usize).min(usize::from(groups).saturating_sub(1));
                match net.node(output) {
                    Some(node) if node.table == 0 => {}
                    Some(node) if node.table == table_mask(node.inputs.len()) => uses.offsets[group] += 1,
                    Some(node) if node.inputs.len() == 1 => {
                        uses.counted[group].push((node.inputs[0], node.table == 0b01));
                    }
                    _ => uses.counted[group].push((output, false)),
                }
            }
            for (wire, _) in uses.counted.iter().flatten() {
                uses.needed[wire.index()] = true;
            }
        }
    }
    for (wire, node) in net.nodes().rev() {
        if uses.needed[wire.index()] {
            node.inputs.iter().for_each(|input| uses.needed[input.index()] = true);
        }
    }
    uses
}

/// Which nodes that are needed read a wire.
pub(super) struct Readers {
    /// Those of wire `w` are `wires[starts[w]..starts[w + 1]]`.
    starts: Vec<u32>,
    wires: Vec<Wire>,
}

impl Readers {
    /// The readers of all wires.
    pub(super) fn of(net: &Netlist, uses: &Uses) -> Self {
        let needed = || net.nodes().filter(|(wire, _)| uses.needed[wire.index()]);
        let mut starts = vec![0u32; net.n_wires() + 1];
        for (_, node) in needed() {
            node.inputs.iter().for_each(|input| starts[input.index() + 1] += 1);
        }
        for w in 1..starts.len() {
            starts[w] += starts[w - 1];
        }
        let mut at = starts.clone();
        let mut wires = vec![Wire::new(0); starts[net.n_wires()] as usize];
        for (wire, node) in needed() {
            for input in node.inputs {
                wires[at[input.index()] as usize] = wire;
                at[input.index()] += 1;
            }
        }
        Self { starts, wires }
    }

    /// The readers of a wire; one that reads it twice is there twice, one after the other.
    pub(super) fn of_wire(&self, wire: Wire) -> &[Wire] {
        &self.wires[self.starts[wire.index()] as usize..self.starts[wire.index() + 1] as usize]
    }
}

/// A step of the order: a node, or counting wires.
pub(super) enum Item {
    Node(Wire),
    Count { group: u16, negated: bool, wires: Vec<Wire> },
}

/// Walks the order, freeing a slot with the last read of its value and reusing the one freed last.
fn assign_slots(net: &Netlist, head: Head, uses: &Uses, items: &[Item]) -> Schedule {
    let n_inputs = net.n_inputs();
    let mut reads_left = vec![0u32; net.n_wires()];
    for item in items {
        each_read(net, item, |wire| reads_left[wire.index()] += 1);
    }
    if head == Head::Bits {
        net.outputs().iter().for_each(|wire| reads_left[wire.index()] += 1);
    }
    let mut slots = vec![u32::MAX; net.n_wires()];
    let mut free = Vec::new();
    let mut n_slots = n_inputs;
    for input in 0..n_inputs {
        slots[input as usize] = input;
        if reads_left[input as usize] == 0 {
            free.push(input);
        }
    }
    let mut schedule = Schedule { n_inputs, offsets: uses.offsets.clone(), ..Schedule::default() };
    for item in items {
        let mut inputs = [0u32; 6];
        match item {
            Item::Node(wire) => {
                let Some(node) = net.node(*wire) else { continue };
                for (slot, input) in inputs.iter_mut().zip(node.inputs) {
                    *slot = slots[input.index()];
                }
            }
            Item::Count { group, negated, wires } => {
                let first = schedule.counted.len() as u32;
                schedule.counted.extend(wires.iter().map(|wire| slots[wire.index()]));
                let n = wires.len() as u32;
                schedule.ops.push(Op::Count { group: *group, negated: *negated, first, n });
            }
        }
        each_read(net, item, |wire| {
            reads_left[wire.index()] -= 1;
            if reads_left[wire.index()] == 0 {
                free.push(slots[wire.index()]);
            }
        });
        if let Item::Node(wire) = item {
            let to = free.pop().unwrap_or_else(|| {
                n_slots += 1;
                n_slots - 1
            });
            slots[wire.index()] = to;
            if reads_left[wire.index()] == 0 {
                free.push(to);
            }
            if let Some(node) = net.node(*wire) {
                schedule.ops.push(operation(node.table, node.inputs.len(), inputs, to));
            }
        }
    }
    schedule.n_slots = n_slots;
    if head == Head::Bits {
        schedule.outputs = net.outputs().iter().map(|wire| slots[wire.index()]).collect();
    }
    schedule
}

fn each_read(net: &Netlist, item: &Item, read: impl FnMut(Wire)) {
    match item {
        Item::Node(wire) => net.node(*wire).into_iter().flat_map(|node| node.inputs).copied().for_each(read),
        Item::Count { wires, .. } => wires.iter().copied().for_each(read),
    }
}

fn operation(table: u64, n: usize, inputs: [u32; 6], to: u32) -> Op {
    if n > 3 {
        return Op::Lut { table, n: n as u8, inputs, to };
    }
    let [mut a, mut b, mut c, ..] = inputs;
    if n == 0 {
        a = to;
    }
    if n < 2 {
        b = a;
    }
    if n < 3 {
        c = a;
    }
    Op::Gate { table: super::truth::repeat(table, n) as u8, inputs: [a, b, c], to }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a schedule on 64 samples: the output words, and the counts of sample 0.
    fn run(schedule: &Schedule, inputs: &[u64]) -> (Vec<u64>, Vec<u32>) {
        let mut slots = vec![0u64; schedule.n_slots as usize];
        slots[..inputs.len()].copy_from_slice(inputs);
        let mut counts = schedule.offsets.clone();
        let look_up = |table: u64, inputs: &[u32], slots: &[u64]| {
            let mut net = Netlist::new(inputs.len() as u32);
            let wires: Vec<Wire> = (0..inputs.len() as u32).map(Wire::new).collect();
            let out = net.add(table, &wires).unwrap();
            net.add_output(out).unwrap();
            net.eval_words(&inputs.iter().map(|&slot| slots[slot as usize]).collect::<Vec<_>>(), 1)[0]
        };
        for op in &schedule.ops {
            match *op {
                Op::Gate { table, inputs, to } => {
                    slots[to as usize] = look_up(u64::from(table), &inputs, &slots);
                }
                Op::Lut { table, n, inputs, to } => {
                    slots[to as usize] = look_up(table, &inputs[..usize::from(n)], &slots);
                }
                Op::Count { group, negated, first, n } => {
                    for &slot in &schedule.counted[first as usize..][..n as usize] {
                        counts[usize::from(group)] += (slots[slot as usize] & 1) as u32 ^ u32::from(negated);
                    }
                }
            }
        }
        (schedule.outputs.iter().map(|&slot| slots[slot as usize]).collect(), counts)
    }

    fn check(net: &Netlist, groups: u16) -> Schedule {
        let inputs: Vec<u64> = (1..=u64::from(net.n_inputs())).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let want = net.eval_words(&inputs, 1);
        let bits = schedule(net, Head::Bits);
        assert_eq!(run(&bits, &inputs).0, want);
        let size = net.outputs().len().div_ceil(usize::from(groups)) as u32;
        let counting = schedule(net, Head::Groups { groups, size });
        let counts: Vec<u32> =
            want.chunks(size as usize).map(|words| words.iter().map(|word| (word & 1) as u32).sum()).collect();
        assert_eq!(run(&counting, &inputs).1, counts);
        counting
    }

    #[test]
    fn inverters_and_constants_in_front_of_a_count_need_no_operation() {
        let net: Netlist = "netlist {\n inputs 2\n %2 = 1(%0)\n %3 = 1()\n %4 = 0()\n %5 = 8(%0, %1)\n %6 = 1(%5)\n \
            outputs %2, %3, %1, %6, %4, %5\n}"
            .parse()
            .unwrap();
        let schedule = check(&net, 2);
        assert_eq!(schedule.offsets, [1, 0]);
        assert_eq!(schedule.ops.iter().filter(|op| matches!(op, Op::Gate { .. })).count(), 1);
    }

    #[test]
    fn slots_are_used_again() {
        let mut net = Netlist::new(2);
        let (mut a, mut b) = (Wire::new(0), Wire::new(1));
        for _ in 0..100 {
            (a, b) = (b, net.add(6, &[a, b]).unwrap());
        }
        net.add_output(b).unwrap();
        assert_eq!(check(&net, 1).n_slots, 2);
    }

    #[test]
    fn networks_of_several_windows() {
        let mut state = 3u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut net = Netlist::new(50);
        for i in 50..10_000u64 {
            let n = if below(50) == 0 { 6 } else { 2 + below(2) as usize };
            let inputs: Vec<Wire> = (0..n).map(|_| Wire::new((i - 1 - below(i.min(900))) as u32)).collect();
            net.add(below(1 << 31) & bitc_ir::netlist::table_mask(n), &inputs).unwrap();
        }
        for i in 9000..10_000 {
            net.add_output(Wire::new(i)).unwrap();
        }
        let schedule = check(&net, 7);
        assert!(schedule.n_slots < 5000, "{} slots", schedule.n_slots);
    }
}
