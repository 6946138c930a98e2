//! The float product of two matrices.

/// Accumulators of a dot product.
const LANES: usize = 16;

/// `y[m][n] = sum over k of a[m][k] * b[k][n]`, the terms added in the order of `k`.
pub(crate) fn matmul(y: &mut [f32], a: &[f32], b: &[f32], k: usize, n: usize) {
    for (row, y) in y.chunks_exact_mut(n).enumerate() {
        y.fill(0.0);
        for (a, b) in a[row * k..][..k].iter().zip(b.chunks_exact(n)) {
            y.iter_mut().zip(b).for_each(|(y, &b)| *y += a * b);
        }
    }
}

/// `y[m][n] = sum over k of a[m][k] * b[n][k]`, the terms added in sixteen interleaved parts.
pub(crate) fn matmul_transposed(y: &mut [f32], a: &[f32], b: &[f32], k: usize, n: usize) {
    for (row, y) in y.chunks_exact_mut(n).enumerate() {
        let a = &a[row * k..][..k];
        for (column, y) in y.iter_mut().enumerate() {
            *y = dot(a, &b[column * k..][..k]);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a_blocks, a_tail), (b_blocks, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
        *lane += a * b;
    }
    lanes.iter().sum()
}
