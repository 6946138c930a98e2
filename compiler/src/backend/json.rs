//! The graph as JSON, for scripts: ports, nodes with attributes and origins, and constants by name and type.
//!
//! Values are not written; `bir` holds everything and can be read back.

use std::collections::BTreeMap;

use bitc_ir::{Attr, Graph, ValueDef, ValueId};
use serde_json::{Value, json};

use super::{Content, Exporter, Options};
use crate::error::{Diagnostic, Failure};

/// Writes the graph as one JSON object.
pub struct Json;

impl Exporter for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn export(&self, graph: &Graph, _: &Options) -> Result<Content, Failure> {
        let name = |v: ValueId| match graph.value(v).name.as_str() {
            "" => format!("#{}", v.index()),
            name => name.to_owned(),
        };
        let port = |v: ValueId| json!({"name": name(v), "type": graph.ty(v).to_string()});
        let constants = graph.values().filter(|(_, v)| matches!(v.def, ValueDef::Const(_) | ValueDef::Param(_)));
        let nodes = graph.nodes().map(|(_, node)| {
            let attrs: BTreeMap<String, Value> =
                node.op.attrs().into_iter().map(|(key, attr)| (key.into_owned(), attribute(&attr))).collect();
            json!({
                "op": node.op.name(),
                "inputs": node.inputs.iter().map(|v| v.map(name)).collect::<Vec<_>>(),
                "outputs": node.outputs.iter().map(|&v| port(v)).collect::<Vec<_>>(),
                "attributes": attrs,
                "origin": node.origin.names(),
            })
        });
        let value = json!({
            "schema": 1,
            "name": graph.name,
            "frozen": graph.frozen,
            "inputs": graph.inputs().iter().map(|&v| port(v)).collect::<Vec<_>>(),
            "outputs": graph.outputs().iter().map(|o| json!({"name": o.name, "value": name(o.value)})).collect::<Vec<_>>(),
            "constants": constants.map(|(id, _)| port(id)).collect::<Vec<_>>(),
            "nodes": nodes.collect::<Vec<_>>(),
        });
        let bug = |e: serde_json::Error| Diagnostic::bug(format!("no JSON for this graph: {e}"));
        let mut text = serde_json::to_string_pretty(&value).map_err(bug)?;
        text.push('\n');
        Ok(text.into_bytes().into())
    }
}

fn attribute(attr: &Attr) -> Value {
    match attr {
        Attr::Bool(v) => json!(v),
        Attr::Int(v) => json!(v),
        Attr::Float(v) if v.is_finite() => json!(v),
        Attr::Float(v) => json!(v.to_string()),
        Attr::Str(v) => json!(v),
        Attr::Ints(v) => json!(v),
        Attr::Floats(v) => v.iter().map(|&v| attribute(&Attr::Float(v))).collect(),
        Attr::Strs(v) => json!(v),
        Attr::Shape(shape) => shape.0.iter().map(|d| json!(d.to_string())).collect(),
        Attr::Tensor(tensor) => json!(tensor.ty().to_string()),
        Attr::Netlist(_) => json!("netlist"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_nodes_and_constants_are_there() {
        let text = "graph @g(%x: f32[N, 2]) { const %w: f32[1, 2] = dense [1, 2]
            %y = linear(%x, %w, _) {act = \"relu\"}  return %y }";
        let graph = bitc_ir::text::parse(text, &bitc_ir::text::NoReferences).unwrap();
        let bytes = Json.export(&graph, &Options::default()).unwrap().into_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["inputs"][0]["type"], "f32[N, 2]");
        assert_eq!(value["constants"][0]["name"], "w");
        let node = &value["nodes"][0];
        assert_eq!((&node["op"], &node["attributes"]["act"]), (&"linear".into(), &"relu".into()));
        assert_eq!((&node["inputs"][0], &node["outputs"][0]["name"]), (&"x".into(), &"y".into()));
    }
}
