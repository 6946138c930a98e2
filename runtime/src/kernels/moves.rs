//! Copies between arrays with strides.

/// One axis of a copy: how many elements, and how far apart they are in the source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Axis {
    pub(crate) n: usize,
    pub(crate) stride: isize,
}

/// Fills `y` front to back with elements of `x`, the last axis fastest, beginning at `start`.
///
/// Every position that the axes reach lies in `x`, and `y` has as many elements as they count.
pub(crate) fn strided<T: Copy>(y: &mut [T], x: &[T], start: usize, axes: &[Axis]) {
    let Some((inner, outer)) = axes.split_last() else {
        if let [y] = y {
            *y = x[start];
        }
        return;
    };
    if y.is_empty() {
        return;
    }
    // An odometer over the outer axes; `at` is the position in `x` it shows.
    let mut counters = [0usize; bitc_format::MAX_RANK];
    let mut at = start as isize;
    for row in y.chunks_exact_mut(inner.n) {
        match inner.stride {
            1 => row.copy_from_slice(&x[at as usize..][..inner.n]),
            0 => row.fill(x[at as usize]),
            stride => {
                let mut from = at;
                for value in row {
                    *value = x[from as usize];
                    from += stride;
                }
            }
        }
        for (axis, counter) in outer.iter().zip(&mut counters).rev() {
            *counter += 1;
            at += axis.stride;
            if *counter < axis.n {
                break;
            }
            at -= axis.stride * axis.n as isize;
            *counter = 0;
        }
    }
}
