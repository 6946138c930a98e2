//! Values that depend on a few bits, as tables over those bits, and the nodes that such tables become.

use std::collections::HashMap;
use std::rc::Rc;

use bitc_ir::DType;
use bitc_ir::netlist::{Netlist, NetlistError, Wire};

/// The most bits that a table is over.
pub(super) const MAX_SUPPORT: usize = 16;
/// Tables over more bits than this are looked through for values that are bits themselves.
const COMFORTABLE: usize = 6;

/// One element: its value for every assignment of some bits of one sample.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cone {
    /// The sample; `None` for a constant.
    pub(super) row: Option<u32>,
    /// The bits, ascending; the first one is bit 0 of an assignment.
    pub(super) support: Vec<u32>,
    /// The values, assignment after assignment, as the element type stores them.
    pub(super) values: Vec<u8>,
}

/// An array whose elements are cones.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    pub(super) elements: Vec<Rc<Cone>>,
}

impl Cone {
    pub(super) fn constant(value: &[u8]) -> Self {
        Self { row: None, support: Vec::new(), values: value.to_vec() }
    }

    /// The value that follows each assignment of `support`, which holds the bits of the cone.
    pub(super) fn expanded(&self, support: &[u32], size: usize, out: &mut Vec<u8>) {
        let places: Vec<usize> =
            self.support.iter().map(|bit| support.iter().position(|b| b == bit).unwrap_or(0)).collect();
        for assignment in 0..1usize << support.len() {
            let own = places.iter().enumerate().fold(0, |a, (j, &place)| a | (assignment >> place & 1) << j);
            out.extend_from_slice(&self.values[own * size..][..size]);
        }
    }

    /// The cone without the bits that no value depends on.
    pub(super) fn reduced(mut self, size: usize) -> Self {
        let mut j = 0;
        while j < self.support.len() {
            let n = 1usize << self.support.len();
            let at = |a: usize| &self.values[a * size..][..size];
            if (0..n).filter(|a| a >> j & 1 == 0).any(|a| at(a) != at(a | 1 << j)) {
                j += 1;
                continue;
            }
            let kept: Vec<u8> = (0..n).filter(|a| a >> j & 1 == 0).flat_map(|a| at(a).to_vec()).collect();
            self.values = kept;
            self.support.remove(j);
        }
        if self.support.is_empty() {
            self.row = None;
        }
        self
    }

    /// The two values that the cone takes, the first one that of assignment 0; `None` if it takes more or only one.
    pub(super) fn two_values(&self, size: usize) -> Option<[&[u8]; 2]> {
        let mut values = self.values.chunks_exact(size);
        let first = values.next()?;
        let second = values.clone().find(|v| *v != first)?;
        values.all(|v| v == first || v == second).then_some([first, second])
    }
}

/// The bits of one sample: those that the trace starts from, and nodes over them.
#[derive(Default)]
pub(super) struct Bits {
    /// For each bit its node; `None` for one that the trace starts from.
    nodes: Vec<Option<(Vec<u64>, Vec<u32>)>>,
    known: HashMap<(Vec<u64>, Vec<u32>), u32>,
}

impl Bits {
    /// New bits that the trace starts from; the number of the first.
    pub(super) fn add_roots(&mut self, n: usize) -> u32 {
        let first = self.nodes.len() as u32;
        self.nodes.resize(self.nodes.len() + n, None);
        first
    }

    /// Whether a bit is a node.
    pub(super) fn is_node(&self, bit: u32) -> bool {
        self.nodes.get(bit as usize).is_some_and(Option::is_some)
    }

    /// A cone of two values as one over a single bit, which says whether it has the second value.
    pub(super) fn compressed(&mut self, cone: &Rc<Cone>, size: usize) -> Rc<Cone> {
        if cone.support.len() < 2 {
            return Rc::clone(cone);
        }
        let Some([first, second]) = cone.two_values(size) else { return Rc::clone(cone) };
        let mut table = vec![0u64; (cone.values.len() / size).div_ceil(64)];
        for (a, value) in cone.values.chunks_exact(size).enumerate() {
            table[a / 64] |= u64::from(value == second) << (a % 64);
        }
        let key = (table, cone.support.clone());
        let bit = match self.known.get(&key) {
            Some(&bit) => bit,
            None => {
                let bit = self.nodes.len() as u32;
                self.nodes.push(Some(key.clone()));
                self.known.insert(key, bit);
                bit
            }
        };
        Rc::new(Cone { row: cone.row, support: vec![bit], values: [first, second].concat() })
    }

