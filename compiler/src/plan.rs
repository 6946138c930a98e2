//! The plan of memory: which storages of a program share a slot.
//!
//! A storage lives from the first instruction that writes it to the last one that touches it. Two storages may share a
//! slot when no instruction touches both, so source and destination of one instruction never do. Sizes may depend on
//! symbols: a storage goes to the free slot of its own size if there is one, else to the one that wastes the least when
//! every symbol is a typical size (`TYPICAL`).

use bitc_format::DType;
use bitc_format::inst::Access;
use bitc_ir::Dim;

use crate::lower::{Buffer, Program};

/// What a symbol is taken for where sizes are compared.
const TYPICAL: usize = 64;

/// A slot for every storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The slot of each storage.
    pub slot_of: Vec<u32>,
    /// The number of slots.
    pub n_slots: u32,
}

/// The instructions in which a storage is touched first and last.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Lifetime {
    first: usize,
    last: usize,
}

/// A slot that storages take turns in.
struct Slot {
    id: u32,
    /// The last instruction that touches its present storage.
    busy_until: usize,
    /// The sizes of all storages it has held.
    sizes: Vec<Dim>,
    /// The largest of them, as far as they can be compared.
    typical: u64,
}

/// Gives every storage of a program a slot. Inputs and outputs have slots of their own, since their memory is the
/// caller's.
pub fn plan(program: &Program) -> Plan {
    let mut plan = Plan { slot_of: vec![u32::MAX; program.n_storages], n_slots: 0 };
    for port in program.inputs.iter().chain(&program.outputs) {
        let storage = program.buffers[port.buffer.index()].storage;
        plan.slot_of[storage] = plan.n_slots;
        plan.n_slots += 1;
    }
    let lifetimes = lifetimes(program);
    let mut waiting: Vec<usize> = (0..program.n_storages).filter(|&s| plan.slot_of[s] == u32::MAX).collect();
    waiting.sort_by_key(|&s| (lifetimes[s].first, s));
    let mut slots: Vec<Slot> = Vec::new();
    for storage in waiting {
        let Lifetime { first, last } = lifetimes[storage];
        let size = size(program, storage);
        let typical = size.eval(&|_| Some(TYPICAL)).map_or(u64::MAX, |n| n as u64);
        let free = slots.iter_mut().filter(|slot| slot.busy_until < first);
        let best = free.min_by_key(|slot| {
            let growth = typical.saturating_sub(slot.typical);
            (!slot.sizes.contains(&size), growth, slot.typical.saturating_sub(typical), slot.id)
        });
        // A slot that would have to grow by more than it holds is left for something smaller.
        match best.filter(|slot| typical / 2 <= slot.typical) {
            Some(slot) => {
                plan.slot_of[storage] = slot.id;
                slot.busy_until = last;
                slot.typical = slot.typical.max(typical);
                slot.sizes.push(size);
            }
            None => {
                plan.slot_of[storage] = plan.n_slots;
                slots.push(Slot { id: plan.n_slots, busy_until: last, sizes: vec![size], typical });
                plan.n_slots += 1;
            }
        }
    }
    plan
}

/// The lifetime of every storage; one that nothing touches lives in no instruction.
fn lifetimes(program: &Program) -> Vec<Lifetime> {
    let mut lifetimes = vec![Lifetime { first: usize::MAX, last: 0 }; program.n_storages];
    for (i, instruction) in program.code.iter().enumerate() {
        instruction.inst.each(&mut |access| {
            let buffer = match access {
                Access::Read(bitc_format::Operand::Buffer(id)) | Access::Write(id) => id,
                Access::Read(bitc_format::Operand::Const(_)) | Access::Dim(_) => return,
            };
            let lifetime = &mut lifetimes[program.buffers[buffer.index()].storage];
            lifetime.first = lifetime.first.min(i);
            lifetime.last = lifetime.last.max(i);
        });
    }
    lifetimes
}

/// The bytes of a storage: those of any of its buffers, which are views of one array.
fn size(program: &Program, storage: usize) -> Dim {
    let buffer = program.buffers.iter().find(|b| b.storage == storage);
    buffer.and_then(len_bytes).unwrap_or_else(|| Dim::from(usize::MAX >> 1))
}

/// The bytes of a buffer; `None` where they overflow.
pub fn len_bytes(buffer: &Buffer) -> Option<Dim> {
    let one = Dim::from(1);
    let (row, outer) = buffer.shape.0.split_last().unwrap_or((&one, &[]));
    let row = match buffer.dtype {
        DType::Bits => row.add(&Dim::from(7))?.floor_div(8)?,
        dtype => row.mul(&Dim::from(dtype.size_bytes()?))?,
    };
    let align = buffer.row_align as usize;
    let pitch = row.add(&Dim::from(align - 1))?.floor_div(align)?.mul(&Dim::from(align))?;
    outer.iter().try_fold(pitch, |n, d| n.mul(d))
}
