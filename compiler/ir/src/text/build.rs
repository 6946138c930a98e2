//! Syntax to a graph: looks names up, runs the type rules, and reports every fault it finds.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::lex::ANONYMOUS;
use super::parse::{AttrSyntax, Data, GraphSyntax, ListItem, NamedAttr, NodeSyntax, Statement};
use super::{NoReferences, ParseError, Position, Resolver};
use crate::attr::{Attr, Attrs};
use crate::graph::{Graph, Origin, ValueId};
use crate::ops::{Op, nearest_name};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

pub(super) fn build(syntax: GraphSyntax, resolver: &dyn Resolver) -> Result<Graph, Vec<ParseError>> {
    let mut graph = Graph::new(syntax.name);
    graph.frozen = syntax.frozen;
    let mut builder = Builder { graph, names: BTreeMap::new(), faults: Vec::new(), resolver };
    for (at, name, ty) in syntax.inputs {
        let id = builder.graph.add_input(&name, ty);
        builder.define(at, name, Some(id));
    }
    for statement in syntax.statements {
        builder.statement(statement);
    }
    for output in syntax.outputs {
        if let Some(value) = builder.lookup(output.at, &output.value) {
            let name = output.name.unwrap_or_else(|| shown(&output.value).to_owned());
            if builder.graph.outputs().iter().any(|o| o.name == name) {
                builder.fault(output.at, format!("two outputs are called `{name}`"));
            }
            builder.graph.add_output(name, value);
        }
    }
    if builder.faults.is_empty() { Ok(builder.graph) } else { Err(builder.faults) }
}

pub(super) fn build_attrs(syntax: Vec<NamedAttr>) -> Result<Attrs, Vec<ParseError>> {
    let graph = Graph::default();
    let mut builder = Builder { graph, names: BTreeMap::new(), faults: Vec::new(), resolver: &NoReferences };
    builder.attrs(syntax).ok_or(builder.faults)
}

struct Builder<'a> {
    graph: Graph,
    /// `None` is a name whose definition had a fault; using it is no further fault.
    names: BTreeMap<String, Option<ValueId>>,
    faults: Vec<ParseError>,
    resolver: &'a dyn Resolver,
}

/// A name as it was written.
fn shown(name: &str) -> &str {
    name.trim_start_matches(ANONYMOUS)
}

