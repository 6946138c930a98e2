//! `logic_net`: a whole network of lookup tables as one operation.

use std::borrow::Cow;
use std::sync::Arc;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::EvalError;
use crate::netlist::Netlist;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// The outputs of a netlist for each row of bits.
#[derive(Clone, PartialEq, Debug)]
pub struct LogicNet {
    /// The network.
    pub net: Arc<Netlist>,
}

impl OpDef for LogicNet {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "logic_net",
        inputs: &["bits"],
        outputs: &["y"],
        doc: "y[.., o] = output o of the netlist `net` for the bits of a row.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        match attrs.take("net") {
            Some(Attr::Netlist(net)) => Ok(Self { net }),
            Some(other) => Err(attrs.invalid("net", "a netlist", other.kind())),
            None => Err(AttrError::Missing { op: "logic_net", attr: "net" }),
        }
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("net", self.net.clone()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let bits = inputs.at(0);
        expect_dtype("bits", bits, &[DType::Bool])?;
        let n_inputs = self.net.n_inputs() as usize;
        if bits.shape.last().and_then(Dim::as_const) != Some(n_inputs) {
            return Err(TypeError::new(format!("`bits` with a last axis of {n_inputs}"), bits));
        }
        let mut shape = bits.shape.clone();
        shape.0.pop();
        shape.0.push(Dim::from(self.net.outputs().len()));
        Ok(vec![TensorType::new(DType::Bool, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let bits = inputs.at(0);
        let wrong = || EvalError::Undefined(format!("expected bits, found {}", bits.ty()));
        let values = bits.to_vec::<u8>().ok_or_else(wrong)?;
        let (n_in, n_out) = (self.net.n_inputs() as usize, self.net.outputs().len());
        let rows: usize = bits.dims().iter().rev().skip(1).product();
        let n_words = rows.div_ceil(64);
        let mut words = vec![0u64; n_in * n_words];
        for (row, input) in values.chunks(n_in.max(1)).enumerate() {
            for (i, &bit) in input.iter().enumerate() {
                words[i * n_words + row / 64] |= u64::from(bit) << (row % 64);
            }
        }
        let out = self.net.eval_words(&words, n_words);
        let bit = |row: usize, o: usize| (out[o * n_words + row / 64] >> (row % 64) & 1) as u8;
        let y: Vec<u8> = (0..rows).flat_map(|r| (0..n_out).map(move |o| (r, o))).map(|(r, o)| bit(r, o)).collect();
        let mut dims = bits.dims().to_vec();
        dims.pop();
        dims.push(n_out);
        Ok(vec![Tensor::with_dtype(DType::Bool, &dims, &y)])
    }
}
