//! The operations: what one is, and the table of all of them.
//!
//! An operation is a plain struct in a file of its own; a family whose members differ by one formula shares a file.
//! The table below generates the [`Op`] enum, so passes match on patterns and lowering is exhaustive. Operations know
//! nothing of passes, of ONNX or of the runtime.

use std::borrow::Cow;
use std::fmt;

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::eval::EvalError;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// What the op reference says about one operation name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpInfo {
    /// The name in the text IR.
    pub name: &'static str,
    /// Input names; a trailing `?` marks an optional one, a trailing `*` any number.
    pub inputs: &'static [&'static str],
    /// Output names.
    pub outputs: &'static [&'static str],
    /// What it computes, in one or two sentences.
    pub doc: &'static str,
}

/// The contract of an operation.
pub trait OpDef: Clone + PartialEq + fmt::Debug + Sized {
    /// The names this struct serves, each with its signature. One for most; a family lists its members.
    const INFO: &'static [OpInfo];

    /// Builds the operation from attributes, which must all be read. `name` is one of [`Self::INFO`].
    ///
    /// # Errors
    /// If an attribute is missing, unknown or out of range.
    fn from_attrs(name: &str, attrs: &mut AttrReader) -> Result<Self, AttrError>;

    /// The entry of [`Self::INFO`] that this value is.
    fn info(&self) -> &'static OpInfo {
        &Self::INFO[0]
    }

    /// The attributes in canonical order, defaults left out.
    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        Vec::new()
    }

    /// The types of the outputs. The number of inputs has been checked.
    ///
    /// # Errors
    /// If the inputs do not fit the operation.
    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError>;

    /// The values of the outputs: the plain definition, written for reading.
    ///
    /// # Errors
    /// If the operation is not defined on these values.
    fn eval(&self, inputs: &Inputs<'_, Tensor>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError>;
}

/// The inputs of a node, types or tensors. Absent optional ones are `None`; the signature has been checked.
pub struct Inputs<'a, T>(Vec<Option<&'a T>>);

impl<'a, T> Inputs<'a, T> {
    /// Checks the inputs against a signature.
    ///
    /// # Errors
    /// If one that is required is absent or there are too many.
    pub fn new(info: &OpInfo, inputs: Vec<Option<&'a T>>) -> Result<Self, TypeError> {
        let variadic = info.inputs.last().is_some_and(|n| n.ends_with('*'));
        if inputs.len() > info.inputs.len() && !variadic {
            let expected = format!("at most {} inputs", info.inputs.len());
            return Err(TypeError::new(expected, format!("{}", inputs.len())));
        }
        for (i, name) in info.inputs.iter().enumerate() {
            let optional = name.ends_with('?') || name.ends_with('*');
            if !optional && inputs.get(i).is_none_or(Option::is_none) {
                return Err(TypeError::new(format!("input `{name}`"), "nothing"));
            }
        }
        if variadic && inputs.iter().any(Option::is_none) {
            return Err(TypeError::new("no gaps among the inputs", "an absent one"));
        }
        Ok(Self(inputs))
    }

    /// A required input.
    ///
    /// # Panics
    /// If the signature does not say that input `i` is required.
    pub fn at(&self, i: usize) -> &'a T {
        self.get(i).expect("the signature was checked")
    }

    /// An optional input.
    pub fn get(&self, i: usize) -> Option<&'a T> {
        self.0.get(i).copied().flatten()
    }

    /// The inputs that are there, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a T> + '_ {
        self.0.iter().filter_map(|v| *v)
    }
}

/// What evaluation knows besides the inputs: the symbols bound so far.
pub struct EvalCx<'a> {
    /// Looks up a symbol.
    pub bind: &'a dyn Fn(&str) -> Option<usize>,
}

impl EvalCx<'_> {
    /// The numbers that symbolic dimensions stand for in this run.
    ///
    /// # Errors
    /// If a symbol is unbound.
    pub fn dims(&self, shape: &Shape) -> Result<Vec<usize>, EvalError> {
        shape.0.iter().map(|d| d.eval(self.bind).ok_or_else(|| EvalError::Unbound(d.clone()))).collect()
    }
}

/// Why inputs do not fit an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct TypeError {
    /// What the operation asks for.
    pub expected: String,
    /// What it got.
    pub found: String,
}

impl TypeError {
    /// An error from its two halves.
    pub fn new(expected: impl Into<String>, found: impl fmt::Display) -> Self {
        Self { expected: expected.into(), found: found.to_string() }
    }
}

/// Checks that a type has one of the element types, naming the input.
pub(crate) fn expect_dtype(input: &str, ty: &TensorType, allowed: &[DType]) -> Result<(), TypeError> {
    if allowed.contains(&ty.dtype) {
        return Ok(());
    }
    let names: Vec<_> = allowed.iter().map(|t| t.name()).collect();
    Err(TypeError::new(format!("`{input}` of type {}", names.join(" or ")), ty))
}

/// Checks that a type has the rank, naming the input.
pub(crate) fn expect_rank(input: &str, ty: &TensorType, rank: usize) -> Result<(), TypeError> {
    if ty.shape.rank() == rank { Ok(()) } else { Err(TypeError::new(format!("`{input}` of rank {rank}"), ty)) }
}

/// Checks that a type has the shape, naming the input.
pub(crate) fn expect_shape(input: &str, ty: &TensorType, shape: &[Dim]) -> Result<(), TypeError> {
    if ty.shape.0 == shape {
        return Ok(());
    }
    Err(TypeError::new(format!("`{input}` of shape {}", Shape(shape.to_vec())), ty))
}

