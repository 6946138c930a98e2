//! The operators.

mod compiled;
mod linear;
mod quantize;

use crate::abi::CustomOp;
use crate::operator::describe;

/// The descriptions of all operators.
pub(crate) fn all() -> Vec<&'static CustomOp> {
    vec![
        describe::<quantize::QuantizeAct>(),
        describe::<quantize::QuantizeActReciprocal>(),
        describe::<quantize::QuantizeActQuotient>(),
        describe::<linear::BitLinear>(),
        describe::<linear::IntLinear>(),
        describe::<compiled::RoundAct>(),
        describe::<compiled::BitLinearGrouped>(),
        describe::<compiled::BitConv>(),
        describe::<compiled::IntConv>(),
        describe::<compiled::Encode>(),
        describe::<compiled::EncodeChosen>(),
        describe::<compiled::LutLayer>(),
        describe::<compiled::LutLayerReal>(),
        describe::<compiled::GroupSum>(),
    ]
}

/// Activations travel as bytes with this zero point; flipping the bit turns one into the other.
const ZERO_POINT: u8 = 0x80;
