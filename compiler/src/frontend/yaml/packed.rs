//! Ternary weights that a library has packed, four in a byte.
//!
//! | library | tensor | code of -1, 0, 1 | byte |
//! |---|---|---|---|
//! | transformers | u8 [ceil(out / 4), in] | 0, 1, 2 | row r holds the outputs r, r + R, r + 2R, r + 3R of R rows, low bits first |
//! | BitLab | u8 [out, ceil(in / 4)] | 2, 0, 1 | column c holds the inputs 4c to 4c + 3, low bits first |
//! | NeuroPress | i8 [in / 4, out] | 2, 0, 1 | as BitLab, transposed |
//!
//! Type and shape tell them apart. The code 3 stands for nothing, and neither do codes other than that of 0 past the end
//! of a row of BitLab's.

use bitc_ir::{DType, Tensor};

use crate::error::{Diagnostic, quoted};

/// Weights in a byte.
const IN_BYTE: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Transformers,
    Bitlab,
    Neuropress,
}

impl Packing {
    /// The packing of a tensor for a matrix of `[out, in]`.
    fn of(stored: &Tensor, [outputs, inputs]: [usize; 2]) -> Option<Self> {
        let candidates = [
            (Packing::Transformers, DType::U8, [outputs.div_ceil(IN_BYTE), inputs]),
            (Packing::Bitlab, DType::U8, [outputs, inputs.div_ceil(IN_BYTE)]),
            (Packing::Neuropress, DType::I8, [inputs / IN_BYTE, outputs]),
        ];
        let mut fitting = candidates.into_iter().filter(|(packing, dtype, dims)| {
            let whole = *packing != Packing::Neuropress || inputs % IN_BYTE == 0;
            whole && stored.dtype() == *dtype && stored.dims() == dims
        });
        // What fits two of them says nothing.
        fitting.next().filter(|_| fitting.next().is_none()).map(|(packing, ..)| packing)
    }

    /// The byte and the position in it of one weight.
    fn place(self, row: usize, column: usize, [outputs, inputs]: [usize; 2]) -> (usize, usize) {
        match self {
            Packing::Transformers => {
                let rows = outputs.div_ceil(IN_BYTE);
                (row % rows * inputs + column, row / rows)
            }
            Packing::Bitlab => (row * inputs.div_ceil(IN_BYTE) + column / IN_BYTE, column % IN_BYTE),
            Packing::Neuropress => (column / IN_BYTE * outputs + row, column % IN_BYTE),
        }
    }

    fn value(self, code: u8) -> Option<i8> {
        match (self, code) {
            (_, 3) => None,
            (Packing::Transformers, code) => Some(code.cast_signed() - 1),
            (_, 2) => Some(-1),
            (_, code) => Some(code.cast_signed()),
        }
    }
}

/// Whether a tensor has the type and shape of packed weights for a layer of these dimensions.
pub(super) fn is_packed(stored: &Tensor, dims: &[usize]) -> bool {
    let bytes = matches!(stored.dtype(), DType::U8 | DType::I8);
    bytes && (stored.dtype() == DType::U8 || stored.dims() != dims) && stored.rank() == 2
}

/// The weights of a layer of these dimensions.
pub(super) fn unpack(name: &str, stored: &Tensor, dims: &[usize]) -> Result<Tensor, Diagnostic> {
    let refused = || {
        Diagnostic::unsupported(format!("the tensor {} is in no packed form that bitc knows", quoted(name)))
            .found(format!("{} {:?}", stored.dtype(), stored.dims()))
    };
    let Ok(size) = <[usize; 2]>::try_from(dims) else {
        return Err(refused().expected("packed weights of a fully connected layer only"));
    };
    let [outputs, inputs] = size;
    let packing = Packing::of(stored, size).ok_or_else(|| {
        refused().expected(format!(
            "u8 [{}, {inputs}] (transformers), u8 [{outputs}, {}] (BitLab) or i8 [{}, {outputs}] (NeuroPress)",
            outputs.div_ceil(IN_BYTE),
            inputs.div_ceil(IN_BYTE),
            inputs / IN_BYTE
        ))
    })?;
    let bytes = stored.bytes();
    let code = |row: usize, column: usize| {
        let (byte, position) = packing.place(row, column, size);
        bytes.get(byte).map_or(3, |b| b >> (2 * position) & 3)
    };
    let mut values = Vec::with_capacity(outputs * inputs);
    for row in 0..outputs {
        for column in 0..inputs {
            let value = packing.value(code(row, column)).ok_or_else(|| wrong_code(name, row, column))?;
            values.push(value);
        }
        if packing == Packing::Bitlab
            && let Some(column) = (inputs..inputs.next_multiple_of(IN_BYTE)).find(|&column| code(row, column) != 0)
        {
            return Err(wrong_code(name, row, column));
        }
    }
    Ok(Tensor::with_dtype(DType::T2, dims, &values))
}

