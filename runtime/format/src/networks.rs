//! What instructions need to know of the bytes of constants: logic programs, and which features they read.
//!
//! Each constant is read once, however many instructions name it.

use alloc::collections::BTreeMap;

use crate::cursor::to_u64;
use crate::inst::Logic;
use crate::logic::Program;
use crate::{Const, ConstId, DType, ErrorKind, FormatError, Inst, Layout, Operand};

/// The constants of an artifact that were looked into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    programs: BTreeMap<ConstId, Program>,
    /// For each list of features one more than the largest.
    features: BTreeMap<ConstId, u32>,
}

impl Networks {
    /// Reads what the instructions name; `bytes_of` gives the bytes of a constant, and where they begin.
    ///
    /// # Errors
    ///
    /// The first constant that is no program, or no list of features. One of another type is left for the contract.
    pub(crate) fn read<'a>(
        code: &[Inst],
        consts: &[Const],
        bytes_of: impl Fn(&Const) -> (&'a [u8], usize),
    ) -> Result<Self, FormatError> {
        let mut networks = Self::default();
        for inst in code {
            let Inst::Logic(Logic { program, features, .. }) = inst else { continue };
            if let Some((id, bytes, offset)) = find(consts, *program, DType::U8, &bytes_of)
                && !networks.programs.contains_key(&id)
            {
                let parsed = Program::parse(bytes);
                let error = |error| FormatError { kind: ErrorKind::Logic { constant: id.0, error }, offset };
                networks.programs.insert(id, parsed.map_err(error)?);
            }
            if let Some(features) = features
                && let Some((id, bytes, offset)) = find(consts, *features, DType::I32, &bytes_of)
                && !networks.features.contains_key(&id)
            {
                networks.features.insert(id, n_features(bytes, offset)?);
            }
        }
        Ok(networks)
    }

    pub(crate) fn program(&self, id: ConstId) -> Option<&Program> {
        self.programs.get(&id)
    }

    pub(crate) fn features(&self, id: ConstId) -> Option<u32> {
        self.features.get(&id).copied()
    }
}

/// A constant stored element by element, with its bytes and where they begin.
fn find<'a>(
    consts: &[Const],
    operand: Operand,
    dtype: DType,
    bytes_of: &impl Fn(&Const) -> (&'a [u8], usize),
) -> Option<(ConstId, &'a [u8], u64)> {
    let Operand::Const(id) = operand else { return None };
    let constant = consts.get(id.index()).filter(|c| c.dtype == dtype && c.layout == Layout::Dense)?;
    let (bytes, offset) = bytes_of(constant);
    Some((id, bytes, to_u64(offset)))
}

/// One more than the largest of some features, none of which is negative.
fn n_features(bytes: &[u8], offset: u64) -> Result<u32, FormatError> {
    let mut needed = 0u32;
    for feature in bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap_or_default())) {
        if feature > i32::MAX.unsigned_abs() {
            return Err(FormatError { kind: ErrorKind::Code { what: "feature", value: feature.into() }, offset });
        }
        needed = needed.max(feature.saturating_add(1));
    }
    Ok(needed)
}
