//! `lut`: a layer of lookup tables over bits.

use crate::attr::{AttrError, AttrReader};
use crate::eval::EvalError;
use crate::netlist::MAX_WIDE_FANIN;
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError, expect_dtype, expect_rank};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Each node reads n bits and looks up its answer, a bit or a real number.
#[derive(Clone, PartialEq, Debug)]
pub struct Lut;

impl OpDef for Lut {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "lut",
        inputs: &["bits", "connections", "tables"],
        outputs: &["y"],
        doc: "y[.., w] = tables[w, a] at the address a = sum over j of bits[.., connections[w, j]] * 2^j, for nodes of at \
              most 16 inputs. Tables hold bits or, for a last layer, real numbers.",
    }];

    fn from_attrs(_: &str, _: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let (bits, connections, tables) = (inputs.at(0), inputs.at(1), inputs.at(2));
        expect_dtype("bits", bits, &[DType::Bool])?;
        expect_dtype("connections", connections, &[DType::I32])?;
        expect_dtype("tables", tables, &[DType::Bool, DType::F32])?;
        expect_rank("connections", connections, 2)?;
        expect_rank("tables", tables, 2)?;
        let fan_in = connections.shape.0[1].as_const().filter(|&n| n <= MAX_WIDE_FANIN);
        let fan_in = fan_in.ok_or_else(|| TypeError::new(format!("at most {MAX_WIDE_FANIN} inputs per node"), connections))?;
        if tables.shape.0[0] != connections.shape.0[0] || tables.shape.0[1].as_const() != Some(1 << fan_in) {
            return Err(TypeError::new(format!("`tables` of {} entries per row of {connections}", 1 << fan_in), tables));
        }
        let mut shape = bits.shape.clone();
        if shape.0.pop().is_none() {
            return Err(TypeError::new("`bits` of rank 1 or more", bits));
        }
        shape.0.push(connections.shape.0[0].clone());
        Ok(vec![TensorType::new(tables.dtype, shape)])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (bits, connections, tables) = (inputs.at(0), inputs.at(1), inputs.at(2));
        let wrong = || EvalError::Undefined("expected bits and 32-bit connections".to_owned());
        let values = bits.to_vec::<u8>().ok_or_else(wrong)?;
        let wires = connections.to_vec::<i32>().ok_or_else(wrong)?;
        let n_bits = bits.dims().last().copied().unwrap_or(0);
        let (nodes, fan_in) = (connections.dims()[0], connections.dims()[1]);
        if let Some(wire) = wires.iter().find(|&&w| usize::try_from(w).is_ok_and(|w| w >= n_bits) || w < 0) {
            return Err(EvalError::Undefined(format!("a node reads bit {wire} of {n_bits}")));
        }
        let rows: usize = bits.dims().iter().rev().skip(1).product();
        let size = tables.dtype().size_bytes();
        let mut y = Vec::with_capacity(rows * nodes * size);
        for row in 0..rows {
            let input = &values[row * n_bits..][..n_bits];
            for node in 0..nodes {
                let address: usize =
                    wires[node * fan_in..][..fan_in].iter().enumerate().map(|(j, &w)| usize::from(input[w as usize]) << j).sum();
                y.extend_from_slice(&tables.bytes()[((node << fan_in) + address) * size..][..size]);
            }
        }
        let mut dims = bits.dims().to_vec();
        dims.pop();
        dims.push(nodes);
        let y = Tensor::from_blob(tables.dtype(), &dims, crate::Blob::new(y));
        Ok(vec![y.map_err(|e| EvalError::Undefined(e.to_string()))?])
    }
}