impl Builder<'_> {
    fn fault(&mut self, at: Position, message: impl Into<String>) {
        self.faults.push(ParseError { at, message: message.into() });
    }

    fn define(&mut self, at: Position, name: String, id: Option<ValueId>) {
        if let Some(id) = id.filter(|_| name.starts_with(ANONYMOUS)) {
            self.graph.set_name(id, "");
        }
        match self.names.entry(name) {
            Entry::Vacant(slot) => {
                slot.insert(id);
            }
            Entry::Occupied(slot) => {
                let message = format!("`%{}` is defined twice", shown(slot.key()));
                self.fault(at, message);
            }
        }
    }

    fn lookup(&mut self, at: Position, name: &str) -> Option<ValueId> {
        if let Some(&id) = self.names.get(name) {
            return id;
        }
        let nearest = nearest_name(name, self.names.keys().map(|n| shown(n)));
        let hint = nearest.map(|n| format!("; did you mean `%{n}`?")).unwrap_or_default();
        self.fault(at, format!("`%{}` is not defined above{hint}", shown(name)));
        None
    }

    fn statement(&mut self, statement: Statement) {
        match statement {
            Statement::Meta(at, key, value) => {
                if self.graph.meta.insert(key.clone(), value).is_some() {
                    self.fault(at, format!("meta `{key}` is given twice"));
                }
            }
            Statement::Const { at, name, trainable, ty, data } => {
                let id = self.tensor(at, &ty, data).map(|tensor| {
                    if trainable { self.graph.add_param(&name, tensor) } else { self.graph.add_const(&name, tensor) }
                });
                self.define(at, name, id);
            }
            Statement::Node(node) => self.node(node),
        }
    }

    fn tensor(&mut self, at: Position, ty: &TensorType, data: Data) -> Option<Tensor> {
        let result = match data {
            Data::Ready(tensor) => Ok(tensor),
            Data::Elsewhere(reference) => self.resolver.resolve(&reference, ty),
        };
        match result {
            Ok(tensor) if tensor.ty() == *ty => Some(tensor),
            Ok(tensor) => {
                self.fault(at, format!("expected {ty}, found {}", tensor.ty()));
                None
            }
            Err(message) => {
                self.fault(at, message);
                None
            }
        }
    }

    fn node(&mut self, node: NodeSyntax) {
        let ids = self.try_node(&node.inputs, node.at, &node.op, node.attrs, &node.outputs, node.types);
        if let Some(ids) = &ids
            && let Some(producer) = ids.first().and_then(|&v| self.graph.producer_id(v))
        {
            *self.graph.origin_mut(producer) = Origin::from_iter(node.origin);
        }
        for (i, name) in node.outputs.into_iter().enumerate() {
            self.define(node.at, name, ids.as_ref().and_then(|ids| ids.get(i).copied()));
        }
    }

    fn try_node(
        &mut self,
        inputs: &[(Position, Option<String>)],
        at: Position,
        op: &str,
        attrs: Vec<NamedAttr>,
        outputs: &[String],
        types: Option<Vec<TensorType>>,
    ) -> Option<Vec<ValueId>> {
        // Both halves run before either can fail, so that all faults of a node are reported.
        let inputs: Vec<Option<Option<ValueId>>> = inputs
            .iter()
            .map(|(at, name)| match name {
                None => Some(None),
                Some(name) => self.lookup(*at, name).map(Some),
            })
            .collect();
        let attrs = self.attrs(attrs);
        let inputs = inputs.into_iter().collect::<Option<Vec<_>>>()?;
        let op = match Op::from_attrs(op, attrs?) {
            Ok(Op::Custom(custom)) => match &types {
                Some(types) => Op::Custom(custom.with_results(types.clone())),
                None => {
                    self.fault(at, "`custom` has no type rule; its result types must be written");
                    return None;
                }
            },
            Ok(op) => op,
            Err(error) => {
                self.fault(at, error.to_string());
                return None;
            }
        };
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let op_name = op.name();
        let mark = self.graph.mark();
        let ids = match self.graph.add_nodes(&names, op, &inputs) {
            Ok(ids) => ids,
            Err(error) => {
                self.fault(at, format!("`{op_name}`: {error}"));
                return None;
            }
        };
        let found: Vec<_> = ids.iter().map(|&v| self.graph.ty(v).clone()).collect();
        if ids.len() != outputs.len() {
            let message = format!("`{op_name}` has {} outputs here, {} are named", ids.len(), outputs.len());
            self.graph.rollback(mark);
            self.fault(at, message);
            return None;
        }
        if let Some(types) = types.filter(|t| *t != found) {
            let join = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.fault(at, format!("`{op_name}` gives {}, the text says {}", join(&found), join(&types)));
        }
        Some(ids)
    }

    fn attrs(&mut self, syntax: Vec<NamedAttr>) -> Option<Attrs> {
        let mut attrs = Attrs::new();
        let before = self.faults.len();
        for (at, name, value) in syntax {
            let value = match value {
                AttrSyntax::Bool(v) => Some(Attr::Bool(v)),
                AttrSyntax::Int(v) => Some(Attr::Int(v)),
                AttrSyntax::Float(v) => Some(Attr::Float(v)),
                AttrSyntax::Str(v) => Some(Attr::Str(v)),
                AttrSyntax::Tensor(ty, data) => self.tensor(at, &ty, data).map(Attr::Tensor),
                AttrSyntax::Netlist(net) => Some(Attr::Netlist(Arc::new(net))),
                AttrSyntax::PackedNetlist(index) => match self.resolver.netlist(index) {
                    Ok(net) => Some(Attr::Netlist(Arc::new(net))),
                    Err(message) => {
                        self.fault(at, message);
                        None
                    }
                },
                AttrSyntax::List(items) => {
                    let list = list_attr(items);
                    if list.is_none() {
                        self.fault(at, format!("the items of `{name}` are of different kinds"));
                    }
                    list
                }
            };
            let Some(value) = value else { continue };
            if attrs.insert(name.clone(), value).is_some() {
                self.fault(at, format!("attribute `{name}` is given twice"));
            }
        }
        (self.faults.len() == before).then_some(attrs)
    }
}

fn list_attr(items: Vec<ListItem>) -> Option<Attr> {
    if items.iter().all(|i| matches!(i, ListItem::Str(_))) && !items.is_empty() {
        let text = |i| if let ListItem::Str(s) = i { Some(s) } else { None };
        return items.into_iter().map(text).collect::<Option<Vec<_>>>().map(Attr::Strs);
    }
    let ints = |i: &ListItem| if let ListItem::Number(n) = i { n.parse::<i64>().ok() } else { None };
    if let Some(ints) = items.iter().map(ints).collect::<Option<Vec<_>>>() {
        return Some(Attr::Ints(ints));
    }
    if items.iter().any(|i| matches!(i, ListItem::Dim(_))) {
        let dim = |i| match i {
            ListItem::Dim(d) => Some(d),
            ListItem::Number(n) => n.parse::<usize>().ok().filter(|&n| i64::try_from(n).is_ok()).map(Dim::from),
            ListItem::Str(_) => None,
        };
        return items.into_iter().map(dim).collect::<Option<Vec<_>>>().map(|d| Attr::Shape(Shape(d)));
    }
    let float = |i: &ListItem| if let ListItem::Number(n) = i { n.parse::<f32>().ok() } else { None };
    items.iter().map(float).collect::<Option<Vec<_>>>().map(Attr::Floats)
}