/// The position that a possibly negative axis means.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, TypeError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    resolved
        .and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or_else(|| TypeError::new(format!("an axis within rank {rank}"), axis))
}

pub mod activation;

pub use activation::Activation;
pub use binary::BinaryKind;
pub use reduce::ReduceKind;
pub use unary::UnaryKind;

macro_rules! ops {
    ($($module:ident::$name:ident,)+) => {
        $(pub mod $module;)+
        $(pub use $module::$name;)+

        /// Any operation.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)+
        }

        $(
            impl From<$name> for Op {
                fn from(op: $name) -> Self {
                    Op::$name(op)
                }
            }

            impl<'a> TryFrom<&'a Op> for &'a $name {
                type Error = ();
                fn try_from(op: &'a Op) -> Result<Self, ()> {
                    match op {
                        Op::$name(op) => Ok(op),
                        _ => Err(()),
                    }
                }
            }
        )+

        impl Op {
            /// Builds the operation of that name; the only door for parsers and importers.
            ///
            /// # Errors
            /// If no operation has the name or an attribute is wrong.
            pub fn from_attrs(name: &str, attrs: Attrs) -> Result<Op, AttrError> {
                $(
                    if let Some(info) = $name::INFO.iter().find(|i| i.name == name) {
                        let mut reader = AttrReader::new(info.name, attrs);
                        let op = $name::from_attrs(name, &mut reader)?;
                        reader.finish()?;
                        return Ok(op.into());
                    }
                )+
                let nearest = nearest_name(name, Op::all().map(|i| i.name));
                Err(AttrError::UnknownOp { name: name.to_owned(), nearest })
            }

            /// Every operation name with its signature, in table order.
            pub fn all() -> impl Iterator<Item = &'static OpInfo> {
                [$($name::INFO),+].into_iter().flatten()
            }

            /// The name, signature and description.
            pub fn info(&self) -> &'static OpInfo {
                match self { $(Op::$name(op) => op.info(),)+ }
            }

            /// The attributes in canonical order, defaults left out.
            pub fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
                match self { $(Op::$name(op) => op.attrs(),)+ }
            }

            fn infer_checked(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
                match self { $(Op::$name(op) => op.infer(inputs),)+ }
            }

            fn eval_checked(&self, inputs: &Inputs<'_, Tensor>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
                match self { $(Op::$name(op) => op.eval(inputs, cx),)+ }
            }
        }
    };
}

ops! {
    linear::Linear,
    matmul::MatMul,
    quantize_act::QuantizeAct,
    dequantize::Dequantize,
    ternarize::Ternarize,
    bit_linear::BitLinear,
    conv2d::Conv2d,
    bit_conv2d::BitConv2d,
    unary::Unary,
    binary::Binary,
    remainder::Remainder,
    compare::Compare,
    logic::Logic,
    clip::Clip,
    where_::Where,
    cast::Cast,
    bit_cast::BitCast,
    batch_norm::BatchNorm,
    layer_norm::LayerNorm,
    rms_norm::RmsNorm,
    softmax::Softmax,
    max_pool2d::MaxPool2d,
    avg_pool2d::AvgPool2d,
    reduce::Reduce,
    argmax::ArgMax,
    reshape::Reshape,
    flatten::Flatten,
    transpose::Transpose,
    expand::Expand,
    concat::Concat,
    slice::Slice,
    reverse::Reverse,
    gather::Gather,
    gather_elements::GatherElements,
    gather_nd::GatherNd,
    scatter::Scatter,
    shape_of::ShapeOf,
    thermometer::Thermometer,
    lut::Lut,
    logic_net::LogicNet,
    group_sum::GroupSum,
    iota::Iota,
    pad::Pad,
    cumulate::Cumulate,
    top_k::TopK,
    einsum::Einsum,
    custom::Custom,
}

impl Op {
    /// The name in the text IR.
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    /// The types of the outputs, after checking the signature.
    ///
    /// # Errors
    /// If the inputs do not fit the operation.
    pub fn infer(&self, inputs: Vec<Option<&TensorType>>) -> Result<Vec<TensorType>, TypeError> {
        self.infer_checked(&Inputs::new(self.info(), inputs)?)
    }

    /// The values of the outputs, after checking the signature.
    ///
    /// # Errors
    /// If the inputs do not fit or the operation is not defined on them.
    pub fn eval(&self, inputs: Vec<Option<&Tensor>>, cx: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        self.eval_checked(&Inputs::new(self.info(), inputs)?, cx)
    }
}

/// The candidate closest to `name` by edit distance, if one is close enough to be a slip.
pub fn nearest_name<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let limit = name.chars().count() / 3 + 1;
    candidates.map(|c| (edit_distance(name, c), c)).filter(|&(d, _)| d <= limit).min().map(|(_, c)| c.to_owned())
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != cb);
            let best = substitute.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_signatures_well_formed() {
        let mut names: Vec<_> = Op::all().map(|i| i.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for info in Op::all() {
            let required = info.inputs.iter().rposition(|n| !n.ends_with('?') && !n.ends_with('*'));
            let optional = info.inputs.iter().position(|n| n.ends_with('?'));
            assert!(required.is_none() || optional.is_none() || required < optional, "{}", info.name);
            assert!(!info.doc.is_empty() && !info.outputs.is_empty(), "{}", info.name);
        }
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let err = Op::from_attrs("bit_liner", Attrs::new()).unwrap_err();
        assert_eq!(err.to_string(), "no operation is called `bit_liner`; did you mean `bit_linear`?");
        assert_eq!(nearest_name("frobnicate", ["relu"].into_iter()), None);
    }
}
