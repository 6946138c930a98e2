//! Operators that bitc does not know, taken along with everything that the source says about them.

use bitc_ir::ops::Custom;
use bitc_ir::{Attr, Attrs, Op, TensorType};

use super::node::unsupported;
use super::opset::canonical_domain;
use super::tensor;
use crate::error::{Cause, quoted};
use crate::external::Resolver;
use crate::limits::Budget;
use crate::proto::{AttributeProto, NodeProto, attribute_type as kind};

/// The operation that stands for a node. `declared` tells the types of its results.
pub(super) fn custom(
    node: &NodeProto,
    declared: impl Fn(&str) -> Option<TensorType>,
    files: &mut dyn Resolver,
    budget: &mut Budget,
) -> Result<Op, Cause> {
    let mut results = Vec::new();
    for name in &node.output {
        let ty = declared(name).ok_or_else(|| Cause::OpForm {
            detail: format!("{} with a result {} of unknown type", node.op_type, quoted(name)),
            hint: Some("infer shapes first, for example with onnx.shape_inference".into()),
        })?;
        results.push(ty);
    }
    let mut attrs = Attrs::new();
    for attribute in &node.attribute {
        attrs.insert(attribute.name.clone(), attr(node, attribute, files, budget)?);
    }
    let domain = canonical_domain(&node.domain).to_owned();
    Ok(Custom { domain, op: node.op_type.clone(), attrs, results }.into())
}

fn attr(node: &NodeProto, a: &AttributeProto, files: &mut dyn Resolver, budget: &mut Budget) -> Result<Attr, Cause> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let found = match a.r#type {
        kind::FLOAT => Some(Attr::Float(a.f.unwrap_or(0.0))),
        kind::INT => Some(Attr::Int(a.i.unwrap_or(0))),
        kind::STRING => text(a.s.as_deref().unwrap_or_default()).map(Attr::Str),
        kind::FLOATS => Some(Attr::Floats(a.floats.clone())),
        kind::INTS => Some(Attr::Ints(a.ints.clone())),
        kind::STRINGS => a.strings.iter().map(|s| text(s)).collect::<Option<_>>().map(Attr::Strs),
        kind::TENSOR => a.t.as_deref().map(|t| tensor::dense(t, files, budget)).transpose()?.map(Attr::Tensor),
        _ => None,
    };
    found.ok_or_else(|| unsupported(format!("attribute {} of {}, which is unknown,", quoted(&a.name), node.op_type)))
}
