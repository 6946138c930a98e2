//! How far a graph that is not what its model is agrees with it, on data.

use std::collections::BTreeMap;

use bitc_ir::eval::eval;
use bitc_ir::ops::Op;
use bitc_ir::{Graph, Tensor, ValueId};
use bitc_passes::samples;

use crate::error::Diagnostic;
use crate::runnable::eval_error;
use crate::verify::classes;

/// The most rows that are evaluated together, and how many are in any case; between those they are as many as give bits of
/// so many bytes.
const ROWS_AT_ONCE: usize = 2048;
const ROWS_ANYWAY: usize = 512;
const BITS_AT_ONCE: usize = 1 << 24;

/// Counts of what is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows whose outputs are all the same.
    pub equal_rows: u64,
    /// Rows in which the largest element of the first output is at the same place.
    pub same_class: u64,
    /// Output bits of logic networks, and how many of them are the same.
    pub bits: u64,
    /// See there.
    pub same_bits: u64,
    /// Rows in which the model, and the other graph, give the label; `None` without labels.
    pub right: Option<(u64, u64)>,
}

impl Agreement {
    /// Compares two graphs of the same inputs and outputs; `labels` are one per row.
    ///
    /// # Errors
    /// If one of them cannot be evaluated.
    pub fn measure(
        model: &Graph,
        other: &Graph,
        inputs: &[Tensor],
        labels: Option<&[i64]>,
    ) -> Result<Self, Diagnostic> {
        let (model, other) = (with_networks(model), with_networks(other));
        let mut found = Self { right: labels.map(|_| (0, 0)), ..Self::default() };
        let Some(n) = samples::n_rows(&model.0, inputs) else {
            found.compare(&model, &other, inputs, labels)?;
            return Ok(found);
        };
        let width = |graph: &Graph| {
            let last = |v: &ValueId| graph.ty(*v).shape.last().and_then(|d| d.as_const()).unwrap_or(1);
            graph.outputs().iter().map(|o| last(&o.value)).max().unwrap_or(1).max(1)
        };
        let together = (BITS_AT_ONCE / width(&model.0)).clamp(ROWS_ANYWAY, ROWS_AT_ONCE);
        for start in (0..n).step_by(together) {
            let rows = start..n.min(start + together);
            let labels = labels.and_then(|l| l.get(rows.clone()));
            found.compare(&model, &other, &samples::take(&model.0, inputs, rows), labels)?;
        }
        Ok(found)
    }

    fn compare(
        &mut self,
        model: &(Graph, usize),
        other: &(Graph, usize),
        inputs: &[Tensor],
        labels: Option<&[i64]>,
    ) -> Result<(), Diagnostic> {
        let a = eval(&model.0, inputs).map_err(|e| eval_error(&e))?;
        let b = eval(&other.0, inputs).map_err(|e| eval_error(&e))?;
        for (a, b) in a[model.1..].iter().zip(&b[other.1..]).filter(|(a, b)| a.dims() == b.dims()) {
            self.bits += a.numel() as u64;
            self.same_bits += a.bytes().iter().zip(b.bytes()).filter(|(a, b)| a == b).count() as u64;
        }
        let (a, b) = (&a[..model.1], &b[..other.1]);
        let rows = a.first().and_then(|t| t.dims().first().copied()).unwrap_or(0);
        let row = |t: &Tensor, r: usize| {
            let len = t.bytes().len() / rows.max(1);
            t.bytes()[r * len..][..len].to_vec()
        };
        let with_rows = || a.iter().zip(b).filter(|(a, b)| a.ty() == b.ty() && a.dims().first() == Some(&rows));
        self.rows += rows as u64;
        self.equal_rows += (0..rows).filter(|&r| with_rows().all(|(a, b)| row(a, r) == row(b, r))).count() as u64;
        if let (Some(a), Some(b)) = (a.first().and_then(classes), b.first().and_then(classes)) {
            let same = |(a, b): &(&f64, &f64)| a == b;
            self.same_class += a.iter().zip(&b).filter(same).count() as u64;
            if let (Some(right), Some(labels)) = (&mut self.right, labels) {
                let count = |found: &[f64]| found.iter().zip(labels).filter(|(f, l)| **f == **l as f64).count() as u64;
                right.0 += count(&a);
                right.1 += count(&b);
            }
        }
        Ok(())
    }

    /// The parts of what was compared that are the same, by name.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let part = |n: u64, of: u64| n as f64 / of.max(1) as f64;
        let mut figures = BTreeMap::from([
            ("held_out_rows".to_owned(), self.rows as f64),
            ("row_agreement".to_owned(), part(self.equal_rows, self.rows)),
            ("argmax_agreement".to_owned(), part(self.same_class, self.rows)),
        ]);
        if self.bits > 0 {
            figures.insert("bit_agreement".to_owned(), part(self.same_bits, self.bits));
        }
        if let Some((model, other)) = self.right {
            figures.insert("model_accuracy".to_owned(), part(model, self.rows));
            figures.insert("accuracy".to_owned(), part(other, self.rows));
        }
        figures
    }
}

/// The graph with the outputs of its networks behind its own, of which the number comes along.
fn with_networks(graph: &Graph) -> (Graph, usize) {
    let mut values: Vec<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
    let n = values.len();
    values
        .extend(graph.nodes().filter(|(_, node)| matches!(node.op, Op::LogicNet(_))).map(|(_, node)| node.outputs[0]));
    (graph.with_outputs(&values), n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_counted() {
        let graph = |table: &str| {
            let text = format!(
                "graph @g(%x: bool[N, 2]) {{ %b = logic_net(%x) {{net = netlist \"\"\"\nnetlist {{\n inputs 2\n \
                 %2 = {table}(%0, %1)\n outputs %2, %0\n}}\n\"\"\"}} : bool[N, 2]  \
                 %y = group_sum(%b) {{groups = 2}} : f32[N, 2]  return %y }}"
            );
            bitc_ir::text::parse(&text, &bitc_ir::text::NoReferences).unwrap()
        };
        // and against or: they differ where the two bits do.
        let x = Tensor::with_dtype(bitc_ir::DType::Bool, &[4, 2], &[0u8, 0, 1, 0, 0, 1, 1, 1]);
        let found = Agreement::measure(&graph("8"), &graph("e"), &[x], Some(&[0, 1, 0, 0])).unwrap();
        let right = Some((4, 3));
        assert_eq!(found, Agreement { rows: 4, equal_rows: 2, same_class: 3, bits: 8, same_bits: 6, right });
        assert_eq!(found.figures()["bit_agreement"], 0.75);
    }
}
