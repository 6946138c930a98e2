//! Section `meta`: what the artifact remembers about its model. A reader may skip it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::cursor::{Cursor, put_count, put_text, put_u64};
use crate::{ErrorKind, FormatError};

/// The largest number of layers and of names of one origin.
const MAX_ENTRIES: u64 = 1 << 20;

/// What an artifact says about the model it was made from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// The program that wrote the artifact, with its version.
    pub producer: String,
    /// The machines that the layouts were chosen for.
    pub target: String,
    /// For each instruction the names of the source nodes that it stands for; empty if they are not recorded.
    pub origins: Vec<Vec<String>>,
    /// The layers with weights, in the order of the model.
    pub layers: Vec<Layer>,
}

/// One layer with weights.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layer {
    /// The name of the source node.
    pub name: String,
    /// The operation, as the IR calls it.
    pub op: String,
    /// How the weights were made few-bit: `trained`, the method of a rewrite, or `float`.
    pub method: String,
    /// The layout that was chosen for the weights.
    pub layout: String,
    /// The number of weights.
    pub weights: u64,
    /// How many of them are zero.
    pub zeros: u64,
    /// Bytes of the weights in the source model.
    pub source_bytes: u64,
    /// Bytes of the weights and their scales in this artifact.
    pub packed_bytes: u64,
    /// Multiply-adds for one sample; 0 if they are not known.
    pub macs: u64,
}

impl Meta {
    pub(crate) fn read(cursor: &mut Cursor<'_>, n_insts: usize) -> Result<Self, FormatError> {
        let (producer, target) = (cursor.text()?, cursor.text()?);
        let at = cursor.clone();
        let n = cursor.count("origins", MAX_ENTRIES, 4)?;
        if n != 0 && n != n_insts {
            let count = crate::cursor::to_u64(n_insts);
            return Err(at.error(ErrorKind::Index { what: "origin", value: crate::cursor::to_u64(n), count }));
        }
        let mut origins = Vec::with_capacity(n);
        for _ in 0..n {
            let n_names = cursor.count("names of an origin", MAX_ENTRIES, 4)?;
            let mut names = Vec::with_capacity(n_names);
            for _ in 0..n_names {
                names.push(cursor.text()?);
            }
            origins.push(names);
        }
        let n = cursor.count("layers", MAX_ENTRIES, 56)?;
        let mut layers = Vec::with_capacity(n);
        for _ in 0..n {
            layers.push(Layer {
                name: cursor.text()?,
                op: cursor.text()?,
                method: cursor.text()?,
                layout: cursor.text()?,
                weights: cursor.u64()?,
                zeros: cursor.u64()?,
                source_bytes: cursor.u64()?,
                packed_bytes: cursor.u64()?,
                macs: cursor.u64()?,
            });
        }
        Ok(Self { producer, target, origins, layers })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_text(out, &self.producer);
        put_text(out, &self.target);
        put_count(out, self.origins.len());
        for names in &self.origins {
            put_count(out, names.len());
            for name in names {
                put_text(out, name);
            }
        }
        put_count(out, self.layers.len());
        for layer in &self.layers {
            for text in [&layer.name, &layer.op, &layer.method, &layer.layout] {
                put_text(out, text);
            }
            for value in [layer.weights, layer.zeros, layer.source_bytes, layer.packed_bytes, layer.macs] {
                put_u64(out, value);
            }
        }
    }
}
