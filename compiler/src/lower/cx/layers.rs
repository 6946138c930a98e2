//! The table of layers of an artifact: what each is called, what it weighs and how its weights came to be.

use bitc_format::{Layer, Layout};
use bitc_ir::{NodeId, ValueId};

use super::Cx;

/// How the weights of a layer came to be what they are.
pub(in crate::lower) struct LayerInfo {
    pub(in crate::lower) method: String,
    pub(in crate::lower) layout: Layout,
    /// Whether a rewrite by choice made them.
    pub(in crate::lower) rewritten: bool,
}

impl LayerInfo {
    /// Float weights, stored as they are.
    pub(in crate::lower) fn float() -> Self {
        Self { method: "float".to_owned(), layout: Layout::Dense, rewritten: false }
    }
}

impl Cx<'_> {
    /// Notes a layer.
    pub(in crate::lower) fn push_layer(&mut self, layer: Layer) {
        self.program.layers.push(layer);
    }

    /// Notes a layer with weights; `inner` is the number of products that one element of `y` sums up.
    pub(in crate::lower) fn add_layer(
        &mut self,
        id: NodeId,
        weights: ValueId,
        packed_bytes: u64,
        inner: u64,
        how: LayerInfo,
    ) {
        let Some(tensor) = self.graph.constant(weights) else { return };
        let node = self.graph.node(id);
        let y = node.outputs.first().copied();
        let name = self.layer_name(id, weights);
        let size = tensor.dtype().size_bytes();
        let zeros = tensor.bytes().chunks_exact(size).filter(|e| e.iter().all(|&b| b == 0)).count();
        let shared = !self.weighed.insert(weights);
        let weights = tensor.numel() as u64;
        // Several planes stand for one weight of the source, and layers that share a weight store it once.
        let plane = how.rewritten && self.program.layers.iter().any(|l| l.name == name && l.weights == weights);
        // Ternary weights stood for single precision in the source.
        let source_bytes = match (shared || plane, tensor.dtype().is_float()) {
            (true, _) => 0,
            (false, true) => weights * size as u64,
            (false, false) => weights * 4,
        };
        let packed_bytes = if shared { 0 } else { packed_bytes };
        self.program.layers.push(Layer {
            name,
            op: node.op.name().to_owned(),
            method: how.method,
            layout: how.layout.name().to_owned(),
            weights,
            zeros: zeros as u64,
            source_bytes,
            packed_bytes,
            macs: y.and_then(|y| self.per_sample(y)).and_then(|n| n.checked_mul(inner)).unwrap_or(0),
        });
    }

    /// The source node that a layer is called after: the one whose name has most in common with that of its weights,
    /// path component by path component, since fused nodes have the names of all that they stand for.
    fn layer_name(&self, id: NodeId, weights: ValueId) -> String {
        let names = self.names(id);
        let components = |name: &'_ str| -> Vec<String> {
            name.split(['/', '.']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let weights = components(&self.graph.value(weights).name);
        let common = |name: &str| components(name).iter().zip(&weights).take_while(|(a, b)| a == b).count();
        let mut best = (0, names.first());
        for name in &names {
            let shared = common(name);
            if shared > best.0 {
                best = (shared, Some(name));
            }
        }
        best.1.cloned().unwrap_or_default()
    }

    /// The number of elements of a value that belong to one sample, where that is a number.
    fn per_sample(&self, value: ValueId) -> Option<u64> {
        let numel = self.graph.ty(value).shape.numel()?;
        let numel = match &self.batch {
            Some(batch) => numel.div_exact(batch)?,
            None => numel,
        };
        numel.as_const().map(|n| n as u64)
    }
}
