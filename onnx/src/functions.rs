//! Model-local functions: which one a node calls, what its attributes are, and how large the model becomes.
//!
//! Bodies are never copied. The importer walks a body with the values of the call, so that expanding is a matter of
//! visiting; before it begins, [`Functions::check`] finds out that no function calls itself and that the number of
//! visits stays within bounds.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Cause, Fault};
use crate::import::opset::{Opsets, canonical_domain, op_name};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// Attributes of a call by the names the body uses; names without a value are absent.
pub(crate) type Bound<'m> = BTreeMap<&'m str, &'m AttributeProto>;

/// The functions of a model, by what calls them.
pub(crate) struct Functions<'m> {
    all: &'m [FunctionProto],
    by_key: HashMap<(&'m str, &'m str, &'m str), usize>,
    opsets: Vec<Opsets>,
}

impl<'m> Functions<'m> {
    /// Indexes functions.
    ///
    /// # Errors
    /// If two have the same domain, name and overload, or one imports an operator set twice.
    pub(crate) fn new(all: &'m [FunctionProto], model: &Opsets) -> Result<Self, Vec<Fault>> {
        let (mut by_key, mut opsets, mut faults) = (HashMap::new(), Vec::new(), Vec::new());
        for (i, f) in all.iter().enumerate() {
            if by_key.insert((canonical_domain(&f.domain), f.name.as_str(), f.overload.as_str()), i).is_some() {
                faults.push(Cause::Function { function: name_of(f), detail: "is defined twice".into() }.into());
            }
            match Opsets::new(&f.opset_import) {
                Ok(own) => opsets.push(own.or(model)),
                Err(cause) => faults.push(cause.into()),
            }
        }
        if faults.is_empty() { Ok(Self { all, by_key, opsets }) } else { Err(faults) }
    }

    /// The function that a node calls, if there is one.
    pub(crate) fn called_by(&self, node: &NodeProto) -> Option<usize> {
        self.by_key.get(&(canonical_domain(&node.domain), node.op_type.as_str(), node.overload.as_str())).copied()
    }

    /// A function by position.
    pub(crate) fn get(&self, index: usize) -> Option<(&'m FunctionProto, &Opsets)> {
        Some((self.all.get(index)?, self.opsets.get(index)?))
    }

    /// Counts the nodes that a graph has when everything is expanded, both branches of every condition included.
    ///
    /// `is_known` tells which operators are imported as such even where a function has their name.
    ///
    /// # Errors
    /// If a function calls itself, or there are more nodes than the limit.
    pub(crate) fn check(
        &self,
        graph: &GraphProto,
        model: &Opsets,
        limit: u64,
        is_known: impl Fn(&NodeProto, &Opsets) -> bool,
    ) -> Result<u64, Cause> {
        let calls = |node: &NodeProto, opsets: &Opsets| {
            if is_known(node, opsets) { None } else { self.called_by(node) }
        };
        // Sizes of functions, callees first. `None` is a function whose callees are being counted.
        let mut sizes: HashMap<usize, Option<u64>> = HashMap::new();
        let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
        let size_of = |nodes: &[NodeProto], opsets: &Opsets, sizes: &HashMap<usize, Option<u64>>| {
            let size = |n: &NodeProto| match calls(n, opsets) {
                Some(f) => sizes.get(&f).copied().flatten().unwrap_or(0).saturating_add(1),
                None => 1,
            };
            every_node(nodes).map(size).fold(0u64, u64::saturating_add)
        };
        let callees =
            |nodes: &[NodeProto], opsets: &Opsets| every_node(nodes).filter_map(|n| calls(n, opsets)).collect();
        let mut roots: Vec<usize> = callees(&graph.node, model);
        while let Some(root) = roots.pop() {
            if sizes.contains_key(&root) {
                continue;
            }
            let Some((f, opsets)) = self.get(root) else { continue };
            sizes.insert(root, None);
            stack.push((root, callees(&f.node, opsets)));
            while let Some((index, waiting)) = stack.last_mut() {
                let index = *index;
                if let Some(callee) = waiting.pop() {
                    let Some((f, opsets)) = self.get(callee) else { continue };
                    match sizes.get(&callee) {
                        Some(Some(_)) => {}
                        Some(None) => {
                            return Err(Cause::Function { function: name_of(f), detail: "calls itself".into() });
                        }
                        None => {
                            sizes.insert(callee, None);
                            stack.push((callee, callees(&f.node, opsets)));
                        }
                    }
                } else {
                    if let Some((f, opsets)) = self.get(index) {
                        let size = size_of(&f.node, opsets, &sizes);
                        sizes.insert(index, Some(size));
                    }
                    stack.pop();
                }
            }
        }
        let total = size_of(&graph.node, model, &sizes);
        if total > limit { Err(Cause::TooManyNodes { limit }) } else { Ok(total) }
    }
}

/// The nodes of a list and of all graphs inside them.
fn every_node(nodes: &[NodeProto]) -> impl Iterator<Item = &NodeProto> {
    let mut open = vec![nodes.iter()];
    std::iter::from_fn(move || {
        while let Some(nodes) = open.last_mut() {
            if let Some(node) = nodes.next() {
                open.extend(subgraphs(node).map(|g| g.node.iter()));
                return Some(node);
            }
            open.pop();
        }
        None
    })
}

/// The graphs in the attributes of a node.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs))
}

/// The attributes that the body of a function sees when a node calls it. `outer` is what the node's own body sees.
///
/// # Errors
/// If the call has an attribute, more inputs or more outputs than the function declares.
pub(crate) fn bind<'m>(f: &'m FunctionProto, call: &'m NodeProto, outer: &Bound<'m>) -> Result<Bound<'m>, Cause> {
    let fault = |detail: String| Cause::Function { function: name_of(f), detail };
    if call.input.len() > f.input.len() || call.output.len() > f.output.len() {
        let (inputs, outputs) = (f.input.len(), f.output.len());
        let (found_in, found_out) = (call.input.len(), call.output.len());
        return Err(fault(format!(
            "has {inputs} inputs and {outputs} outputs, called with {found_in} and {found_out}"
        )));
    }
    let mut bound: Bound<'m> = f.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
    for attribute in &call.attribute {
        let Some(name) =
            f.attribute.iter().chain(f.attribute_proto.iter().map(|a| &a.name)).find(|n| **n == attribute.name)
        else {
            return Err(fault(format!("has no attribute {}", crate::error::quoted(&attribute.name))));
        };
        if attribute.ref_attr_name.is_empty() {
            bound.insert(name, attribute);
        } else if let Some(value) = outer.get(attribute.ref_attr_name.as_str()) {
            bound.insert(name, value);
        }
    }
    Ok(bound)
}

fn name_of(f: &FunctionProto) -> String {
    op_name(&f.domain, &f.name)
}