fn wrong_code(name: &str, row: usize, column: usize) -> Diagnostic {
    Diagnostic::wrong_input(format!("the tensor {} holds a code that stands for no weight", quoted(name)))
        .found(format!("at output {row}, input {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse, from the description alone.
    fn pack(packing: Packing, size: [usize; 2], values: &[i8]) -> Tensor {
        let [outputs, inputs] = size;
        let code = |v: i8| match packing {
            Packing::Transformers => (v + 1).cast_unsigned(),
            _ if v < 0 => 2,
            _ => v.cast_unsigned(),
        };
        let (dtype, dims) = match packing {
            Packing::Transformers => (DType::U8, [outputs.div_ceil(4), inputs]),
            Packing::Bitlab => (DType::U8, [outputs, inputs.div_ceil(4)]),
            Packing::Neuropress => (DType::I8, [inputs / 4, outputs]),
        };
        let mut bytes = vec![0u8; dims[0] * dims[1]];
        for row in 0..outputs {
            for column in 0..inputs {
                let (at, shift) = match packing {
                    Packing::Transformers => (row % dims[0] * inputs + column, row / dims[0]),
                    Packing::Bitlab => (row * dims[1] + column / 4, column % 4),
                    Packing::Neuropress => (column / 4 * outputs + row, column % 4),
                };
                bytes[at] |= code(values[row * inputs + column]) << (2 * shift);
            }
        }
        Tensor::from_blob(dtype, &dims, bitc_ir::Blob::new(bytes)).unwrap()
    }

    #[test]
    fn every_packing_round_trips() {
        for size in [[8, 12], [12, 16], [64, 784], [10, 8], [1, 4]] {
            let values: Vec<i8> = (0..size[0] * size[1]).map(|i| (i * i % 7 % 3) as i8 - 1).collect();
            for packing in [Packing::Transformers, Packing::Bitlab, Packing::Neuropress] {
                let stored = pack(packing, size, &values);
                let back = unpack("w", &stored, &size).unwrap_or_else(|e| panic!("{packing:?} {size:?}: {e}"));
                assert_eq!(back.to_vec::<i8>().unwrap(), values, "{packing:?} {size:?}");
            }
        }
    }

    #[test]
    fn bitlabs_worked_example() {
        let stored = Tensor::new(&[1, 3], &[0x64u8, 0x01, 0x02]);
        let weights = unpack("w", &stored, &[1, 9]).unwrap();
        assert_eq!(weights.to_vec::<i8>().unwrap(), [0, 1, -1, 1, 1, 0, 0, 0, -1]);
    }

    #[test]
    fn codes_and_shapes_without_meaning_are_refused() {
        let message = |stored: Tensor, dims: &[usize]| unpack("w", &stored, dims).unwrap_err().to_string();
        assert!(message(Tensor::new(&[1, 3], &[0x64u8, 0x03, 0x02]), &[1, 9]).contains("output 0, input 4"));
        assert!(message(Tensor::new(&[1, 3], &[0x64u8, 0x01, 0x06]), &[1, 9]).contains("output 0, input 9"));
        assert!(message(Tensor::new(&[2, 3], &[0u8; 6]), &[1, 9]).contains("u8 [1, 3] (BitLab)"));
        assert!(message(Tensor::new(&[1, 1], &[0u8]), &[1, 1]).contains("no packed form"), "two packings fit");
    }
}
