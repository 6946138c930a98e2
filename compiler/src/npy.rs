//! Arrays as `.npy` files: versions 1 to 3 are read, version 1 is written.
//!
//! Only plain numbers are read; a file of Python objects is refused, never interpreted. Little-endian arrays in C order
//! are not copied. A length in the header is believed only when the file is exactly that long.

use std::path::Path;

use bitc_ir::{Blob, DType, Tensor};

use crate::error::{Diagnostic, quoted};
use crate::input;

mod convert;
mod header;

pub use convert::convert_exact;

use header::{Header, Order};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that is read, in bytes.
const HEADER_LIMIT: usize = 1 << 16;
/// The largest number of dimensions; numpy's own limit.
const RANK_LIMIT: usize = 64;

/// Reads the array in the file at `path`.
///
/// # Errors
/// If the file cannot be read or [`parse`] refuses it; the diagnostic names the file.
pub fn read(path: &Path) -> Result<Tensor, Diagnostic> {
    parse(&input::read(path, u64::MAX)?).map_err(|d| d.file(path.display().to_string()))
}

/// The array that the bytes of an `.npy` file hold.
///
/// # Errors
/// Wrong input if the header or the length is not what the format asks for; unsupported if the file is valid and holds
/// something other than booleans, integers of 8 to 64 bits or floats of 16 to 64 bits.
pub fn parse(file: &Blob) -> Result<Tensor, Diagnostic> {
    let bytes = file.bytes();
    let wrong = |what: &str, offset: usize| Diagnostic::wrong_input(what).offset(offset as u64);
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| not_npy(bytes))?;
    let (length_bytes, version) = match rest {
        [1, 0, ..] => (2, 1),
        [2, 0, ..] => (4, 2),
        [3, 0, ..] => (4, 3),
        [major, minor, ..] => {
            return Err(Diagnostic::unsupported(format!("version {major}.{minor} of the npy format"))
                .expected("version 1.0, 2.0 or 3.0")
                .offset(6));
        }
        _ => return Err(wrong("the file ends inside its header", bytes.len())),
    };
    let prefix = MAGIC.len() + 2;
    let start = prefix + length_bytes;
    let length = bytes.get(prefix..start).ok_or_else(|| wrong("the file ends inside its header", bytes.len()))?;
    let length = length.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b));
    if length > HEADER_LIMIT {
        return Err(wrong("the header is too long", prefix)
            .expected(format!("at most {HEADER_LIMIT} bytes"))
            .found(format!("{length} bytes")));
    }
    let end = start + length;
    let text = bytes
        .get(start..end)
        .ok_or_else(|| wrong("the header is longer than the file", prefix).found(format!("{length} bytes")))?;
    if version < 3 && !text.is_ascii() {
        return Err(wrong("the header is not ASCII", start));
    }
    let text = std::str::from_utf8(text).map_err(|e| wrong("the header is not text", start + e.valid_up_to()))?;
    let header = header::parse(text).map_err(|fault| match fault {
        header::Fault::Syntax { at, expected } => {
            wrong("the header is not the dictionary that it should be", start + at).expected(expected)
        }
        header::Fault::Structured => unsupported_type("a structured type"),
    })?;
    let data = file.slice(end..bytes.len()).ok_or_else(|| Diagnostic::bug("the npy data has no place"))?;
    decode(&header, data).map_err(|d| if d.offset.is_none() { d.offset(end as u64) } else { d })
}

/// What to say about a file that is no `.npy`: some frequent mistakes are named.
fn not_npy(bytes: &[u8]) -> Diagnostic {
    let what = Diagnostic::wrong_input("this is no .npy file").expected("a file that begins with \\x93NUMPY");
    if bytes.starts_with(b"PK\x03\x04") {
        return what.hint("an .npz archive is not read; save each array with numpy.save");
    }
    what.hint("save the array with numpy.save")
}

fn unsupported_type(what: &str) -> Diagnostic {
    Diagnostic::unsupported(format!("the array has {what} as its element type"))
        .expected("bool, i8 to i64, u8 to u64, f16, f32 or f64")
        .hint("convert it with numpy's astype before saving")
}

