//! Seeded inputs for a graph: several sizes of its symbols, several kinds of values.

use std::collections::BTreeMap;

use bitc_ir::random::{self, Random};
use bitc_ir::{DType, Graph, Tensor};

/// What the leading symbol of a graph stands for in turn.
const BATCHES: [usize; 4] = [0, 1, 2, 5];

/// Inputs for a graph, one set per batch size and kind of values.
///
/// With `edges`, some sets hold infinities, NaN and zeros of both signs.
pub fn inputs(graph: &Graph, edges: bool) -> Vec<Vec<Tensor>> {
    let mut sets = Vec::new();
    for (i, &batch) in BATCHES.iter().enumerate() {
        let sizes = sizes(graph, batch);
        for kind in 0..if edges { 3 } else { 2 } {
            let input = |(position, &id): (usize, _)| {
                let ty = graph.ty(id);
                let dims: Option<Vec<usize>> = ty.shape.0.iter().map(|d| d.eval(&|s| sizes.get(s).copied())).collect();
                Some(values(ty.dtype, &dims?, (i * 100 + kind * 10 + position) as u64, kind))
            };
            sets.extend(graph.inputs().iter().enumerate().map(input).collect::<Option<Vec<_>>>());
        }
    }
    sets
}

/// The first symbol is the batch, the others small numbers that differ.
fn sizes(graph: &Graph, batch: usize) -> BTreeMap<String, usize> {
    let mut sizes = BTreeMap::new();
    let dims = graph.inputs().iter().flat_map(|&v| &graph.ty(v).shape.0);
    for symbol in dims.flat_map(bitc_ir::Dim::symbols) {
        let next = if sizes.is_empty() { batch } else { sizes.len() + 2 };
        sizes.entry(symbol.to_string()).or_insert(next);
    }
    sizes
}

fn values(dtype: DType, dims: &[usize], seed: u64, kind: usize) -> Tensor {
    let uniform = random::tensor(dtype, dims, seed);
    if dtype != DType::F32 || kind == 0 {
        return uniform;
    }
    let mut rng = Random::new(seed);
    // Quarters within 8 meet the ties of roundings.
    let quarter = |rng: &mut Random| rng.below(65) as f32 / 4.0 - 8.0;
    let edge = |rng: &mut Random| match rng.below(8) {
        0 => f32::INFINITY,
        1 => f32::NEG_INFINITY,
        2 => f32::NAN,
        3 => -0.0,
        4 => f32::MIN_POSITIVE / 4.0,
        5 => f32::MAX,
        _ => quarter(rng),
    };
    let value = |_| if kind == 1 { quarter(&mut rng) } else { edge(&mut rng) };
    Tensor::new(dims, &(0..uniform.numel()).map(value).collect::<Vec<f32>>())
}
