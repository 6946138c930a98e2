//! Section `io`: the inputs and outputs of the program.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::cursor::{Cursor, put_count, put_text, put_u32};
use crate::{BufferId, DTypeSet, ErrorKind, FormatError};

/// The largest number of inputs, and of outputs.
const MAX_PORTS: u64 = 1 << 12;

/// An input or an output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The name, unique among the inputs or the outputs.
    pub name: String,
    /// The buffer that the caller's array stands for.
    pub buffer: BufferId,
    /// The element types that the caller's array may have.
    pub accepts: DTypeSet,
}

pub(crate) fn read(cursor: &mut Cursor<'_>, n_buffers: usize) -> Result<Vec<Port>, FormatError> {
    let n = cursor.count("ports", MAX_PORTS, 12)?;
    let mut ports = Vec::with_capacity(n);
    let mut names = BTreeSet::new();
    for _ in 0..n {
        let at = cursor.clone();
        let name = cursor.text()?;
        if !names.insert(name.clone()) {
            return Err(at.error(ErrorKind::Duplicate { what: "port names" }));
        }
        let at = cursor.clone();
        let buffer = BufferId(cursor.u32()?);
        buffer.check(&at, n_buffers)?;
        let bits = cursor.u32()?;
        let accepts = DTypeSet::from_bits(bits)
            .ok_or_else(|| at.error(ErrorKind::Code { what: "set of types", value: bits.into() }))?;
        ports.push(Port { name, buffer, accepts });
    }
    Ok(ports)
}

pub(crate) fn write(ports: &[Port], out: &mut Vec<u8>) {
    put_count(out, ports.len());
    for port in ports {
        put_text(out, &port.name);
        put_u32(out, port.buffer.0);
        put_u32(out, port.accepts.bits());
    }
}
