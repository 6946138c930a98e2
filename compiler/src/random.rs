//! Seeded random inputs, as large as memory may be expected to hold.

use bitc_ir::{DType, Tensor};

use crate::error::{Diagnostic, quoted};

/// A seeded random input.
///
/// # Errors
/// If it would take more than 4 GiB.
pub fn input(name: &str, dtype: DType, dims: &[usize], seed: u64) -> Result<Tensor, Diagnostic> {
    const LIMIT: usize = 4 << 30;
    let elements = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let bytes = elements.and_then(|n| n.checked_mul(dtype.size_bytes()));
    if bytes.is_none_or(|n| n > LIMIT) {
        return Err(Diagnostic::wrong_input(format!("random input {} is too large", quoted(name)))
            .expected(format!("at most {LIMIT} bytes"))
            .found(format!("{dtype}{dims:?}")));
    }
    Ok(bitc_ir::random::tensor(dtype, dims, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_no_memory_holds_is_refused() {
        assert_eq!(input("x", DType::F32, &[2, 3], 1).unwrap().dims(), [2, 3]);
        for dims in [&[1 << 20, 1 << 20][..], &[usize::MAX, 8]] {
            assert!(input("x", DType::F32, dims, 1).unwrap_err().message.contains("`x` is too large"));
        }
    }
}
