//! Bodies within a body: called functions and taken branches are opened as frames, and closed when their nodes are done.

use std::collections::HashMap;
use std::rc::Rc;

use bitc_ir::ValueId;

use super::{Frame, Slot, Stop, Walk, stored};
use crate::error::Cause;
use crate::functions;
use crate::import::order::live_order;
use crate::import::origin::nested_path;
use crate::proto::NodeProto;

impl<'m> Walk<'m, '_> {
    /// Opens the body of a function.
    pub(super) fn call(
        &mut self,
        node: &'m NodeProto,
        index: u32,
        function: usize,
        inputs: Vec<Option<ValueId>>,
        lost: Vec<usize>,
    ) -> Result<(), Stop> {
        let name = self.place(node, index).name;
        let Some((f, opsets)) = self.functions.get(function) else { return Ok(()) };
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let bound = functions::bind(f, node, &frame.bound)?;
        let opsets = opsets.clone();
        let mut names: HashMap<&'m str, Slot> = HashMap::new();
        for (i, formal) in f.input.iter().enumerate() {
            let slot = match (inputs.get(i).copied().flatten(), node.input.get(i).map(String::as_str)) {
                (Some(value), _) => Slot::Value(value),
                (None, None | Some("")) => Slot::Absent,
                // Lost or absent outside; a lost one keeps its reason.
                (None, Some(outer)) => self.read(outer).unwrap_or(Slot::Absent),
            };
            if names.insert(formal, slot).is_some() {
                return Err(Stop::Fatal(Cause::DefinedTwice(formal.clone())));
            }
        }
        drop(lost);
        let order = match self.orders.get(&function) {
            Some(order) => order.clone(),
            None => {
                let given = |n: &str| names.contains_key(n);
                let order: Rc<[u32]> =
                    live_order(&f.node, f.output.iter().map(String::as_str), given).map_err(Stop::Fatal)?.into();
                self.orders.insert(function, order.clone());
                order
            }
        };
        let results = f.output.iter().map(String::as_str).zip(node.output.iter().map(String::as_str)).collect();
        self.frames.push(Frame {
            nodes: &f.node,
            order,
            next: 0,
            names,
            stored: HashMap::new(),
            sees_outside: false,
            opsets,
            bound: Rc::new(bound),
            path: nested_path(&name),
            results,
        });
        Ok(())
    }

    /// Opens the branch that a constant condition takes.
    pub(super) fn control(
        &mut self,
        node: &'m NodeProto,
        index: u32,
        inputs: &[Option<ValueId>],
        lost: Vec<usize>,
    ) -> Result<(), Stop> {
        let refuse = |detail: String| Err(Stop::Lost(Some(Cause::ControlFlow { detail }), lost.clone()));
        if node.op_type != "If" {
            return refuse(format!("{} repeats its body while running", node.op_type));
        }
        if !lost.is_empty() {
            return Err(Stop::Lost(None, lost));
        }
        let condition = inputs.first().copied().flatten();
        let condition = condition.ok_or_else(|| Cause::Arity("If takes 1 input, found 0".into()))?;
        let Some(value) = self.build.shape_value(condition).and_then(|v| v.to_tensor(bitc_ir::DType::Bool)) else {
            return refuse("the condition of If depends on the inputs of the model".into());
        };
        let taken = if value.bytes() == [1] { "then_branch" } else { "else_branch" };
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let attribute = node.attribute.iter().find(|a| a.name == taken);
        let graph = attribute
            .and_then(|a| a.g.as_deref())
            .ok_or_else(|| Cause::Attribute { name: taken.into(), detail: "is missing".into() })?;
        if graph.output.len() < node.output.len() {
            let (expected, found) = (node.output.len(), graph.output.len());
            return Err(Cause::Arity(format!("If has {expected} outputs, its branch {found}")).into());
        }
        let (opsets, bound) = (frame.opsets.clone(), frame.bound.clone());
        let path = nested_path(&self.place(node, index).name);
        let stored = stored(graph).map_err(Stop::Fatal)?;
        let given = |n: &str| stored.contains_key(n) || self.visible(n);
        let outputs = graph.output.iter().map(|o| o.name.as_str());
        let order = live_order(&graph.node, outputs.clone(), given).map_err(Stop::Fatal)?;
        let results = outputs.zip(node.output.iter().map(String::as_str)).collect();
        self.frames.push(Frame {
            nodes: &graph.node,
            order: order.into(),
            next: 0,
            names: HashMap::new(),
            stored,
            sees_outside: true,
            opsets,
            bound,
            path,
            results,
        });
        Ok(())
    }

    /// Whether a branch in the innermost frame can read a name.
    fn visible(&self, name: &str) -> bool {
        for frame in self.frames.iter().rev() {
            if frame.names.contains_key(name) || frame.stored.contains_key(name) {
                return true;
            }
            if !frame.sees_outside {
                return false;
            }
        }
        false
    }

    /// Closes the innermost body and binds what it gives.
    pub(super) fn close(&mut self) {
        let results = self.frames.last().map(|f| f.results.clone()).unwrap_or_default();
        let slots: Vec<(&'m str, Option<Slot>)> =
            results.into_iter().map(|(inner, outer)| (outer, self.read(inner))).collect();
        self.frames.pop();
        let Some(frame) = self.frames.last_mut() else { return };
        for (outer, slot) in slots.into_iter().filter(|(n, _)| !n.is_empty()) {
            frame.names.insert(outer, slot.unwrap_or(Slot::Absent));
        }
    }
}
