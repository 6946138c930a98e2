//! Rows of inputs: how many there are, and some of them. Rows are counted by the first dimension of the first input.

use std::ops::Range;

use bitc_ir::{Blob, Graph, Tensor};

/// The number of rows; `None` where the model has no dimension for them.
pub fn n_rows(graph: &Graph, inputs: &[Tensor]) -> Option<usize> {
    let has_rows = rows_of(graph);
    let at = has_rows.iter().position(|&has| has)?;
    inputs.get(at)?.dims().first().copied()
}

/// Some rows, without copying them; inputs that have no rows stay as they are.
pub fn take(graph: &Graph, inputs: &[Tensor], rows: Range<usize>) -> Vec<Tensor> {
    each(graph, inputs, |tensor, row_bytes| {
        let blob = tensor.blob().slice(rows.start * row_bytes..rows.end * row_bytes)?;
        with_rows(tensor, rows.len(), blob)
    })
}

/// The rows of these numbers, which are all there; inputs that have no rows stay as they are.
pub fn pick(graph: &Graph, inputs: &[Tensor], rows: &[usize]) -> Vec<Tensor> {
    each(graph, inputs, |tensor, row_bytes| {
        let mut bytes = Vec::with_capacity(rows.len() * row_bytes);
        rows.iter().for_each(|&r| bytes.extend_from_slice(&tensor.bytes()[r * row_bytes..][..row_bytes]));
        with_rows(tensor, rows.len(), bytes.into())
    })
}

fn each(graph: &Graph, inputs: &[Tensor], of: impl Fn(&Tensor, usize) -> Option<Tensor>) -> Vec<Tensor> {
    let has_rows = rows_of(graph);
    let some = |(tensor, &has): (&Tensor, &bool)| {
        let row_bytes = tensor.dims().iter().skip(1).product::<usize>() * tensor.dtype().size_bytes();
        if has { of(tensor, row_bytes) } else { None }.unwrap_or_else(|| tensor.clone())
    };
    inputs.iter().zip(&has_rows).map(some).collect()
}

fn with_rows(tensor: &Tensor, rows: usize, blob: Blob) -> Option<Tensor> {
    let mut dims = tensor.dims().to_vec();
    *dims.first_mut()? = rows;
    Tensor::from_blob(tensor.dtype(), &dims, blob).ok()
}

/// For each input whether its first dimension counts rows.
fn rows_of(graph: &Graph) -> Vec<bool> {
    let first = |i: usize| graph.inputs().get(i).and_then(|&v| graph.ty(v).shape.0.first()?.as_symbol());
    let symbol = first(0);
    (0..graph.inputs().len()).map(|i| symbol.is_some() && first(i) == symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_inputs_that_have_them() {
        let text = "graph @g(%x: i32[N, 2], %s: i32[2], %y: i32[N]) { %z = add(%x, %s) return %z, %y }";
        let graph = bitc_ir::text::parse(text, &bitc_ir::text::NoReferences).unwrap();
        let inputs =
            [Tensor::new(&[3, 2], &[1, 2, 3, 4, 5, 6]), Tensor::new(&[2], &[7, 8]), Tensor::new(&[3], &[9, 10, 11])];
        assert_eq!(n_rows(&graph, &inputs), Some(3));
        let values = |tensors: Vec<Tensor>| tensors.iter().map(|t| t.to_vec::<i32>().unwrap()).collect::<Vec<_>>();
        assert_eq!(values(take(&graph, &inputs, 1..3)), [vec![3, 4, 5, 6], vec![7, 8], vec![10, 11]]);
        assert_eq!(values(pick(&graph, &inputs, &[2, 0])), [vec![5, 6, 1, 2], vec![7, 8], vec![11, 9]]);
    }
}
