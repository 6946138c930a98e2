//! The activations that an operation may apply to its result before storing it.

use crate::attr::{AttrError, AttrReader};
use crate::choice;
use crate::ops::unary::UnaryKind;

choice! {
    /// What happens to a result before it is stored. The formulas are those of the operations of the same name.
    pub enum Activation {
        /// Nothing.
        None = "none",
        /// See `relu`.
        Relu = "relu",
        /// See `relu2`.
        Relu2 = "relu2",
        /// See `gelu`.
        Gelu = "gelu",
        /// See `gelu_tanh`.
        GeluTanh = "gelu_tanh",
        /// See `silu`.
        Silu = "silu",
        /// See `sigmoid`.
        Sigmoid = "sigmoid",
        /// See `tanh`.
        Tanh = "tanh",
    }
}

impl Activation {
    /// Reads the attribute `act`, which defaults to none.
    ///
    /// # Errors
    /// If it is not an activation.
    pub fn read(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(attrs.choice("act")?.unwrap_or(Activation::None))
    }

    /// The activation that does what an elementwise operation does.
    pub fn from_unary(kind: UnaryKind) -> Option<Self> {
        Some(match kind {
            UnaryKind::Relu => Activation::Relu,
            UnaryKind::Relu2 => Activation::Relu2,
            UnaryKind::Gelu => Activation::Gelu,
            UnaryKind::GeluTanh => Activation::GeluTanh,
            UnaryKind::Silu => Activation::Silu,
            UnaryKind::Sigmoid => Activation::Sigmoid,
            UnaryKind::Tanh => Activation::Tanh,
            _ => return None,
        })
    }

    /// The operation that computes it; nothing for [`Activation::None`].
    pub fn unary(self) -> Option<UnaryKind> {
        Some(match self {
            Activation::None => return None,
            Activation::Relu => UnaryKind::Relu,
            Activation::Relu2 => UnaryKind::Relu2,
            Activation::Gelu => UnaryKind::Gelu,
            Activation::GeluTanh => UnaryKind::GeluTanh,
            Activation::Silu => UnaryKind::Silu,
            Activation::Sigmoid => UnaryKind::Sigmoid,
            Activation::Tanh => UnaryKind::Tanh,
        })
    }

    /// The activation of one value.
    pub fn apply(self, v: f32) -> f32 {
        let Some(kind) = self.unary() else { return v };
        kind.float(f64::from(v)) as f32
    }
}
