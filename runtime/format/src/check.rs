//! What must be true of the tables together: ports, the flow of data through slots, and every contract.

use alloc::vec;
use alloc::vec::Vec;

use crate::cursor::to_u64;
use crate::inst::Access;
use crate::{Buffer, BufferId, Contents, Cx, DTypeSet, ErrorKind, FormatError, Inst, Operand, Port};

/// What is known about a slot while walking through the code.
#[derive(Clone, Copy, PartialEq)]
enum Slot {
    /// Nothing was written yet.
    Empty,
    /// It belongs to an input, which is this buffer.
    Input(BufferId),
    /// This buffer was written last.
    Written(BufferId),
}

impl Contents {
    /// Checks ports, data flow and contracts under the values that the dimensions have. [`crate::Artifact::parse`] did
    /// so with those that depend on no symbol; whoever binds the symbols does it again with all of them.
    ///
    /// # Errors
    ///
    /// The first rule that is broken; the offset is that of its instruction, or 0.
    pub fn check(&self, values: &[Option<i64>]) -> Result<(), FormatError> {
        let sizes = self.sizes(values)?;
        self.check_ports(&sizes)?;
        let mut slots = self.input_slots();
        let cx = Cx::new(self, values);
        for (i, inst) in self.code().iter().enumerate() {
            let offset = self.code_offsets.get(i).copied().unwrap_or(0);
            let at = |kind| FormatError { kind, offset };
            self.check_operands(inst).map_err(at)?;
            inst.check(&cx).map_err(|fault| {
                let index = u32::try_from(i).unwrap_or(u32::MAX);
                at(ErrorKind::Contract { index, inst: inst.name(), fault })
            })?;
            self.check_flow(inst, &mut slots, values, &sizes).map_err(at)?;
        }
        for (output, port) in (0u32..).zip(self.outputs()) {
            let held = self.buffer(port.buffer).and_then(|b| slots.get(b.slot.index()));
            if !matches!(held, Some(Slot::Written(_))) {
                return Err(FormatError { kind: ErrorKind::OutputNotWritten { output }, offset: 0 });
            }
        }
        Ok(())
    }

    fn buffer(&self, id: BufferId) -> Option<&Buffer> {
        self.buffers().get(id.index())
    }

    /// The length in bytes of every buffer, as far as it is known.
    fn sizes(&self, values: &[Option<i64>]) -> Result<Vec<Option<u64>>, FormatError> {
        let size = |(index, buffer): (u32, &Buffer)| {
            let error = ErrorKind::Size { what: "buffer", index };
            buffer.len_bytes(values).map_err(|_| FormatError { kind: error, offset: 0 })
        };
        (0u32..).zip(self.buffers()).map(size).collect()
    }

