//! How the fields of instructions are stored, by their type.

use alloc::vec::Vec;

use super::{ABSENT, Access, CONST_BIT, Field, MAX_LIST};
use crate::cursor::Cursor;
use crate::{BufferId, ConstId, DType, DimId, ErrorKind, FormatError, Operand};

impl Field for u32 {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(*self);
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        from.u32()
    }
}

impl Field for i32 {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(u32::from_le_bytes(self.to_le_bytes()));
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        from.u32().map(|word| i32::from_le_bytes(word.to_le_bytes()))
    }
}

impl Field for u64 {
    fn put(&self, out: &mut Vec<u32>) {
        let [a, b, c, d, e, f, g, h] = self.to_le_bytes();
        out.extend([u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]);
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        from.u64()
    }
}

impl Field for f32 {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(self.to_bits());
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        from.u32().map(f32::from_bits)
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(u32::from(*self));
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let at = from.clone();
        match from.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(at.error(ErrorKind::Code { what: "truth value", value: value.into() })),
        }
    }
}

impl Field for DType {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(self.code());
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        crate::buffers::read_dtype(from)
    }
}

impl Field for Operand {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(match self {
            Operand::Buffer(id) => id.0,
            Operand::Const(id) => id.0 | CONST_BIT,
        });
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let word = from.u32()?;
        if word & CONST_BIT == 0 {
            Ok(Operand::Buffer(BufferId(word)))
        } else {
            Ok(Operand::Const(ConstId(word ^ CONST_BIT)))
        }
    }
    fn each(&self, see: &mut dyn FnMut(Access)) {
        see(Access::Read(*self));
    }
}

impl Field for BufferId {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(self.0);
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        from.u32().map(BufferId)
    }
    fn each(&self, see: &mut dyn FnMut(Access)) {
        see(Access::Write(*self));
    }
}

impl Field for DimId {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(self.0);
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        from.u32().map(DimId)
    }
    fn each(&self, see: &mut dyn FnMut(Access)) {
        see(Access::Dim(*self));
    }
}

/// Only for fields of one word, none of which stores `u32::MAX`.
impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u32>) {
        match self {
            Some(field) => field.put(out),
            None => out.push(ABSENT),
        }
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let at = from.clone();
        if from.u32()? == ABSENT {
            return Ok(None);
        }
        *from = at;
        T::get(from).map(Some)
    }
    fn each(&self, see: &mut dyn FnMut(Access)) {
        if let Some(field) = self {
            field.each(see);
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u32>) {
        out.push(u32::try_from(self.len()).unwrap_or(u32::MAX));
        self.iter().for_each(|field| field.put(out));
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let n = from.count("entries of a list", MAX_LIST, 4)?;
        let mut list = Vec::with_capacity(n);
        for _ in 0..n {
            list.push(T::get(from)?);
        }
        Ok(list)
    }
    fn each(&self, see: &mut dyn FnMut(Access)) {
        self.iter().for_each(|field| field.each(see));
    }
}

impl<const N: usize> Field for [u32; N] {
    fn put(&self, out: &mut Vec<u32>) {
        out.extend_from_slice(self);
    }
    fn get(from: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let mut fields = [0; N];
        for field in &mut fields {
            *field = from.u32()?;
        }
        Ok(fields)
    }
}
