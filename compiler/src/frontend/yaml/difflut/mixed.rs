//! Layers of difflogic nodes on real numbers, as the library evaluates them unless it is told otherwise.
//!
//! A mixture of gates is a polynomial in its two inputs: `c + u a + v b + w a b`. No instruction is meant for it; it is what
//! a network of bits is compared with.

use bitc_ir::ops::{Binary, BinaryKind, Cast, Gather};
use bitc_ir::{DType, Graph, Op, Tensor, TypeError, ValueId};

use super::super::tables::{check_connections, n_bits};
use super::nodes::Mixture;
use crate::error::Diagnostic;

/// Adds the answers of a layer over bits or numbers.
pub(super) fn add_layer(
    graph: &mut Graph,
    x: ValueId,
    connections: &Tensor,
    gates: &[Mixture],
) -> Result<ValueId, Diagnostic> {
    let (reads, fan_in) = (connections.to_vec::<i32>().unwrap_or_default(), connections.dims()[1]);
    check_connections(reads.iter().copied(), n_bits(graph, x))?;
    if reads.len() != gates.len() * fan_in {
        return Err(Diagnostic::wrong_input("the weights of the layer are missing or have gaps"));
    }
    let n = gates.len();
    let read = |j: usize| {
        let of_node = |(reads, gate): (&[i32], &Mixture)| i64::from(reads[gate.inputs[j]]);
        Tensor::new(&[n], &reads.chunks(fan_in).zip(gates).map(of_node).collect::<Vec<_>>())
    };
    let coefficient = |of: fn([f64; 4]) -> f64| {
        Tensor::new(&[n], &gates.iter().map(|gate| of(gate.entries) as f32).collect::<Vec<_>>())
    };
    let mut layer = Layer { graph };
    let x = layer.add(Cast { to: DType::F32 }, &[x])?;
    let (a, b) = (layer.picked(x, read(0))?, layer.picked(x, read(1))?);
    let ab = layer.binary(BinaryKind::Mul, a, b)?;
    let mut y = layer.constant(coefficient(|e| e[0]));
    for (factor, values) in [
        (a, coefficient(|e| e[2] - e[0])),
        (b, coefficient(|e| e[1] - e[0])),
        (ab, coefficient(|e| e[3] - e[2] - e[1] + e[0])),
    ] {
        let values = layer.constant(values);
        let term = layer.binary(BinaryKind::Mul, factor, values)?;
        y = layer.binary(BinaryKind::Add, term, y)?;
    }
    Ok(y)
}

struct Layer<'g> {
    graph: &'g mut Graph,
}

impl Layer<'_> {
    fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Diagnostic> {
        let inputs: Vec<_> = inputs.iter().map(|&v| Some(v)).collect();
        self.graph.add_node("", op, &inputs).map_err(|e: TypeError| Diagnostic::wrong_input(e.to_string()))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_const("", tensor)
    }

    fn binary(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId, Diagnostic> {
        self.add(Binary(kind), &[a, b])
    }

    fn picked(&mut self, x: ValueId, places: Tensor) -> Result<ValueId, Diagnostic> {
        let places = self.constant(places);
        self.add(Gather { axis: -1 }, &[x, places])
    }
}
