//! One node as the rules of `op_map.rs` see it: its inputs, attributes, opset version, and the graph to add to.

use bitc_ir::{Attr, DType, Dim, Op, Shape, Tensor, TensorType, ValueId};

use super::attrs::NodeAttrs;
use super::build::Builder;
use super::tensor;
use crate::error::Cause;
use crate::external::Resolver;
use crate::proto::TensorProto;

/// A node that is being imported.
pub(crate) struct NodeCx<'a, 'm> {
    pub(crate) build: &'a mut Builder,
    pub(crate) files: &'a mut dyn Resolver,
    pub(crate) attrs: NodeAttrs<'m>,
    /// The inputs; `None` is an absent one. Trailing absent ones are left out.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// Whether each output is wanted by anyone.
    pub(crate) wanted: Vec<bool>,
    /// The version of the operator's domain.
    pub(crate) version: i64,
    /// The operator, for messages.
    pub(crate) op: &'m str,
}

/// What a rule gives: the outputs in order. Fewer than the node has is an error where one of them is wanted.
pub(crate) type Outputs = Result<Vec<ValueId>, Cause>;

impl<'m> NodeCx<'_, 'm> {
    /// Checks the number of inputs; those below `min` must be there.
    pub(crate) fn arity(&self, min: usize, max: usize) -> Result<(), Cause> {
        let found = self.inputs.len();
        if found > max || found < min || self.inputs.iter().take(min).any(Option::is_none) {
            let expected = if min == max { format!("{min}") } else { format!("{min} to {max}") };
            return Err(Cause::Arity(format!("{} takes {expected} inputs, found {found}", self.op)));
        }
        Ok(())
    }

    /// Input `i`, which must be there.
    pub(crate) fn input(&self, i: usize) -> Result<ValueId, Cause> {
        self.opt(i).ok_or_else(|| Cause::Arity(format!("{} needs input {i}", self.op)))
    }

    /// Input `i`, if it is there.
    pub(crate) fn opt(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// All inputs, none of which may be absent.
    pub(crate) fn all(&self) -> Result<Vec<ValueId>, Cause> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// Whether anyone wants output `i`.
    pub(crate) fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// The type of a value.
    pub(crate) fn ty(&self, value: ValueId) -> &TensorType {
        self.build.ty(value)
    }

    /// The element type of a value.
    pub(crate) fn dtype(&self, value: ValueId) -> DType {
        self.ty(value).dtype
    }

    /// The dimensions of a value.
    pub(crate) fn dims(&self, value: ValueId) -> Vec<Dim> {
        self.ty(value).shape.0.clone()
    }

    /// The number of dimensions of a value.
    pub(crate) fn rank(&self, value: ValueId) -> usize {
        self.ty(value).shape.rank()
    }

    /// The dimensions of a value, all of which must be numbers.
    pub(crate) fn fixed(&self, value: ValueId, what: &str) -> Result<Vec<usize>, Cause> {
        let ty = self.ty(value);
        ty.shape.to_fixed().ok_or_else(|| unsupported(format!("`{what}` with the symbolic dimensions {ty}")))
    }

    /// The position that a possibly negative axis means.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, Cause> {
        resolve(axis, rank)
    }

    /// Axes as positions, ascending; none may occur twice.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Cause> {
        let mut found = axes.iter().map(|&a| resolve(a, rank)).collect::<Result<Vec<_>, _>>()?;
        found.sort_unstable();
        match found.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => {
                Err(Cause::Attribute { name: "axes".into(), detail: format!("axis {} occurs twice", twice[0]) })
            }
            None => Ok(found),
        }
    }

    /// A list of integers that is an attribute up to a version and input `i` from it on.
    pub(crate) fn ints_attr_or_input(
        &mut self,
        name: &'static str,
        input_since: i64,
        i: usize,
    ) -> Result<Option<Vec<i64>>, Cause> {
        if self.version < input_since {
            return Ok(self.attrs.ints(name)?.map(<[i64]>::to_vec));
        }
        self.opt(i).map(|v| self.build.known_ints(v, name)).transpose()
    }

    /// Adds an operation with one output.
    pub(crate) fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Cause> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.add_opt(op, &inputs)
    }

    /// Adds an operation with one output and optional inputs.
    pub(crate) fn add_opt(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>]) -> Result<ValueId, Cause> {
        single(self.build.add(op.into(), inputs)?)
    }

    /// Adds an operation by name.
    pub(crate) fn named(&mut self, name: &str, attrs: Vec<(&str, Attr)>, inputs: &[ValueId]) -> Result<ValueId, Cause> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        single(self.build.named(name, attrs, &inputs)?)
    }

    /// Adds an operation by name and optional inputs.
    pub(crate) fn named_opt(
        &mut self,
        name: &str,
        attrs: Vec<(&str, Attr)>,
        inputs: &[Option<ValueId>],
    ) -> Result<ValueId, Cause> {
        single(self.build.named(name, attrs, inputs)?)
    }

    /// An elementwise operation without attributes.
    pub(crate) fn simple(&mut self, name: &str, inputs: &[ValueId]) -> Result<ValueId, Cause> {
        self.named(name, Vec::new(), inputs)
    }

    /// A constant.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.build.constant(tensor)
    }

    /// A scalar constant of an element type.
    pub(crate) fn scalar(&mut self, dtype: DType, value: f64) -> Result<ValueId, Cause> {
        let wide = self.build.constant(Tensor::scalar(value));
        self.cast(wide, dtype)
    }

    /// The same elements under other dimensions.
    pub(crate) fn reshape(&mut self, x: ValueId, dims: Vec<Dim>) -> Result<ValueId, Cause> {
        if self.ty(x).shape.0 == dims {
            return Ok(x);
        }
        self.add(bitc_ir::ops::Reshape { shape: Shape(dims) }, &[x])
    }

    /// The axes in another order.
    pub(crate) fn transpose(&mut self, x: ValueId, perm: Vec<usize>) -> Result<ValueId, Cause> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(x);
        }
        self.add(bitc_ir::ops::Transpose { perm }, &[x])
    }

    /// The same numbers in another element type.
    pub(crate) fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, Cause> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.add(bitc_ir::ops::Cast { to }, &[x])
    }

    /// Decodes a tensor of an attribute.
    pub(crate) fn decode(&mut self, proto: &TensorProto) -> Result<Tensor, Cause> {
        tensor::dense(proto, self.files, &mut self.build.budget)
    }
}

/// The position that a possibly negative axis means.
pub(crate) fn resolve(axis: i64, rank: usize) -> Result<usize, Cause> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let found = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    found.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank).ok_or_else(|| Cause::Attribute {
        name: "axis".into(),
        detail: format!("expected an axis within rank {rank}, found {axis}"),
    })
}

/// A use of a known operator that is not supported.
pub(crate) fn unsupported(detail: impl Into<String>) -> Cause {
    Cause::OpForm { detail: detail.into(), hint: None }
}

fn single(outputs: Vec<ValueId>) -> Result<ValueId, Cause> {
    match outputs[..] {
        [only] => Ok(only),
        _ => Err(Cause::Type(format!("an operation with one output expected, found {}", outputs.len()))),
    }
}