    /// Makes cones ones over the same bits of the same sample, as many as a table may have; answers those.
    ///
    /// # Errors
    /// Why there is no such table.
    pub(super) fn unify(
        &mut self,
        cones: &mut [Rc<Cone>],
        sizes: &[usize],
    ) -> Result<(Option<u32>, Vec<u32>), &'static str> {
        let mut row = None;
        for cone in cones.iter() {
            match (row, cone.row) {
                (Some(a), Some(b)) if a != b => return Err("samples are mixed"),
                (None, found) => row = found,
                _ => {}
            }
        }
        let mut support = union(cones);
        if support.len() > COMFORTABLE {
            for (cone, &size) in cones.iter_mut().zip(sizes) {
                *cone = self.compressed(cone, size);
            }
            support = union(cones);
        }
        if support.len() > MAX_SUPPORT {
            return Err("an element depends on more than 16 bits");
        }
        Ok((row, support))
    }

    /// The network of some bits; `inputs` says for the roots which input of the network they are.
    ///
    /// # Errors
    /// If it is larger than a netlist may be.
    pub(super) fn network(
        &self,
        outputs: &[Output],
        n_inputs: u32,
        inputs: &HashMap<u32, u32>,
    ) -> Result<Netlist, NetlistError> {
        let mut net = Netlist::new(n_inputs);
        let mut wires: Vec<Option<Wire>> = vec![None; self.nodes.len()];
        for (&root, &input) in inputs {
            wires[root as usize] = Some(Wire::new(input));
        }
        let mut needed = vec![false; self.nodes.len()];
        for output in outputs {
            if let Output::Bit(bit) | Output::Not(bit) = output {
                needed[*bit as usize] = true;
            }
        }
        for (bit, node) in self.nodes.iter().enumerate().rev() {
            if let (true, Some((_, support))) = (needed[bit], node) {
                support.iter().for_each(|&b| needed[b as usize] = true);
            }
        }
        for (bit, node) in self.nodes.iter().enumerate() {
            let (true, Some((table, support))) = (needed[bit], node) else { continue };
            let read: Vec<Wire> = support.iter().filter_map(|&b| wires[b as usize]).collect();
            wires[bit] = Some(net.add_wide(table, &read)?);
        }
        for output in outputs {
            let wire = match *output {
                Output::Constant(value) => net.add(u64::from(value), &[])?,
                Output::Bit(bit) => wires[bit as usize].unwrap_or(Wire::new(0)),
                Output::Not(bit) => net.add(0b01, &[wires[bit as usize].unwrap_or(Wire::new(0))])?,
            };
            net.add_output(wire)?;
        }
        Ok(net)
    }

    /// The roots that bits depend on, ascending.
    pub(super) fn roots_of(&self, bits: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut seen = vec![false; self.nodes.len()];
        let mut stack: Vec<u32> = bits.collect();
        while let Some(bit) = stack.pop() {
            if !std::mem::replace(&mut seen[bit as usize], true)
                && let Some((_, support)) = &self.nodes[bit as usize]
            {
                stack.extend(support);
            }
        }
        (0..).zip(seen).filter(|&(bit, seen)| seen && !self.is_node(bit)).map(|(bit, _)| bit).collect()
    }
}

/// What an output of a network is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Output {
    Constant(bool),
    Bit(u32),
    Not(u32),
}

/// All bits of some cones, ascending.
pub(super) fn union(cones: &[Rc<Cone>]) -> Vec<u32> {
    let mut support: Vec<u32> = cones.iter().flat_map(|c| c.support.iter().copied()).collect();
    support.sort_unstable();
    support.dedup();
    support
}
