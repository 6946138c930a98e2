//! Storages and tensors of a torch archive: which bytes a pickle's tensor stands for.

use bitc_ir::{Blob, DType, Tensor, TensorError};

use super::dimension;
use super::unpickle::{Global, Heap, Value};
use super::zip::Archive;
use crate::error::{Diagnostic, quoted};

/// What may be copied for tensors that are not contiguous, beside twice the size of the file.
const COPY_LIMIT: u64 = 512 << 20;

/// The bytes that tensors are views of.
#[derive(Debug)]
pub(super) struct Storage {
    key: String,
    /// `None` for a storage without an element type.
    dtype: Option<DType>,
    data: Blob,
}

/// The storages of an archive.
pub(super) struct Storages<'a> {
    archive: &'a Archive,
    folder: &'a str,
    /// How many bytes may still be copied.
    room: u64,
}

impl<'a> Storages<'a> {
    /// The storages below `folder` of an archive of `file_len` bytes.
    pub(super) fn new(archive: &'a Archive, folder: &'a str, file_len: usize) -> Self {
        Self { archive, folder, room: COPY_LIMIT.saturating_add((file_len as u64).saturating_mul(2)) }
    }

    /// The storage of a persistent id: `("storage", type, key, device, number of elements)`. The device does not matter.
    pub(super) fn open(&self, heap: &Heap, id: &Value) -> Result<Storage, Diagnostic> {
        let parts = heap.tuple(id).unwrap_or_default();
        let [Value::Text(kind), Value::Global(ty), Value::Text(key), _, Value::Int(count), ..] = parts else {
            return Err(Diagnostic::wrong_input("a persistent id of the pickle describes no storage"));
        };
        let dtype = match ty {
            Global::Typed(dtype) => Some(*dtype),
            Global::UntypedStorage => None,
            _ => return Err(Diagnostic::wrong_input("a persistent id of the pickle has no storage type")),
        };
        if &**kind != "storage" {
            return Err(
                Diagnostic::wrong_input("a persistent id of the pickle describes no storage").found(quoted(kind))
            );
        }
        let name = format!("{}/data/{key}", self.folder);
        let data = self.archive.get(&name)?.ok_or_else(|| {
            Diagnostic::wrong_input(format!("the archive lacks the storage {}", quoted(&name)))
                .hint("a tensor on the device `meta` has no data")
        })?;
        let size = dtype.map_or(1, DType::size_bytes) as u64;
        let expected = u64::try_from(*count).ok().and_then(|n| n.checked_mul(size));
        if expected != Some(data.bytes().len() as u64) {
            return Err(Diagnostic::wrong_input(format!("the storage {} has the wrong length", quoted(&name)))
                .expected(format!("{count} elements of {size} bytes"))
                .found(format!("{} bytes", data.bytes().len())));
        }
        Ok(Storage { key: key.to_string(), dtype, data })
    }

    /// A view of a storage. `dtype` is that of the tensor where the storage has none.
    pub(super) fn tensor(
        &mut self,
        storage: &Storage,
        dtype: Option<DType>,
        offset: i64,
        size: &[i64],
        stride: &[i64],
    ) -> Result<Tensor, Diagnostic> {
        let wrong = |what: &str| {
            Diagnostic::wrong_input(format!("a tensor of the storage {} {what}", quoted(&storage.key)))
                .found(format!("offset {offset}, size {size:?}, stride {stride:?}"))
        };
        let dtype = dtype.or(storage.dtype).ok_or_else(|| wrong("has no element type"))?;
        if size.len() != stride.len() || size.len() > 64 {
            return Err(wrong("has sizes that do not go with its strides"));
        }
        let unsigned = |n: &[i64]| n.iter().map(|&n| dimension(u64::try_from(n).ok()?)).collect::<Option<Vec<_>>>();
        let negative = || wrong("has a negative size, stride or offset");
        let dims = unsigned(size).ok_or_else(negative)?;
        let strides = unsigned(stride).ok_or_else(negative)?;
        let offset = usize::try_from(offset).map_err(|_| negative())?;
        let bytes = storage.data.bytes();
        let span = span(&dims, &strides).and_then(|n| offset.checked_add(n));
        let fits = span.and_then(|n| n.checked_mul(dtype.size_bytes())).is_some_and(|len| len <= bytes.len());
        if !fits {
            return Err(wrong("reaches beyond it"));
        }
        let element = dtype.size_bytes();
        let as_wrong = |e: TensorError| wrong(&format!("is wrong: {e}"));
        if is_contiguous(&dims, &strides) {
            // In range, because the span of a contiguous tensor is its length; an empty one may have any offset.
            let (begin, len) =
                if dims.contains(&0) { (0, 0) } else { (offset * element, dims.iter().product::<usize>() * element) };
            let data = storage.data.slice(begin..begin + len).ok_or_else(|| wrong("reaches beyond it"))?;
            return Tensor::from_blob(dtype, &dims, data).map_err(as_wrong);
        }
        let len = dims.iter().try_fold(element, |n, &d| n.checked_mul(d)).ok_or_else(|| wrong("is too large"))?;
        self.room = self.room.checked_sub(len as u64).ok_or_else(|| {
            Diagnostic::unsupported("the tensors of the file that are no contiguous views take too much memory")
                .hint("call contiguous() on the tensors before saving")
        })?;
        let copy = gather(&bytes[offset * element..], element, &dims, &strides, len);
        Tensor::from_blob(dtype, &dims, Blob::new(copy)).map_err(as_wrong)
    }
}

/// The integers of a tuple.
pub(super) fn numbers(heap: &Heap, value: &Value) -> Option<Vec<i64>> {
    let number = |v: &Value| match v {
        Value::Int(n) => Some(*n),
        _ => None,
    };
    heap.tuple(value)?.iter().map(number).collect()
}

/// How many elements lie between the first element of a view and the end of its last; 0 for an empty view.
fn span(dims: &[usize], strides: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().zip(strides).try_fold(1usize, |n, (&d, &s)| n.checked_add((d - 1).checked_mul(s)?))
}

/// Whether the elements of a view, whose span is in range, follow each other.
fn is_contiguous(dims: &[usize], strides: &[usize]) -> bool {
    let mut step = 1usize;
    dims.contains(&0)
        || dims.iter().zip(strides).rev().all(|(&d, &s)| {
            let follows = d == 1 || s == step;
            step = step.saturating_mul(d);
            follows
        })
}

/// Copies a view that is in range and not empty, row by row.
fn gather(bytes: &[u8], element: usize, dims: &[usize], strides: &[usize], len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    while out.len() < len {
        out.extend_from_slice(&bytes[at * element..(at + 1) * element]);
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