    fn input_slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::Empty; self.n_slots()];
        for port in self.inputs() {
            let slot = self.buffer(port.buffer).and_then(|b| slots.get_mut(b.slot.index()));
            if let Some(slot) = slot {
                *slot = Slot::Input(port.buffer);
            }
        }
        slots
    }

    /// Every port has a slot of its own, which holds nothing of another type or size.
    fn check_ports(&self, sizes: &[Option<u64>]) -> Result<(), FormatError> {
        let at = |kind| FormatError { kind, offset: 0 };
        let mut owners: Vec<Option<BufferId>> = vec![None; self.n_slots()];
        for Port { buffer: id, accepts, .. } in self.inputs().iter().chain(self.outputs()) {
            let Some(buffer) = self.buffer(*id) else { continue };
            let convertible = accepts.is_subset_of(DTypeSet::convertible_to(buffer.dtype));
            if !convertible || accepts.bits() == 0 {
                return Err(at(ErrorKind::PortType { buffer: buffer.dtype, accepts: accepts.bits() }));
            }
            if buffer.row_align != 1 {
                return Err(at(ErrorKind::Alias { buffer: id.0 }));
            }
            if let Some(owner) = owners.get_mut(buffer.slot.index())
                && owner.replace(*id).is_some()
            {
                return Err(at(ErrorKind::Duplicate { what: "slots of ports" }));
            }
        }
        for (id, buffer) in (0u32..).map(BufferId).zip(self.buffers()) {
            let Some(owner) = owners.get(buffer.slot.index()).copied().flatten() else { continue };
            if !self.interchangeable(id, owner, sizes) {
                return Err(at(ErrorKind::Alias { buffer: id.0 }));
            }
        }
        Ok(())
    }

    /// Every index of the instruction is one of its table.
    fn check_operands(&self, inst: &Inst) -> Result<(), ErrorKind> {
        let mut result = Ok(());
        inst.each(&mut |access| {
            let (what, value, count) = match access {
                Access::Read(Operand::Buffer(id)) | Access::Write(id) => ("buffer", id.0, self.buffers().len()),
                Access::Read(Operand::Const(id)) => ("constant", id.0, self.consts().len()),
                Access::Dim(id) => ("dimension", id.0, self.dims().exprs().len()),
            };
            let (value, count) = (u64::from(value), to_u64(count));
            if value >= count && result.is_ok() {
                result = Err(ErrorKind::Index { what, value, count });
            }
        });
        result
    }

    /// What is read was written, and what is written is neither an input nor another operand.
    fn check_flow(
        &self,
        inst: &Inst,
        slots: &mut [Slot],
        values: &[Option<i64>],
        sizes: &[Option<u64>],
    ) -> Result<(), ErrorKind> {
        let mut read = Vec::new();
        let mut written = Vec::new();
        inst.each(&mut |access| match access {
            Access::Read(Operand::Buffer(id)) => read.push(id),
            Access::Write(id) => written.push(id),
            Access::Read(Operand::Const(_)) | Access::Dim(_) => {}
        });
        let slot_of = |id: BufferId| self.buffer(id).map(|b| b.slot);
        for &id in &read {
            let slot = slot_of(id).and_then(|s| slots.get(s.index())).copied();
            match slot {
                None | Some(Slot::Empty) => return Err(ErrorKind::ReadBeforeWrite { buffer: id.0 }),
                Some(Slot::Input(holder) | Slot::Written(holder)) => {
                    if !self.interchangeable(id, holder, sizes) || !self.same_rows(id, holder, values) {
                        return Err(ErrorKind::Alias { buffer: id.0 });
                    }
                }
            }
        }
        for (i, &id) in written.iter().enumerate() {
            let slot = slot_of(id);
            let earlier = written.iter().take(i);
            if read.iter().chain(earlier).any(|&other| slot_of(other) == slot) {
                return Err(ErrorKind::SlotConflict { buffer: id.0 });
            }
            if let Some(held) = slot.and_then(|s| slots.get_mut(s.index())) {
                if matches!(held, Slot::Input(_)) {
                    return Err(ErrorKind::InputWritten { buffer: id.0 });
                }
                *held = Slot::Written(id);
            }
        }
        Ok(())
    }

    /// Whether the bytes of one buffer can be read as the other.
    fn interchangeable(&self, a: BufferId, b: BufferId, sizes: &[Option<u64>]) -> bool {
        let size = |id: BufferId| sizes.get(id.index()).copied().flatten();
        let same_size = match (size(a), size(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let alike = match (self.buffer(a), self.buffer(b)) {
            (Some(a), Some(b)) => a.dtype == b.dtype && a.row_align == b.row_align,
            _ => false,
        };
        a == b || (same_size && alike)
    }

    /// Whether the rows of both are equally long, where their ends matter.
    fn same_rows(&self, a: BufferId, b: BufferId, values: &[Option<i64>]) -> bool {
        let (Some(a), Some(b)) = (self.buffer(a), self.buffer(b)) else { return false };
        if a.row_align == 1 && a.dtype.size_bytes().is_some() {
            return true;
        }
        let last = |buffer: &Buffer| match buffer.dims.last() {
            Some(d) => values.get(d.index()).copied().flatten(),
            None => Some(1),
        };
        match (last(a), last(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}