/// The element type of a `descr`, and whether its bytes are to be swapped.
fn element_type(descr: &str) -> Result<(DType, bool), Diagnostic> {
    let mut chars = descr.chars();
    let (big, code) = match chars.next() {
        Some('<' | '|' | '=') => (false, chars.as_str()),
        Some('>' | '!') => (true, chars.as_str()),
        _ => (false, descr),
    };
    let dtype = match code {
        "b1" | "?" => DType::Bool,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "O" | "O8" => return Err(unsupported_type("Python objects").found("descr `O`")),
        _ => return Err(unsupported_type(&quoted(descr))),
    };
    Ok((dtype, big && dtype.size_bytes() > 1))
}

/// The tensor of a header and exactly the bytes after it.
fn decode(header: &Header, data: Blob) -> Result<Tensor, Diagnostic> {
    let (dtype, swap) = element_type(&header.descr)?;
    let mut dims = Vec::new();
    for &n in &header.shape {
        let dim = i64::try_from(n).ok().and_then(|n| usize::try_from(n).ok());
        dims.push(dim.ok_or_else(|| Diagnostic::wrong_input("a dimension is too large").found(n))?);
    }
    if dims.len() > RANK_LIMIT {
        return Err(Diagnostic::wrong_input("the array has too many dimensions").found(dims.len()));
    }
    let stored: Vec<usize> = match header.order {
        Order::C => dims.clone(),
        Order::Fortran => dims.iter().rev().copied().collect(),
    };
    let wrong = |e: bitc_ir::TensorError| Diagnostic::wrong_input(e.to_string());
    // This checks the length before anything is allocated.
    let tensor = Tensor::from_blob(dtype, &stored, data).map_err(wrong)?;
    let moved = header.order == Order::Fortran && dims.len() > 1;
    if !swap && !moved {
        return Tensor::from_blob(dtype, &dims, tensor.blob().clone()).map_err(wrong);
    }
    let mut bytes = tensor.bytes().to_vec();
    if swap {
        bytes.chunks_exact_mut(dtype.size_bytes()).for_each(<[u8]>::reverse);
    }
    if moved {
        bytes = to_c_order(&bytes, dtype.size_bytes(), &dims);
    }
    Tensor::from_blob(dtype, &dims, Blob::new(bytes)).map_err(wrong)
}

/// Reorders elements stored with the first index fastest so that the last one is.
fn to_c_order(bytes: &[u8], size: usize, dims: &[usize]) -> Vec<u8> {
    let strides: Vec<usize> = dims
        .iter()
        .scan(size, |stride, &d| {
            let this = *stride;
            *stride *= d;
            Some(this)
        })
        .collect();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    while out.len() < bytes.len() {
        out.extend_from_slice(&bytes[at..at + size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    out
}

/// The bytes of a version 1 `.npy` file that holds `tensor`. `t2`, `i2`, `i4` become `i1` and `u2`, `u4` become `u1`;
/// `bf16`, which numpy lacks, becomes `f4`.
pub fn encode(tensor: &Tensor) -> Vec<u8> {
    let widened = if tensor.dtype() == DType::BF16 { convert_exact(tensor, DType::F32).ok() } else { None };
    let tensor = widened.as_ref().unwrap_or(tensor);
    let descr = match tensor.dtype() {
        DType::Bool => "|b1",
        DType::T2 | DType::I2 | DType::I4 | DType::I8 => "|i1",
        DType::U2 | DType::U4 | DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::I64 => "<i8",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::F32 | DType::BF16 => "<f4",
        DType::F64 => "<f8",
    };
    let dims: Vec<String> = tensor.dims().iter().map(usize::to_string).collect();
    let shape = if dims.len() == 1 { format!("({},)", dims[0]) } else { format!("({})", dims.join(", ")) };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // The data begins at a multiple of 64, and the header ends with a newline.
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut out = Vec::with_capacity(MAGIC.len() + 4 + header.len() + tensor.bytes().len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    // A tensor has at most a few dozen dimensions of at most 20 digits.
    out.extend_from_slice(&u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(tensor.bytes());
    out
}

#[cfg(test)]
mod tests;
