//! The float product of two matrices.
//!
//! Sums are kept in small tiles of accumulators, which become vector registers; the terms of one sum are added in the
//! order of `k`, or in sixteen interleaved parts where `b` is transposed.

/// Columns of a tile.
const COLUMNS: usize = 32;
/// Parts of a sum where `b` is transposed.
const LANES: usize = 16;

/// The factors of a product.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// The left factor, rows of `k`.
    pub a: &'a [f32],
    /// The right factor: rows of `n`, or `n` rows of `k` where it is transposed.
    pub b: &'a [f32],
    /// The inner dimension.
    pub k: usize,
    /// The columns of the result, at least 1.
    pub n: usize,
    /// Whether `b` is transposed.
    pub transposed: bool,
}

/// `y = a @ b`
#[inline(always)]
pub(super) fn matmul(p: Product<'_>, y: &mut [f32]) {
    let rows = y.len() / p.n;
    assert!(y.len() == rows * p.n && p.a.len() == rows * p.k && p.b.len() == p.k * p.n, "a product of these sizes");
    if p.transposed {
        let mut row = 0;
        while row + 2 <= rows {
            transposed_rows::<2>(p, row, y);
            row += 2;
        }
        if row < rows {
            transposed_rows::<1>(p, row, y);
        }
        return;
    }
    for column in (0..p.n).step_by(COLUMNS) {
        let mut row = 0;
        while row + 4 <= rows {
            tile::<4>(p, row, column, y);
            row += 4;
        }
        while row < rows {
            tile::<1>(p, row, column, y);
            row += 1;
        }
    }
}

/// The sums of `R` rows with up to 32 columns.
#[inline(always)]
fn tile<const R: usize>(p: Product<'_>, row: usize, column: usize, y: &mut [f32]) {
    let n = COLUMNS.min(p.n - column);
    let mut sums = [[0f32; COLUMNS]; R];
    for (k, b) in p.b.chunks_exact(p.n).enumerate() {
        let a: [f32; R] = std::array::from_fn(|r| p.a[(row + r) * p.k + k]);
        if let Some(b) = b[column..].first_chunk::<COLUMNS>() {
            for (sums, a) in sums.iter_mut().zip(a) {
                sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum += a * b);
            }
        } else {
            for (sums, a) in sums.iter_mut().zip(a) {
                sums.iter_mut().zip(&b[column..]).for_each(|(sum, &b)| *sum += a * b);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        y[(row + r) * p.n + column..][..n].copy_from_slice(&sums[..n]);
    }
}

/// The sums of `R` rows with all columns of a transposed factor.
#[inline(always)]
fn transposed_rows<const R: usize>(p: Product<'_>, row: usize, y: &mut [f32]) {
    let mut column = 0;
    while column + 4 <= p.n {
        dots::<R, 4>(p, row, column, y);
        column += 4;
    }
    while column < p.n {
        dots::<R, 1>(p, row, column, y);
        column += 1;
    }
}

#[inline(always)]
fn dots<const R: usize, const C: usize>(p: Product<'_>, row: usize, column: usize, y: &mut [f32]) {
    let a: [&[f32]; R] = std::array::from_fn(|r| &p.a[(row + r) * p.k..][..p.k]);
    let b: [&[f32]; C] = std::array::from_fn(|c| &p.b[(column + c) * p.k..][..p.k]);
    let mut sums = [[[0f32; LANES]; C]; R];
    for start in (0..p.k - p.k % LANES).step_by(LANES) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sums, b) in sums.iter_mut().zip(b) {
                let terms = a[start..][..LANES].iter().zip(&b[start..][..LANES]);
                sums.iter_mut().zip(terms).for_each(|(sum, (&a, &b))| *sum += a * b);
            }
        }
    }
    let tail = p.k - p.k % LANES;
    for (r, (sums, a)) in sums.iter_mut().zip(a).enumerate() {
        for (c, (sums, b)) in sums.iter_mut().zip(b).enumerate() {
            let terms = a[tail..].iter().zip(&b[tail..]);
            sums.iter_mut().zip(terms).for_each(|(sum, (&a, &b))| *sum += a * b);
            y[(row + r) * p.n + column + c] = sums.iter().sum();
        }
    }
}
